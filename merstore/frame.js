"use strict";

// A table of class "sorts" is sorted by its heads: numbers largest first, a second time the other way.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const value = row => {
      const told = row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      return told === "" || isNaN(told) ? told : Number(told);
    };
    button.onclick = () => {
      const now = head.getAttribute("aria-sort");
      const sign = now === "descending" || (now === null && !head.classList.contains("n")) ? 1 : -1;
      const order = (a, b) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (typeof a === "number" && typeof b === "number"
          ? a - b : String(a).localeCompare(String(b)));
      };
      heads.forEach(each => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
    };
  });
}

// One of class "filters" shows the rows that have all of the words.
for (const table of document.querySelectorAll("table.filters")) {
  const rows = [...table.tBodies[0].rows].map(row =>
    [row, [...row.cells].map(cell => cell.textContent).join(" ").toLowerCase()]);
  const bar = document.createElement("div"), label = document.createElement("label");
  const field = document.createElement("input"), count = document.createElement("output");
  bar.className = "filter";
  field.type = "search";
  field.oninput = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.value = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  };
  field.oninput();
  label.append("Search for words", field);
  bar.append(label, count);
  (table.closest(".wide") ?? table).before(bar);
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));

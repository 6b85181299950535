"""Every page that a command writes: that it is a good one, on paper, on a dark screen and on a narrow one."""

import html
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("av")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from browser import browser, shown
from html_page import Page
from written_pages import COMMANDS, write_pages

from merstore import MerstoreError, pages
from merstore.load import ceilings

in_browser = pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
every_page = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages, by what writes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "POOL_BYTES", 1 << 20)  # which takes long to touch
        found = write_pages(tmp_path_factory.mktemp("pages"))
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


# What the browser tells of each page, which stands in a frame as wide as a telephone: it runs under
# the page's own policy.
LOOK = """
const parsed = colour => {
  const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
  return colour.startsWith("color(") ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
};
const luminance = colour => {
  const [r, g, b] = colour.map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const ground = (element, style) => {
  const layers = [];
  for (let at = element; at && layers.at(-1)?.[3] !== 1; at = at.parentElement)
    layers.push(parsed(style(at).backgroundColor));
  return layers.reduceRight(
    (under, [r, g, b, a]) => [r, g, b].map((v, place) => a * v + (1 - a) * under[place]), [0, 0, 0]);
};
const texts = table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell =>
  cell.dataset.v ?? cell.textContent.trim()));

function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow, told = {};
  const style = element => view.getComputedStyle(element);
  const all = (what, within = page) => [...within.querySelectorAll(what)];

  all("details").forEach(each => each.open = false);
  view.dispatchEvent(new Event("beforeprint"));
  told.folded = all("details:not([open])").length;

  told.ground = style(page.body).backgroundColor;
  told.words = all("h1, h2, h3, a, p, td, th, dt, dd, caption, code, summary, label, svg text")
    .filter(each => each.textContent.trim())
    .map(each => contrast(parsed(each.tagName === "text" ? style(each).fill : style(each).color).slice(0, 3),
                          ground(each, style)));
  told.over = page.documentElement.scrollWidth - page.documentElement.clientWidth;

  told.tables = all("table.sorts").map(table => {
    const heads = [...table.tHead.rows[0].cells];
    const before = texts(table);
    return {before, columns: heads.map((head, column) => {
      const button = head.querySelector("button");
      button.focus();
      const reached = page.activeElement === button;
      const click = () => {
        button.click();
        const marked = heads.filter(each => each.hasAttribute("aria-sort"));
        return {
          marked: marked.length === 1 && marked[0] === head, way: head.getAttribute("aria-sort"),
          after: texts(table),
        };
      };
      return {reached, number: head.classList.contains("n"), told: head.textContent.trim(),
              clicks: [click(), click()]};
    })};
  });

  told.searches = all("table.filters").map(table => {
    const field = all(".filter input")[0], first = table.tBodies[0].rows[0];
    const rows = () => [...table.tBodies[0].rows].filter(row => row.getClientRects().length).length;
    const search = words => {
      field.value = words;
      field.dispatchEvent(new Event("input"));
      return [rows(), all(".filter output")[0].value];
    };
    const word = first.cells[2].textContent.trim();
    return {labelled: field.labels.length, word, total: table.tBodies[0].rows.length,
            found: search(` ${word.toUpperCase()} `), none: search("no answer has this"), all: search("")};
  });

  const script = page.createElement("script");
  script.textContent = "window.foreign = true";
  page.body.append(script);
  told.foreign = view.foreign === true;
  return told;
}
addEventListener("load", () => {
  const told = {};
  document.querySelectorAll("iframe").forEach(each => { told[each.name] = look(each); });
  document.title = JSON.stringify(told);
});
"""


def looked_at(written: dict[str, str], folder: Path, *, dark: bool) -> dict[str, Any]:
    frames = "".join(
        f'<iframe name="{name}" width="360" height="640" srcdoc="{html.escape(text)}"></iframe>'
        for name, text in written.items()
    )
    page = f"<!DOCTYPE html><html><head></head><body>{frames}<script>{LOOK}</script></body></html>"
    found: dict[str, Any] = json.loads(shown(folder, page, dark=dark))
    return found


@pytest.fixture(scope="module")
def light(written: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return looked_at(written, tmp_path_factory.mktemp("light"), dark=False)


@pytest.fixture(scope="module")
def dark(written: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return looked_at(written, tmp_path_factory.mktemp("dark"), dark=True)


@every_page
def test_it_needs_nothing_else_and_tells_its_pictures_in_words(
    name: str, written: dict[str, str]
) -> None:
    page = Page(written[name])
    page.check()
    assert page.rows
    assert name == "prewarm" or "svg" in page.tags


@in_browser
@every_page
def test_only_its_own_script_runs(name: str, light: dict[str, Any]) -> None:
    assert light[name]["tables"]  # sorted by its own
    assert not light[name]["foreign"]


@in_browser
@every_page
def test_each_column_sorts_from_the_keyboard(name: str, light: dict[str, Any]) -> None:
    for table in light[name]["tables"]:
        for place, column in enumerate(table["columns"]):
            assert column["reached"]
            assert column["told"]  # or nobody knows what is sorted by
            first, second = column["clicks"]
            ways = ["descending", "ascending"] if column["number"] else ["ascending", "descending"]
            assert [first["way"], second["way"]] == ways
            for click in (first, second):
                assert click["marked"]
                assert sorted(click["after"]) == sorted(table["before"])
                values = [row[place] for row in click["after"]]
                told = [value for value in values if value]
                assert values[len(told) :] == [""] * (len(values) - len(told))
                if column["number"]:
                    numbers = [float(value) for value in told]
                    assert numbers == sorted(numbers, reverse=click["way"] == "descending")


@in_browser
@pytest.mark.parametrize("name", ["infer"])
def test_answers_are_searched(name: str, light: dict[str, Any]) -> None:
    (search,) = light[name]["searches"]
    total = search["total"]
    assert search["labelled"] == 1
    assert search["found"] == [2, f"2 of {total} shown"]  # one sample, of two checkpoints
    assert search["none"] == [0, f"0 of {total} shown"]
    assert search["all"] == [total, f"{total} of {total} shown"]


@in_browser
@every_page
def test_it_is_printed_unfolded(name: str, light: dict[str, Any]) -> None:
    assert light[name]["folded"] == 0


@in_browser
@every_page
def test_it_does_not_run_over_a_narrow_screen(name: str, light: dict[str, Any]) -> None:
    assert light[name]["over"] <= 0


@in_browser
@every_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_either_ground(
    name: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    """Also what stands in pictures; 4.5 is what WCAG asks of text."""
    found = request.getfixturevalue(scheme)[name]
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 25, 30)"}
    assert found["ground"] == paper[scheme]
    assert min(found["words"]) >= 4.5


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``#rrggbb``."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", [1, 2], ids=["light", "dark"])
def test_what_is_drawn_is_seen_on_either_ground(ground: int) -> None:
    """3 is what WCAG asks of shapes."""
    colours = {entry[0]: luminance(entry[ground]) for entry in pages.COLOURS}
    for name in set(colours) - {"paper", "panel", "line", "rule"}:
        low, high = sorted((colours[name], colours["paper"]))
        assert (high + 0.05) / (low + 0.05) >= 3, name


def test_pictures_are_drawn_in_the_colours_of_the_style() -> None:
    def draw(axes: Any) -> None:
        axes.plot([1, 2], [3, 4], color=pages.BLUE, label="a $x_$ <b>")
        axes.legend()

    drawn = pages.picture('told "so"', draw)
    assert drawn.startswith('<svg role="img" aria-label="told &#34;so&#34;" ')
    assert "stroke: var(--blue)" in drawn
    assert "fill: var(--ink)" in drawn
    assert "a $x_$ &lt;b&gt;" in drawn
    assert "xmlns" not in drawn
    both = Page(drawn + pages.picture("again", draw))
    assert len(both.ids) == len(set(both.ids)) > 0


def test_names_are_made_fit_for_a_picture() -> None:
    assert pages.plain("a\nb\x00中\udcff") == "a\ufffdb\ufffd中\ufffd"


def test_amounts_and_times_are_for_people() -> None:
    assert [pages.amount(n) for n in (0, 512, 2048, 150 << 20, 3 << 40)] == [
        "0 B", "512 B", "2 KiB", "150 MiB", "3 TiB"
    ]  # fmt: skip
    assert [pages.span(n) for n in (0.04, 59, 61, 3725)] == [
        "0.0 s", "59.0 s", "1 min 01 s", "1 h 02 min"
    ]  # fmt: skip


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    pages.write(tmp_path / "page.html", "a\udcff")
    assert (tmp_path / "page.html").read_text() == r"a\udcff"
    with pytest.raises(MerstoreError, match=r"nowhere/page\.html cannot be written"):
        pages.write(tmp_path / "nowhere" / "page.html", "b")

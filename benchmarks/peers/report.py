"""The table and the plot, from the kept data alone."""

from pathlib import Path
from typing import Any

from .registry import CEILINGS, OURS

Record = dict[str, Any]


def markdown(data: dict[str, Any]) -> str:
    """The table, and how each was used."""
    lines = [
        summary(data),
        "How each is used:",
        "",
        "| | batches | ragged | loader |",
        "|---|---|---|---|",
    ]
    for record in _sorted(data):
        how = record.get("how", {})
        if how:
            uses = [how.get(kind, "–") for kind in ("batch", "ragged", "loader")]
            lines.append(f"| {record['title']} | {' | '.join(uses)} |")
    return "\n".join(lines) + "\n"


def summary(data: dict[str, Any]) -> str:
    """The table."""
    cases = data["cases"]
    records = _sorted(data)
    lines = [
        _heading(data),
        "",
        f"| | version | {' | '.join(case['label'] for case in cases)} |",
        f"|---|---|{'---|' * len(cases)}",
    ]
    for record in records:
        if "failed" in record:
            cells = [_escaped(record["failed"]), *[""] * (len(cases) - 1)]
        else:
            cells = [_cell(record, case) for case in cases]
        title = record["title"]
        if record["key"] == OURS:
            title = f"**{title}**"
        elif record["key"] in CEILINGS:
            title = f"*{title}*"
        lines.append(f"| {title} | {record['version'] or ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(data: dict[str, Any], path: Path) -> None:
    """A panel for each case: GB/s on a logarithmic scale, with quartiles."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    settings = {"svg.hashsalt": "merstore", "svg.fonttype": "none", "font.size": 8}
    records = _sorted(data)[::-1]
    with mpl.rc_context(settings):
        panels = len(data["cases"])
        figure, axes = pyplot.subplots(
            1, panels, figsize=(3.1 * panels + 1, 0.24 * len(records) + 1.2), sharey=True
        )
        for axis, case in zip(axes, data["cases"], strict=True):
            cells = [record["cases"].get(case["key"], {}) for record in records]
            measured = [cell["gbps"] for cell in cells if "gbps" in cell]
            low = min(q[0] for q in measured) / 2
            for row, (record, cell) in enumerate(zip(records, cells, strict=True)):
                if "gbps" not in cell:
                    reason = record.get("failed") or cell.get("failed") or "–"
                    text = reason.partition(":")[0]
                    axis.text(low * 1.1, row, text, va="center", color="0.5")
                    continue
                first, middle, third = cell["gbps"]
                axis.barh(row, middle, color=_colour(record))
                axis.plot([first, third], [row, row], color="black", linewidth=1)
                ratio = f" {middle:.2g}"
                if record["key"] != OURS and "ratio" in cell:
                    ratio += f"  ({_times(cell['ratio'][1])})"
                axis.text(max(third, middle), row, ratio, va="center", fontsize=7)
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.set_xlim(low, max(q[2] for q in measured) * 8)
            axis.set_title(case["label"].replace(", ", "\n", 1), fontsize=8)
            axis.set_xlabel("GB/s")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_yticks(range(len(records)), [r["title"].replace("`", "") for r in records])
        figure.suptitle("In brackets: how many times as fast merstore is", fontsize=8)
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def _sorted(data: dict[str, Any]) -> list[Record]:
    """merstore, the ceilings, then the others by their batches or, without, their loader; last who has no figure."""

    def speed(record: Record) -> tuple[bool, bool, float]:
        own, ceiling = record["key"] == OURS, record["key"] in CEILINGS
        cells = [record["cases"].get(case["key"], {}) for case in data["cases"]]
        rates = [cell["gbps"][1] for cell in cells if "gbps" in cell]
        return own, ceiling, rates[0] if rates else -1.0

    return sorted(data["peers"], key=speed, reverse=True)


def _heading(data: dict[str, Any]) -> str:
    m = data["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in m["packages"].items() if number)
    quick = " (a quick run)" if data["quick"] else ""
    return (
        f"Measured with `make bench-peers` on {m['date']}{quick}: {m['cpu']}, {m['cores']} cores"
        f"{' of a virtual machine' if m['virtual'] else ''}, {m['memory_gib']} GiB of memory, {m['filesystem']}, "
        f"{m['kernel']}, Python {m['python']}, {packages}. {data['nbytes'] >> 20} MiB of float32 of each shape, in the "
        "page cache; all read the same entries in turns, each in a process of its own, and every result was checked against "
        "what was written. GB/s of payload, the median of the rounds, and how many times as fast merstore is in the same "
        "round, with quartiles. Loaders with 0 and with 2 workers, whichever is faster. In italics what memory alone allows."
    )


def _cell(record: Record, case: dict[str, Any]) -> str:
    if case["how"] not in record["how"]:
        return "–"
    cell = record["cases"].get(case["key"], {})
    if "gbps" not in cell:
        return _escaped(cell.get("failed", "no figure"))
    workers = f", {cell['workers']} workers" if cell.get("workers") else ""
    text = f"{_rate(cell['gbps'][1])} GB/s{workers}"
    if record["key"] != OURS and "ratio" in cell:
        low, middle, high = cell["ratio"]
        text += f"; **{_times(middle)}** ({_times(low)}–{_times(high)})"
    return f"{text}; {_escaped(cell['note'])}" if "note" in cell else text


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _rate(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def _times(value: float) -> str:
    return f"{value:.2f}×" if value < 10 else f"{value:,.0f}×"


def _colour(record: Record) -> str:
    if record["key"] == OURS:
        return "tab:orange"
    return "0.75" if record["key"] in CEILINGS else "tab:blue"

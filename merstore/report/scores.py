"""The pages that compare predictions, with their pictures."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from merstore import pages
from merstore.pages import picture, plain
from merstore.report.compared import Compared, Grid, Standing, cut
from merstore.score.intervals import COVERED, DRAWS

DRAWN = 6  # predictions with bars of their own
NAMES = 50  # samples or labels of a kind


def html(
    template: str,
    truth: object,
    found: Compared,
    about: Mapping[str, str] = MappingProxyType({}),
    **more: Any,
) -> str:
    """truth: where the true labels are from, as given. about: what else they were scored with.

    Raises MerstoreError where jinja2 or matplotlib are not installed.
    """
    return pages.render(
        "merstore.report",
        template,
        truth=str(truth),
        found=found,
        about=about,
        names=NAMES,
        draws=DRAWS,
        covers=f"{COVERED:g} %",
        cut=cut,
        plots=_plots,
        **more,
    )


def _plots(found: Compared) -> list[tuple[str, str, Any]]:
    """Title, how to read it, and the SVG."""
    plots = [_plot_of_intervals(found)] if found.standing.first.intervals else []
    if found.grid:
        plots += [_plot_of_bars(found.standing, found.grid, *bars) for bars in found.grid.bars]
    return plots


def _plot_of_intervals(found: Compared) -> tuple[str, str, Any]:
    standing = found.standing
    name = standing.values[standing.by]
    told = "; ".join(
        f"{label}: {standing.told(entry.values[standing.by])}, from {standing.told(inside.low)} to "
        f"{standing.told(inside.high)}"
        for label, entry in zip(standing.drawn, standing.shown, strict=True)
        if (inside := entry.intervals.get(standing.by))
    )
    return (
        _upper(found.texts.value),
        _upper(f"{name}{_unit(standing)}, with {COVERED:g} % intervals."),
        picture(f"{name} with its {COVERED:g} % interval. {told}", _intervals, standing),
    )


def _plot_of_bars(
    standing: Standing, grid: Grid, title: str, places: Sequence[int]
) -> tuple[str, str, Any]:
    few = slice(min(DRAWN, len(standing.board)))
    told = "; ".join(
        f"{label}: "
        + ", ".join(f"{grid.columns[k]} {standing.told(row[k]) or 'none'}" for k in places)
        for label, row in zip(standing.drawn[few], grid.scores[few].tolist(), strict=True)
    )
    most = f", of the first {DRAWN}." if len(standing.board) > DRAWN else "."
    return (
        title,
        f"{grid.what}{_unit(standing)}{most}",
        picture(f"{title}. {told}", _bars, standing, grid, places, few),
    )


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _unit(standing: Standing) -> str:
    return " in per cent" if standing.percent else ""


def _intervals(axes: Any, standing: Standing) -> None:
    scale = 100 if standing.percent else 1
    for place, entry in enumerate(standing.shown):
        if inside := entry.intervals.get(standing.by):
            ends = [scale * inside.low, scale * inside.high]
            axes.plot(ends, [place] * 2, color=pages.GREY, linewidth=3)
            axes.plot([scale * entry.values[standing.by]], [place], "o", color=pages.BLUE)
    axes.set_yticks(range(len(standing.shown)), standing.drawn, fontsize=7)
    name = standing.values[standing.by]
    axes.set(
        xlabel=f"{name}, %" if standing.percent else name, ylim=(len(standing.shown) - 0.5, -0.5)
    )


def _bars(axes: Any, standing: Standing, grid: Grid, places: Sequence[int], few: slice) -> None:
    shades = (*pages.SHADES, pages.ORANGE, pages.GREEN)
    rows = grid.scores[few][:, list(places)] * (100 if standing.percent else 1)
    width = 0.8 / len(rows)
    for number, (row, label) in enumerate(zip(rows, standing.drawn[few], strict=True)):
        at = np.arange(len(places)) + (number - (len(rows) - 1) / 2) * width
        # a label that begins with _ is left out of a legend; ours begin with their place
        axes.bar(at, row, width, color=shades[number % len(shades)], label=label)
    ticks = [cut(plain(grid.columns[place]), 20) for place in places]
    slanted = {"rotation": 30, "ha": "right"} if sum(map(len, ticks)) > 45 else {}
    axes.set_xticks(range(len(places)), ticks, fontsize=8, **slanted)
    axes.set(ylabel="%" if standing.percent else "")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=6)

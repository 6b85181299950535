"""What all pages that compare predictions have in common: what they count, and how they show it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import isnan
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from merstore import pages
from merstore.fill.report import Named
from merstore.pages import picture, plain
from merstore.score.answers import Labels
from merstore.score.board import Ranked
from merstore.score.files import OPENSET
from merstore.score.intervals import COVERED, DRAWS, Comparison, Interval
from merstore.store.entry import Failure

SHOWN = 10  # predictions, best first, beyond the tables of scores
DRAWN = 6  # of them with bars of their own
LABELS = 30  # most frequent ones
NAMES = 50  # samples or labels of a kind
HARDEST = 25
GROUPS = 20  # of a confusion
LONG = 60  # signs of a label; answers may be prose
NOTHING, ANOTHER = "(nothing)", "(another)"


class Texts(NamedTuple):
    """What a page says about what it shows. ``value``: what the predictions are ranked by, in words;
    ``none``: why it may not be there; ``unknown``: what labels are that do not count; ``each``: what
    is compared.
    """

    title: str
    value: str
    none: str
    scores: str
    coverage: str
    unknown: str
    labels: str
    confusion: str
    hardest: str
    each: str = "predictions"


@dataclass(frozen=True)
class Standing:
    """Predictions, best first. ``values``: headings of the values that the first table has, that by
    which they are ranked first; ``percent``: how they are written.
    """

    board: Sequence[Ranked[Any]]
    values: Mapping[str, str]
    percent: bool = True

    @property
    def by(self) -> str:
        return next(iter(self.values))

    @property
    def first(self) -> Ranked[Any]:
        return self.board[0]

    @property
    def shown(self) -> Sequence[Ranked[Any]]:
        return self.board[:SHOWN]

    @property
    def sure(self) -> bool:
        """Whether there are intervals."""
        return any(entry.intervals for entry in self.board)

    @cached_property
    def short(self) -> list[str]:
        return shortened([entry.name for entry in self.board])

    @property
    def drawn(self) -> list[str]:
        """What the first are called in pictures."""
        return [f"{n} {cut(plain(name), 40)}" for n, name in enumerate(self.short[:SHOWN], 1)]

    def told(self, value: float | None) -> str:
        if value is None or isnan(value):
            return ""
        return f"{100 * value:.2f}" if self.percent else f"{value:.4f}"

    def told_of_one(self, value: float) -> str:
        """The same of one sample, which may be just right or wrong."""
        return self.told(value) if self.percent or isnan(value) else f"{value:.4g}"


class Grid(NamedTuple):
    """A score for each prediction ``[P]`` and column ``[K]``; NaN where there is none. ``what`` it is.
    ``bars``: title and places of the columns of each picture of them. Without a caption there is no
    table.
    """

    title: str
    what: str
    caption: str
    columns: Sequence[str]
    scores: np.ndarray
    bars: Sequence[tuple[str, Sequence[int]]]


class Line(NamedTuple):
    """A score in full. ``place``: of its prediction, from 0. None where something does not apply."""

    place: int
    what: str
    value: float
    n: int | None = None
    precision: float | None = None
    recall: float | None = None
    interval: Interval | None = None
    behind: Comparison | None = None


class Covered(NamedTuple):
    """What became of ``n`` samples. ``scored``: fewest and most, where the metrics differ;
    ``failed``: failure records; None where something does not apply.
    """

    n: int
    scored: tuple[int, int]
    missing: Sequence[str] | None
    empty: Sequence[str]
    extra: int
    unknown: Mapping[str, int] | None = None
    unknown_share: float | None = None
    unknown_only: Sequence[str] | None = None
    failed: Sequence[Named] | None = None


class Frequency(NamedTuple):
    """In how many samples a label is: of the truth, and of each prediction. ``known``: None where
    there are no tables.
    """

    label: str
    known: bool | None
    true: int
    predicted: tuple[int, ...]


class Confusion(NamedTuple):
    """``counts [G, G]`` int64: by true and predicted group; the last is NOTHING."""

    title: str
    groups: tuple[str, ...]
    counts: np.ndarray


class Hard(NamedTuple):
    """A sample with its mean score over all predictions, and what each of those said."""

    name: str
    score: float
    truth: Labels
    answers: list[tuple[float, Labels]]


@dataclass(frozen=True)
class Compared:
    """What a page, or a part of one, tells; what is empty is left out. All that is by prediction is
    in the order of the board. ``confusions`` are of the first predictions, ``unscored`` counts the
    samples of the truth that no metric scores.
    """

    texts: Texts
    standing: Standing
    grid: Grid | None = None
    lines: Sequence[Line] = ()
    covered: Sequence[Covered] = ()
    unscored: int = 0
    frequencies: Sequence[Frequency] = ()
    confusions: Sequence[Sequence[Confusion]] = ()
    hardest: Sequence[Hard] = ()


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


# -- counting


def lines(standing: Standing, n: Callable[[Any, str], int]) -> list[Line]:
    """A line for each value of each prediction. n: how many samples of a result a value is of."""
    return [
        Line(
            place,
            heading,
            entry.values[value],
            n(entry.result, value),
            interval=entry.intervals.get(value),
            behind=entry.behind.get(value),
        )
        for place, entry in enumerate(standing.board)
        for value, heading in standing.values.items()
        if value in entry.values
    ]


def marks(answers: Iterable[Iterable[int]], size: int) -> np.ndarray:
    """Bool ``[N, size]``: the places that each answer names."""
    found = [list(answer) for answer in answers]
    marked = np.zeros((len(found), size), np.bool_)
    rows = np.repeat(np.arange(len(found)), [len(answer) for answer in found])
    marked[rows, [place for answer in found for place in answer]] = True
    return marked


def confusion(title: str, true: np.ndarray, said: np.ndarray, groups: Sequence[str]) -> Confusion:
    """What is said in the place of what, by ``true [N, G]`` and ``said [N, G]``, bool. Of each sample
    whose truth has a group, groups that are both true and predicted count on the diagonal. What is
    left of the truth was missed, what is left of the prediction is wrong: each pair of those counts
    once, and where nothing is left on one side, NOTHING stands for it.
    """
    scored = true.any(axis=1)
    true, said = true[scored], said[scored]
    missed, wrong = true & ~said, said & ~true
    none_missed, none_wrong = ~missed.any(axis=1), ~wrong.any(axis=1)
    rows = np.column_stack([missed, none_missed & ~none_wrong]).astype(np.float64)
    columns = np.column_stack([wrong, none_wrong & ~none_missed]).astype(np.float64)
    counts = (rows.T @ columns).astype(np.int64)  # of whole numbers, so that nothing is rounded
    counts[np.diag_indices(len(groups))] += (true & said).sum(axis=0)
    return Confusion(title, (*groups, NOTHING), counts)


def fewer(found: Confusion, most: int = GROUPS) -> Confusion:
    """The same with the most frequent groups alone; ANOTHER stands for the others, which are counted
    in its cell whether they are confused or not.
    """
    groups, counts = found.groups[:-1], found.counts
    if len(groups) <= most:
        return found
    often = counts.sum(axis=0) + counts.sum(axis=1)
    kept = sorted(sorted(range(len(groups)), key=lambda place: (-often[place], place))[:most])
    into = np.full(len(groups) + 1, most)
    into[kept] = range(most)
    into[-1] = most + 1
    folded = np.zeros((most + 2, most + 2), np.int64)
    np.add.at(folded, (into[:, None], into[None, :]), counts)
    return Confusion(found.title, (*(groups[place] for place in kept), ANOTHER, NOTHING), folded)


def frequencies(
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    known: Callable[[str], bool] | None = None,
    exact: bool = False,
) -> list[Frequency]:
    """The most frequent labels of the truth and of each prediction, among the samples of the truth,
    by how often they are true. exact: ``Sad`` is another one than ``sad``.
    """
    true = _counted(truth.values(), exact)
    said = [_counted((each[name] for name in truth if name in each), exact) for each in predictions]
    few = max(LABELS // 3, 1)
    chosen = {label for label, _ in _first(true, LABELS)}
    chosen |= {label for counts in said for label, _ in _first(counts, few)}
    order = sorted(chosen, key=lambda label: (-true[label], -sum(c[label] for c in said), label))
    return [
        Frequency(
            label,
            known(label) if known else None,
            true[label],
            tuple(counts[label] for counts in said),
        )
        for label in order
    ]


def hardest(
    names: Sequence[str],
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    by_sample: np.ndarray,
    worse: np.ndarray | None = None,
) -> list[Hard]:
    """The samples with the lowest mean of ``by_sample [P, N]``, whose columns `names` name, of all
    predictions that it is not NaN of; of equal ones those that are highest in ``worse [N]``, then by
    place. Those that are not scored are left out. The answers are those of the first predictions.
    """
    means = mean_of_known(by_sample.T)
    order = np.lexsort((np.zeros(len(means)) if worse is None else -worse, means))
    return [
        Hard(
            names[row],
            float(means[row]),
            truth[names[row]],
            [
                (float(by_sample[number, row]), each.get(names[row], ()))
                for number, each in enumerate(predictions)
            ],
        )
        for row in order[:HARDEST]
        if not isnan(means[row])
    ]


def mean_of_known(rows: np.ndarray) -> np.ndarray:
    """The mean of what is not NaN in each row of ``[N, K]``; NaN where all is."""
    known = ~np.isnan(rows)
    n = known.sum(axis=1)
    means = np.full(len(n), np.nan)
    np.divide(np.where(known, rows, 0).sum(axis=1), n, out=means, where=n > 0)
    return means


def named(failed: Sequence[Failure] | None) -> list[Named] | None:
    """Failure records as a page names them."""
    return (
        None
        if failed is None
        else [Named(each.name, f"{each.kind}: {each.message}") for each in failed]
    )


def shortened(names: Sequence[str]) -> list[str]:
    """Names without the folders that all have, nor the ending of label files."""
    folders = [name.split("/")[:-1] for name in names]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    away = sum(len(level[0]) + 1 for level in same)
    return [name[away:].removesuffix(OPENSET) or name for name in names]


def cut(text: str, long: int = LONG) -> str:
    """A text that is too long without its middle: paths differ at their ends."""
    if len(text) <= long:
        return text
    return f"{text[: long // 2 - 1]}…{text[-(long // 2) :]}"


def _counted(answers: Iterable[Labels], exact: bool) -> Counter[str]:
    return Counter(
        label
        for labels in answers
        for label in (set(labels) if exact else {label.lower().strip() for label in labels})
    )


def _first(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]


# -- pictures


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

"""What a page that compares predictions tells, whatever their scores are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from merstore.fill.report import Named
from merstore.pages import plain
from merstore.report.counting import Confusion, Frequency, Hard
from merstore.score.board import Ranked
from merstore.score.files import OPENSET
from merstore.score.intervals import Comparison, Interval
from merstore.store.entry import Failure

SHOWN = 10  # predictions, best first, beyond the tables of scores
LONG = 60  # signs of a label; answers may be prose


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
    missing: Sequence[str]
    empty: Sequence[str]
    extra: int
    unknown: Mapping[str, int] | None = None
    unknown_share: float | None = None
    unknown_only: Sequence[str] | None = None
    failed: Sequence[Named] | None = None


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

"""Several predictions of the same samples, ranked and compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from merstore.score.intervals import Comparison, Interval, compare, interval, resampled


class Result(Protocol):
    """What the scores of this package have in common."""

    def __len__(self) -> int:
        """Samples."""
        ...

    def values(self) -> dict[str, float]: ...

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values, in this order, if these had been the samples."""
        ...


Scored = TypeVar("Scored", bound=Result)


@dataclass(frozen=True)
class Ranked(Generic[Scored]):
    """``intervals`` and ``behind`` (how far this one is behind the first of the board) are by value,
    and empty without bootstrap.
    """

    name: str
    result: Scored
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    behind: Mapping[str, Comparison]


def ranked(results: Mapping[str, Scored], by: str, seed: int | None = None) -> list[Ranked[Scored]]:
    """The results by their value `by`, best first, NaN last, equal ones by name.

    seed: of the bootstrap, which is done where it is given.
    """
    values = {name: result.values() for name, result in results.items()}

    def order(name: str) -> tuple[bool, float, str]:
        value = values[name].get(by, float("nan"))
        return bool(np.isnan(value)), -value, name

    names = sorted(results, key=order)
    if seed is None:
        return [Ranked(name, results[name], values[name], {}, {}) for name in names]
    board: list[Ranked[Scored]] = []
    first: tuple[dict[str, float], Any] | None = None
    for name in names:
        result = results[name]
        drawn = dict(
            zip(values[name], resampled(len(result), result.resample, seed=seed).T, strict=True)
        )
        intervals = {value: interval(column) for value, column in drawn.items()}
        behind = {}
        if first is not None:
            best, best_drawn = first
            behind = {
                value: compare(best[value], values[name][value], best_drawn[value], drawn[value])
                for value in drawn
                if value in best_drawn
            }
        else:
            first = values[name], drawn
        board.append(Ranked(name, result, values[name], intervals, behind))
    return board

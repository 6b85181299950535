"""Several predictions of the same samples, ranked and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from merstore.score.intervals import Comparison, Interval, Seed, compare, interval, resampled


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
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Ranked(Generic[Entry]):
    """``intervals`` and ``behind`` (how far this one is behind the first of the board) are by value,
    and empty without bootstrap.
    """

    name: str
    result: Entry
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    behind: Mapping[str, Comparison]


def ranked(
    results: Mapping[str, Scored], by: str, seed: Seed | None = None
) -> list[Ranked[Scored]]:
    """The results by their value `by`, best first, NaN last, equal ones by name.

    seed: of the bootstrap, which is done where it is given.
    """
    values = {name: result.values() for name, result in results.items()}
    drawn = {} if seed is None else {name: draws(each, seed) for name, each in results.items()}
    return placed(results, values, drawn, best_first(values, by))


def best_first(values: Mapping[str, Mapping[str, float]], by: str) -> list[str]:
    """The names by their value `by`, the highest first, NaN last, equal ones by name."""

    def order(name: str) -> tuple[bool, float, str]:
        value = values[name].get(by, float("nan"))
        return bool(np.isnan(value)), -value, name

    return sorted(values, key=order)


def draws(result: Result, seed: Seed) -> dict[str, np.ndarray]:
    """Each value of the result on the resamplings: float64 ``[draws]``."""
    found = resampled(len(result), result.resample, seed=seed)
    return dict(zip(result.values(), found.T, strict=True))


def placed(
    results: Mapping[str, Entry],
    values: Mapping[str, Mapping[str, float]],
    drawn: Mapping[str, Mapping[str, np.ndarray]],
    order: Sequence[str],
) -> list[Ranked[Entry]]:
    """The results in this order, with intervals, and compared with the first, where there are draws
    of their values.
    """
    board: list[Ranked[Entry]] = []
    for name in order:
        mine, best = drawn.get(name, {}), drawn.get(order[0], {})
        behind = {
            value: compare(values[order[0]][value], values[name][value], best[value], mine[value])
            for value in mine
            if board and value in best
        }
        intervals = {value: interval(column) for value, column in mine.items()}
        board.append(Ranked(name, results[name], values[name], intervals, behind))
    return board

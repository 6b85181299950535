"""How sure a score is, and a difference of two: the paired bootstrap.

Samples are drawn with replacement, as many as there are, and scored anew; the interval is that of
the percentiles (Efron and Tibshirani 1993, 13). Two predictions of the same samples are compared on
the same draws (Koehn 2004).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from merstore.errors import MerstoreError

DRAWS = 1000
COVERED = 95.0  # per cent


class Interval(NamedTuple):
    """Where 95 % of the resampled scores lie."""

    low: float
    high: float


class Comparison(NamedTuple):
    """``difference`` of two scores, its interval, and ``p``: how often resampling turns its sign,
    two-sided.
    """

    difference: float
    low: float
    high: float
    p: float


Seed = int | Sequence[int]  # none below 0


def resampled(
    n: int, statistic: Callable[[np.ndarray], np.ndarray], draws: int = DRAWS, seed: Seed = 0
) -> np.ndarray:
    """``statistic(rows) [K]`` of `draws` resamplings of `n` samples: float64 ``[draws, K]``.

    The draws follow from `n`, `draws` and `seed` alone, so that those of two predictions are paired.
    Raises MerstoreError where there is no sample or no draw.
    """
    if n < 1 or draws < 1:
        raise MerstoreError(f"{draws} draws from {n} samples: give at least one of each")
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.integers(0, n, n)) for _ in range(draws)], np.float64)


def interval(drawn: np.ndarray) -> Interval:
    """Of one statistic's resampled values ``[draws]``; NaN where none is a number."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    rest = (100 - COVERED) / 2
    low, high = np.percentile(known, (rest, 100 - rest))
    return Interval(float(low), float(high))


def compare(one: float, two: float, drawn_one: np.ndarray, drawn_two: np.ndarray) -> Comparison:
    """How much higher `one` is than `two`, by their values on the same draws."""
    differences = drawn_one - drawn_two
    known = differences[~np.isnan(differences)]
    turned = min(int((known <= 0).sum()), int((known >= 0).sum()))
    p = min(1.0, 2 * (turned + 1) / (len(known) + 1))
    return Comparison(one - two, *interval(differences), p)

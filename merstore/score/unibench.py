"""MER-UniBench: hit rate, and the weighted F1 of signs (notes on the metrics, 6)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from merstore.errors import MerstoreError
from merstore.score.answers import Coverage, Labels, Missing, aligned, coverage, parsed
from merstore.score.classification import accuracy, weighted_f1
from merstore.score.ov import COARSE, mean
from merstore.score.wheels import WheelTables

SIGNS = {"positive": 1, "negative": -1, "neutral": 0}


@dataclass(frozen=True)
class HitRate:
    """``rate`` is the mean of ``rates`` over the five wheels, of which ``n`` samples were scored.

    ``mixed`` divides each hit by the number of candidates that were named, which AffectGPT computes
    and does not report. ``hits``: ``[N, 5]`` float64, NaN where a sample is not scored.
    """

    n: tuple[int, ...]
    rates: tuple[float, ...]
    rate: float
    mixed: float
    hits: np.ndarray
    coverage: Coverage

    def __len__(self) -> int:
        return len(self.hits)

    def values(self) -> dict[str, float]:
        """The mean, and the rate on each wheel by its metric."""
        return {"hit rate": self.rate} | dict(zip(COARSE, self.rates, strict=True))

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples."""
        _, rates = _per_wheel(self.hits[rows])
        return np.array([mean(rates), *rates])


@dataclass(frozen=True)
class SignScore:
    """WAF and accuracy of the signs of ``n`` samples whose true value is not 0.

    ``other``: answers that are no sign (counted as neutral, and with neutral as negative).
    ``classes``: ``[n, 2]`` bool: truth and prediction above 0.
    """

    n: int
    waf: float
    acc: float
    missing: tuple[str, ...]
    other: Mapping[str, int]
    classes: np.ndarray

    def __len__(self) -> int:
        return self.n

    def values(self) -> dict[str, float]:
        return {"waf": self.waf, "acc": self.acc}

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples."""
        true, guessed = self.classes[rows].T
        return np.array([weighted_f1(true, guessed), accuracy(true, guessed)])


def hit_rate(
    truth: Mapping[str, str],
    predictions: Mapping[str, Labels],
    tables: WheelTables,
    missing: Missing = "error",
) -> HitRate:
    """Whether the group of the one true label is among those of the predicted ones, at level 1 of
    each wheel. A sample whose true label has no group there is not scored; an answer without a
    group hits nothing. Long answers are not punished. Errors as `merstore.score.ov.ov_scores`.
    """
    given, absent = aligned(truth, predictions, missing, ())
    found = parsed(given)
    candidates = set(truth.values())
    hits = np.full((len(found), len(COARSE)), np.nan)
    mixed = np.full_like(hits, np.nan)
    for column, metric in enumerate(COARSE):
        groups = {tables.project(label, metric) for label in candidates} - {None}
        for row, (name, answer) in enumerate(found):
            true = tables.project(truth[name], metric)
            if true is None:
                continue
            guessed = {tables.project(label, metric) for label in answer}
            hit = true in guessed
            hits[row, column] = hit
            mixed[row, column] = hit / max(1, len(guessed & groups))
    n, rates = _per_wheel(hits)
    known = coverage(found, absent, predictions, tables.forms.__contains__)
    return HitRate(n, rates, mean(rates), mean(_per_wheel(mixed)[1]), hits, known)


def sign_score(
    truth: Mapping[str, float], predictions: Mapping[str, Any], missing: Missing = "error"
) -> SignScore:
    """Score ``positive``, ``negative`` and ``neutral`` against values: above 0 or not, where the
    true value is not 0. Anything else, in any other case of letters too, counts as neutral.
    """
    found, absent = aligned(truth, predictions, missing, "")
    sure = [(truth[name], answer) for name, answer in found if truth[name] != 0]
    if not sure:
        raise MerstoreError("every true value is 0: there is no sign to score")
    other = Counter(str(answer) for _, answer in sure if answer not in SIGNS)
    classes = np.array([(value > 0, SIGNS.get(answer, 0) > 0) for value, answer in sure])
    true, guessed = classes.T
    return SignScore(
        len(sure),
        weighted_f1(true, guessed),
        accuracy(true, guessed),
        absent,
        dict(sorted(other.items(), key=lambda pair: (-pair[1], pair[0]))),
        classes,
    )


def _per_wheel(scores: np.ndarray) -> tuple[tuple[int, ...], tuple[float, ...]]:
    known = [column[~np.isnan(column)] for column in scores.T]
    return tuple(map(len, known)), tuple(map(mean, known))

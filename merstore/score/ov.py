"""Open-vocabulary scores: the twelve metrics of OV-MER, and what MER2025 and MER-UniBench make of them.

The rules are in the notes on the metrics, 3. All is in float64 and over the names in sorted order,
so that every machine gives the same last digit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from merstore.score.answers import Coverage, Labels, Missing, aligned, coverage, parsed
from merstore.score.wheels import METRICS, WheelTables

COARSE = tuple(metric for metric in METRICS if metric.endswith("-L1"))
FINE = tuple(metric for metric in METRICS if metric.endswith("-L2"))


class Score(NamedTuple):
    """``n`` samples scored, the mean of their precisions and of their recalls, and the harmonic
    mean of the two.
    """

    n: int
    precision: float
    recall: float
    f: float


class Average(NamedTuple):
    """Means over the five wheels."""

    precision: float
    recall: float
    f: float


@dataclass(frozen=True)
class OvScores:
    """Scores by metric, and how each sample did.

    ``metrics``: METRICS -> Score. ``names``: the samples, sorted. ``counts``: ``[N, 12, 3]`` int32:
    of each sample and metric the distinct groups of the truth, of the prediction, and those in
    both. A sample whose truth has no group in a metric is not scored in it.
    """

    metrics: Mapping[str, Score]
    names: tuple[str, ...]
    counts: np.ndarray
    coverage: Coverage

    def __getitem__(self, metric: str) -> Score:
        return self.metrics[metric]

    @property
    def level1(self) -> Average:
        """MER2025's level 1, which is also the score of MER-UniBench's OV-MERD+ and of MER2026."""
        return self._average(COARSE)

    @property
    def level2(self) -> Average:
        return self._average(FINE)

    @property
    def rank(self) -> float:
        """What MER2025 ranks by: the mean F of its two levels."""
        return mean([self.level1.f, self.level2.f])

    @property
    def average(self) -> float:
        """M-avg: the mean F of the twelve metrics."""
        return mean([self.metrics[metric].f for metric in METRICS])

    def __len__(self) -> int:
        """How many samples the truth has."""
        return len(self.names)

    def values(self) -> dict[str, float]:
        """F of the twelve metrics, of MER2025's two levels, what it ranks by, and M-avg."""
        return {metric: self.metrics[metric].f for metric in METRICS} | {
            "MER2025-L1": self.level1.f,
            "MER2025-L2": self.level2.f,
            "MER2025-rank": self.rank,
            "M-avg": self.average,
        }

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples."""
        n, precision, recall = self._shares[rows].sum(axis=0).reshape(3, len(METRICS))
        with np.errstate(invalid="ignore"):
            total = precision + recall
            f = np.where(total > 0, 2 * precision * recall / (total * n), 0.0 / n)
        level1, level2 = f[2::2].mean(), f[3::2].mean()
        return np.array([*f, level1, level2, (level1 + level2) / 2, f.mean()])

    @cached_property
    def _shares(self) -> np.ndarray:
        """Of each sample: whether it is scored, its precision and its recall, in each metric."""
        true, guessed, both = np.moveaxis(self.counts.astype(np.float64), 2, 0)
        return np.hstack([true > 0, both / np.maximum(guessed, 1), both / np.maximum(true, 1)])

    def _average(self, metrics: Iterable[str]) -> Average:
        found = [self.metrics[metric] for metric in metrics]
        return Average(
            mean([score.precision for score in found]),
            mean([score.recall for score in found]),
            mean([score.f for score in found]),
        )


def ov_scores(
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Labels],
    tables: WheelTables,
    missing: Missing = "error",
) -> OvScores:
    """Score predicted labels against true ones, both by sample name.

    Per sample and metric, labels become the set of their groups; those that have none vanish. A
    sample whose true set is empty is not scored; an empty predicted set has precision and recall 0.
    Where precision and recall are both 0, so is F (MER2026's rule; OV-MER's script prints nan); of
    no sample the scores are NaN. Predictions of other names are ignored.

    Raises MissingEntry, which lists the names, where a prediction is missing, unless `missing` is
    ``empty``; MerstoreError where the truth has no sample.
    """
    given, absent = aligned(truth, predictions, missing, ())
    found = parsed(given)
    names = [name for name, _ in found]
    words: dict[str, int] = {}
    true = _pairs((labels for _, labels in parsed((name, truth[name]) for name in names)), words)
    guessed = _pairs((labels for _, labels in found), words)
    groups = np.array([tables.numbers(word) for word in words], np.int64)
    groups = groups.reshape(len(words), len(METRICS))
    counts = np.empty((len(names), len(METRICS), 3), np.int32)
    for column, group in enumerate(groups.T):
        size = len(tables.groups[column])
        one = _keys(true, group, size)
        two = _keys(guessed, group, size)
        both = np.intersect1d(one, two, assume_unique=True)
        for where, keys in enumerate((one, two, both)):
            counts[:, column, where] = np.bincount(keys // size, minlength=len(names))
    metrics = {
        metric: score_of(*precisions_recalls(counts[:, column]))
        for column, metric in enumerate(METRICS)
    }
    known = coverage(found, absent, predictions, tables.forms.__contains__)
    return OvScores(metrics, tuple(names), counts, known)


def precisions_recalls(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (float64) of the samples that are scored, from ``counts [N, 3]`` of one
    metric.
    """
    true, guessed, both = counts[counts[:, 0] > 0].T.astype(np.float64)
    return both / np.maximum(guessed, 1), both / true


def score_of(precisions: np.ndarray, recalls: np.ndarray) -> Score:
    precision, recall = mean(precisions), mean(recalls)
    return Score(len(precisions), precision, recall, harmonic(precision, recall))


def harmonic(precision: float, recall: float) -> float:
    """F of precision and recall; 0 where both are."""
    total = precision + recall
    return 2 * (precision * recall) / total if total else 0.0 * total


def mean(values: Any) -> float:
    """The plain mean in float64; NaN of nothing."""
    array = np.asarray(values, np.float64)
    return float(np.mean(array)) if len(array) else float("nan")


_Pairs = tuple[np.ndarray, np.ndarray]  # sample number and word number of each label


def _pairs(answers: Iterable[Labels], words: dict[str, int]) -> _Pairs:
    sizes, numbers = [], []
    for answer in answers:
        sizes.append(len(answer))
        numbers += [words.setdefault(label, len(words)) for label in answer]
    samples = np.repeat(np.arange(len(sizes)), sizes)
    return samples, np.array(numbers, np.int64)


def _keys(pairs: _Pairs, group: np.ndarray, size: int) -> np.ndarray:
    """Each group of each sample once, as sample * size + group."""
    samples, words = pairs
    groups = group[words]
    there = groups >= 0
    keys: np.ndarray = samples[there] * size + groups[there]
    keys.sort()  # np.unique does the same, and takes twice the time
    first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    once: np.ndarray = keys[first]
    return once

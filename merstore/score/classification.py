"""How well classes and values were predicted: the metrics of MERTools (notes on MERTools 4.8).

`accuracy`, `weighted_f1` and `mean_squared_error` give what scikit-learn's functions of these names
give (``f1_score(average="weighted")``), the first two bit for bit.
"""

from typing import Any, NamedTuple

import numpy as np

from merstore.errors import MerstoreError

Labels = Any  # integers [N]
Values = Any  # floats [N]


class Score(NamedTuple):
    """``n`` samples were scored. What does not apply is None: ``f1`` (weighted) and ``acc`` of
    classes, ``mse`` of values. ``binary``: the classes are the signs of values that are not 0.
    """

    n: int
    f1: float | None = None
    acc: float | None = None
    mse: float | None = None
    binary: bool = False

    def metric(self, name: str) -> float:
        """By MERTools' names, higher is better: ``emo`` weighted F1, ``val`` -MSE, ``emoval`` F1 -
        MSE / 4.
        """
        if name == "val":
            return -_there(self.mse, name)
        if name == "emoval":
            return _there(self.f1, name) - 0.25 * _there(self.mse, name)
        return _there(self.f1, name)


def accuracy(truth: Labels, predicted: Labels) -> float:
    """Share of right ones. Raises MerstoreError where lengths differ or there are none."""
    truth, predicted = _pair(truth, predicted)
    return float(np.average(truth == predicted))


def weighted_f1(truth: Labels, predicted: Labels) -> float:
    """WAF: F1 of each class, weighted by how many samples truly are of it. A class that nobody has
    and nobody predicted is none. Errors as `accuracy`.
    """
    truth, predicted = _pair(truth, predicted)
    classes = np.union1d(truth, predicted)
    true, guessed = np.searchsorted(classes, truth), np.searchsorted(classes, predicted)
    return weighted_f1_of(true, guessed, len(classes))


def weighted_f1_of(true: Any, guessed: Any, classes: int) -> float:
    """The same of samples, at least one, whose classes are numbers from 0 on: without a look at all
    of them, which takes most of the time.
    """
    true_sum, guessed_sum = (np.bincount(side, minlength=classes) for side in (true, guessed))
    hits = np.bincount(true[true == guessed], minlength=classes)
    there = true_sum + guessed_sum > 0
    scores = 2.0 * hits[there].astype(np.float64) / (true_sum + guessed_sum)[there]
    return float(np.average(scores, weights=true_sum[there]))


def mean_squared_error(truth: Values, predicted: Values) -> float:
    truth, predicted = _pair(truth, predicted)
    return float(np.average((truth.astype(np.float64) - predicted.astype(np.float64)) ** 2))


def pearson(truth: Values, predicted: Values) -> float:
    """PCC, pairs with NaN left out; NaN where one side does not vary."""
    truth, predicted = _finite(truth, predicted)
    a, b = _deviations(truth), _deviations(predicted)
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale else float("nan")


def concordance(truth: Values, predicted: Values) -> float:
    """CCC (Lin 1989) with population variances, pairs with NaN left out; 0 where one side does not
    vary, NaN where both are one value.
    """
    truth, predicted = _finite(truth, predicted)
    a, b = _deviations(truth), _deviations(predicted)
    spread = (a * a).mean() + (b * b).mean() + (truth.mean() - predicted.mean()) ** 2
    return float(2 * (a * b).mean() / spread) if spread else float("nan")


def score(
    emos: Labels | None,
    logits: Any,
    vals: Values | None,
    values: Any,
    binary: bool = False,
) -> Score | None:
    """Score predictions ``logits [N, C]`` and ``values [N, R]`` against labels ``emos [N]`` (-1: not
    known) and ``vals [N]`` (NaN: not known), on the samples whose label is known. None where there
    is no label at all: an unlabelled split has no score.

    binary: with values alone, score their signs (>0) where the true one is not 0.
    """
    f1 = acc = mse = None
    n = 0
    if emos is not None and np.shape(logits)[-1]:
        known = np.asarray(emos) >= 0
        if known.any():
            truth, predicted = np.asarray(emos)[known], np.asarray(logits)[known].argmax(-1)
            n, f1, acc = len(truth), weighted_f1(truth, predicted), accuracy(truth, predicted)
    if vals is not None and np.shape(values)[-1]:
        known = np.isfinite(vals)
        if known.any():
            truth, guessed = np.asarray(vals)[known], np.asarray(values)[known].reshape(-1)
            mse = mean_squared_error(truth, guessed)
            n = n or len(truth)
            if binary:
                sure = truth != 0
                if not sure.any():
                    return None
                n, signs, guesses = int(sure.sum()), truth[sure] > 0, guessed[sure] > 0
                f1, acc = weighted_f1(signs, guesses), accuracy(signs, guesses)
    return Score(n, f1, acc, mse, binary) if n else None


def _there(value: float | None, name: str) -> float:
    if value is None:
        raise MerstoreError(f"metric {name} needs labels that these samples do not have")
    return value


def _pair(truth: Any, predicted: Any) -> tuple[Any, Any]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise MerstoreError(
            f"labels {truth.shape} and predictions {predicted.shape} are one array [N] each"
        )
    if not len(truth):
        raise MerstoreError("there is no sample to score: give some that have labels")
    return truth, predicted


def _deviations(values: np.ndarray) -> np.ndarray:
    """From the mean; none of what does not vary, of which the mean is rounded."""
    deviations: np.ndarray = values - values.mean()
    return deviations if (values != values[0]).any() else np.zeros_like(values)


def _finite(truth: Any, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = _pair(truth, predicted)
    a, b = a.astype(np.float64), b.astype(np.float64)
    known = ~(np.isnan(a) | np.isnan(b))
    return _pair(a[known], b[known])

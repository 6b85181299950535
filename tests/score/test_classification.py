"""Metrics are those of scikit-learn and of their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from merstore.errors import MerstoreError
from merstore.score.classification import (
    Score,
    accuracy,
    concordance,
    mean_squared_error,
    pearson,
    score,
    weighted_f1,
)

pairs = st.integers(1, 30).flatmap(
    lambda classes: st.lists(
        st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=80
    )
)


@given(pairs)
def test_weighted_f1_and_accuracy_are_scikit_learns_bit_for_bit(
    found: list[tuple[int, int]],
) -> None:
    truth, predicted = np.array(found).T
    assert weighted_f1(truth, predicted) == metrics.f1_score(truth, predicted, average="weighted")
    assert accuracy(truth, predicted) == metrics.accuracy_score(truth, predicted)


def test_mean_squared_error_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 97))
    assert mean_squared_error(a, b) == pytest.approx(metrics.mean_squared_error(a, b), rel=1e-15)


def test_the_floor_of_mer2023_is_what_its_majority_gives() -> None:
    truth = np.repeat(np.arange(6), [871, 822, 689, 383, 462, 146])
    assert round(weighted_f1(truth, np.zeros(3373, int)), 4) == 0.1060
    assert round(accuracy(truth, np.zeros(3373, int)), 4) == 0.2582


def test_correlation_and_concordance_follow_their_definitions() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=50)
    predicted = truth * 0.7 + rng.normal(size=50) + 0.3
    rho = np.corrcoef(truth, predicted)[0, 1]
    assert pearson(truth, predicted) == pytest.approx(rho)
    spread = truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2
    expected = 2 * rho * truth.std() * predicted.std() / spread
    assert concordance(truth, predicted) == pytest.approx(expected)
    holes = truth.copy()
    holes[::5] = np.nan
    kept = ~np.isnan(holes)
    assert concordance(holes, predicted) == concordance(truth[kept], predicted[kept])
    assert math.isnan(pearson([1, 1], [1, 2]))


@pytest.mark.parametrize("value", [0.1, 1 / 3, -2.7])
def test_what_does_not_vary_correlates_with_nothing(value: float) -> None:
    still, other = [value] * 3, [0.1, 0.2, 0.7]  # the mean of three times 0.1 is not 0.1
    for pair in ((still, other), (other, still), (still, still), (still, [0.9] * 3)):
        assert math.isnan(pearson(*pair))
    assert concordance(still, other) == concordance(other, still) == 0
    assert math.isnan(concordance(still, still))
    assert concordance(still, [0.9] * 3) == 0
    assert math.isnan(concordance([value], [value]))


def test_what_has_no_label_has_no_score() -> None:
    logits, values = np.eye(3), np.zeros((3, 1))
    assert score(np.full(3, -1), logits, np.full(3, np.nan), values) is None
    assert score(np.array([0, -1, 0]), logits, None, values) == Score(2, 0.5 * 4 / 3, 0.5)


def test_signs_are_scored_where_the_truth_is_not_zero() -> None:
    values = np.array([[0.5], [-0.1], [0.3], [9.0]])
    found = score(None, np.zeros((4, 0)), np.array([1.0, -2.0, -1.0, 0.0]), values, binary=True)
    assert found is not None
    assert (found.n, found.acc) == (3, pytest.approx(2 / 3))


def test_metrics_by_their_names() -> None:
    found = Score(5, f1=0.5, acc=0.6, mse=0.4)
    assert (found.metric("emo"), found.metric("val"), found.metric("emoval")) == (0.5, -0.4, 0.4)
    with pytest.raises(MerstoreError, match="emoval"):
        Score(5, f1=0.5, acc=0.6).metric("emoval")


@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_what_cannot_be_scored_is_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(MerstoreError):
        weighted_f1(truth, predicted)

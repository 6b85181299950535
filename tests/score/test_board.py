"""Predictions are ranked, and their differences told with how sure they are."""

import math
from typing import Any

import numpy as np
import pytest

from merstore.errors import MerstoreError
from merstore.score.board import Result, ranked
from merstore.score.challenge import challenge_score
from merstore.score.grouped import grouped_score
from merstore.score.intervals import compare, interval, resampled
from merstore.score.ov import ov_scores
from merstore.score.unibench import hit_rate, sign_score
from merstore.score.wheels import WheelTables

N = 200
NAMES = [f"s{n:03}" for n in range(N)]
WORDS = ["sad", "envy", "fear", "proud", "irate", "bold", "happily"]


class Mean:
    """The simplest of scores."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def values(self) -> dict[str, float]:
        return {"mean": float(self.samples.mean())}

    def resample(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self.samples[rows].mean()])


def some(kind: str, tables: WheelTables) -> Result:
    rng = np.random.default_rng(3)
    true = rng.choice(WORDS, N).tolist()
    said = rng.choice(WORDS, (N, 2)).tolist()
    answers = dict(zip(NAMES, said, strict=True))
    if kind == "ov":
        return ov_scores(
            {name: [word] for name, word in zip(NAMES, true, strict=True)}, answers, tables
        )
    if kind == "grouped":
        truth = {name: [word] for name, word in zip(NAMES, true, strict=True)}
        return grouped_score(truth, answers, {name: [["sad", "fear"]] for name in NAMES})
    if kind == "hit rate":
        return hit_rate(dict(zip(NAMES, true, strict=True)), answers, tables)
    if kind == "signs":
        signs = rng.choice(["positive", "negative"], N).tolist()
        values = rng.normal(size=N).tolist()
        return sign_score(
            dict(zip(NAMES, values, strict=True)), dict(zip(NAMES, signs, strict=True))
        )

    def rows() -> dict[str, dict[str, Any]]:
        found = zip(NAMES, rng.choice(WORDS, N).tolist(), rng.normal(size=N).tolist(), strict=True)
        return {name: {"emo": word, "val": value} for name, word, value in found}

    return challenge_score(rows(), rows())


@pytest.mark.parametrize("kind", ["ov", "grouped", "hit rate", "signs", "classes"])
def test_resampling_all_samples_gives_the_scores(kind: str, tables: WheelTables) -> None:
    result = some(kind, tables)
    again = result.resample(np.arange(len(result)))
    assert again == pytest.approx(list(result.values().values()), rel=1e-12, nan_ok=True)
    twice = result.resample(np.repeat(np.arange(len(result)), 2))
    assert twice == pytest.approx(list(result.values().values()), rel=1e-12, nan_ok=True)


def test_resampling_some_samples_is_scoring_them(tables: WheelTables) -> None:
    rng = np.random.default_rng(5)
    truth = {name: [word] for name, word in zip(NAMES, rng.choice(WORDS, N).tolist(), strict=True)}
    answers = dict(zip(NAMES, rng.choice(WORDS, (N, 2)).tolist(), strict=True))
    some = {name: truth[name] for name in NAMES[::3]}
    expected = ov_scores(some, answers, tables).values()
    found = ov_scores(truth, answers, tables).resample(np.arange(0, N, 3))
    assert found == pytest.approx(list(expected.values()), rel=1e-12)


def test_an_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    samples = np.random.default_rng(0).normal(size=2000)
    found = Mean(samples)
    low, high = interval(resampled(2000, found.resample)[:, 0])
    half = 1.96 * samples.std() / math.sqrt(2000)
    assert low == pytest.approx(samples.mean() - half, abs=half / 5)
    assert high == pytest.approx(samples.mean() + half, abs=half / 5)


def test_the_same_seed_gives_the_same_draws_and_another_others() -> None:
    found = Mean(np.arange(50.0))
    one, two, other = (resampled(50, found.resample, seed=seed) for seed in (0, 0, 1))
    assert (one == two).all()
    assert (one != other).any()


def test_the_best_is_first_and_the_others_are_compared_with_it() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    results = {
        "a little worse": Mean(base - 0.05 + rng.normal(0, 0.01, 400)),
        "as good": Mean(base.copy()),
        "best": Mean(base),
        "no score": Mean(np.full(400, np.nan)),
    }
    board = ranked(results, "mean", seed=0)
    assert [entry.name for entry in board] == ["as good", "best", "a little worse", "no score"]
    assert board[0].behind == {}
    same, worse = board[1].behind["mean"], board[2].behind["mean"]
    assert same == (0, 0, 0, 1)
    # the intervals of the two overlap, and yet their difference is sure: it is paired
    assert board[2].intervals["mean"].high > board[0].intervals["mean"].low
    assert (worse.low > 0.04, worse.high < 0.06, worse.p < 0.01) == (True, True, True)
    assert worse.difference == board[0].values["mean"] - board[2].values["mean"]


def test_without_a_seed_nothing_is_drawn() -> None:
    (entry,) = ranked({"a": Mean(np.ones(3))}, "mean")
    assert (entry.intervals, entry.behind) == ({}, {})


def test_draws_without_a_score_are_left_out() -> None:
    drawn = np.array([0.1, np.nan, 0.3])
    assert interval(drawn).low >= 0.1
    assert math.isnan(interval(np.array([np.nan])).low)
    assert compare(0.2, 0.1, drawn, drawn - 0.1).low == pytest.approx(0.1)


def test_no_sample_is_an_error() -> None:
    with pytest.raises(MerstoreError, match="at least one"):
        resampled(0, lambda rows: rows)

"""Classes and valences are scored as the challenges score them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.challenge import challenge_score

classes = st.sampled_from(["neutral", "angry", "happy", "sad", "worried", "surprise"])


@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=60))
def test_waf_and_acc_are_scikit_learns_bit_for_bit(pairs: list[tuple[str, str]]) -> None:
    truth = {f"{n:03}": {"emo": true} for n, (true, _) in enumerate(pairs)}
    rows = {f"{n:03}": {"discrete": guess} for n, (_, guess) in enumerate(pairs)}
    true, guessed = zip(*pairs, strict=True)
    found = challenge_score(truth, rows)
    assert found.n == len(pairs)
    assert found.scores == {
        "waf": metrics.f1_score(true, guessed, average="weighted"),
        "acc": metrics.accuracy_score(true, guessed),
    }


def test_emoval_is_of_classes_and_valences() -> None:
    truth = {
        "a": {"discrete": "sad", "valence": "-1.5"}, "b": {"discrete": "happy", "valence": "2"},
        "c": {"discrete": "happy", "valence": "1"},
    }  # fmt: skip
    rows = {
        "a": {"discrete": "sad", "valence": "-1"}, "b": {"discrete": "sad", "valence": "1"},
        "c": {"discrete": "happy", "valence": "1.5"}, "more": {},
    }  # fmt: skip
    found = challenge_score(truth, rows)
    mse = (0.25 + 1 + 0.25) / 3
    assert found.scores["mse"] == pytest.approx(mse)
    assert found.scores["emoval"] == found.scores["waf"] - 0.25 * found.scores["mse"]
    assert found.scores["pcc"] == pytest.approx(np.corrcoef([-1.5, 2, 1], [-1, 1, 1.5])[0, 1])
    assert (found.n, found.n_values, len(found)) == (3, 3, 3)


def test_what_is_unknown_is_not_scored_and_counted() -> None:
    truth: dict[str, dict[str, Any]] = {
        "a": {"emo": "sad", "val": -10.0}, "b": {"emo": "", "val": 0.5}, "c": {"emo": "sad", "val": float("nan")},
        "d": {"emo": None, "val": -0.5},
    }  # fmt: skip
    rows = {name: {"emo": "happy", "val": 0.5} for name in truth}
    found = challenge_score(truth, rows)
    assert (found.n, found.n_values, found.other) == (2, 2, {"happy": 2})
    assert (found.names, found.empty) == (tuple("abcd"), ())


def test_an_empty_class_is_wrong_and_told() -> None:
    truth = {name: {"emo": "sad"} for name in "abc"}
    rows = {"a": {"emo": ""}, "b": {"emo": float("nan")}, "c": {"emo": "sad"}}
    found = challenge_score(truth, rows)
    assert (found.scores["acc"], found.empty, found.other) == (1 / 3, ("a", "b"), {})


def test_samples_with_a_class_or_a_valence_alone_are_drawn_together() -> None:
    truth: dict[str, dict[str, Any]] = {
        "a": {"emo": "sad", "val": -10}, "b": {"emo": "", "val": 0.5}, "c": {"emo": "happy", "val": 1},
        "d": {"emo": "sad", "val": 2}, "none": {"emo": "", "val": ""},
    }  # fmt: skip
    rows = {name: {"emo": "sad", "val": 0} for name in truth}
    found = challenge_score(truth, rows)
    assert (len(found), found.n, found.n_values) == (4, 3, 3)
    for chosen in ("abcd", "ab", "bcc", "dda"):
        # the same sample may be drawn twice
        drawn = {str(place): truth[name] for place, name in enumerate(chosen)}
        expected = challenge_score(drawn, dict.fromkeys(drawn, rows["a"])).values()
        again = found.resample(np.array(["abcd".index(name) for name in chosen]))
        known = dict(zip(found.values(), again, strict=True))
        assert known == pytest.approx(dict.fromkeys(known, np.nan) | expected, nan_ok=True)
    # of valences alone there is no class to score
    assert np.isnan(found.resample(np.array([1, 1]))[list(found.scores).index("waf")])


@pytest.mark.parametrize(
    ("truth", "rows", "told"),
    [
        ({}, {"a": {"emo": "sad"}}, "the truth has no sample"),
        ({"a": {"emo": "sad"}}, {"a": {"val": 1}}, "nothing to score"),
        ({"a": {"other": "sad"}}, {"a": {"other": "sad"}}, "nothing to score"),
        ({"a": {"val": 1}}, {"a": {"val": "much"}}, "sample a: 'much' is no number"),
        ({"a": {"val": 1}}, {"a": {"val": "nan"}}, "sample a: the predicted valence is nan"),
        ({"a": {"val": 1}}, {"a": {"val": ""}}, "sample a: the predicted valence is nan"),
        ({"a": {"emo": ["sad"]}}, {"a": {"emo": "sad"}}, "sample a: .* is no class"),
    ],
)
def test_what_cannot_be_scored(truth: dict[str, Any], rows: dict[str, Any], told: str) -> None:
    with pytest.raises(MerstoreError, match=told):
        challenge_score(truth, rows)


def test_classes_may_be_numbers_of_any_kind() -> None:
    truth = {"a": {"emo": np.int64(3)}, "b": {"emo": np.array([1, 2])[0]}}
    found = challenge_score(truth, {"a": {"label": "3"}, "b": {"label": 2}})
    assert found.scores["acc"] == 0.5


def test_missing_names_are_listed() -> None:
    truth = {"a": {"emo": "sad"}, "b": {"emo": "sad"}}
    with pytest.raises(MissingEntry, match=r"1 of 2 .*: b"):
        challenge_score(truth, {"a": {"emo": "sad"}})
    found = challenge_score(truth, {"a": {"emo": "sad"}}, "empty")
    assert (found.n, found.scores["acc"], found.empty) == (2, 0.5, ("b",))
    with pytest.raises(MerstoreError, match="sample b: the predicted valence is nan"):
        challenge_score({"a": {"val": 1}, "b": {"val": 0}}, {"a": {"val": 1}}, "empty")

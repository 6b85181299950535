"""Hit rates and signs are scored as AffectGPT scores them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.files import read_answers
from merstore.score.unibench import hit_rate, sign_score
from merstore.score.unibench_results import read_truth
from merstore.score.wheels import WheelTables

WORDS = ["sad", "envy", "fear", "proud", "irate", "bold", "neutral", "grumpy"]


@given(
    st.lists(
        st.tuples(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=4)), min_size=1
    )
)
def test_hit_rate_is_that_of_plain_sets(
    tables: WheelTables, samples: list[tuple[str, list[str]]]
) -> None:
    truth = {f"{n:03}": label for n, (label, _) in enumerate(samples)}
    predictions = {f"{n:03}": labels for n, (_, labels) in enumerate(samples)}
    found = hit_rate(truth, predictions, tables)
    for wheel in range(5):
        metric = f"M3W{wheel + 1}-L1"
        hits = [
            tables.project(label, metric) in {tables.project(word, metric) for word in labels}
            for label, labels in samples
            if tables.project(label, metric)
        ]
        assert found.n[wheel] == len(hits)
        assert np.array_equal(found.rates[wheel], np.mean(hits) if hits else np.nan, equal_nan=True)
    assert np.array_equal(found.rate, np.mean(found.rates), equal_nan=True)


def test_a_long_answer_costs_in_the_mixed_score_alone(tables: WheelTables) -> None:
    truth = {"a": "sad", "b": "irate"}
    found = hit_rate(truth, {"a": ["sad"], "b": ["sad", "irate", "bold"]}, tables)
    assert found.rates[0] == 1
    assert found.mixed < found.rate or np.isnan(found.mixed)


def test_answers_may_be_as_they_were_given(tables: WheelTables) -> None:
    found = hit_rate({"a": "sad", "b": "sad"}, {"a": "[sad, bold]", "b": "[]"}, tables)
    assert (found.rates[0], found.coverage.empty) == (0.5, ("b",))


def test_a_missing_prediction_is_an_error_or_misses(tables: WheelTables) -> None:
    with pytest.raises(MissingEntry, match=r"1 of 2 .*: b"):
        hit_rate({"a": "sad", "b": "sad"}, {"a": ["sad"]}, tables)
    found = hit_rate({"a": "sad", "b": "sad"}, {"a": ["sad"]}, tables, "empty")
    assert (found.rates[0], found.coverage.missing) == (0.5, ("b",))


signs = st.sampled_from(["positive", "negative", "neutral", "Positive", "mixed", ""])


@given(st.lists(st.tuples(st.sampled_from([-3.0, -0.2, 0.0, 0.1, 2.4]), signs), min_size=1))
def test_signs_are_scored_as_by_scikit_learn_bit_for_bit(samples: list[tuple[float, str]]) -> None:
    truth = {f"{n:03}": value for n, (value, _) in enumerate(samples)}
    predictions = {f"{n:03}": sign for n, (_, sign) in enumerate(samples)}
    sure = [(value > 0, sign == "positive") for value, sign in samples if value != 0]
    if not sure:
        with pytest.raises(MerstoreError, match="no sign"):
            sign_score(truth, predictions)
        return
    true, guessed = zip(*sure, strict=True)
    found = sign_score(truth, predictions)
    assert found.n == len(sure)
    assert found.waf == metrics.f1_score(true, guessed, average="weighted")
    assert found.acc == metrics.accuracy_score(true, guessed)


def test_what_is_no_sign_is_told() -> None:
    found = sign_score({"a": 1, "b": -1, "c": 0}, {"a": "Positive", "b": "mixed", "c": "odd"})
    assert found.other == {"Positive": 1, "mixed": 1}
    assert sign_score({"a": 1, "b": -1}, {"a": "positive"}, "empty").missing == ("b",)


@pytest.mark.shared
def test_published_hit_rates_to_the_last_bit(ov_data: Path, ov_tables: WheelTables) -> None:
    expected = json.loads((ov_data / "reference.json").read_text())["results"]
    from merstore.corpora import open_corpus

    labels = open_corpus("mer2023", ov_data.parent / "merbench").labels()
    names = read_answers(ov_data / "ov_store" / "check-openset.csv").by_name
    truth = {name: str(labels.samples[name].values["emo"]) for name in names}
    for name, numbers in expected.items():
        answers = read_answers(ov_data / "results-ovmerd" / f"{name}-openset.npz").labels()
        found = hit_rate(truth, answers, ov_tables)
        assert {
            "hitrate": found.rate,
            "mscore": found.mixed,
            "n_per_wheel": list(found.n),
            "hitrate_per_wheel": list(found.rates),
        } == numbers["hitrate"]


@pytest.mark.shared
def test_as_many_samples_are_scored_as_the_field_scores(
    ov_data: Path, ov_tables: WheelTables
) -> None:
    root = ov_data.parent / "merbench"
    truth = read_truth("MER2023", root)
    assert (truth.kind, len(truth.labels)) == ("class", 411)
    found = hit_rate(truth.labels, {}, ov_tables, "empty")
    assert found.n == (323, 323, 323, 323, 305)
    for corpus, test, sure in (
        ("CMUMOSI", 686, 656), ("CMUMOSEI", 4659, 3634), ("SIMS", 457, 388), ("SIMSv2", 1034, 911),
    ):  # fmt: skip
        truth = read_truth(corpus, root)
        assert (truth.kind, len(truth.labels)) == ("number", test)
        assert sign_score(truth.labels, {}, "empty").n == sure

"""What all pages of scores count alike."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from merstore.report.compared import cut, shortened
from merstore.report.counting import (
    ANOTHER,
    NOTHING,
    Confusion,
    confusion,
    fewer,
    frequencies,
    hardest,
    marks,
    mean_of_known,
)

GROUPS = ["a", "b", "c", "d"]
answers = st.lists(st.tuples(*[st.sets(st.sampled_from(range(4)))] * 2), min_size=1, max_size=8)


@given(answers)
def test_confusion_pairs_what_is_missed_with_what_is_wrong(
    pairs: list[tuple[set[int], set[int]]],
) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for true, said in pairs:
        if not true:
            continue
        expected.update((group, group) for group in true & said)
        if true != said:
            expected.update((one, two) for one in true - said or {4} for two in said - true or {4})
    true, said = (marks([pair[side] for pair in pairs], 4) for side in (0, 1))
    found = confusion("title", true, said, GROUPS)
    assert found.groups == (*GROUPS, NOTHING)
    assert found.counts.tolist() == [
        [expected[row, column] for column in range(5)] for row in range(5)
    ]


def test_what_is_rare_is_one_group() -> None:
    counts = np.array([[9, 1, 0, 2], [1, 0, 3, 0], [0, 0, 8, 4], [5, 0, 0, 0]])
    found = fewer(Confusion("title", ("a", "b", "c", NOTHING), counts), 2)
    assert found.groups == ("a", "c", ANOTHER, NOTHING)
    assert found.counts.tolist() == [[9, 0, 1, 2], [0, 8, 0, 4], [1, 3, 0, 0], [5, 0, 0, 0]]
    whole = Confusion("title", ("a", "b", "c", NOTHING), counts)
    assert fewer(whole, 3) is whole


def test_labels_are_counted_once_a_sample_in_lower_case() -> None:
    truth = {"a": ["Sad", "sad "], "b": ["sad"], "c": ["odd"]}
    found = frequencies(truth, [{"a": ["happy"], "z": ["sad"]}, {"c": ["sad"]}], "odd".__ne__)
    assert [tuple(each) for each in found] == [
        ("sad", True, 2, (0, 1)),
        ("odd", False, 1, (0, 0)),
        ("happy", True, 0, (1, 0)),
    ]


def test_the_hardest_samples_come_first_and_unscored_ones_not_at_all() -> None:
    truth = {"a": ["x"], "b": ["y"], "c": ["z"]}
    scores = np.array([[1.0, 0.0, np.nan], [0.5, 0.5, np.nan]])
    found = hardest(list("abc"), truth, [{"a": ["p"]}, {"b": ["q"]}], scores)
    assert [tuple(each) for each in found] == [
        ("b", 0.25, ["y"], [(0.0, ()), (0.5, ["q"])]),
        ("a", 0.75, ["x"], [(1.0, ["p"]), (0.5, ())]),
    ]


def test_names_are_shortened_by_what_all_have() -> None:
    assert shortened(["r/a/x-openset.npz", "r/ab/x.csv"]) == ["a/x", "ab/x.csv"]
    assert shortened(["/r/x.csv"]) == ["x.csv"]
    assert shortened(["x.csv", "r/x.csv"]) == ["x.csv", "r/x.csv"]


def test_of_equally_hard_samples_the_worse_come_first() -> None:
    truth = {name: [name] for name in "abc"}
    found = hardest(list("abc"), truth, [{}], np.zeros((1, 3)), np.array([0.5, 2, 0.5]))
    assert [each.name for each in found] == ["b", "a", "c"]


def test_a_sample_that_one_prediction_is_not_scored_on_has_the_mean_of_the_others() -> None:
    found = mean_of_known(np.array([[1, np.nan], [0.5, 0.25], [np.nan, np.nan]]))
    np.testing.assert_array_equal(found, [1, 0.375, np.nan])


def test_classes_are_counted_as_they_are_spelt() -> None:
    found = frequencies({"a": ["Sad"], "b": ["sad"]}, [{"a": ["sad"]}], exact=True)
    assert [tuple(each) for each in found] == [("sad", None, 1, (1,)), ("Sad", None, 1, (0,))]


def test_what_is_too_long_loses_its_middle() -> None:
    assert cut("short", 5) == "short"
    assert cut("beginning/and/end", 8) == "beg…/end"
    assert len(cut("x" * 999)) == 60

"""Answers become labels by the rules of the published scripts, whatever a model wrote."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.corpora.labels import word_list
from merstore.errors import MerstoreError
from merstore.score.labels import join_labels, parse_groups, parse_labels, parse_labels_2024

answers = st.text(st.sampled_from("[]'\", ab中，;\n"), max_size=20)


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("['happy', 'calm']", ["happy", "calm"]),
        ("[happy, calm]", ["happy", "calm"]),
        ('["Happy" , calm, calm]', ["Happy", "calm", "calm"]),
        ("happy", ["happy"]),
        ("", []),
        ("[]", []),
        ("[", []),
        ("]", []),
        ("[[happy], [sad]]", ["[happy]", "[sad]"]),
        ("[],focused,attentive", ["]", "focused", "attentive"]),
        ("[happy，sad]", ["happy，sad"]),
        ("happy; sad", ["happy; sad"]),
        ("she isn't sad, and\nhappy.", ["she isn", "t sad", "and\nhappy."]),
        (" [happy]", ["[happy"]),
        ("“happy”", ["“happy”"]),
        (None, []),
        (math.nan, []),
        (np.float32("nan"), []),
        (b"[happy, \xe5\x96\x9c]", ["happy", "喜"]),
        (np.str_("[happy]"), ["happy"]),
        (["Happy ", "sad, calm"], ["Happy ", "sad, calm"]),
        (("happy",), ["happy"]),
        (np.array(["happy", "sad"]), ["happy", "sad"]),
        (np.array("[happy, sad]"), ["happy", "sad"]),
    ],
)
def test_the_list_rule(answer: Any, labels: list[str]) -> None:
    assert parse_labels(answer) == labels
    assert all(type(label) is str for label in parse_labels(answer))


@given(answers)
def test_it_is_the_rule_that_label_files_are_read_by(text: str) -> None:
    assert parse_labels(text) == list(word_list(text))


@given(answers)
def test_joined_labels_are_read_back(text: str) -> None:
    labels = parse_labels(text)
    assert parse_labels(join_labels(labels)) == labels


@pytest.mark.parametrize("answer", [7, 0.5, {"happy"}, {"a": 1}, b"\xff", [1], [["happy"]]])
def test_what_is_no_text_is_refused(answer: Any) -> None:
    with pytest.raises(MerstoreError, match="labels"):
        parse_labels(answer)


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("['happy', 'calm']", ["happy", "calm"]),
        ("so: ['happy'] or ['sad']", ["happy"]),
        ("[happy, calm]", ["happy, calm"]),
        ("[' happy ', '']", [" happy "]),
        ("['happy', 'cal", ["happy", "cal"]),
        ("happy", []),
        ("", []),
        (math.nan, []),
        (["happy"], ["happy"]),
    ],
)
def test_mer2024s_rule(answer: Any, labels: list[str]) -> None:
    assert parse_labels_2024(answer) == labels


def test_groups_of_words_are_told_apart_by_brackets() -> None:
    assert parse_groups("[['happy', 'glad'], [\"sad\"], []]") == [["happy", "glad"], ["sad"]]
    assert parse_groups("") == []

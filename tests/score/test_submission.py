"""What is handed in is complete and loads without pickle, or is not written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.files import read_answers
from merstore.score.labels import parse_labels
from merstore.score.submission import write_classes, write_openset

NAMES = ["s2", "s1", "样本"]
ANSWERS = {"s1": "happy, 'calm'", "s2": [], "样本": "[喜, sad]"}


def test_openset_is_two_unicode_arrays_in_the_order_of_the_candidates(tmp_path: Path) -> None:
    path = tmp_path / "ours-openset.npz"
    write_openset(path, ANSWERS, NAMES)
    with np.load(path, allow_pickle=False) as found:
        assert {name: found[name].dtype.kind for name in found} == {
            "filenames": "U",
            "fileitems": "U",
        }
        assert found["filenames"].tolist() == NAMES
        assert found["fileitems"].tolist() == ["[]", "[happy, calm]", "[喜, sad]"]
    assert list(tmp_path.iterdir()) == [path]


@given(
    st.dictionaries(
        st.text("ab", min_size=1), st.text(st.sampled_from("[]'\", ab中\n")), min_size=1
    )
)
def test_what_is_handed_in_scores_as_the_answers(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("out") / "a-openset.npz"
    write_openset(path, answers, list(answers))
    assert read_answers(path).labels() == {n: parse_labels(a) for n, a in answers.items()}


REFUSED: dict[str, tuple[str, dict[str, Any], list[str], type[MerstoreError], str]] = {
    "another name": ("ours.npz", ANSWERS, NAMES, MerstoreError, r"only files named \*-openset\.npz"),
    "a missing answer": ("a-openset.npz", {"s1": ""}, NAMES, MissingEntry, "2 of 3 .*: s2, 样本"),
    "one too many": ("a-openset.npz", ANSWERS, NAMES[:2], MerstoreError, "1 answers are of no candidate: 样本"),
    "two of a candidate": ("a-openset.npz", ANSWERS, NAMES * 2, MerstoreError, "3 candidates are listed twice: s1"),
    "no candidate": ("a-openset.npz", {}, [], MerstoreError, "no candidate"),
    "no text": ("a-openset.npz", {"s1": 7}, ["s1"], MerstoreError, "sample s1: labels are a text"),
    "a zero at the end": ("a-openset.npz", {"s1\0": "sad"}, ["s1\0"], MerstoreError, "zero character"),
    "no such folder": ("no/a-openset.npz", ANSWERS, NAMES, MerstoreError, "No such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_written(tmp_path: Path, case: str) -> None:
    name, answers, names, error, told = REFUSED[case]
    with pytest.raises(error, match=told):
        write_openset(tmp_path / name, answers, names)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a-openset.npz"
    path.write_text("mine")
    with pytest.raises(MerstoreError, match="is there already"):
        write_openset(path, ANSWERS, NAMES)
    assert path.read_text() == "mine"


class TestClasses:
    def test_mer2025s_and_mer2023s_columns(self, tmp_path: Path) -> None:
        classes = {"a,b": "sad", "c": "happy"}
        write_classes(tmp_path / "one.csv", classes, ["c", "a,b"])
        assert (tmp_path / "one.csv").read_text() == 'name,discrete\nc,happy\n"a,b",sad\n'
        write_classes(tmp_path / "two.csv", classes, ["c", "a,b"], {"a,b": -1 / 3, "c": 2})
        assert (tmp_path / "two.csv").read_text() == (
            'name,discrete,valence\nc,happy,2.0\n"a,b",sad,-0.3333333333333333\n'
        )

    @pytest.mark.parametrize(
        ("classes", "values", "told"),
        [
            ({"a": "joy"}, None, "no class joy: there are neutral, angry, .*; correct a$"),
            ({"a": ""}, None, "no class ''.*; correct a$"),
            ({"a": "sad"}, {"a": float("nan")}, "valence of a is no finite number"),
            ({"a": "sad"}, {"a": "much"}, "valence of a is no finite number"),
            ({"a": "sad"}, {}, "1 of 1 candidates have no answer"),
            ({}, None, "1 of 1 candidates have no answer"),
        ],
    )
    def test_what_is_not_written(
        self, tmp_path: Path, classes: dict[str, str], values: dict[str, Any] | None, told: str
    ) -> None:
        with pytest.raises(MerstoreError, match=told):
            write_classes(tmp_path / "one.csv", classes, ["a"], values)
        assert list(tmp_path.iterdir()) == []

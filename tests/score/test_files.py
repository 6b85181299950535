"""Answers are read from every kind of file that scripts write, and never by running a pickle."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import MerstoreError
from merstore.score.files import prediction_files, read_answers, read_rows

ANSWERS = {"s2": "[happy, 'calm']", "s1": "[]", "样本": "prose, and more"}
LABELS = {"s2": ["happy", "calm"], "s1": [], "样本": ["prose", "and more"]}


def write(path: Path, form: str, answers: dict[str, str] = ANSWERS) -> Path:
    names, items = list(answers), list(answers.values())
    if form == "unicode":
        np.savez_compressed(path, filenames=np.array(names), fileitems=np.array(items))
    elif form == "bytes":
        np.savez(path, filenames=[n.encode() for n in names], fileitems=[i.encode() for i in items])
    elif form == "objects":
        np.savez(path, filenames=np.array(names, object), fileitems=np.array(items, object))
    elif form == "lists":
        ragged = np.empty(len(names), object)
        ragged[:] = [LABELS[name] for name in names]
        np.savez(path, filenames=np.array(names), fileitems=ragged)
    elif form == "name2reason":
        np.savez_compressed(path, name2reason={np.str_(n): i for n, i in answers.items()})
    elif form in ("csv", "tsv"):
        mark = "," if form == "csv" else "\t"
        rows = ["name,openset".replace(",", mark)]
        rows += [f'{n}{mark}"{i}"' for n, i in answers.items()]
        path.write_text("\n".join(rows) + "\n", "utf-8")
    elif form == "jsonl":
        rows = [json.dumps({"name": n, "openset": i, "other": 1}) for n, i in answers.items()]
        path.write_text("\n".join(rows) + "\n\n", "utf-8")
    elif form == "jsonl of lists":
        rows = [json.dumps({"name": n, "labels": LABELS[n]}) for n in answers]
        path.write_text("\n".join(rows), "utf-8")
    return path


FORMS = {
    "unicode": "p-openset.npz", "bytes": "p-openset.npz", "objects": "p-openset.npz", "lists": "p-openset.npz",
    "name2reason": "p.npz", "csv": "p.csv", "tsv": "p.tsv", "jsonl": "p.jsonl", "jsonl of lists": "p.jsonl",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_file_gives_the_same_labels(tmp_path: Path, form: str) -> None:
    answers = read_answers(write(tmp_path / FORMS[form], form))
    assert answers.labels() == LABELS
    assert list(answers.by_name) == list(LABELS)
    assert answers.described == (form == "name2reason")


def test_a_wide_array_of_texts_is_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merstore.corpora.pickled._CHUNK", 1000)
    answers = {f"s{n}": "x" * n for n in range(1, 100)}
    assert read_answers(write(tmp_path / "p.npz", "unicode", answers)).by_name == answers


def test_an_array_in_another_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, filenames=np.array(["é"], ">U5"), fileitems=np.array(["sad"], ">U7"))
    assert read_answers(path).by_name == {"é": "sad"}


def test_texts_are_as_they_stand_there(tmp_path: Path) -> None:
    """AffectGPT's scorer compares signs as they are: `` positive`` is none."""
    path = tmp_path / "p.npz"
    np.savez(path, filenames=["a", "b"], fileitems=["positive", " positive"])
    assert read_answers(path).texts() == {"a": "positive", "b": " positive"}


def test_nan_and_none_are_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, filenames=["a", "b"], fileitems=np.array([float("nan"), None], object))
    assert read_answers(path).labels() == {"a": [], "b": []}
    assert read_answers(path).texts() == {"a": "", "b": ""}
    (tmp_path / "p.jsonl").write_text('{"name": "a", "openset": NaN}\n{"name": "b"}\n')
    assert read_answers(tmp_path / "p.jsonl").labels() == {"a": [], "b": []}


def test_a_column_by_its_name_or_the_only_other_one(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name,id,openset\na,7,sad\n")
    assert read_answers(path).by_name == {"a": "sad"}
    path.write_text("names,anything\na,sad\n")
    assert read_answers(path).by_name == {"a": "sad"}
    path.write_text("name,reason,id\na,she is sad,7\n")
    assert read_answers(path).described


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("array", ["fileitems", "name2reason"])
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, array: str) -> None:
    made, path = tmp_path / "made", tmp_path / "p.npz"
    items = np.array([Runs(made), "sad"], object)
    if array == "fileitems":
        np.savez(path, filenames=["a", "b"], fileitems=items)
    else:
        np.savez(path, name2reason={"a": Runs(made)})
    with pytest.raises(MerstoreError, match=rf"p\.npz: array {array}: the name posix\.mkdir"):
        read_answers(path)
    assert not made.exists()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "two of a name": ({"filenames": ["b", "a", "b"], "fileitems": ["x", "y", "z"]}, "a name is there twice: b"),
    "more names": ({"filenames": ["a", "b"], "fileitems": ["x"]}, "2 filenames but 1 fileitems"),
    "no names": ({"filenames": [1, 2], "fileitems": ["x", "y"]}, "1 is no sample's name"),
    "an empty name": ({"filenames": [""], "fileitems": ["x"]}, "'' is no sample's name"),
    "other arrays": ({"emo_probs": [0.5]}, "it has emo_probs, not filenames"),
    "a table": ({"filenames": [["a"]], "fileitems": [["x"]]}, "is no list of texts"),
    "reasons without names": ({"name2reason": np.array(["x"], object)}, "no dictionary"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_are_no_answers(tmp_path: Path, case: str) -> None:
    arrays, told = BAD[case]
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(MerstoreError, match=rf"p\.npz: .*{told}"):
        read_answers(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.csv", "name,openset\na,x\na,y\n", "a name is there twice: a"),
        ("p.csv", "name,openset\na,x,y\n", "line 2: 3 cells under 2"),
        ("p.csv", 'name,openset\na,"x\n', "line 2: quotes that do not match"),
        ("p.csv", "name,one,two\na,x,y\n", "no column 'openset'; it has: name, one, two"),
        ("p.csv", "", "no header line"),
        ("p.jsonl", '{"name": "a", "openset": "x"}\n[', "line 2: no JSON"),
        ("p.jsonl", '["a"]', 'line 1: an object with a "name"'),
        ("p.jsonl", '{"name": 7, "openset": "x"}', "7 is no sample's name"),
        ("p.txt", "a: sad", "give npz"),
        ("p.npz", "no npz", "no npz file"),
    ],
)
def test_texts_that_are_no_answers(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MerstoreError, match=rf"/p\.\w+[:,] .*{told}") as caught:
        read_answers(tmp_path / name)
    assert str(caught.value).count(name) == 1


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    for name in ("p.csv", "p.jsonl", "p.npz"):
        with pytest.raises(MerstoreError, match=rf"{name}: No such file"):
            read_answers(tmp_path / name)
    (tmp_path / "p.jsonl").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(MerstoreError, match="no UTF-8"):
        read_answers(tmp_path / "p.jsonl")


def test_a_label_that_is_no_text_is_told_with_file_and_sample(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"name": "a", "openset": ["sad", 7]}')
    with pytest.raises(MerstoreError, match=r"p\.jsonl: sample a: labels are a text .* int '7'"):
        read_answers(tmp_path / "p.jsonl").labels()


class TestRows:
    def test_of_a_label_file(self, tmp_path: Path) -> None:
        rows = {"a": {"emo": "sad", "val": -1.5}}
        np.savez(tmp_path / "label-6way.npz", test1_corpus=rows)
        assert read_rows(f"{tmp_path}/label-6way.npz#test1_corpus") == rows

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("label.npz", r"say which of its arrays: .*label\.npz#ARRAY, one of a, b"),
            ("label.npz#c", "no array 'c'; it has: a, b"),
            ("label.npz#b", "array b is no dictionary"),
            ("label.txt", "give csv"),
        ],
    )
    def test_of_what_is_none(self, tmp_path: Path, source: str, told: str) -> None:
        np.savez(tmp_path / "label.npz", a={"s": {"emo": 1}}, b={"s": 1})
        with pytest.raises(MerstoreError, match=told):
            read_rows(f"{tmp_path}/{source}")


class TestFolders:
    def test_labels_are_found_and_descriptions_passed_over(self, tmp_path: Path) -> None:
        for name in ("b/x-openset.npz", "b/x.npz", "b/x-openset-sentiment.npz", "a.csv", "n.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert list(prediction_files(f"{tmp_path}/")) == [
            f"{tmp_path}/a.csv", f"{tmp_path}/b/x-openset.npz",
        ]  # fmt: skip

    def test_descriptions_in_sheets_are_passed_over_too(self, tmp_path: Path) -> None:
        sheets = {
            "a.csv": "name,reason\na,She is sad.\n",
            "b.jsonl": '{"name": "a", "reason": "She is sad."}\n',
            "c.csv": "name,reason,openset\na,She is sad.,[sad]\n",
            "d.tsv": "name\tdiscrete\tvalence\na\tsad\t1\n",
        }
        for name, text in sheets.items():
            (tmp_path / name).write_text(text)
        assert list(prediction_files(str(tmp_path))) == [f"{tmp_path}/c.csv", f"{tmp_path}/d.tsv"]

    def test_a_file_is_itself(self) -> None:
        assert prediction_files("./a.npz") == {"./a.npz": Path("a.npz")}

    def test_none_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match="labels are extracted from descriptions first"):
            prediction_files(str(tmp_path))

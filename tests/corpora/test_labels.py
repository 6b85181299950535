"""Labels: values by field, splits, and what is no label."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.corpora.labels import Label, Labels, read_labels, word_list
from merstore.corpora.table import Field, LabelTable, parse_table
from merstore.errors import InvalidKey, MerstoreError

from .conftest import write_csv, write_npz

EMO = {"classes": ["neutral", "angry", "happy"], "columns": ["emo", "discrete"]}
VAL = {"type": "number", "columns": ["val", "valence"], "absent": -10}


def table(fields: dict[str, Any], **splits: Any) -> LabelTable:
    parsed = parse_table("c", {"labels": {"main": {"fields": fields, "splits": splits}}}, "test")
    return parsed.labels["main"]


def one(folder: Path, field: dict[str, Any], value: Any) -> tuple[Any, list[str]]:
    """How one value of one field is read from an npz file, and the kinds of problems."""
    write_npz(folder / "label.npz", train_corpus={"s": {"x": value}, "other": {"x": None}})
    read = read_labels(
        folder, table({"x": field}, train={"from": "label.npz#train_corpus", "where": "s$"})
    )
    return read.samples["s"].values["x"], [problem.kind for problem in read.problems]


@pytest.mark.parametrize(
    ("value", "label", "problems"),
    [
        ("happy", "happy", []),
        (2, "happy", []),
        (np.int64(1), "angry", []),
        (np.str_("angry"), "angry", []),
        (3, None, ["unknown_label"]),
        (-1, None, ["unknown_label"]),
        (True, None, ["unknown_label"]),
        ("Happy", None, ["unknown_label"]),
        ("", None, ["missing_label"]),
        (None, None, ["missing_label"]),
    ],
)
def test_a_class_is_a_name_or_its_position(
    tmp_path: Path, value: Any, label: Any, problems: list[str]
) -> None:
    assert one(tmp_path, {"classes": EMO["classes"]}, value) == (label, problems)


@pytest.mark.parametrize(
    ("value", "label", "problems"),
    [
        (0.1, 0.1, []),
        (np.float32(0.1), float(np.float32(0.1)), []),
        (2, 2.0, []),
        ("-1.25", -1.25, []),
        (-10, None, []),
        (-10.0, None, []),
        (None, None, []),
        ("", None, []),
        (float("nan"), None, ["bad_number"]),
        ("inf", None, ["bad_number"]),
        ("high", None, ["bad_number"]),
        (True, None, ["bad_number"]),
        ([1], None, ["bad_number"]),
    ],
)
def test_a_number_that_stands_for_nothing_is_none_and_a_bad_one_is_reported(
    tmp_path: Path, value: Any, label: Any, problems: list[str]
) -> None:
    assert one(tmp_path, VAL | {"columns": ["x"]}, value) == (label, problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("['happy', 'calm']", ("happy", "calm")),
        ("happy, calm", ("happy", "calm")),
        ('["a"b, c ]', ("a", "b", "c")),
        ("[],focused,attentive", ("]", "focused", "attentive")),
        ("[", ()),
        ("[]", ()),
        ("", ()),
        ("不安；紧张", ("不安；紧张",)),
        ("anger and fear", ("anger and fear",)),
    ],
)
def test_the_list_rule(text: str, words: tuple[str, ...]) -> None:
    assert word_list(text) == words


def doubled(depth: int) -> list[Any]:
    """A list that is small in memory and whose text has 2**depth pieces."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "field",
    [VAL, {"classes": ["a"]}, {"type": "list"}, {"type": "text"}],
    ids=["number", "class", "list", "text"],
)
@pytest.mark.parametrize(
    "value",
    [doubled(60), 10**400, ("a", "b", 1), {"a": 1}, "\ud800", ["\ud800"]],
    ids=["doubled", "large", "mixed", "nested", "surrogate", "surrogates"],
)
def test_values_that_nobody_wrote_as_labels_are_reported(
    tmp_path: Path, field: dict[str, Any], value: Any
) -> None:
    label, problems = one(tmp_path, field | {"columns": ["x"]}, value)
    assert label is None
    assert len(problems) == 1


def test_lists_and_texts_of_a_csv_file(tmp_path: Path) -> None:
    rows = [["name", "openset", "reason"], ["a", "['x', 'y']", "because, 因为"], ["b", "", ""]]
    write_csv(tmp_path / "ov.csv", rows)
    fields = {"openset": {"type": "list"}, "reason": {"type": "text"}}
    read = read_labels(tmp_path, table(fields, train={"from": "ov.csv"}))
    assert read.samples == {
        "a": Label("train", {"openset": ("x", "y"), "reason": "because, 因为"}),
        "b": Label("train", {"openset": (), "reason": None}),
    }
    assert [(p.kind, p.sample) for p in read.problems] == [("missing_label", "b")]


def test_samples_keep_the_order_of_splits_and_files(tmp_path: Path) -> None:
    write_npz(
        tmp_path / "l.npz",
        a={"z": {"emo": 0}, "b": {"emo": 1}},
        b={"c": {"emo": 2}, "a": {"emo": 0}},
    )
    read = read_labels(
        tmp_path, table({"emo": EMO}, second={"from": "l.npz#b"}, first={"from": "l.npz#a"})
    )
    assert read.splits() == {"second": ["c", "a"], "first": ["z", "b"]}
    assert list(read.samples) == ["c", "a", "z", "b"]


def test_splits_by_name(tmp_path: Path) -> None:
    whole = {f"Ses0{n}F_x": {"emo": 0} for n in (1, 2, 1)} | {"Ses02M_y": {"emo": 1}}
    write_npz(tmp_path / "l.npz", whole=whole)
    splits = {f"session{n}": {"from": "l.npz#whole", "where": f"....{n}"} for n in (1, 2)}
    read = read_labels(tmp_path, table({"emo": EMO}, **splits))
    assert read.splits() == {"session1": ["Ses01F_x"], "session2": ["Ses02F_x", "Ses02M_y"]}


def test_the_first_file_that_is_there_counts(tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", [["name", "discrete", "valence"], ["a", "angry", "-2.5"]])
    declared = table(
        {"emo": EMO, "val": VAL}, train={"from": ["label.npz#train_corpus", "raw.csv"]}
    )
    read = read_labels(tmp_path, declared)
    assert read.samples == {"a": Label("train", {"emo": "angry", "val": -2.5})}
    assert list(read.sources) == ["raw.csv"]
    write_npz(tmp_path / "label.npz", train_corpus={"b": {"emo": "happy", "val": 1.0}})
    assert list(read_labels(tmp_path, declared).samples) == ["b"]


def test_placeholders_are_no_labels(tmp_path: Path) -> None:
    unlabelled = {name: {"emo": "neutral"} for name in "xyz"}
    write_npz(
        tmp_path / "l.npz", train={"a": {"emo": "neutral"}, "b": {"emo": "happy"}}, test1=unlabelled
    )
    declared = table(
        {"emo": EMO | {"placeholder": "neutral"}},
        train={"from": "l.npz#train"},
        test1={"from": "l.npz#test1"},
    )
    read = read_labels(tmp_path, declared)
    assert [read.samples[name].values["emo"] for name in "abxyz"] == [
        "neutral",
        "happy",
        None,
        None,
        None,
    ]
    assert [p.kind for p in read.problems] == ["placeholder"]


def test_an_unlabelled_split_has_none_whatever_the_file_says(tmp_path: Path) -> None:
    write_csv(tmp_path / "candidates.csv", [["name", "emo"], ["a", "happy"], ["b", "angry"]])
    read = read_labels(
        tmp_path, table({"emo": EMO}, test={"from": "candidates.csv", "unlabelled": True})
    )
    assert read.samples == {name: Label("test", {"emo": None}) for name in "ab"}
    assert not read.problems


def test_a_sample_that_stands_twice_is_reported_and_never_chosen_between(tmp_path: Path) -> None:
    rows = [["name", "emo"], ["a", "happy"], ["a", "angry"], ["b", "happy"], ["b", "happy"]]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", [["name", "emo"], ["b", "angry"]])
    read = read_labels(
        tmp_path, table({"emo": EMO}, train={"from": "train.csv"}, test={"from": "test.csv"})
    )
    assert read.samples["a"] == Label("train", {"emo": None})
    assert read.samples["b"] == Label("train", {"emo": "happy"})
    assert [(p.kind, p.sample) for p in read.problems] == [
        ("repeated_sample", name) for name in "abb"
    ]


def test_names_that_cannot_be_keys_and_cells_that_are_no_text_are_reported(tmp_path: Path) -> None:
    write_npz(tmp_path / "l.npz", train={"a/b": {"emo": 0}, "": {"emo": 0}, "é": {"emo": 0}})
    read = read_labels(tmp_path, table({"emo": EMO}, train={"from": "l.npz#train"}))
    assert list(read.samples) == ["é"]
    assert [p.kind for p in read.problems] == ["bad_name", "bad_name"]
    lines = ["name,note", *(f"s{n},因为" for n in range(3))]
    (tmp_path / "n.csv").write_bytes("\n".join(lines).encode() + b"\nbad,\xe4\xbd\n")
    read = read_labels(tmp_path, table({"note": {"type": "text"}}, train={"from": "n.csv"}))
    assert read.samples["bad"].values == {"note": None}
    assert [(p.kind, p.sample) for p in read.problems] == [("undecodable", "bad")]


def test_a_split_whose_file_is_not_there_is_reported_unless_it_may_be_absent(
    tmp_path: Path,
) -> None:
    write_npz(tmp_path / "l.npz", train={"a": {"emo": 0}})
    splits = {"train": {"from": "l.npz#train"}, "test1": {"from": "l.npz#test1"}}
    read = read_labels(tmp_path, table({"emo": EMO}, **splits))
    assert [(p.kind, p.message) for p in read.problems] == [
        ("missing_split", "split test1: no l.npz#test1")
    ]
    splits["test1"]["optional"] = True  # type: ignore[assignment]
    assert not read_labels(tmp_path, table({"emo": EMO}, **splits)).problems


def test_files_that_cannot_be_read_are_errors_that_name_them(tmp_path: Path) -> None:
    declared = table({"emo": EMO}, train={"from": ["l.npz#train", "l.csv"]})
    with pytest.raises(MerstoreError, match=r"no label file l\.npz, l\.csv"):
        read_labels(tmp_path, declared)
    write_csv(tmp_path / "l.csv", [["name", "emotion"], ["a", "happy"]])
    with pytest.raises(
        MerstoreError, match=r"l\.csv: no column emo or discrete; it has: name, emotion"
    ):
        read_labels(tmp_path, declared)
    write_npz(tmp_path / "l.npz", train=["a", "b"])
    with pytest.raises(MerstoreError, match=r"l\.npz: array train is no dictionary"):
        read_labels(tmp_path, declared)


def test_columns_of_numbers_for_the_loader() -> None:
    emo = Field("emo", "class", ("emo",), ("sad", "glad"))
    fields = {
        "emo": emo,
        "val": Field("val", "number", ("val",)),
        "say": Field("say", "text", ("say",)),
    }
    samples = {
        "a": Label("train", {"emo": "glad", "val": 0.0, "say": "x"}),
        "b": Label("train", {"emo": None, "val": None, "say": None}),
        "c": Label("train", {"emo": "sad", "val": -1.5, "say": "y"}),
    }
    labels = Labels("main", fields, samples, [], {})
    assert labels.column("emo") == {"a": 1, "c": 0}
    assert labels.column("val") == {"a": 0.0, "c": -1.5}
    for field in ("say", "none"):
        with pytest.raises(InvalidKey, match="no numbers"):
            labels.column(field)

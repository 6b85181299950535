"""Tables: what may be declared, and how a slip is told."""

import re
from typing import Any

import pytest

from merstore.corpora.table import parse_table
from merstore.errors import InvalidKey, MerstoreError


def test_one_text_is_a_list_of_one_and_all_else_has_a_default() -> None:
    table = parse_table("c", {"media": {"video": {"folders": "v", "files": "{name}.mp4"}}}, "f")
    assert table.media["video"].candidates("x") == ["v/x.mp4"]
    assert (table.samples, table.modalities, table.labels) == (None, ["video"], {})
    assert parse_table("empty", None, "f").modalities == []


def test_candidates_go_folder_by_folder() -> None:
    declared = {"folders": ["new", "old"], "files": ["{name}/{name}.npy", "{name}.npy"]}
    media = parse_table("c", {"media": {"face": declared}}, "f").media["face"]
    assert media.candidates("{x}") == [
        "new/{x}/{x}.npy",
        "new/{x}.npy",
        "old/{x}/{x}.npy",
        "old/{x}.npy",
    ]


def sized(*sizes: Any, **more: Any) -> Any:
    splits = {f"s{n}": {"from": "l.csv", "samples": size} for n, size in enumerate(sizes)}
    return parse_table("c", {"labels": {"main": {"splits": splits} | more}}, "f").samples


def test_the_number_of_samples_is_known_only_where_it_is_declared() -> None:
    assert sized(3, 4) == 7
    assert sized(3, [4, 5]) is None
    assert sized(3, None) is None
    assert sized(3, None, samples=9) == 9
    two = {"labels": {name: {"splits": {"a": {"from": "l.csv", "samples": 3}}} for name in "xy"}}
    assert parse_table("c", two, "f").samples is None  # the sets may overlap
    assert parse_table("c", two | {"samples": 3}, "f").samples == 3


LABELS = {
    "main": {"fields": {"emo": {"classes": ["a", "b"]}}, "splits": {"all": {"from": "l.csv"}}}
}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("text", "a mapping is wanted"),
        ({"alias": ["X"]}, "alias: not known here; did you mean aliases?"),
        ({"aliases": [1]}, "aliases: a list of str, not [1] (quotes make a text)"),
        ({"aliases": True}, "aliases: True is of the wrong type"),
        ({"media": {"video": {"folders": "v"}}}, "media: video: files: is needed"),
        ({"media": {"video": {"folders": "v", "files": "x.mp4"}}}, "where the sample's name goes"),
        ({"media": {"video": {"folders": "v", "files": "{name}", "ext": 1}}}, "media: video: ext: not known"),
        ({"labels": {"main": {"fields": {}}}}, "labels: main: splits: at least one is needed"),
        ({"labels": {"a b": LABELS["main"]}}, "'a b' is no part of a view's path"),
        ({"labels": {6: LABELS["main"]}}, "labels: 6 is no name"),
        ({"labels": {"main": {"splits": {"all": {}}}}}, "splits: all: from: is needed"),
        ({"labels": {"main": {"splits": {"all": {"from": "l", "where": "("}}}}}, "no regular expression"),
        ({"labels": {"main": {"splits": {"all": {"from": "l", "optional": 1}}}}}, "optional: 1 is of the wrong"),
        ({"labels": {"main": {"fields": {"x": {"type": "word"}}}}}, "fields: x: type: class, number"),
        ({"labels": {"main": {"fields": {"x": {"type": "class"}}}}}, "a class has its classes"),
        ({"labels": {"main": {"fields": {"x": {"classes": ["a"], "placeholder": "b"}}}}}, "'b' is none of"),
        ({"labels": {"main": {"fields": {"x": {"type": "number", "absent": "-10"}}}}}, "'-10' is of the wrong"),
        ({"transcripts": {"en": {"from": "texts.csv"}}}, "file#column, not 'texts.csv'"),
        ({"transcripts": {"en": {"from": "t#x", "language": "de"}}}, "language: one of zh, en"),
        ({"samples": "many"}, "samples: 'many' is of the wrong type"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_file_corpus_and_part(declared: Any, message: str) -> None:
    with pytest.raises(MerstoreError, match=r"^own\.yaml: mine: .*" + re.escape(message)):
        parse_table("mine", declared, "own.yaml")


@pytest.mark.parametrize("key", ["", "a/b", "-x", "a b", "é"])
def test_a_key_must_fit_a_views_path(key: str) -> None:
    with pytest.raises(MerstoreError, match="a corpus's key is"):
        parse_table(key, {}, "f")


def test_what_a_corpus_does_not_have_is_told_with_what_it_has() -> None:
    table = parse_table("c", {"labels": LABELS}, "f")
    assert table.labels_of(None).name == "main"
    with pytest.raises(InvalidKey, match="corpus c has no labels 6way \\(it has: main\\)"):
        table.labels_of("6way")
    with pytest.raises(InvalidKey, match="corpus c has no transcripts  \\(it has: none\\)"):
        table.transcripts_of(None)

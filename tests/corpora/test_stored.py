"""Labels and transcripts in a store come back exactly, with nothing but the store."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import merstore
from merstore.corpora import (
    Corpus,
    open_corpus,
    read_labels,
    read_transcripts,
    store_labels,
    tables,
)
from merstore.corpora.labels import Label, Labels
from merstore.corpora.stored import LABEL
from merstore.corpora.table import Field, LabelTable, Split, Table, TranscriptTable
from merstore.corpora.transcripts import Transcripts
from merstore.errors import CorruptEntry, MerstoreError, ReadOnlyStore, SpecMismatch, UnknownView
from merstore.store.store import Store

from .conftest import write_csv, write_npz

VIEWS = ["mer2023/label/6way", "mer2023/text/english", "mer2023/text/chinese"]


def test_a_store_is_self_contained(store: Store, mer2023: Path) -> None:
    corpus = open_corpus("mer2023", mer2023)
    labels, english = corpus.labels(), corpus.transcripts("english")
    assert store_labels(store, corpus) == VIEWS
    shutil.rmtree(mer2023)
    back = read_labels(store, "mer2023")
    assert list(back.samples.items()) == list(labels.samples.items())
    assert (back.name, back.fields, back.sources) == (labels.name, labels.fields, labels.sources)
    assert back.splits() == labels.splits()
    assert back.column("emo") == labels.column("emo")
    texts = read_transcripts(store, "mer2023", "english")
    assert texts.texts == english.texts
    assert (texts.name, texts.language, texts.sources) == ("english", "en", english.sources)
    assert store.verify() == []


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=9
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
values = st.fixed_dictionaries(
    {
        "emo": st.sampled_from(["sad", "glad", None]),
        "val": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "words": st.lists(texts, max_size=3).map(tuple),
        "say": st.none() | texts,
    }
)
FIELDS = {
    "emo": Field("emo", "class", ("emo", "discrete"), ("sad", "glad"), placeholder="sad"),
    "val": Field("val", "number", ("val",), absent=-10.0),
    "words": Field("words", "list", ("words",)),
    "say": Field("say", "text", ("say",)),
}


class Given(Corpus):
    """A corpus whose labels and texts are given instead of read."""

    def __init__(self, labels: Labels, texts: Transcripts) -> None:
        split = Split("train", ("l.csv",))
        label_table = LabelTable("main", FIELDS, {"train": split})
        text_table = TranscriptTable("spoken", ("t.csv#x",))
        super().__init__(
            Table("any", labels={"main": label_table}, transcripts={"spoken": text_table}), Path()
        )
        self._given = labels, texts

    def has(self, sources: Any) -> bool:
        return True

    def labels(self, name: str | None = None) -> Labels:
        return self._given[0]

    def transcripts(self, name: str | None = None) -> Transcripts:
        return self._given[1]


@given(
    samples=st.dictionaries(
        names, st.builds(Label, st.sampled_from(["train", "测试"]), values), max_size=5
    ),
    said=st.dictionaries(names, texts, max_size=5),
)
def test_any_labels_and_any_unicode_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[str, Label], said: dict[str, str]
) -> None:
    labels = Labels("main", FIELDS, samples, [], {"l.csv": "0" * 64})
    transcripts = Transcripts("spoken", None, said, [], {"t.csv": "1" * 64})
    with merstore.open(tmp_path_factory.mktemp("stored") / "s.mer", "a") as store:
        store_labels(store, Given(labels, transcripts))
        back = read_labels(store, "any", "main")
        assert list(back.samples.items()) == list(samples.items())
        assert back.fields == FIELDS
        assert read_transcripts(store, "any").texts == said


def test_a_sample_without_a_text_has_a_failure_that_says_why(store: Store, mer2023: Path) -> None:
    lines = [
        "name,chinese,english",
        "sample_00000002,好,",
        "sample_00000001,好，,好,x",
        "sample_00000003,好,nan",
    ]
    (mer2023 / "transcription-engchi-polish.csv").write_text("\n".join(lines), encoding="utf-8")
    corpus = open_corpus("mer2023", mer2023)
    store_labels(store, corpus)
    kinds = {failure.name: failure.kind for failure in store.failures("mer2023/text/english")}
    assert kinds == {
        "sample_00000002": "empty_text",
        "sample_00000001": "shifted_row",
        "sample_00000003": "nan_text",
        "sample_00000004": "missing_text",
        "samplenew_00000005": "missing_text",
    }
    back = read_transcripts(store, "mer2023", "english")
    assert {p.sample: p for p in back.problems} == {
        p.sample: p for p in corpus.transcripts().problems
    }


def test_writing_again_changes_nothing_and_adds_what_is_missing(
    store: Store, mer2023: Path
) -> None:
    (mer2023 / "transcription-engchi-polish.csv").write_text(
        "name,chinese,english\n", encoding="utf-8"
    )
    corpus = open_corpus("mer2023", mer2023)
    store_labels(store, corpus)
    label, text = store[VIEWS[0]], store[VIEWS[1]]
    del label["sample_00000001"]
    store_labels(store, corpus)
    assert list(read_labels(store, "mer2023").samples) == corpus.samples()
    written = [view.record for view in (label, text)]
    store_labels(store, corpus)
    assert [view.record for view in (label, text)] == written
    assert {failure.attempts for failure in text.failures()} == {1}


def test_files_that_changed_since_are_refused_before_any_entry_is_written(
    store: Store, mer2023: Path
) -> None:
    store_labels(store, open_corpus("mer2023", mer2023))
    write_csv(
        mer2023 / "transcription-engchi-polish.csv",
        [["name", "chinese", "english"], ["sample_00000001", "新", "New"]],
    )
    before = read_transcripts(store, "mer2023", "english").texts
    with pytest.raises(SpecMismatch, match="mer2023/text/english"):
        store_labels(store, open_corpus("mer2023", mer2023))
    assert read_transcripts(store, "mer2023", "english").texts == before
    store.drop_view("mer2023/text/english")
    store.drop_view("mer2023/text/chinese")
    store_labels(store, open_corpus("mer2023", mer2023))
    assert read_transcripts(store, "mer2023", "english").texts == {"sample_00000001": "New"}


def test_a_file_that_cannot_be_read_leaves_the_store_as_it_is(store: Store, mer2023: Path) -> None:
    (mer2023 / "transcription-engchi-polish.csv").write_bytes(b"clip,english\n")
    with pytest.raises(MerstoreError, match=r"transcription-engchi-polish\.csv"):
        store_labels(store, open_corpus("mer2023", mer2023))
    assert store.views() == []


def test_what_is_not_there_is_not_stored(store: Store, mer2023: Path) -> None:
    (mer2023 / "transcription-engchi-polish.csv").unlink()
    assert store_labels(store, open_corpus("mer2023", mer2023)) == VIEWS[:1]
    with pytest.raises(
        UnknownView, match=r"no view mer2023/text/\.\.\.: write it with store_labels"
    ):
        read_transcripts(store, "mer2023")


def test_of_several_one_has_to_be_named(store: Store, tmp_path: Path) -> None:
    for way in (4, 6):
        write_npz(tmp_path / f"label_{way}way.npz", whole_corpus={"Ses01F_a": {"emo": way - 1}})
    store_labels(store, open_corpus("iemocap", tmp_path))
    with pytest.raises(UnknownView, match=r"name one: iemocap/label/4way, iemocap/label/6way"):
        read_labels(store, "iemocap")
    assert read_labels(store, "iemocap", "6way").samples["Ses01F_a"].values == {"emo": "frustrated"}


def test_labels_survive_compaction_and_reopening(tmp_path: Path, mer2023: Path) -> None:
    corpus = open_corpus("mer2023", mer2023)
    with merstore.open(tmp_path / "s.mer", "a") as store:
        store_labels(store, corpus)
        store.compact()
    with merstore.open(tmp_path / "s.mer", checksum=True) as store:
        assert read_labels(store, "mer2023").samples == corpus.labels().samples


def test_a_store_open_for_reading_is_not_written(tmp_path: Path, mer2023: Path) -> None:
    merstore.open(tmp_path / "s.mer", "a").close()
    with merstore.open(tmp_path / "s.mer") as store, pytest.raises(ReadOnlyStore):
        store_labels(store, open_corpus("mer2023", mer2023))


@pytest.mark.parametrize("data", [b"\xff", b"[]", b"{}", b'{"split": "x", "row": 1, "values": 3}'])
def test_an_entry_that_is_no_label_is_told(store: Store, mer2023: Path, data: bytes) -> None:
    store_labels(store, open_corpus("mer2023", mer2023))
    store[VIEWS[0]]["sample_00000001"] = np.frombuffer(data, np.uint8)
    with pytest.raises(CorruptEntry, match="mer2023/label/6way/sample_00000001"):
        read_labels(store, "mer2023")


def test_every_built_in_set_of_labels_and_texts_makes_a_valid_view_path() -> None:
    from merstore.store.keys import parse_view

    for key, table in tables().items():
        for name in (*table.labels, *table.transcripts):
            parse_view(f"{key}/{LABEL}/{name}")

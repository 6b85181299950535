"""The five real label sets: what they hold is what is known of them (facts: mertools 10.1, 10.2, 10.5)."""

from collections import Counter
from pathlib import Path

import pytest

from merstore.corpora import Corpus, check, open_corpus, read_labels, read_transcripts, store_labels
from merstore.store.store import Store

pytestmark = pytest.mark.shared

CORPORA = ["mer2023", "cmumosi", "cmumosei", "sims", "simsv2"]


@pytest.fixture
def merbench(shared: Path) -> Path:
    return shared / "data" / "merbench"


@pytest.fixture(params=CORPORA)
def corpus(request: pytest.FixtureRequest, merbench: Path) -> Corpus:
    return open_corpus(request.param, merbench)


def test_the_sizes_are_those_of_the_table(corpus: Corpus) -> None:
    labels = corpus.labels()
    assert {split: (len(names),) for split, names in labels.splits().items()} == {
        split.name: split.sizes for split in corpus.table.labels_of(None).splits.values()
    }
    assert len(corpus.samples()) == corpus.table.samples
    assert labels.problems == []


def test_everything_goes_through_a_store_and_comes_back(corpus: Corpus, store: Store) -> None:
    store_labels(store, corpus)
    back = read_labels(store, corpus.key)
    assert list(back.samples.items()) == list(corpus.labels().samples.items())
    if corpus.key != "cmumosei":
        for name in corpus.table.transcripts:
            assert read_transcripts(store, corpus.key, name).texts == corpus.transcripts(name).texts
    assert store.verify() == []


def test_the_classes_of_mer2023(merbench: Path) -> None:
    labels = open_corpus("mer2023", merbench).labels()
    counts = {
        split: [
            Counter(labels.samples[name].values["emo"] for name in names)[emo]
            for emo in labels.fields["emo"].classes
        ]
        for split, names in labels.splits().items()
    }
    assert counts == {
        "train": [871, 822, 689, 383, 462, 146],
        "test1": [88, 105, 93, 50, 57, 18],
        "test2": [123, 98, 87, 40, 52, 12],
        "test3": [166, 183, 169, 257, 45, 14],
    }
    valence = labels.column("val")
    assert set(labels.splits()["test3"]).isdisjoint(valence)
    train = [valence[name] for name in labels.splits()["train"]]
    assert (min(train), max(train), round(sum(train) / len(train), 3)) == (-5, 4.25, -0.691)


def test_the_transcripts_of_mer2023(merbench: Path) -> None:
    corpus = open_corpus("mer2023", merbench)
    splits = corpus.splits()
    found = corpus.transcripts("chinese")
    assert len(found.texts) == 5030 - 217
    assert found.others == 0
    empty = {p.sample for p in found.problems if p.kind == "empty_text"}
    assert [len(empty & set(names)) for names in splits.values()] == [163, 18, 21, 15]
    assert [p.sample for p in found.problems if p.kind == "wrong_language"] == ["sample_00006085"]


@pytest.mark.parametrize(("key", "texts"), [("cmumosi", 2199), ("sims", 2281), ("simsv2", 4403)])
def test_the_other_transcripts_are_complete(merbench: Path, key: str, texts: int) -> None:
    corpus = open_corpus(key, merbench)
    for name in ("english", "chinese"):
        found = corpus.transcripts(name)
        assert (len(found.texts), found.others) == (texts, 0)


def test_a_cell_of_sims_spans_two_lines(merbench: Path) -> None:
    texts = open_corpus("sims", merbench).transcripts("english").texts
    assert sum("\n" in text for text in texts.values()) == 1


def test_all_test_names_of_sims_are_also_of_simsv2(merbench: Path) -> None:
    one, two = (open_corpus(key, merbench).splits()["test"] for key in ("sims", "simsv2"))
    assert len(one) == 457
    assert set(one) < set(two)


def test_names_begin_with_anything(merbench: Path) -> None:
    names = open_corpus("cmumosei", merbench).samples()
    assert (sum(n.startswith("-") for n in names), sum(n.startswith("_") for n in names)) == (
        215,
        262,
    )


def test_the_check_finds_that_there_are_no_media(corpus: Corpus) -> None:
    wrong = {finding.what for finding in check(corpus) if finding.problem}
    texts = {"text english", "text chinese"} if corpus.key == "cmumosei" else set()
    assert wrong == {"video", "audio", "face"} | texts

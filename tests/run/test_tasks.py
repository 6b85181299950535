"""Which samples are asked about, and where their texts come from."""

from pathlib import Path

import numpy as np
import pytest
import unibench_sets
from answering import names_of, store_features, write_samples

from merstore.corpora import open_corpus, store_labels
from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.reading import Refusal
from merstore.run.tasks import question_of, task_of
from merstore.store.store import Store


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A piece of MER2023: one sample to train on, two of test1, of which one says nothing."""
    root = tmp_path / "mer2023-dataset-process"
    (root / "video").mkdir(parents=True)
    label = {"emo": "happy", "val": 1.0}
    splits = {"train": ["a_1"], "test1": ["a_3", "a_2"]}
    arrays = {f"{split}_corpus": dict.fromkeys(names, label) for split, names in splits.items()}
    np.savez_compressed(root / "label-6way.npz", **arrays)
    (root / "transcription-engchi-polish.csv").write_text(
        "name,chinese,english\na_1,你好,Hello.\na_2,啊,Ah!\na_3,,\n"
    )
    for name in ("a_1", "a_2", "a_3"):
        (root / "video" / f"{name}.mp4").write_bytes(b"some bytes")
    return root


def test_the_test_set_of_a_corpus_from_its_folder_or_from_the_store(
    store: Store, corpus: Path
) -> None:
    task = task_of(store, "mer2023", corpora=corpus.parent)
    assert task.names == ["a_3", "a_2"]
    assert task.subtitles["a_2"] == "Ah!"  # English, as AffectGPT reads it
    assert isinstance(task.subtitles["a_3"], Refusal)
    assert task.materials is not None
    assert task_of(store, "mer2023", corpora=corpus, split="train").names == ["a_1"]
    assert sorted(task_of(store, "mer2023", corpora=corpus, split="all").names) == [
        "a_1",
        "a_2",
        "a_3",
    ]
    with pytest.raises(InvalidKey, match="no split 'test9'; it has train, test1"):
        task_of(store, "mer2023", corpora=corpus, split="test9")

    store_labels(store, open_corpus("mer2023", corpus))
    stored = task_of(store, "mer2023")
    assert stored.names == task.names
    assert stored.subtitles == task.subtitles
    assert stored.materials is None


def test_without_media_they_are_those_that_the_store_knows(store: Store) -> None:
    names = names_of(5)
    store_features(store, names[:4])
    store["toy/face@CLIP_VIT_LARGE/8frms"].fail(names[4], "no_face", "none found")
    task = task_of(store, "toy")
    assert task.names == names
    assert task.materials is None
    assert task.subtitles == {}


def test_samples_may_be_listed(store: Store) -> None:
    assert task_of(store, "toy", listed=["b", "a"]).names == ["b", "a"]
    with pytest.raises(MerstoreError, match="toy: no samples"):
        task_of(store, "toy")


def test_texts_of_a_file_and_media_of_a_folder(store: Store, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    for name, path in write_samples(clips, names_of(3)).items():
        path.rename(clips / f"{name}.mp4")
    table = tmp_path / "texts.csv"
    table.write_text("name,english\nsample_00000000,Hello.\nsample_00000001,\n")
    task = task_of(store, "toy", media=clips, texts=str(table))
    assert task.names == names_of(3)
    assert task.materials is not None
    assert list(task.materials) == names_of(3)
    assert task.subtitles["sample_00000000"] == "Hello."
    empty = task.subtitles["sample_00000001"]
    assert isinstance(empty, Refusal)
    assert empty.kind == "empty_text"
    assert "sample_00000002" not in task.subtitles


def test_a_split_is_of_labels_that_are_there(store: Store) -> None:
    store_features(store, names_of(2))
    with pytest.raises(MerstoreError, match="split 'test' is of its labels"):
        task_of(store, "toy", split="test")
    assert task_of(store, "toy", split="all").names == names_of(2)


def test_questions_name_the_classes_or_the_span_of_the_labels(
    store: Store, corpus: Path, tmp_path: Path
) -> None:
    truths = unibench_sets.truths(2, ("happy", "sad"))
    sets = {"sims": {"a": -0.4, "b": 0.8}, "simsv2": {"a": -1.0, "b": 1.0}, "meld": truths["meld"]}
    root = unibench_sets.write_labels(tmp_path / "others", sets)
    for folder in root.iterdir():
        (folder / "transcription-engchi-polish.csv").write_text("name,chinese,english\na,b,c\n")
    classes = "neutral,angry,happy,sad,worried,surprise"
    asked = question_of(store, ["mer2023"], "onehot_w_candidates", corpus.parent)
    assert asked.endswith(f"from the provided candidate labels: {classes}.")
    store_labels(store, open_corpus("mer2023", corpus))
    assert question_of(store, ["mer2023"], "onehot_w_candidates") == asked
    asked = question_of(store, ["sims"], "valence", root)
    assert "number ranging from -0.4 to 0.8. Here, -0.4 indicates" in asked
    with pytest.raises(MerstoreError, match="another one of sims and of simsv2: ask about one"):
        question_of(store, ["sims", "simsv2"], "valence", root)
    with pytest.raises(MerstoreError, match="meld: its labels are of onehot_w_candidates, "):
        question_of(store, ["meld"], "valence", root)
    with pytest.raises(MerstoreError, match="no labels to train on"):
        question_of(store, ["toy"], "valence")

"""What a set of labels states, alone and across corpora."""

from pathlib import Path

import numpy as np
import pytest

from merstore.corpora.table import Field
from merstore.errors import InvalidKey, MerstoreError, UnknownView
from merstore.run.training.task import Task, across, find_labels, task_of
from merstore.store.store import Store

from .made import corpus, labels_view


def task(store: Store, dataset: str, **how: object) -> Task:
    return task_of(find_labels(store, dataset), dataset, **how)


def test_mer2023_has_classes_values_random_folds_and_tests(store: Store) -> None:
    made = corpus(store)
    found = task(store, "MER2023")
    assert (found.name, found.dataset, found.folds, found.metric) == (
        "MER2023", "mer2023", "random", "emoval",
    )  # fmt: skip
    assert list(found.tests) == ["test1", "test3"]
    assert found.train.names == [name for name, (split, _, _) in made.items() if split == "train"]
    assert found.train.emos.tolist() == [made[name][1] for name in found.train.names]
    assert np.isnan(found.tests["test3"].vals).all()


def test_classes_alone_are_scored_by_f1(store: Store) -> None:
    corpus(store, "mer2024", {"train": 20, "test1": 9}, values=False, unlabelled=["test1"])
    found = task(store, "mer2024")
    assert (found.metric, found.values, found.folds) == ("emo", 0, "random")
    assert not found.tests["test1"].labelled.any()


def test_values_alone_are_scored_by_sign_with_the_corpuss_own_split(store: Store) -> None:
    corpus(store, "sims", {"train": 20, "val": 8, "test": 9}, classes=(), name="valence")
    found = task(store, "SIMS")
    assert (found.folds, found.binary, found.classes, found.values) == ("val", True, (), 1)
    assert (found.metric, list(found.tests)) == ("emo", ["test"])


def test_sessions_are_left_out_in_turn(store: Store) -> None:
    classes = ("happy", "sad", "neutral", "anger")
    corpus(store, "iemocap", {"session1": 9, "session2": 8}, classes, values=False, name="4way")
    found = task(store, "IEMOCAPFour")
    assert (found.folds, found.name, found.tests) == ("session", "IEMOCAPFour", {})
    assert found.sessions == ["session1"] * 9 + ["session2"] * 8


def test_samples_of_the_training_split_without_a_label_are_left_out_and_told(store: Store) -> None:
    rows = {f"s{i}": ("train", {"emo": "a" if i % 2 else None}) for i in range(6)}
    labels_view(store, "own", "x", rows, [Field("emo", "class", ("emo",), ("a", "b"))])
    found = task(store, "own")
    assert found.train.names == ["s1", "s3", "s5"]
    assert found.notes == ["3 samples of train have no label and are left out"]


def test_debug_keeps_the_first_hundred(store: Store) -> None:
    corpus(store, splits={"train": 120, "test1": 130})
    found = task(store, "mer2023", debug=True)
    assert [len(found.train), len(found.tests["test1"])] == [100, 100]


def test_labels_come_from_a_corpus_folder_or_its_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    array = np.empty((), object)
    array[()] = {"s1": {"emo": "happy", "val": 1.0}}
    np.savez(folder / "label-6way.npz", train_corpus=array)
    for source in (tmp_path, folder, folder / "label-6way.npz"):
        found = find_labels(store, "MER2023", source)
        assert found.samples["s1"].values == {"emo": "happy", "val": 1.0}
    (folder / "other.npz").touch()
    with pytest.raises(MerstoreError, match="no label file of corpus mer2023"):
        find_labels(store, "MER2023", folder / "other.npz")
    with pytest.raises(UnknownView, match="store_labels"):
        find_labels(store, "MER2023")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"s": ("train", {"emo": "joyful"})}, "'joyful', which is none of a, b"),
        ({"s": ("test1", {"emo": "a"})}, "no split train"),
        ({"s": ("train", {"emo": None})}, "no sample of split train has a label"),
        ({}, "no split train"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    store: Store, rows: dict[str, tuple[str, dict[str, object]]], told: str
) -> None:
    labels_view(store, "own", "x", rows, [Field("emo", "class", ("emo",), ("a", "b"))])
    with pytest.raises(MerstoreError, match=told):
        task(store, "own")


def test_across_corpora_four_classes_are_left(store: Store) -> None:
    corpus(store)
    joy = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
    corpus(store, "meld", {"train": 9, "val": 9, "test": 40}, joy, values=False, name="7way")
    found = across(task(store, "MER2023"), task(store, "MELD"))
    assert (found.dataset, found.test_dataset, found.classes) == (
        "mer2023", "meld", ("happy", "sad", "neutral", "angry"),
    )  # fmt: skip
    assert (found.values, found.metric, found.folds) == (0, "emo", "random")
    one, other = find_labels(store, "mer2023"), find_labels(store, "meld")
    names = {"joy": "happy", "sadness": "sad", "anger": "angry"}
    for samples, labels in ((found.train, one), (found.tests["test"], other)):
        for name, emo in zip(samples.names, samples.emos, strict=True):
            said = str(labels.samples[name].values["emo"])
            assert names.get(said, said) == found.classes[emo]
    assert len(found.train) < 90
    assert across(task(store, "MELD"), task(store, "MER2023")).tests.keys() == {"test1"}


def test_across_corpora_of_values_those_of_sims_are_tripled(store: Store) -> None:
    for dataset in ("sims", "cmumosi"):
        corpus(store, dataset, {"train": 9, "val": 5, "test": 7}, classes=(), name="valence")
    one, other = task(store, "SIMS"), task(store, "CMUMOSI")
    found = across(one, other)
    np.testing.assert_array_equal(found.train.vals, one.train.vals * 3)
    np.testing.assert_array_equal(found.tests["test"].vals, other.tests["test"].vals)


def test_classes_and_values_do_not_go_together(store: Store) -> None:
    corpus(store, "sims", {"train": 9, "val": 5, "test": 7}, classes=(), name="valence")
    corpus(store)
    with pytest.raises(MerstoreError, match="do not go together"):
        across(task(store, "SIMS"), task(store, "MER2023"))
    corpus(store, "own", {"train": 9, "test": 5}, classes=("happy", "calm"), values=False)
    with pytest.raises(InvalidKey, match="no class for angry, neutral, sad"):
        across(task(store, "own"), task(store, "MER2023"))

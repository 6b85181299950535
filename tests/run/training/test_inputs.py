"""Features of a task: found by name, read once, and refused where they cannot be trained on."""

import numpy as np
import pytest

from merstore.errors import InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop.mertools import map_to_length
from merstore.models.baselines.blocks import ROLES
from merstore.run.training import Problem, load
from merstore.run.training.task import find_labels, task_of
from merstore.store.store import Store

from .made import DIMS, FOLDERS, PATHS, corpus

FOLDERS_GIVEN = tuple(FOLDERS.values())


def loaded(store: Store, folders=FOLDERS_GIVEN, dataset: str = "mer2023", **how) -> Problem:
    return load(store, task_of(find_labels(store, dataset), dataset), folders, ROLES, **how)


@pytest.mark.parametrize(
    "folders", [tuple(FOLDERS.values()), PATHS, tuple(f"mer2023/{path}" for path in PATHS)]
)
def test_features_are_found_by_folder_tail_or_path(store: Store, folders) -> None:
    corpus(store)
    problem = loaded(store, folders)
    assert (problem.dims, problem.folders) == (DIMS, list(FOLDERS.values()))
    assert set(problem.views) == {f"mer2023/{path}" for path in PATHS}
    for part in ("train", "test1", "test3"):
        names = problem.samples[part].names
        for role, path in zip(ROLES, PATHS, strict=True):
            expected = store[f"mer2023/{path}"].gather(names)
            np.testing.assert_array_equal(problem.parts[part].inputs[role].numpy(), expected)


def test_roles_of_one_feature_share_its_memory(store: Store) -> None:
    corpus(store)
    inputs = loaded(store, ["manet_UTT"] * 3).parts["train"].inputs
    assert len({x.data_ptr() for x in inputs.values()}) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sequences_are_averaged_as_numpy_averages_them(store: Store, dtype: str) -> None:
    made = corpus(store)
    rng = np.random.default_rng(0)
    view = store.create_view("mer2023/audio@whisper-base/FRA", dtype=dtype, shape=(None, 4))
    view.update({n: rng.normal(size=(rng.integers(1, 50), 4)).astype(dtype) for n in made})
    problem = loaded(store, ["whisper-base-FRA"] * 3)
    x = problem.parts["test1"].inputs["audios"].numpy()
    for row, name in enumerate(problem.samples["test1"].names):
        np.testing.assert_array_equal(x[row], np.mean(view[name], axis=0).astype(np.float32))


@pytest.mark.parametrize(("feat_type", "scale"), [("frm_align", 6), ("frm_unalign", 12)])
def test_frames_are_compressed_aligned_and_padded_in_front(
    store: Store, feat_type: str, scale: int
) -> None:
    made = corpus(store)
    rng = np.random.default_rng(0)
    folders = []
    for role, dim in (("audio", 5), ("text", 6), ("face", 4)):
        view = store.create_view(f"mer2023/{role}@X{role}/FRA", shape=(None, dim))
        view.update(
            {n: rng.normal(size=(rng.integers(1, 80), dim)).astype(np.float32) for n in made}
        )
        folders.append(view.path)
    problem = loaded(store, folders, feat_type=feat_type)
    for part in problem.parts:
        names = problem.samples[part].names
        sequences = [
            [map_to_length(store[f][n], -(-len(store[f][n]) // scale)) for n in names]
            for f in folders
        ]
        if feat_type == "frm_align":
            sequences = [
                [map_to_length(x, len(text)) for x, text in zip(role, sequences[1], strict=True)]
                for role in sequences
            ]
        for key, role in zip(ROLES, sequences, strict=True):
            longest = max(map(len, role))
            expected = np.stack([map_to_length(x, longest) for x in role]).astype(np.float32)
            np.testing.assert_array_equal(problem.parts[part].inputs[key].numpy(), expected)


def test_noisy_variants_are_read_for_the_side_that_asks(store: Store) -> None:
    corpus(store, suffixes=["", "_noisesnr5", "-noisesnr5"])
    problem = loaded(store, ["manet_UTT"] * 3, test_snr="noisesnr5")
    clean, noisy = "mer2023/face@manet/UTT", "mer2023/face@manet_noisesnr5/UTT"
    assert set(problem.views) == {clean, noisy}
    for part, path in (("train", clean), ("test1", noisy)):
        expected = store[path].gather(problem.samples[part].names)
        np.testing.assert_array_equal(problem.parts[part].inputs["texts"].numpy(), expected)


def test_a_session_is_held_out_as_tests_are_read(store: Store) -> None:
    corpus(
        store, "iemocap", {f"session{i}": 12 for i in range(1, 4)},
        ("happy", "sad", "neutral", "anger"), values=False, name="4way",
        suffixes=["", "_noisesnr5"],
    )  # fmt: skip
    problem = loaded(store, ["manet_UTT"] * 3, "iemocap", test_snr="noisesnr5")
    assert {fold.part for fold in problem.folds(5, 0)} == {"held"}
    assert problem.samples["held"].names == problem.samples["train"].names
    names = problem.samples["held"].names
    expected = store["iemocap/face@manet_noisesnr5/UTT"].gather(names)
    np.testing.assert_array_equal(problem.parts["held"].inputs["audios"].numpy(), expected)


def test_what_the_view_lacks_is_named_or_left_out_and_told(store: Store) -> None:
    corpus(store)
    view = store["mer2023/face@manet/UTT"]
    del view["train_0003"], view["test1_0001"]
    with pytest.raises(MissingEntry, match=r"split train.*train_0003"):
        loaded(store)
    problem = loaded(store, on_miss="skip")
    assert "train_0003" not in problem.samples["train"].names
    assert [len(problem.samples[part]) for part in ("train", "test1")] == [89, 29]
    assert "train: 1 of 90 samples lack a feature" in problem.notes


def test_what_has_no_label_is_not_used_and_told(store: Store) -> None:
    corpus(store)
    store["mer2023/face@manet/UTT"]["stranger"] = np.ones(7, np.float32)
    assert loaded(store).notes == [
        "mer2023/face@manet/UTT: 1 samples are in no split, and not used"
    ]


def test_nan_is_refused_with_the_samples_name(store: Store) -> None:
    made = corpus(store)
    view = store.create_view("mer2023/face@emonet/UTT", shape=(3,), nonfinite="flag")
    view.update({name: np.ones(3, np.float32) for name in made})
    view["train_0007"] = np.array([1, np.nan, 1], np.float32)
    with pytest.raises(InvalidTensor, match="emonet/UTT: 1 samples hold NaN or Inf: train_0007"):
        loaded(store, ["emonet_UTT"] * 3)


@pytest.mark.parametrize(
    ("folders", "how", "error", "told"),
    [
        (["manet-UTTT"] * 3, {}, UnknownView, "near: manet_UTT"),
        (["manet_UTT"] * 3, {"feat_type": "frm_align"}, MerstoreError, "reads FRA features"),
        (["manet_UTT"] * 3, {"feat_type": "words"}, MerstoreError, "feat_type is one of"),
        (["manet_UTT"] * 3, {"on_miss": "zero"}, MerstoreError, "on_miss is one of"),
        (["manet_UTT"] * 3, {"test_snr": "noisesnr5"}, UnknownView, "manet_noisesnr5_UTT"),
        (["pictures"] * 3, {}, InvalidTensor, r"no vectors \[D\]"),
        (["empty"] * 3, {}, MissingEntry, "lacks 90"),
        (["empty"] * 3, {"on_miss": "skip"}, MissingEntry, "none of its 90 samples"),
    ],
)
def test_what_cannot_be_read_is_refused(
    store: Store, folders: list[str], how: dict[str, str], error: type, told: str
) -> None:
    made = corpus(store)
    pictures = store.create_view("mer2023/face@p/raw", shape=(2, 2, 3), alias="pictures")
    pictures.update({name: np.ones((2, 2, 3), np.float32) for name in made})
    store.create_view("mer2023/face@e/UTT", shape=(3,), alias="empty")
    with pytest.raises(error, match=told):
        loaded(store, folders, **how)

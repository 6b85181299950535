"""MERTools' reader and datasets from a store: the same arrays as from the tree, bit for bit."""

import mmap
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interop import reference_mertools as reference

import merstore
from merstore.errors import InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop import mertools
from merstore.interop.feature_paths import FeaturePaths
from merstore.interop.importing import import_tree
from merstore.interop.mertools import DataFeat, DataFeatTopN, Features, map_to_length
from merstore.interop.trees import discover
from merstore.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]

HUBERT, CLIP, BAICHUAN = "chinese-hubert-large", "clip-vit-large-patch14", "Baichuan-13B-Base"
NAMES = [f"sample_{number:08d}" for number in range(9)]


def same(a: Array, b: Array) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def save(folder: Path, arrays: Mapping[str, Array]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


class Tree:
    """A tree and, once asked for, the store that was imported from it. The reader is given paths of
    another place, where there are no files.
    """

    def __init__(self, root: Path) -> None:
        self.features = root / "mer2023-dataset-process" / "features"
        self.elsewhere = root / "elsewhere" / "mer2023-dataset-process" / "features"
        self.path = root / "s.mer"
        self._store: Store | None = None

    def add(self, folder: str, arrays: Mapping[str, Array]) -> "Tree":
        save(self.features / folder, arrays)
        return self

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = merstore.open(self.path, "a")
            report = import_tree(self._store, discover(self.features), nonfinite="flag")
            assert not report.problems
            mertools.use(self._store)
        return self._store

    def read(self, folder: str, names: list[str]) -> tuple[list[Array], int]:
        assert self.store
        return mertools.func_read_multiprocess(str(self.elsewhere / folder), names)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    mertools.use(None)
    if tree._store is not None:
        tree._store.close()


def floats(*shape: int, dtype: str = "f4", seed: int = 0) -> Array:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
    values.flat[0] = -0.0
    return values


def fra(dim: int, dtype: str = "f4", seed: int = 0, longest: int = 60) -> dict[str, Array]:
    lengths = np.random.default_rng(seed).integers(1, longest, len(NAMES)).tolist()
    return {n: floats(t, dim, dtype=dtype, seed=seed) for n, t in zip(NAMES, lengths, strict=True)}


def utt(dim: int, dtype: str = "f4", seed: int = 0) -> dict[str, Array]:
    return {n: floats(dim, dtype=dtype, seed=seed + i) for i, n in enumerate(NAMES)}


# --- the reader ----------------------------------------------------------------------------------

KINDS = {
    "chinese-hubert-large-UTT": lambda i: floats(16, seed=i),
    "Baichuan-13B-Base-UTT": lambda i: floats(16, dtype="f2", seed=i),
    "resnet50face_UTT": lambda i: floats(16, dtype="f8", seed=i),
    "clip-vit-large-patch14-FRA": lambda i: floats(3 + i, 16, seed=i),
    "Baichuan-13B-Base-FRA": lambda i: floats(1 + i % 3, 16, dtype="f2", seed=i),  # some of one row
    "senet50face_FRA": lambda i: floats(2 + i, 16, dtype="f8"),
    "whisper-large-v2-FRA": lambda i: floats(2, 16, seed=i),  # always two rows
    "videomae-large-FRA": lambda i: floats(1, 8, 16, seed=i),  # a leading 1
    "wavlm-base-FRA": lambda i: floats(5 + i, 1, seed=i),  # a trailing one: becomes one row
    "wavlm-large-FRA": lambda i: floats(4 + i, 3, 5, seed=i),  # three dimensions survive
    "wav2vec-large-c-FRA": lambda i: floats(*((6,) if i % 2 else (4 + i, 6)), seed=i),  # squeezed
    "emonet_UTT": lambda i: floats(1, 7, seed=i),
    "vggish_FRA": lambda i: floats(1, 1, 5, seed=i),
    "IS09_UTT": lambda i: np.arange(5) + i,  # integers
    # what a tool made of empty transcripts: float64 zeros among float16
    "bloom-7b1-UTT": lambda i: np.zeros(16) if i == 2 else floats(16, dtype="f2", seed=i),
    "chatglm2-6b-FRA": lambda i: np.zeros((1, 16)) if i == 2 else floats(3 + i, 16, dtype="f2"),
}


@pytest.mark.parametrize("folder", KINDS)
def test_every_kind_of_folder_is_read_as_from_its_files(tree: Tree, folder: str) -> None:
    tree.add(folder, {name: KINDS[folder](i) for i, name in enumerate(NAMES)})
    names = [NAMES[i] for i in (4, 0, 8, 2, 4, 1)]  # any order, and one of them twice
    ours, dim = tree.read(folder, names)
    theirs, their_dim = reference.read(tree.features / folder, names)
    assert dim == their_dim
    assert type(dim) is int
    assert len(ours) == len(theirs)
    assert all(map(same, ours, theirs))
    assert all(array.flags.writeable for array in ours)
    for name, array in zip(names, theirs, strict=True):
        argv = str(tree.elsewhere / folder), name, None, None
        assert same(mertools.func_read_one_feat(argv), array)


@pytest.mark.parametrize("folder", KINDS)
def test_a_large_folder_is_mapped_and_the_same(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(mertools, "MAPPED_BYTES", 1)
    tree.add(folder, {name: KINDS[folder](i) for i, name in enumerate(NAMES)})
    ours, _ = tree.read(folder, NAMES)
    assert sum(isinstance(base_of(array), mmap.mmap) for array in ours) >= len(NAMES) - 1
    theirs, _ = reference.read(tree.features / folder, NAMES)
    assert all(map(same, ours, theirs))
    ours[4][:] = 7  # is this reader's business alone
    assert all(map(same, tree.read(folder, NAMES)[0], theirs))


def base_of(array: Array) -> Any:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def test_mapped_arrays_stay_what_they_are_whatever_becomes_of_the_store(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mertools, "MAPPED_BYTES", 1)
    folder = f"{HUBERT}-FRA"
    tree.add(folder, fra(64))
    ours, _ = tree.read(folder, NAMES)
    view = tree.store[f"mer2023/audio@{HUBERT}/FRA"]
    for number in range(5):
        view.update({name: np.full((30, 64), number, "f4") for name in NAMES})
    assert all(map(same, ours, reference.read(tree.features / folder, NAMES)[0]))
    assert tree.read(folder, NAMES)[0][0][0, 0] == 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((768,), (1, 768)),
        ((50, 768), (50, 768)),
        ((1, 768), (1, 768)),
        ((5, 1), (1, 5)),
        ((1, 50, 768), (50, 768)),
    ],
)
def test_shapes_as_the_released_reader_gives_them(
    tree: Tree, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    tree.add("chinese-hubert-large-FRA", {"a": floats(*shape, dtype="f2")})
    (array,), _ = tree.read("chinese-hubert-large-FRA", ["a"])
    assert (array.shape, array.dtype) == (expected, np.float16)


def test_a_directory_of_frames_is_read_as_one_array(tree: Tree) -> None:
    folder = "clip-vit-large-patch14-FRA"
    for name, frames in {"a": 3, "b": 1, "c": 12}.items():
        save(tree.features / folder / name, {f"{i:08d}": floats(4, seed=i) for i in range(frames)})
    ours, _ = tree.read(folder, ["a", "b", "c"])
    assert [array.shape for array in ours] == [(3, 4), (1, 4), (12, 4)]
    assert all(map(same, ours, reference.read(tree.features / folder, ["a", "b", "c"])[0]))


def test_the_feature_is_found_by_its_folder_in_any_role_and_by_its_alias(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", utt(4))
    view = tree.store.create_view("mer2023/audio@mine/UTT", shape=(4,), alias="my odd folder")
    view.update(utt(4, seed=7))
    assert same(tree.read("my odd folder", ["sample_00000003"])[0][0][0], floats(4, seed=10))
    args = Namespace(
        audio_feature=f"{HUBERT}-UTT", text_feature=f"{HUBERT}-UTT",
        video_feature="my odd folder", feat_type="utt", dataset="MER2023",
    )  # fmt: skip
    assert DataFeat(args, NAMES, {}).get_featdim() == (4, 4, 4)


@pytest.mark.parametrize("place", ["SIMSv2", "simsv2-process", "simsv2", "x/simsv2-process/more"])
def test_the_dataset_is_told_by_its_folder(tmp_path: Path, place: str) -> None:
    with merstore.open(tmp_path / "s.mer", "a") as store:
        for dataset, value in (("sims", 1), ("simsv2", 2)):
            view = store.create_view(f"{dataset}/audio@chinese-hubert-large/UTT", shape=(2,))
            view.update({"a": np.full(2, value, "f4")})
        paths = FeaturePaths(store)
        root = f"{tmp_path}/{place}/features/chinese-hubert-large-UTT"
        assert Features(root, ["a"], paths=paths).arrays()[0][0, 0] == 2
        with pytest.raises(UnknownView, match=r"ambiguous.*sims/.*simsv2/"):
            Features("chinese-hubert-large-UTT", ["a"], paths=paths)
        stated = Features("chinese-hubert-large-UTT", ["a"], paths=paths, dataset="CH-SIMS")
        assert stated.arrays()[0][0, 0] == 1


def test_a_path_below_the_store_itself_needs_nothing_else(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", utt(4))
    assert tree.store
    mertools.use(None)
    for root in (f"{tree.path}/{HUBERT}-UTT", f"{tree.path}/mer2023/{HUBERT}-UTT"):
        assert mertools.func_read_multiprocess(root, NAMES)[1] == 4


# --- what is not there ---------------------------------------------------------------------------


def test_an_unknown_folder_names_the_nearest(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", utt(4))
    with pytest.raises(UnknownView, match="'chinese-hubert-base-UTT'; near: chinese-hubert-large"):
        tree.read("chinese-hubert-base-UTT", NAMES)
    with pytest.raises(UnknownView, match=r"nothing of dataset 'meld'.*it has mer2023"):
        mertools.func_read_multiprocess(f"/x/meld-process/features/{HUBERT}-UTT", NAMES)


def test_without_a_store_the_reader_says_how_to_name_one() -> None:
    with pytest.raises(MerstoreError, match=r"mertools\.use"):
        mertools.func_read_multiprocess("/x/meld-process/features/a-UTT", ["a"])


def test_a_missing_sample_is_named_with_its_dataset_and_feature(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", utt(4))
    tree.store[f"mer2023/audio@{HUBERT}/UTT"].fail("silent", "no_audio", "has no sound")
    with pytest.raises(MissingEntry, match=f"mer2023/audio@{HUBERT}/UTT.*gone.*on_miss"):
        tree.read(f"{HUBERT}-UTT", [*NAMES, "gone"])
    with pytest.raises(MissingEntry, match="silent: no_audio"):
        tree.read(f"{HUBERT}-UTT", ["silent"])


def test_a_missing_sample_may_be_masked_or_left_out(tree: Tree) -> None:
    tree.add(f"{HUBERT}-FRA", fra(4, "f2"))
    assert tree.store
    root, names = str(tree.elsewhere / f"{HUBERT}-FRA"), ["gone", NAMES[3], "lost", NAMES[1]]
    masked = Features(root, names, on_miss="mask")
    assert masked.mask.tolist() == [False, True, False, True]
    assert masked.names == names
    assert same(masked.arrays()[0], np.zeros((1, 4), "f2"))
    skipped = Features(root, names, on_miss="skip")
    assert (skipped.names, skipped.mask.tolist()) == ([NAMES[3], NAMES[1]], masked.mask.tolist())
    for features in (masked.arrays()[1::2], skipped.arrays()):
        assert all(
            map(same, features, reference.read(tree.features / f"{HUBERT}-FRA", names[1::2])[0])
        )


def test_a_missing_sample_may_be_computed(tree: Tree) -> None:
    class Ones:
        def fill(self, view: Any, names: list[str]) -> None:
            view.update({name: np.ones(4, "f4") for name in names if name != "never"})

    tree.add(f"{HUBERT}-UTT", utt(4))
    paths = FeaturePaths(tree.store)
    root = str(tree.elsewhere / f"{HUBERT}-UTT")
    paths.find(root).filler = Ones()
    features = Features(root, [NAMES[0], "new", "never"], paths=paths, on_miss="fill")
    assert features.mask.tolist() == [True, True, False]
    assert [array.sum() for array in features.arrays()[1:]] == [4, 0]


@pytest.mark.parametrize("shape", [(0,), (0, 768)])
def test_an_empty_file_beside_the_store_is_given_as_the_reader_would(
    tree: Tree, shape: tuple[int, ...]
) -> None:
    tree.add(f"{HUBERT}-FRA", {"a": floats(3, 4), "empty": np.empty(shape)})  # not imported
    assert tree.store
    with pytest.warns(UserWarning, match="empty"):
        (array,), _ = mertools.func_read_multiprocess(tree.features / f"{HUBERT}-FRA", ["empty"])
    assert same(array, reference.read_one(tree.features / f"{HUBERT}-FRA", "empty"))


def test_a_single_number_is_no_feature(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", {"a": floats(1)})
    with pytest.raises(TypeError):
        reference.read_one(tree.features / f"{HUBERT}-UTT", "a")
    with pytest.raises(TypeError, match="mer2023/audio@chinese-hubert-large/UTT/a"):
        tree.read(f"{HUBERT}-UTT", ["a"])


def test_nothing_but_features_can_be_read(tree: Tree) -> None:
    with pytest.raises(MerstoreError, match="read_type"):
        mertools.func_read_multiprocess("x", [], read_type="video")


# --- map -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "length", "expected"),
    [
        (7, 1, [4]),
        (7, 2, [1.5, 5.5]),
        (7, 3, [0.3333333333333333, 3, 6]),
        (7, 4, [0.5, 2.5, 4.5, 6.5]),
        (7, 5, [0, 0.5, 2.5, 4.5, 6.5]),
        (7, 6, [0, 0, 0.5, 2.5, 4.5, 6.5]),
        (7, 7, [1, 2, 3, 4, 5, 6, 7]),
        (7, 9, [0, 0, 1, 2, 3, 4, 5, 6, 7]),
        (13, 3, [1.2, 6, 11]),
        (13, 2, [3, 10]),
    ],
)
def test_map_gives_the_golden_vectors(total: int, length: int, expected: list[float]) -> None:
    x = np.arange(1, total + 1, dtype="f4")[:, np.newaxis]
    mapped = map_to_length(x, length)
    assert mapped[:, 0].tolist() == expected
    assert (mapped.dtype == np.float32) == (total % length == 0)


@given(
    total=st.integers(1, 70), length=st.integers(1, 80), dim=st.integers(1, 9),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
)  # fmt: skip
def test_map_is_the_references_bit_for_bit(total: int, length: int, dim: int, dtype: str) -> None:
    x = floats(total, dim, dtype=dtype)
    assert same(map_to_length(x, length), reference.map_to(x, length))


# --- datasets ------------------------------------------------------------------------------------

LABELS = [{"emo": i % 6, "val": i / 4} for i in range(len(NAMES))]


def three(tree: Tree, level: str) -> list[Path]:
    make = utt if level == "UTT" else fra
    folders = {f"{HUBERT}-{level}": make(6, "f4", 1), f"{BAICHUAN}-{level}": make(8, "f2", 2)}
    folders[f"resnet50face_{level}"] = make(5, "f8", 3)
    for folder, arrays in folders.items():
        tree.add(folder, arrays)
    assert tree.store
    return [tree.features / folder for folder in folders]


def arguments(roots: list[Path], feat_type: str, **more: Any) -> Namespace:
    audio, text, video = (root.name for root in roots)
    return Namespace(
        audio_feature=audio, text_feature=text, video_feature=video,
        feat_type=feat_type, dataset="MER2023", **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("feat_type", "level", "scale"),
    [
        ("utt", "UTT", 1), ("utt", "FRA", 1), ("frm_align", "FRA", 6), ("frm_unalign", "FRA", 12),
        ("frm_align", "FRA", 1), ("frm_unalign", "FRA", 1), ("frm_unalign", "FRA", 3),
    ],
)  # fmt: skip
def test_a_split_is_the_references_bit_for_bit(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, feat_type: str, level: str, scale: int
) -> None:
    monkeypatch.setattr(mertools, "CHUNK_BYTES", 1000)  # so that there are several
    roots = three(tree, level)
    data = DataFeat(arguments(roots, feat_type, feat_scale=scale), NAMES, LABELS)
    for ours, theirs in zip(
        data.blocks, reference.split(roots, NAMES, feat_type, scale), strict=True
    ):
        assert same(ours.astype("f4"), theirs)
    assert data.get_featdim() == (6, 8, 5)


def test_the_scale_is_that_of_the_feat_type(tree: Tree) -> None:
    roots = three(tree, "FRA")
    for feat_type, scale in (("utt", 1), ("frm_align", 6), ("frm_unalign", 12)):
        assert DataFeat(arguments(roots, feat_type), NAMES, LABELS).feat_scale == scale


def test_alignment_gives_the_golden_vectors(tree: Tree) -> None:
    lengths = {f"{HUBERT}-FRA": 10, f"{BAICHUAN}-FRA": 4, "manet_FRA": 7}
    for folder, length in lengths.items():
        tree.add(folder, {"a": np.ones((length, 2), "f4")})
    assert tree.store
    args = arguments([Path(folder) for folder in lengths], "frm_align", feat_scale=1)
    blocks = DataFeat(args, ["a"], LABELS).blocks
    expected = [[1 / 3, 1, 1, 1], [1, 1, 1, 1], [0.5, 1, 1, 1]]
    for block, values in zip(blocks, expected, strict=True):
        assert same(block[0, :, 0], np.array(values, "f4"))


def test_items_and_batches(tree: Tree) -> None:
    torch = pytest.importorskip("torch")
    roots = three(tree, "FRA")
    data = DataFeat(arguments(roots, "frm_unalign"), NAMES, LABELS)
    assert list(data[4]) == ["audio", "text", "video", "emo", "val", "name"]
    batch, emos, vals, names = data.collater([data[i] for i in (4, 0, 7)])
    assert list(batch) == ["audios", "texts", "videos"]
    for role, theirs in zip(
        batch.values(), reference.split(roots, NAMES, "frm_unalign", 12), strict=True
    ):
        assert role.dtype == torch.float32
        assert same(role.numpy(), theirs[[4, 0, 7]])
    assert (emos.dtype, emos.tolist()) == (torch.int64, [4, 0, 1])
    assert (vals.dtype, vals.tolist()) == (torch.float32, [1.0, 0.0, 1.75])
    assert names == [NAMES[4], NAMES[0], NAMES[7]]
    loader = torch.utils.data.DataLoader(data, batch_size=4, collate_fn=data.collater)
    assert [len(names) for *_, names in loader] == [4, 4, 1]


def test_roles_that_read_one_folder_alike_share_one_copy(tree: Tree) -> None:
    roots = three(tree, "FRA")
    alike = DataFeat(arguments([roots[0]] * 3, "frm_align"), NAMES, LABELS).blocks
    assert alike[0] is alike[1] is alike[2]
    mixed = DataFeat(arguments([roots[0], roots[1], roots[0]], "frm_align"), NAMES, LABELS).blocks
    assert mixed[0] is mixed[2]
    assert mixed[0] is not mixed[1]


def test_topn_averages_any_number_of_folders(tree: Tree) -> None:
    roots = three(tree, "UTT")
    data = DataFeatTopN([root.name for root in roots], NAMES, LABELS, dataset="MER2023")
    assert data.get_featdim() == ([6, 8, 5],) * 3
    pytest.importorskip("torch")
    batch, *_ = data.collater([data[i] for i in range(len(data))])
    assert list(batch) == ["feat0", "feat1", "feat2"]
    theirs = reference.split(roots, NAMES, "utt", 1)
    assert all(same(ours.numpy(), t) for ours, t in zip(batch.values(), theirs, strict=True))


def test_a_noisy_variant_is_another_folder() -> None:
    assert mertools.snr_folder("eGeMAPS_UTT", "noisesnrmix") == "eGeMAPS_noisesnrmix_UTT"
    folder = mertools.snr_folder("data2vec-audio-base-960h-UTT", "noisesnrmix")
    assert folder == "data2vec-audio-base-960h-noisesnrmix-UTT"
    assert mertools.snr_folder("a-UTT", None) == "a-UTT"
    with pytest.raises(MerstoreError, match="UTT"):
        mertools.snr_folder("a-FRA", "noisesnr5")


def test_a_sample_that_a_role_lacks_is_left_out_of_all(tree: Tree) -> None:
    tree.add(f"{HUBERT}-UTT", utt(4))
    tree.add(f"{CLIP}-UTT", {name: value for name, value in utt(4).items() if name != NAMES[3]})
    assert tree.store
    args = arguments([Path(f"{HUBERT}-UTT"), Path(f"{HUBERT}-UTT"), Path(f"{CLIP}-UTT")], "utt")
    with pytest.raises(MissingEntry, match=NAMES[3]):
        DataFeat(args, NAMES, LABELS)
    data = DataFeat(args, NAMES, LABELS, on_miss="skip")
    assert len(data) == 8
    assert all(len(block) == 8 for block in data.blocks)
    assert [data[i]["val"] for i in (2, 3)] == [0.5, 1.0]
    assert (DataFeat(args, NAMES, LABELS, on_miss="mask").blocks[2][3] == 0).all()


def test_what_cannot_be_a_batch_is_refused_by_name(tree: Tree) -> None:
    arrays = fra(4)
    tree.add("manet_FRA", arrays | {"odd": floats(3, 1, 4, 1, 2)})
    tree.add(f"{HUBERT}-FRA", arrays | {"empty": np.empty((0, 4), "f4")})
    assert tree.store
    root = Path(f"{HUBERT}-FRA")
    with pytest.raises(MerstoreError, match="FRA features"):
        DataFeat(arguments([root, root, Path(f"{HUBERT}-UTT")], "frm_align"), NAMES, LABELS)
    with pytest.raises(MerstoreError, match="feat_type"):
        DataFeat(arguments([root] * 3, "frame"), NAMES, LABELS)
    args = arguments([root] * 3, "utt")
    args.audio_feature = args.text_feature = args.video_feature = str(tree.features / root)
    with pytest.warns(UserWarning, match="empty"), pytest.raises(InvalidTensor, match="/empty"):
        DataFeat(args, [*NAMES, "empty"], LABELS)


# --- what there is -------------------------------------------------------------------------------


def test_feature_folders_exist_with_the_separator_that_they_have(tree: Tree) -> None:
    tree.add("manet_UTT", utt(4)).add(f"{HUBERT}-UTT", utt(4))
    assert tree.store
    features = str(tree.elsewhere)
    assert mertools.feature_exists(features, "manet_UTT")
    assert not mertools.feature_exists(features, "manet-FRA")
    assert mertools.feature_folder(features, "manet") == "manet_UTT"
    assert mertools.feature_folder(features, HUBERT) == f"{HUBERT}-UTT"
    with pytest.raises(UnknownView, match="near: manet_UTT"):
        mertools.feature_folder(features, "manett")


def test_progress_and_completeness(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("manet_UTT", utt(4)).add(f"{HUBERT}-FRA", {"a": floats(3, 2)})
    assert tree.store
    assert mertools.feature_extraction_progress("MER2023") == {f"{HUBERT}-FRA": 1, "manet_UTT": 9}
    assert f"{HUBERT}-FRA: 1 samples, a is (3, 2)" in capsys.readouterr().out
    lacking = mertools.check_feature_completeness("MER2023", [*NAMES[:2], "a"])
    assert lacking == {f"{HUBERT}-FRA": NAMES[:2], "manet_UTT": ["a"]}
    one = mertools.check_feature_completeness("mer2023", ["a"], ["manet_UTT"], quiet=True)
    assert one == {"manet_UTT": ["a"]}
    with pytest.raises(UnknownView, match="'meld'"):
        mertools.feature_extraction_progress("MELD")


def test_face_stacks(tree: Tree) -> None:
    tree.add("manet_UTT", utt(4))
    view = tree.store.create_view(
        "mer2023/face/openface_face", dtype="uint8", shape=(None, 112, 112, 3)
    )
    faces = np.random.default_rng(0).integers(0, 255, (2, 112, 112, 3), np.uint8)
    view.update({"a": faces})
    root = os.path.join(tree.elsewhere.parent, "openface_face")
    assert same(mertools.face_stack(root, "a"), faces)

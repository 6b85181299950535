"""What of a checkout is replaced when it is imported, and what is not."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merstore
from merstore.errors import MerstoreError, MissingEntry, UnknownView
from merstore.interop import mertools
from merstore.interop.importing import import_tree
from merstore.interop.switch import routed
from merstore.interop.trees import discover

pytest.importorskip("torch")

CHECKOUT = Path(__file__).parent / "old_checkout"
FOLDERS = ("chinese-hubert-large-FRA", "Baichuan-13B-Base-FRA", "manet_FRA")
NAMES = [f"s{number}" for number in range(8)]
LABELS = [{"emo": number % 6, "val": number / 2} for number in range(8)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkout on Python's path, not imported yet, and its features: the dataset's folder."""
    home = tmp_path / "mer2023-dataset-process"
    rng = np.random.default_rng(1)
    for dim, folder in enumerate(FOLDERS, 3):
        (home / "features" / folder).mkdir(parents=True)
        for name in NAMES:
            array = rng.standard_normal((rng.integers(1, 30), dim)).astype("f4")
            np.save(home / "features" / folder / f"{name}.npy", array)
    monkeypatch.setenv("CHECKOUT_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(CHECKOUT), *sys.path])
    forget()
    yield home
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("toolkit", "config")]:
        del sys.modules[name]


@pytest.fixture
def stored(checkout: Path, tmp_path: Path) -> Path:
    with merstore.open(tmp_path / "s.mer", "a") as store:
        import_tree(store, discover(checkout))
    return tmp_path / "s.mer"


def arguments(feat_type: str = "frm_align", *folders: str) -> Namespace:
    audio, text, video = folders or FOLDERS
    return Namespace(
        audio_feature=audio, text_feature=text, video_feature=video,
        feat_type=feat_type, feat_scale=mertools.SCALES[feat_type], dataset="MER2023",
    )  # fmt: skip


def batches(data: Any) -> list[bytes]:
    batch, emos, vals, names = data.collater([data[i] for i in range(len(data))])
    return [*(values.numpy().tobytes() for values in batch.values()), repr((emos, vals, names))]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many names each of our datasets is made."""
    made: list[int] = []
    original = mertools.DataFeat.__init__

    def count(self: Any, args: Any, names: Any, *rest: Any, **more: Any) -> None:
        made.append(len(names))
        original(self, args, names, *rest, **more)

    monkeypatch.setattr(mertools.DataFeat, "__init__", count)
    return made


@pytest.mark.parametrize("feat_type", ["utt", "frm_align", "frm_unalign"])
def test_its_dataset_is_filled_in_one_go_with_the_same_batches(
    stored: Path, made: list[int], feat_type: str
) -> None:
    module = import_module("toolkit.dataloader.feature_data")
    before = batches(module.Data_Feat(arguments(feat_type), NAMES, LABELS))
    assert not made
    forget()
    with routed(stored):
        data = import_module("toolkit.dataloader.feature_data").Data_Feat(
            arguments(feat_type), NAMES, LABELS
        )
    assert made == [3, 8]  # the trial, and the split
    assert batches(data) == before
    assert data.get_featdim() == (3, 4, 5)
    assert {array.dtype for array in data.audios} == {np.dtype("f4")}


def test_modules_that_were_imported_before_are_served_too(stored: Path, made: list[int]) -> None:
    module = import_module("toolkit.dataloader.feature_data")
    reader = import_module("toolkit.utils.read_features")
    functions = reader.func_read_multiprocess, reader.func_read_one_feat
    init = module.Data_Feat.__init__
    with routed(stored):
        assert module.func_read_multiprocess is reader.func_read_multiprocess is not functions[0]
        module.Data_Feat(arguments(), NAMES, LABELS)
        assert made == [3, 8]
    assert (reader.func_read_multiprocess, reader.func_read_one_feat) == functions
    assert module.func_read_multiprocess is functions[0]
    assert module.Data_Feat.__init__ is init


def test_a_dataset_that_does_something_else_does_so_still(
    stored: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("toolkit.dataloader.feature_data")
    shorten = module.shorten
    monkeypatch.setattr(module, "shorten", lambda x, length: 2 * shorten(x, length))
    before = batches(module.Data_Feat(arguments(), NAMES, LABELS))
    with routed(stored):
        data = module.Data_Feat(arguments(), NAMES, LABELS)
    assert made == [3]
    assert batches(data) == before


def test_folders_that_the_store_lacks_are_read_by_the_checkout(
    checkout: Path, stored: Path
) -> None:
    (checkout / "features" / "mine-FRA").mkdir()
    for name in NAMES:
        np.save(checkout / "features" / "mine-FRA" / f"{name}.npy", np.ones((2, 2)))
    args = arguments("frm_unalign", FOLDERS[0], "mine-FRA", FOLDERS[2])
    module = import_module("toolkit.dataloader.feature_data")
    before = batches(module.Data_Feat(args, NAMES, LABELS))
    with routed(stored):
        assert batches(module.Data_Feat(args, NAMES, LABELS)) == before


def test_what_is_nowhere_is_told_with_the_nearest_names(checkout: Path, stored: Path) -> None:
    with routed(stored):
        module = import_module("toolkit.dataloader.feature_data")
        with pytest.raises(UnknownView, match="near: manet_FRA"):
            module.Data_Feat(arguments("utt", "manett_FRA", *FOLDERS[1:]), NAMES, LABELS)
        with pytest.raises(MissingEntry, match=r"mer2023/audio@chinese-hubert-large/FRA.*nobody"):
            module.Data_Feat(arguments(), [*NAMES, "nobody"], [*LABELS, LABELS[0]])


def test_what_is_nowhere_may_be_masked(stored: Path) -> None:
    with routed(stored, on_miss="mask"):
        module = import_module("toolkit.dataloader.feature_data")
        data = module.Data_Feat(arguments("utt"), [*NAMES, "nobody"], [*LABELS, LABELS[0]])
        assert [data[8][role].tolist() for role in ("audio", "text")] == [[0] * 3, [0] * 4]
        arrays, _ = module.func_read_multiprocess(
            f"{os.environ['CHECKOUT_DATA']}/mer2023-dataset-process/features/{FOLDERS[0]}",
            ["nobody"],
        )
        assert arrays[0].tolist() == [[0] * 3]
    with pytest.raises(MerstoreError, match="on_miss"), routed(stored, on_miss="skip"):
        pass


def test_functions_of_other_arguments_are_left_alone(stored: Path) -> None:
    def func_read_multiprocess(path: str) -> None: ...

    class Other:
        pass

    module = type(sys)("other_reader")
    module.func_read_multiprocess = func_read_multiprocess  # type: ignore[attr-defined]
    Other.__module__ = "other_reader"
    module.Data_Feat = Other  # type: ignore[attr-defined]
    sys.modules["other_reader"] = module
    try:
        with routed(stored):
            assert module.func_read_multiprocess is func_read_multiprocess
            assert Other.__init__ is object.__init__
    finally:
        del sys.modules["other_reader"]

"""What the safetensors library reads of an export is what the store holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import DTYPES

from merstore.interop import safetensors_export
from merstore.interop.safetensors_export import export_safetensors
from merstore.store.store import Store

safetensors = pytest.importorskip("safetensors")

FRAME = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray[Any, Any]]]:
    """By the library itself."""
    with safetensors.safe_open(path, "np") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def shards(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_a_view_of_one_shape_is_one_tensor_with_the_names_beside_it(
    store: Store, tmp_path: Path
) -> None:
    view = store.create_view(FRAME, shape=(8, 3), spec={"encoder": "clip"})
    entries = {f"样本_{i}": np.random.default_rng(i).random((8, 3), np.float32) for i in range(5)}
    view.update(entries)
    view.fail("gone", "no_video", "has no moving pictures")
    report = export_safetensors(store, tmp_path / "out")
    assert (report.written, report.bytes, report.problems) == (5, 5 * 96, [])
    (path,) = shards(tmp_path / "out" / FRAME)
    assert path.name == "features-00001-of-00001.safetensors"
    metadata, tensors = read(path)
    assert list(tensors) == ["features"]
    assert tensors["features"].shape == (5, 8, 3)
    for name, row in zip(json.loads(metadata["names"]), tensors["features"], strict=True):
        assert np.array_equal(row, entries[name])
    assert metadata["view"] == FRAME
    assert json.loads(metadata["spec"]) == {"encoder": "clip"}
    assert metadata["fingerprint"] == view.fingerprint
    assert json.loads(metadata["failures"]) == {"gone": "no_video"}
    assert metadata["shard"] == "1/1"


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "bfloat16"])
@pytest.mark.parametrize("shape", [(3,), (None, 3), (None,), ()], ids=str)
def test_every_dtype_and_shape_in_shards_of_a_size(
    store: Store,
    tmp_path: Path,
    dtype: str,
    shape: tuple[int | None, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safetensors_export, "_PIECE_BYTES", 16)
    view = store.create_view("meld/x/y", dtype=dtype, shape=shape)
    rng = np.random.default_rng(0)
    entries = {
        f"s{i:02d}": (rng.random([i % 4 + 1 if s is None else s for s in shape]) * 99).astype(dtype)
        for i in range(20)
    }
    view.update(entries)
    export_safetensors(store, tmp_path, shard_bytes=20)
    found = shards(tmp_path / "meld/x/y")
    assert len(found) > 1 or np.dtype(dtype).itemsize == 1
    names: list[str] = []
    for number, path in enumerate(found, 1):
        metadata, tensors = read(path)
        assert metadata["shard"] == f"{number}/{len(found)}"
        assert ("failures" in metadata) == (number == 1)
        these = json.loads(metadata["names"])
        names += these
        for i, name in enumerate(these):
            if "offsets" in tensors:
                begin, end = tensors["offsets"][i : i + 2]
                got = tensors["values"][begin:end]
            else:
                got = tensors["features"][i]
            assert (got.dtype, got.shape) == (entries[name].dtype, entries[name].shape)
            assert got.tobytes() == entries[name].tobytes()
    assert names == list(entries)


def test_bfloat16_becomes_float32_with_a_note(store: Store, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    view = store.create_view("meld/x/y", dtype="bfloat16", shape=(4,))
    view["a"] = torch.arange(4, dtype=torch.bfloat16)
    report = export_safetensors(store, tmp_path)
    assert report.views[0].notes == {"bfloat16 as float32": 1}
    _, tensors = read(*shards(tmp_path / "meld/x/y"))
    assert tensors["features"].tolist() == [[0, 1, 2, 3]]


def test_the_same_export_again_writes_nothing(store: Store, tmp_path: Path) -> None:
    view = store.create_view("meld/x/y", shape=(4,))
    view.update({name: np.ones(4, np.float32) for name in "abc"})
    export_safetensors(store, tmp_path, shard_bytes=32)
    again = export_safetensors(store, tmp_path, shard_bytes=32)
    assert (again.written, again.unchanged, again.refused) == (0, 3, [])
    view["a"] = np.zeros(4, np.float32)
    refused = export_safetensors(store, tmp_path, shard_bytes=32)
    assert [each.name for each in refused.refused] == ["features-00001-of-00002.safetensors"]
    assert refused.unchanged == 1
    assert export_safetensors(store, tmp_path, shard_bytes=32, overwrite=True).written == 2
    _, tensors = read(shards(tmp_path / "meld/x/y")[0])
    assert not tensors["features"][0].any()


def test_shards_of_another_export_are_in_the_way(store: Store, tmp_path: Path) -> None:
    view = store.create_view("meld/x/y", shape=(4,))
    view.update({name: np.ones(4, np.float32) for name in "abc"})
    export_safetensors(store, tmp_path, shard_bytes=16)
    ((_, problem),) = export_safetensors(store, tmp_path).problems
    assert "of another export" in problem
    assert len(shards(tmp_path / "meld/x/y")) == 3
    export_safetensors(store, tmp_path, overwrite=True)
    assert len(shards(tmp_path / "meld/x/y")) == 1


def test_a_view_that_is_empty_has_no_file(store: Store, tmp_path: Path) -> None:
    store.create_view("meld/x/y", shape=(4,))
    assert export_safetensors(store, tmp_path / "out").views[0].written == 0
    assert not (tmp_path / "out").exists()

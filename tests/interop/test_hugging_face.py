"""Views become a datasets.Dataset: the same numbers, typed, in Arrow's memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import InvalidTensor, MissingEntry
from merstore.interop import hugging_face
from merstore.store.store import Store

datasets = pytest.importorskip("datasets")

NAMES = ["a", "b", "中文"]


def make(store: Store, path: str, dtype: str, shape: tuple[int | None, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(len(shape))
    entries = {
        name: (rng.random(tuple(n + 1 if s is None else s for s in shape)) * 9).astype(dtype)
        for n, name in enumerate(NAMES)
    }
    store.create_view(path, dtype=dtype, shape=shape).update(entries)
    return entries


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize(
    "shape", [(), (4,), (None,), (8, 3), (None, 3), (2, 3, 4), (None, 2, 2, 3)], ids=str
)
def test_a_column_has_the_entries_of_its_view(
    store: Store, dtype: str, shape: tuple[int | None, ...]
) -> None:
    entries = make(store, "mer2023/x/y", dtype, shape)
    made = hugging_face.to_dataset(store["mer2023/x/y"])
    assert list(made["name"]) == NAMES
    assert dtype in str(made.features["x"])
    for row in made:
        got = np.array(row["x"], dtype)
        assert (got.shape, got.tobytes()) == (
            entries[row["name"]].shape,
            entries[row["name"]].tobytes(),
        )


def test_columns_are_typed(store: Store) -> None:
    make(store, "mer2023/frame@clip/8", "float32", (8, 3))
    make(store, "mer2023/audio@hubert/UTT", "float16", (4,))
    make(store, "mer2023/face/openface", "uint8", (None, 2, 2, 3))
    made = hugging_face.to_dataset(list(store.values()), columns={"label": dict.fromkeys(NAMES, 1)})
    assert made.features == datasets.Features(
        {
            "name": datasets.Value("string"),
            "audio": datasets.List(datasets.Value("float16"), length=4),
            "face": datasets.Array4D((None, 2, 2, 3), "uint8"),
            "frame": datasets.Array2D((8, 3), "float32"),
            "label": datasets.Value("int64"),
        }
    )
    assert made["label"][:] == [1, 1, 1]


def test_what_is_missing_is_said(store: Store) -> None:
    make(store, "mer2023/frame@clip/8", "float32", (2, 3))
    make(store, "mer2023/audio@hubert/FRA", "float32", (None, 3))
    names = ["a", "gone"]
    with pytest.raises(MissingEntry, match="gone"):
        hugging_face.to_dataset(list(store.values()), names)
    made = hugging_face.to_dataset(list(store.values()), names, on_miss="mask")
    assert made["frame_mask"][:] == [True, False]
    assert made["audio_mask"][:] == [True, False]
    assert np.shape(made[0]["audio"]) == (1, 3)
    assert len(made[1]["audio"]) == 0


def test_many_chunks_are_one_dataset(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face, "CHUNK_BYTES", 1000)
    view = store.create_view("mer2023/audio@hubert/FRA", shape=(None, 3))
    entries = {f"s{i:03d}": np.full((1 + i % 7, 3), i, np.float32) for i in range(100)}
    view.update(entries)
    made = hugging_face.to_dataset(view)
    assert made.data.column("audio").num_chunks > 5
    made.save_to_disk(tmp_path / "saved")
    for row in datasets.load_from_disk(tmp_path / "saved").with_format("numpy"):
        assert np.array_equal(row["audio"], entries[row["name"]])


def test_the_features_are_not_copied_again(store: Store) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    view = store.create_view("mer2023/frame@clip/8", shape=(8, 64))
    view.update({f"s{i:04d}": np.full((8, 64), i, np.float32) for i in range(1000)})
    before = pyarrow.total_allocated_bytes()
    made = hugging_face.to_dataset(view)
    # names and offsets are Arrow's, the features are where they were gathered to
    assert pyarrow.total_allocated_bytes() - before < 8 * 64 * 4 * 1000 / 4
    assert len(made) == 1000


def test_six_dimensions_are_too_many(store: Store) -> None:
    store.create_view("mer2023/x/y", shape=(1,) * 6)["a"] = np.zeros((1,) * 6, np.float32)
    with pytest.raises(InvalidTensor, match="has 6 dimensions"):
        hugging_face.to_dataset(store["mer2023/x/y"])

"""FeatureDataset and FeatureLoader, under torch's DataLoader in every way it can be asked."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import merstore
from merstore.load import FeatureBatch, FeatureDataset, FeatureLoader

SAMPLES = 50
WORKERS: list[tuple[int, str | None]] = [(0, None), (2, "fork"), (2, "spawn"), (2, "forkserver")]


@pytest.fixture
def views(store: merstore.Store) -> dict[str, merstore.View]:
    frame = store.create_view("demo/frame@X/uniform_8frms", shape=(8, 4))
    audio = store.create_view("demo/audio@Y/FRA", shape=(None, 3))
    frame.update({f"s{i:02d}": np.full((8, 4), i, np.float32) for i in range(SAMPLES)})
    audio.update({f"s{i:02d}": np.full((i % 5 + 1, 3), i, np.float32) for i in range(SAMPLES)})
    return {"frame": frame, "audio": audio}


def test_an_item_has_its_name_and_a_tensor_of_each_view(views: dict[str, merstore.View]) -> None:
    dataset = FeatureDataset(list(views.values()))
    item = dataset[7]
    assert item["name"] == "s07"
    assert item["frame"].equal(torch.full((8, 4), 7.0))
    assert item["audio"].equal(torch.full((3, 3), 7.0))
    assert dataset[-1]["name"] == f"s{SAMPLES - 1}"
    assert len(dataset) == SAMPLES


def test_a_list_of_rows_is_a_batch_with_padding_lengths_and_masks(
    views: dict[str, merstore.View],
) -> None:
    batch = FeatureDataset(views)[[3, 0, 4]]
    assert isinstance(batch, FeatureBatch)
    assert batch.names == ["s03", "s00", "s04"]
    assert batch["frame"][:, 0, 0].tolist() == [3, 0, 4]
    assert batch["audio"].shape == (3, 5, 3)
    assert batch.lengths["audio"].tolist() == [4, 1, 5]
    assert not batch["audio"][1, 1:].any()
    assert batch.mask["frame"].all()


def test_keys_are_modalities_or_what_tells_two_views_apart(
    store: merstore.Store, views: dict[str, merstore.View]
) -> None:
    other = store.create_view("demo/audio@Z/UTT", shape=(3,))
    other.update({name: np.ones(3, np.float32) for name in views["audio"]})
    dataset = FeatureDataset([*views.values(), other])
    assert list(dataset.views) == ["frame", "audio@Y/FRA", "audio@Z/UTT"]
    assert list(FeatureDataset({"a": views["audio"], "b": other}).views) == ["a", "b"]


def test_by_default_the_samples_are_those_of_all_views(
    store: merstore.Store, views: dict[str, merstore.View]
) -> None:
    del views["audio"]["s10"]
    names = list(FeatureDataset(list(views.values())).names)
    assert len(names) == SAMPLES - 1
    assert "s10" not in names
    empty = store.create_view("demo/text@T/UTT", shape=(3,))
    with pytest.raises(merstore.MissingEntry, match="demo/text@T/UTT has 0"):
        FeatureDataset([views["frame"], empty])


def test_a_missing_sample_raises_or_is_masked_as_asked(views: dict[str, merstore.View]) -> None:
    frame = views["frame"]
    with pytest.raises(merstore.MissingEntry, match="nobody"):
        FeatureDataset(frame, ["s01", "nobody"])[1]
    masked = FeatureDataset(frame, ["s01", "nobody"], on_miss="mask")
    assert masked[0]["frame_mask"]
    assert not masked[1]["frame_mask"]
    assert masked[[0, 1]].mask["frame"].tolist() == [True, False]
    with pytest.raises(merstore.MerstoreError, match="leave them out"):
        FeatureDataset(frame, on_miss="skip")


def test_rows_outside_are_an_index_error(views: dict[str, merstore.View]) -> None:
    dataset = FeatureDataset(views["frame"])
    for rows in (SAMPLES, -SAMPLES - 1, [0, SAMPLES]):
        with pytest.raises(IndexError, match=f"of {SAMPLES}"):
            dataset[rows]


@pytest.mark.parametrize(("workers", "method"), WORKERS)
def test_the_loader_serves_every_sample_once_with_any_workers(
    views: dict[str, merstore.View], workers: int, method: str | None
) -> None:
    loader = FeatureLoader(
        FeatureDataset(views), 8, shuffle=True, num_workers=workers, multiprocessing_context=method
    )
    assert len(loader) == 7
    first = [name for batch in loader for name in _checked(batch)]
    second = [name for batch in loader for name in _checked(batch)]
    assert sorted(first) == sorted(second) == sorted(views["frame"])
    assert first != second


@pytest.mark.parametrize(("workers", "method"), WORKERS)
def test_a_plain_dataloader_collates_items(
    views: dict[str, merstore.View], workers: int, method: str | None
) -> None:
    loader: DataLoader[Any] = DataLoader(
        FeatureDataset(views["frame"]),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=method,
        persistent_workers=workers > 0,
    )
    for _ in range(2):
        names = []
        for batch in loader:
            assert batch["frame"][:, 0, 0].tolist() == [float(name[1:]) for name in batch["name"]]
            names += batch["name"]
        assert sorted(names) == sorted(views["frame"])


def _checked(batch: FeatureBatch) -> list[str]:
    numbers = [float(name[1:]) for name in batch.names]
    assert batch["frame"][:, 7, 3].tolist() == numbers
    assert batch["audio"][:, 0, 0].tolist() == numbers
    return batch.names


def test_the_order_depends_on_seed_and_epoch_alone(views: dict[str, merstore.View]) -> None:
    dataset = FeatureDataset(views["frame"])

    def order(seed: int) -> list[str]:
        loader = FeatureLoader(dataset, 8, shuffle=True, seed=seed)
        return [name for _ in range(2) for batch in loader for name in batch.names]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_next_epoch_sees_what_was_written_meanwhile(
    store: merstore.Store, views: dict[str, merstore.View]
) -> None:
    with merstore.open(store.path) as reader:
        loader = FeatureLoader(FeatureDataset(reader[views["frame"].path]), 64)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 0
        views["frame"]["s00"] = np.full((8, 4), 9, np.float32)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 9


def test_a_dataset_is_pickled_as_names_and_paths(views: dict[str, merstore.View]) -> None:
    dataset = FeatureDataset(views)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 3000
    copy = pickle.loads(pickled)
    assert copy.names == dataset.names
    assert copy[5]["frame"].equal(dataset[5]["frame"])


def test_batches_move_and_keep_their_names(views: dict[str, merstore.View]) -> None:
    batch = FeatureDataset(views)[[0, 1]]
    moved = batch.to("cpu")
    assert moved.names == batch.names
    assert set(moved.keys()) == {"frame", "audio"}
    assert len(moved) == 2
    assert moved.lengths["audio"].equal(batch.lengths["audio"])


def test_a_store_elsewhere_reads_from_a_read_only_path(
    tmp_path: Path, views: dict[str, merstore.View]
) -> None:
    path = views["frame"].store.path
    with merstore.open(path, io="pread", checksum=True) as reader:
        dataset = FeatureDataset(reader[views["frame"].path])
        assert dataset[3]["frame"].equal(torch.full((8, 4), 3.0))

"""FeatureDataset and FeatureLoader, under torch's DataLoader in every way it can be asked."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import SAMPLES, Views
from torch.utils.data import DataLoader

import merstore
from merstore.load import FeatureBatch, FeatureDataset

WORKERS: list[tuple[int, str | None]] = [(0, None), (2, "fork"), (2, "spawn"), (2, "forkserver")]


def test_an_item_has_its_name_and_a_tensor_of_each_view(views: Views) -> None:
    dataset = FeatureDataset(list(views.values()))
    item = dataset[7]
    assert item["name"] == "s07"
    assert item["frame"].equal(torch.full((8, 4), 7.0))
    assert item["audio"].equal(torch.full((3, 3), 7.0))
    assert dataset[-1]["name"] == f"s{SAMPLES - 1}"
    assert len(dataset) == SAMPLES


def test_a_list_of_rows_is_a_batch_with_padding_lengths_and_masks(
    views: Views,
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
    store: merstore.Store, views: Views
) -> None:
    other = store.create_view("demo/audio@Z/UTT", shape=(3,))
    other.update({name: np.ones(3, np.float32) for name in views["audio"]})
    dataset = FeatureDataset([*views.values(), other])
    assert list(dataset.views) == ["frame", "audio@Y/FRA", "audio@Z/UTT"]
    assert list(FeatureDataset({"a": views["audio"], "b": other}).views) == ["a", "b"]


def test_by_default_the_samples_are_those_of_all_views_and_it_says_what_is_left_out(
    tmp_path: Path, views: Views
) -> None:
    for name in ("s10", "s11", "s12", "s13"):
        del views["audio"][name]
    views["audio"]["t00"] = np.ones((2, 3), np.float32)
    with pytest.warns(UserWarning, match="46 samples are in all") as warned:
        names = list(FeatureDataset(views).names)
    assert names == [f"s{i:02d}" for i in range(SAMPLES) if not 10 <= i < 14]
    told = str(warned[0].message)
    assert "demo/audio@Y/FRA has 47 and lacks s10, s11, s12 and 1 more" in told
    assert "demo/frame@X/uniform_8frms has 50 and lacks t00" in told
    with merstore.open(tmp_path / "other.mer", "a") as other:  # of another store
        text = other.create_view("demo/text@T/UTT", shape=(3,))
        text.update({"s10": np.ones(3, np.float32), "s20": np.ones(3, np.float32)})
        with pytest.warns(UserWarning, match="text@T/UTT has 2 and lacks s00, s01"):
            assert list(FeatureDataset([views["frame"], text]).names) == ["s10", "s20"]
        text = other.create_view("demo/text@U/UTT", shape=(3,))
        text["u"] = np.ones(3, np.float32)
        with pytest.raises(
            merstore.MissingEntry, match=r"no sample .* has 50 and lacks u; .* has 1 and"
        ):
            FeatureDataset([views["frame"], text])


def test_the_samples_may_be_in_any_order_in_each_view(views: Views) -> None:
    views["frame"].update({f"r{i}": np.full((8, 4), i, np.float32) for i in range(9)})
    names = ["s03", "r1", "s49", "r8"]
    dataset = FeatureDataset(views["frame"], names)
    assert dataset[[0, 1, 2, 3]]["frame"][:, 0, 0].tolist() == [3, 1, 49, 8]


def test_an_empty_or_unknown_view_is_an_error(store: merstore.Store, views: Views) -> None:
    empty = store.create_view("demo/text@T/UTT", shape=(3,))
    with pytest.raises(merstore.MissingEntry, match="demo/text@T/UTT has 0"):
        FeatureDataset(empty)
    with pytest.raises(merstore.MissingEntry, match="demo/text@T/UTT has 0"):
        FeatureDataset([views["frame"], empty])
    with pytest.raises(merstore.UnknownView, match="near: demo/text@T/UTT"):
        FeatureDataset(store["demo/text@T/UTTER"])
    for wrong in ("demo/text@T/UTT", store, None, ["demo/text@T/UTT"], {"a": 1}):
        with pytest.raises(merstore.MerstoreError, match="a view is what store"):
            FeatureDataset(wrong)  # type: ignore[arg-type]
    with pytest.raises(merstore.MerstoreError, match="at least one view"):
        FeatureDataset([])


def test_names_that_come_twice_are_named(views: Views) -> None:
    with pytest.raises(merstore.MerstoreError, match=r"2 of the names .* more than once: s03, s01"):
        FeatureDataset(views, ["s01", "s03", "s02", "s03", "s01", "s03"])
    with pytest.raises(merstore.MerstoreError, match="names is empty"):
        FeatureDataset(views, [])
    with pytest.raises(merstore.MerstoreError, match="not 's01'"):
        FeatureDataset(views, "s01")
    with pytest.raises(merstore.InvalidKey, match="'a/b'"):
        FeatureDataset(views, ["s01", "a/b"])


def test_a_missing_sample_raises_or_is_masked_as_asked(views: Views) -> None:
    frame = views["frame"]
    with pytest.raises(merstore.MissingEntry, match="nobody"):
        FeatureDataset(frame, ["s01", "nobody"])[1]
    masked = FeatureDataset(frame, ["s01", "nobody"], on_miss="mask")
    assert masked[0]["frame_mask"]
    assert not masked[1]["frame_mask"]
    assert masked[[0, 1]].mask["frame"].tolist() == [True, False]
    with pytest.raises(merstore.MerstoreError, match="leave them out"):
        FeatureDataset(frame, on_miss="skip")


def test_rows_outside_are_an_index_error(views: Views) -> None:
    dataset = FeatureDataset(views["frame"])
    for rows in (SAMPLES, -SAMPLES - 1, [0, SAMPLES]):
        with pytest.raises(IndexError, match=f"of {SAMPLES}"):
            dataset[rows]


@pytest.mark.parametrize(("workers", "method"), WORKERS)
def test_a_plain_dataloader_collates_items(views: Views, workers: int, method: str | None) -> None:
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


def test_ragged_items_collate_where_a_length_is_stated(views: Views) -> None:
    loader: DataLoader[Any] = DataLoader(FeatureDataset(views, length="max"), batch_size=8)
    for batch in loader:
        assert batch["audio"].shape[1:] == (5, 3)
        for values, length, name in zip(
            batch["audio"], batch["audio_length"], batch["name"], strict=True
        ):
            assert values[:length].eq(float(name[1:])).all()
            assert not values[length:].any()


def test_lengths_are_known_without_the_payloads(views: Views) -> None:
    dataset = FeatureDataset(views, ["s04", "s00", "nobody"], on_miss="mask")
    assert dataset.lengths("audio").tolist() == [5, 1, 0]


def test_a_dataset_is_pickled_as_names_and_paths(views: Views) -> None:
    dataset = FeatureDataset(views)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 3000
    copy = pickle.loads(pickled)
    assert copy.names == dataset.names
    assert copy[5]["frame"].equal(dataset[5]["frame"])


def test_batches_move_and_keep_their_names(views: Views) -> None:
    batch = FeatureDataset(views)[[0, 1]]
    moved = batch.to("cpu")
    assert moved.names == batch.names
    assert set(moved.keys()) == {"frame", "audio", "audio_length"}
    assert len(moved) == 2
    assert moved.lengths["audio"].equal(batch.lengths["audio"])


def test_a_store_elsewhere_reads_from_a_read_only_path(tmp_path: Path, views: Views) -> None:
    path = views["frame"].store.path
    with merstore.open(path, io="pread", checksum=True) as reader:
        dataset = FeatureDataset(reader[views["frame"].path])
        assert dataset[3]["frame"].equal(torch.full((8, 4), 3.0))


def test_a_part_of_it_is_a_dataset(views: Views) -> None:
    whole = FeatureDataset(views, columns={"label": {f"s{i:02d}": i for i in range(SAMPLES)}})
    part = whole.take([5, 0, -1])
    assert list(part.names) == ["s05", "s00", f"s{SAMPLES - 1:02d}"]
    assert part[[0, 1, 2]]["label"].tolist() == [5, 0, SAMPLES - 1]
    assert part[[1]]["frame"].equal(whole[[0]]["frame"])
    assert len(whole) == SAMPLES
    assert list(pickle.loads(pickle.dumps(part)).names) == list(part.names)
    with pytest.raises(IndexError):
        whole.take([SAMPLES])
    with pytest.raises(merstore.MerstoreError, match="more than once"):
        whole.take([1, 1])

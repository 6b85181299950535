"""FeatureDataset(exclude=...): samples with a flag of quality are left out."""

import pickle

import numpy as np
import pytest
from loading import SAMPLES, Views

import merstore
from merstore.errors import MerstoreError, MissingEntry
from merstore.load import FeatureDataset
from merstore.store.quality import pack, quality_view


@pytest.fixture
def flagged(store: merstore.Store, views: Views) -> Views:
    audio = quality_view(store, "demo", "audio")
    audio.update({name: pack(["silent"], {}) for name in ("s03", "s07")})
    video = quality_view(store, "demo", "video")
    video.update({name: pack([], {"content": "same"}) for name in ("s01", "s05", "s09")})
    video["s07"] = pack(["rotated"], {"content": "same"})
    return views


def left_out(dataset: FeatureDataset) -> set[str]:
    return {f"s{i:02d}" for i in range(SAMPLES)} - set(dataset.names)


def test_samples_with_any_of_the_flags_are_left_out(flagged: Views) -> None:
    assert left_out(FeatureDataset(flagged, exclude={"silent"})) == {"s03", "s07"}
    assert left_out(FeatureDataset(flagged, exclude="rotated")) == {"s07"}
    assert left_out(FeatureDataset(flagged, exclude=["silent", "duplicate"])) == {
        "s03", "s05", "s07", "s09",
    }  # fmt: skip
    assert not left_out(FeatureDataset(flagged, exclude={"no_face"}))
    assert not left_out(FeatureDataset(flagged))


def test_names_keep_their_order_and_columns_their_samples(flagged: Views) -> None:
    names = ["s09", "s03", "s01", "s00"]
    dataset = FeatureDataset(
        flagged,
        names,
        columns={
            "place": np.arange(4),
            "label": {"s09": 9, "s01": 1, "s00": 0},  # none is needed of what is left out
        },
        exclude={"silent"},
    )
    assert list(dataset.names) == ["s09", "s01", "s00"]
    assert dataset[[0, 1, 2]]["place"].tolist() == [0, 2, 3]
    assert dataset[[0, 1, 2]]["label"].tolist() == [9, 1, 0]
    assert dataset[1]["frame"][0, 0] == 1


def test_of_duplicates_the_first_by_name_stays(flagged: Views) -> None:
    dataset = FeatureDataset(flagged, ["s09", "s05", "s02"], exclude={"duplicate"})
    assert list(dataset.names) == ["s05", "s02"]


def test_what_is_left_out_stays_out_of_parts_and_copies(flagged: Views) -> None:
    dataset = FeatureDataset(flagged, exclude={"silent"})
    assert list(dataset.take([2, 3]).names) == ["s02", "s04"]
    assert list(pickle.loads(pickle.dumps(dataset)).names) == list(dataset.names)


def test_an_unknown_flag_and_a_dataset_without_records_are_errors(
    store: merstore.Store, flagged: Views
) -> None:
    with pytest.raises(MerstoreError, match=r"no flag 'mute'; there is .*silent"):
        FeatureDataset(flagged, exclude={"mute"})
    with pytest.raises(MissingEntry, match="none of 1 samples is without silent"):
        FeatureDataset(flagged, ["s03"], exclude={"silent"})
    other = store.create_view("other/frame@X/UTT", shape=(2,))
    other["a"] = np.ones(2, np.float32)
    with pytest.raises(merstore.UnknownView, match="no records of quality of other"):
        FeatureDataset(other, exclude={"silent"})

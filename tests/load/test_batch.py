"""FeatureBatch: every layout of ragged views holds the same values; columns, masks and names go along."""

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from loading import SAMPLES, CountingFiller, Views, length

import merstore
from merstore.load import FeatureBatch, FeatureDataset, FeatureLoader

ROWS = np.array([3, 0, 4, 9])  # of 4, 1, 5 and 5 rows


def batch_of(views: Views, **options: Any) -> FeatureBatch:
    batch = FeatureDataset(views, **options)[ROWS]
    assert isinstance(batch, FeatureBatch)
    return batch


def sequences(batch: FeatureBatch) -> list[torch.Tensor]:
    """The audio of each sample, whatever the layout."""
    if "audio" in batch.offsets:
        values, offsets = batch.tensors["audio"], batch.offsets["audio"].tolist()
        return [values[a:b] for a, b in pairwise(offsets)]
    there = ~batch.padding("audio")
    return [row[mask] for row, mask in zip(batch["audio"], there, strict=True)]


@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
@pytest.mark.parametrize("side", ["back", "front"])
@pytest.mark.parametrize("dtype", [None, "float64", torch.float32])
def test_all_layouts_hold_the_same(views: Views, layout: str, side: str, dtype: Any) -> None:
    batch = batch_of(views, layout=layout, side=side, dtype=dtype)
    assert batch.lengths["audio"].tolist() == [length(i) for i in ROWS]
    expected = torch.float64 if dtype == "float64" else torch.float32
    for row, sequence in zip(ROWS, sequences(batch), strict=True):
        assert sequence.equal(torch.full((length(row), 3), float(row), dtype=expected))
    assert batch["frame"].dtype == expected
    if layout == "nested":
        assert batch["audio"].is_nested
        parts = zip(batch["audio"].unbind(), sequences(batch), strict=True)
        assert all(part.equal(sequence) for part, sequence in parts)
        assert dict(batch.items())["audio"].is_nested
    if layout == "values":
        assert batch["audio"].shape == (15, 3)


@pytest.mark.parametrize(("stated", "width"), [(None, 5), ("max", 5), (7, 7), (2, 2)])
@pytest.mark.parametrize("side", ["back", "front"])
def test_padding_goes_to_the_batchs_the_datasets_or_a_stated_length(
    views: Views, stated: Any, width: int, side: str
) -> None:
    batch = batch_of(views, length=stated, side=side)
    assert batch["audio"].shape == (4, width, 3)
    sizes = [min(length(i), width) for i in ROWS]
    assert batch.lengths["audio"].tolist() == sizes
    for values, padding, size in zip(batch["audio"], batch.padding("audio"), sizes, strict=True):
        assert padding.sum() == width - size
        assert not values[padding].any()
        assert padding.tolist() == sorted(padding.tolist(), reverse=side == "front")
    narrow = FeatureDataset(views, length=stated)[[0]]["audio"]
    assert narrow.shape[1] == (1 if stated is None else width)


def test_options_may_be_given_for_each_view(views: Views) -> None:
    views["spoken"] = views["audio"]
    batch = batch_of(
        views, layout={"spoken": "values"}, length={"audio": 8}, on_miss={"frame": "mask"}
    )
    assert batch["audio"].shape == (4, 8, 3)
    assert batch["spoken"].shape == (15, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "jagged"}, "layout is one of padded, values, nested"),
        ({"side": "left"}, "side is one of back, front"),
        ({"on_miss": "zero"}, "on_miss is one of"),
        ({"on_miss": "skip"}, "leave them out"),
        ({"length": 0}, "length is a number"),
        ({"length": "longest"}, "length is a number"),
        ({"length": 5, "layout": "values"}, "pads nothing"),
        ({"length": "max", "on_miss": "fill"}, "state the length"),
        ({"length": {"video": 5}}, "views are frame, audio"),
        ({"dtype": "complex64"}, "complex64"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    views: Views, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(merstore.MerstoreError, match=message):
        FeatureDataset(views, **options)


@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
def test_what_is_missing_is_masked_and_has_no_length(views: Views, layout: str) -> None:
    del views["audio"]["s03"]
    batch = batch_of(views, names=list(views["frame"]), on_miss="mask", layout=layout)
    assert batch.mask["audio"].tolist() == [False, True, True, True]
    assert batch.mask["frame"].all()
    assert batch.lengths["audio"].tolist() == [0, 1, 5, 5]
    assert [len(sequence) for sequence in sequences(batch)] == [0, 1, 5, 5]


def test_what_is_missing_is_computed_where_asked(views: Views) -> None:
    for name in ("s03", "s04"):
        del views["audio"][name]
    filler = views["audio"].filler = CountingFiller(failing=["s04"])
    batch = batch_of(views, names=list(views["frame"]), on_miss={"audio": "fill"})
    assert filler.asked == ["s03", "s04"]
    assert batch.mask["audio"].tolist() == [True, True, False, True]
    assert batch.lengths["audio"].tolist() == [4, 1, 0, 5]
    assert batch["audio"][0, :4].eq(3).all()


def test_columns_are_joined_by_name(views: Views) -> None:
    labels = {f"s{i:02d}": i * 10 for i in range(SAMPLES + 5)}
    names = [f"s{i:02d}" for i in reversed(range(SAMPLES))]
    vectors = np.arange(2 * SAMPLES, dtype=np.float32).reshape(SAMPLES, 2)
    dataset = FeatureDataset(views, names, columns={"label": labels, "vector": vectors})
    batch = dataset[[0, 3]]
    assert batch["label"].tolist() == [490, 460]
    assert batch["label"].dtype == torch.int64
    assert batch["vector"].tolist() == [[0, 1], [6, 7]]
    assert dataset[3]["label"] == 460
    assert dataset[3]["vector"].tolist() == [6, 7]
    assert set(batch.keys()) == {"frame", "audio", "audio_length", "label", "vector"}
    for loaded in FeatureLoader(dataset, 8, shuffle=True):
        assert loaded["label"].tolist() == [int(name[1:]) * 10 for name in loaded.names]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": {"s00": 1}}, "'label' has no value for 49 of 50 samples: s01, s02"),
        ({"label": [1, 2, 3]}, "order is that of names"),
        ({"label": {f"s{i:02d}": "happy" for i in range(SAMPLES)}}, "no tensor"),
        ({"label": {f"s{i:02d}": [0] * (i + 1) for i in range(SAMPLES)}}, "no tensor"),
        ({"frame": {f"s{i:02d}": 0 for i in range(SAMPLES)}}, "'frame'"),
        ({"name": {f"s{i:02d}": 0 for i in range(SAMPLES)}}, "'name'"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    views: Views, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(merstore.MerstoreError, match=message):
        FeatureDataset(views, columns=columns)


def test_an_array_must_be_as_long_as_the_dataset(views: Views) -> None:
    with pytest.raises(merstore.MerstoreError, match=r"shape \(3,\), and there are 2"):
        FeatureDataset(views, ["s00", "s01"], columns={"label": [1, 2, 3]})


def test_a_model_takes_a_batch_as_its_arguments(views: Views) -> None:
    def model(
        frame: torch.Tensor, audio: torch.Tensor, audio_length: torch.Tensor
    ) -> tuple[int, ...]:
        return *frame.shape, *audio.shape, int(audio_length.max())

    assert model(**batch_of(views)) == (4, 8, 4, 4, 5, 3, 5)


@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
def test_batches_are_pickled_with_their_own_names_only(views: Views, layout: str) -> None:
    batch = batch_of(views, layout=layout)
    copy = pickle.loads(pickle.dumps(batch))
    assert copy.names == batch.names == ["s03", "s00", "s04", "s09"]
    assert len(copy) == 4
    assert all(a.equal(b) for a, b in zip(copy.each(), batch.each(), strict=True))
    assert all(a.equal(b) for a, b in zip(sequences(copy), sequences(batch), strict=True))
    assert b"s30" not in pickle.dumps(batch)


def test_a_batch_moves_with_all_that_belongs_to_it(views: Views) -> None:
    batch = batch_of(views, layout="values").to("meta")
    assert batch.names[0] == "s03"
    assert {tensor.device.type for tensor in batch.each()} == {"meta"}
    assert len(list(batch.each())) == 2 + 2 + 1 + 1


@pytest.mark.gpu
def test_a_batch_is_pinned_with_all_that_belongs_to_it(views: Views) -> None:
    batch = batch_of(views).pin_memory()
    assert all(tensor.is_pinned() for tensor in batch.each())


def test_it_gives_a_model_what_an_item_has(views: Views) -> None:
    """As keyword arguments: tensors, lengths of what is padded, masks where something may miss."""
    assert list(batch_of(views)) == [*views, "audio_length"]
    values = batch_of(views, layout="values")
    assert list(values) == list(views)
    assert values["audio_length"].tolist() == [length(i) for i in ROWS]
    batch = batch_of(
        views,
        on_miss={"frame": "mask"},
        columns={"label": {f"s{i:02d}": 1 for i in range(SAMPLES)}},
    )
    assert set(batch) == {*views, "label", "frame_mask", "audio_length"}
    assert batch["audio_length"] is batch.lengths["audio"]
    assert batch["frame_mask"] is batch.mask["frame"]
    assert "audio_mask" not in batch
    assert {**batch}.keys() == set(batch)
    for key in ("nothing", "nothing_length", "frame_length", 0):
        with pytest.raises(KeyError):
            batch[key]  # type: ignore[index]

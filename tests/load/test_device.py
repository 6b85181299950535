"""Batches on a GPU: copied from pinned memory on a stream of their own, and right all the same."""

from typing import Any

import numpy as np
import pytest
from loading import SAMPLES, Views

import merstore
from merstore.load import FeatureDataset, FeatureLoader

pytestmark = pytest.mark.gpu

HOW: list[dict[str, Any]] = [
    {"threads": 0},
    {"threads": 2, "prefetch": 4},
    {"threads": 2, "cache": "device"},
    {"threads": 2, "cache": "ram"},
    {"threads": 1, "reuse": True},
]


@pytest.fixture
def large(store: merstore.Store) -> merstore.View:
    """Entries whose batches take a while to copy: 16 MiB."""
    view = store.create_view("demo/large@X/UTT", shape=(256, 1024))
    view.update((f"s{i:02d}", np.full((256, 1024), i, np.float32)) for i in range(SAMPLES))
    return view


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
def test_all_of_a_batch_is_there(views: Views, how: dict[str, Any], layout: str) -> None:
    dataset = FeatureDataset(views, layout=layout)
    there = FeatureLoader(dataset, 8, shuffle=True, device="cuda", **how)
    here = FeatureLoader(dataset, 8, shuffle=True)
    for batch, expected in zip(there, here, strict=True):
        assert {tensor.device.type for tensor in batch.each()} == {"cuda"}
        assert batch.names == expected.names
        assert all(a.cpu().equal(b) for a, b in zip(batch.each(), expected.each(), strict=True))
        assert batch["audio"].is_nested == (layout == "nested")


@pytest.mark.parametrize("how", HOW)
def test_work_on_a_batch_comes_after_its_copy(large: merstore.View, how: dict[str, Any]) -> None:
    loader = FeatureLoader(FeatureDataset(large), 16, shuffle=True, device="cuda", **how)
    for _ in range(5):
        for batch in loader:
            means = batch["large"].mean((1, 2))  # asked for at once
            assert means.tolist() == [float(name[1:]) for name in batch.names]


@pytest.mark.parametrize("how", HOW)
def test_kept_batches_never_change_there_either(large: merstore.View, how: dict[str, Any]) -> None:
    loader = FeatureLoader(FeatureDataset(large), 16, shuffle=True, device="cuda", **how)
    kept = [(batch.names, batch["large"][:, 3]) for _ in range(3) for batch in loader]
    for names, rows in kept:
        assert rows.mean(1).tolist() == [float(name[1:]) for name in names]


def test_pinned_batches_may_be_copied_and_dropped_at_once(large: merstore.View) -> None:
    loader = FeatureLoader(FeatureDataset(large), 16, shuffle=True, pin_memory=True)
    moved = []
    for _ in range(3):
        for batch in loader:
            assert all(tensor.is_pinned() for tensor in batch.each())
            moved.append((batch.names, batch["large"].to("cuda", non_blocking=True)))
            del batch  # its memory is not written to before the copy has ended
    for names, values in moved:
        assert values.mean((1, 2)).tolist() == [float(name[1:]) for name in names]

"""Views that are held in memory: the same batches as from the store, and never stale ones."""

from typing import Any

import numpy as np
import pytest
import torch
from loading import SAMPLES, CountingFiller, Views

import merstore
from merstore.load import FeatureBatch, FeatureDataset, FeatureLoader
from merstore.load import resident as resident_module
from merstore.load.resident import Cache

DEVICES = [
    pytest.param({"cache": "ram"}, id="ram"),
    pytest.param({"cache": "device", "device": "cpu"}, id="cpu"),
    pytest.param({"cache": "device", "device": "cuda"}, id="cuda", marks=pytest.mark.gpu),
]


def equal(one: FeatureBatch, other: FeatureBatch) -> bool:
    """Names, tensors, masks, lengths and offsets."""
    tensors = zip(one.each(), other.each(), strict=True)
    return one.names == other.names and all(a.cpu().equal(b.cpu()) for a, b in tensors)


@pytest.mark.parametrize("options", DEVICES)
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
@pytest.mark.parametrize("side", ["back", "front"])
@pytest.mark.parametrize("missing", [False, True])
def test_batches_are_those_of_the_store(
    views: Views, options: dict[str, Any], threads: int, layout: str, side: str, missing: bool
) -> None:
    names = [f"s{i:02d}" for i in np.random.default_rng(0).permutation(SAMPLES)]
    if missing:
        for name in ("s03", "s11"):
            del views["audio"][name]
        del views["frame"]["s03"]
    how: dict[str, Any] = {"layout": layout, "side": side, "on_miss": "mask", "dtype": "float64"}
    lengths = [None] if layout != "padded" else [None, "max", 2, 9]
    for length in lengths:
        dataset = FeatureDataset(views, names, length=length, **how)
        held = FeatureLoader(dataset, 8, shuffle=True, threads=threads, **options)
        plain = FeatureLoader(dataset, 8, shuffle=True, threads=0)
        for _ in range(2):
            assert all(equal(*pair) for pair in zip(held, plain, strict=True))
        assert set(held.held) == {"frame", "audio"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint16", "bool", "float64"])
def test_any_dtype_can_be_held(store: merstore.Store, dtype: str) -> None:
    view = store.create_view("demo/x@X/UTT", dtype=dtype, shape=(), zeros="flag")
    values = torch.arange(20).remainder(2 if dtype == "bool" else 20)
    stored = values.to(torch.bfloat16) if dtype == "bfloat16" else values.numpy().astype(dtype)
    view.update((f"s{i:02d}", stored[i]) for i in range(20))
    loader = FeatureLoader(FeatureDataset(view), 7, shuffle=True, cache="ram")
    for batch in loader:
        assert batch["x"].tolist() == [values[int(name[1:])] for name in batch.names]
    assert set(loader.held) == {"x"}


def test_a_missing_sample_is_an_error_all_the_same(views: Views) -> None:
    del views["audio"]["s20"]
    loader = FeatureLoader(FeatureDataset(views, list(views["frame"])), 8, cache="ram")
    with pytest.raises(merstore.MissingEntry, match="s20"):
        list(loader)


def test_it_is_loaded_once_and_again_only_after_a_change(views: Views) -> None:
    told: list[tuple[str, int, int]] = []
    with merstore.open(views["frame"].store.path) as reader:
        dataset = FeatureDataset({key: reader[view.path] for key, view in views.items()})
        loader = FeatureLoader(
            dataset, 8, cache="ram", progress=lambda *progress: told.append(progress)
        )
        for _ in range(3):
            list(loader)
        assert told == [("frame", 6400, 6400), ("audio", 1800, 1800)]
        told.clear()
        views["frame"]["s00"] = np.full((8, 4), 9, np.float32)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 9
        assert [key for key, *_ in told] == ["frame"]
        reader_batch = next(iter(loader))
        del views["frame"]["s00"]
        views["frame"]["s00"] = np.full((8, 4), 10, np.float32)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 10
        assert float(reader_batch["frame"][0, 0, 0]) == 9


def test_it_is_read_from_the_front_of_the_file_to_the_back(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(1).permutation(SAMPLES)
    view = views["frame"].store.create_view("demo/big@X/UTT", shape=(64,))
    view.update((f"s{i:02d}", np.full(64, i, np.float32)) for i in order)
    read: list[int] = []
    gather = merstore.Selection.gather

    def noted(self: Any, rows: np.ndarray, *others: Any) -> Any:
        read.extend(rows.tolist())
        return gather(self, rows, *others)

    monkeypatch.setattr(merstore.Selection, "gather", noted)
    monkeypatch.setattr(resident_module, "CHUNK_BYTES", 1000)  # three entries
    Cache("ram", None, None, None).update(FeatureDataset(view).sources)
    assert read == order.tolist()


@pytest.mark.parametrize(
    ("nbytes", "held"),
    [(0, set()), (2000, {"audio"}), (7000, {"frame"}), (9000, {"frame", "audio"})],
)
def test_only_what_fits_is_held(views: Views, nbytes: int, held: set[str]) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8, cache="ram", cache_bytes=nbytes)
    assert sum(len(batch) for batch in loader) == SAMPLES
    assert set(loader.held) == held


def test_auto_takes_ram_where_there_is_no_gpu(views: Views) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8, cache="auto", device="cpu")
    list(loader)
    assert set(map(str, loader.held.values())) == {"cpu"}
    assert not FeatureLoader(FeatureDataset(views), 8).held


@pytest.mark.gpu
def test_auto_takes_the_device_while_it_has_room(views: Views) -> None:
    for nbytes, devices in ((None, ["cuda:0", "cuda:0"]), (7000, ["cuda:0", "cpu"])):
        loader = FeatureLoader(
            FeatureDataset(views), 8, cache="auto", device="cuda", cache_bytes=nbytes
        )
        assert sum(len(batch) for batch in loader) == SAMPLES
        assert list(map(str, loader.held.values())) == devices


def test_what_is_still_to_be_computed_is_held_once_it_is(store: merstore.Store) -> None:
    view = store.create_view("demo/face@X/uniform_8frms", shape=(8, 4))
    view.filler = CountingFiller(failing=["s09"])
    dataset = FeatureDataset(view, [f"s{i:02d}" for i in range(SAMPLES)], on_miss="fill")
    loader = FeatureLoader(dataset, 8, cache="ram")
    for held in (set(), {"face"}, {"face"}):
        for batch in loader:
            assert batch.mask["face"].tolist() == [name != "s09" for name in batch.names]
            assert batch["face"][:, 0, 0].tolist() == [
                float(name[1:]) if name != "s09" else 0 for name in batch.names
            ]
        assert set(loader.held) == held
    assert len(view.filler.asked) == SAMPLES

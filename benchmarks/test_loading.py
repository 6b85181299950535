"""pytest-benchmark suite of what goes beyond one warm batch: ragged, cold, whole epochs, a GPU. `make bench-micro`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import merstore
from benchmarks import data
from benchmarks.measure import drop
from merstore.load import FeatureDataset, FeatureLoader

BYTES = 256 << 20
BATCH, RAGGED_BATCH = 256, 64

pytest.importorskip("pytest_benchmark")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "fixed.mer"
    data.write_store(
        path, data.FRAMES, data.values(data.FRAMES, data.FRAMES.entries(BYTES) // BATCH * BATCH)
    )
    return path


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[merstore.View]:
    draw = np.random.default_rng(0)
    lengths = draw.integers(20, 601, BYTES // (310 * data.RAGGED.nbytes))
    with merstore.open(tmp_path_factory.mktemp("bench") / "ragged.mer", "a") as store:
        view = data.create(store, data.RAGGED, ragged=True)
        view.update(
            (f"{i:08d}", data.values(data.RAGGED, int(length), seed=i))
            for i, length in enumerate(lengths)
        )
        yield view


def batches(count: int, size: int) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(1)
    while True:
        yield draw.integers(0, count, size)


def test_ragged_values(benchmark: Any, ragged: merstore.View) -> None:
    selection, rows = ragged.select(), batches(len(ragged), RAGGED_BATCH)
    benchmark.pedantic(
        selection.gather, setup=lambda: ((next(rows),), {}), rounds=30, warmup_rounds=3
    )


def test_ragged_padded(benchmark: Any, ragged: merstore.View) -> None:
    selection, rows = ragged.select(), batches(len(ragged), RAGGED_BATCH)
    benchmark.pedantic(
        selection.padded, setup=lambda: ((next(rows),), {}), rounds=30, warmup_rounds=3
    )


def test_a_cold_batch(benchmark: Any, fixed: Path) -> None:
    """Nothing of the payloads in the page cache."""
    out = torch.empty(BATCH, *data.FRAMES.shape)
    stores: list[merstore.Store] = []
    draw = np.random.default_rng(2)

    def setup() -> Any:
        while stores:
            stores.pop().close()
        drop(fixed / "data.mdb")
        stores.append(merstore.open(fixed))
        selection = stores[0][data.FRAMES.view].select()
        selection.present()
        rows = draw.integers(0, len(selection), BATCH)
        return (selection, rows), {}

    benchmark.pedantic(
        lambda selection, rows: selection.gather(rows, out=out), setup=setup, rounds=10
    )
    stores.pop().close()


@pytest.mark.parametrize(
    "options",
    [{"threads": 0}, {"threads": 2}, {"threads": 0, "cache": "ram"}, {"num_workers": 2}],
    ids=["threads=0", "threads=2", "cache=ram", "num_workers=2"],
)
def test_an_epoch(benchmark: Any, fixed: Path, options: dict[str, Any]) -> None:
    _epoch(benchmark, fixed, options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cache", [None, "device"])
def test_an_epoch_on_the_gpu(benchmark: Any, fixed: Path, cache: str | None) -> None:
    _epoch(benchmark, fixed, {"device": "cuda", "cache": cache})


def _epoch(benchmark: Any, path: Path, options: dict[str, Any]) -> None:
    """Shuffled, names included."""
    with merstore.open(path) as store:
        dataset = FeatureDataset(store[data.FRAMES.view])
        loader = FeatureLoader(dataset, BATCH, shuffle=True, **options)

        def epoch() -> None:
            for batch in loader:
                batch.names  # noqa: B018
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        benchmark.pedantic(epoch, rounds=5, warmup_rounds=1)

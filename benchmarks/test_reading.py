"""pytest-benchmark suite: one batch of 256, warm, by every reader. `make bench-micro`; compare runs with
`pytest-benchmark compare`. (The README's ratios come from `make bench`, which interleaves.)
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import merstore
from benchmarks import data

BATCH = 256
BYTES = 512 << 20  # well beyond a processor's caches

pytest.importorskip("pytest_benchmark")


@pytest.fixture(scope="module", params=[data.FRAMES, data.VECTORS], ids=lambda shape: shape.label)
def shape(request: pytest.FixtureRequest) -> data.Shape:
    torch.set_num_threads(1)
    return request.param


@pytest.fixture(scope="module")
def array(shape: data.Shape) -> np.ndarray:
    return data.values(shape, shape.entries(BYTES))


@pytest.fixture(scope="module")
def view(
    shape: data.Shape, array: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[merstore.View]:
    path = tmp_path_factory.mktemp("bench") / "store.mer"
    data.write_store(path, shape, array)
    with merstore.open(path) as store:
        view = store[shape.view]
        yield view


@pytest.fixture
def indices(array: np.ndarray) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    return itertools.cycle([rng.integers(0, len(array), BATCH) for _ in range(64)])


def test_selection(benchmark: Any, view: merstore.View, indices: Iterator[np.ndarray]) -> None:
    selection = view.select()
    out = torch.empty((BATCH, *view.shape))  # type: ignore[arg-type]
    _each(benchmark, indices, lambda rows: selection.gather(rows, out=out))


def test_names(benchmark: Any, view: merstore.View, indices: Iterator[np.ndarray]) -> None:
    out = torch.empty((BATCH, *view.shape))  # type: ignore[arg-type]
    known = np.array(list(view.names()))
    view.gather(known)  # every name looked up once
    _each(benchmark, indices, lambda rows: view.gather(known[rows].tolist(), out=out))


def test_one_entry(benchmark: Any, view: merstore.View) -> None:
    name = view.names()[7]
    benchmark(lambda: view[name])


def test_index_select_from_ram(
    benchmark: Any, array: np.ndarray, indices: Iterator[np.ndarray]
) -> None:
    ram = torch.from_numpy(array)
    out = torch.empty((BATCH, *array.shape[1:]))
    _each(
        benchmark, indices, lambda rows: torch.index_select(ram, 0, torch.from_numpy(rows), out=out)
    )


def test_memmap(
    benchmark: Any, array: np.ndarray, indices: Iterator[np.ndarray], tmp_path: Path
) -> None:
    data.write_flat(tmp_path / "flat", array)
    flat = np.memmap(tmp_path / "flat", array.dtype, "r", shape=array.shape)
    _each(benchmark, indices, lambda rows: flat[rows])


def _each(benchmark: Any, indices: Iterator[np.ndarray], read: Callable[[np.ndarray], Any]) -> None:
    benchmark.pedantic(read, setup=lambda: ((next(indices),), {}), rounds=200, warmup_rounds=20)

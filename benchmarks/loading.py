"""The loader: whole epochs, threads, resident views, and what a dataset costs before the first batch."""

import multiprocessing
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import merstore
from merstore.load import FeatureDataset, FeatureLoader
from merstore.load.samplers import RowOrder

from .data import FRAMES, GIB, VECTORS, Shape, create, names, values, write_store
from .figures import Figure, milliseconds, ratio
from .measure import Method, fresh, interleave

PART = "Loader, warm, batch of 256"
DATASET = "A dataset of 1,000,000 names"
WORKERS = "8 workers started by spawn, up to the first batch"
BATCH = 256
ROUNDS = 15
BARE = "selection.gather(rows, out=out), the same rows"
THREADS = 2
MILLION = 1_000_000


def run(folder: Path, nbytes: int = GIB // 2) -> Iterator[Figure]:
    torch.set_num_threads(1)
    for case, *shape in (
        (_threads,), (_epochs, FRAMES), (_epochs, VECTORS), (_resident, FRAMES), (_resident, VECTORS),
        (_memory,), (_dataset,), (_workers,),
    ):  # fmt: skip
        work = folder / "loading"
        work.mkdir()
        yield from case(work, nbytes, *shape)
        shutil.rmtree(work)


def _threads(folder: Path, nbytes: int) -> Iterator[Figure]:
    """Two threads, each with half of the batches, against one and two that copy as much."""
    count = FRAMES.entries(nbytes)
    array = values(FRAMES, count)
    write_store(folder / "s.mer", FRAMES, array)
    source = torch.empty(array.shape).copy_(torch.from_numpy(array))
    outs = [torch.empty(BATCH, *FRAMES.shape) for _ in range(THREADS)]
    draw = np.random.default_rng(2)
    rows = draw.integers(0, count, (ROUNDS, 16, BATCH))
    flat = torch.from_numpy(array[: count // BATCH * BATCH]).view(-1, outs[0].numel())
    with merstore.open(folder / "s.mer") as store, ThreadPoolExecutor(THREADS) as pool:
        selection = store[FRAMES.view].select(names(count))
        selection.present()

        def by(work: Callable[[np.ndarray, torch.Tensor], object], threads: int) -> Method:
            def method(number: int) -> Iterator[None]:
                parts = np.array_split(rows[number], threads)

                def some(part: np.ndarray, out: torch.Tensor) -> None:
                    for batch in part:
                        work(batch, out)

                list(pool.map(some, parts, outs))
                yield
                list(pool.map(some, parts, outs))
                yield

            return method

        one, two = "torch.index_select from RAM, one thread", "memcpy of as many bytes, two threads"
        methods = {
            "gather": by(lambda batch, out: selection.gather(batch, out=out), THREADS),
            one: by(
                lambda batch, out: torch.index_select(source, 0, torch.from_numpy(batch), out=out),
                1,
            ),
            two: by(lambda batch, out: out.view(-1).copy_(flat[batch[0] % len(flat)]), THREADS),
        }
        seconds = interleave(methods, ROUNDS)
    moved = rows[0].size * FRAMES.nbytes
    what = f"{FRAMES.label} selection.gather, two threads"
    yield ratio(PART, what, one, seconds["gather"], seconds[one], moved, 1.5)
    yield ratio(PART, what, two, seconds["gather"], seconds[two], moved)  # enough instead: 0.9


def _epochs(folder: Path, nbytes: int, shape: Shape) -> Iterator[Figure]:
    """A whole shuffled epoch, names and masks included."""
    count = shape.entries(nbytes)
    write_store(folder / shape.label, shape, values(shape, count))
    with merstore.open(folder / shape.label) as store:
        dataset = FeatureDataset(store[shape.view])
        selection = store[shape.view].select(dataset.names)
        out = torch.empty(BATCH, *shape.shape)
        order = RowOrder(count, BATCH, shuffle=True, drop_last=True)

        def epoch(loader: FeatureLoader) -> Method:
            def method(number: int) -> Iterator[None]:
                loader.set_epoch(number)
                yield
                for batch in loader:
                    batch.names, batch.mask  # noqa: B018
                yield

            return method

        def bare(number: int) -> Iterator[None]:
            order.set_epoch(number)
            batches = list(order)
            yield
            for rows in batches:
                selection.gather(rows, out=out)
            yield

        options = {"shuffle": True, "drop_last": True}
        methods = {
            "FeatureLoader": epoch(FeatureLoader(dataset, BATCH, **options)),
            "FeatureLoader, threads=0": epoch(FeatureLoader(dataset, BATCH, threads=0, **options)),
            BARE: bare,
        }
        seconds = interleave(methods, ROUNDS)
        moved = count // BATCH * BATCH * shape.nbytes
        bar = 0.9 if shape is FRAMES else None
        for name in ("FeatureLoader", "FeatureLoader, threads=0"):
            what = f"{shape.label} {name}: a shuffled epoch with names and masks"
            yield ratio(
                PART,
                what,
                BARE,
                seconds[name],
                seconds[BARE],
                moved,
                bar if "=" not in name else None,
            )


def _resident(folder: Path, nbytes: int, shape: Shape) -> Iterator[Figure]:
    select = "torch.index_select(out=) from RAM, the same rows"
    count = shape.entries(nbytes // 2)
    array = values(shape, count)
    write_store(folder / shape.label, shape, array)
    with merstore.open(folder / shape.label) as store:
        dataset = FeatureDataset(store[shape.view])
        loader = FeatureLoader(dataset, BATCH, shuffle=True, drop_last=True, cache="ram", threads=0)
        order = RowOrder(count, BATCH, shuffle=True, drop_last=True)
        source = torch.from_numpy(array)  # in huge pages, as the cache is
        out = torch.empty(BATCH, *shape.shape)

        def selected(rows: torch.Tensor) -> object:
            return torch.index_select(source, 0, rows, out=out)

        methods = {"held": _iterated(loader), select: _each(order, selected)}
        seconds = interleave(methods, ROUNDS)
        moved = count // BATCH * BATCH * shape.nbytes
        what = f'{shape.label} FeatureLoader, cache="ram"'
        yield ratio(PART, what, select, seconds["held"], seconds[select], moved, 0.95)


def _iterated(loader: FeatureLoader, finish: Callable[[], object] = bool) -> Method:
    """An epoch of the loader, begun before the clock."""

    def method(number: int) -> Iterator[None]:
        loader.set_epoch(number)
        batches = iter(loader)
        yield
        for batch in batches:
            batch.mask  # noqa: B018
        finish()
        yield

    return method


def _each(
    order: RowOrder, work: Callable[[torch.Tensor], object], finish: Callable[[], object] = bool
) -> Method:
    """``work`` on the rows of each batch of an epoch, drawn before the clock."""

    def method(number: int) -> Iterator[None]:
        order.set_epoch(number)
        batches = [torch.from_numpy(rows) for rows in order]
        yield
        for rows in batches:
            work(rows)
        finish()
        yield

    return method


def device(folder: Path, nbytes: int = GIB // 2) -> Iterator[Figure]:
    """To a GPU: whole epochs against copies of as many bytes from page-locked memory, and resident ones."""
    if not torch.cuda.is_available():
        print("  left out: no CUDA device")
        return
    work = folder / "device"
    work.mkdir()
    count = FRAMES.entries(nbytes)
    write_store(work / "s.mer", FRAMES, values(FRAMES, count))
    pinned = torch.empty(BATCH, *FRAMES.shape, pin_memory=True)
    order = RowOrder(count, BATCH, shuffle=True, drop_last=True)
    copies, selects = "copies from page-locked memory", "torch.index_select on the device"
    with merstore.open(work / "s.mer") as store:
        dataset = FeatureDataset(store[FRAMES.view])
        held = torch.rand(count, *FRAMES.shape, device="cuda")

        def epoch(cache: str | None) -> Method:
            loader = FeatureLoader(
                dataset, BATCH, shuffle=True, drop_last=True, device="cuda", cache=cache
            )
            return _iterated(loader, torch.cuda.synchronize)

        def copied(rows: torch.Tensor) -> object:
            return pinned.to("cuda", non_blocking=True)

        def selected(rows: torch.Tensor) -> object:
            return torch.index_select(held, 0, rows.to("cuda", non_blocking=True))

        methods = {
            "loader": epoch(None),
            "held": epoch("device"),
            copies: _each(order, copied, torch.cuda.synchronize),
            selects: _each(order, selected, torch.cuda.synchronize),
        }
        seconds = interleave(methods, ROUNDS)
    part = f"Loader, to {torch.cuda.get_device_name()}, batch of {BATCH}"
    moved = count // BATCH * BATCH * FRAMES.nbytes
    what = f'{FRAMES.label} FeatureLoader, device="cuda"'
    yield ratio(part, what, copies, seconds["loader"], seconds[copies], moved, 0.9)
    what += ', cache="device"'
    yield ratio(part, what, selects, seconds["held"], seconds[selects], moved, 0.95)
    shutil.rmtree(work)


def _memory(folder: Path, nbytes: int) -> Iterator[Figure]:
    """Private memory of a process that iterates, beyond the page cache."""
    grown = {}
    for size in (nbytes // 4, nbytes):
        path = folder / f"{size}.mer"
        write_store(path, FRAMES, values(FRAMES, FRAMES.entries(size)))
        grown[size] = fresh(_private_growth, path)
    for size, (first, later) in grown.items():
        yield Figure(
            PART,
            f"memory beyond the page cache that the first epoch takes over {size >> 20} MiB",
            first / 1e6,
            "MB",
        )
        yield Figure(PART, f"memory that nine more epochs take beyond the first, over {size >> 20} MiB", later / 1e6, "MB", bar=2, at_most=True)  # fmt: skip


def _private_growth(path: Path) -> tuple[int, int]:
    with merstore.open(path) as store:
        loader = FeatureLoader(FeatureDataset(store[FRAMES.view]), BATCH, shuffle=True)
        before = _private()
        marks = []
        for _ in range(10):
            for batch in loader:
                batch.mask  # noqa: B018
            marks.append(_private())
    return marks[0] - before, marks[-1] - marks[0]


def _private() -> int:
    """Bytes of memory of this process's own; pages of files do not count, unless written."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def _dataset(folder: Path, nbytes: int) -> Iterator[Figure]:
    path = folder / "million.mer"
    with merstore.open(path, "a") as store:
        view = create(store, Shape("", (16,), "bench/audio@a/UTT"))
        row = np.ones(16, np.float32)
        view.update((name, row) for name in names(MILLION))
    seconds, taken = zip(*(fresh(_build, path) for _ in range(3)), strict=True)
    yield milliseconds(DATASET, "time to build", seconds, bar=1500)
    yield Figure(DATASET, "memory", float(np.median(taken)) / 1e6, "MB", bar=100, at_most=True)


def _build(path: Path) -> tuple[float, int]:
    with merstore.open(path) as store:
        started = time.perf_counter()
        dataset = FeatureDataset(store["bench/audio@a/UTT"])
        seconds = time.perf_counter() - started
        assert len(dataset) == MILLION
        del dataset
        before = _private()
        tracemalloc.start()
        dataset = FeatureDataset(store["bench/audio@a/UTT"])
        taken = max(_private() - before, tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(dataset) == MILLION
        return seconds, taken


class _Listed(Dataset[torch.Tensor]):
    """What people have: tensors in a list."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.tensors[row]


def _workers(folder: Path, nbytes: int) -> Iterator[Figure]:
    count = 2048
    array = values(FRAMES, count)
    write_store(folder / "s.mer", FRAMES, array)
    listed = _Listed([torch.from_numpy(row.copy()) for row in array])
    spawn = multiprocessing.get_context("spawn")
    plain = "DataLoader over a list of tensors"

    def theirs(number: int) -> Iterator[None]:
        yield
        batches = iter(DataLoader(listed, BATCH, num_workers=8, multiprocessing_context=spawn))
        next(batches)
        yield
        del batches

    with merstore.open(folder / "s.mer") as store:
        dataset = FeatureDataset(store[FRAMES.view])

        def ours(number: int) -> Iterator[None]:
            yield
            batches = iter(
                FeatureLoader(dataset, BATCH, num_workers=8, multiprocessing_context="spawn")
            )
            next(batches)
            yield
            del batches

        seconds = interleave({"ours": ours, plain: theirs}, 3)
    figure = ratio(
        WORKERS, "FeatureLoader", plain, seconds["ours"], seconds[plain], os.cpu_count() or 1, 0.91
    )
    yield Figure(
        WORKERS, "FeatureLoader", figure.value, "x", plain, 0.91, False, figure.low, figure.high, 3,
        f"{np.median(seconds['ours']):.1f} s", f"{np.median(seconds[plain]):.1f} s",
    )  # fmt: skip

"""Batches from the page cache: merstore against the other ways to have them."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

import merstore
from merstore.store.view import View

from .data import (
    FRAMES,
    GIB,
    RAGGED,
    VECTORS,
    Shape,
    create,
    names,
    values,
    write_flat,
    write_lmdb,
    write_npy,
    write_store,
)
from .figures import Figure, ratio
from .measure import Method, interleave

Batch = Any  # row numbers, names or paths: what a method takes for a batch

PART = "Gather, warm, batch of 256, one thread, into a preallocated tensor"
BATCH = 256
BATCHES = 4  # in a round, after an untimed one
ROUNDS = 100  # short ones: few are then disturbed by what else runs on the machine
RAGGED_BATCH = 64
NPY_BYTES = 128 << 20  # a sample of the files is enough where a batch takes a hundred times as long
BY_ROW, BY_NAME = "selection.gather(rows)", "view.gather(names)"
AT_FIRST = "selection.gather(rows), each name looked up first"
IN_MEMORY = "torch.index_select from RAM"
IN_HUGE_PAGES = "torch.index_select from RAM in huge pages"
BARS = {FRAMES: 1.0, VECTORS: 1.2}


def run(folder: Path, nbytes: int = GIB) -> Iterator[Figure]:
    torch.set_num_threads(1)
    for shape in (FRAMES, VECTORS):
        work = folder / "gather"
        work.mkdir()
        yield from _fixed(work, shape, nbytes)
        shutil.rmtree(work)
    work.mkdir()
    yield from _ragged(work, nbytes)
    shutil.rmtree(work)


def _fixed(folder: Path, shape: Shape, nbytes: int) -> Iterator[Figure]:
    count = shape.entries(nbytes)
    array = values(shape, count)
    write_store(folder / "s.mer", shape, array)
    write_lmdb(folder / "lmdb", array)
    files = array[: shape.entries(min(NPY_BYTES, nbytes))]
    write_npy(folder / "npy", files)
    write_flat(folder / "flat.bin", array)

    draw = np.random.default_rng(1)
    rows = draw.integers(0, count, (ROUNDS, 1 + BATCHES, BATCH))
    keys = names(count)
    out = torch.empty(BATCH, *shape.shape)
    array_out = out.numpy()
    flat_out = array_out.reshape(BATCH, -1)

    store = merstore.open(folder / "s.mer")
    view = store[shape.view]
    selection = view.select(keys)
    env = lmdb.open(str(folder / "lmdb"), readonly=True, lock=False)
    mapped = np.memmap(folder / "flat.bin", np.float32, "r", shape=array.shape)
    in_huge_pages = torch.from_numpy(array)  # NumPy asks the system for 2 MiB pages, torch does not
    in_memory = torch.empty(array.shape).copy_(in_huge_pages)

    def timed(read: Callable[[Batch], object], prepare: Callable[[int], Iterable[Batch]]) -> Method:
        def method(number: int) -> Iterator[None]:
            first, *others = prepare(number)
            read(first)
            yield
            for batch in others:
                read(batch)
            yield

        return method

    def read_lmdb(keys: list[bytes]) -> None:
        with env.begin(buffers=True) as txn:
            for i, key in enumerate(keys):
                flat_out[i] = np.frombuffer(txn.get(key), np.float32)

    def read_npy(paths: list[str]) -> None:
        for i, path in enumerate(paths):
            array_out[i] = np.load(path)

    def paths(number: int) -> list[list[str]]:
        some = rows[number] % len(files)
        return [[f"{folder}/npy/{keys[row]}.npy" for row in batch] for batch in some.tolist()]

    def named(number: int) -> list[list[str]]:
        return [[keys[row] for row in batch] for batch in rows[number].tolist()]

    def encoded(number: int) -> list[list[bytes]]:
        return [[name.encode() for name in batch] for batch in named(number)]

    def at_first(number: int) -> Iterator[None]:
        new = view.select(keys)
        yield
        for batch in rows[number][1:]:
            new.gather(batch, out=out)
        yield

    ours: dict[str, Method] = {
        BY_ROW: timed(lambda batch: selection.gather(batch, out=out), rows.__getitem__),
        BY_NAME: timed(lambda batch: view.gather(batch, out=out), named),
        AT_FIRST: at_first,
    }
    theirs: dict[str, Method] = {
        IN_MEMORY: timed(
            lambda batch: torch.index_select(in_memory, 0, batch, out=out),
            lambda number: torch.from_numpy(rows[number]).unbind(),
        ),
        IN_HUGE_PAGES: timed(
            lambda batch: torch.index_select(in_huge_pages, 0, batch, out=out),
            lambda number: torch.from_numpy(rows[number]).unbind(),
        ),
        "np.memmap, np.take": timed(
            lambda batch: np.take(mapped, batch, 0, array_out, "clip"), rows.__getitem__
        ),
        "py-lmdb loop": timed(read_lmdb, encoded),
        "`.npy` files, np.load": timed(read_npy, paths),
    }
    methods = ours | theirs
    _check(methods, out, in_memory[rows[0, -1]], in_memory[rows[0, -1] % len(files)])
    _touch_all(view, selection, mapped, env, keys)
    seconds = interleave(methods, ROUNDS)
    moved = BATCHES * BATCH * shape.nbytes
    for what in ours:
        for against in theirs if what != AT_FIRST else [IN_MEMORY]:
            bar = BARS[shape] if "RAM" in against and what != AT_FIRST else None
            yield ratio(
                PART, f"{shape.label} {what}", against, seconds[what], seconds[against], moved, bar
            )
    env.close()
    store.close()


def _check(
    methods: dict[str, Method], out: torch.Tensor, expected: torch.Tensor, of_files: torch.Tensor
) -> None:
    """Everybody reads the same values."""
    for name, method in methods.items():
        out.fill_(-1)
        for _ in method(0):
            pass
        assert torch.equal(out, of_files if "npy" in name else expected), name


def _touch_all(
    view: View,
    selection: merstore.Selection,
    mapped: np.ndarray,
    env: lmdb.Environment,
    keys: list[str],
) -> None:
    """Read everything once, each through its own mapping: nothing is met for the first time later."""
    for start in range(0, len(keys), 4096):
        end = min(start + 4096, len(keys))
        selection.gather(np.arange(start, end))
        view.gather(keys[start:end])
    mapped.max()
    with env.begin(buffers=True) as txn:
        for key in keys:
            np.frombuffer(txn.get(key.encode()), np.float32).max()


def _ragged(folder: Path, nbytes: int) -> Iterator[Figure]:
    """Sequences of 20 to 600 rows, gathered and padded, against memcpy of as many bytes."""
    draw = np.random.default_rng(2)
    row = RAGGED.nbytes
    lengths = draw.integers(20, 601, nbytes // (310 * row))
    array = values(RAGGED, int(lengths.sum()))
    ends = np.cumsum(lengths)
    with merstore.open(folder / "s.mer", "a") as store:
        parts = np.split(array, ends[:-1])
        create(store, RAGGED, ragged=True).update(zip(names(len(parts)), parts, strict=True))
        selection = store[RAGGED.view].select()
        batches = draw.integers(0, len(parts), (ROUNDS, RAGGED_BATCH))
        width = int(lengths.max())
        totals = lengths[batches].sum(1)
        out = np.empty((int(totals.max()), *RAGGED.shape), np.float32)
        padded_out = np.empty((RAGGED_BATCH, width, *RAGGED.shape), np.float32)
        padded_out[:] = out[:] = 0

        def gather(number: int) -> Iterator[None]:
            yield
            selection.gather(batches[number], out=out)
            yield

        def copy(number: int) -> Iterator[None]:
            start = int(draw.integers(0, len(array) - totals[number]))
            source, target = array[start : start + totals[number]], out[: totals[number]]
            yield
            np.copyto(target, source)
            yield

        def pad(number: int) -> Iterator[None]:
            yield
            selection.padded(batches[number], width, out=padded_out)
            yield

        def copy_and_zero(number: int) -> Iterator[None]:
            start = int(draw.integers(0, len(array) - totals[number]))
            flat = padded_out.reshape(-1, *RAGGED.shape)
            source = array[start : start + totals[number]]
            yield
            np.copyto(flat[: totals[number]], source)
            flat[totals[number] :] = 0
            yield

        selection.gather(np.arange(len(parts)))
        seconds = interleave(
            {"gather": gather, "copy": copy, "pad": pad, "copy and zero": copy_and_zero}, ROUNDS
        )
        part = f"Ragged, warm, batch of {RAGGED_BATCH}, one thread"
        moved = int(totals.mean()) * row
        yield ratio(
            part,
            f"{RAGGED.label} selection.gather",
            "memcpy of as many bytes",
            seconds["gather"],
            seconds["copy"],
            moved,
        )
        yield ratio(
            part, f"{RAGGED.label} selection.padded", "memcpy and memset of as many", seconds["pad"], seconds["copy and zero"],
            padded_out.nbytes, 0.9,
        )  # fmt: skip

"""Random batches that are not in the page cache, against reading the file from end to end."""

import mmap
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import merstore

from .data import FRAMES, GIB, VECTORS, Shape, names, values, write_flat, write_store
from .figures import Figure, ratio
from .measure import drop, interleave, settle

PART = "Cold random batches of 256 (page cache dropped)"
BATCH = 256
BATCHES = 8  # in a round
ROUNDS = 9
FAULTS = "np.memmap (page faults)"
SEQUENTIAL = "sequential read of the file"
DIRECT = "the disk itself: O_DIRECT reads of the same entries, 16 threads"
THREADS = 16


def run(folder: Path, nbytes: int = GIB) -> Iterator[Figure]:
    for shape, against, bar in ((FRAMES, SEQUENTIAL, 0.7), (VECTORS, FAULTS, 5.0)):
        work = folder / "cold"
        work.mkdir()
        yield from _cold(work, nbytes, shape, against, bar)
        shutil.rmtree(work)


def _cold(work: Path, nbytes: int, shape: Shape, barred: str, least: float) -> Iterator[Figure]:
    count = shape.entries(nbytes)
    array = values(shape, count)
    write_store(work / "s.mer", shape, array)
    write_flat(work / "flat.bin", array)
    del array
    data, flat = work / "s.mer" / "data.mdb", work / "flat.bin"
    keys = names(count)
    rows = np.stack(
        [np.random.default_rng(n).permutation(count)[: BATCHES * BATCH] for n in range(ROUNDS)]
    )
    rows = rows.reshape(ROUNDS, BATCHES, BATCH)
    moved = BATCHES * BATCH * shape.nbytes
    out = np.zeros((BATCH, *shape.shape), np.float32)

    def gather(number: int) -> Iterator[None]:
        drop(data)
        settle(2 * moved)
        with merstore.open(work / "s.mer") as store:
            selection = store[shape.view].select(keys)
            selection.present()  # the index is read, as it is after an epoch's first batches
            yield
            for batch in rows[number]:
                selection.gather(batch, out=out)
            yield

    def gather_ahead(number: int) -> Iterator[None]:
        drop(data)
        settle(2 * moved)
        with merstore.open(work / "s.mer") as store:
            selection = store[shape.view].select(keys)
            selection.present()
            following = [*rows[number][1:], []]
            yield
            selection.willneed(rows[number][0])
            for batch, after in zip(rows[number], following, strict=True):
                selection.willneed(after)
                selection.gather(batch, out=out)
            yield

    def sequential(number: int) -> Iterator[None]:
        drop(data)
        settle(2 * moved)
        start = number * moved % (data.stat().st_size - moved)
        buffer = memoryview(bytearray(1 << 20))
        with data.open("rb", buffering=0) as file:
            file.seek(start)
            yield
            for _ in range(moved >> 20):
                file.readinto(buffer)
            yield

    def memmap(number: int) -> Iterator[None]:
        drop(flat)
        settle(2 * moved)
        mapped = np.memmap(flat, np.float32, "r", shape=(count, *shape.shape))
        yield
        for batch in rows[number]:
            np.take(mapped, batch, 0, out, "clip")
        yield

    def direct(number: int) -> Iterator[None]:
        """What the disk can do with these requests: nothing is copied, kept or looked up."""
        settle(2 * moved)
        parts = np.array_split(rows[number].ravel() * shape.nbytes, THREADS)
        buffers = [mmap.mmap(-1, shape.nbytes) for _ in parts]
        file = os.open(flat, os.O_RDONLY | os.O_DIRECT)

        def read(offsets: np.ndarray, buffer: mmap.mmap) -> None:
            for offset in offsets.tolist():
                os.preadv(file, [buffer], offset)

        with ThreadPoolExecutor(THREADS) as pool:
            yield
            list(pool.map(read, parts, buffers))
            yield
        os.close(file)

    ours = {
        "selection.gather": gather,
        "selection.gather, the next batch asked for ahead (as FeatureLoader does)": gather_ahead,
    }
    theirs = {SEQUENTIAL: sequential, FAULTS: memmap, DIRECT: direct}
    seconds = interleave(ours | theirs, ROUNDS)
    for name in ours:
        for against in theirs:
            bar = least if against == barred else None
            what = f"{shape.label} {name}"
            yield ratio(PART, what, against, seconds[name], seconds[against], moved, bar)

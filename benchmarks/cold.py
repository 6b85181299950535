"""Random batches that are not in the page cache, against reading the file from end to end."""

import mmap
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import merstore

from .data import FRAMES, GIB, names, values, write_flat, write_store
from .figures import Figure, ratio
from .measure import drop, interleave, settle

PART = "Cold random batches of 256 (page cache dropped)"
BATCH = 256
BATCHES = 8  # in a round
ROUNDS = 9
BAR = 0.7
SEQUENTIAL = "sequential read of the file"
DIRECT = "the disk itself: O_DIRECT reads of the same entries, 16 threads"
THREADS = 16


def run(folder: Path, nbytes: int = GIB) -> Iterator[Figure]:
    work = folder / "cold"
    work.mkdir()
    count = FRAMES.entries(nbytes)
    array = values(FRAMES, count)
    write_store(work / "s.mer", FRAMES, array)
    write_flat(work / "flat.bin", array)
    del array
    data, flat = work / "s.mer" / "data.mdb", work / "flat.bin"
    keys = names(count)
    rows = np.stack(
        [np.random.default_rng(n).permutation(count)[: BATCHES * BATCH] for n in range(ROUNDS)]
    )
    rows = rows.reshape(ROUNDS, BATCHES, BATCH)
    moved = BATCHES * BATCH * FRAMES.nbytes
    out = np.zeros((BATCH, *FRAMES.shape), np.float32)

    def gather(number: int) -> Iterator[None]:
        drop(data)
        settle(2 * moved)
        with merstore.open(work / "s.mer") as store:
            selection = store[FRAMES.view].select(keys)
            selection.present()  # the index is read, as it is after an epoch's first batches
            yield
            for batch in rows[number]:
                selection.gather(batch, out=out)
            yield

    def gather_ahead(number: int) -> Iterator[None]:
        drop(data)
        settle(2 * moved)
        with merstore.open(work / "s.mer") as store:
            selection = store[FRAMES.view].select(keys)
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
        mapped = np.memmap(flat, np.float32, "r", shape=(count, *FRAMES.shape))
        yield
        for batch in rows[number]:
            np.take(mapped, batch, 0, out, "clip")
        yield

    def direct(number: int) -> Iterator[None]:
        """What the disk can do with these requests: nothing is copied, kept or looked up."""
        settle(2 * moved)
        parts = np.array_split(rows[number].ravel() * FRAMES.nbytes, THREADS)
        buffers = [mmap.mmap(-1, FRAMES.nbytes) for _ in parts]
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
    theirs = {SEQUENTIAL: sequential, "np.memmap (page faults)": memmap, DIRECT: direct}
    seconds = interleave(ours | theirs, ROUNDS)
    for name in ours:
        for against in theirs:
            bar = BAR if against == SEQUENTIAL else None
            what = f"{FRAMES.label} {name}"
            yield ratio(PART, what, against, seconds[name], seconds[against], moved, bar)
    shutil.rmtree(work)

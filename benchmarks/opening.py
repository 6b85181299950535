"""A store of a million entries: how soon the first batch is there, and what a listing reads."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .figures import Figure, milliseconds
from .measure import drop, faults, fresh, resident, settle

PART = "Opening, 1,000,000 entries of [1024] float32 (4.1 GB), in a fresh process"
COUNT = 1_000_000
CHUNK = 1 << 16
BATCH = 256
WARM, COLD = 15, 7


def run(folder: Path, count: int = COUNT) -> Iterator[Figure]:
    path = folder / "opening.mer"
    fresh(_write, path, count)
    data = path / "data.mdb"
    draw = np.random.default_rng(3)
    warm = [fresh(_first_batch, path, draw.integers(0, count, BATCH)) for _ in range(WARM)]
    yield milliseconds(PART, "open and first random batch of 256, warm", warm, bar=100)
    cold = []
    for _ in range(COLD):
        drop(data)
        settle(1 << 28)
        cold.append(fresh(_first_batch, path, draw.integers(0, count, BATCH)))
    yield milliseconds(PART, "the same, file not in the page cache", cold)

    drop(data)
    seconds, major, minor, listed = fresh(_list, path)
    assert listed == count
    there = resident(data)
    payload = fresh(_payload_pages, path)
    yield milliseconds(PART, "listing all names, file not in the page cache", [seconds])
    yield Figure(
        PART, "payload pages that it reads (mincore)", float(there[payload].sum()), "pages", bar=0, at_most=True,
        ours=f"{major:,} + {minor:,} faults", theirs=f"{there.sum():,} of {len(there):,} pages read",
    )  # fmt: skip
    shutil.rmtree(path)


def _write(path: Path, count: int) -> None:
    import merstore

    from .data import VECTORS, create, values

    with merstore.open(path, "a") as store:
        view = create(store, VECTORS)
        for start in range(0, count, CHUNK):
            array = values(VECTORS, min(CHUNK, count - start), seed=start)
            view.update((f"sample_{start + i:08d}", row) for i, row in enumerate(array))


def _first_batch(path: Path, rows: np.ndarray) -> float:
    import merstore

    from .data import VECTORS

    batch = [f"sample_{row:08d}" for row in rows.tolist()]
    started = time.perf_counter()
    with merstore.open(path) as store:
        store[VECTORS.view].gather(batch)
        return time.perf_counter() - started


def _list(path: Path) -> tuple[float, int, int, int]:
    """Seconds, page faults that waited for the disk, others, names."""
    import merstore

    from .data import VECTORS

    with merstore.open(path) as store:
        view = store[VECTORS.view]
        before = faults()
        started = time.perf_counter()
        listed = len(view.names())
        seconds = time.perf_counter() - started
        after = faults()
    return seconds, after[0] - before[0], after[1] - before[1], listed


def _payload_pages(path: Path) -> np.ndarray:
    """The pages of the file that hold payload, by the index."""
    import merstore
    from merstore.store.entry import unpack

    from .data import VECTORS

    with merstore.open(path) as store:
        size = store.environment.page_bytes
        index = store.snapshot().scan(b"index", store[VECTORS.view].record.prefix)
        entries = [unpack(value) for _, value in index]
    starts = np.array([entry.page * size + 16 + entry.offset for entry in entries if entry])
    assert not (starts % 4096).any() and VECTORS.nbytes == 4096  # a vector is a page
    return starts // 4096

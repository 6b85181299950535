"""A store of a million entries: how soon the first batch is there, and what a listing reads."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
    listing = fresh(_list, path)
    payload = fresh(_payload_pages, path)
    warm = [fresh(_list, path).seconds for _ in range(COLD)]
    yield milliseconds(PART, "listing all names, warm", warm)
    yield milliseconds(PART, "the same, file not in the page cache", [listing.seconds])
    assert listing.names == count
    yield Figure(
        PART, "payload pages that the listing reads (mincore)", float(listing.read[payload].sum()), "pages", bar=0, at_most=True,
        ours=f"{listing.major:,} major, {listing.minor:,} minor faults",
        theirs=f"{listing.read.sum():,} of {len(listing.read):,} pages read",
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


class Listing(NamedTuple):
    names: int
    seconds: float
    major: int  # page faults that waited for the disk
    minor: int
    read: np.ndarray  # bool [pages]: what came into the page cache


def _list(path: Path) -> Listing:
    import merstore

    from .data import VECTORS

    with merstore.open(path) as store:
        view = store[VECTORS.view]
        there = resident(path / "data.mdb")
        before = faults()
        started = time.perf_counter()
        names = len(view.names())
        seconds = time.perf_counter() - started
        major, minor = np.subtract(faults(), before).tolist()
        return Listing(names, seconds, major, minor, resident(path / "data.mdb") & ~there)


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

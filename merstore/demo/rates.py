"""How fast batches come from a view, against reading the same features from .npy files."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from merstore.errors import CorruptEntry
from merstore.interop.exporting import export_views
from merstore.store.view import View

BATCH = 256
BATCHES = 4  # in a round
ROUNDS = 9


class Rates(NamedTuple):
    """Samples a second, medians over `rounds`."""

    store: float
    npy: float
    batch: int
    rounds: int


def compare(view: View, folder: Path) -> Rates:
    """Exports the view below `folder`, then reads the same random batches from both, in turns.

    Both fill the same preallocated array, in one thread, from the page cache. Raises CorruptEntry
    where the two differ in a bit.
    """
    (exported,) = export_views(view.store, folder, [view.path], "npy", overwrite=True).views
    files = Path(exported.directory)
    names = view.names()
    draw = np.random.default_rng(0)
    batches = [[names[row] for row in draw.integers(0, len(names), BATCH)] for _ in range(BATCHES)]
    shape = (BATCH, *(size or 0 for size in view.shape))
    out = np.empty(shape, view.dtype)

    def from_store(batch: list[str]) -> None:
        view.gather(batch, out=out)

    def from_npy(batch: list[str]) -> None:
        for row, name in zip(out, batch, strict=True):
            row[...] = np.load(files / f"{name}.npy")

    for batch in batches:
        from_store(batch)
        stored = out.tobytes()
        from_npy(batch)
        if out.tobytes() != stored:
            raise CorruptEntry(f"{view.path}: the store and the files in {files} differ")

    seconds: dict[Callable[[list[str]], None], list[float]] = {from_store: [], from_npy: []}
    for _ in range(ROUNDS):
        for read, taken in seconds.items():
            started = time.perf_counter()
            for batch in batches:
                read(batch)
            taken.append(time.perf_counter() - started)
    samples = BATCH * BATCHES
    return Rates(
        samples / median(seconds[from_store]), samples / median(seconds[from_npy]), BATCH, ROUNDS
    )

"""What one writes without a store: files, a flat file, a plain LMDB."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from .peer import LOADER, Collate, Entries, Index, Peer, Read


class Npy(Peer):
    reads = "np.load of each into one array"
    pads = "np.load of each, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        for name, entry in entries.items():
            np.save(folder / f"{name}.npy", entry)

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        collate = Collate(index, batch_size, reuse)
        paths = [f"{folder}/{name}.npy" for name in index.names]
        return lambda rows: collate(rows, (np.load(paths[row]) for row in rows.tolist()))


class Memmap(Peer):
    reads = "one flat file; np.take(memmap, rows, out=array)"
    pads = "one flat file and a table of offsets; a slice of each entry, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        entries.array.tofile(folder / "flat.bin")

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        mapped = np.memmap(folder / "flat.bin", np.float32, "r").reshape(-1, *index.shape)
        collate = Collate(index, batch_size, reuse)
        if index.ragged:
            return lambda rows: collate(rows, (mapped[index.where(row)] for row in rows.tolist()))
        return lambda rows: np.take(mapped, rows, 0, collate.empty(rows), "clip")


class Lmdb(Peer):
    reads = "get of each key with buffers=True in one transaction, np.frombuffer, into one array"
    pads = "the same, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        with (
            lmdb.open(str(folder), map_size=4 * entries.array.nbytes + (1 << 30)) as env,
            env.begin(write=True) as txn,
        ):
            for name, entry in entries.items():
                txn.put(name.encode(), entry.tobytes(), append=True)

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        env = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
        collate = Collate(index, batch_size, reuse)
        keys = [name.encode() for name in index.names]
        shape = (-1, *index.shape) if index.ragged else index.shape

        def read(rows: np.ndarray) -> np.ndarray:
            with env.begin(buffers=True) as txn:
                values: Iterator[Any] = (txn.get(keys[row]) for row in rows.tolist())
                return collate(rows, (np.frombuffer(v, np.float32).reshape(shape) for v in values))

        return read

"""The same entries as a merstore store, a plain LMDB, ``.npy`` files and one flat file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np

import merstore
from merstore.interop.npy import encode_header
from merstore.store.view import View

GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """A shape of entries that MER features have, and where it is met."""

    label: str
    shape: tuple[int, ...]
    view: str

    @property
    def nbytes(self) -> int:
        return 4 * int(np.prod(self.shape))

    def entries(self, nbytes: int) -> int:
        """How many entries take so many bytes."""
        return nbytes // self.nbytes


FRAMES = Shape("[8,768]", (8, 768), "bench/frame@CLIP_VIT_LARGE/uniform_8frms")
VECTORS = Shape("[1024]", (1024,), "bench/audio@chinese-hubert-large/UTT")
RAGGED = Shape("[20..600,1024]", (1024,), "bench/audio@chinese-hubert-large/FRA")


def names(count: int) -> list[str]:
    return [f"sample_{number:08d}" for number in range(count)]


def values(shape: Shape, count: int, seed: int = 0) -> np.ndarray:
    """float32 ``[count, *shape]``"""
    return np.random.default_rng(seed).random((count, *shape.shape), np.float32)


def pieces(array: np.ndarray, nbytes: int = 1 << 20) -> Iterator[memoryview]:
    """The bytes of an array, piece by piece."""
    data = memoryview(array.reshape(-1).view(np.uint8))
    for start in range(0, len(data), nbytes):
        yield data[start : start + nbytes]


def write_store(path: Path, shape: Shape, array: np.ndarray) -> None:
    with merstore.open(path, "a") as store:
        create(store, shape).update(zip(names(len(array)), array, strict=True))


def create(store: merstore.Store, shape: Shape, ragged: bool = False) -> View:
    entry = (None, *shape.shape) if ragged else shape.shape
    return store.create_view(shape.view, dtype="float32", shape=entry)


def write_lmdb(path: Path, array: np.ndarray) -> None:
    """One LMDB value per entry: what one writes without merstore."""
    with lmdb.open(str(path), map_size=4 * array.nbytes + GIB) as env:
        rows = zip(names(len(array)), array, strict=True)
        items = ((name.encode(), row.tobytes()) for name, row in rows)
        for _ in range(0, len(array), 4096):
            with env.begin(write=True) as txn:
                for _, (key, value) in zip(range(4096), items, strict=False):
                    txn.put(key, value, append=True)


def write_npy(folder: Path, array: np.ndarray) -> None:
    folder.mkdir(parents=True)
    header = encode_header(array.dtype, array.shape[1:])
    for name, row in zip(names(len(array)), array, strict=True):
        (folder / f"{name}.npy").write_bytes(header + row.tobytes())


def write_flat(path: Path, array: np.ndarray) -> None:
    with path.open("wb", buffering=0) as file:
        for piece in pieces(array):
            file.write(piece)

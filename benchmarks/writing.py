"""Writing: bulk update and import, against one plain file that gets the same bytes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import merstore
from merstore.interop.importing import import_tree
from merstore.interop.trees import discover

from .data import FRAMES, VECTORS, Shape, create, names, pieces, values, write_npy
from .figures import Figure, ratio
from .measure import Method, interleave, settle

PART = "Writing, synced to disk"
PLAIN, NPY = "plain file, fsync", "np.load of each, plain file, fsync"
UPDATE_BYTES, IMPORT_BYTES = 512 << 20, 256 << 20
UPDATE_ROUNDS, IMPORT_ROUNDS = 9, 5
BAR = 0.7


def run(folder: Path) -> Iterator[Figure]:
    for shape in (FRAMES, VECTORS):
        for case in (_update, _import):
            work = folder / "writing"
            work.mkdir()
            yield from case(work, shape)
            shutil.rmtree(work)


def _plain_file(array: np.ndarray, path: Path) -> Method:
    """The bar: the bytes, from memory, in pieces of 1 MiB to one file that is synced at its end."""

    def method(number: int) -> Iterator[None]:
        settle(2 * array.nbytes)
        yield
        with path.open("wb", buffering=0) as file:
            for piece in pieces(array):
                file.write(piece)
            os.fsync(file.fileno())
        yield
        path.unlink()

    return method


def _update(folder: Path, shape: Shape) -> Iterator[Figure]:
    array = values(shape, shape.entries(UPDATE_BYTES))
    keys = names(len(array))
    path = folder / "s.mer"

    def update(number: int) -> Iterator[None]:
        with merstore.open(path, "w") as store:
            view = create(store, shape)
            settle(2 * array.nbytes)
            yield
            view.update(zip(keys, array, strict=True))
            yield
        shutil.rmtree(path)

    methods = {"update": update, PLAIN: _plain_file(array, folder / "flat.bin")}
    seconds = interleave(methods, UPDATE_ROUNDS)
    yield ratio(
        PART,
        f"{shape.label} view.update",
        PLAIN,
        seconds["update"],
        seconds[PLAIN],
        array.nbytes,
        BAR,
    )


def _import(folder: Path, shape: Shape) -> Iterator[Figure]:
    array = values(shape, shape.entries(IMPORT_BYTES))
    tree = folder / "bench"
    write_npy(tree / shape.view.partition("/")[2], array)
    found = discover(tree, "npy", dataset="bench", pattern="{modality}/{sampling}/{sample}.npy")
    flat, path = folder / "flat.bin", folder / "s.mer"

    def npy_to_plain_file(number: int) -> Iterator[None]:
        settle(2 * array.nbytes)
        files = found[0].files.values()
        yield
        with flat.open("wb") as file:
            for name in files:
                file.write(np.load(f"{found[0].directory}/{name}").data)
            file.flush()
            os.fsync(file.fileno())
        yield
        flat.unlink()

    def bulk_import(number: int) -> Iterator[None]:
        with merstore.open(path, "w") as store:
            settle(2 * array.nbytes)
            yield
            report = import_tree(store, found)
            yield
            assert report.imported == len(array)
        shutil.rmtree(path)

    methods = {"import": bulk_import, PLAIN: _plain_file(array, flat), NPY: npy_to_plain_file}
    seconds = interleave(methods, IMPORT_ROUNDS)
    for against, bar in ((PLAIN, BAR), (NPY, None)):
        what = f"{shape.label} import of {len(array):,} `.npy` files"
        yield ratio(PART, what, against, seconds["import"], seconds[against], array.nbytes, bar)

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
NBYTES = 512 << 20
ROUNDS = 7
BAR = 0.7


def run(folder: Path, nbytes: int = NBYTES) -> Iterator[Figure]:
    for shape in (FRAMES, VECTORS):
        work = folder / "writing"
        work.mkdir()
        yield from _shape(work, shape, nbytes)
        shutil.rmtree(work)


def _shape(folder: Path, shape: Shape, nbytes: int) -> Iterator[Figure]:
    array = values(shape, shape.entries(nbytes))
    keys = names(len(array))
    tree = folder / "bench"
    write_npy(tree / shape.view.partition("/")[2], array)
    found = discover(tree, "npy", dataset="bench", pattern="{modality}/{sampling}/{sample}.npy")
    flat, path = folder / "flat.bin", folder / "s.mer"

    def plain_file(number: int) -> Iterator[None]:
        settle(2 * array.nbytes)
        yield
        with flat.open("wb", buffering=0) as file:
            for piece in pieces(array):
                file.write(piece)
            os.fsync(file.fileno())
        yield
        flat.unlink()

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

    def update(number: int) -> Iterator[None]:
        with merstore.open(path, "w") as store:
            view = create(store, shape)
            settle(2 * array.nbytes)
            yield
            view.update(zip(keys, array, strict=True))
            yield
        shutil.rmtree(path)

    def bulk_import(number: int) -> Iterator[None]:
        with merstore.open(path, "w") as store:
            settle(2 * array.nbytes)
            yield
            report = import_tree(store, found)
            yield
            assert report.imported == len(array)
        shutil.rmtree(path)

    theirs: dict[str, Method] = {
        "plain file, fsync": plain_file,
        "np.load of each, plain file, fsync": npy_to_plain_file,
    }
    seconds = interleave({"update": update, "import": bulk_import, **theirs}, ROUNDS)
    plain = "plain file, fsync"
    yield ratio(
        PART,
        f"{shape.label} view.update",
        plain,
        seconds["update"],
        seconds[plain],
        array.nbytes,
        BAR,
    )
    for against in theirs:
        bar = BAR if against == plain else None
        yield ratio(
            PART,
            f"{shape.label} import of `.npy`",
            against,
            seconds["import"],
            seconds[against],
            array.nbytes,
            bar,
        )

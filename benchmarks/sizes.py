"""Bytes of the file for each byte of payload."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import lmdb

import merstore
from merstore.interop.importing import import_tree
from merstore.interop.trees import discover

from .data import FRAMES, VECTORS, Shape, values, write_npy
from .figures import Figure

PART = "File size by payload, the index counted"
NBYTES = 256 << 20
BARS = {FRAMES: 1.02, VECTORS: 1.05}


def run(folder: Path, nbytes: int = NBYTES) -> Iterator[Figure]:
    for shape in (FRAMES, VECTORS):
        work = folder / "sizes"
        array = values(shape, shape.entries(nbytes))
        write_npy(work / shape.view, array)
        path = work / "s.mer"
        with merstore.open(path, "a") as store:
            import_tree(
                store,
                discover(
                    work / "bench",
                    "npy",
                    dataset="bench",
                    pattern="{modality}/{sampling}/{sample}.npy",
                ),
            )
        yield _figure(shape, "import", path, array.nbytes)
        with merstore.open(path, "a") as store:
            store.compact()
        yield _figure(shape, "compact", path, array.nbytes)
        if shape is VECTORS:
            file = (path / "data.mdb").stat().st_size
            yield Figure(
                PART, f"{shape.label} after compact, without the index", (file - _index_bytes(path)) / array.nbytes, "x",
                bar=1.02, at_most=True,
            )  # fmt: skip
        shutil.rmtree(work)


def _figure(shape: Shape, after: str, path: Path, payload: int) -> Figure:
    file = (path / "data.mdb").stat().st_size
    return Figure(
        PART, f"{shape.label} after {after}", file / payload, "x", bar=BARS[shape], at_most=True,
        ours=f"{file / 1e6:.1f} MB", theirs=f"{payload / 1e6:.1f} MB",
    )  # fmt: skip


def _index_bytes(path: Path) -> int:
    with lmdb.open(str(path), readonly=True, max_dbs=6) as env:
        index = env.open_db(b"index", create=False)
        with env.begin() as txn:
            stat = txn.stat(index)
    return int((stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"])

from pathlib import Path

import zarr

from .peer import LOADER, Collate, Entries, Index, Peer, Read

CHUNK_BYTES = 1 << 16  # small, for random access; larger ones and shards were slower


class Zarr(Peer):
    reads = "chunks of 64 KiB, uncompressed, unsharded; array.oindex[rows]"
    pads = "all rows in one array in chunks of 256 KiB and a table of offsets; array[start:end] of each, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        aim = CHUNK_BYTES * (4 if index.ragged else 1)
        chunk = max(1, aim // index.item_bytes)
        array = zarr.create_array(
            str(folder / "x.zarr"),
            shape=entries.array.shape,
            dtype="float32",
            chunks=(chunk, *index.shape),
            compressors=None,
        )
        array[:] = entries.array

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        array = zarr.open_array(str(folder / "x.zarr"), mode="r")
        if index.ragged:
            collate = Collate(index, batch_size, reuse)
            return lambda rows: collate(rows, (array[index.where(row)] for row in rows.tolist()))
        return lambda rows: array.oindex[rows]

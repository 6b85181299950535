from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from .peer import LOADER, Collate, Entries, Index, Peer, Read

SHARD_BYTES = 16 << 20
CACHE_BYTES = 64 << 20  # its documentation advises one for the shards' indexes
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


class Tensorstore(Peer):
    reads = (
        "shards of 16 MiB with a chunk for each entry, a cache pool of 64 MiB; store[rows].read()"
    )
    pads = "all rows in one array and a table of offsets; reads of store[start:end] in one Batch, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        chunk = [16 if index.ragged else 1, *index.shape]
        shard = max(1, SHARD_BYTES // index.item_bytes // chunk[0]) * chunk[0]
        sharding = {
            "chunk_shape": chunk,
            "codecs": [BYTES],
            "index_codecs": [BYTES, {"name": "crc32c"}],
        }
        metadata = {
            "shape": list(entries.array.shape),
            "data_type": "float32",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [shard, *index.shape]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }
        store = tensorstore.open({**_spec(folder), "metadata": metadata}, create=True).result()
        store.write(entries.array).result()

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        store = tensorstore.open(_spec(folder), open=True, read=True).result()
        if not index.ragged:
            return lambda rows: store[rows].read().result()
        collate = Collate(index, batch_size, reuse)

        def pad(rows: np.ndarray) -> np.ndarray:
            with tensorstore.Batch() as batch:
                reads = [store[index.where(row)].read(batch=batch) for row in rows.tolist()]
            return collate(rows, (read.result() for read in reads))

        return pad


def _spec(folder: Path) -> dict[str, Any]:
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / "x.zarr")},
        "context": {"cache_pool": {"total_bytes_limit": CACHE_BYTES}},
    }

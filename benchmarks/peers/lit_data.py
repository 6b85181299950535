from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from litdata import StreamingDataLoader, StreamingDataset, optimize

from .peer import Batches, Collate, Entries, Index, Peer, Read


class LitData(Peer):
    reads = "optimize(..., chunk_bytes=64MB); StreamingDataset(..., batch_decode=False)[row] of each, into one array"
    pads = "the same, padded"
    loads = "StreamingDataLoader over StreamingDataset(shuffle=True)"

    def write(self, folder: Path, entries: Entries) -> None:
        array = entries.array
        assert isinstance(array, np.memmap)
        pick = _Pick(str(array.filename), array.shape, entries.index)
        optimize(
            pick,
            list(range(len(entries))),
            str(folder / "x"),
            chunk_bytes="64MB",
            num_workers=1,
            keep_data_ordered=True,
        )

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        dataset = StreamingDataset(str(folder / "x"), batch_decode=False)
        collate = Collate(index, batch_size, reuse)
        return lambda rows: collate(rows, (dataset[row]["x"] for row in rows.tolist()))

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        dataset = StreamingDataset(str(folder / "x"), shuffle=True, drop_last=False, seed=seed)
        loader = StreamingDataLoader(
            dataset, batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0
        )
        return _Named(loader)


class _Pick:
    """An entry of the truth's file, for a process of LitData's own."""

    def __init__(self, path: str, shape: tuple[int, ...], index: Index) -> None:
        self.path, self.shape, self.index = path, shape, index

    def __call__(self, row: int) -> dict[str, Any]:
        array = np.memmap(self.path, np.float32, "r", shape=self.shape)
        return {"name": self.index.names[row], "x": np.array(array[self.index.where(row)])}


class _Named:
    def __init__(self, loader: StreamingDataLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[list[str], Any]]:
        return ((batch["name"], batch["x"]) for batch in self.loader)

from pathlib import Path

import h5py
import numpy as np

from .peer import LOADER, Collate, Entries, Index, Peer, Read


class H5py(Peer):
    reads = "one contiguous dataset; dataset[sorted distinct rows], put into order afterwards"
    pads = "all rows in one dataset and a table of offsets; dataset[start:end] of each, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("x", data=entries.array)

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        dataset = h5py.File(folder / "x.h5", "r")["x"]
        if index.ragged:
            collate = Collate(index, batch_size, reuse)
            return lambda rows: collate(rows, (dataset[index.where(row)] for row in rows.tolist()))

        def read(rows: np.ndarray) -> np.ndarray:
            distinct, places = np.unique(rows, return_inverse=True)  # h5py wants increasing ones
            values: np.ndarray = dataset[distinct]
            return values[places]

        return read

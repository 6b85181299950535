from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from .peer import Collate, Entries, Index, Peer, Read


class Lance(Peer):
    reads = 'FixedSizeList column; dataset.take(rows, columns=["x"]), to NumPy without a copy'
    pads = "List column of FixedSizeLists; take, padded"
    loads = "torch DataLoader whose __getitems__ takes a batch, workers started by spawn (as its get_safe_loader does)"

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        values = pa.array(entries.array.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(values, index.item_bytes // 4)
        if index.lengths is not None:
            ends = np.concatenate([[0], np.cumsum(index.lengths)]).astype(np.int32)
            column = pa.ListArray.from_arrays(pa.array(ends), column)
        lance.write_dataset(pa.table({"name": index.names, "x": column}), str(folder / "x.lance"))

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        dataset = lance.dataset(str(folder / "x.lance"))
        collate = Collate(index, batch_size, reuse)

        def read(rows: np.ndarray) -> np.ndarray:
            column = dataset.take(rows, columns=["x"])["x"].combine_chunks()
            values = column.flatten()
            if not index.ragged:
                return _dense(values, index.shape)
            array = _dense(values.flatten(), index.shape)
            ends = np.cumsum(column.value_lengths().to_numpy())[:-1]
            return collate(rows, np.split(array, ends))

        return read


def _dense(values: pa.Array, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = values.to_numpy()
    return array.reshape(-1, *shape)

from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from .peer import LOADER, Collate, Entries, Index, Peer, Read


class ArrayRecord(Peer):
    reads = '"group_size:1,uncompressed"; ArrayRecordReader(..., "readahead_buffer_size:0").read(rows), into one array'
    pads = "the same, padded"
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        writer = ArrayRecordWriter(str(folder / "x.array_record"), "group_size:1,uncompressed")
        for entry in entries:
            writer.write(entry.tobytes())
        writer.close()

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        reader = ArrayRecordReader(str(folder / "x.array_record"), "readahead_buffer_size:0")
        collate = Collate(index, batch_size, reuse)
        shape = (-1, *index.shape) if index.ragged else index.shape

        def read(rows: np.ndarray) -> np.ndarray:
            records = reader.read(rows.tolist())
            return collate(rows, (np.frombuffer(r, np.float32).reshape(shape) for r in records))

        return read

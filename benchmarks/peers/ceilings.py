"""What memory alone allows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .peer import Batches, Collate, Entries, Index, Peer, Read


class Memcpy(Peer):
    reads = "np.copyto from one place in RAM; the values are not those asked for"
    pads = "the same, and zeros for the padding"
    exact = False

    def write(self, folder: Path, entries: Entries) -> None:
        _save(folder, entries)

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        memory = np.load(folder / "ram.npy")
        longest = 1 if index.lengths is None else int(index.lengths.max())
        out = np.zeros((batch_size * longest, *index.shape), np.float32)

        def copy(rows: np.ndarray) -> np.ndarray:
            wanted = len(rows) if index.lengths is None else int(index.lengths[rows].sum())
            padded = (
                len(rows) if index.lengths is None else len(rows) * int(index.lengths[rows].max())
            )
            start, done = int(rows[0]) % max(1, len(memory) - wanted), 0
            while done < wanted:  # more than once where a batch is larger than the memory
                piece = memory[start : start + wanted - done]
                np.copyto(out[done : done + len(piece)], piece)
                start, done = 0, done + len(piece)
            out[wanted:padded] = 0
            return out

        return copy


class Ram(Peer):
    reads = "torch.index_select(tensor, 0, rows, out=tensor), one thread"
    pads = "a slice of a tensor in RAM for each entry, copied and padded"
    loads = "torch.randperm, torch.index_select of each batch, names from a list; no DataLoader"
    workers = (0,)

    def write(self, folder: Path, entries: Entries) -> None:
        _save(folder, entries)

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        memory = np.load(folder / "ram.npy")
        if index.ragged:
            collate = Collate(index, batch_size, reuse)
            return lambda rows: collate(rows, (memory[index.where(row)] for row in rows.tolist()))
        tensor = torch.from_numpy(memory)
        out = torch.empty(batch_size, *index.shape)
        return lambda rows: torch.index_select(
            tensor, 0, torch.from_numpy(rows), out=out[: len(rows)]
        )

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        return _Epochs(torch.from_numpy(np.load(folder / "ram.npy")), index.names, batch_size, seed)


class _Epochs:
    def __init__(self, tensor: torch.Tensor, names: list[str], batch_size: int, seed: int) -> None:
        self.tensor, self.names, self.batch_size = tensor, names, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        order = torch.randperm(len(self.names), generator=self.generator)
        for rows in torch.split(order, self.batch_size):
            yield [self.names[row] for row in rows.tolist()], self.tensor.index_select(0, rows)


def _save(folder: Path, entries: Entries) -> None:
    np.save(folder / "ram.npy", entries.array)

"""What the runner asks of a rival, and what most rivals need to answer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Read = Callable[[np.ndarray], Any]
"""Rows int64 ``[B]`` to float32 ``[B, *shape]``, or ``[B, longest, *shape]`` with zeros at the back where ragged."""

Batches = Iterable[tuple[Sequence[str], Any]]
"""An epoch: names and float32 ``[B, *shape]``, batch by batch."""


class Unsupported(Exception):
    """What a rival does not do, as the table shows it."""


@dataclass(frozen=True)
class Index:
    """What is known of the entries before anything is opened.

    shape: of an entry, or of its rows where `lengths` (int64 ``[N]``) says how many rows each has.
    """

    names: list[str]
    shape: tuple[int, ...]
    lengths: np.ndarray | None = None
    starts: np.ndarray | None = field(init=False, default=None)  # where each begins among all rows

    def __post_init__(self) -> None:
        if self.lengths is not None:
            object.__setattr__(self, "starts", np.cumsum(self.lengths) - self.lengths)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ragged(self) -> bool:
        return self.lengths is not None

    @property
    def item_bytes(self) -> int:
        """Of an entry, or of a row of one."""
        return 4 * int(np.prod(self.shape))

    def where(self, row: int) -> slice | int:
        """Where entry `row` is in ``Entries.array``."""
        if self.lengths is None or self.starts is None:
            return row
        return slice(int(self.starts[row]), int(self.starts[row] + self.lengths[row]))

    def nbytes(self, rows: np.ndarray) -> int:
        """Payload of a batch."""
        return self.item_bytes * (
            len(rows) if self.lengths is None else int(self.lengths[rows].sum())
        )


class Entries:
    """What is written. array: float32 ``[N, *shape]``, or all rows of ragged entries, ``[sum, *shape]``."""

    def __init__(self, index: Index, array: np.ndarray) -> None:
        self.index = index
        self.array = array

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> np.ndarray:
        entry: np.ndarray = self.array[self.index.where(row)]
        return entry

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        return zip(self.index.names, self, strict=True)

    def batch(self, rows: np.ndarray) -> np.ndarray:
        """What a reader has to return."""
        if not self.index.ragged:
            values: np.ndarray = self.array[rows]
            return values
        return Collate(self.index, len(rows))(rows, (self[row] for row in rows.tolist()))


class Collate:
    """Puts entries that come one by one into a batch, padded where they are ragged.

    reuse: always into the same memory, which saves the page faults of a new array: for whoever is
    done with a batch when the next one is read.
    """

    def __init__(self, index: Index, batch_size: int, reuse: bool = False) -> None:
        self.index = index
        longest = () if index.lengths is None else (int(index.lengths.max()),)
        self._out = np.zeros((batch_size, *longest, *index.shape), np.float32) if reuse else None

    def empty(self, rows: np.ndarray) -> np.ndarray:
        lengths = self.index.lengths
        longest = () if lengths is None else (int(lengths[rows].max()),)
        if self._out is None:
            return np.empty((len(rows), *longest, *self.index.shape), np.float32)
        return self._out[: len(rows), : longest[0]] if longest else self._out[: len(rows)]

    def __call__(self, rows: np.ndarray, entries: Iterable[np.ndarray]) -> np.ndarray:
        out = self.empty(rows)
        if not self.index.ragged:
            for i, entry in enumerate(entries):
                out[i] = entry
        else:
            for i, entry in enumerate(entries):
                out[i, : len(entry)] = entry
                out[i, len(entry) :] = 0
        return out


class Peer(ABC):
    """One way to keep entries by name, in one folder.

    reads, pads, loads: what is called for random batches, for ragged ones, and for an epoch. What a rival does
    not have is empty.
    """

    reads: ClassVar[str] = ""
    pads: ClassVar[str] = ""
    loads: ClassVar[str] = ""
    workers: ClassVar[tuple[int, ...]] = (0, 2)  # of the loader: the faster one counts
    exact: ClassVar[bool] = True  # False for a ceiling that moves other values

    @abstractmethod
    def write(self, folder: Path, entries: Entries) -> None: ...

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        raise Unsupported("no random access")

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        """The same object is iterated once for each epoch. By default torch's DataLoader over `open`."""
        return DataLoader(
            MapStyle(self, folder, index, batch_size),
            batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
            collate_fn=same,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )


LOADER = "torch DataLoader; the dataset's __getitems__ reads a whole batch as on the left"


class MapStyle(Dataset[Any]):
    """A torch dataset that opens its store where it reads, and reads whole batches."""

    def __init__(self, peer: Peer, folder: Path, index: Index, batch_size: int) -> None:
        self._how = peer, folder, index, batch_size
        self._read: Read | None = None

    def __len__(self) -> int:
        return len(self._how[2])

    def __getitems__(self, rows: list[int]) -> tuple[list[str], torch.Tensor]:
        peer, folder, index, batch_size = self._how
        if self._read is None:
            self._read = peer.open(folder, index, batch_size, reuse=False)
        values = self._read(np.array(rows))
        return [index.names[row] for row in rows], torch.as_tensor(values)


def same(batch: Any) -> Any:
    """The collation of what is a batch already."""
    return batch

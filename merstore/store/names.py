"""Sample names, many of them, without a Python object for each."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np


class Names(Sequence[str]):
    """A read-only sequence of sample names in one piece of memory: bytes and offsets.

    A million names of 15 letters take 23 MB, are pickled as two arrays, and are not touched by
    reference counting in forked workers.
    """

    __slots__ = ("_blob", "_offsets")

    def __init__(self, blob: bytes, offsets: np.ndarray) -> None:
        self._blob = blob
        self._offsets = offsets  # int64 [n + 1]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        if isinstance(names, Names):
            return names
        return cls.of_bytes([name.encode() for name in names])

    @classmethod
    def of_bytes(cls, keys: list[bytes]) -> "Names":
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)), out=offsets[1:])
        return cls(b"".join(keys), offsets)

    def key(self, row: int) -> bytes:
        """The name at ``row`` as stored."""
        return self._blob[self._offsets[row] : self._offsets[row + 1]]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "Names": ...
    def __getitem__(self, row: int | slice) -> "str | Names":
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"name {row} of {len(self)}")
        return self.key(row).decode()

    def __iter__(self) -> Iterator[str]:
        blob, offsets = self._blob, self._offsets.tolist()
        for begin, end in pairwise(offsets):
            yield blob[begin:end].decode()

    def take(self, rows: np.ndarray) -> "Names":
        """The names at ``rows`` (integers), in their order."""
        return Names.of_bytes([self.key(row) for row in rows.tolist()])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self._blob == other._blob and np.array_equal(self._offsets, other._offsets)
        if isinstance(other, Sequence) and not isinstance(other, (str, bytes)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._blob, len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(repr(self[row]) for row in range(min(3, len(self))))
        return f"Names({len(self)}: {shown}{', ...' if len(self) > 3 else ''})"

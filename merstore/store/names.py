"""Sample names, many of them, without a Python object for each."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import overload

import numpy as np

from merstore import _core
from merstore.store.keys import MAX_BYTES, sample_key

_CHUNK = 1 << 16  # names at a time, where each takes more room for a moment than it has here


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
        """Raises InvalidKey for what cannot be a sample's name."""
        if isinstance(names, Names):
            return names
        listed = names if isinstance(names, list) else list(names)
        plain = cls._plain(listed)
        return plain or cls.of_bytes([sample_key(name) for name in listed])

    @classmethod
    def _plain(cls, names: list[str]) -> "Names | None":
        """Names of ASCII letters without anything that sample_key would look at closer."""
        try:
            text = "".join(names)
        except TypeError:
            return None
        sizes = np.fromiter(map(len, names), np.int64, len(names))
        plain = text.isascii() and text.isprintable() and "/" not in text
        if not plain or not names or sizes.min() < 1 or sizes.max() > MAX_BYTES:
            return None
        return cls(text.encode(), _ends(sizes))

    @classmethod
    def of_bytes(cls, keys: Iterable[bytes]) -> "Names":
        keys = iter(keys)
        blob = bytearray()
        sizes = [np.empty(0, np.int64)]
        while some := list(islice(keys, _CHUNK)):
            blob += b"".join(some)
            sizes.append(np.fromiter(map(len, some), np.int64, len(some)))
        return cls(bytes(blob), _ends(np.concatenate(sizes)))

    @property
    def parts(self) -> tuple[bytes, np.ndarray]:
        """All names back to back, and where each begins and ends, int64 ``[n + 1]``: Names(*names.parts)."""
        return self._blob, self._offsets

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
        for key in self.encoded():
            yield key.decode()

    def encoded(self) -> Iterator[bytes]:
        """The names as stored, in order."""
        for first in range(0, len(self), _CHUNK):
            for begin, end in pairwise(self._offsets[first : first + _CHUNK + 1].tolist()):
                yield self._blob[begin:end]

    def decoded(self, rows: np.ndarray) -> list[str]:
        """The names at ``rows`` (integers) as text."""
        return _core.texts(self._blob, self._offsets, np.ascontiguousarray(rows, np.int64))

    def take(self, rows: np.ndarray) -> "Names":
        """The names at ``rows`` (integers), in their order."""
        letters = np.frombuffer(self._blob, np.uint8)
        begins = self._offsets[rows]
        sizes = self._offsets[rows + 1] - begins
        offsets = _ends(sizes)
        parts = []
        for first in range(0, len(rows), _CHUNK):
            some = slice(first, first + _CHUNK)
            steps = np.arange(offsets[first], offsets[min(first + _CHUNK, len(rows))])
            parts.append(letters[np.repeat(begins[some] - offsets[:-1][some], sizes[some]) + steps])
        return Names(b"".join(part.tobytes() for part in parts), offsets)

    def find(self, others: "Names") -> np.ndarray:
        """int64 ``[len(others)]``: the row here of each of ``others``, -1 for one that is not here."""
        if self == others:
            return np.arange(len(self))
        if not len(self):
            return np.full(len(others), -1, np.int64)
        mine, theirs = self._hashes(), others._hashes()
        # in order on both sides, so that the search walks through memory instead of jumping about
        order, turn = np.argsort(mine), np.argsort(theirs)
        rows = np.empty(len(theirs), np.int64)
        rows[turn] = order[np.minimum(np.searchsorted(mine[order], theirs[turn]), len(mine) - 1)]
        found = mine[rows] == theirs
        rows[~found] = -1
        if self.take(rows[found]) != others.take(np.flatnonzero(found)):  # hashes are no proof
            table = {key: row for row, key in enumerate(self.encoded())}
            rows = np.fromiter(
                (table.get(key, -1) for key in others.encoded()), np.int64, len(others)
            )
        return rows

    def repeated(self) -> "Names":
        """The names that are here more than once, each once."""
        hashes = self._hashes()
        order = np.sort(hashes)
        twice = np.unique(order[1:][order[1:] == order[:-1]])
        rows = np.flatnonzero(np.isin(hashes, twice)) if len(twice) else twice
        seen: set[bytes] = set()
        again: dict[bytes, None] = {}
        for key in (self.key(row) for row in rows.tolist()):
            if key in seen:
                again[key] = None
            seen.add(key)
        return Names.of_bytes(list(again))

    def _hashes(self) -> np.ndarray:
        """int64 ``[n]``, Python's, which differ from process to process."""
        return np.fromiter(map(hash, self.encoded()), np.int64, len(self))

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

    def shown(self, count: int = 5) -> str:
        """The first names and, where there are more, how many: for messages."""
        more = f" and {len(self) - count} more" if len(self) > count else ""
        return ", ".join(self[row] for row in range(min(count, len(self)))) + more


def _ends(sizes: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets

"""Selections: samples of a view by row number, as the loader takes them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from merstore import _core
from merstore.errors import InvalidTensor
from merstore.store.batch import Batch, RaggedBatch
from merstore.store.gathering import Slotted
from merstore.store.names import Names

if TYPE_CHECKING:
    from merstore.store.view import View


class Selection(Slotted):
    """Samples of a view by row number. Names are looked up once each, when first needed."""

    def __init__(self, view: "View", names: Names) -> None:
        super().__init__(view, len(names))
        self.names = names

    def _key(self, row: int) -> bytes:
        return self.names.key(row)

    def __len__(self) -> int:
        return len(self.names)

    def gather(
        self, index: Any, out: Any = None, on_miss: str = "raise", dtype: Any = None
    ) -> "Batch | RaggedBatch":
        """The entries at ``index`` (integers ``[B]``; negative ones count from the end), as
        ``View.gather`` gives them.
        """
        return self._gather(self._rows(index), out, on_miss, dtype)

    def padded(
        self,
        index: Any,
        length: int | None = None,
        side: str = "back",
        out: Any = None,
        on_miss: str = "raise",
        dtype: Any = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A ragged view's entries padded with zeros, in one pass from the map: ``(values [B,
        length, ...], lengths int64 [B], mask bool)``.

        ``length`` is the longest entry's by default; longer ones keep their first rows. ``side`` is
        where the zeros go, ``"back"`` or ``"front"``.
        """
        return self._pad(self._rows(index), length, side, out, on_miss, dtype)

    def lengths(self, index: Any = None) -> np.ndarray:
        """int64 ``[B]``: how many rows each entry has (1 in a view of fixed shape), 0 for what is
        not there. Reads the index only.
        """
        return self._pick(self._all(index)).lengths()

    def present(self, index: Any = None) -> np.ndarray:
        """bool ``[B]``: which samples have a tensor. Reads the index only."""
        return self._pick(self._all(index)).mask()

    def willneed(self, index: Any) -> None:
        """Ask the system to read these entries' pages ahead of a gather. Returns at once."""
        picked = self._pick(self._rows(index))
        picked.slots.willneed(picked.file)

    def _all(self, index: Any) -> np.ndarray:
        return np.arange(len(self), dtype=np.int64) if index is None else self._rows(index)

    def _rows(self, index: Any) -> np.ndarray:
        given = np.asarray(index)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise InvalidTensor(
                f"row numbers come as one integer array [B], not as {given.dtype} of shape {given.shape}"
            )
        rows = np.ascontiguousarray(given, np.int64)
        if _core.any_negative(rows):
            rows = np.where(rows < 0, rows + len(self), rows)
        return rows

    def __reduce__(self) -> Any:
        return Selection, (self.view, self.names)

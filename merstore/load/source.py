"""What one view gives to a batch."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from merstore.errors import MerstoreError
from merstore.store import dtypes
from merstore.store.batch import RaggedBatch
from merstore.store.names import Names
from merstore.store.record import ViewRecord
from merstore.store.view import View

LAYOUTS = ("padded", "values", "nested")
SIDES = ("back", "front")
ON_MISS = ("raise", "mask", "fill")
_FLOATS = ("float16", "bfloat16", "float32", "float64")

Empty = Callable[[tuple[int, ...], "np.dtype[Any]"], torch.Tensor]
"""Gives an uninitialised tensor of a shape and dtype in this machine's memory."""


class Reading(NamedTuple):
    """How a view is read: the arguments of FeatureDataset, for one of its views."""

    on_miss: str
    layout: str
    side: str
    length: int | Literal["max"] | None
    dtype: Any


class Part(NamedTuple):
    """One view's part of a batch of B samples. A padded or fixed view has no offsets, a fixed one no lengths."""

    values: torch.Tensor
    mask: torch.Tensor
    lengths: torch.Tensor | None = None
    offsets: torch.Tensor | None = None


class Source:
    """The samples of a dataset in one of its views, read from the store."""

    def __init__(self, key: str, view: View, names: Names, reading: Reading) -> None:
        self.key = key
        self.view = view
        self.reading = reading
        self.selection = view.select(names)
        self._longest: tuple[int, Any] = -1, None
        self._check()

    def _check(self) -> None:
        on_miss, layout, side, length, dtype = self.reading
        where = f"view {self.key!r}"
        if on_miss == "skip":
            raise MerstoreError(
                f'{where}: on_miss is "raise", "mask" or "fill" here: to skip samples, leave them out of names '
                "(view.names(), selection.present())"
            )
        for name, value, known in (
            ("on_miss", on_miss, ON_MISS), ("layout", layout, LAYOUTS), ("side", side, SIDES),
        ):  # fmt: skip
            if value not in known:
                raise MerstoreError(f"{where}: {name} is one of {', '.join(known)}, not {value!r}")
        if length is not None:
            if length != "max" and (not isinstance(length, int) or length < 1):
                raise MerstoreError(
                    f'{where}: length is a number of rows, "max" or None, not {length!r}'
                )
            if layout != "padded":
                raise MerstoreError(
                    f"{where}: length is what is padded to; layout {layout!r} pads nothing"
                )
            if length == "max" and on_miss == "fill":
                raise MerstoreError(
                    f'{where}: with on_miss="fill" the longest entry is not known yet: state the length as a number'
                )
        if dtype is not None:
            dtypes.code_of(dtype)

    @property
    def record(self) -> ViewRecord:
        return self.view.record

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of its tensors."""
        code = dtypes.CODES[self.record.dtype]
        if self.reading.dtype is not None and self.record.dtype in _FLOATS:
            code = dtypes.code_of(self.reading.dtype)
        if code == dtypes.BFLOAT16:  # NumPy has none
            code = dtypes.CODES["float32"]
        return dtypes.numpy_dtype(code)

    def stamp(self) -> Any:
        """Another one after every change of the view."""
        return self.view.store.snapshot().environment.key, self.record

    def lengths(self) -> np.ndarray:
        """int64 ``[samples]``: rows of each entry, 0 where there is none. Reads the index only."""
        return self.selection.lengths()

    def width(self, lengths: np.ndarray) -> int:
        """The length to which a batch of these lengths is padded."""
        length = self.reading.length
        if length is None:
            return int(lengths.max(initial=0))
        if length != "max":
            return length
        stamp = self.stamp()
        if self._longest[1] != stamp:
            self._longest = int(self.lengths().max(initial=0)), stamp
        return self._longest[0]

    def fill(self, rows: np.ndarray) -> None:
        """Have what is missing of ``rows`` computed, where that was asked for."""
        if self.reading.on_miss == "fill":
            missing = rows[~self.selection.present(rows)]
            if missing.size:
                self.view._fill(list(dict.fromkeys(self.selection.names.decoded(missing))))

    def read(self, rows: np.ndarray, empty: Empty) -> Part:
        """The entries at ``rows``, int64 ``[B]``, in tensors from ``empty``."""
        if not self.record.ragged:
            values = empty((len(rows), *self.record.row_shape), self.dtype)
            batch = self.selection.gather(rows, values, self.reading.on_miss)
            return Part(values, torch.from_numpy(batch.mask))
        self.fill(rows)
        if self.reading.layout != "padded":
            return self._values(rows, empty)
        width = self.width(self.selection.lengths(rows))
        values = empty((len(rows), width, *self.record.row_shape), self.dtype)
        on_miss, _, side, *_ = self.reading
        _, lengths, mask = self.selection.padded(rows, width, side, values, on_miss)
        return Part(values, torch.from_numpy(mask), torch.from_numpy(lengths))

    def _values(self, rows: np.ndarray, empty: Empty) -> Part:
        total = int(self.selection.lengths(rows).sum())
        values = empty((total, *self.record.row_shape), self.dtype)
        batch = self.selection.gather(rows, values, self.reading.on_miss)
        assert isinstance(batch, RaggedBatch)
        offsets = torch.from_numpy(batch.offsets)
        return Part(values, torch.from_numpy(batch.mask), offsets.diff(), offsets)

    def items(self, rows: np.ndarray, empty: Empty) -> tuple[tuple[torch.Tensor, ...], Part]:
        """The entries one by one, and the batch that they are parts of. A ragged view's are padded only where
        the dataset states a length.
        """
        if self.record.ragged and self.reading.length is None:
            self.fill(rows)
            part = self._values(rows, empty)
            assert part.lengths is not None
            return torch.split(part.values, part.lengths.tolist()), part
        part = self.read(rows, empty)
        return part.values.unbind(), part

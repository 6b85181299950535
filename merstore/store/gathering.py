"""Gathering: a batch of entries copied out of the map in one pass."""

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore import _core
from merstore.errors import CorruptEntry, CorruptStore, InvalidTensor, MerstoreError, MissingEntry
from merstore.store import dtypes
from merstore.store.batch import Batch, RaggedBatch, allocate, as_array, destination
from merstore.store.entry import unpack
from merstore.store.record import ViewRecord
from merstore.store.snapshot import Snapshot

if TYPE_CHECKING:
    from merstore.store.view import View

ON_MISS = ("raise", "skip", "mask", "fill")
CONTRADICTS = (
    "{}: the index entry contradicts itself, the view or the file. Delete the entry and compute or import it "
    "again; `merstore verify` lists all such entries"
)


class Slotted:
    """Slots of some samples of a view, resolved when first asked for and kept while the store's
    snapshot allows.

    A gather copies the slots of its batch and holds their snapshot, so that threads which share one
    of these gather side by side, whatever the others do to the slots meanwhile.
    """

    def __init__(self, view: "View", count: int) -> None:
        self.view = view
        self._slots = _core.Slots(count)
        self._lock = threading.RLock()  # held while slots are resolved and copied
        self._snapshot: Snapshot | None = None
        self._resolved_for: tuple[Any, ...] = ()
        view.store._keep(self)

    def _key(self, row: int) -> bytes:
        raise NotImplementedError

    def let_go(self) -> None:
        """Forget the snapshot: the slots are looked at again with the next one."""
        self._snapshot = None

    def after_fork(self) -> None:
        """In the child: the thread that may have held the lock is not there."""
        self._lock = threading.RLock()
        self._resolved_for = ()

    def _pick(self, rows: np.ndarray) -> "Picked":
        """The slots of ``rows``, all resolved."""
        with self._lock:
            snapshot = self.view.store.snapshot()
            record = self.view._record_at(snapshot)
            if snapshot is not self._snapshot:
                # what locators were read under: the same in another file may lead elsewhere
                state = (snapshot.environment.key, record.number, record.moves)
                self._slots.forget(state != self._resolved_for)
                self._resolved_for = state
                self._snapshot = snapshot
            slots = self._slots.pick(rows)
            if slots.unresolved:
                self._resolve(snapshot, record, self._slots.pending(rows))
                slots = self._slots.pick(rows)
            return Picked(self, rows, snapshot, record, slots)

    def _resolve(self, snapshot: Snapshot, record: ViewRecord, rows: list[int]) -> None:
        env = snapshot.environment
        values = snapshot.get_each(b"index", record.prefix, [self._key(row) for row in rows])
        bad = self._slots.resolve(
            rows,
            values,
            env.page_bytes,
            env.committed_bytes(),
            record.row_elements,
            record.ragged,
            snapshot.pages(record.number),
        )
        if bad >= 0:
            raise CorruptEntry(
                CONTRADICTS.format(f"{self.view.path}/{self._key(rows[bad]).decode()}")
            )
        for value in values:
            if value is not None and value[0] == _core.TENSOR:
                self.view._check_block(snapshot, value)
                break

    def _gather(
        self, rows: np.ndarray, out: Any, on_miss: str, dtype: Any
    ) -> "Batch | RaggedBatch":
        if out is not None:
            out = as_array(out)
        picked, mask = self._served(rows, on_miss)
        numpy_dtype, code = picked.dtype(out, dtype)
        if picked.record.ragged:
            return picked.ragged(out, numpy_dtype, code, mask)
        return picked.fixed(out, numpy_dtype, code, mask)

    def _pad(
        self,
        rows: np.ndarray,
        length: int | None,
        side: str,
        out: Any,
        on_miss: str,
        dtype: Any,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if side not in ("front", "back"):
            raise InvalidTensor(f'padding goes to the "front" or the "back", not {side!r}')
        if length is not None and length < 0:
            raise InvalidTensor(f"a length to pad to is at least 0, not {length}")
        if out is not None:
            out = as_array(out)
        picked, mask = self._served(rows, on_miss)
        if not picked.record.ragged:
            raise InvalidTensor(
                f"view {self.view.path} has the fixed shape {picked.record.shape}: there is nothing to pad"
            )
        return *picked.padded(length, side, out, *picked.dtype(out, dtype)), mask

    def _served(self, rows: np.ndarray, on_miss: str) -> "tuple[Picked, np.ndarray]":
        """The slots to gather, and which of ``rows`` have a tensor. Fills, skips or raises as asked."""
        if on_miss not in ON_MISS:
            raise MerstoreError(f"on_miss is one of {', '.join(ON_MISS)}, not {on_miss!r}")
        picked = self._pick(rows)
        mask = picked.mask()
        if picked.slots.tensors == len(mask):
            return picked, mask
        missing = list(dict.fromkeys(self._key(row).decode() for row in rows[~mask].tolist()))
        if on_miss == "raise":
            raise MissingEntry(self.view._explain(missing))
        if on_miss == "fill":
            self.view._fill(missing)
            picked = self._pick(rows)
            mask = picked.mask()
        if on_miss == "skip":
            picked.skip(mask)
        return picked, mask


class Picked:
    """The slots of one batch, and the snapshot they belong to."""

    def __init__(
        self,
        source: Slotted,
        rows: np.ndarray,
        snapshot: Snapshot,
        record: ViewRecord,
        slots: "_core.Picked",
    ) -> None:
        self.source = source
        self.rows = rows
        self.snapshot = snapshot
        self.record = record
        self.slots = slots
        self.store = source.view.store
        self.file = snapshot.environment.file(self.store.io)

    def mask(self) -> np.ndarray:
        """bool ``[B]``: which have a tensor."""
        if self.slots.tensors == len(self.slots):
            return np.ones(len(self.slots), bool)
        there: np.ndarray = np.frombuffer(self.slots.statuses(), np.uint8) == _core.TENSOR
        return there

    def skip(self, mask: np.ndarray) -> None:
        self.rows = self.rows[mask]
        self.slots = self.slots.without_missing()

    def lengths(self) -> np.ndarray:
        lengths = np.zeros(len(self.slots), np.int64)
        self.slots.lengths(lengths)
        return lengths

    def dtype(self, out: Any, dtype: Any) -> "tuple[np.dtype[Any], int]":
        """The batch's dtype, and its code."""
        if dtype is not None:
            code = dtypes.code_of(dtype)
        elif out is not None:
            code = dtypes.code_of(out.dtype)
        else:
            code = dtypes.CODES[self.record.dtype]
        if code == dtypes.BFLOAT16:  # NumPy has none: batches are float32
            code = dtypes.CODES["float32"]
        return dtypes.numpy_dtype(code), code

    def fixed(self, out: Any, dtype: "np.dtype[Any]", code: int, mask: np.ndarray) -> Batch:
        shape = (len(self.slots), *self.record.row_shape)
        if out is not None and len(mask) > len(self.slots):
            out = out[: len(self.slots)]  # "skip": the rest of out stays as it is
        array = _out(out, shape, dtype)
        elements = self.record.row_elements
        self._check(self.slots.gather(self.file, array, code, elements, 1, True), code)
        return Batch.of(array, mask)

    def ragged(self, out: Any, dtype: "np.dtype[Any]", code: int, mask: np.ndarray) -> RaggedBatch:
        offsets = np.zeros(len(self.slots) + 1, np.int64)
        np.cumsum(self.lengths(), out=offsets[1:])
        total = int(offsets[-1])
        out = None if out is None else out[:total]
        array = _out(out, (total, *self.record.row_shape), dtype)
        elements = self.record.row_elements
        self._check(self.slots.gather(self.file, array, code, elements, 0, True), code)
        return RaggedBatch(array, offsets, mask)

    def padded(
        self, length: int | None, side: str, out: Any, dtype: "np.dtype[Any]", code: int
    ) -> tuple[np.ndarray, np.ndarray]:
        lengths = self.lengths()
        width = int(lengths.max(initial=0)) if length is None else length
        array = _out(out, (len(self.slots), width, *self.record.row_shape), dtype)
        elements = self.record.row_elements
        result = self.slots.pad(self.file, array, code, elements, width, side == "front")
        self._check(result, code)
        return array, np.minimum(lengths, width)

    def _check(self, result: tuple[int, int, int], code: int) -> None:
        """Raise what a gather reports; with ``checksum=True`` verify what it served."""
        status, position, number = result
        if status == _core.GATHERED:
            self.snapshot.check()
            if self.store.checksum:
                self._verify()
            return
        data = self.snapshot.environment.path / "data.mdb"
        if status == _core.CANNOT_CAST:
            stored = dtypes.NAMES[self.slots.location(position)[2]]
            name = self.source._key(int(self.rows[position])).decode()
            raise InvalidTensor(
                f"{self.source.view.path}/{name} is stored as {stored}, which a batch of "
                f'{dtypes.NAMES[code]} cannot hold: ask for dtype="float32" or "float64"'
            )
        if status == _core.CUT_SHORT:
            raise CorruptStore(f"{data} was cut short: restore it from a copy")
        if status == _core.NO_MEMORY:
            raise MerstoreError("out of memory while casting a batch")
        raise MerstoreError(f"{data} cannot be read: {os.strerror(number)}")

    def _verify(self) -> None:
        keys = [self.source._key(row) for row in self.rows.tolist()]
        values = self.snapshot.get_each(b"index", self.record.prefix, keys)
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            entry = unpack(value) if value is not None else None
            if entry is not None:
                offset, nbytes, _ = self.slots.location(i)
                payload = self.file.payload(offset, nbytes, self.snapshot)
                self.source.view._verify(self.snapshot, key, entry, payload)


def _out(out: Any, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> np.ndarray:
    return allocate(shape, dtype) if out is None else destination(out, shape, dtype)

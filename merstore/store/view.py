"""Views and selections: reading entries one by one and in batches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from merstore import _core
from merstore.errors import CorruptEntry, CorruptStore, InvalidTensor, MerstoreError, MissingEntry
from merstore.store import dtypes
from merstore.store.batch import Batch, RaggedBatch, allocate, destination
from merstore.store.entry import Failure, IndexEntry, unpack, unpack_failure
from merstore.store.environment import Snapshot
from merstore.store.keys import ViewPath, parse_view, sample_key
from merstore.store.names import Names
from merstore.store.record import ViewRecord
from merstore.store.writer import digest

if TYPE_CHECKING:
    from merstore.store.store import Store

ON_MISS = ("raise", "skip", "mask", "fill")
_SHOWN = 5  # names in a message


class Filler(Protocol):
    """Computes what is missing of a view and writes it to the store (``merstore.fill.Filler``)."""

    def fill(self, view: "View", names: list[str]) -> object: ...


class _Slotted:
    """Slots of some samples of a view, resolved when first asked for and kept while the store's
    snapshot allows.
    """

    def __init__(self, view: "View", count: int) -> None:
        self.view = view
        self._slots = _core.Slots(count)
        self._snapshot: Snapshot | None = None
        self._number = 0
        self._moves = 0
        view.store._keep(self)

    def _key(self, row: int) -> bytes:
        raise NotImplementedError

    def let_go(self) -> None:
        """Forget the snapshot: the slots are looked at again with the next one."""
        self._snapshot = None

    def _sync(self) -> Snapshot:
        snapshot = self.view.store.snapshot()
        if snapshot is not self._snapshot:
            record = self.view.record
            same = record.number == self._number and record.moves == self._moves
            self._slots.forget(not same)
            self._number, self._moves = record.number, record.moves
            self._snapshot = snapshot
        return snapshot

    def _resolve(self, snapshot: Snapshot, rows: list[int]) -> None:
        record = self.view.record
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
                f"{self.view.path}/{self._key(rows[bad]).decode()}: the index entry contradicts the view "
                "or the file; run `merstore verify`"
            )
        first = next(
            (value for value in values if value is not None and value[0] == _core.TENSOR), None
        )
        if first is not None:
            self.view._check_block(snapshot, first)

    def _resolved(self, rows: np.ndarray) -> Snapshot:
        snapshot = self._sync()
        pending = self._slots.pending(rows)
        if pending:
            self._resolve(snapshot, pending)
        return snapshot

    def _misses(self, rows: np.ndarray, on_miss: str) -> np.ndarray | None:
        """True where the sample is there; None if all are. Fills or raises as ``on_miss`` says."""
        there: np.ndarray = np.frombuffer(self._slots.statuses(rows), np.uint8) == _core.TENSOR
        if there.all():
            return None
        missing = list(dict.fromkeys(self._key(row).decode() for row in rows[~there].tolist()))
        if on_miss == "raise":
            raise MissingEntry(self.view._explain(missing))
        if on_miss == "fill":
            if self.view.filler is None:
                raise MerstoreError(
                    f'on_miss="fill": nothing computes view {self.view.path} yet; give it a filler '
                    "(view.filler = merstore.fill.Filler(clips, extractor))"
                )
            unknown = self.view.missing(missing)
            if unknown:
                self.view.filler.fill(self.view, unknown)
                self.view.store.refresh()
                self._resolved(rows)
            there = np.frombuffer(self._slots.statuses(rows), np.uint8) == _core.TENSOR
        return there

    def _gather(
        self, rows: np.ndarray, out: Any, on_miss: str, dtype: Any
    ) -> "Batch | RaggedBatch":
        if on_miss not in ON_MISS:
            raise MerstoreError(f"on_miss is one of {', '.join(ON_MISS)}, not {on_miss!r}")
        snapshot = self._resolved(rows)
        record = self.view.record
        if record.ragged:
            return self._gather_ragged(snapshot, rows, out, on_miss, dtype)
        numpy_dtype, code = self._batch_dtype(out, dtype)
        array = None
        if on_miss == "raise":  # the common case, kept short
            array = self._fixed_out(out, len(rows), numpy_dtype)
            status = self._slots.gather(
                self._file(snapshot), rows, array, code, record.row_elements, 1, False
            )
            if status[0] == _core.GATHERED:
                if self.view.store.checksum:
                    self._verify(snapshot, rows)
                return Batch.of(array, np.ones(len(rows), bool))
            if status[0] != _core.NOT_THERE:
                raise self._error(snapshot, rows, status, code)
        there = self._misses(rows, on_miss)
        snapshot = self._resolved(rows)
        mask = np.ones(len(rows), bool) if there is None else there
        if there is not None and on_miss == "skip":
            rows = rows[there]
            out = None if out is None else np.asarray(out)[: len(rows)]
        array = self._fixed_out(out, len(rows), numpy_dtype)
        self._run(snapshot, rows, array, code, 1, on_miss != "skip")
        return Batch.of(array, mask)

    def _gather_ragged(
        self, snapshot: Snapshot, rows: np.ndarray, out: Any, on_miss: str, dtype: Any
    ) -> RaggedBatch:
        there = self._misses(rows, on_miss)
        snapshot = self._resolved(rows)
        mask = np.ones(len(rows), bool) if there is None else there
        if there is not None and on_miss == "skip":
            rows = rows[there]
        numpy_dtype, code = self._batch_dtype(out, dtype)
        offsets = np.zeros(len(rows) + 1, np.int64)
        self._slots.lengths(rows, offsets[1:])
        np.cumsum(offsets, out=offsets)
        total = int(offsets[-1])
        row_shape = self.view.record.row_shape
        if out is None:
            values = allocate((total, *row_shape), numpy_dtype)
        else:
            values = destination(np.asarray(out)[:total], (total, *row_shape), numpy_dtype)
        self._run(snapshot, rows, values, code, 0, True)
        return RaggedBatch(values, offsets, mask)

    def _pad(
        self, rows: np.ndarray, length: int | None, side: str, out: Any, on_miss: str, dtype: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if side not in ("front", "back"):
            raise InvalidTensor(f'padding goes to the "front" or the "back", not {side!r}')
        record = self.view.record
        if not record.ragged:
            raise InvalidTensor(
                f"view {self.view.path} has the fixed shape {record.shape}: there is nothing to pad"
            )
        self._resolved(rows)
        there = self._misses(rows, on_miss)
        snapshot = self._resolved(rows)
        mask = np.ones(len(rows), bool) if there is None else there
        if there is not None and on_miss == "skip":
            rows = rows[there]
        numpy_dtype, code = self._batch_dtype(out, dtype)
        lengths = np.zeros(len(rows), np.int64)
        self._slots.lengths(rows, lengths)
        width = int(lengths.max(initial=0)) if length is None else length
        array = self._fixed_out(out, len(rows), numpy_dtype, (width, *record.row_shape))
        status = self._slots.pad(
            self._file(snapshot), rows, array, code, record.row_elements, width, side == "front"
        )
        if status[0] != _core.GATHERED:
            raise self._error(snapshot, rows, status, code)
        if self.view.store.checksum:
            self._verify(snapshot, rows)
        return array, np.minimum(lengths, width), mask

    def _run(
        self,
        snapshot: Snapshot,
        rows: np.ndarray,
        out: np.ndarray,
        code: int,
        missing: int,
        allow: bool,
    ) -> None:
        record = self.view.record
        if self.view.store.checksum:
            self._verify(snapshot, rows)
        status = self._slots.gather(
            self._file(snapshot), rows, out, code, record.row_elements, missing, allow
        )
        if status[0] != _core.GATHERED:
            raise self._error(snapshot, rows, status, code)

    def _file(self, snapshot: Snapshot) -> _core.Map:
        return snapshot.environment.file(self.view.store.io)

    def _batch_dtype(self, out: Any, dtype: Any) -> "tuple[np.dtype[Any], int]":
        if dtype is not None:
            code = dtypes.code_of(dtype)
        elif out is not None:
            code = dtypes.code_of(out.dtype)
        else:
            code = dtypes.CODES[self.view.record.dtype]
        if code == dtypes.BFLOAT16:  # NumPy has none: batches are float32
            code = dtypes.CODES["float32"]
        return dtypes.numpy_dtype(code), code

    def _fixed_out(
        self, out: Any, count: int, dtype: "np.dtype[Any]", row_shape: tuple[int, ...] | None = None
    ) -> np.ndarray:
        shape = (count, *(self.view.record.row_shape if row_shape is None else row_shape))
        return allocate(shape, dtype) if out is None else destination(out, shape, dtype)

    def _error(
        self, snapshot: Snapshot, rows: np.ndarray, status: tuple[int, int, int], code: int
    ) -> MerstoreError:
        kind, position, number = status
        name = self._key(int(rows[position])).decode()
        if kind == _core.CANNOT_CAST:
            stored = dtypes.NAMES[self._slots.location(int(rows[position]))[2]]
            return InvalidTensor(
                f"{self.view.path}/{name} is stored as {stored}, which a batch of "
                f'{dtypes.NAMES[code]} cannot hold: ask for dtype="float32" or "float64"'
            )
        if kind == _core.CUT_SHORT:
            return CorruptStore(
                f"{snapshot.environment.path / 'data.mdb'} was cut short: restore it from a copy"
            )
        if kind == _core.NO_MEMORY:
            return MerstoreError("out of memory while casting a batch")
        return MerstoreError(
            f"{snapshot.environment.path / 'data.mdb'} cannot be read (errno {number})"
        )

    def _verify(self, snapshot: Snapshot, rows: np.ndarray) -> None:
        """Checksums of what a gather serves, for stores opened with ``checksum=True``."""
        record = self.view.record
        keys = [self._key(row) for row in rows.tolist()]
        for row, key, value in zip(
            rows.tolist(), keys, snapshot.get_each(b"index", record.prefix, keys), strict=True
        ):
            entry = unpack(value) if value is not None else None
            if entry is None:
                continue
            offset, nbytes, _, _ = self._slots.location(row)
            if digest(self._file(snapshot).payload(offset, nbytes, snapshot)) != entry.checksum:
                raise CorruptEntry(_CORRUPT.format(f"{self.view.path}/{key.decode()}"))


_CORRUPT = (
    "{}: the bytes are not those that were written (checksum). Delete the entry and compute or import it again; "
    "`merstore verify` lists all such entries"
)


class Selection(_Slotted):
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
        rows = np.arange(len(self)) if index is None else self._rows(index)
        self._resolved(rows)
        out = np.zeros(len(rows), np.int64)
        self._slots.lengths(rows, out)
        return out

    def present(self, index: Any = None) -> np.ndarray:
        """bool ``[B]``: which samples have a tensor. Reads the index only."""
        rows = np.arange(len(self)) if index is None else self._rows(index)
        self._resolved(rows)
        there: np.ndarray = np.frombuffer(self._slots.statuses(rows), np.uint8) == _core.TENSOR
        return there

    def willneed(self, index: Any) -> None:
        """Ask the system to read these entries' pages ahead of a gather. Returns at once."""
        rows = self._rows(index)
        snapshot = self._resolved(rows)
        self._slots.willneed(self._file(snapshot), rows)

    def _rows(self, index: Any) -> np.ndarray:
        rows = np.ascontiguousarray(index, np.int64)
        if rows.ndim != 1:
            raise InvalidTensor(
                f"row numbers come as one integer array [B], not of shape {rows.shape}"
            )
        if rows.size and rows.min() < 0:
            rows = np.where(rows < 0, rows + len(self), rows)
        return rows

    def __reduce__(self) -> Any:
        return Selection, (self.view, self.names)


class View(_Slotted):
    """All entries of one dataset, modality@encoder and sampling."""

    def __init__(self, store: "Store", path: str) -> None:
        self.store = store
        self.path = path
        self._keys: list[bytes] = []
        self._rows: dict[str, int] = {}
        self._record: ViewRecord | None = None
        self._record_of: Snapshot | None = None
        self._checked: Snapshot | None = None
        self.filler: Filler | None = None
        super().__init__(self, 0)

    # -- what the view is
    # ----------------------------------------------------------------------------

    @property
    def record(self) -> ViewRecord:
        snapshot = self.store.snapshot()
        if self._record is None or snapshot is not self._record_of:
            self._record = self.store._record(self.path, snapshot)
            self._record_of = snapshot
        return self._record

    @property
    def parts(self) -> ViewPath:
        return parse_view(self.path)

    @property
    def dataset(self) -> str:
        return self.parts.dataset

    @property
    def modality(self) -> str:
        return self.parts.modality

    @property
    def encoder(self) -> str | None:
        return self.parts.encoder

    @property
    def sampling(self) -> str:
        return self.parts.sampling

    @property
    def dtype(self) -> "np.dtype[Any] | str":
        """The declared dtype; the text ``"bfloat16"`` where NumPy has none."""
        name = self.record.dtype
        return name if name == "bfloat16" else np.dtype(name)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of an entry; None for a first dimension that varies."""
        return self.record.shape

    @property
    def spec(self) -> dict[str, Any]:
        return self.record.spec

    @property
    def fingerprint(self) -> str:
        return self.record.fingerprint

    @property
    def alias(self) -> str | None:
        """The legacy folder name the view was imported from, if any."""
        return self.record.alias

    def let_go(self) -> None:
        super().let_go()
        self._record = self._record_of = self._checked = None

    # -- one entry
    # -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.record.entries

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        value = self._value(name)
        return value is not None and value[0] == _core.TENSOR

    def __iter__(self) -> Iterator[str]:
        for key, value in self.store.snapshot().scan(b"index", self.record.prefix):
            if value[0] == _core.TENSOR:
                yield key.decode()

    def names(self) -> Names:
        """The names of all entries in byte order. Reads index pages only."""
        found = self.store.snapshot().scan(b"index", self.record.prefix)
        return Names.of_bytes([key for key, value in found if value[0] == _core.TENSOR])

    def __getitem__(self, name: str) -> np.ndarray:
        """The entry as a read-only array over the map, no copy, dtype and shape as stored
        (bfloat16: a float32 copy).

        It keeps its snapshot alive: hold on to many for long and the file cannot reuse pages.
        Raises MissingEntry.
        """
        value = self._value(name)
        entry = unpack(value) if value is not None else None
        if value is None or entry is None:
            raise MissingEntry(self._explain([name]))
        snapshot = self.store.snapshot()
        data = self._payload(snapshot, name, entry)
        if self.store.checksum and digest(data) != entry.checksum:
            raise CorruptEntry(_CORRUPT.format(f"{self.path}/{name}"))
        array = np.frombuffer(data, dtypes.numpy_dtype(entry.dtype)).reshape(entry.shape)
        if entry.dtype == dtypes.BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
            array.flags.writeable = False
        return array

    def __setitem__(self, name: str, array: Any) -> None:
        """Add or replace one entry, committed at once. Many are stored much faster with ``update``.
        Errors as ``Writer.put``.
        """
        with self.store.writer() as writer:
            writer.put(self, name, array)

    def __delitem__(self, name: str) -> None:
        if self._value(name) is None:
            raise MissingEntry(self._explain([name]))
        with self.store.writer() as writer:
            writer.delete(self, name)

    def update(self, entries: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace many entries, in as few transactions as the writer's bounds allow. Errors
        as ``Writer.put``; what was committed before one stays.
        """
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        with self.store.writer() as writer:
            for name, array in pairs:
                writer.put(self, name, array)

    # -- batches
    # -------------------------------------------------------------------------------------

    def gather(
        self, names: Iterable[str], out: Any = None, on_miss: str = "raise", dtype: Any = None
    ) -> "Batch | RaggedBatch":
        """The entries of ``names`` in one buffer: a Batch ``[B, *shape]``, or a RaggedBatch where
        the first dimension varies.

        out: C-contiguous array or CPU tensor to fill (ragged: with at least as many rows as all
        entries together).
        on_miss: ``"raise"`` MissingEntry; ``"skip"`` leave out; ``"mask"`` a zero row, and False in
        ``batch.mask``; ``"fill"`` compute it by the view's filler, and mask what cannot be
        computed.
        dtype: float32 or float64 casts float entries on the way; by default the view's own
        (bfloat16: float32).
        """
        known = self._rows
        try:
            rows = np.array([known[name] for name in names], np.int64)
        except KeyError:
            rows = np.array([self._row(name) for name in names], np.int64)
        return self._gather(rows, out, on_miss, dtype)

    def select(self, names: Iterable[str] | None = None) -> Selection:
        """A selection of ``names`` (all entries by default, in byte order) for gathering by row
        number. Names need not be there yet.
        """
        if names is None:
            return Selection(self, self.names())
        if not isinstance(names, Names):
            names = Names.of_bytes([sample_key(name) for name in names])
        return Selection(self, names)

    def _row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            self._keys.append(sample_key(name))
            row = self._rows[name] = len(self._keys) - 1
            self._slots.grow(1)
        return row

    def _key(self, row: int) -> bytes:
        return self._keys[row]

    # -- what is not there
    # ---------------------------------------------------------------------------

    def missing(self, names: Iterable[str], retry: Iterable[str] = ()) -> list[str]:
        """Those of ``names`` with neither a tensor nor a failure record; a failure of a kind in
        ``retry`` (``"all"``: any) counts as missing.
        """
        retry = {retry} if isinstance(retry, str) else set(retry)
        names = list(names)
        prefix = self.record.prefix
        found = self.store.snapshot().get_each(
            b"index", prefix, [sample_key(name) for name in names]
        )
        missing = []
        for name, value in zip(names, found, strict=True):
            if value is not None and retry and value[0] == _core.FAILURE:
                failure = unpack_failure(name, value)
                if failure is None or failure.kind in retry or "all" in retry:
                    value = None
            if value is None:
                missing.append(name)
        return missing

    def failure(self, name: str) -> Failure | None:
        """Why the sample has no tensor, where that is recorded."""
        value = self._value(name)
        return unpack_failure(name, value) if value is not None else None

    def failures(self, kind: str | None = None) -> list[Failure]:
        """All failure records, or those of one kind, by name."""
        if not self.record.failures:
            return []
        scan = self.store.snapshot().scan(b"index", self.record.prefix)
        found = (
            unpack_failure(key.decode(), value) for key, value in scan if value[0] == _core.FAILURE
        )
        return [
            failure for failure in found if failure is not None and kind in (None, failure.kind)
        ]

    def fail(self, name: str, kind: str, message: str) -> None:
        """Record that a sample has no tensor, and why."""
        with self.store.writer() as writer:
            writer.fail(self, name, kind, message)

    def _explain(self, missing: list[str]) -> str:
        """What a MissingEntry says."""
        failures = [
            failure for failure in map(self.failure, missing[:_SHOWN]) if failure is not None
        ]
        if failures:
            reasons = "; ".join(f"{f.name}: {f.kind} ({f.message})" for f in failures)
            advice = "These failed before: retry them (`merstore prewarm --retry-failed all`), or use on_miss"
        else:
            reasons = ", ".join(missing[:_SHOWN])
            advice = 'Import or prewarm them, or choose on_miss="skip", "mask" or "fill"'
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        count = len(missing)
        return f"view {self.path} lacks {count} of the samples asked for: {reasons}{more}. {advice}"

    # -- inside
    # --------------------------------------------------------------------------------------

    def _value(self, name: str) -> bytes | None:
        return self.store.snapshot().get(b"index", self.record.prefix + sample_key(name))

    def _payload(self, snapshot: Snapshot, name: str, entry: IndexEntry) -> Any:
        env = snapshot.environment
        pages = snapshot.pages(self.record.number)
        page = entry.page if pages is None else pages.get(entry.block, -1)
        offset = page * env.page_bytes + 16 + entry.offset
        elements = int(np.prod(entry.shape, dtype=np.int64))
        fits = (
            elements * dtypes.numpy_dtype(entry.dtype).itemsize == entry.nbytes
            if entry.dtype in dtypes.CODES.values()
            else False
        )
        if page < 0 or not fits or offset + entry.nbytes > env.committed_bytes():
            raise CorruptEntry(
                f"{self.path}/{name}: the index entry contradicts the file; run `merstore verify`"
            )
        try:
            return env.file(self.store.io).payload(offset, entry.nbytes, snapshot)
        except EOFError:
            raise CorruptStore(
                f"{env.path / 'data.mdb'} was cut short: restore it from a copy"
            ) from None

    def _check_block(self, snapshot: Snapshot, value: bytes) -> None:
        """Once per snapshot: the block that a locator leads to is the one that the index names."""
        if self._checked is snapshot:
            return
        entry = unpack(value)
        assert entry is not None
        header = self._payload(
            snapshot,
            "",
            entry._replace(offset=0, nbytes=64, shape=(64,), dtype=dtypes.CODES["uint8"]),
        )
        head = bytes(memoryview(header)[:32])
        if (
            head[:8] != b"MERBLOCK"
            or head[16:20] != self.record.number.to_bytes(4, "little")
            or head[24:32] != entry.block.to_bytes(8, "little")
        ):
            raise CorruptStore(
                f"{snapshot.environment.path}: view {self.path} is not where its index says; the file was "
                "changed by another program. Run `merstore verify`, then `merstore compact`"
            )
        self._checked = snapshot

    def __reduce__(self) -> Any:
        return _unpickle, (self.store, self.path, self.filler)

    def __repr__(self) -> str:
        record = self.record
        return f"<View {self.path}: {record.entries} entries {record.shape} {record.dtype}, {record.failures} failures>"


def _unpickle(store: "Store", path: str, filler: Filler | None) -> View:
    view = View(store, path)
    view.filler = filler
    return view

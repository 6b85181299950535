"""Views: the entries of one modality under one sampling, one by one and in batches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from merstore import _core
from merstore.errors import CorruptEntry, CorruptStore, MerstoreError, MissingEntry
from merstore.store import dtypes
from merstore.store.batch import Batch, RaggedBatch
from merstore.store.entry import Failure, IndexEntry, unpack, unpack_failure
from merstore.store.gathering import CONTRADICTS, Slotted
from merstore.store.keys import ViewPath, parse_view, sample_key
from merstore.store.names import Names
from merstore.store.record import ViewRecord
from merstore.store.selection import Selection
from merstore.store.snapshot import Snapshot
from merstore.store.writer import digest

if TYPE_CHECKING:
    from merstore.store.store import Store

_SHOWN = 5  # names in a message
_CORRUPT = (
    "{}: the bytes are not those that were written (checksum). Delete the entry and compute or import it again; "
    "`merstore verify` lists all such entries"
)


class Filler(Protocol):
    """Computes what is missing of a view and writes it to the store (``merstore.fill.Filler``)."""

    def fill(self, view: "View", names: list[str]) -> object: ...


class View(Slotted):
    """All entries of one dataset, modality@encoder and sampling."""

    def __init__(self, store: "Store", path: str) -> None:
        self.store = store
        self.path = path
        self._keys: list[bytes] = []
        self._names = _core.NameRows()
        self._known: tuple[Snapshot, ViewRecord] | None = None
        self._checked: Snapshot | None = None
        self.filler: Filler | None = None
        super().__init__(self, 0)

    # -- what the view is

    @property
    def record(self) -> ViewRecord:
        return self._record_at(self.store.snapshot())

    def _record_at(self, snapshot: Snapshot) -> ViewRecord:
        known = self._known
        if known is None or known[0] is not snapshot:
            known = self._known = (snapshot, self.store._record(self.path, snapshot))
        return known[1]

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
        self._known = self._checked = None

    # -- one entry

    def __len__(self) -> int:
        return self.record.entries

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        value = self._value(self.store.snapshot(), name)
        return value is not None and value[0] == _core.TENSOR

    def __iter__(self) -> Iterator[str]:
        for key, value in self._scan():
            if value[0] == _core.TENSOR:
                yield key.decode()

    def names(self) -> Names:
        """The names of all entries in byte order. Reads index pages only."""
        return Names.of_bytes(key for key, value in self._scan() if value[0] == _core.TENSOR)

    def __getitem__(self, name: str) -> np.ndarray:
        """The entry as a read-only array over the map, no copy, dtype and shape as stored
        (bfloat16: a float32 copy).

        It keeps its snapshot alive: hold on to many for long and the file cannot reuse pages.
        Raises MissingEntry.
        """
        snapshot = self.store.snapshot()
        value = self._value(snapshot, name)
        entry = unpack(value) if value is not None else None
        if entry is None:
            if value is not None and unpack_failure(name, value) is None:
                raise CorruptEntry(CONTRADICTS.format(f"{self.path}/{name}"))
            raise MissingEntry(self._explain([name]))
        data = self._payload(snapshot, name, entry)
        if not snapshot.environment.locked:  # nobody leaves the pages alone for us
            data = bytes(data)
            snapshot.check()
        if self.store.checksum:
            self._verify(snapshot, name.encode(), entry, data)
        array = np.frombuffer(data, dtypes.numpy_dtype(entry.dtype)).reshape(entry.shape)
        if entry.dtype == dtypes.BFLOAT16:
            wide = array.astype(np.uint32)
            np.left_shift(wide, 16, out=wide)
            array = wide.view(np.float32)
            array.flags.writeable = False
        return array

    def __setitem__(self, name: str, array: Any) -> None:
        """Add or replace one entry, committed at once. Many are stored much faster with ``update``.
        Errors as ``Writer.put``.
        """
        with self.store.writer() as writer:
            writer.put(self, name, array)

    def __delitem__(self, name: str) -> None:
        if self._value(self.store.snapshot(), name) is None:
            raise MissingEntry(self._explain([name]))
        with self.store.writer() as writer:
            writer.delete(self, name)

    def update(self, entries: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace many entries, in as few transactions as the writer's bounds allow. Errors
        as ``Writer.put``; what was committed before one stays.
        """
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        with self.store.writer() as writer:
            writer.update(self, pairs)

    # -- batches

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
        return self._gather(self._rows(list(names)), out, on_miss, dtype)

    def select(self, names: Iterable[str] | None = None) -> Selection:
        """A selection of ``names`` (all entries by default, in byte order) for gathering by row
        number. Names need not be there yet.
        """
        if names is None:
            return Selection(self, self.names())
        if not isinstance(names, Names):
            names = Names.of_bytes([sample_key(name) for name in names])
        return Selection(self, names)

    def _rows(self, names: list[str]) -> np.ndarray:
        """Row numbers of `names`, in the order in which they were first asked for."""
        rows = np.empty(len(names), np.int64)
        with self._lock:
            if not self._names.rows(names, rows):
                new = {names[i]: sample_key(names[i]) for i in np.flatnonzero(rows < 0)}
                self._slots.grow(len(new))
                self._keys += new.values()
                for name in new:
                    self._names.add(name)
                self._names.rows(names, rows)
        return rows

    def _key(self, row: int) -> bytes:
        return self._keys[row]

    # -- what is not there

    def missing(self, names: Iterable[str], retry: Iterable[str] = ()) -> list[str]:
        """Those of ``names`` with neither a tensor nor a failure record; a failure of a kind in
        ``retry`` (``"all"``: any) counts as missing.
        """
        retry = {retry} if isinstance(retry, str) else set(retry)
        names = list(names)
        snapshot = self.store.snapshot()
        prefix = self._record_at(snapshot).prefix
        found = snapshot.get_each(b"index", prefix, [sample_key(name) for name in names])
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
        value = self._value(self.store.snapshot(), name)
        return unpack_failure(name, value) if value is not None else None

    def failures(self, kind: str | None = None) -> list[Failure]:
        """All failure records, or those of one kind, by name."""
        if not self.record.failures:
            return []
        found = (
            unpack_failure(key.decode(), value)
            for key, value in self._scan()
            if value[0] == _core.FAILURE
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

    def _fill(self, missing: list[str]) -> None:
        """Have the filler compute what of ``missing`` has no failure record."""
        if self.filler is None:
            raise MerstoreError(
                f'on_miss="fill": nothing computes view {self.path} yet; give it a filler '
                "(view.filler = merstore.fill.Filler(clips, recipe))"
            )
        unknown = self.missing(missing)
        if unknown:
            self.filler.fill(self, unknown)
            self.store.refresh()

    # -- inside

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and index entries of everything in the view, in byte order."""
        snapshot = self.store.snapshot()
        return snapshot.scan(b"index", self._record_at(snapshot).prefix)

    def _value(self, snapshot: Snapshot, name: str) -> bytes | None:
        return snapshot.get(b"index", self._record_at(snapshot).prefix + sample_key(name))

    def _payload(self, snapshot: Snapshot, name: str, entry: IndexEntry) -> Any:
        env = snapshot.environment
        pages = snapshot.pages(self._record_at(snapshot).number)
        page = entry.page if pages is None else pages.get(entry.block, -1)
        offset = page * env.page_bytes + 16 + entry.offset
        if page < 0 or offset + entry.nbytes > env.committed_bytes():
            raise CorruptEntry(CONTRADICTS.format(f"{self.path}/{name}"))
        try:
            return env.file(self.store.io).payload(offset, entry.nbytes, snapshot)
        except EOFError:
            raise CorruptStore(
                f"{env.path / 'data.mdb'} was cut short: restore it from a copy"
            ) from None

    def _verify(self, snapshot: Snapshot, key: bytes, entry: IndexEntry, payload: Any) -> None:
        """What ``checksum=True`` asks of an entry: its bytes are those that were written, and of the
        dtype and shape that were written. Those are as the view declares; else the block is asked.
        """
        record = self._record_at(snapshot)
        declared = (
            entry.dtype == dtypes.CODES[record.dtype]
            and len(entry.shape) == len(record.shape)
            and entry.shape[record.ragged :] == record.row_shape
        )
        if digest(payload) != entry.checksum or not (
            declared or self._in_block(snapshot, key, entry)
        ):
            raise CorruptEntry(_CORRUPT.format(f"{self.path}/{key.decode()}"))

    def _in_block(self, snapshot: Snapshot, key: bytes, entry: IndexEntry) -> bool:
        """Whether an entry's block names it just as the index does."""
        head = self._block_start(snapshot, key, entry, 64)
        block = self._block_start(snapshot, key, entry, int.from_bytes(head[32:40], "little"))
        content = _core.read_block(block)
        name, dtype, shape = key, entry.dtype, entry.shape
        return content is not None and any(
            (name, dtype, shape, entry.checksum, entry.offset) == (*record[:3], *record[4:6])
            for record in content[1]
        )

    def _block_start(
        self, snapshot: Snapshot, key: bytes, entry: IndexEntry, nbytes: int
    ) -> memoryview:
        start = entry._replace(offset=0, nbytes=nbytes)
        return memoryview(self._payload(snapshot, key.decode(), start))

    def _check_block(self, snapshot: Snapshot, value: bytes) -> None:
        """Once per snapshot: the block that a locator leads to is the one that the index names."""
        if self._checked is snapshot:
            return
        entry = unpack(value)
        assert entry is not None
        head = bytes(self._block_start(snapshot, b"", entry, 64)[:32])
        if (
            head[:8] != b"MERBLOCK"
            or head[16:20] != self._record_at(snapshot).number.to_bytes(4, "little")
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

"""Writing: entries are packed into blocks and committed in transactions bounded in bytes and
seconds.
"""

import contextlib
import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from merstore import _core
from merstore._version import __version__
from merstore.errors import CorruptStore, InvalidKey, InvalidTensor, MerstoreError, UnknownView
from merstore.store import dtypes
from merstore.store.entry import (
    KIND,
    IndexEntry,
    now,
    pack_failure,
    unpack,
    unpack_failure,
)
from merstore.store.environment import Environment
from merstore.store.keys import sample_key
from merstore.store.layout import PAGE_OVERFLOW
from merstore.store.record import ViewRecord, block_key, dead_key

if TYPE_CHECKING:
    from merstore.store.view import View

BLOCK_BYTES = 1 << 20
TABLE_BYTES = 64 << 10
MERGE_BYTES = 256 << 10  # a last block smaller than this is taken up into the next commit's
MAX_ENTRY_BYTES = (1 << 32) - (1 << 20)
SPARE_BLOCKS = 64
OVERHEAD_BYTES = 160  # what is pending of an entry besides payload and name, for the bound in bytes
NAME_BYTES = 16  # about

_END = object()

digest: Callable[[Any], int] = xxhash.xxh3_64_intdigest


# An operation is a put, as an int (which of the pending blocks, shifted by PLACE_BITS, and the entry's
# place in it), a _Fail or a _Delete.
PLACE_BITS = 32


class _Fail(NamedTuple):
    kind: str
    message: str
    attempts: int  # in this transaction
    deleted: bool  # what was there before was deleted in this transaction


class _Delete(NamedTuple):
    pass


class _Pending:
    """What one view is about to get: the last operation on each name, and the blocks with the
    payloads.
    """

    def __init__(self, path: str, record: ViewRecord) -> None:
        self.path = path
        self.record = record
        self.operations: dict[bytes, int | _Fail | _Delete] = {}
        self.builders: list[_core.BlockBuilder] = []
        self.layout = _layout(record)

    def replaces(self, key: bytes) -> bool:
        """Whether a tensor of this name will not be there any more."""
        operation = self.operations.get(key)
        return isinstance(operation, (int, _Delete)) or (
            isinstance(operation, _Fail) and operation.deleted
        )


class Writer:
    """Collects entries of any views of one store and commits them together.

    A commit happens by itself when ``max_bytes`` are pending or ``max_seconds`` have passed since
    the first of them came, on ``commit()``, and at the end of a ``with`` block; an exception in the
    block drops what is pending. After a commit returns, what it held survives any crash. The bytes
    of an array are copied when it is put.

    behind: commits that happen by themselves are left to a thread, one at a time, while more is
    collected: the disk works while the caller does. If one fails, the next commit raises its error,
    and what was put meanwhile is dropped as well.
    """

    def __init__(
        self,
        environment: Environment,
        after_commit: Callable[[], None],
        max_bytes: int,
        max_seconds: float,
        behind: bool = False,
    ) -> None:
        self._environment = environment
        self._after_commit = after_commit
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._behind = behind
        self._thread: threading.Thread | None = None  # that commits
        self._error: BaseException | None = None  # what it ended with
        self._pending: dict[int, _Pending] = {}
        self._known: dict[View, _Pending] = {}  # the same by view, which is quicker to tell
        self._spare: list[_core.BlockBuilder] = []
        self._bytes = 0
        self._since = 0.0

    # -- collecting

    def put(self, view: "View", name: str, array: Any, *, as_stored: bool = False) -> None:
        """Add or replace an entry. ``as_stored`` (imports) admits another dtype than the view's,
        and ``(D,)`` in a ``(None, D)`` view.

        Raises InvalidKey, or InvalidTensor for a wrong dtype, rank or shape, an empty array, and
        NaN, Inf or a zero row where the view refuses them. Nothing is stored then.
        """
        key = sample_key(name)
        try:
            data, dtype = dtypes.as_stored(array)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidTensor(f"{view.path}/{name}: {error}") from None
        pending = self._known.get(view) or self._of(view)
        record = pending.record
        _check(view.path, name, record, data, dtype, as_stored)
        rows = len(data) if data.ndim > 1 else 1
        flags = _core.scan(data, dtype, rows, data.size // rows)
        if flags:
            _check_flags(view.path, name, record, flags)
        operation = self._pack(pending, key, data, dtype, data.shape, flags, digest(data), now(), 0)
        self._add(pending, key, operation, data.nbytes)

    def update(self, view: "View", pairs: Iterable[tuple[str, Any]]) -> None:
        """``put`` of many ``(name, array)``, quicker than one by one. Errors as ``put``; those before
        one are kept.
        """
        pairs = iter(pairs)
        ended: BaseException | bool | None = None
        while not ended:
            rest, ended = self._put_plain(view, pairs)
            for name, array in rest:
                self.put(view, name, array)
        if isinstance(ended, BaseException):
            raise ended

    def _put_plain(
        self, view: "View", pairs: Iterator[Any]
    ) -> tuple[list[Any], BaseException | bool | None]:
        """Put as many as are simple and find room in the last block. Returns those that were taken and
        not put, and what ended the iterator (see BlockBuilder.put).
        """
        pending = self._known.get(view)
        if pending is None or pending.layout is None or not pending.builders:
            pair = next(pairs, _END)
            return ([], True) if pair is _END else ([pair], None)
        block = len(pending.builders) - 1
        builder = pending.builders[block]
        before = len(builder), builder.payload_bytes
        result = builder.put(
            pairs, pending.layout, pending.operations, block, self._since + self._max_seconds
        )
        self._took(builder, before)
        return result

    def put_files(self, view: "View", files: _core.Files, rows: list[int]) -> list[int]:
        """``put`` of the ``.npy`` files at ``rows``, which were read whole and have arrays of the view's
        dtype and shape, in C order behind NPY_HEAD bytes. Returns the rows of those that were not put:
        their array or name is one that ``put`` has to look at.
        """
        rest: list[int] = []
        done = 0
        while done < len(rows):
            pending = self._known.get(view) or self._of(view)
            layout = pending.layout
            if layout is None:
                return rest + rows[done:]
            name = files.names[rows[done]]
            builder = self._builder(pending, layout.nbytes, layout.ndim, 4 * len(name))
            before = len(builder), builder.payload_bytes
            block = len(pending.builders) - 1
            added = builder.put_files(files, rows, done, layout, pending.operations, block)
            done += added
            self._took(builder, before)
            if not added:
                rest.append(rows[done])
                done += 1
        return rest

    def _took(self, builder: _core.BlockBuilder, before: tuple[int, int]) -> None:
        """Take note of what was put into a block behind our back; commit if it is time."""
        if not self._bytes:
            self._since = time.monotonic()
        self._bytes += builder.payload_bytes - before[1]
        self._bytes += (len(builder) - before[0]) * (OVERHEAD_BYTES + NAME_BYTES)
        self._commit_if_due()

    def fail(self, view: "View", name: str, kind: str, message: str) -> None:
        """Record why a sample has no tensor. A tensor that is there stays; an earlier failure is
        replaced and its attempts counted on.

        kind: lower-case letters, digits and ``_``. message: cut to 500 bytes. Raises InvalidKey.
        """
        key = sample_key(name)
        if not (isinstance(kind, str) and KIND.match(kind)):
            raise InvalidKey(
                f"failure kind {kind!r}: at most 40 lower-case letters, digits and _, such as no_video"
            )
        pending = self._of(view)
        earlier = pending.operations.get(key)
        if isinstance(earlier, int):
            return
        attempts, deleted = 1, isinstance(earlier, _Delete)
        if isinstance(earlier, _Fail):
            attempts, deleted = earlier.attempts + 1, earlier.deleted
        self._add(pending, key, _Fail(kind, str(message), attempts, deleted), len(message))

    def delete(self, view: "View", name: str) -> None:
        """Remove an entry or a failure. It is no error if there is none."""
        self._add(self._of(view), sample_key(name), _Delete(), 0)

    def copy(
        self, record: ViewRecord, path: str, key: bytes, entry: IndexEntry, data: memoryview
    ) -> None:
        """Add an entry of another file as it is there, flags, checksum, time and run included."""
        pending = self._view(record, path)
        operation = self._pack(
            pending, key, data, entry.dtype, entry.shape, entry.flags, entry.checksum, entry.time, entry.run
        )  # fmt: skip
        self._add(pending, key, operation, data.nbytes)

    def _of(self, view: "View") -> _Pending:
        if view.store.environment is not self._environment:
            raise MerstoreError(
                f"view {view.path} belongs to {view.store.path}, this writer to {self._environment.path}"
            )
        pending = self._known[view] = self._view(view.record, view.path)
        return pending

    def _view(self, record: ViewRecord, path: str) -> _Pending:
        pending = self._pending.get(record.number)
        if pending is None:
            pending = self._pending[record.number] = _Pending(path, record)
        return pending

    def _pack(
        self,
        pending: _Pending,
        key: bytes,
        data: Any,
        dtype: int,
        shape: tuple[int, ...],
        flags: int,
        checksum: int,
        written: int,
        run: int,
    ) -> int:
        """Copy a payload into a block. ``run`` is 0 for this process's. Returns the put."""
        builder = self._builder(pending, data.nbytes, len(shape), len(key))
        place = builder.add(key, dtype, shape, flags, checksum, data, written, run)
        return (len(pending.builders) - 1) << PLACE_BITS | place

    def _builder(
        self, pending: _Pending, nbytes: int, ndim: int, name_bytes: int
    ) -> _core.BlockBuilder:
        """The last block, or a new one if it has no room for such an entry."""
        builders = pending.builders
        if not builders or not builders[-1].fits(nbytes, ndim, name_bytes):
            if self._thread is not None:
                self._environment.map.write_back()  # what it has written so far
            if nbytes > BLOCK_BYTES:
                builders.append(_core.BlockBuilder(nbytes, name_bytes + 64))
            elif self._spare:
                builders.append(self._spare.pop())
            else:
                builders.append(_core.BlockBuilder(BLOCK_BYTES, TABLE_BYTES))
        return builders[-1]

    def _add(
        self, pending: _Pending, key: bytes, operation: int | _Fail | _Delete, nbytes: int
    ) -> None:
        if not self._bytes:
            self._since = time.monotonic()
        pending.operations[key] = operation
        self._bytes += nbytes + len(key) + OVERHEAD_BYTES
        self._commit_if_due()

    def _commit_if_due(self) -> None:
        if self._bytes >= self._max_bytes or time.monotonic() - self._since >= self._max_seconds:
            if self._behind:
                self._commit_behind()
            else:
                self.commit()

    # -- committing

    def commit(self) -> None:
        """Store all that is pending in one transaction. If that fails (StoreFull), what was pending
        is gone and the store as it was before.
        """
        self._finish()
        if self._bytes:
            pending, size = self._take()
            try:
                self._store(pending, size, lambda: None)
            finally:
                self._recycle(pending)
                self._after_commit()

    def _commit_behind(self) -> None:
        """Begin to commit what is pending, after the commit that is under way."""
        self._finish()
        pending, size = self._take()
        handed_over = threading.Event()

        def run() -> None:
            try:
                self._store(pending, size, handed_over.set)
            except BaseException as error:  # noqa: BLE001  (the caller's thread raises it)
                self._error = error
            finally:
                handed_over.set()

        self._thread = threading.Thread(target=run, name="merstore-commit")
        self._thread.start()
        # LMDB's calls up to the commit are short and many: with the interpreter lock to be won for
        # each they would take many times as long. The commit itself needs no lock, and no blocks.
        handed_over.wait()
        self._recycle(pending)

    def _finish(self) -> None:
        """Wait for the commit that is under way. Raises what it failed with."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        self._after_commit()
        error, self._error = self._error, None
        if error is not None:
            self._take()
            raise error

    def _take(self) -> tuple[dict[int, _Pending], int]:
        """What is pending, and its bytes; then nothing is."""
        taken = self._pending, self._bytes
        self._pending, self._known, self._bytes = {}, {}, 0
        return taken

    def _recycle(self, pending: dict[int, _Pending]) -> None:
        """Keep blocks whose content is stored, for what comes next: their memory is warm."""
        for view in pending.values():
            for builder in view.builders:
                if builder.capacity == BLOCK_BYTES and len(self._spare) < SPARE_BLOCKS:
                    builder.reset()
                    self._spare.append(builder)

    def _store(
        self, pending: dict[int, _Pending], size: int, handed_over: Callable[[], None]
    ) -> None:
        """One transaction. ``handed_over`` is called when LMDB has everything and has to commit."""
        env = self._environment
        with env.transaction(size + (1 << 20) * len(pending)) as txn:
            run = env.run or _register_run(env, txn)
            for number, view in pending.items():
                self._store_view(txn, number, view, run)
            handed_over()
        env.run = run

    def _store_view(self, txn: Any, number: int, pending: _Pending, run: int) -> None:
        env = self._environment
        databases = env.databases
        value = txn.get(pending.path.encode(), db=databases[b"views"])
        record = ViewRecord.unpack(pending.path, bytes(value)) if value is not None else None
        if record is None or record.number != number:
            raise UnknownView(
                f"view {pending.path} was dropped while something was written to it: create it again"
            )
        dead: dict[int, tuple[int, int, int]] = {}  # block: entries, bytes, page
        merged = self._merge_last(txn, record, pending)
        self._put_blocks(txn, record, pending, run)
        if txn.stat(databases[b"leases"])["entries"]:
            for key in pending.operations:
                txn.delete(record.prefix + key, db=databases[b"leases"])
        moment = now()
        operations = sorted(pending.operations.items())
        self._store_tensors(txn, record, operations, pending.builders, dead)
        for key, operation in operations:
            if not isinstance(operation, int):
                self._store_other(txn, record, key, operation, run, moment, dead)

        for builder in pending.builders:
            entries = len(builder) - builder.live
            if entries:  # a name that was put twice in this very transaction
                nbytes = builder.payload_bytes - builder.live_bytes
                self._bury(txn, record, builder.block, entries, nbytes, len(builder))
        for block, (entries, nbytes, page) in dead.items():
            total = None if block == merged else self._count(number, block, page)
            if total is not None:
                self._bury(txn, record, block, entries, nbytes, total)
        # what a damaged entry says of itself may be wrong: `compact` counts anew
        record.entries = max(record.entries, 0)
        record.failures = max(record.failures, 0)
        record.nbytes = max(record.nbytes, 0)
        record.updated = moment
        txn.put(pending.path.encode(), record.pack(), db=databases[b"views"])

    def _store_tensors(
        self,
        txn: Any,
        record: ViewRecord,
        operations: list[tuple[bytes, Any]],
        builders: list[_core.BlockBuilder],
        dead: dict[int, tuple[int, int, int]],
    ) -> None:
        index = self._environment.databases[b"index"]
        entries = _core.index_entries(record.prefix, operations, builders)
        with txn.cursor(db=index) as cursor:
            _, added = cursor.putmulti(entries, overwrite=False)
        if added < len(entries):  # some were there before, and still are
            for key, entry in entries:
                found = bytes(txn.get(key, db=index))
                if found != entry:
                    _retire(record, found, dead)
                    txn.put(key, entry, db=index)
        record.entries += len(entries)
        record.nbytes += sum(builder.live_bytes for builder in builders)

    def _store_other(
        self,
        txn: Any,
        record: ViewRecord,
        key: bytes,
        operation: _Fail | _Delete,
        run: int,
        moment: int,
        dead: dict[int, tuple[int, int, int]],
    ) -> None:
        index = self._environment.databases[b"index"]
        where = record.prefix + key
        found = txn.get(where, db=index)
        old = bytes(found) if found is not None else None
        del found
        if isinstance(operation, _Fail):
            if old is not None and unpack(old) is not None and not operation.deleted:
                return
            attempts = operation.attempts
            if old is not None and not operation.deleted:
                earlier = unpack_failure("", old)
                attempts += earlier.attempts if earlier else 0
            failure = pack_failure(operation.kind, operation.message, attempts, run, moment)
            txn.put(where, failure, db=index)
            record.failures += 1
        elif old is not None:
            txn.delete(where, db=index)
        if old is not None:
            _retire(record, old, dead)

    def _put_blocks(self, txn: Any, record: ViewRecord, pending: _Pending, run: int) -> None:
        database = self._environment.databases[b"blocks"]
        for builder in pending.builders:
            number = record.next_block
            key = block_key(record.number, number)
            header = builder.seal(record.number, number, run, now(), digest)
            txn.put(key, builder, db=database)
            builder.page, flags = _core.page_of(txn.get(key, db=database))
            if not flags & PAGE_OVERFLOW:
                raise CorruptStore(
                    f"{self._environment.path}: LMDB placed a block where its page cannot be told; this build of "
                    "py-lmdb does not write format 0.9"
                )
            record.next_block += 1
            record.blocks += 1
            record.last = [number, builder.page, header + builder.used]

    def _merge_last(self, txn: Any, record: ViewRecord, pending: _Pending) -> int | None:
        """Take a small last block's entries up into the pending ones, and delete it. Returns its
        number, or None.
        """
        if not record.last or record.last[2] > MERGE_BYTES or not pending.builders:
            return None
        databases = self._environment.databases
        number = record.last[0]
        key = block_key(record.number, number)
        value = txn.get(key, db=databases[b"blocks"])
        content = _core.read_block(value) if value is not None else None
        if content is None or pending.builders[-1].used + len(value) > BLOCK_BYTES:
            return None
        live = []
        for name, *described in content[1]:
            found = txn.get(record.prefix + name, db=databases[b"index"])
            entry = unpack(bytes(found)) if found is not None else None
            if entry is not None and [number, *described] == [
                entry.block, entry.dtype, entry.shape, entry.flags, entry.checksum, entry.offset, entry.nbytes
            ]:  # fmt: skip
                live.append((name, entry, bytes(value[entry.offset : entry.offset + entry.nbytes])))
        dead = txn.get(dead_key(record.number, number), db=databases[b"meta"])
        dead_entries = int(bytes(dead).split()[0]) if dead is not None else 0
        del value, dead
        if len(live) + dead_entries != len(content[1]):
            return None  # an index entry is damaged: what it stood for lies here still
        for name, entry, data in live:
            if pending.replaces(name):
                continue
            txn.delete(record.prefix + name, db=databases[b"index"])
            record.entries -= 1
            record.nbytes -= entry.nbytes
            record.moves += 1
            pending.operations[name] = self._pack(
                pending,
                name,
                memoryview(data),
                entry.dtype,
                entry.shape,
                entry.flags,
                entry.checksum,
                entry.time,
                entry.run,
            )
        txn.delete(key, db=databases[b"blocks"])
        txn.delete(dead_key(record.number, number), db=databases[b"meta"])
        record.blocks -= 1
        return number

    def _count(self, view: int, block: int, page: int) -> int | None:
        """How many entries a committed block was written with, from its header (LMDB would read the
        whole value). None where another or no block is there: the index entry or the header is
        damaged, and the block stays until `compact`.
        """
        env = self._environment
        try:
            header = memoryview(env.map.payload(page * env.page_bytes + 16, 64, None))
        except (EOFError, OverflowError):
            return None
        found, count = np.frombuffer(header, "<u4", 2, 16).tolist()
        number = int.from_bytes(header[24:32], "little")
        if bytes(header[:8]) != b"MERBLOCK" or (found, number) != (view, block):
            return None
        return int(count)

    def _bury(
        self, txn: Any, record: ViewRecord, block: int, entries: int, nbytes: int, total: int
    ) -> None:
        """Count an entry's bytes as dead; delete the block with its last one."""
        databases = self._environment.databases
        key = dead_key(record.number, block)
        before = txn.get(key, db=databases[b"meta"])
        if before is not None:
            known = bytes(before).split()
            entries += int(known[0])
            nbytes += int(known[1])
        if entries < total:
            txn.put(key, b"%d %d" % (entries, nbytes), db=databases[b"meta"])
            return
        txn.delete(key, db=databases[b"meta"])
        txn.delete(block_key(record.number, block), db=databases[b"blocks"])
        record.blocks -= 1
        if record.last and record.last[0] == block:
            record.last = None

    # -- with

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self._take()
            with contextlib.suppress(Exception):  # the block's own comes first
                self._finish()


def _layout(record: ViewRecord) -> "_core.Layout | None":
    """What a plain array of the view is like, if the C core can put it by itself."""
    code = dtypes.CODES[record.dtype]
    dtype = dtypes.numpy_dtype(code)
    if record.ragged or code == dtypes.BFLOAT16:
        return None
    if record.row_elements * dtype.itemsize < _core.DIGEST_MIN:
        return None
    return _core.Layout(dtype, code, record.row_shape)


def _retire(record: ViewRecord, entry: bytes, dead: dict[int, tuple[int, int, int]]) -> None:
    """Count an index entry that is replaced or deleted."""
    tensor = unpack(entry)
    if tensor is not None:
        record.entries -= 1
        record.nbytes -= tensor.nbytes
        record.moves += 1
        entries, nbytes, _ = dead.get(tensor.block, (0, 0, 0))
        dead[tensor.block] = entries + 1, nbytes + tensor.nbytes, tensor.page
    elif unpack_failure("", entry) is not None:
        record.failures -= 1
    else:  # damaged; a tensor, most likely
        record.entries -= 1


def _check(
    path: str, name: str, record: ViewRecord, data: np.ndarray, dtype: int, as_stored: bool
) -> None:
    where = f"{path}/{name}"
    if data.size == 0:
        raise InvalidTensor(
            f"{where}: an array of shape {data.shape} holds nothing; record a failure instead"
        )
    if (
        data.nbytes > MAX_ENTRY_BYTES
        or data.ndim > _core.MAX_DIMS
        or max(data.shape, default=0) >= 1 << 32
    ):
        raise InvalidTensor(
            f"{where}: {data.shape} is too large: at most {_core.MAX_DIMS} dimensions and 4 GB an entry"
        )
    if dtype != dtypes.CODES[record.dtype] and not as_stored:
        raise InvalidTensor(
            f"{where}: the array is {dtypes.NAMES[dtype]}, the view {record.dtype}: convert it first"
        )
    row = record.row_shape
    fits = data.shape[1:] == row and data.ndim > 0 if record.ragged else data.shape == row
    if not fits and not (as_stored and record.ragged and data.shape == row):
        raise InvalidTensor(f"{where}: the array has shape {data.shape}, the view {record.shape}")


def _check_flags(path: str, name: str, record: ViewRecord, flags: int) -> None:
    if flags & _core.NONFINITE and record.nonfinite == "refuse":
        raise InvalidTensor(
            f"{path}/{name}: the array holds NaN or Inf; mend it, or create the view with "
            'nonfinite="flag" to keep and mark such entries'
        )
    if flags & _core.ZERO_ROW and record.zeros == "refuse":
        raise InvalidTensor(
            f"{path}/{name}: the array has a row of zeros, which this view refuses; record a failure instead"
        )


def _register_run(env: Environment, txn: Any) -> int:
    meta = env.databases[b"meta"]
    number = int(bytes(txn.get(b"next_run", db=meta)))
    txn.put(b"next_run", str(number + 1).encode(), db=meta)
    run = {
        "tool": f"merstore {__version__}",
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]] if sys.argv else [],
        "started": now(),
    }
    txn.put(number.to_bytes(4, "big"), json.dumps(run).encode(), db=env.databases[b"runs"])
    return number

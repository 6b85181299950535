"""One LMDB environment per store and process, shared by every Store that is open on it.

LMDB must not be opened twice in a process, and must not be used in a child after a fork. So all of
py-lmdb stays in this module and in the transactions it lends: users hold arrays over our own
mapping, and what a forked child inherits is let go of in the order that leaves the parent
untouched.
"""

import contextlib
import errno
import os
import shutil
import struct
import threading
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb

from merstore import _core
from merstore._version import __version__
from merstore.errors import (
    CorruptStore,
    MerstoreError,
    NewerFormat,
    NotAStore,
    ReadOnlyStore,
    StoreBusy,
    StoreFull,
    UnsafeFilesystem,
)
from merstore.store import filesystem
from merstore.store.entry import now

FORMAT = 1
DATABASES = (b"meta", b"views", b"index", b"blocks", b"runs", b"leases")
ADDRESS_SPACE = 1 << 40  # sparse: neither memory nor disk is taken
SMALL_SPACE = 1 << 26  # to begin with, where address space is short
MAX_READERS = 1024
LOCK_BYTES = (MAX_READERS + 64) * 64  # of LMDB's lock file: a slot per reader, and a header
CANARY = b"MERCANRY" + bytes(4072)
PAGE_OVERFLOW = 0x04
# LMDB's, which are the system's. On larger ones the canary and small blocks would lie among other
# values, on no page of their own.
PAGE_BYTES = 4096
COMPACTING = "compact.tmp"  # folder in which a compaction writes the new file

# Short: the registry, and every LMDB call that reads. Taken last: nobody waits for a write lock
# while he holds it.
_guard = threading.RLock()
_open: dict[tuple[int, int] | None, "Environment"] = {}


class Holder(Protocol):
    """Somebody who keeps a snapshot for reuse and can get another."""

    def let_go(self) -> None: ...

    def after_fork(self) -> None:
        """In the child, before anything else: locks of threads that are not there."""


class Snapshot:
    """A read transaction: a consistent state of the store, whose pages LMDB leaves alone while this
    object lives.
    """

    def __init__(self, environment: "Environment", txn: Any) -> None:
        self.environment = environment
        self.id = txn.id()
        self._pages: dict[int, dict[int, int]] = {}
        self._held = held = [txn]  # until it ends
        # Not __del__: there a weak reference still leads to the object, and another thread could take
        # up a snapshot that is about to be closed.
        end = _core.Finalizer(lambda: _end(environment, held))
        environment.reading[id(held)] = held, weakref.ref(self, end)

    @property
    def alive(self) -> bool:
        """False in a forked child, and after the store was closed: the transaction is gone, and
        with it the protection. Where there is no lock file, also after a commit: the writer knows
        of no readers, and his next commit may use the pages of this state.
        """
        if not self._held:
            return False
        return self.environment.locked or self.environment.last_commit() == self.id

    def check(self) -> None:
        """What was read just now is this state's. StoreBusy where that cannot be known."""
        if not self.environment.locked and not self.alive:
            raise StoreBusy(
                f"{self.environment.path} was written to while it was read, and lock.mdb cannot be written here, "
                "so that the writer did not wait: read again, or ask for permission to write lock.mdb"
            )

    def _transaction(self) -> Any:
        if not self._held:
            raise MerstoreError("this snapshot is closed: open the store again")
        self.environment.check_length()
        self.check()
        return self._held[0]

    def get(self, database: bytes, key: bytes) -> bytes | None:
        with _guard, self.environment.errors:
            value: bytes | None = self._transaction().get(
                key, db=self.environment.databases[database]
            )
            self.check()
            return value

    def get_each(self, database: bytes, prefix: bytes, keys: list[bytes]) -> list[bytes | None]:
        with _guard, self.environment.errors:
            handle = self.environment.databases[database]
            get = self._transaction().get
            try:
                values = [get(prefix + key, None, handle) for key in keys]
            finally:
                del get  # a traceback must not keep the transaction (see after_fork)
            self.check()
            return values

    def scan(
        self, database: bytes, prefix: bytes = b"", chunk: int = 10_000, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys (without ``prefix``) and values in order. No cursor is held between two chunks."""
        start: bytes = prefix
        while True:
            found: list[tuple[bytes, bytes]] = []
            with _guard, self.environment.errors:
                cursor = self._transaction().cursor(db=self.environment.databases[database])
                items: Any = ()
                try:
                    if cursor.set_range(start):
                        items = cursor.iternext(keys=True, values=True)
                        for key, value in items:
                            if not key.startswith(prefix):
                                break
                            found.append((key, value if values else b""))
                            if len(found) == chunk:
                                break
                finally:
                    del cursor, items  # as in get_each
                self.check()
            size = len(prefix)
            for key, value in found:
                yield key[size:], value
            if len(found) < chunk:
                return
            start = found[-1][0] + b"\0"

    def between(self, database: bytes, first: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys whose view number is at least ``first`` and below ``end``, with empty values."""
        start: bytes = first.to_bytes(5, "big")[1:]
        while True:
            found: list[bytes] = []
            with _guard, self.environment.errors:
                cursor = self._transaction().cursor(db=self.environment.databases[database])
                keys: Any = ()
                try:
                    if cursor.set_range(start):
                        keys = cursor.iternext(keys=True, values=False)
                        for key in keys:
                            if int.from_bytes(key[:4], "big") >= end or len(found) == 10_000:
                                break
                            found.append(key)
                finally:
                    del cursor, keys  # as in get_each
                self.check()
            for key in found:
                yield key, b""
            if len(found) < 10_000:
                return
            start = found[-1] + b"\0"

    def pages(self, view: int) -> dict[int, int] | None:
        """Block number to page for a view of a store whose pages were renumbered; None where
        locators hold.
        """
        if not self.environment.renumbered:
            return None
        if view not in self._pages:
            found = {}
            prefix = view.to_bytes(4, "big")
            env = self.environment
            with _guard, env.errors:
                # buffers: the page number stands in front of the value in LMDB's own map
                txn = env.handle().begin(buffers=True)
                cursor = txn.cursor(db=env.databases[b"blocks"])
                try:
                    more = cursor.set_range(prefix)
                    while more and bytes(cursor.key()[:4]) == prefix:
                        page, flags = _core.page_of(cursor.value())
                        if flags & PAGE_OVERFLOW:
                            found[int.from_bytes(cursor.key()[4:], "big")] = page
                        more = cursor.next()
                finally:
                    cursor.close()
                    txn.abort()
                    del cursor, txn  # as in get_each
            self._pages[view] = found
        return self._pages[view]

    def close(self) -> None:
        _end(self.environment, self._held)


def _end(environment: "Environment", held: list[Any]) -> None:
    """End a snapshot's transaction, unless it has ended."""
    with _guard:
        environment.reading.pop(id(held), None)
        if held:
            held.pop().abort()
            environment.shut_if_unused()


class _Errors:
    """LMDB's errors leave a ``with`` block as ours, which name the store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, lmdb.Error):
            raise _translate(error, self.path) from error


class Environment:
    """The LMDB environment of one store, our own mapping of its file, and who uses them."""

    def __init__(
        self,
        path: Path,
        *,
        create: bool,
        durability: str,
        map_size: int | None,
        writable: bool | None = None,
    ) -> None:
        self.path = path
        self.errors = _Errors(path)
        self.durability = durability
        self.shared = False  # one that is not ends when its maker says so
        self._inherited: Any = None  # what a child forked in the middle of a write must not touch
        # transactions of snapshots, and whose
        self.reading: dict[int, tuple[list[Any], weakref.ref[Snapshot]]] = {}
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()  # the stores that are open on it
        self.write_lock = threading.RLock()
        self.databases: dict[bytes, Any] = {}
        self.renumbered = False
        self.writable = self.locked = False
        self._may_write = writable
        self._limit = map_size
        self._create = create
        self._handle: lmdb.Environment | None = None
        self._latest: weakref.ref[Snapshot] | None = None
        self._txn: Any = None  # the write transaction that is open
        self.run: int | None = None  # this process in `runs`, once it has written
        self.open()
        self._create = False  # a store that disappears later is an error, not a new store
        if self._unclean:
            warnings.warn(
                f'{self.path}: last written with durability="fast" and not closed since; after a power cut run '
                "`merstore verify`",
                stacklevel=5,
            )

    # -- opening

    def handle(self) -> "lmdb.Environment":
        """The py-lmdb environment, opened again where a fork or a compaction closed it."""
        with _guard:
            if self._handle is None:
                if not self.holders:
                    raise MerstoreError(f"the store {self.path} is closed: open it again")
                self._reopen()
            assert self._handle is not None
            return self._handle

    def open(self) -> None:
        lock = self.path / "lock.mdb"
        may = self._may_write
        self.writable = filesystem.can_write(self.path) if may is None else may
        # Where not even the lock file can be written, LMDB reads without a lock: no writer then
        # knows of this reader.
        self.locked = self.writable or (may is None and os.access(lock, os.W_OK))
        try:
            self._open_files()
            assert self._handle is not None
            self.run = None
            self.page_bytes = self._handle.stat()["psize"]
            self.map = self._map(self._handle.info()["map_size"])
            self._file: _core.Map | None = None
            self.check_length()
            self._open_databases()
            self._check_locators()
            if self.locked:
                self._handle.reader_check()
        except BaseException:
            handle, self._handle = self._handle, None
            if handle is not None:
                handle.close()
            raise

    def _open_files(self) -> None:
        """Between looking at the files and opening them, a compaction elsewhere may put new ones in
        place: what was opened then goes together only if nothing has changed meanwhile.
        """
        for attempt in range(100):
            self.identity = _identity(self.path)
            self.key = self.identity[0]
            try:
                self._handle = self._open_lmdb()
            except MerstoreError as error:
                # that is what LMDB says of the empty lock file that a compaction leaves behind to
                # those who waited for it
                empty = "Invalid argument" in str(error)
                if attempt == 99 or not (empty or self._changed()):
                    raise
                continue
            if not self._changed():
                return
            self._handle.close()
            self._handle = None
        raise StoreBusy(f"{self.path} changes all the time: open it later")

    def _changed(self) -> bool:
        """Whether other files lie at the store's path than those which are open here."""
        return self.identity != _identity(self.path)

    def file(self, io: str) -> _core.Map:
        """What payloads are read from: the mapping, or (``io="pread"``) the file unmapped."""
        if io == "map":
            return self.map
        if self._file is None:
            self._file = self._map(0)
        return self._file

    def _map(self, size: int) -> _core.Map:
        """The file with ``size`` bytes of address space, or less, but all of the file."""
        try:
            return _core.Map(self.path / "data.mdb", size)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise NotAStore(
                    f"{self.path / 'data.mdb'} cannot be read: {error.strerror}"
                ) from error
            raise StoreFull(
                f"{self.path}: the system grants no address space for the store (see `ulimit -v`)"
            ) from None

    def _open_lmdb(self) -> "lmdb.Environment":
        if self._inherited:
            raise StoreBusy(
                f"{self.path} cannot be used in this process, which was forked in the middle of a "
                "write: fork outside of it, or start the process by spawn"
            )
        if self.locked:
            self._make_lock_file()
        size = self._limit or ADDRESS_SPACE
        while True:
            try:
                return lmdb.open(
                    str(self.path),
                    map_size=size,
                    max_dbs=len(DATABASES),
                    max_readers=MAX_READERS,
                    readonly=not self.writable,
                    lock=self.locked,
                    create=self._create,
                    mode=0o666,
                    sync=self.durability == "full",
                    readahead=False,  # only index pages are read through LMDB's own map
                )
            except lmdb.MemoryError:
                # Little is asked for then, since LMDB's map, ours and all else have to share
                # what there is. It grows with the file.
                least = max(SMALL_SPACE, _size(self.path / "data.mdb") * 5 // 4)
                if self._limit or size <= least:
                    raise StoreFull(
                        f"{self.path}: the system grants no address space for the store (see `ulimit -v`)"
                    ) from None
                size = max(least, min(size // 2, 2 * least))
            except lmdb.Error as error:
                if "already open in this process" in str(error):
                    raise StoreBusy(
                        f"{self.path} is open in this process through py-lmdb itself; LMDB allows one "
                        "environment per process: close that one"
                    ) from error
                raise _translate(error, self.path) from error

    def _make_lock_file(self) -> None:
        """LMDB makes its lock file without taking the disk space for it, and dies (SIGBUS) when it
        writes into that on a full disk. So a new one gets its space beforehand.
        """
        path = self.path / "lock.mdb"
        try:
            # never one that is there: closing it here would end other locks of this process on it
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            return  # it is there; or LMDB will say what is wrong
        try:
            os.posix_fallocate(file, 0, LOCK_BYTES)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return  # a filesystem that cannot: LMDB tries
            raise StoreFull(
                f"{self.path}: no space left on the disk for lock.mdb ({LOCK_BYTES:,} bytes); free some"
            ) from None
        finally:
            os.close(file)

    def _open_databases(self) -> None:
        """py-lmdb keeps handles of committed write transactions only, so this waits for a writer that
        is at work just now.
        """
        handle = self.handle()
        try:
            with self.errors:
                self.databases[b"meta"] = handle.open_db(b"meta", create=False)
                self._check_format()
                for name in DATABASES[1:]:
                    self.databases[name] = handle.open_db(name, create=False)
        except NotAStore:
            if not self._create:
                raise
            with self.errors:
                self._initialise()

    def _check_format(self) -> None:
        with self.handle().begin() as txn:
            value = txn.get(b"format", db=self.databases[b"meta"])
        if value is None:
            raise NotAStore(f"{self.path} holds an LMDB environment, but no merstore store")
        found = self._number("format", value)
        if found > FORMAT:
            raise NewerFormat(
                f"{self.path} is a store of format {found}; this is merstore {__version__}, which reads "
                f"format {FORMAT}: upgrade merstore"
            )

    def _initialise(self) -> None:
        handle = self.handle()
        with handle.begin(write=True, buffers=True) as txn:
            empty = not txn.stat()["entries"]
            for name in DATABASES:
                self.databases[name] = handle.open_db(name, txn=txn, create=empty)
            meta = self.databases[b"meta"]
            if txn.get(b"format", db=meta) is not None:
                return  # another process was faster
            if not empty:
                raise NotAStore(
                    f"{self.path} holds an LMDB environment of something else; choose another folder"
                )
            if self.page_bytes != PAGE_BYTES:
                raise MerstoreError(
                    f"{self.path}: the system has pages of {self.page_bytes:,} bytes, a store needs "
                    f"{PAGE_BYTES:,}: make it on another machine"
                )
            txn.put(b"canary", CANARY, db=meta)
            canary = txn.get(b"canary", db=meta)
            assert canary is not None
            page, _ = _core.page_of(canary)
            del canary
            written = {
                "format": FORMAT,
                "uuid": uuid.uuid4(),
                "creator": f"merstore {__version__}",
                "created": now(),
                "next_view": 1,
                "next_run": 1,
                "canary_page": page,
                "last_txn": txn.id(),
            }
            for key, value in written.items():
                txn.put(key.encode(), str(value).encode(), db=meta)

    def _check_locators(self) -> None:
        """Whether blocks lie where the index says, by the canary; and whether the last writer synced."""
        with self.errors, self.handle().begin(buffers=True) as txn:
            meta = self.databases[b"meta"]
            canary = txn.get(b"canary", db=meta)
            page = (
                _core.page_of(canary)[0]
                if canary is not None and len(canary) == len(CANARY)
                else -1
            )
            del canary
            canary_page = self._number("canary_page", txn.get(b"canary_page", db=meta))
            last = self._number("last_txn", txn.get(b"last_txn", db=meta))
            known, self.renumbered = self.renumbered, page != canary_page or txn.id() < last
            self._unclean = txn.get(b"durability", db=meta) is not None
        if self.renumbered and not known:
            warnings.warn(
                f"{self.path}: pages were renumbered by a copying tool; entries are found the slow way until "
                "`merstore compact` has rewritten the locators",
                stacklevel=6,
            )

    def _number(self, key: str, value: Any) -> int:
        text = bytes(value or b"")
        if not text.isdigit():
            raise CorruptStore(
                f"{self.path}: the store's own record {key!r} is damaged; restore it from a copy"
            )
        return int(text)

    # -- reading

    def check_length(self) -> None:
        """Raise CorruptStore if the file is shorter than LMDB's last page: touching the map there
        would kill the process.
        """
        # LMDB's own record of the last page stands on the first two, which must be there to be read.
        # Then again the size: a writer makes the file longer first, and says so afterwards.
        needed = 2 * self.page_bytes
        size = self.map.size()
        if size >= needed:
            needed = max(needed, self.committed_bytes())
            size = self.map.size()
        if size < needed:
            raise CorruptStore(
                f"{self.path / 'data.mdb'} was cut short: {size:,} bytes of {needed:,}. Restore it from a copy; "
                "what is before the cut can be recovered only by hand"
            )
        if self.map.reserved < needed:  # address space is short, and the file has grown
            self.map = self._map(self.handle().info()["map_size"])

    def last_commit(self) -> int:
        return int(self.handle().info()["last_txnid"])

    def committed_bytes(self) -> int:
        return int((self.handle().info()["last_pgno"] + 1) * self.page_bytes)

    def snapshot(self) -> Snapshot:
        """The latest committed state; one that is still in use is shared where nothing was
        committed since.
        """
        if self._changed():
            with self.write_lock, _guard:
                if self._changed():
                    self._reopen()
        with _guard, self.errors:
            handle = self.handle()
            self.check_length()
            latest = self._latest() if self._latest else None
            if latest is not None and latest.alive and latest.id == self.last_commit():
                return latest
            try:
                snapshot = Snapshot(self, handle.begin())
            except lmdb.ReadersFullError:
                handle.reader_check()
                try:
                    snapshot = Snapshot(self, handle.begin())
                except lmdb.ReadersFullError:
                    raise StoreBusy(
                        f"{self.path}: all {handle.max_readers()} reader slots are taken"
                    ) from None
            except lmdb.MapResizedError:
                self._resize(0)
                snapshot = Snapshot(self, handle.begin())
            self._latest = weakref.ref(snapshot)
            return snapshot

    # -- writing

    def transaction(self, expected_bytes: int = 0) -> _core.Section:
        """A write transaction, for a ``with`` block: committed at its end, aborted by an exception.
        Waits while another process writes.

        The transaction hands out buffers; none may outlive it.
        """
        if not self.writable:
            raise ReadOnlyStore(
                f"{self.path} cannot be written: no permission, or a read-only filesystem"
            )
        return _core.Section(
            self.write_lock, lambda: self._begin(expected_bytes), self._commit, self._end_write
        )

    def frozen(self) -> _core.Section:
        """Keep writers of all processes out of a ``with`` block, without writing."""
        return _core.Section(
            self.write_lock, self._begin_write, lambda error: None, self._end_write
        )

    def _begin(self, expected_bytes: int) -> Any:
        with _guard, self.errors:
            self.handle().reader_check()  # killed readers would keep their pages for ever
            self._make_room(expected_bytes)
        txn = self._begin_write()
        if self.renumbered:
            raise StoreBusy(
                f"{self.path}: pages were renumbered by a copying tool; run `merstore compact` before writing"
            )
        if self.durability == "fast":
            with self.errors:
                txn.put(b"durability", b"fast", db=self.databases[b"meta"])
        return txn

    def _commit(self, error: BaseException | None) -> None:
        if error is None and self._txn is None:
            raise MerstoreError(
                f"{self.path}: this process was forked in the middle of a write; it is its parent's to end"
            )
        try:
            if error is None:
                number = str(self._txn.id()).encode()
                self._txn.put(b"last_txn", number, db=self.databases[b"meta"])
                self._txn.commit()
        except lmdb.Error as refused:
            error = refused
        if isinstance(error, lmdb.MapFullError) and not self._limit:
            raise StoreFull(
                f"{self.path}: the map is full and cannot grow; nothing of this transaction was stored. Let go "
                "of the arrays of this store that are in use and try again (see also `ulimit -v`)"
            ) from error
        if isinstance(error, lmdb.Error):
            raise _translate(error, self.path) from error

    def _end_write(self) -> None:
        """Abort, unless it is committed. In a forked child there is none to end (after_fork)."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        self.shut_if_unused()

    def _begin_write(self) -> Any:
        while True:
            handle = self.handle()
            self.check_length()
            try:
                self._txn = handle.begin(write=True, buffers=True)
            except lmdb.MapResizedError:
                with _guard:
                    self._resize(0)
                continue
            except lmdb.Error as error:
                raise _translate(error, self.path) from error
            if not self._changed():
                return self._txn
            # Other files lie there now: what is open here is the old one, and so is the lock.
            self._txn.abort()
            self._txn = None
            with _guard:
                self._reopen()

    def _make_room(self, expected_bytes: int) -> None:
        handle = self.handle()
        self.check_length()
        if self._limit:
            return
        now = handle.info()["map_size"]
        needed = self.committed_bytes() + 2 * expected_bytes + (1 << 24)
        if needed > now:
            # then the map may still suffice; MapFull tells
            with contextlib.suppress(StoreBusy, StoreFull):
                # LMDB cannot go back when there is no address space for what it is asked for
                size = max(2 * now + expected_bytes, needed)
                while size > needed and self._map(size).reserved < size:
                    size = max(size // 2, needed)
                if self._map(size).reserved >= size:
                    self._resize(size)

    def _resize(self, size: int) -> None:
        self._let_go()
        if self.reading:
            raise StoreBusy(
                f"{self.path}: the map must grow; close the arrays and snapshots that are open on the store"
            )
        self.handle().set_mapsize(size)

    def _let_go(self) -> None:
        for holder in list(self.holders):
            holder.let_go()

    # -- closing

    def _reopen(self) -> None:
        """Let go of everything and open what lies at the path now. Snapshots of before end; their
        arrays keep the old mapping.
        """
        self.shut()
        _check_path(self.path, False)
        self.open()
        _open[self.key] = self

    def shut(self) -> None:
        with _guard:
            self._let_go()
            for held, _ in list(self.reading.values()):
                _end(self, held)
            try:
                if self._handle is not None:
                    self._handle.close()
            finally:
                self._handle = None
                self.databases = {}
                if _open.get(self.key) is self:
                    del _open[self.key]

    def shut_if_unused(self) -> None:
        """Close once no store and no snapshot is left: an array that outlives its store still needs
        its pages left alone. A thread that is writing closes when it has done so.
        """
        with _guard:
            if not self.shared or self.holders or not self.write_lock.acquire(blocking=False):
                return
            try:
                if self._txn is None and not self.reading:
                    self.shut()
            finally:
                self.write_lock.release()

    def prepare_to_write(self) -> None:
        """Raise ReadOnlyStore where nothing can be written. Take away what a killed compaction left."""
        if not self.writable:
            raise ReadOnlyStore(
                f"{self.path} cannot be written: no permission, or a read-only filesystem"
            )
        if self._handle is not None:  # it is open here, so that no compaction is at work
            shutil.rmtree(self.path / COMPACTING, ignore_errors=True)

    def finish_fast(self) -> None:
        """Sync what ``durability="fast"`` left to the system, and take its marker away. A store that
        another thread writes to just now keeps it.
        """
        if self.durability != "fast" or self._handle is None:
            return
        if not self.write_lock.acquire(blocking=False):
            return
        try:
            meta = self.databases[b"meta"]
            self.check_length()
            with self.errors:
                with self._handle.begin() as txn:
                    if txn.get(b"durability", db=meta) is None:
                        return
                self._handle.sync(True)
                with self.transaction() as txn:
                    txn.delete(b"durability", db=meta)
                self._handle.sync(True)
        finally:
            self.write_lock.release()

    def after_fork(self) -> None:
        """In the child: transactions first (letting go of them does nothing here), then the
        environment; the order protects the parent.
        """
        for held, _ in self.reading.values():
            held.clear()
        self.reading.clear()
        self._latest = None
        self.run = None
        for holder in list(self.holders):
            holder.after_fork()
        self._let_go()
        handle, self._handle = self._handle, None
        self.databases = {}
        if handle is None:
            return
        if self._txn is not None:
            # Forked by the very thread that is in a write transaction: closing would end it for the
            # parent. The child cannot use the store.
            self._inherited, self._txn = (handle, self._txn), None
        else:
            handle.close()


def _identity(path: Path) -> "tuple[tuple[int, int] | None, tuple[int, int] | None]":
    """Device and inode of both files; None for one that is not there."""

    def of(name: str) -> tuple[int, int] | None:
        try:
            status = os.stat(path / name)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    return of("data.mdb"), of("lock.mdb")


def _translate(error: "lmdb.Error", path: Path) -> MerstoreError:
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(
            f"{path}: the map is full; nothing of this transaction was stored, everything before it is there. "
            "Open the store with a larger map_size"
        )
    # LMDB calls it an I/O error when only a part of what it writes finds room
    if (
        isinstance(error, lmdb.DiskError)
        or any(full in text for full in ("No space left", "Disk quota", "File too large"))
        or ("Input/output error" in text and filesystem.is_full(path))
    ):
        return StoreFull(
            f"{path}: no space left on the disk; nothing of this transaction was stored, all before it is there. "
            "Free some space and go on"
        )
    if isinstance(error, (lmdb.NotFoundError, lmdb.IncompatibleError)):
        return NotAStore(f"{path} holds an LMDB environment, but no merstore store")
    if isinstance(error, (lmdb.InvalidError, lmdb.VersionMismatchError)):
        return NotAStore(f"{path / 'data.mdb'} is not a merstore store (not an LMDB file: {text})")
    if isinstance(error, lmdb.ReadonlyError):
        return ReadOnlyStore(f"{path} cannot be opened: no permission")
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return CorruptStore(
            f"{path / 'data.mdb'} is damaged or cannot be written ({text}): run `merstore verify`; restore it from "
            "a copy where that finds anything"
        )
    return MerstoreError(f"{path}: {text}")


def acquire(
    path: Path,
    holder: Holder,
    *,
    create: bool,
    write: bool,
    durability: str,
    force: bool,
    map_size: int | None,
) -> Environment:
    """The environment of the store at ``path`` for ``holder``, opened if this process has not done so
    yet. ``release`` it afterwards.
    """
    if durability not in ("full", "fast"):
        raise MerstoreError(f'durability is "full" or "fast", not {durability!r}')
    path = path.absolute()
    if write:
        _check_network(path, force)
    with _guard:
        identity = _identity(path)[0]
        environment = _open.get(identity) if identity else None
        if environment is None:
            _check_path(path, create)
            environment = Environment(path, create=create, durability=durability, map_size=map_size)
            environment.shared = True
            _open[environment.key] = environment
        elif write and durability != environment.durability:
            raise StoreBusy(
                f'{path} is already open in this process with durability="{environment.durability}": close it first'
            )
        environment.holders.add(holder)
        try:
            if write:
                environment.prepare_to_write()
        except BaseException:
            release(environment, holder)
            raise
        return environment


def alone(environment: Environment, work: Callable[[], None]) -> None:
    """Close the environment, do ``work`` on its files, and open it again. StoreBusy if anybody else in
    this process uses it.
    """
    with environment.write_lock, _guard:
        if len(environment.holders) == 1:  # refused, the others keep their snapshots
            environment._let_go()
        environment.check_length()
        if len(environment.holders) > 1 or environment.reading:
            raise StoreBusy(
                f"{environment.path} is in use in this process: close its other stores and let go of its arrays"
            )
        environment.finish_fast()
        environment.shut()
        try:
            work()
        finally:
            environment._reopen()


def beside(path: Path) -> Environment:
    """An environment for reading files that the caller has locked himself; not shared, not
    registered.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Environment(path, create=False, durability="full", map_size=None, writable=False)


def _check_network(path: Path, force: bool) -> None:
    if not force and filesystem.is_network(path):
        raise UnsafeFilesystem(
            f"{path} lies on a network filesystem ({filesystem.kind_of(path)}), where LMDB's "
            "locks cannot be trusted: write to a local disk and copy the store, or pass "
            "force=True (--force) if no other machine opens it"
        )


def _check_path(path: Path, create: bool) -> None:
    if path.exists() and not path.is_dir():
        raise NotAStore(f"{path} is a file: a store is a directory with data.mdb in it")
    data = path / "data.mdb"
    if not create:
        if not path.exists():
            raise NotAStore(
                f'{path} does not exist: create a store with merstore.open(path, "a") or `merstore import`'
            )
        if not data.exists() or data.stat().st_size == 0:
            raise NotAStore(f"{path} holds no store (no data.mdb in it, or an empty one)")
    if data.exists() and data.stat().st_size:
        try:
            with data.open("rb") as file:
                head = file.read(28)
        except OSError as error:
            raise NotAStore(f"{data} cannot be read: {error.strerror}") from error
        # LMDB's meta page: magic and version at byte 16. A page size of 4 KiB puts the second meta
        # page at 4096.
        if len(head) < 28 or struct.unpack_from("<2I", head, 16) != (0xBEEFC0DE, 1):
            raise NotAStore(f"{data} is not a merstore store (not a file of LMDB 0.9)")
        if data.stat().st_size < 8192:
            raise CorruptStore(
                f"{data} was cut short: {data.stat().st_size} bytes. Restore it from a copy"
            )
    if create:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReadOnlyStore(f"{path} cannot be created: {error.strerror}") from error
        if not filesystem.can_write(path):
            raise ReadOnlyStore(
                f"{path} cannot be written: no permission, or a read-only filesystem"
            )


def release(environment: Environment, holder: Holder) -> None:
    try:
        if len(environment.holders) == 1:
            environment.finish_fast()
    finally:
        with _guard:
            environment.holders.discard(holder)
            environment.shut_if_unused()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# -- fork

_held: list[Any] = []  # the locks that the fork under way has taken, under _guard


def _before_fork() -> None:
    """Wait until no thread is inside a transaction or an LMDB call: the child has none of those
    threads to end them.
    """
    locks: list[Any] = []
    try:
        while True:
            with _guard:
                wanted = [environment.write_lock for environment in _open.values()]
            for lock in wanted:
                lock.acquire()
                locks.append(lock)
            _guard.acquire()
            if wanted == [environment.write_lock for environment in _open.values()]:
                break
            _guard.release()  # a store was opened or closed meanwhile
            while locks:
                locks.pop().release()
    except BaseException:  # Ctrl-C while waiting: the fork goes on all the same
        _guard.acquire()
        raise
    finally:
        _held[:] = locks


def _after_fork_in_parent() -> None:
    locks = _held[:]
    _held.clear()
    _guard.release()
    for lock in locks:
        lock.release()


def _after_fork_in_child() -> None:
    try:
        for environment in list(_open.values()):
            environment.after_fork()
    finally:
        _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

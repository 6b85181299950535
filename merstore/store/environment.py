"""One LMDB environment per store and process, shared by every Store that is open on it.

LMDB must not be opened twice in a process, and must not be used in a child after a fork. So all of
py-lmdb stays in this module and in the transactions it lends: users hold arrays over our own
mapping, and what a forked child inherits is let go of in the order that leaves the parent
untouched.
"""

import contextlib
import os
import struct
import threading
import uuid
import warnings
import weakref
from collections.abc import Iterator
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
MAX_READERS = 1024
CANARY = b"MERCANRY" + bytes(4072)
PAGE_OVERFLOW = 0x04

# Short: the registry, and every LMDB call that reads. Taken last, after any write lock.
_guard = threading.RLock()
_open: dict[tuple[int, int], "Environment"] = {}


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
        self._txn = txn
        self.id = txn.id()
        self._pages: dict[int, dict[int, int]] = {}
        environment.snapshots.add(self)

    @property
    def alive(self) -> bool:
        """False in a forked child, and after the store was closed: the transaction is gone, and
        with it the protection.
        """
        return self._txn is not None

    def _transaction(self) -> Any:
        if self._txn is None:
            raise MerstoreError("this snapshot is closed: open the store again")
        self.environment.check_length()
        return self._txn

    def get(self, database: bytes, key: bytes) -> bytes | None:
        with _guard:
            value: bytes | None = self._transaction().get(
                key, db=self.environment.databases[database]
            )
            return value

    def get_each(self, database: bytes, prefix: bytes, keys: list[bytes]) -> list[bytes | None]:
        with _guard:
            get = self._transaction().get
            handle = self.environment.databases[database]
            return [get(prefix + key, None, handle) for key in keys]

    def scan(
        self, database: bytes, prefix: bytes = b"", chunk: int = 10_000, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys (without ``prefix``) and values in order. No cursor is held between two chunks."""
        start: bytes = prefix
        while True:
            found: list[tuple[bytes, bytes]] = []
            with _guard:
                txn = self._transaction()
                with txn.cursor(db=self.environment.databases[database]) as cursor:
                    if not cursor.set_range(start):
                        return
                    for key, value in cursor.iternext(keys=True, values=True):
                        if not key.startswith(prefix):
                            break
                        found.append((key, value if values else b""))
                        if len(found) == chunk:
                            break
                    del cursor, txn
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
            with _guard:
                found: list[bytes] = []
                with self._transaction().cursor(db=self.environment.databases[database]) as cursor:
                    if cursor.set_range(start):
                        for key in cursor.iternext(keys=True, values=False):
                            if int.from_bytes(key[:4], "big") >= end or len(found) == 10_000:
                                break
                            found.append(key)
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
            with _guard:
                env = self.environment
                # buffers: the page number stands in front of the value in LMDB's own map
                txn = env.handle().begin(buffers=True)
                try:
                    cursor = txn.cursor(db=env.databases[b"blocks"])
                    more = cursor.set_range(prefix)
                    while more and bytes(cursor.key()[:4]) == prefix:
                        page, flags = _core.page_of(cursor.value())
                        if flags & PAGE_OVERFLOW:
                            found[int.from_bytes(cursor.key()[4:], "big")] = page
                        more = cursor.next()
                    cursor.close()
                finally:
                    txn.abort()
            self._pages[view] = found
        return self._pages[view]

    def close(self) -> None:
        with _guard:
            txn, self._txn = self._txn, None
            if txn is not None:
                txn.abort()
                del txn
                self.environment.shut_if_unused()

    def __del__(self) -> None:
        if getattr(self, "_txn", None) is not None:
            with contextlib.suppress(Exception):
                self.close()


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
        self.durability = durability
        self.users = 0
        self.snapshots: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()
        self.write_lock = threading.RLock()
        self.databases: dict[bytes, Any] = {}
        self.renumbered = False
        self.writable = filesystem.can_write(path) if writable is None else writable
        # Where not even the lock file can be written, LMDB reads without a lock: no writer then
        # knows of this reader.
        self.locked = self.writable or (writable is None and os.access(path / "lock.mdb", os.W_OK))
        self._limit = map_size
        self._create = create
        self._handle: lmdb.Environment | None = None
        self._latest: weakref.ref[Snapshot] | None = None
        self._writing = False
        self.open()

    # -- opening

    def handle(self) -> "lmdb.Environment":
        """The py-lmdb environment, opened again where a fork or a compaction closed it."""
        if self._handle is None:
            self.open()
        assert self._handle is not None
        return self._handle

    def open(self) -> None:
        data = self.path / "data.mdb"
        while True:
            before = _identity(self.path)
            self._handle = self._open_lmdb()
            # Between looking and opening, a compaction elsewhere may have put new files in place.
            self.identity = _identity(self.path)
            if before == self.identity or None in before:
                break
            self._handle.close()
        try:
            self.page_bytes = self._handle.stat()["psize"]
            self.map = _core.Map(data, ADDRESS_SPACE)
            self._file: _core.Map | None = None
            self.check_length()
            self._open_databases()
            self._check_format()
            if self.locked:
                self._handle.reader_check()
        except BaseException:
            handle, self._handle = self._handle, None
            handle.close()
            raise

    def file(self, io: str) -> _core.Map:
        """What payloads are read from: the mapping, or (``io="pread"``) the file unmapped."""
        if io == "map":
            return self.map
        if self._file is None:
            self._file = _core.Map(self.path / "data.mdb", 0)
        return self._file

    def _open_lmdb(self) -> "lmdb.Environment":
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
                    sync=self.durability == "full",
                    readahead=False,  # only index pages are read through LMDB's own map
                )
            except lmdb.MemoryError:
                size //= 2
                if self._limit or size < 1 << 26:
                    raise StoreFull(
                        f"{self.path}: the system grants no address space for the store (see `ulimit -v`)"
                    ) from None
            except lmdb.Error as error:
                raise _translate(error, self.path) from error

    def _open_databases(self) -> None:
        handle = self.handle()
        try:
            # py-lmdb keeps handles of committed write transactions only: this waits for a writer
            # that is at work just now
            for name in DATABASES:
                self.databases[name] = handle.open_db(name, create=False)
        except lmdb.NotFoundError:
            if not self._create:
                raise NotAStore(
                    f"{self.path} holds an LMDB environment, but no merstore store"
                ) from None
            self._initialise()
        except lmdb.Error as error:
            raise _translate(error, self.path) from error

    def _initialise(self) -> None:
        handle = self.handle()
        try:
            with handle.begin(write=True, buffers=True) as txn:
                if txn.stat()["entries"] and txn.get(b"meta") is None:
                    raise NotAStore(
                        f"{self.path} holds an LMDB environment of something else; choose another folder"
                    )
                for name in DATABASES:
                    self.databases[name] = handle.open_db(name, txn=txn, create=True)
                meta = self.databases[b"meta"]
                if txn.get(b"format", db=meta) is not None:
                    return  # another process was faster
                txn.put(b"canary", CANARY, db=meta)
                page, _ = _core.page_of(txn.get(b"canary", db=meta))
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
        except lmdb.Error as error:
            raise _translate(error, self.path) from error

    def _check_format(self) -> None:
        with self.handle().begin(buffers=True) as txn:
            meta = self.databases[b"meta"]

            def read(key: bytes) -> int:
                value = txn.get(key, db=meta)
                try:
                    return int(bytes(value or b""))
                except (TypeError, ValueError):
                    raise CorruptStore(
                        f"{self.path}: the store's own record {key.decode()!r} is damaged; restore it from a copy"
                    ) from None

            found = read(b"format")
            if found > FORMAT:
                raise NewerFormat(
                    f"{self.path} is a store of format {found}; this is merstore {__version__}, which reads "
                    f"format {FORMAT}: upgrade merstore"
                )
            canary = txn.get(b"canary", db=meta)
            page = (
                _core.page_of(canary)[0]
                if canary is not None and len(canary) == len(CANARY)
                else -1
            )
            del canary
            self.renumbered = page != read(b"canary_page") or txn.id() < read(b"last_txn")
            unclean = txn.get(b"durability", db=meta) is not None
        if self.renumbered:
            warnings.warn(
                f"{self.path}: pages were renumbered by a copying tool; entries are found the slow way until "
                "`merstore compact` has rewritten the locators",
                stacklevel=2,
            )
        if unclean and not _open.get(self.key):
            warnings.warn(
                f'{self.path}: last written with durability="fast" and not closed since; after a power cut run '
                "`merstore verify`",
                stacklevel=2,
            )

    @property
    def key(self) -> tuple[int, int]:
        assert self.identity[0] is not None
        return self.identity[0]

    # -- reading

    def check_length(self) -> None:
        """Raise CorruptStore if the file is shorter than LMDB's last page: touching the map there
        would kill the process.
        """
        needed = (self.handle().info()["last_pgno"] + 1) * self.page_bytes
        size = self.map.size()
        if size < needed:
            raise CorruptStore(
                f"{self.path / 'data.mdb'} was cut short: {size:,} bytes of {needed:,}. Restore it from a copy; "
                "what is before the cut can be recovered only by hand"
            )

    def committed_bytes(self) -> int:
        return int((self.handle().info()["last_pgno"] + 1) * self.page_bytes)

    def snapshot(self) -> Snapshot:
        """The latest committed state; one that is still in use is shared where nothing was
        committed since.
        """
        with _guard:
            if self.identity != _identity(self.path):
                self._reopen()
            handle = self.handle()
            self.check_length()
            latest = self._latest() if self._latest else None
            if latest is not None and latest.alive and latest.id == handle.info()["last_txnid"]:
                return latest
            try:
                snapshot = Snapshot(self, handle.begin())
            except lmdb.ReadersFullError:
                handle.reader_check()
                try:
                    snapshot = Snapshot(self, handle.begin())
                except lmdb.ReadersFullError:
                    raise StoreBusy(
                        f"{self.path}: all {MAX_READERS} reader slots are taken"
                    ) from None
            except lmdb.MapResizedError:
                self._resize(0)
                snapshot = Snapshot(self, handle.begin())
            self._latest = weakref.ref(snapshot)
            return snapshot

    # -- writing

    @contextlib.contextmanager
    def transaction(self, expected_bytes: int = 0) -> Iterator[Any]:
        """A write transaction: committed at the end, aborted by an exception. Waits while another
        process writes.

        The transaction hands out buffers; none may outlive it.
        """
        if not self.writable:
            raise ReadOnlyStore(
                f"{self.path} cannot be written: no permission, or a read-only filesystem"
            )
        with self.write_lock:
            with _guard:
                self._make_room(expected_bytes)
            txn = self._begin_write()
            self._writing = True
            try:
                if self.renumbered:
                    raise StoreBusy(
                        f"{self.path}: pages were renumbered by a copying tool; run `merstore compact` before writing"
                    )
                yield txn
                txn.put(b"last_txn", str(txn.id()).encode(), db=self.databases[b"meta"])
                txn.commit()
            except BaseException as error:
                with contextlib.suppress(lmdb.Error):
                    txn.abort()
                if isinstance(error, lmdb.Error):
                    del txn
                    if isinstance(error, (lmdb.PanicError, lmdb.CorruptedError)):
                        with _guard:
                            self._reopen()
                    raise _translate(error, self.path) from error
                raise
            finally:
                self._writing = False

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep writers of all processes out, without writing."""
        with self.write_lock:
            txn = self._begin_write()
            self._writing = True
            try:
                yield
            finally:
                self._writing = False
                txn.abort()

    def _begin_write(self) -> Any:
        while True:
            handle = self.handle()
            try:
                txn = handle.begin(write=True, buffers=True)
            except lmdb.MapResizedError:
                with _guard:
                    self._resize(0)
                continue
            except lmdb.Error as error:
                raise _translate(error, self.path) from error
            if self.identity == _identity(self.path):
                return txn
            # The store was compacted elsewhere: what is open here is the old file. The writer's
            # lock we hold is the old one's too, and the compaction is over, since it holds all
            # locks to its end.
            txn.abort()
            del txn
            with _guard:
                self._reopen()

    def _make_room(self, expected_bytes: int) -> None:
        if self._limit:
            return
        info = self.handle().info()
        used = (info["last_pgno"] + 1) * self.page_bytes
        if used + 2 * expected_bytes + (1 << 24) > info["map_size"]:
            with contextlib.suppress(StoreBusy):  # then the map may still suffice; MapFull tells
                self._resize(2 * info["map_size"] + expected_bytes)

    def _resize(self, size: int) -> None:
        self._let_go()
        if any(snapshot.alive for snapshot in self.snapshots):
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
        self.open()
        _open[self.key] = self

    def shut(self) -> None:
        with _guard:
            self._let_go()
            for snapshot in list(self.snapshots):
                snapshot.close()
            handle, self._handle = self._handle, None
            self.databases = {}
            if _open.get(self.key) is self:
                del _open[self.key]
            if handle is not None:
                handle.close()

    def shut_if_unused(self) -> None:
        """Close once no store and no snapshot is left: an array that outlives its store still needs
        its pages left alone.
        """
        with _guard:
            if (
                self.users == 0
                and self._handle is not None
                and not any(s.alive for s in self.snapshots)
            ):
                self.shut()

    def finish_fast(self) -> None:
        """Sync what ``durability="fast"`` left to the system, and take its marker away."""
        if self.durability != "fast" or not self.writable or self._handle is None:
            return
        with self.write_lock:
            self._handle.sync(True)
            with self.transaction() as txn:
                txn.delete(b"durability", db=self.databases[b"meta"])
            self._handle.sync(True)

    def after_fork(self) -> None:
        """In the child: transactions first (letting go of them does nothing here), then the
        environment; the order protects the parent.
        """
        for snapshot in list(self.snapshots):
            snapshot._txn = None
        self._latest = None
        for holder in list(self.holders):
            holder.after_fork()
        self._let_go()
        handle, self._handle = self._handle, None
        self.databases = {}
        if handle is None:
            return
        if self._writing:
            # Forked by the very thread that is in a write transaction: closing would end it for the
            # parent. The child cannot use the store.
            self._inherited = handle
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
    if (
        isinstance(error, lmdb.DiskError)
        or "No space left" in text
        or "Disk quota" in text
        or "File too large" in text
    ):
        return StoreFull(
            f"{path}: no space left on the disk; nothing of this transaction was stored, all before it is there. "
            "Free some space and go on"
        )
    if isinstance(error, (lmdb.InvalidError, lmdb.VersionMismatchError)):
        return NotAStore(f"{path / 'data.mdb'} is not a merstore store (not an LMDB file: {text})")
    if isinstance(error, lmdb.ReadonlyError):
        return ReadOnlyStore(f"{path} is open read-only")
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return CorruptStore(
            f"{path / 'data.mdb'} is damaged ({text}): run `merstore verify`, restore it from a copy"
        )
    return MerstoreError(f"{path}: {text}")


def acquire(
    path: Path, *, create: bool, write: bool, durability: str, force: bool, map_size: int | None
) -> Environment:
    """The environment of the store at ``path``, opened if this process has not done so yet.
    ``release`` it afterwards.
    """
    if durability not in ("full", "fast"):
        raise MerstoreError(f'durability is "full" or "fast", not {durability!r}')
    with _guard:
        identity = _identity(path)[0]
        environment = _open.get(identity) if identity else None
        if environment is None:
            if write and not force and filesystem.is_network(path):
                raise UnsafeFilesystem(
                    f"{path} lies on a network filesystem ({filesystem.kind_of(path)}), where LMDB's "
                    "locks cannot be trusted: write to a local disk and copy the store, or pass "
                    "force=True (--force) if no other machine opens it"
                )
            _check_path(path, create)
            environment = Environment(path, create=create, durability=durability, map_size=map_size)
            if write and not environment.writable:
                environment.shut()
                raise ReadOnlyStore(
                    f"{path} cannot be written: no permission, or a read-only filesystem"
                )
            _open[environment.key] = environment
        elif write:
            if not environment.writable:
                raise ReadOnlyStore(
                    f"{path} cannot be written: no permission, or a read-only filesystem"
                )
            if durability != environment.durability:
                raise StoreBusy(
                    f'{path} is already open in this process with durability="{environment.durability}": close it first'
                )
        if write and durability == "fast":
            with environment.transaction() as txn:
                txn.put(b"durability", b"fast", db=environment.databases[b"meta"])
        environment.users += 1
        return environment


@contextlib.contextmanager
def alone(environment: Environment) -> Iterator[None]:
    """Close the environment, for work on its files, and open it again. StoreBusy if anybody else in
    this process uses it.
    """
    with environment.write_lock, _guard:
        environment._let_go()
        if environment.users > 1 or any(snapshot.alive for snapshot in environment.snapshots):
            raise StoreBusy(
                f"{environment.path} is in use in this process: close its other stores and let go of its arrays"
            )
        environment.finish_fast()
        environment.shut()
        try:
            yield
        finally:
            environment.open()
            _open[environment.key] = environment


def beside(path: Path) -> Environment:
    """An environment for reading files that the caller has locked himself; not shared, not
    registered.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Environment(path, create=False, durability="full", map_size=None, writable=False)


def _check_path(path: Path, create: bool) -> None:
    if path.exists() and not path.is_dir():
        raise NotAStore(f"{path} is a file: a store is a directory with data.mdb in it")
    data = path / "data.mdb"
    if not create:
        if not path.exists():
            raise NotAStore(
                f'{path} does not exist: create a store with merstore.open(path, "a") or `merstore import`'
            )
        if not data.exists():
            raise NotAStore(f"{path} holds no store (no data.mdb in it)")
    if data.exists() and data.stat().st_size:
        with data.open("rb") as file:
            head = file.read(28)
        # LMDB's meta page: magic at byte 16. A page size of 4 KiB puts the second meta page at
        # 4096.
        if len(head) < 28 or struct.unpack_from("<I", head, 16)[0] != 0xBEEFC0DE:
            raise NotAStore(f"{data} is not a merstore store (not an LMDB file)")
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


def release(environment: Environment) -> None:
    with _guard:
        environment.users -= 1
        if environment.users == 0:
            environment.finish_fast()
            environment.shut_if_unused()


# -- fork

_held: list[Any] = []


def _before_fork() -> None:
    """Wait until no thread is inside a transaction or an LMDB call: the child has none of those
    threads to end them.
    """
    _guard.acquire()
    environments = list(_open.values())
    _guard.release()
    for environment in environments:
        environment.write_lock.acquire()
        _held.append(environment.write_lock)
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    for environment in list(_open.values()):
        environment.after_fork()
    _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)

"""The LMDB environment of one store, shared by every Store that is open on it in this process.

LMDB must not be opened twice in a process, and must not be used in a child after a fork. So all of
py-lmdb stays in this module and those below it, and in the transactions it lends: users hold arrays
over our own mapping, and what a forked child inherits is let go of in the order that leaves the
parent untouched.
"""

import contextlib
import os
import shutil
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any, Protocol

import lmdb

from merstore import _core
from merstore.errors import CorruptStore, MerstoreError, ReadOnlyStore, StoreBusy, StoreFull
from merstore.store import files, filesystem, layout
from merstore.store.lmdb_errors import Errors, translate
from merstore.store.registry import environments, guard
from merstore.store.snapshot import Snapshot, end_transaction

COMPACTING = "compact.tmp"  # folder in which a compaction writes the new file


class Holder(Protocol):
    """Somebody who keeps a snapshot for reuse and can get another."""

    def let_go(self) -> None: ...

    def after_fork(self) -> None:
        """In the child, before anything else: locks of threads that are not there."""


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
        self.errors = Errors(path)
        self.durability = durability
        self.shared = False  # one that is not ends when its maker says so
        self._inherited: Any = None  # what a child forked in the middle of a write must not touch
        # transactions of snapshots, and whose
        self.reading: dict[int, tuple[list[Any], weakref.ref[Snapshot]]] = {}
        self.holders: weakref.WeakSet[Holder] = weakref.WeakSet()  # the stores that are open on it
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
            _warn(
                f'{self.path}: last written with durability="fast" and not closed since; after a power cut run '
                "`merstore verify`"
            )

    # -- opening

    def handle(self) -> "lmdb.Environment":
        """The py-lmdb environment, opened again where a fork or a compaction closed it."""
        with guard:
            if self._handle is None:
                if not self.holders:
                    raise MerstoreError(f"the store {self.path} is closed: open it again")
                self.reopen()
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
            self.map = files.map_data(self.path, self._handle.info()["map_size"])
            self._file: _core.Map | None = None
            self.check_length()
            self.databases = layout.open_databases(self._handle, self.path, self._create)
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
            self.identity = files.identity(self.path)
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
        return self.identity != files.identity(self.path)

    def file(self, io: str) -> _core.Map:
        """What payloads are read from: the mapping, or (``io="pread"``) the file unmapped."""
        if io == "map":
            return self.map
        if self._file is None:
            self._file = files.map_data(self.path, 0)
        return self._file

    def _open_lmdb(self) -> "lmdb.Environment":
        if self._inherited:
            raise StoreBusy(
                f"{self.path} cannot be used in this process, which was forked in the middle of a "
                "write: fork outside of it, or start the process by spawn"
            )
        return files.open_lmdb(
            self.path,
            create=self._create,
            writable=self.writable,
            locked=self.locked,
            sync=self.durability == "full",
            limit=self._limit,
        )

    def _check_locators(self) -> None:
        """Whether blocks lie where the index says; and whether the last writer synced."""
        with self.errors, self.handle().begin(buffers=True) as txn:
            meta = self.databases[b"meta"]
            renumbered = layout.is_renumbered(txn, meta, self.path)
            known, self.renumbered = self.renumbered, renumbered
            self._unclean = txn.get(b"durability", db=meta) is not None
        if self.renumbered and not known:
            _warn(
                f"{self.path}: pages were renumbered by a copying tool; entries are found the slow way until "
                "`merstore compact` has rewritten the locators"
            )

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
            self.map = files.map_data(self.path, self.handle().info()["map_size"])

    def last_commit(self) -> int:
        return int(self.handle().info()["last_txnid"])

    def committed_bytes(self) -> int:
        return int((self.handle().info()["last_pgno"] + 1) * self.page_bytes)

    def snapshot(self) -> Snapshot:
        """The latest committed state; one that is still in use is shared where nothing was
        committed since.
        """
        if self._changed():
            with self.write_lock, guard:
                if self._changed():
                    self.reopen()
        with guard, self.errors:
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
        with guard, self.errors:
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
            raise translate(error, self.path) from error

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
                with guard:
                    self._resize(0)
                continue
            except lmdb.Error as error:
                raise translate(error, self.path) from error
            if not self._changed():
                return self._txn
            # Other files lie there now: what is open here is the old one, and so is the lock.
            self._txn.abort()
            self._txn = None
            with guard:
                self.reopen()

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
                while size > needed and files.map_data(self.path, size).reserved < size:
                    size = max(size // 2, needed)
                if files.map_data(self.path, size).reserved >= size:
                    self._resize(size)

    def _resize(self, size: int) -> None:
        self.let_go()
        if self.reading:
            raise StoreBusy(
                f"{self.path}: the map must grow; close the arrays and snapshots that are open on the store"
            )
        self.handle().set_mapsize(size)

    def let_go(self) -> None:
        for holder in list(self.holders):
            holder.let_go()

    # -- closing

    def reopen(self) -> None:
        """Let go of everything and open what lies at the path now. Snapshots of before end; their
        arrays keep the old mapping.
        """
        self.shut()
        files.check(self.path, False)
        self.open()
        if self.shared:
            environments[self.key] = self

    def shut(self) -> None:
        with guard:
            self.let_go()
            for held, _ in list(self.reading.values()):
                end_transaction(self, held)
            try:
                if self._handle is not None:
                    self._handle.close()
            finally:
                self._handle = None
                self.databases = {}
                if environments.get(self.key) is self:
                    del environments[self.key]

    def shut_if_unused(self) -> None:
        """Close once no store and no snapshot is left: an array that outlives its store still needs
        its pages left alone. A thread that is writing closes when it has done so.
        """
        with guard:
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
        self.let_go()
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


def _warn(message: str) -> None:
    """A warning at the line of the user's that led here."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith("merstore."):
        level += 1
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)

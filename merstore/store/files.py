"""The two files of a store: which ones lie at a path, whether they may be opened, and opening them."""

import errno
import os
import struct
from pathlib import Path

import lmdb

from merstore import _core
from merstore.errors import CorruptStore, NotAStore, ReadOnlyStore, StoreBusy, StoreFull
from merstore.store import filesystem
from merstore.store.layout import DATABASES
from merstore.store.lmdb_errors import translate

ADDRESS_SPACE = 1 << 40  # sparse: neither memory nor disk is taken
SMALL_SPACE = 1 << 26  # to begin with, where address space is short
MAX_READERS = 1024
LOCK_BYTES = (MAX_READERS + 64) * 64  # of LMDB's lock file: a slot per reader, and a header


def identity(path: Path) -> "tuple[tuple[int, int] | None, tuple[int, int] | None]":
    """Device and inode of both files; None for one that is not there."""

    def of(name: str) -> tuple[int, int] | None:
        try:
            status = os.stat(path / name)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    return of("data.mdb"), of("lock.mdb")


def check(path: Path, create: bool) -> None:
    """Refuse what cannot be a store. The directory of one that is to be created is there then."""
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


def open_lmdb(
    path: Path, *, create: bool, writable: bool, locked: bool, sync: bool, limit: int | None
) -> "lmdb.Environment":
    """The py-lmdb environment at ``path``; ``limit`` is a map size that holds come what may."""
    if locked:
        _make_lock_file(path)
    size = limit or ADDRESS_SPACE
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=size,
                max_dbs=len(DATABASES),
                max_readers=MAX_READERS,
                readonly=not writable,
                lock=locked,
                create=create,
                mode=0o666,
                sync=sync,
                readahead=False,  # only index pages are read through LMDB's own map
            )
        except lmdb.MemoryError:
            # Little is asked for then, since LMDB's map, ours and all else have to share
            # what there is. It grows with the file.
            least = max(SMALL_SPACE, _size(path / "data.mdb") * 5 // 4)
            if limit or size <= least:
                raise StoreFull(
                    f"{path}: the system grants no address space for the store (see `ulimit -v`)"
                ) from None
            size = max(least, min(size // 2, 2 * least))
        except lmdb.Error as error:
            if "already open in this process" in str(error):
                raise StoreBusy(
                    f"{path} is open in this process through py-lmdb itself; LMDB allows one "
                    "environment per process: close that one"
                ) from error
            raise translate(error, path) from error


def _make_lock_file(directory: Path) -> None:
    """LMDB makes its lock file without taking the disk space for it, and dies (SIGBUS) when it
    writes into that on a full disk. So a new one gets its space beforehand.
    """
    path = directory / "lock.mdb"
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
            f"{directory}: no space left on the disk for lock.mdb ({LOCK_BYTES:,} bytes); free some"
        ) from None
    finally:
        os.close(file)


def map_data(path: Path, size: int) -> _core.Map:
    """``data.mdb`` with ``size`` bytes of address space, or less, but all of it."""
    try:
        return _core.Map(path / "data.mdb", size)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise NotAStore(f"{path / 'data.mdb'} cannot be read: {error.strerror}") from error
        raise StoreFull(
            f"{path}: the system grants no address space for the store (see `ulimit -v`)"
        ) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

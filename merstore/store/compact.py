"""``compact``: the store written anew into a file of its own, which then takes the old one's place."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from merstore.errors import CorruptEntry, CorruptStore, StoreBusy, StoreFull
from merstore.store import filesystem, verify
from merstore.store.entry import unpack, unpack_failure
from merstore.store.environment import COMPACTING, Environment
from merstore.store.record import ViewRecord
from merstore.store.sharing import alone, beside
from merstore.store.snapshot import Snapshot
from merstore.store.writer import Writer


def compact(environment: Environment, progress: Callable[[int, int], None] | None) -> None:
    """Needs the store alone: no other process, no other Store or array of this one. Killed at any
    moment, it leaves the old file or the new one.
    """
    alone(environment, lambda: _rewrite(environment.path, progress))


def _rewrite(path: Path, progress: Callable[[int, int], None] | None) -> None:
    target = path / COMPACTING
    with open(path / "lock.mdb", "a+b") as lock:
        _take(lock.fileno(), path)
        shutil.rmtree(target, ignore_errors=True)
        try:
            _write_anew(path, target, progress)
            # The new file is synced. Its name changes hands at once. The lock file knows the old
            # one's transactions: it is emptied before (whoever waits for it opens again) and goes
            # after.
            os.ftruncate(lock.fileno(), 0)
            os.replace(target / "data.mdb", path / "data.mdb")
            (path / "lock.mdb").unlink(missing_ok=True)
            _sync_directory(path)
        finally:
            shutil.rmtree(target, ignore_errors=True)


def _take(lock: int, path: Path) -> None:
    """The lock that LMDB takes to see whether it is the first to open a store: held, others wait in
    their opening.
    """
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0, os.SEEK_SET)
        # another compaction may have put the file away that was opened here
        there = os.path.samestat(os.fstat(lock), os.stat(path / "lock.mdb"))
    except OSError:
        there = False
    if not there:
        raise StoreBusy(f"{path} is open in another process: compact when nobody uses it")


def _write_anew(path: Path, target: Path, progress: Callable[[int, int], None] | None) -> None:
    source = beside(path)
    try:
        snapshot = source.snapshot()
        _refuse_damage(snapshot)
        needed = _copied_bytes(snapshot)
        if filesystem.free_bytes(path) < needed * 1.05 + (1 << 20):
            raise StoreFull(
                f"{path}: compaction needs {needed:,} bytes of free disk for the second copy"
            )
        target.mkdir()
        fresh = Environment(target, create=True, durability="full", map_size=None)
        try:
            _copy(snapshot, fresh, progress)
        finally:
            fresh.shut()
        snapshot.close()
    finally:
        source.shut()


def _refuse_damage(snapshot: Snapshot) -> None:
    """A payload that is not what was written is still known for one in the copy, by its checksum. An
    index entry that is wrong would be wrong for good.
    """
    for problem in verify.structure(snapshot.environment):
        raise CorruptStore(
            f"{snapshot.environment.path}: {problem.message}. Compaction changed nothing; restore the store from a copy"
        )
    for problem in verify.verify(snapshot, "map", None):
        if problem.name and problem.kind in ("index", "locator"):
            raise _refusal(f"{problem.view}/{problem.name}", problem.message)


def _refusal(entry: str, reason: str) -> CorruptEntry:
    return CorruptEntry(
        f"{entry}: {reason}. Compaction stopped and changed nothing: delete the entry (`merstore verify` lists "
        "all such), then compact"
    )


def _copied_bytes(snapshot: Snapshot) -> int:
    return sum(
        ViewRecord.unpack(key.decode(), value).nbytes for key, value in snapshot.scan(b"views")
    )


def _copy(
    snapshot: Snapshot, fresh: Environment, progress: Callable[[int, int], None] | None
) -> None:
    total, done = _copied_bytes(snapshot), 0
    records = {
        key.decode(): ViewRecord.unpack(key.decode(), value)
        for key, value in snapshot.scan(b"views")
    }
    with fresh.transaction() as txn:
        for key, value in snapshot.scan(b"meta"):
            if not key.startswith((b"canary", b"dead/", b"last_txn", b"durability")):
                txn.put(key, value, db=fresh.databases[b"meta"])
        for key, value in snapshot.scan(b"runs"):
            txn.put(key, value, db=fresh.databases[b"runs"])
        for path, record in records.items():
            empty = ViewRecord.unpack(path, record.pack())
            empty.entries = empty.nbytes = empty.blocks = empty.next_block = 0
            empty.last = None
            empty.moves += 1
            txn.put(path.encode(), empty.pack(), db=fresh.databases[b"views"])
    # by view number: index and blocks are then written in the order of their keys
    for path, record in sorted(records.items(), key=lambda item: item[1].number):
        with Writer(fresh, lambda: None, 64 << 20, 1e9) as writer:
            for key, value in snapshot.scan(b"index", record.prefix):
                entry = unpack(value)
                if entry is None:
                    continue
                data = _payload(snapshot, path, record, key, value)
                writer.copy(record, path, key, entry, data)
                done += entry.nbytes
                if progress:
                    progress(done, total)
        with fresh.transaction() as txn:
            views = fresh.databases[b"views"]
            copied = ViewRecord.unpack(path, bytes(txn.get(path.encode(), db=views)))
            copied.failures = 0
            for key, value in snapshot.scan(b"index", record.prefix):
                if unpack_failure("", value) is not None:
                    txn.put(record.prefix + key, value, db=fresh.databases[b"index"])
                    copied.failures += 1
            txn.put(path.encode(), copied.pack(), db=views)


def _payload(
    snapshot: Snapshot, path: str, record: ViewRecord, key: bytes, value: bytes
) -> memoryview:
    entry = unpack(value)
    assert entry is not None
    env = snapshot.environment
    pages = snapshot.pages(record.number)
    page = entry.page if pages is None else pages.get(entry.block, -1)
    offset = page * env.page_bytes + 16 + entry.offset
    if page < 0 or offset + entry.nbytes > env.committed_bytes():
        raise _refusal(f"{path}/{key.decode()}", "its locator points outside the file")
    return memoryview(env.map.payload(offset, entry.nbytes, snapshot))


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

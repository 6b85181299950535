"""``merge``: the entries of several stores in one, each as it lies in its own."""

import contextlib
import heapq
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from merstore import _core
from merstore.errors import (
    CorruptStore,
    MergeConflict,
    MerstoreError,
    SpecMismatch,
    UnknownView,
)
from merstore.store import dtypes, files, verify
from merstore.store.entry import IndexEntry, now, unpack, unpack_failure
from merstore.store.record import ViewRecord
from merstore.store.spec import differences
from merstore.store.store import Store
from merstore.store.writer import BLOCK_BYTES, TABLE_BYTES, _register_run, digest

FAILURES = 10_000  # written in one transaction
_SHOWN = 5  # conflicts in a message

Progress = Callable[[int, int], None]


class Conflict(NamedTuple):
    """A sample of which the stores hold different entries. ``found``: the path of each store that has
    one, and what it has there; the first is the one that ``"keep"`` keeps.
    """

    view: str
    name: str
    found: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.view}/{self.name}: " + " against ".join(
            f"{entry} in {store}" for store, entry in self.found
        )


class Damaged(NamedTuple):
    """An entry that was left where it is, because it is not what was written."""

    store: str
    view: str
    name: str
    message: str


@dataclass
class ViewMerge:
    """What became of one view. ``added`` entries of ``bytes`` of payload and ``failures`` failure
    records came into the target; of ``present`` samples it had what there is.
    """

    view: str
    added: int = 0
    failures: int = 0
    present: int = 0
    bytes: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)


@dataclass
class MergeReport:
    """What became of all views of the sources, by path. ``notes`` is how many of the sources' came in."""

    views: list[ViewMerge] = field(default_factory=list)
    notes: int = 0
    seconds: float = 0.0

    @property
    def added(self) -> int:
        return sum(view.added for view in self.views)

    @property
    def failures(self) -> int:
        return sum(view.failures for view in self.views)

    @property
    def bytes(self) -> int:
        return sum(view.bytes for view in self.views)

    @property
    def conflicts(self) -> list[Conflict]:
        return [each for view in self.views for each in view.conflicts]

    @property
    def damaged(self) -> list[Damaged]:
        return [each for view in self.views for each in view.damaged]


def merge(
    target: Store,
    sources: "Sequence[Store | str | os.PathLike[str]]",
    on_conflict: str = "raise",
    progress: Progress | None = None,
) -> MergeReport:
    """Bring the entries, failure records and notes of ``sources`` into ``target``. Sources are only read.

    Views that the target lacks are created as they are declared. Entries come in the order of their
    names, with dtype, shape, flags, checksum, time and run as they are; no payload is encoded anew.
    What several stores hold alike is one entry; an entry wins over a failure record, of failure
    records the latest wins, of notes the target's, then the first. What is in the target stays.

    on_conflict: where stores hold different entries of a sample, ``"raise"`` refuses to merge
    anything, ``"keep"`` keeps the target's, else the first source's. progress: called with bytes
    copied and bytes in all.

    Every commit is a state to go on from: merged again, only what is not there yet is copied. Two
    programs that write the same samples at the same time may each replace the other's.

    Raises SpecMismatch where a view is declared in different ways, MergeConflict (its ``conflicts``
    are a list of Conflict), before anything is written; NotAStore and CorruptStore for a source that
    cannot be read; what a writer raises.
    """
    started = time.monotonic()
    if on_conflict not in ("raise", "keep"):
        raise MerstoreError(f'on_conflict is "raise" or "keep", not {on_conflict!r}')
    if not sources:
        raise MerstoreError("there is nothing to merge: name the stores to be joined")
    target._writable()
    with contextlib.ExitStack() as opened:
        stores = [
            each if isinstance(each, Store) else opened.enter_context(Store(each))
            for each in sources
        ]
        for store in stores:
            if files.identity(store.path)[0] == files.identity(target.path)[0]:
                raise MerstoreError(f"{store.path} is the target itself: leave it out")
            for problem in verify.structure(store.environment):
                raise CorruptStore(
                    f"{store.path}: {problem.message}. Nothing was merged; restore it from a copy"
                )
        parts = [_Part(store, rank) for rank, store in enumerate(stores, 1)]
        for part in parts:
            part.open_ahead(opened)
        report = _Merge(target, parts, on_conflict == "keep", progress).run()
    report.seconds = time.monotonic() - started
    return report


class _Part:
    """One of the stores, as it was when the merge began. ``rank``: the target's is 0, then the
    sources in their order.
    """

    def __init__(self, store: Store, rank: int) -> None:
        self.path = str(store.path)
        self.rank = rank
        self.snapshot = store.environment.snapshot()
        self.records = {
            key.decode(): ViewRecord.unpack(key.decode(), value)
            for key, value in self.snapshot.scan(b"views")
        }
        # not mapped: a file on another machine's disk may go away, and the system reads ahead
        self.file = store.environment.file("pread")
        self.page_bytes = store.environment.page_bytes
        self.committed = store.environment.committed_bytes()
        self.ahead: int | None = None  # a file descriptor to ask for pages by
        self.asked: set[int] = set()  # blocks

    def open_ahead(self, stack: contextlib.ExitStack) -> None:
        """Have the system read blocks whole: names may come in another order than they were written in."""
        with contextlib.suppress(OSError):
            self.ahead = os.open(Path(self.path) / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self.ahead)

    def payload(self, view: str, entry: IndexEntry) -> "memoryview | str":
        """The bytes of an entry, or what is wrong with them."""
        pages = self.snapshot.pages(self.records[view].number)
        page = entry.page if pages is None else pages.get(entry.block, -1)
        offset = page * self.page_bytes + 16 + entry.offset
        if page < 0 or offset + entry.nbytes > self.committed:
            return _OUTSIDE
        if self.ahead is not None and entry.block not in self.asked:
            self.asked.add(entry.block)
            size = max(BLOCK_BYTES + TABLE_BYTES, entry.offset + entry.nbytes)
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.ahead, page * self.page_bytes, size, os.POSIX_FADV_WILLNEED)
        try:
            data = memoryview(self.file.payload(offset, entry.nbytes, self.snapshot))
        except EOFError:
            return _OUTSIDE
        if digest(data) == entry.checksum:
            return data
        self.snapshot.check()  # no damage, but a writer who does not know of us
        return "its bytes are not those that were written (checksum)"


_DAMAGED = "its index entry is damaged"
_OUTSIDE = "its locator points outside the file"

# What stores have of one sample: index entries, and whose they are, by rank.
_Found = list[tuple[_Part, bytes]]


@dataclass
class _Plan:
    """What is to be done for one view."""

    path: str
    record: ViewRecord  # as declared by the first that has it
    new: bool  # the target lacks it
    done: ViewMerge
    changes: int = 0
    bytes: int = 0


class _Merge:
    def __init__(
        self, target: Store, parts: list[_Part], keep: bool, progress: Progress | None
    ) -> None:
        self.target = target
        self.parts = parts
        self.keep = keep
        self.progress = progress
        self.bytes = self.total = 0
        self.runs: dict[tuple[int, int], int] = {}  # rank and number there: the target's number

    def run(self) -> MergeReport:
        # a snapshot of the target's that is held would keep its map from growing
        plans = self._plans([_Part(self.target, 0), *self.parts])
        conflicts = [each for plan in plans for each in plan.done.conflicts]
        if conflicts and not self.keep:
            raise MergeConflict(_refusal(conflicts), conflicts)
        self.total = sum(plan.bytes for plan in plans)
        for plan in plans:
            if plan.new:
                self._create(plan)
            if plan.changes:
                self._bring(plan)
        notes = self._bring_notes()
        self.target.refresh()
        return MergeReport([plan.done for plan in plans], notes)

    # -- looking at the indexes

    def _plans(self, parts: list[_Part]) -> list[_Plan]:
        paths = sorted({path for part in self.parts for path in part.records})
        records = {path: _declared(path, parts) for path in paths}
        return [self._plan(path, record, parts) for path, record in records.items()]

    def _plan(self, path: str, record: ViewRecord, parts: list[_Part]) -> _Plan:
        plan = _Plan(path, record, path not in parts[0].records, ViewMerge(path))
        for key, found in _joined(parts, path):
            chosen = self._choose(plan.done, key, found)
            if chosen:
                plan.changes += 1
                plan.bytes += _nbytes(chosen[0][1])
        return plan

    def _choose(self, done: ViewMerge, key: bytes, found: _Found) -> _Found:
        """What is to be brought in of one sample: nothing, a failure record, or an entry; of an entry
        all who have it, the one to be preferred first.
        """
        if len(found) == 1 and found[0][0].rank and found[0][1][0] in (_core.TENSOR, _core.FAILURE):
            return found  # most are; whoever brings it looks closer
        tensors: _Found = []
        failures: _Found = []
        for part, value in found:
            if unpack(value) is not None:
                tensors.append((part, value))
            elif unpack_failure("", value) is not None:
                failures.append((part, value))
            else:
                done.damaged.append(_damaged(part, done.view, key, _DAMAGED))
                if part.rank == 0:  # it may have been anything
                    return []
        if len(tensors) > 1:
            content = _content(tensors[0][1])
            if any(_content(value) != content for _, value in tensors):
                entries = tuple((part.path, _told(value)) for part, value in tensors)
                done.conflicts.append(Conflict(done.view, key.decode(), entries))
        elif len(failures) > 1:
            failures = [max(failures, key=lambda one: (_time(one[1]), -one[0].rank))]
        chosen = tensors or failures
        if chosen and chosen[0][0].rank == 0:
            done.present += 1
            return []
        return chosen

    # -- writing

    def _create(self, plan: _Plan) -> None:
        record = plan.record
        aliases = [
            part.records[plan.path].alias for part in self.parts if plan.path in part.records
        ]
        self.target.create_view(
            plan.path,
            dtype=record.dtype,
            shape=record.shape,
            spec=record.spec,
            alias=next(filter(None, aliases), None),
            nonfinite=record.nonfinite,
            zeros=record.zeros,
            exist_ok=True,
        )

    def _bring(self, plan: _Plan) -> None:
        path = plan.path
        record = self.target[path].record
        parts = self.parts if plan.new else [_Part(self.target, 0), *self.parts]
        done = plan.done = ViewMerge(path)  # all over again, with what came meanwhile
        failures: list[tuple[bytes, bytes]] = []
        with self.target.writer(max_seconds=1e9) as writer:
            for key, found in _joined(parts, path):
                chosen = self._choose(done, key, found)
                for part, value in chosen:
                    entry = unpack(value)
                    if entry is None and unpack_failure("", value) is not None:
                        run = self._run(part, int.from_bytes(value[4:8], "little"))
                        failures.append((key, value[:4] + run.to_bytes(4, "little") + value[8:]))
                        break
                    data = part.payload(path, entry) if entry is not None else _DAMAGED
                    if entry is not None and not isinstance(data, str):
                        run = self._run(part, entry.run)
                        if run != entry.run:
                            entry = entry._replace(run=run)
                        writer.copy(record, path, key, entry, data)
                        done.added += 1
                        done.bytes += entry.nbytes
                        break
                    done.damaged.append(_damaged(part, path, key, str(data)))
                if chosen and self.progress:
                    self.bytes += _nbytes(chosen[0][1])
                    self.progress(min(self.bytes, self.total), self.total)
        done.failures = self._bring_failures(path, record.number, failures)

    def _run(self, part: _Part, number: int) -> int:
        """The target's number of the run that wrote an entry of a source: of the same record, if it has
        that, else a new one.
        """
        run = self.runs.get((part.rank, number))
        if run is not None:
            return run
        env = self.target.environment
        record = part.snapshot.get(b"runs", number.to_bytes(4, "big"))
        known = {value: int.from_bytes(key, "big") for key, value in env.snapshot().scan(b"runs")}
        run = known.get(record) if record is not None else env.run
        if run is None:
            with env.transaction() as txn:
                if record is None:  # nobody knows who wrote it; it was us who brought it
                    run = _register_run(env, txn)
                else:
                    meta = env.databases[b"meta"]
                    run = int(bytes(txn.get(b"next_run", db=meta)))
                    txn.put(b"next_run", str(run + 1).encode(), db=meta)
                    txn.put(run.to_bytes(4, "big"), record, db=env.databases[b"runs"])
            if record is None:
                env.run = run
        self.runs[part.rank, number] = run
        return run

    def _bring_failures(self, path: str, number: int, failures: list[tuple[bytes, bytes]]) -> int:
        env = self.target.environment
        views, index, leases = (env.databases[name] for name in (b"views", b"index", b"leases"))
        waiting, brought = iter(failures), 0
        while some := list(islice(waiting, FAILURES)):
            with env.transaction() as txn:
                value = _get(txn, path.encode(), views)
                record = ViewRecord.unpack(path, value) if value is not None else None
                if record is None or record.number != number:
                    raise UnknownView(f"view {path} was dropped while something was merged into it")
                for key, failure in some:
                    where = record.prefix + key
                    there = _get(txn, where, index)
                    if there is None:
                        record.failures += 1
                    elif unpack_failure("", there) is None or _time(there) >= _time(failure):
                        continue  # something better came meanwhile
                    txn.put(where, failure, db=index)
                    txn.delete(where, db=leases)
                    brought += 1
                record.updated = now()
                txn.put(path.encode(), record.pack(), db=views)
        return brought

    def _bring_notes(self) -> int:
        env = self.target.environment
        known = {key for key, _ in env.snapshot().scan(b"meta", values=False)}
        notes: dict[bytes, bytes] = {}
        for part in self.parts:
            for key, value in part.snapshot.scan(b"meta"):
                if b":" in key and key not in known:
                    notes.setdefault(key, value)
        if notes:
            with env.transaction() as txn:
                for key, value in notes.items():
                    txn.put(key, value, db=env.databases[b"meta"], overwrite=False)
        return len(notes)


def _declared(path: str, parts: list[_Part]) -> ViewRecord:
    """The view's record where all agree on what it is."""
    (first, record), *others = [
        (part, part.records[path]) for part in parts if path in part.records
    ]
    for other, found in others:
        lines = differences(record.spec, found.spec)
        for what in ("dtype", "shape", "nonfinite", "zeros"):
            one, two = getattr(record, what), getattr(found, what)
            lines += [f"{what}: {one} against {two}"] if one != two else []
        if lines or record.fingerprint != found.fingerprint:
            raise SpecMismatch(
                f"{path} is declared in one way in {first.path} ({record.fingerprint[:12]}) and in another in "
                f"{other.path} ({found.fingerprint[:12]}): {'; '.join(lines)}. Nothing was merged; leave one of the "
                "stores out, or drop the view from it"
            )
    return record


def _joined(parts: list[_Part], path: str) -> Iterator[tuple[bytes, _Found]]:
    """The samples of a view in all stores, in the order of their names."""
    scans = [_scan(part, path) for part in parts if path in part.records]
    last = b""
    found: _Found = []
    for key, _, part, value in heapq.merge(*scans):
        if key != last:
            if found:
                yield last, found
            last, found = key, []
        found.append((part, value))
    if found:
        yield last, found


def _scan(part: _Part, path: str) -> Iterator[tuple[bytes, int, _Part, bytes]]:
    for key, value in part.snapshot.scan(b"index", part.records[path].prefix):
        yield key, part.rank, part, value  # sorted by key and rank; no two have both alike


def _damaged(part: _Part, view: str, key: bytes, message: str) -> Damaged:
    return Damaged(part.path, view, key.decode(errors="replace"), message)


def _content(value: bytes) -> tuple[bytes, bytes, bytes]:
    """What of an index entry says what it is: dtype and rank, checksum, bytes and shape."""
    return value[1:3], value[16:24], value[44:72]


def _nbytes(value: bytes) -> int:
    return int.from_bytes(value[44:48], "little")


def _told(value: bytes) -> str:
    entry = unpack(value)
    assert entry is not None
    shape = "x".join(map(str, entry.shape))
    return " ".join(filter(None, [dtypes.NAMES[entry.dtype], shape, f"{entry.checksum:016x}"]))


def _time(value: bytes) -> int:
    return int.from_bytes(value[8:16], "little", signed=True)


def _refusal(conflicts: list[Conflict]) -> str:
    shown = "; ".join(map(str, conflicts[:_SHOWN]))
    more = f"; and {len(conflicts) - _SHOWN:,} more" if len(conflicts) > _SHOWN else ""
    return (
        f"of {len(conflicts):,} samples there are different entries: {shown}{more}. Nothing was merged; keep the "
        "target's or else the first source's with on_conflict=\"keep\" (--keep), or delete one of them"
    )


def _get(txn: Any, key: bytes, database: Any) -> bytes | None:
    value = txn.get(key, db=database)
    return bytes(value) if value is not None else None

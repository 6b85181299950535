"""``verify``: every payload against its checksum, every index entry against the block it points
into, every counter against a count.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import lmdb.verify

from merstore import _core
from merstore.errors import CorruptStore
from merstore.store import dtypes
from merstore.store.entry import IndexEntry, unpack, unpack_failure
from merstore.store.environment import Environment
from merstore.store.record import ViewRecord
from merstore.store.snapshot import Snapshot
from merstore.store.spec import fingerprint
from merstore.store.writer import digest


class Problem(NamedTuple):
    """Something that is not as it must be. ``name`` is empty where it concerns a whole view.

    Kinds: ``checksum`` (the payload changed), ``locator`` (the index points outside the file or
    into the wrong place), ``block`` (a block's header is damaged, or nobody needs the block),
    ``index`` (an entry that is neither tensor nor failure), ``counter``, ``orphan`` (records of no
    view), ``record`` (of a view or of the store), ``structure`` (LMDB's own pages).
    """

    view: str
    name: str
    kind: str
    message: str


def structure(environment: Environment) -> list[Problem]:
    """LMDB's own pages: every one reachable once, keys in order, free and live pages apart. py-lmdb's
    offline verifier looks at the file without LMDB, so that no damage can crash it."""
    # nobody changes pages meanwhile
    with environment.frozen() if environment.writable else contextlib.nullcontext():
        try:
            found = lmdb.verify.verify(str(environment.path))  # type: ignore[no-untyped-call]
        except lmdb.verify.VerifyError as error:
            found = [str(error)]
    return [Problem("", "", "structure", text) for text in found]


def verify(
    snapshot: Snapshot, io: str, progress: Callable[[int, int], None] | None
) -> list[Problem]:
    problems: list[Problem] = []
    records: dict[str, ViewRecord] = {}
    runs = {int.from_bytes(key, "big") for key, _ in snapshot.scan(b"runs", values=False)}
    for key, value in snapshot.scan(b"views"):
        path = key.decode()
        try:
            records[path] = ViewRecord.unpack(path, value)
        except CorruptStore as error:
            problems.append(Problem(path, "", "record", str(error)))
    total = sum(record.nbytes for record in records.values())
    done = 0
    for path, record in records.items():

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress:
                progress(done, total)

        problems += _View(snapshot, io, path, record, runs).problems(advance)
    numbers = {record.number for record in records.values()}
    problems += _orphans(snapshot, numbers)
    problems += _next_number(snapshot, b"next_view", numbers)
    problems += _next_number(snapshot, b"next_run", runs)
    return problems


def _next_number(snapshot: Snapshot, key: bytes, given: set[int]) -> list[Problem]:
    """A number must never be given twice."""
    value = snapshot.get(b"meta", key) or b""
    if value.isdigit() and int(value) > max(given, default=0):
        return []
    return [
        Problem("", "", "record", f"the store's own record {key.decode()!r} is damaged: {value!r}")
    ]


# name, dtype, shape, flags, checksum, offset, bytes
_Record = tuple[bytes, int, tuple[int, ...], int, int, int, int]


class _View:
    def __init__(
        self, snapshot: Snapshot, io: str, path: str, record: ViewRecord, runs: set[int]
    ) -> None:
        self.snapshot = snapshot
        self.path = path
        self.record = record
        self.runs = runs
        self.env = snapshot.environment
        self.file = self.env.file(io)
        self.pages = snapshot.pages(record.number)
        self.committed = self.env.committed_bytes()
        number = record.number
        self.blocks = {
            int.from_bytes(key[4:], "big")
            for key, _ in snapshot.between(b"blocks", number, number + 1)
        }
        self.dead = dict(snapshot.scan(b"meta", f"dead/{number:08x}/".encode()))
        self.found: list[Problem] = []
        self.damaged = 0  # index entries that say neither what they count for nor where it lies

    def add(self, key: bytes, kind: str, message: str) -> None:
        self.found.append(Problem(self.path, key.decode(errors="replace"), kind, message))

    def problems(self, advance: Callable[[int], None]) -> list[Problem]:
        if fingerprint(self.record.spec) != self.record.fingerprint:
            self.add(b"", "record", "the spec is not the one that the fingerprint was taken of")
        tensors: list[tuple[int, int, bytes, bytes]] = []
        failures = nbytes = 0
        for key, value in self.snapshot.scan(b"index", self.record.prefix):
            entry = unpack(value)
            if entry is not None:
                tensors.append((entry.block, entry.offset, key, value))
                nbytes += entry.nbytes
            elif unpack_failure("", value) is not None:
                failures += 1
            else:
                self.damaged += 1
                self.add(
                    key,
                    "index",
                    "the index entry is damaged: delete the entry and compute or import it again",
                )
        tensors.sort()
        for block, group in groupby(tensors, itemgetter(0)):
            entries = [(key, entry) for _, _, key, value in group if (entry := unpack(value))]
            self.block(block, entries, advance)
        self.unneeded({block for block, _, _, _ in tensors})
        counted = (len(tensors), failures, nbytes, len(self.blocks))
        record = self.record
        claimed = (record.entries, record.failures, record.nbytes, record.blocks)
        if counted != claimed and not self.damaged:
            self.add(
                b"",
                "counter",
                f"entries, failures, bytes, blocks are {counted}, the view's record says {claimed}",
            )
        return self.found

    def unneeded(self, needed: set[int]) -> None:
        """Blocks that no entry points into, and counts of dead entries in blocks that are not there."""
        for block in sorted(self.blocks - needed):
            self.add(
                b"", "block", f"block {block} holds nothing alive; `merstore compact` takes it away"
            )
        blocks = {f"{block:016x}".encode() for block in self.blocks}
        for key in sorted(self.dead.keys() - blocks):
            self.add(
                b"", "counter", f"dead entries are counted for block {key.decode()}, which is gone"
            )

    def block(
        self, number: int, entries: list[tuple[bytes, IndexEntry]], advance: Callable[[int], None]
    ) -> None:
        """One block in one piece, then its entries in the order in which they lie."""
        # the page that most entries give: one that differs is itself what is wrong
        ((common, _),) = Counter(entry.page for _, entry in entries).most_common(1)
        page = common if self.pages is None else self.pages.get(number, -1)
        content = self.content(number, page)
        before = len(self.found)
        for key, entry in entries:
            advance(entry.nbytes)
            if entry.run not in self.runs:
                self.add(
                    key, "index", f"it was written by run {entry.run}, of which nothing is known"
                )
            if number not in self.blocks:
                self.add(key, "locator", f"block {number}, which should hold it, is not there")
            elif self.pages is None and entry.page != page:
                self.add(
                    key, "locator", f"block {number} is at page {page}, the entry says {entry.page}"
                )
            elif isinstance(content, str):
                self.unread(key, entry, page, f"block {number}: {content}")
            else:
                self.entry(key, entry, *content)
        if len(self.found) == before and not self.damaged and not isinstance(content, str):
            self.count_dead(number, entries, content[1])

    def content(self, number: int, page: int) -> "tuple[memoryview, set[_Record]] | str":
        """The block's value and the records of its table; or what is wrong with it."""
        start = page * self.env.page_bytes + 16
        if page < 0 or start + 64 > self.committed:
            return "its page lies outside the file"
        try:
            head = bytes(memoryview(self.file.payload(start, 64, self.snapshot)))
            size = int.from_bytes(head[32:40], "little")
            if head[:8] != b"MERBLOCK" or start + size > self.committed:
                return "no block header where the index points"
            value = memoryview(self.file.payload(start, size, self.snapshot))
        except EOFError:
            return "its page lies outside the file"
        content = _core.read_block(value)
        if content is None:
            return "its header contradicts itself"
        header, records = content
        signed = bytearray(value[: 64 + header["table_bytes"]])
        signed[56:64] = bytes(8)
        if digest(signed) != header["checksum"]:
            return "its header is damaged (checksum)"
        if (header["view"], header["block"]) != (self.record.number, number):
            return f"it is block {header['block']} of view number {header['view']}"
        return value, set(records)

    def entry(
        self, key: bytes, entry: IndexEntry, value: memoryview, records: set[_Record]
    ) -> None:
        claimed = (
            key,
            entry.dtype,
            entry.shape,
            entry.flags,
            entry.checksum,
            entry.offset,
            entry.nbytes,
        )
        if claimed not in records:
            self.add(key, "locator", f"block {entry.block} does not hold it as the index says")
        elif digest(value[entry.offset : entry.offset + entry.nbytes]) != entry.checksum:
            self.add(
                key,
                "checksum",
                f"the {dtypes.NAMES[entry.dtype]} {entry.shape} is not what was written: "
                "delete it and compute or import it again",
            )

    def unread(self, key: bytes, entry: IndexEntry, page: int, reason: str) -> None:
        """An entry of a block whose header says nothing: by its locator alone."""
        start = page * self.env.page_bytes + 16 + entry.offset
        intact = False
        if page >= 0 and start + entry.nbytes <= self.committed:
            with contextlib.suppress(EOFError):
                payload = self.file.payload(start, entry.nbytes, self.snapshot)
                intact = digest(payload) == entry.checksum
        advice = (
            "the entry itself is intact, `merstore compact` writes the block anew"
            if intact
            else "the entry is not what was written: run `merstore compact`, then delete it and "
            "compute or import it again"
        )
        self.add(key, "block", f"{reason}; {advice}")

    def count_dead(
        self, number: int, entries: list[tuple[bytes, IndexEntry]], records: set[_Record]
    ) -> None:
        live = sum(entry.nbytes for _, entry in entries)
        dead = len(records) - len(entries), sum(record[6] for record in records) - live
        counted = self.dead.get(f"{number:016x}".encode(), b"0 0")
        if b"%d %d" % dead != counted:
            self.add(
                b"",
                "counter",
                f"block {number} has {dead[0]} dead entries of {dead[1]:,} bytes, the store counts "
                f"{counted.decode(errors='replace')}; `merstore compact` counts anew",
            )


def _orphans(snapshot: Snapshot, numbers: set[int]) -> list[Problem]:
    """Index entries and blocks of views that are not there (a drop that was killed): harmless,
    `compact` takes them away.
    """
    found = []
    for database in (b"index", b"blocks"):
        seen: dict[int, int] = {}
        start = 0
        for number in sorted(numbers) + [1 << 32]:
            for key, _ in snapshot.between(database, start, number):
                orphan = int.from_bytes(key[:4], "big")
                seen[orphan] = seen.get(orphan, 0) + 1
            start = number + 1
        found += [
            Problem(
                "",
                "",
                "orphan",
                f"{count} {database.decode()} records of view number {number}, which is gone; run `merstore compact`",
            )
            for number, count in seen.items()
        ]
    return found

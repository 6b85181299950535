"""``verify``: every payload against its checksum, every index entry against the block it points
into, every counter against a count.
"""

import contextlib
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import lmdb.verify

from merstore import _core
from merstore.errors import CorruptStore
from merstore.store import dtypes
from merstore.store.entry import IndexEntry, unpack, unpack_failure
from merstore.store.environment import Environment, Snapshot
from merstore.store.record import ViewRecord
from merstore.store.writer import digest


class Problem(NamedTuple):
    """Something that is not as it must be. ``name`` is empty where it concerns a whole view.

    Kinds: ``checksum`` (the payload changed), ``locator`` (the index points outside the file or
    into the wrong place), ``block`` (a block's header is damaged), ``index`` (an entry that is
    neither tensor nor failure), ``counter``, ``orphan`` (records of no view), ``record``,
    ``structure`` (LMDB's own pages).
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

        problems += _View(snapshot, io, path, record).problems(advance)
    problems += _orphans(snapshot, {record.number for record in records.values()})
    return problems


class _View:
    def __init__(self, snapshot: Snapshot, io: str, path: str, record: ViewRecord) -> None:
        self.snapshot = snapshot
        self.path = path
        self.record = record
        self.env = snapshot.environment
        self.file = self.env.file(io)
        self.pages = snapshot.pages(record.number)
        self.committed = self.env.committed_bytes()
        self.found: list[Problem] = []

    def add(self, key: bytes, kind: str, message: str) -> None:
        self.found.append(Problem(self.path, key.decode(errors="replace"), kind, message))

    def problems(self, advance: Callable[[int], None]) -> list[Problem]:
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
                self.add(
                    key,
                    "index",
                    "the index entry is damaged: delete the entry and compute or import it again",
                )
        tensors.sort()
        for block, group in groupby(tensors, itemgetter(0)):
            self.block(
                block,
                [(key, entry) for _, _, key, value in group if (entry := unpack(value))],
                advance,
            )
        counted = (len(tensors), failures, nbytes)
        claimed = (self.record.entries, self.record.failures, self.record.nbytes)
        if counted != claimed:
            self.add(
                b"",
                "counter",
                f"entries, failures, bytes are {counted}, the view's record says {claimed}",
            )
        return self.found

    def block(
        self, number: int, entries: list[tuple[bytes, IndexEntry]], advance: Callable[[int], None]
    ) -> None:
        """One block in one piece, then its entries in the order in which they lie."""
        page = entries[0][1].page if self.pages is None else self.pages.get(number, -1)
        table = self.table(number, page)
        for key, entry in entries:
            advance(entry.nbytes)
            if isinstance(table, str):
                self.add(key, "block", f"block {number}: {table}")
            elif self.pages is None and entry.page != page:
                self.add(
                    key, "locator", f"block {number} is at page {page}, the entry says {entry.page}"
                )
            else:
                self.entry(key, entry, table)

    def table(self, number: int, page: int) -> "dict[bytes, list[Any]] | str":
        """The block's records by name, with the block's offset in the file under the empty name; or
        what is wrong with it.
        """
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
        table: dict[bytes, list[Any]] = {b"": [value]}
        for record in records:
            table.setdefault(record[0], []).append(record)
        return table

    def entry(self, key: bytes, entry: IndexEntry, table: dict[bytes, list[Any]]) -> None:
        claimed = (entry.dtype, entry.shape, entry.checksum, entry.offset, entry.nbytes)
        stored = [(r[1], r[2], r[4], r[5], r[6]) for r in table.get(key, [])]
        if claimed not in stored:
            self.add(key, "locator", f"block {entry.block} does not hold it as the index says")
            return
        payload = table[b""][0][entry.offset : entry.offset + entry.nbytes]
        if digest(payload) != entry.checksum:
            name = dtypes.NAMES[entry.dtype]
            self.add(
                key,
                "checksum",
                f"the {name} {entry.shape} is not what was written: delete it and compute or import it again",
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

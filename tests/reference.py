"""A second reader of the format, written from docs/format.md alone: NumPy, py-lmdb and plain file reads.

It shares no code with merstore and is as slow as it is straightforward. The tests hold the store against
it: what the store wrote, this reads; and ``check`` tries every MUST of the page on the bytes as they lie.
"""

import hashlib
import json
import re
import shutil
import struct
import tempfile
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lmdb
import numpy as np
import xxhash

DATABASES = ("meta", "views", "index", "blocks", "runs", "leases")

# bfloat16 is not among NumPy's: its bits are read as uint16
CODES = {
    1: ("float16", "<f2"),
    2: ("bfloat16", "<u2"),
    3: ("float32", "<f4"),
    4: ("float64", "<f8"),
    5: ("int8", "i1"),
    6: ("int16", "<i2"),
    7: ("int32", "<i4"),
    8: ("int64", "<i8"),
    9: ("uint8", "u1"),
    10: ("uint16", "<u2"),
    11: ("uint32", "<u4"),
    12: ("uint64", "<u8"),
    13: ("bool", "?"),
}

ENTRY = struct.Struct("<BBBBIqQQQII6I")
HEADER = struct.Struct("<8sIIIIQQIIqQ")
RECORD = struct.Struct("<QIBBHB3s")
VIEW_PATH = re.compile(r"[^/@]+/[^/@]+(@[^/@]+)?/[^/@]+")
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Entry:
    """One value of `index`."""

    status: int
    dtype: int
    shape: tuple[int, ...]
    flags: int
    run: int
    time: int
    checksum: int
    block: int
    page: int
    offset: int
    nbytes: int
    unused: tuple[int, ...]
    failure: dict[str, Any] | None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        (status, dtype, ndim, flags, run, time, checksum, block, page, offset, nbytes, *shape) = (
            ENTRY.unpack_from(raw)
        )
        failure = json.loads(raw[ENTRY.size :]) if status == 2 else None
        return cls(
            status,
            dtype,
            tuple(shape[:ndim]),
            flags,
            run,
            time,
            checksum,
            block,
            page,
            offset,
            nbytes,
            tuple(shape[ndim:]),
            failure,
        )


@dataclass(frozen=True)
class Record:
    """One row of a block's table."""

    name: str
    checksum: int
    offset: int
    dtype: int
    shape: tuple[int, ...]
    flags: int
    padding: bytes

    @property
    def nbytes(self) -> int:
        return size(self.dtype, self.shape)


@dataclass(frozen=True)
class Block:
    """One value of `blocks`, whole."""

    raw: bytes
    magic: bytes
    version: int
    header_bytes: int
    view: int
    number: int
    value_bytes: int
    run: int
    table_bytes: int
    time: int
    checksum: int
    records: tuple[Record, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        magic, version, header, view, count, number, total, run, table, time, checksum = (
            HEADER.unpack_from(raw)
        )
        records = []
        at = HEADER.size
        for _ in range(count):
            digest, offset, dtype, ndim, name_bytes, flags, padding = RECORD.unpack_from(raw, at)
            at += RECORD.size
            shape = struct.unpack_from(f"<{ndim}I", raw, at)
            at += 4 * ndim
            name = raw[at : at + name_bytes].decode()
            at += name_bytes
            records.append(Record(name, digest, offset, dtype, shape, flags, padding))
        assert at == HEADER.size + table, "the table's records do not add up to its size"
        return cls(
            raw,
            magic,
            version,
            header,
            view,
            number,
            total,
            run,
            table,
            time,
            checksum,
            tuple(records),
        )

    def payload(self, offset: int, nbytes: int) -> bytes:
        assert self.header_bytes <= offset <= offset + nbytes <= len(self.raw)
        return self.raw[offset : offset + nbytes]


def size(dtype: int, shape: tuple[int, ...]) -> int:
    nbytes = np.dtype(CODES[dtype][1]).itemsize
    for n in shape:
        nbytes *= n
    return nbytes


def to_array(payload: bytes, dtype: int, shape: tuple[int, ...]) -> np.ndarray:
    """The array as stored; bfloat16 as its bits in uint16."""
    return np.frombuffer(payload, dtype=CODES[dtype][1]).reshape(shape)


def flags_of(array: np.ndarray, dtype: int) -> int:
    """The flags that docs/format.md asks for."""
    name = CODES[dtype][0]
    if not name.endswith(("float16", "float32", "float64")):
        return 0
    if name == "bfloat16":
        array = (array.astype("<u4") << np.uint32(16)).view("<f4")
    flags = 0
    if not np.isfinite(array).all():
        flags |= 1
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
    if (rows == 0).all(axis=1).any():
        flags |= 2
    return flags


class Reference:
    """A store as docs/format.md describes it, read without merstore."""

    def __init__(self, path: Path | str) -> None:
        directory = Path(path)
        self.env = lmdb.open(str(directory), readonly=True, lock=False, max_dbs=len(DATABASES))
        self.file = (directory / "data.mdb").open("rb")
        self.dbs = {name: self.env.open_db(name.encode(), create=False) for name in DATABASES}
        self.page_size: int = self.env.stat()["psize"]
        self.scratch: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def copy(cls, path: Path | str) -> Self:
        """Of a copy of data.mdb: LMDB does not let a process open a file twice, and the store under
        test is usually open.
        """
        scratch = tempfile.TemporaryDirectory()
        shutil.copyfile(Path(path) / "data.mdb", Path(scratch.name) / "data.mdb")
        reader = cls(scratch.name)
        reader.scratch = scratch
        return reader

    def close(self) -> None:
        self.file.close()
        self.env.close()
        if self.scratch:
            self.scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def items(self, database: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys (less their prefix) and values of a database, in order."""
        with self.env.begin(db=self.dbs[database]) as txn, txn.cursor() as cursor:
            found = cursor.set_range(prefix) if prefix else cursor.first()
            while found and (key := cursor.key()).startswith(prefix):
                yield key[len(prefix) :], cursor.value()
                found = cursor.next()

    # ---- what a store holds

    def meta(self) -> dict[str, bytes]:
        return {key.decode("ascii"): value for key, value in self.items("meta")}

    def views(self) -> dict[str, dict[str, Any]]:
        return {key.decode(): json.loads(value) for key, value in self.items("views")}

    def runs(self) -> dict[int, dict[str, Any]]:
        return {int.from_bytes(key): json.loads(value) for key, value in self.items("runs")}

    def leases(self, view: str) -> dict[str, dict[str, Any]]:
        prefix = self.prefix(view)
        return {key.decode(): json.loads(value) for key, value in self.items("leases", prefix)}

    def prefix(self, view: str) -> bytes:
        number: int = self.views()[view]["number"]
        return number.to_bytes(4)

    def index(self, view: str) -> dict[str, Entry]:
        """Every entry, failures too, in byte order of the names."""
        items = self.items("index", self.prefix(view))
        return {key.decode(): Entry.parse(value) for key, value in items}

    def blocks(self, view: str) -> dict[int, Block]:
        items = self.items("blocks", self.prefix(view))
        return {int.from_bytes(key): Block.parse(value) for key, value in items}

    def failures(self, view: str) -> dict[str, dict[str, Any]]:
        return {
            name: entry.failure
            for name, entry in self.index(view).items()
            if entry.failure is not None
        }

    def arrays(self, view: str) -> dict[str, np.ndarray]:
        """Every tensor of a view, its checksum compared, by the way that is valid for this file."""
        read = self.by_locator if self.locators_valid() else self.by_block(view)
        found = {}
        for name, entry in self.index(view).items():
            if entry.status == 1:
                payload = read(entry)
                assert xxhash.xxh3_64_intdigest(payload) == entry.checksum, name
                found[name] = to_array(payload, entry.dtype, entry.shape)
        return found

    # ---- the two ways to a payload

    def by_locator(self, entry: Entry) -> bytes:
        """Straight from data.mdb."""
        self.file.seek(entry.page * self.page_size + 16 + entry.offset)
        payload = self.file.read(entry.nbytes)
        assert len(payload) == entry.nbytes, "the file ends inside a payload"
        return payload

    def by_block(self, view: str) -> Any:
        """Through `blocks`: slower, and right in any copy of the environment."""
        blocks = self.blocks(view)
        return lambda entry: blocks[entry.block].payload(entry.offset, entry.nbytes)

    def locators_valid(self) -> bool:
        info, meta = self.env.info(), self.meta()
        length = Path(self.file.name).stat().st_size
        assert length >= (info["last_pgno"] + 1) * self.page_size, "the file was cut short"
        self.file.seek(int(meta["canary_page"]) * self.page_size + 16)
        canary = self.file.read(4080)
        return canary == meta["canary"] and info["last_txnid"] >= int(meta["last_txn"])

    def rebuild(self, view: str) -> dict[str, np.ndarray]:
        """The tensors by the blocks alone: in order of block number, later records of a name win."""
        found = {}
        for _, block in sorted(self.blocks(view).items()):
            for record in block.records:
                payload = block.payload(record.offset, record.nbytes)
                found[record.name] = to_array(payload, record.dtype, record.shape)
        return found

    # ---- every MUST

    def check(self) -> None:
        """Raises AssertionError where the bytes are not as docs/format.md says."""
        meta, views, runs = self.meta(), self.views(), self.runs()
        self._check_meta(meta)
        numbers = [view["number"] for view in views.values()]
        assert len(set(numbers)) == len(numbers)
        assert all(1 <= number < int(meta["next_view"]) for number in numbers)
        assert all(1 <= number < int(meta["next_run"]) for number in runs)
        for database in ("index", "blocks", "leases"):
            used = {int.from_bytes(key[:4]) for key, _ in self.items(database)}
            assert used <= set(numbers), f"{database} holds a view that is not there"

        for run in runs.values():
            assert run.keys() >= {"tool", "host", "pid", "command", "started"}
        for _, value in self.items("leases"):
            lease = json.loads(value)
            assert lease.keys() >= {
                "owner",
                "host",
                "boot",
                "pid",
                "started",
                "seconds",
                "deadline",
            }
        dead_on_file = {key: value for key, value in meta.items() if key.startswith("dead/")}
        dead_by_count: dict[str, bytes] = {}
        for path, view in views.items():
            self._check_view(path, view)
            dead_by_count |= self._check_entries(path, view, runs)
        assert dead_on_file == dead_by_count

    def _check_meta(self, meta: dict[str, bytes]) -> None:
        assert meta["format"] == b"1"
        assert str(uuid.UUID(meta["uuid"].decode())) == meta["uuid"].decode()
        assert meta["creator"]
        assert int(meta["created"]) > 0
        assert meta["canary"] == b"MERCANRY" + bytes(4072)
        assert meta.get("durability") in (None, b"fast")
        assert self.page_size == 4096

    def _check_view(self, path: str, view: dict[str, Any]) -> None:
        assert VIEW_PATH.fullmatch(path)
        assert all(SEGMENT.fullmatch(segment) for segment in re.split("[/@]", path))
        assert len(path.encode()) <= 400
        assert view["dtype"] in {name for name, _ in CODES.values()}
        first, *rest = view["shape"] or [1]
        assert first is None or first > 0
        assert all(n > 0 for n in rest)
        canonical = json.dumps(
            view["spec"],
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )
        assert hashlib.sha256(canonical.encode()).hexdigest() == view["fingerprint"]
        assert view["alias"] is None or isinstance(view["alias"], str)
        assert {view["nonfinite"], view["zeros"]} <= {"refuse", "flag"}
        assert 0 < view["created"] <= view["updated"]

    def _check_entries(
        self, path: str, view: dict[str, Any], runs: dict[int, Any]
    ) -> dict[str, bytes]:
        """Returns the `dead/` records that this view should have."""
        index, blocks = self.index(path), self.blocks(path)
        valid = self.locators_valid()
        live: dict[int, dict[int, Entry]] = {number: {} for number in blocks}
        last = {
            record.name: (number, record.offset)
            for number, block in sorted(blocks.items())
            for record in block.records
        }
        for name, entry in index.items():
            assert 1 <= len(name.encode()) <= 400, name
            assert "/" not in name
            assert not any(unicodedata.category(c) == "Cc" for c in name)
            assert entry.run in runs, name
            if entry.status == 2:
                self._check_failure(entry)
                continue
            assert entry.status == 1
            assert entry.failure is None
            assert len(entry.shape) <= 6
            assert not any(entry.unused)
            assert 0 < entry.nbytes == size(entry.dtype, entry.shape)
            block = blocks[entry.block]
            payload = block.payload(entry.offset, entry.nbytes)
            assert xxhash.xxh3_64_intdigest(payload) == entry.checksum, name
            assert entry.flags == flags_of(to_array(payload, entry.dtype, entry.shape), entry.dtype)
            if valid:
                assert self.by_locator(entry) == payload, name
                self._check_page(entry)
            assert entry.offset not in live[entry.block], "two entries share a payload"
            live[entry.block][entry.offset] = entry
            assert last[name] == (entry.block, entry.offset), "a dead record comes after this one"
            (record,) = (r for r in block.records if r.offset == entry.offset)
            assert (record.name, record.checksum, record.dtype, record.shape, record.flags) == (
                name,
                entry.checksum,
                entry.dtype,
                entry.shape,
                entry.flags,
            )

        dead = {}
        for number, block in blocks.items():
            self._check_block(block, view["number"], number, runs)
            assert live[number], f"block {number} of {path} has nobody alive"
            gone = [r for r in block.records if r.offset not in live[number]]
            if gone:
                key = f"dead/{view['number']:08x}/{number:016x}"
                dead[key] = f"{len(gone)} {sum(r.nbytes for r in gone)}".encode()

        tensors = [entry for entry in index.values() if entry.status == 1]
        assert view["entries"] == len(tensors)
        assert view["failures"] == len(index) - len(tensors)
        assert view["bytes"] == sum(entry.nbytes for entry in tensors)
        assert view["blocks"] == len(blocks)
        assert all(number < view["next_block"] for number in blocks)
        return dead

    def _check_failure(self, entry: Entry) -> None:
        assert entry.failure is not None
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,39}", entry.failure["kind"])
        assert len(entry.failure["message"].encode()) <= 500
        assert entry.failure["attempts"] >= 1
        numbers = (entry.dtype, entry.flags, entry.checksum, entry.block, entry.page)
        assert not any((*numbers, entry.offset, entry.nbytes, *entry.shape, *entry.unused))

    def _check_page(self, entry: Entry) -> None:
        """LMDB's header of the page at which the entry's block begins."""
        self.file.seek(entry.page * self.page_size)
        number, _, flags, _ = struct.unpack("<QHHI", self.file.read(16))
        assert number == entry.page
        assert flags & 0x04, "not an overflow page"

    def _check_block(self, block: Block, view: int, number: int, runs: dict[int, Any]) -> None:
        raw = block.raw
        assert (block.magic, block.version) == (b"MERBLOCK", 1)
        assert (block.view, block.number) == (view, number)
        assert block.value_bytes == len(raw)
        assert block.run in runs
        table_end = HEADER.size + block.table_bytes
        expected = 4080
        while expected < table_end:
            expected += 4096
        assert block.header_bytes == expected
        hashed = bytearray(raw[:table_end])
        hashed[56:64] = bytes(8)
        assert xxhash.xxh3_64_intdigest(bytes(hashed)) == block.checksum
        assert not any(raw[table_end : block.header_bytes])
        end = block.header_bytes
        for i, record in enumerate(sorted(block.records, key=lambda r: r.offset)):
            assert not any(record.padding)
            assert (16 + record.offset) % 64 == 0
            assert record.offset >= end, "payloads overlap"
            assert i > 0 or record.offset == block.header_bytes
            assert not any(raw[end : record.offset])
            end = record.offset + record.nbytes
            payload = block.payload(record.offset, record.nbytes)
            assert xxhash.xxh3_64_intdigest(payload) == record.checksum
        assert not any(raw[end:])

"""The C core from Python: what lives as long as what, and that nothing given to it leads outside of memory."""

import os
import struct
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from reference import Block
from strategies import DTYPES, bits

from merstore import _core
from merstore.store.dtypes import CODES
from merstore.store.entry import IndexEntry, pack_failure

PAGES = 8
FLOAT32 = CODES["float32"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of float32 numbers, each its own position."""
    np.arange(PAGES * 1024, dtype="f4").tofile(tmp_path / "data")
    return tmp_path / "data"


class Owner:
    """Something that can be seen to be gone."""


class TestMap:
    def test_a_payload_is_a_read_only_view(self, path: Path) -> None:
        mapped = _core.Map(path, 1 << 30)
        assert (mapped.mapped, mapped.reserved, mapped.size()) == (True, 1 << 30, PAGES * 4096)
        payload = memoryview(mapped.payload(4096, 8, None))
        assert payload.readonly
        assert np.frombuffer(payload, "f4").tolist() == [1024, 1025]

    def test_unmapped_it_is_a_copy(self, path: Path) -> None:
        unmapped = _core.Map(path, 0)
        assert not unmapped.mapped
        assert unmapped.payload(4096, 8, None) == struct.pack("ff", 1024, 1025)

    @pytest.mark.parametrize("reserve", [0, 1 << 30])
    def test_nothing_is_read_beyond_the_end(self, path: Path, reserve: int) -> None:
        file = _core.Map(path, reserve)
        assert len(bytes(memoryview(file.payload(PAGES * 4096 - 4, 4, None)))) == 4
        for offset, nbytes in (
            (PAGES * 4096 - 4, 5),
            (PAGES * 4096, 1),
            (1 << 62, 1),
            (0, 1 << 62),
        ):
            with pytest.raises(EOFError):
                file.payload(offset, nbytes, None)
        with path.open("r+b") as cut:
            cut.truncate(4096)
        with pytest.raises(EOFError):
            file.payload(4096, 1, None)

    def test_what_looks_at_a_payload_keeps_map_and_owner(self, path: Path) -> None:
        owner = Owner()
        gone = weakref.ref(owner)
        array = np.frombuffer(memoryview(_core.Map(path, 1 << 30).payload(4096, 4096, owner)), "f4")
        part = array[::2].reshape(2, -1)
        del owner, array
        assert gone() is not None
        assert part[1, 0] == 1024 + 512
        del part
        assert gone() is None

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            _core.Map(tmp_path / "none", 1 << 20)
        assert caught.value.filename == tmp_path / "none"


def entry(position: int, length: int, page: int = 0, dtype: int = FLOAT32) -> bytes:
    """``length`` rows of two numbers that begin with number ``position`` of a page."""
    return IndexEntry(dtype, 0, 1, 0, 0, 5, page, 4 * position - 16, 8 * length, (length, 2)).pack()


def resolved(values: list[bytes | None], **changes: Any) -> _core.Slots:
    slots = _core.Slots(len(values))
    rule = {
        "page_bytes": 4096,
        "file_bytes": PAGES * 4096,
        "row_elements": 2,
        "ragged": True,
        "pages": None,
    }
    assert slots.resolve(list(range(len(values))), values, **rule | changes) == -1
    return slots


class TestSlots:
    def rows(self, *rows: int) -> np.ndarray:
        return np.array(rows, np.int64)

    def test_they_begin_unresolved(self) -> None:
        slots = _core.Slots(3)
        slots.grow(2)
        assert len(slots) == 5
        assert slots.pending(self.rows(4, 0, 4)) == [4, 0, 4]
        assert slots.pick(self.rows(4, 0)).statuses() == bytes([_core.UNRESOLVED] * 2)
        assert slots.pick(self.rows(4, 0)).unresolved == 2

    def test_what_they_are_resolved_to(self) -> None:
        values = [entry(4, 3), None, pack_failure("no_face", "", 1, 1, 0), entry(100, 1, page=1)]
        slots = resolved(values)
        picked = slots.pick(self.rows(0, 1, 2, 3))
        assert picked.statuses() == bytes(
            [_core.TENSOR, _core.MISSING, _core.FAILURE, _core.TENSOR]
        )
        assert (picked.tensors, picked.unresolved, len(picked)) == (2, 0, 4)
        lengths = np.full(4, 9)
        picked.lengths(lengths)
        assert lengths.tolist() == [3, 0, 0, 1]
        assert picked.location(0) == (16, 24, FLOAT32)
        assert picked.location(3) == (4096 + 400, 8, FLOAT32)
        there = picked.without_missing()
        assert there.statuses() == bytes([_core.TENSOR] * 2)
        assert there.location(1) == picked.location(3)

    def test_growing_keeps_them(self) -> None:
        slots = resolved([entry(4, 3)])
        for _ in range(100):
            slots.grow(7)
        assert slots.pick(self.rows(0)).location(0) == (16, 24, FLOAT32)
        assert slots.pending(self.rows(0, 700)) == [700]

    def test_forgetting(self) -> None:
        slots = resolved([entry(4, 3), None, pack_failure("no_face", "", 1, 1, 0)])
        slots.forget(False)
        assert slots.pending(self.rows(0, 1, 2)) == [1, 2]
        slots.forget(True)
        assert slots.pending(self.rows(0, 1, 2)) == [0, 1, 2]

    def test_picked_slots_are_not_forgotten(self, path: Path) -> None:
        slots = resolved([entry(4, 1)])
        picked = slots.pick(self.rows(0))
        slots.forget(True)
        out = np.zeros((1, 2), "f4")
        assert picked.gather(_core.Map(path, 1 << 20), out, FLOAT32, 2, 0, False) == (
            _core.GATHERED,
            0,
            0,
        )
        assert out.tolist() == [[4, 5]]

    def test_an_entry_that_contradicts_itself(self) -> None:
        good = entry(4, 1)
        for bad in (
            b"",
            good[:71],
            b"\x09" + good[1:],
            good[:44] + bytes(28),
            entry(4, 1, page=1 << 50),
        ):
            slots = _core.Slots(3)
            assert (
                slots.resolve([2, 0, 1], [good, bad, good], 4096, PAGES * 4096, 2, True, None) == 1
            )
            assert slots.pending(self.rows(0)) == [0]

    def test_pages_of_a_renumbered_file(self) -> None:
        slots = resolved([entry(4, 1, page=1 << 50)], pages={5: 2})
        assert slots.pick(self.rows(0)).location(0)[0] == 2 * 4096 + 16
        assert _core.Slots(1).resolve([0], [entry(4, 1)], 4096, PAGES * 4096, 2, True, {}) == 0

    @pytest.mark.parametrize("row", [3, -1, 2**62, -(2**63)])
    def test_rows_that_do_not_exist(self, row: int) -> None:
        with pytest.raises(IndexError, match="of 3"):
            _core.Slots(3).pick(self.rows(0, row))

    def test_rows_are_contiguous_int64(self) -> None:
        slots = _core.Slots(3)
        for rows in (np.zeros(2, "i4"), np.zeros((1, 1), "i8"), np.zeros(4, "i8")[::2], [0]):
            with pytest.raises((ValueError, TypeError)):
                slots.pick(rows)  # type: ignore[arg-type]

    @pytest.mark.parametrize("reserve", [0, 1 << 20])
    def test_out_must_hold_the_batch(self, path: Path, reserve: int) -> None:
        file = _core.Map(path, reserve)
        picked = resolved([entry(4, 3), None]).pick(self.rows(0, 1))
        assert picked.gather(file, np.empty((4, 2), "f4"), FLOAT32, 2, 1, True)[0] == _core.GATHERED
        assert (
            picked.pad(file, np.empty((2, 5, 2), "f4"), FLOAT32, 2, 5, False)[0] == _core.GATHERED
        )
        with pytest.raises(ValueError, match="too small"):
            picked.gather(file, np.empty(7, "f4"), FLOAT32, 2, 1, True)
        with pytest.raises(ValueError, match="too small"):
            picked.gather(file, np.empty(15, "f4"), CODES["float64"], 2, 1, True)
        with pytest.raises(ValueError, match="too small"):
            picked.pad(file, np.empty(19, "f4"), FLOAT32, 2, 5, False)
        for out in (np.empty((4, 4), "f4")[:, ::2], np.frombuffer(bytes(32), "f4"), bytes(32)):
            with pytest.raises((BufferError, ValueError)):
                picked.gather(file, out, FLOAT32, 2, 1, True)

    def test_what_a_gather_reports(self, path: Path) -> None:
        file = _core.Map(path, 0)
        out = np.empty((9, 2), "f4")
        slots = resolved([entry(4, 3), None, entry(4, 1, dtype=CODES["int32"])])
        assert slots.pick(self.rows(0, 1)).gather(file, out, FLOAT32, 2, 1, False)[:2] == (
            _core.NOT_THERE,
            1,
        )
        assert slots.pick(self.rows(0, 2)).gather(file, out, FLOAT32, 2, 1, False)[:2] == (
            _core.CANNOT_CAST,
            1,
        )
        with path.open("r+b") as cut:
            cut.truncate(16)
        assert slots.pick(self.rows(0)).gather(file, out, FLOAT32, 2, 1, False)[:2] == (
            _core.CUT_SHORT,
            0,
        )

    def test_negative_rows(self) -> None:
        assert not _core.any_negative(self.rows())
        assert not _core.any_negative(self.rows(0, 1, 2**62))
        assert _core.any_negative(self.rows(3, 2, -1))


def digest(data: Any) -> int:
    return xxhash.xxh3_64_intdigest(data)


@st.composite
def payloads(draw: st.DrawFn) -> list[tuple[bytes, str, np.ndarray]]:
    found = []
    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)).encode()
        dtype = draw(st.sampled_from(DTYPES))
        shape = tuple(draw(st.lists(st.integers(1, 4), max_size=6)))
        found.append((name, dtype, bits(dtype, shape, draw(st.integers(0, 1000)))))
    return found


def build(builder: _core.BlockBuilder, entries: list[tuple[bytes, str, np.ndarray]]) -> bytes:
    for name, dtype, array in entries:
        assert builder.fits(array.nbytes, array.ndim, len(name))
        builder.add(name, CODES[dtype], array.shape, 0, digest(array.tobytes()), array, 0, 0)
    builder.seal(7, 1 << 40, 3, -5, digest)
    return bytes(memoryview(builder))


class TestBlocks:
    @given(payloads())
    def test_what_is_built_is_read(self, entries: list[tuple[bytes, str, np.ndarray]]) -> None:
        value = build(_core.BlockBuilder(1 << 17, 1 << 14), entries)
        content = _core.read_block(value)
        assert content is not None
        header, records = content
        assert (header["view"], header["block"], header["run"], header["time"]) == (
            7,
            1 << 40,
            3,
            -5,
        )
        assert header["total_bytes"] == len(value)
        assert len(records) == header["count"] == len(entries)
        for (name, dtype, array), record in zip(entries, records, strict=True):
            offset, nbytes = record[5:]
            assert record[:4] == (name, CODES[dtype], array.shape, 0)
            assert record[4] == digest(array.tobytes())
            assert value[offset : offset + nbytes] == array.tobytes()

    @given(payloads())
    def test_the_reference_reads_the_same(
        self, entries: list[tuple[bytes, str, np.ndarray]]
    ) -> None:
        block = Block.parse(build(_core.BlockBuilder(1 << 17, 1 << 14), entries))
        assert [record.name.encode() for record in block.records] == [name for name, *_ in entries]
        assert [r.shape for r in block.records] == [array.shape for *_, array in entries]

    @given(payloads(), payloads())
    def test_a_builder_used_again_keeps_nothing(
        self, one: list[tuple[bytes, str, np.ndarray]], other: list[tuple[bytes, str, np.ndarray]]
    ) -> None:
        builder = _core.BlockBuilder(1 << 17, 1 << 14)
        build(builder, one)
        builder.reset()
        assert (len(builder), builder.used, builder.payload_bytes) == (0, 0, 0)
        assert build(builder, other) == build(_core.BlockBuilder(1 << 17, 1 << 14), other)

    @given(payloads(), st.data())
    def test_a_damaged_block_is_refused_or_stays_within_itself(
        self, entries: list[tuple[bytes, str, np.ndarray]], data: st.DataObject
    ) -> None:
        value = bytearray(build(_core.BlockBuilder(1 << 17, 1 << 14), entries))
        for _ in range(data.draw(st.integers(1, 3))):
            value[data.draw(st.integers(0, min(len(value), 1000) - 1))] ^= data.draw(
                st.integers(1, 255)
            )
        if data.draw(st.booleans()):
            value = value[: data.draw(st.integers(0, len(value)))]
        content = _core.read_block(bytes(value))
        if content is not None:
            header, records = content
            for record in records:
                assert header["header_bytes"] <= record[5] <= record[5] + record[6] <= len(value)

    def test_what_is_no_block(self) -> None:
        for value in (b"", b"MERBLOCK", bytes(5000), b"MERBLOCK" + bytes(5000)):
            assert _core.read_block(value) is None

    def test_a_block_does_not_take_more_than_it_has_room_for(self) -> None:
        builder = _core.BlockBuilder(128, 1000)
        assert builder.fits(128, 1, 1)
        assert not builder.fits(129, 1, 1)
        assert not builder.fits(1, 1, 1000)
        builder.add(b"a", CODES["uint8"], (1,), 0, 0, bytes(1), 0, 0)
        assert builder.fits(64, 1, 1)
        assert not builder.fits(65, 1, 1)
        with pytest.raises(ValueError, match="does not fit"):
            builder.add(b"b", CODES["uint8"], (65,), 0, 0, bytes(65), 0, 0)

    def test_it_has_no_bytes_before_it_is_sealed(self) -> None:
        builder = _core.BlockBuilder(128, 1000)
        with pytest.raises(BufferError, match="not sealed"):
            memoryview(builder)


def test_the_stub_is_what_the_extension_is(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "merstore._core"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stdout


class TestDigest:
    @given(st.binary(min_size=_core.DIGEST_MIN, max_size=5000))
    def test_it_is_xxh3(self, data: bytes) -> None:
        assert _core.digest(data) == xxhash.xxh3_64_intdigest(data)

    def test_shorter_input_is_for_the_package(self) -> None:
        with pytest.raises(ValueError, match="DIGEST_MIN"):
            _core.digest(bytes(_core.DIGEST_MIN - 1))


class TestFiles:
    """Whole files of one folder, and headers that are known."""

    def read(self, folder: Path, names: list[str], limit: int, room: int) -> _core.Files:
        fd = os.open(folder, os.O_RDONLY)
        try:
            return _core.Files(fd, names, [name.encode() for name in names], limit, room)
        finally:
            os.close(fd)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "a", np.arange(100, dtype="f4"))
        np.save(tmp_path / "b", np.arange(100, 200, dtype="f4"))
        np.save(tmp_path / "other", np.arange(300, dtype="f8"))
        (tmp_path / "cut").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
        return tmp_path

    NAMES = ("a.npy", "missing", "b.npy", "other.npy", "cut")

    def known(self, folder: Path) -> dict[bytes, tuple[Any, int]]:
        head = (folder / "a.npy").read_bytes()[: _core.NPY_HEAD]
        return {head: (np.empty(100, "f4"), _core.NPY_HEAD)}

    def test_headers(self, folder: Path) -> None:
        known = self.known(folder)
        ((header, _),) = known.values()
        for limit, whole in ((10_000, True), (0, False)):
            files = self.read(folder, list(self.NAMES), limit, 100_000)
            assert files.headers(known) == [(header, whole), None, (header, whole), None, None]
        start = files.place(2)
        assert memoryview(files)[start : start + 6] == b"\x93NUMPY"

    def test_what_is_put_of_them(self, folder: Path) -> None:
        files = self.read(folder, list(self.NAMES), 10_000, 100_000)
        layout = _core.Layout(np.dtype("f4"), FLOAT32, (100,))
        builder = _core.BlockBuilder(4096, 1000)
        operations: dict[bytes, Any] = {}
        assert builder.put_files(files, [0, 2], 0, layout, operations, 0) == 2
        assert list(operations) == [b"a.npy", b"b.npy"]
        for row in (1, 3, 4):  # missing, another array, cut short
            with pytest.raises(ValueError, match="not whole"):
                builder.put_files(files, [row], 0, layout, operations, 0)
        with pytest.raises(IndexError):
            builder.put_files(files, [5], 0, layout, operations, 0)
        assert len(builder) == 2

    def test_no_layout_is_smaller_than_a_digest(self) -> None:
        with pytest.raises(ValueError, match="DIGEST_MIN"):
            _core.Layout(np.dtype("f4"), FLOAT32, (60,))

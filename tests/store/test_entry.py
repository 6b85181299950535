"""Index entries: 72 bytes, as docs/format.md lays them out."""

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import Entry as ReferenceEntry
from reference import size

from merstore.store.entry import (
    Failure,
    IndexEntry,
    pack_failure,
    unpack,
    unpack_failure,
)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


@st.composite
def index_entries(draw: st.DrawFn) -> IndexEntry:
    dtype = draw(st.integers(1, 13))
    shape = tuple(draw(st.lists(st.integers(1, 40), max_size=6)))
    nbytes = size(dtype, shape)
    return (
        IndexEntry(
            dtype,
            flags=draw(st.integers(0, 3)),
            run=draw(u32),
            time=draw(st.integers(-(2**63), 2**63 - 1)),
            checksum=draw(u64),
            block=draw(u64),
            page=draw(u64),
            offset=draw(u32),
            nbytes=nbytes,
            shape=shape,
        )
        if nbytes < 1 << 32
        else draw(index_entries())
    )


@given(index_entries())
def test_what_is_packed_is_unpacked(entry: IndexEntry) -> None:
    packed = entry.pack()
    assert len(packed) == 72
    assert unpack(packed) == entry
    assert unpack_failure("a", packed) is None


@given(index_entries())
def test_the_reference_reads_the_same(entry: IndexEntry) -> None:
    read = ReferenceEntry.parse(entry.pack())
    assert read.status == 1
    assert not any(read.unused)
    assert entry._asdict() == {name: getattr(read, name) for name in entry._fields}


def test_the_layout() -> None:
    entry = IndexEntry(3, 2, 5, -1, 6, 7, 8, 9, 24, (2, 3))
    assert entry.pack() == struct.pack(
        "<BBBB I q Q QQ II 6I", 1, 3, 2, 2, 5, -1, 6, 7, 8, 9, 24, 2, 3, 0, 0, 0, 0
    )


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": 4}, {"dtype": 0}, {"dtype": 14}, {"nbytes": 20}, {"nbytes": 0}, {"shape": (2, 4)},
        {"shape": (2, 0), "nbytes": 0}, {"shape": (1 << 31, 1 << 31, 1 << 2)}, {"shape": ()},
    ],
    ids=str,
)  # fmt: skip
def test_an_entry_that_contradicts_itself_is_none(change: dict[str, Any]) -> None:
    entry = IndexEntry(3, 2, 5, -1, 6, 7, 8, 9, 24, (2, 3))
    assert unpack(entry.pack()) == entry
    assert unpack(entry._replace(**change).pack()) is None


def test_a_failure() -> None:
    packed = pack_failure("no_face", "looked hard", 3, 7, 1_700_000_000_000_000)
    assert packed[:8] == struct.pack("<BBBBI", 2, 0, 0, 0, 7)
    assert not any(packed[16:72])
    assert unpack(packed) is None
    assert unpack_failure("a", packed) == Failure("a", "no_face", "looked hard", 3, 1.7e9)


@given(st.text(st.characters(), max_size=1200))
@example("é" * 300)
@example("x" * 499 + "𝄞")
@example("clip\udcff.mp4" * 50)
def test_messages_are_cut_and_never_refused(message: str) -> None:
    failure = unpack_failure("a", pack_failure("no_face", message, 1, 1, 0))
    assert failure is not None
    assert len(failure.message.encode()) <= 500
    quoted = message.encode(errors="backslashreplace").decode()
    assert quoted.startswith(failure.message)
    assert failure.message == quoted or len(failure.message.encode()) > 500 - 4


@pytest.mark.parametrize(
    "value",
    [
        b"", bytes(71), bytes(72), b"\x03" + bytes(71), b"\x01\x03\x07" + bytes(69),
        b"\x02" + bytes(71), b"\x02" + bytes(71) + b"{", b"\x02" + bytes(71) + b"[]",
        b"\x02" + bytes(71) + b'{"kind": "a"}', b"\x02" + bytes(71) + b"\xff\xfe",
        b"\x02" + bytes(71) + b"3",
    ],
)  # fmt: skip
def test_damaged_entries_are_neither(value: Any) -> None:
    assert unpack(value) is None
    assert unpack_failure("a", value) is None

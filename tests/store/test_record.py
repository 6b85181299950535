"""The record of a view: what is read back, and that no damaged one is believed."""

import json
from typing import Any

import pytest

from merstore import CorruptStore
from merstore.store.record import ViewRecord
from merstore.store.spec import fingerprint


def made() -> ViewRecord:
    return ViewRecord(
        7, "float16", (None, 1024), {"n": 8, "ö": [1.5]}, fingerprint({}), alias="x-UTT",
        entries=3, nbytes=1 << 40, last=[4, 100, 8176], created=1, updated=2,
    )  # fmt: skip


def test_what_is_packed_is_unpacked() -> None:
    assert ViewRecord.unpack("a/b/c", made().pack()) == made()


def test_its_fields_are_those_of_the_format() -> None:
    fields = json.loads(made().pack())
    assert list(fields["shape"]) == [None, 1024]
    assert fields["bytes"] == 1 << 40


def test_fields_of_other_writers_are_left_alone() -> None:
    fields = json.loads(made().pack()) | {"colour": "blue"}
    assert ViewRecord.unpack("a/b/c", json.dumps(fields).encode()) == made()


def test_shapes() -> None:
    record = made()
    assert record.ragged
    assert record.row_shape == (1024,)
    record.shape = (8, 768)
    assert not record.ragged
    assert (record.row_shape, record.row_elements) == ((8, 768), 6144)
    record.shape = ()
    assert (record.row_shape, record.row_elements) == ((), 1)
    record.shape = (None,)
    assert (record.row_shape, record.row_elements) == ((), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0}, {"number": 1 << 32}, {"number": "7"}, {"number": None}, {"number": 7.0},
        {"dtype": "float8"}, {"dtype": 3}, {"dtype": []}, {"shape": None}, {"shape": 3},
        {"shape": [8, None]}, {"shape": [0]}, {"shape": [-4]}, {"shape": [1] * 7}, {"shape": ["a"]},
        {"shape": [1 << 40]}, {"spec": [1]}, {"spec": None}, {"fingerprint": 3}, {"alias": 3},
        {"nonfinite": None}, {"entries": -1}, {"entries": 1 << 64}, {"bytes": "many"},
        {"bytes": None}, {"moves": 1.5}, {"next_block": -1}, {"last": [1]}, {"last": [1, 2, "x"]},
        {"last": "123"}, {"created": "today"},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    fields = json.loads(made().pack()) | change
    with pytest.raises(CorruptStore, match="a/b/c"):
        ViewRecord.unpack("a/b/c", json.dumps(fields).encode())


@pytest.mark.parametrize("missing", ["number", "dtype", "shape", "spec", "fingerprint", "bytes"])
def test_missing_fields_are_refused(missing: str) -> None:
    fields = json.loads(made().pack())
    del fields[missing]
    with pytest.raises(CorruptStore):
        ViewRecord.unpack("a/b/c", json.dumps(fields).encode())


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b"3", b"\xff", b"[" * 100_000])
def test_other_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(CorruptStore):
        ViewRecord.unpack("a/b/c", value)

"""A whole, plain array is read exactly; anything else is refused by name; nothing is unpickled."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from merstore.errors import InvalidTensor
from merstore.interop.npy import STORABLE, encode_header, read_array, read_header

Array = np.ndarray[Any, np.dtype[Any]]

dtypes = st.sampled_from(sorted(STORABLE)).map(np.dtype)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
arrays = hnp.arrays(dtypes, shapes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npy")


def same(a: Array, b: Array) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# --- what is read --------------------------------------------------------------------------------


@given(array=arrays)
def test_what_numpy_saves_is_read_bit_for_bit(folder: Path, array: Array) -> None:
    np.save(folder / "a.npy", array)
    read, notes = read_array(folder / "a.npy")
    header = read_header(folder / "a.npy")
    assert same(read, array)
    assert notes == header.notes == ()
    assert (header.dtype, header.shape) == (array.dtype, array.shape)


@given(array=arrays)
def test_a_file_of_numpy_is_our_header_and_the_bytes(folder: Path, array: Array) -> None:
    np.save(folder / "a.npy", array)
    ours = encode_header(array.dtype, array.shape) + array.tobytes()
    assert (folder / "a.npy").read_bytes() == ours


@given(array=hnp.arrays(dtypes, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_other_orders_are_turned_into_ours_with_a_note(folder: Path, array: Array) -> None:
    path = folder / "a.npy"
    swapped = array.astype(array.dtype.newbyteorder(">"))
    np.save(path, np.asfortranarray(swapped))
    read, notes = read_array(path)
    assert same(read, array)
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    assert read_header(path).notes == notes
    assert ("big-endian" in notes) == (array.dtype.itemsize > 1)
    assert ("Fortran order" in notes) == (sum(n != 1 for n in array.shape) > 1)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_format_version_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    with open(tmp_path / "a.npy", "wb") as stream:
        np.lib.format.write_array(stream, array, version=version)
    assert same(read_array(tmp_path / "a.npy")[0], array)


def test_a_header_longer_than_the_first_read(tmp_path: Path) -> None:
    array = np.arange(3, dtype="f4")
    fields = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}" + b" " * 3000 + b"\n"
    path = written(tmp_path, with_header(fields, array.tobytes()))
    assert read_header(path).shape == (3,)
    assert same(read_array(path)[0], array)


def test_headers_of_python_2_are_read(tmp_path: Path) -> None:
    fields = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L)}"
    path = written(tmp_path, with_header(fields, bytes(8)))
    assert read_array(path)[0].shape == (1, 2)


# --- per-frame files -----------------------------------------------------------------------------


def test_a_directory_of_frames_is_stacked_in_order_of_name(tmp_path: Path) -> None:
    for name, value in (("00000010", 3.0), ("00000002", 2.0), ("00000001", 1.0)):
        np.save(tmp_path / f"{name}.npy", np.full(4, value, "f4"))
    (tmp_path / "notes.txt").touch()
    array, notes = read_array(tmp_path)
    assert same(array, np.repeat(np.array([[1], [2], [3]], "f4"), 4, axis=1))
    assert notes == read_header(tmp_path).notes == ("per-frame files",)
    assert read_header(tmp_path).shape == (3, 4)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "without .npy files"),
        ([np.zeros(4, "f4"), np.zeros(5, "f4")], r"frames of float32 \(4,\) and of float32 \(5,\)"),
        ([np.zeros(4, "f4"), np.zeros(4, "f8")], "and of float64"),
        ([np.zeros((1, 4), "f4")], "each frame has to be a vector"),
    ],
)
def test_frames_that_do_not_stack_are_refused(
    tmp_path: Path, frames: list[Array], message: str
) -> None:
    for index, frame in enumerate(frames):
        np.save(tmp_path / f"{index}.npy", frame)
    assert_refused(tmp_path, message)


# --- what is refused -----------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    """Header and array alike, by an error that names the file and what to do."""
    for read in (read_header, read_array):
        with pytest.raises(InvalidTensor, match=message) as caught:
            read(path)
        assert re.fullmatch(rf"{re.escape(str(path))}.*: .+: .+", str(caught.value), re.DOTALL)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    return path


def with_header(fields: bytes, payload: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(fields).to_bytes(2, "little") + fields + payload


@pytest.mark.parametrize("version", [(1, 0), (3, 0)])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, version: tuple[int, int]) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as stream:
        np.lib.format.write_array(stream, np.arange(8, dtype="f8"), version=version)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert_refused(path, "is empty" if size == 0 else "is cut short")


@given(extra=st.binary(min_size=1, max_size=200))
@settings(max_examples=20)
def test_bytes_after_the_array_are_refused(folder: Path, extra: bytes) -> None:
    np.save(folder / "a.npy", np.zeros(4, "f4"))
    with open(folder / "a.npy", "ab") as stream:
        stream.write(extra)
    assert_refused(folder / "a.npy", f"has {len(extra)} bytes after its array")


class Trap:
    """Unpickling it would be seen."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    "array",
    [
        np.array([Trap(), Trap()], object),
        np.array(Trap(), object),
        np.array([(1, Trap())], [("a", "i4"), ("b", "O")]),
    ],
    ids=["vector", "scalar", "field"],
)
def test_objects_are_refused_and_never_unpickled(
    tmp_path: Path, array: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", array)
    assert_refused(tmp_path / "a.npy", "Python objects")
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(3.0), "holds a single number"),
        (np.zeros(2, "f4,f4"), "holds records"),
        (np.zeros(2, "c8"), "holds complex64, which cannot be stored"),
        (np.array(["angry"]), "holds str160, which cannot be stored"),
        (np.array([b"angry"]), "holds bytes40"),
        (np.zeros(2, "V2"), "holds void16"),
        (np.zeros(2, "M8[s]"), "holds datetime64"),
        (np.zeros(2, np.longdouble), "holds (longdouble|float128)"),
    ],
)
def test_what_a_store_cannot_hold_is_refused(tmp_path: Path, array: Array, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    assert_refused(tmp_path / "a.npy", message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (b"", "cannot be read"),
        (b"(1, 2)", "without dtype and shape"),
        (b"{'descr': '<f4', 'shape': (2,)}", "without dtype and shape"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "cannot be read"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': [2]}", r"has shape \[2\]"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", r"has shape \(-1,\)"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", "has shape"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}", "has shape"),
        (b"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "has order 0"),
        (b"{'descr': '<f9', 'fortran_order': False, 'shape': (2,)}", "unknown dtype"),
        (b"{'descr': None, 'fortran_order': False, 'shape': (2,)}", "dtype|stored"),
        (b"{'descr': ('<f4', 2), 'fortran_order': False, 'shape': (2,)}", "records"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9,)}", "cannot be read"),
        (b"__import__('os').mkdir('evaluated')", "cannot be read"),
        (b"(" * 5000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, fields: bytes, message: str) -> None:
    assert_refused(written(tmp_path, with_header(fields, bytes(8))), message)


def test_absurd_sizes_are_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    fields = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d)}" % (2**62, 2**62)
    assert_refused(written(tmp_path, with_header(fields, bytes(8))), "is cut short")
    long = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(100)
    assert_refused(written(tmp_path, long), "claims a header of 4294967295 bytes")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (bytes(4096), "begins with zeros"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "a Git LFS pointer",
        ),
        (b"PK\x03\x04" + bytes(60), "a zip archive, probably .npz"),
        (b"\x80\x04\x95" + bytes(60), "a pickle, which is never loaded"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"1.0 2.0\n", "it begins with"),
        (b"\x93NUMPY\x04\x00" + bytes(100), "is of npy format 4.0"),
    ],
)
def test_files_that_are_no_npy_files_are_called_what_they_are(
    tmp_path: Path, data: bytes, message: str
) -> None:
    assert_refused(written(tmp_path, data), message)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    assert_refused(tmp_path / "a.npy", "is neither a file nor a directory")


def test_a_missing_file_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    for read in (read_header, read_array):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
            read(tmp_path / "nowhere.npy")


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), at=st.integers(0, 200))
@settings(max_examples=300)
def test_whatever_is_in_the_file_it_is_an_array_or_invalid(
    folder: Path, data: bytes, cut: int, at: int
) -> None:
    whole = encode_header(np.dtype("f4"), (3, 4)) + bytes(48)
    path = folder / "a.npy"
    path.write_bytes((whole[:at] + data + whole[at + len(data) :])[: len(whole) + 100 - cut])
    try:
        header = read_header(path)
    except InvalidTensor:
        with pytest.raises(InvalidTensor, match=re.escape(str(path))):
            read_array(path)
    else:
        array, _ = read_array(path)
        assert (array.dtype, array.shape) == (header.dtype, header.shape)

"""Reading and writing ``.npy`` files, and nothing else: no pickle, no code, no surprise.

`numpy.load` would do most of this, at a fraction of the speed, and its message for a broken file
does not say what to do. Here a header is parsed as a literal, its claim is checked against the size
of the file, and what the store cannot hold (objects, records, text, scalars) is refused by name.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import io
import math
import os
import re
import stat
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from merstore.errors import InvalidTensor

__all__ = ["Array", "NpyHeader", "encode_header", "peek", "read_array", "read_header"]

Array = npt.NDArray[Any]

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # as in numpy: more than any real header, little enough to parse

STORABLE = {"float16", "float32", "float64", "bool"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

# What a file that is no .npy file turns out to be.
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
    (b"PK\x03\x04", "a zip archive, probably .npz; save each array on its own"),
    (b"\x80", "a pickle, which is never loaded; save the array with numpy.save"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "gzip-compressed; decompress it first"),
    (b"<!DOCTYPE", "an HTML page; the download went wrong"),
    (b"<html", "an HTML page; the download went wrong"),
)


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What an array is: `dtype` in native byte order, `shape` of at least one dimension.

    `nbytes` is its payload. `fortran` says that the file lists it column by column; `notes` names
    each conversion that reading makes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int
    fortran: bool = False
    notes: tuple[str, ...] = ()


def read_header(path: str | os.PathLike[str]) -> NpyHeader:
    """The header of a ``.npy`` file, or of a directory of per-frame files, by one small read each.

    Raises InvalidTensor for what `read_array` would refuse, OSError where a file cannot be read.
    """
    return peek(path, 0)[0]


def read_array(path: str | os.PathLike[str]) -> tuple[Array, tuple[str, ...]]:
    """The array of a ``.npy`` file in C order and native byte order, and a note per conversion.

    A directory is read as MERTools does: its ``.npy`` files in order of name, each a frame of shape
    ``(D,)``, stacked to ``(T, D)``. The array may be read-only. Raises InvalidTensor, which names
    the file and what to do, for anything but a whole, plain array; OSError where a file cannot be
    read.
    """
    header, array = peek(path, sys.maxsize)
    assert array is not None
    return array, header.notes


def peek(path: str | os.PathLike[str], limit: int) -> tuple[NpyHeader, Array | None]:
    """`read_header`, and `read_array` at once where the file has no more than `limit` bytes."""
    fd = os.open(path, _OPEN)
    try:
        status = os.fstat(fd)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                return _peek_frames(path, limit)
            _refuse(path, "is neither a file nor a directory", "take it out of the folder")
        whole = size <= limit
        data = os.read(fd, size + 1 if whole else 256)  # one more: a file that grows is seen
        if whole and len(data) < size:
            data = _read_on(fd, data)
        header, start = parsed_headers.get(data[:128]) or _parse(path, data, fd)
    finally:
        os.close(fd)
    if size != start + header.nbytes:
        _refuse_size(path, header, start, size)
    if not whole:
        return header, None
    if len(data) != size:
        _refuse(path, "changed while it was read", "import it when nobody writes to it")
    array = np.frombuffer(data, header.dtype, offset=start)
    if not header.notes:
        return header, array.reshape(header.shape)
    if _SWAPPED in header.notes:
        array = array.byteswap()
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return header, np.ascontiguousarray(array)


@lru_cache(maxsize=4096)
def encode_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The header that `numpy.save` writes (format version 1.0) in front of a C-ordered array."""
    stream = io.BytesIO()
    description = npy_format.dtype_to_descr(dtype.newbyteorder("<"))
    npy_format.write_array_header_1_0(
        stream, {"descr": description, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


# --- one file ------------------------------------------------------------------------------------

_SWAPPED = "big-endian" if sys.byteorder == "little" else "little-endian"
_FORTRAN = "Fortran order"

# Not waiting, should it be a pipe.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

# Header and its length by its bytes: the headers of a feature folder are few, 128 bytes as a rule,
# and each is parsed once.
parsed_headers: dict[bytes, tuple[NpyHeader, int]] = {}
_PARSED_MAX = 4096


def _read_on(fd: int, data: bytes) -> bytes:
    """The rest of a file: Linux reads at most 2 GiB at a time."""
    parts = [data]
    while parts[-1]:
        parts.append(os.read(fd, 1 << 30))
    return b"".join(parts)


def _parse(path: object, data: bytes, fd: int) -> tuple[NpyHeader, int]:
    """The header at the beginning of `data` (a longer one is read on from `fd`), and its length."""
    if data[:6] != MAGIC:
        _refuse_alien(path, data)
    wide = data[6:7] != b"\x01"  # version 1 has a 2-byte length, 2 and 3 have 4 bytes
    if len(data) < (12 if wide else 10):
        _refuse(path, "is cut short inside its header", "copy or compute it again")
    if data[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        _refuse(path, f"is of npy format {data[6]}.{data[7]}", "save it with numpy.save")
    start, length = (12, int.from_bytes(data[8:12], "little")) if wide else (
        10, int.from_bytes(data[8:10], "little")
    )  # fmt: skip
    start += length
    if length > MAX_HEADER:
        _refuse(path, f"claims a header of {length} bytes", "it is no feature file, or is damaged")
    if start > len(data):
        data += os.read(fd, start - len(data))
    if start > len(data):
        _refuse(path, "is cut short inside its header", "copy or compute it again")
    head = data[:start]
    parsed = parsed_headers.get(head)
    if parsed is None:
        header = _parse_header(path, head[12 if wide else 10 :], utf8=data[6] == 3)
        if len(parsed_headers) >= _PARSED_MAX:
            parsed_headers.clear()
        parsed = parsed_headers[head] = header, start
    return parsed


def _parse_header(path: object, text: bytes, utf8: bool) -> NpyHeader:
    try:
        source = text.decode("utf-8" if utf8 else "latin-1").strip()
        if "\\" in source:  # no header has escapes, and Python warns about odd ones
            raise ValueError
        # Python 2 wrote long integers as 8L.
        fields = ast.literal_eval(re.sub(r"\b(\d+)L\b", r"\1", source))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        _refuse(path, "has a header that cannot be read", "it is damaged; copy or compute it again")
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        _refuse(path, "has a header without dtype and shape", "it is damaged; compute it again")
    fortran, shape = fields["fortran_order"], fields["shape"]
    if not isinstance(fortran, bool):
        _refuse(path, f"has order {fortran!r}", "it is damaged; compute it again")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        _refuse(path, f"has shape {shape!r}", "it is damaged; compute it again")
    dtype = _dtype(path, fields["descr"])
    if not shape:
        _refuse(path, "holds a single number", "save an array of at least one dimension")
    fortran = fortran and sum(n != 1 for n in shape) > 1  # otherwise the two orders are the same
    notes = () if dtype.isnative else (_SWAPPED,)
    if fortran:
        notes = (*notes, _FORTRAN)
    nbytes = math.prod(shape) * dtype.itemsize
    return NpyHeader(dtype.newbyteorder("="), shape, nbytes, fortran, notes)


def _dtype(path: object, description: object) -> np.dtype[Any]:
    try:
        dtype = npy_format.descr_to_dtype(description)  # type: ignore[arg-type]
    except (TypeError, ValueError, SyntaxError, IndexError, RecursionError, AttributeError):
        _refuse(path, f"has unknown dtype {description!r}", "it is damaged; compute it again")
    if dtype.hasobject:
        _refuse(
            path,
            "holds Python objects (pickled), which are never loaded",
            "save a plain numeric array (numpy.asarray(values, dtype='float32'))",
        )
    if dtype.fields is not None or dtype.subdtype is not None:
        _refuse(path, "holds records (a structured dtype)", "save each field as an array")
    if dtype.name not in STORABLE:
        _refuse(path, f"holds {dtype.name}, which cannot be stored", "convert it, say to float32")
    return dtype


def _refuse_size(path: object, header: NpyHeader, start: int, size: int) -> NoReturn:
    expected = start + header.nbytes
    what = f"{header.dtype} {header.shape}"
    if size < expected:
        _refuse(
            path,
            f"is cut short: {size:,} bytes, and {what} takes {expected:,}",
            "copy or compute it again",
        )
    _refuse(
        path,
        f"has {size - expected:,} bytes after its array ({what})",
        "it is not what it says; compute it again",
    )


def _refuse_alien(path: object, data: bytes) -> NoReturn:
    if not data:
        _refuse(path, "is empty", "copy or compute it again")
    if MAGIC.startswith(data):
        _refuse(path, "is cut short inside its header", "copy or compute it again")
    if not any(data):
        _refuse(path, "begins with zeros (a copy that was cut off?)", "copy or compute it again")
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            _refuse(path, "is not a .npy file", f"it is {what}")
    _refuse(path, "is not a .npy file", f"it begins with {data[:8]!r}; save it with numpy.save")


def _refuse(path: object, what: str, remedy: str) -> NoReturn:
    raise InvalidTensor(f"{os.fsdecode(str(path))}: {what}: {remedy}")


# --- a directory of per-frame files --------------------------------------------------------------


def _frames(path: str | os.PathLike[str]) -> list[str]:
    with os.scandir(path) as entries:
        frames = sorted(e.path for e in entries if e.name.endswith(".npy") and not e.is_dir())
    if not frames:
        _refuse(path, "is a directory without .npy files", "compute its frames, or remove it")
    return frames


def _peek_frames(path: str | os.PathLike[str], limit: int) -> tuple[NpyHeader, Array | None]:
    frames = [peek(frame, limit) for frame in _frames(path)]
    first = frames[0][0]
    for header, _ in frames:
        if len(header.shape) != 1:
            _refuse(
                path, f"has a frame of shape {header.shape}", "each frame has to be a vector (D,)"
            )
        if (header.dtype, header.shape) != (first.dtype, first.shape):
            _refuse(
                path,
                f"has frames of {first.dtype} {first.shape} and of {header.dtype} {header.shape}",
                "compute them again with one encoder",
            )
    notes = dict.fromkeys(note for header, _ in frames for note in header.notes)
    stacked = replace(
        first,
        shape=(len(frames), *first.shape),
        nbytes=len(frames) * first.nbytes,
        notes=(*notes, "per-frame files"),
    )
    arrays = [array for _, array in frames if array is not None]
    return stacked, np.stack(arrays) if len(arrays) == len(frames) else None

"""Index entries: 72 bytes that say what a sample's entry is and where its payload lies
(docs/format.md).
"""

import json
import math
import re
import struct
import time
from typing import NamedTuple

from merstore import _core
from merstore.store import dtypes

_LAYOUT = struct.Struct("<BBBBIqQQQII6I")
_NO_DIMS = (0, 0, 0, 0, 0, 0)
_ITEM_BYTES = {code: dtypes.numpy_dtype(code).itemsize for code in dtypes.CODES.values()}
MESSAGE_BYTES = 500  # a failure stays inline in the index page
KIND = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")


class IndexEntry(NamedTuple):
    """A tensor's index entry, unpacked. ``time`` is in microseconds since 1970 UTC."""

    dtype: int
    flags: int
    run: int
    time: int
    checksum: int
    block: int
    page: int
    offset: int
    nbytes: int
    shape: tuple[int, ...]

    def pack(self) -> bytes:
        ndim = len(self.shape)
        return _LAYOUT.pack(
            _core.TENSOR, self.dtype, ndim, self.flags, self.run, self.time, self.checksum,
            self.block, self.page, self.offset, self.nbytes, *self.shape, *_NO_DIMS[ndim:],
        )  # fmt: skip


class Failure(NamedTuple):
    """Why a sample has no tensor in a view. ``kind`` is for programs (``no_video``,
    ``decode_error`` ...), ``message`` for people; ``time`` in seconds since 1970 UTC.
    """

    name: str
    kind: str
    message: str
    attempts: int
    time: float


def unpack(value: bytes) -> IndexEntry | None:
    """A tensor's entry; None for a failure, and for bytes that are neither or contradict themselves
    (which ``verify`` tells apart).
    """
    if len(value) < _core.ENTRY_BYTES or value[0] != _core.TENSOR or value[2] > _core.MAX_DIMS:
        return None
    _, dtype, ndim, flags, run, written, checksum, block, page, offset, nbytes, *shape = (
        _LAYOUT.unpack_from(value)
    )
    if nbytes == 0 or math.prod(shape[:ndim]) * _ITEM_BYTES.get(dtype, 0) != nbytes:
        return None
    return IndexEntry(
        dtype, flags, run, written, checksum, block, page, offset, nbytes, tuple(shape[:ndim])
    )


def pack_failure(kind: str, message: str, attempts: int, run: int, written: int) -> bytes:
    head = _LAYOUT.pack(_core.FAILURE, 0, 0, 0, run, written, 0, 0, 0, 0, 0, *_NO_DIMS)
    # a message may quote a file name that is not valid Unicode
    short = message.encode(errors="backslashreplace")[:MESSAGE_BYTES].decode(errors="ignore")
    tail = {"kind": kind, "message": short, "attempts": attempts}
    return head + json.dumps(tail, ensure_ascii=False).encode()


def unpack_failure(name: str, value: bytes) -> Failure | None:
    """The failure in an index entry; None if it is none."""
    if len(value) < _core.ENTRY_BYTES or value[0] != _core.FAILURE:
        return None
    try:
        tail = json.loads(value[_core.ENTRY_BYTES :])
        return Failure(
            name,
            tail["kind"],
            tail["message"],
            tail["attempts"],
            struct.unpack_from("<q", value, 8)[0] / 1e6,
        )
    except (ValueError, KeyError, TypeError):
        return None


def now() -> int:
    return time.time_ns() // 1000

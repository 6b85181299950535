"""The C core: the map, slots and their gather, blocks. Nothing here checks what store/ has checked."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypedDict, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

# on Python 3.11 an ndarray is a buffer that its stubs do not know as one
_Buffer = Buffer | NDArray[Any]
_Rows = NDArray[np.int64]  # C-contiguous
_Status = tuple[int, int, int]  # ms_gather_status, position in rows, errno

# name, dtype code, shape, flags, checksum, offset, bytes
_Record = tuple[bytes, int, tuple[int, ...], int, int, int, int]

class _HasBytes(Protocol):
    @property
    def nbytes(self) -> int: ...

_Parsed = TypeVar("_Parsed", bound=_HasBytes)

class _Header(TypedDict):
    header_bytes: int
    view: int
    count: int
    run: int
    table_bytes: int
    block: int
    total_bytes: int
    checksum: int
    time: int

ENTRY_BYTES: Final[int]
MAX_DIMS: Final[int]
NONFINITE: Final[int]
ZERO_ROW: Final[int]
UNRESOLVED: Final[int]
TENSOR: Final[int]
FAILURE: Final[int]
MISSING: Final[int]
DIGEST_MIN: Final[int]
NPY_HEAD: Final[int]
GATHERED: Final[int]
NOT_THERE: Final[int]
CANNOT_CAST: Final[int]
CUT_SHORT: Final[int]
READ_ERROR: Final[int]
NO_MEMORY: Final[int]

@final
class Map:
    """A read-only mapping of a whole file; with ``reserve=0`` an open file, read with ``pread``."""

    def __new__(cls, path: str | os.PathLike[str], reserve: int) -> Map: ...
    @property
    def mapped(self) -> bool: ...
    @property
    def reserved(self) -> int: ...
    def size(self) -> int: ...
    def write_back(self) -> None: ...
    def payload(self, offset: int, nbytes: int, owner: object) -> Buffer: ...

@final
class Payload:
    """Bytes of a map, as a read-only buffer that keeps the map and an owner alive."""

    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...

@final
class Slots:
    """A growing array of slots: where samples' payloads lie in the file."""

    def __new__(cls, count: int = 0) -> Slots: ...
    def __len__(self) -> int: ...
    def grow(self, count: int) -> None: ...
    def forget(self, tensors: bool) -> None: ...
    def pending(self, rows: _Rows) -> list[int]: ...
    def resolve(
        self,
        rows: list[int],
        values: list[bytes | None],
        page_bytes: int,
        file_bytes: int,
        row_elements: int,
        ragged: bool,
        pages: dict[int, int] | None,
    ) -> int: ...
    def pick(self, rows: _Rows) -> Picked: ...

@final
class NameRows:
    """Names, numbered in the order in which they were added."""

    def __new__(cls) -> NameRows: ...
    def add(self, name: str) -> None: ...
    def rows(self, names: list[str], out: _Rows) -> bool: ...

@final
class Picked:
    """The slots of one batch, copied."""

    @property
    def unresolved(self) -> int: ...
    @property
    def tensors(self) -> int: ...
    def __len__(self) -> int: ...
    def statuses(self) -> bytes: ...
    def lengths(self, out: _Rows) -> None: ...
    def location(self, i: int) -> tuple[int, int, int]: ...
    def without_missing(self) -> Picked: ...
    def willneed(self, map: Map) -> None: ...
    def gather(
        self,
        map: Map,
        out: _Buffer,
        dtype: int,
        row_elements: int,
        missing: int,
        allow_missing: bool,
    ) -> _Status: ...
    def pad(
        self, map: Map, out: _Buffer, dtype: int, row_elements: int, padded: int, front: bool
    ) -> _Status: ...

@final
class Layout:
    """What a plain array of a view is like."""

    def __init__(self, dtype: np.dtype[Any], code: int, shape: tuple[int, ...]) -> None: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

@final
class Files:
    """Files of one folder, read all at once."""

    @property
    def names(self) -> list[str]: ...
    def __init__(
        self, folder: int, names: list[str], paths: list[bytes], limit: int, room: int
    ) -> None: ...
    def __len__(self) -> int: ...
    def headers(
        self, parsed: Mapping[bytes, tuple[_Parsed, int]]
    ) -> list[tuple[_Parsed, bool] | None]: ...
    def place(self, row: int) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class BlockBuilder:
    """One block in the making. Once sealed, its buffer is the block's value."""

    def __new__(cls, capacity: int, table_capacity: int) -> BlockBuilder: ...
    @property
    def capacity(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def payload_bytes(self) -> int: ...
    @property
    def live(self) -> int: ...
    @property
    def live_bytes(self) -> int: ...
    @property
    def block(self) -> int: ...
    page: int
    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
    def reset(self) -> None: ...
    def fits(self, nbytes: int, ndim: int, name_bytes: int) -> bool: ...
    def add(
        self,
        name: bytes,
        dtype: int,
        shape: tuple[int, ...],
        flags: int,
        checksum: int,
        data: _Buffer,
        time: int,
        run: int,
    ) -> int: ...
    def put(
        self,
        pairs: Iterator[Any],
        layout: Layout,
        operations: dict[bytes, Any],
        block: int,
        deadline: float,
    ) -> tuple[list[Any], BaseException | bool | None]: ...
    def put_files(
        self,
        files: Files,
        rows: list[int],
        first: int,
        layout: Layout,
        operations: dict[bytes, Any],
        block: int,
    ) -> int: ...
    def seal(
        self, view: int, block: int, run: int, time: int, digest: Callable[[memoryview], int]
    ) -> int: ...

@final
class Section:
    def __init__(
        self,
        lock: Any,
        begin: Callable[[], Any],
        done: Callable[[BaseException | None], object],
        end: Callable[[], object],
    ) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...

def index_entries(
    prefix: bytes, operations: list[tuple[bytes, Any]], builders: list[BlockBuilder]
) -> list[tuple[bytes, bytes]]: ...

@final
class Finalizer:
    def __init__(self, function: Callable[[], object]) -> None: ...
    def __call__(self, reference: object) -> None: ...

def read_block(data: _Buffer) -> tuple[_Header, list[_Record]] | None: ...
def texts(blob: bytes, offsets: _Rows, rows: _Rows) -> list[str]: ...
def any_negative(rows: _Rows) -> bool: ...
def scan(data: _Buffer, dtype: int, rows: int, columns: int) -> int: ...
def digest(data: _Buffer) -> int: ...
def page_of(value: _Buffer) -> tuple[int, int]: ...

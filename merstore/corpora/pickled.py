"""The object arrays of label files, read without pickle.

The npz files that the field's toolkits write hold ``{name: {"emo": ..., "val": ...}}`` as a pickled
object array. A pickle is a program for a small stack machine, and one in a file may do anything:
call functions, claim huge memory, build arrays over foreign addresses. So none is ever run. This
reads the instructions that such files consist of (``pickletools.genops`` only tells them apart) and
builds dicts, lists, tuples, texts and numbers. Functions are not called whatever the file says:
what NumPy's would have made (an array of one object, a dtype, a scalar) is made here. Any other
instruction, name or shape is refused.
"""

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from merstore.errors import MerstoreError

MAX_BYTES = 256 << 20  # of one array, unpacked; the largest known one has 115,595 samples, 10 MB
_CHUNK = 16 << 20

_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how protocols before 3 write bytes
    **{(module, "_reconstruct"): "array" for module in _MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in _MULTIARRAY},
}
_SCALAR = re.compile(r"[fiu][1248]|b1|U\d{1,6}")


def read_arrays(path: Path) -> "Arrays":
    """The arrays of an npz file, by name. Raises MerstoreError where it is none."""
    try:
        with zipfile.ZipFile(path) as file:
            sizes = {info.filename: info.file_size for info in file.infolist()}
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: give the folder that holds it") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise MerstoreError(f"{path}: no npz file ({error}): download or copy it again") from None
    return Arrays(path, {name.removesuffix(".npy"): size for name, size in sizes.items()})


class Arrays:
    """The arrays of one npz file; each is read when it is asked for."""

    def __init__(self, path: Path, sizes: dict[str, int]) -> None:
        self.path = path
        self.names = list(sizes)
        self._sizes = sizes

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def __getitem__(self, name: str) -> Any:
        """What the 0-d object array `name` holds. Raises MerstoreError."""
        with self._open(name) as (dtype, shape, file):
            if dtype != np.dtype(object) or shape != ():
                raise MerstoreError(f"{self._at(name)}: {dtype} {shape} is no dictionary of labels")
            return self._unpickled(name, file, shape)

    def items(self, name: str) -> list[Any]:
        """The items of the 1-d array `name`: texts, bytes, numbers or what a pickle of them may
        hold. Raises MerstoreError.
        """
        with self._open(name) as (dtype, shape, file):
            if len(shape) != 1 or dtype.kind not in "OUSbiuf" or not dtype.itemsize:
                raise MerstoreError(f"{self._at(name)}: {dtype} {shape} is no list of texts")
            if dtype == np.dtype(object):
                found = self._unpickled(name, file, shape)
                assert isinstance(found, list)
                return found
            # A text array is as wide as its longest text: it is never in memory as a whole.
            items: list[Any] = []
            while len(items) < shape[0]:
                count = min(shape[0] - len(items), max(1, _CHUNK // dtype.itemsize))
                data = file.read(count * dtype.itemsize)
                if len(data) < count * dtype.itemsize:
                    raise MerstoreError(f"{self._at(name)}: cut short: download or copy it again")
                items += np.ndarray((count,), dtype, data).tolist()
            return items

    def _at(self, name: str) -> str:
        return f"{self.path}: array {name}"

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[np.dtype[Any], tuple[int, ...], IO[bytes]]]:
        """dtype and shape of an array, and its file, read up to where its items begin."""
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(member)
                yield dtype, shape, member
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise MerstoreError(
                f"{self._at(name)}: damaged ({error}): download or copy it again"
            ) from None

    def _unpickled(self, name: str, file: IO[bytes], shape: tuple[int, ...]) -> Any:
        if self._sizes[name] > MAX_BYTES:
            raise MerstoreError(
                f"{self._at(name)}: {self._sizes[name]:,} bytes are too many for labels"
            )
        try:
            return unpickle(file.read(MAX_BYTES), shape)
        except Refused as refused:
            raise MerstoreError(
                f"{self._at(name)}: {refused}. Only what label files hold is read (dicts, lists, "
                "texts, numbers); export it as csv if you trust it"
            ) from None


class Refused(ValueError):
    """The pickle holds something that no label file does, or is cut short."""


class _Name(str):
    """A name of NumPy's that the file refers to."""

    __slots__ = ()


class _Array:
    """An array of one object, while its state is still to come."""

    __slots__ = ("item",)

    def __init__(self) -> None:
        self.item: Any = None


class _Dtype:
    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


def unpickle(data: bytes, shape: tuple[int, ...] = ()) -> Any:
    """The object in a pickled 0-d object array, or the list of those in a 1-d one. Raises Refused."""
    try:
        result = _run(data, shape)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise Refused(f"damaged ({type(error).__name__}: {error})") from None
    if not isinstance(result, _Array):
        raise Refused("not an array")
    return result.item


def _run(data: bytes, shape: tuple[int, ...]) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(data):
        name = instruction.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _IGNORED:
            pass
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _TUPLES:
            _replace(stack, len(stack) - _TUPLES[name], tuple)
        elif name == "TUPLE":
            _replace(stack, marks.pop(), tuple)
        elif name in ("SETITEM", "SETITEMS"):
            items = _take(stack, len(stack) - 2 if name == "SETITEM" else marks.pop())
            names = [_plain(key, str) for key in items[::2]]
            _plain(stack[-1], dict).update(zip(names, items[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = _take(stack, len(stack) - 1 if name == "APPEND" else marks.pop())
            _plain(stack[-1], list).extend(items)
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(*_take(stack, len(stack) - 2)))
        elif name == "REDUCE":
            function, arguments = _take(stack, len(stack) - 2)
            stack.append(_made(function, *_plain(arguments, tuple)))
        elif name == "BUILD":
            (state,) = _take(stack, len(stack) - 1)
            target = stack[-1]
            _set_state(target, state, shape)
        elif name == "STOP":
            return stack.pop()
        else:
            raise Refused(f"the instruction {name}")
    raise Refused("cut short")


def _take(stack: list[Any], begin: int) -> list[Any]:
    """Take off what lies from `begin` on."""
    if not 0 <= begin <= len(stack):
        raise Refused("damaged (nothing to take)")
    taken = stack[begin:]
    del stack[begin:]
    return taken


def _replace(stack: list[Any], begin: int, by: type[tuple[Any, ...]]) -> None:
    stack.append(by(_take(stack, begin)))


def _plain(value: Any, type: type) -> Any:
    if not isinstance(value, type):
        raise Refused(f"a {type.__name__} is wanted where there is a {value.__class__.__name__}")
    return value


def _named(module: Any, name: Any) -> _Name:
    if (_plain(module, str), _plain(name, str)) not in _NAMES:
        raise Refused(f"the name {module[:40]}.{name[:40]}")
    return _Name(_NAMES[module, name])


def _made(function: Any, *arguments: Any) -> Any:
    """What NumPy's function would have made of the arguments."""
    if not isinstance(function, _Name):
        raise Refused("a call of what is no function")
    if function == "array":
        kind, shape, _ = arguments
        if not isinstance(kind, _Name) or kind != "ndarray" or shape != (0,):
            raise Refused("an array of an unknown kind")
        return _Array()
    if function == "dtype":
        code = _plain(arguments[0], str)
        if code != "O8" and not _SCALAR.fullmatch(code):
            raise Refused(f"the dtype {code[:40]!r}")
        return _Dtype(code)
    if function == "encode" and arguments[1:] == ("latin1",):
        return _plain(arguments[0], str).encode("latin1")
    if function == "scalar":
        dtype, data = arguments
        return _scalar(_plain(dtype, _Dtype), _plain(data, bytes))
    raise Refused(f"a call of {function}")


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    if dtype.code == "O8":
        raise Refused("a scalar of objects")
    (value,) = np.frombuffer(data, np.dtype(dtype.order + dtype.code)).tolist()
    return value


def _set_state(target: Any, state: Any, expected: tuple[int, ...]) -> None:
    state = _plain(state, tuple)
    if isinstance(target, _Dtype):
        if state[1] not in ("<", ">", "|"):
            raise Refused("an unknown byte order")
        target.order = state[1]
    elif isinstance(target, _Array):
        _, shape, dtype, _, items = state
        if shape != expected or _plain(dtype, _Dtype).code != "O8":
            raise Refused("an array of another kind than its header says")
        if len(_plain(items, list)) != (expected[0] if expected else 1):
            raise Refused("an array of another length")
        target.item = items if expected else items[0]
    else:
        raise Refused("a state for what has none")

"""What hypothesis makes up for the tests of the store: names, declarations of views, entries."""

import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
FLOATS = DTYPES[:4]

# Hundreds of stores that live for an instant: in memory, where the system has such a place.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

_LEGAL = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/")


def sample_names() -> st.SearchStrategy[str]:
    """Every name the key rules allow: any letters up to 400 bytes, odd ones among them."""
    odd = st.sampled_from(
        [".", "..", " ", "-x", "_x", "x" * 400, "é" * 200, "𝄞" * 100, "‮x", "e\u0301", "é"]
    )
    usual = st.integers(0, 30).map("sample_{:08d}".format)
    any_text = st.text(_LEGAL, min_size=1, max_size=133).filter(lambda s: len(s.encode()) <= 400)
    return st.one_of(usual, any_text, odd)


@dataclass(frozen=True)
class Declaration:
    """A view's dtype and shape."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def ragged(self) -> bool:
        return bool(self.shape) and self.shape[0] is None

    @property
    def row_shape(self) -> tuple[int, ...]:
        return tuple(size for size in self.shape if size is not None)


@st.composite
def declarations(draw: st.DrawFn, ragged: bool | None = None) -> Declaration:
    rest = draw(st.lists(st.integers(1, 4), max_size=5 if ragged is not False else 6))
    if ragged is None:
        ragged = draw(st.booleans())
    first: list[int | None] = [None] if ragged else []
    return Declaration(draw(st.sampled_from(DTYPES)), (*first, *rest))


@dataclass(frozen=True)
class Entry:
    """An entry: ``bits`` is what must lie in the file (bfloat16 as uint16)."""

    dtype: str
    bits: np.ndarray
    library: str = "numpy"

    @property
    def value(self) -> Any:
        """What is handed to the store."""
        if self.dtype != "bfloat16":
            return torch.from_numpy(self.bits) if self.library == "torch" else self.bits
        if self.library == "ml_dtypes":
            return self.bits.view(importlib.import_module("ml_dtypes").bfloat16)
        return torch.from_numpy(self.bits).view(torch.bfloat16)

    @property
    def read(self) -> np.ndarray:
        """What is read back: the same, but float32 for bfloat16."""
        return cast(self, "float32") if self.dtype == "bfloat16" else self.bits


_NUMPY_BITS = {name: np.dtype("uint16" if name == "bfloat16" else name) for name in DTYPES}
_HAS_ML_DTYPES = importlib.util.find_spec("ml_dtypes") is not None


def bits(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Any bits: NaN of all kinds, Inf, subnormals, negative zero; all zeros and zero rows, too."""
    rng = np.random.default_rng(seed)
    kind = _NUMPY_BITS[dtype]
    count = int(np.prod(shape))
    array = np.frombuffer(
        rng.bytes(count * kind.itemsize), kind.newbyteorder("=") if dtype != "bool" else "u1"
    )
    if dtype == "bool":
        array = (array & 1).view("?")
    array = array.reshape(shape).copy()
    if seed % 5 == 0:
        array[...] = 0
    elif seed % 5 == 1 and array.ndim:
        array[rng.integers(len(array))] = 0
    return array


@st.composite
def entries(draw: st.DrawFn, declared: Declaration, dtype: str | None = None) -> Entry:
    """An entry of a view's shape, and of its dtype if no other is given."""
    dtype = dtype or declared.dtype
    shape = declared.row_shape
    if declared.ragged:
        shape = (draw(st.integers(1, 6)), *shape)
    libraries = ["numpy", "torch"] + ["ml_dtypes"] * (_HAS_ML_DTYPES and dtype == "bfloat16")
    array = bits(dtype, shape, draw(st.integers(0, 2**32 - 1)))
    return Entry(dtype, array, draw(st.sampled_from(libraries)))


# ---- what must come out


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the last bit, dtype and shape too."""
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def can_cast(stored: str, wanted: str) -> bool:
    return stored == wanted or (stored in FLOATS and wanted in ("float32", "float64"))


def cast(entry: Entry, wanted: str) -> np.ndarray:
    """The entry in a batch's dtype, by NumPy."""
    array = entry.bits
    if entry.dtype == "bfloat16":
        array = np.asarray(array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        return array.astype(wanted)


def same_values(one: np.ndarray, other: np.ndarray) -> bool:
    """As ``same``, but a NaN may have become another one, as casts may make it."""
    if one.dtype.kind != "f":
        return same(one, other)
    nan = np.isnan(one)
    return bool(
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(nan, np.isnan(other))
        and same(np.where(nan, 0, one), np.where(nan, 0, other))
    )

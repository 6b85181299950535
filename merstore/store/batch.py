"""What a gather returns: a batch of equal shapes, or of sequences of different lengths."""

from typing import Any

import numpy as np

from merstore.errors import InvalidTensor


class Batch(np.ndarray):
    """An ndarray ``[B, *shape]`` that also says which of the samples asked for it holds.

    ``mask``: bool ``[number of samples asked for]``, True where the sample is there. With
    ``on_miss="mask"`` a False one has a row of zeros; with ``"skip"`` it has no row, and B is the
    number of True ones.
    """

    mask: np.ndarray

    def __array_finalize__(self, source: Any) -> None:
        # A slice or the result of arithmetic is no batch any more; its mask would not fit.
        self.mask = None  # type: ignore[assignment]

    @classmethod
    def of(cls, values: np.ndarray, mask: np.ndarray) -> "Batch":
        batch = values.view(cls)
        batch.mask = mask
        return batch

    def __reduce__(self) -> Any:
        return Batch.of, (np.asarray(self), self.mask)


class RaggedBatch:
    """Sequences of different lengths, back to back.

    values: ndarray ``[sum of lengths, *row shape]``; offsets: int64 ``[B + 1]``, sequence i is
    ``values[offsets[i]:offsets[i + 1]]``;
    mask: bool ``[number of samples asked for]`` as in Batch (a False one has length 0 with
    ``"mask"``, no place with ``"skip"``).
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, mask: np.ndarray) -> None:
        self.values = values
        self.offsets = offsets
        self.mask = mask

    @property
    def lengths(self) -> np.ndarray:
        """int64 ``[B]``"""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """Sequence i, ``[length, *row shape]``, a view."""
        i = range(len(self))[i]
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def padded(self, length: int | None = None, side: str = "back") -> np.ndarray:
        """``[B, length, *row shape]``, zeros after (``side="back"``) or before (``"front"``) each
        sequence.

        ``length`` is the longest sequence's by default; longer ones keep their first ``length``
        rows.
        """
        if side not in ("front", "back"):
            raise InvalidTensor(f'padding goes to the "front" or the "back", not {side!r}')
        lengths = self.lengths
        width = int(lengths.max(initial=0)) if length is None else length
        out = allocate((len(self), width, *self.values.shape[1:]), self.values.dtype)
        for i, size in enumerate(np.minimum(lengths, width).tolist()):
            start = self.offsets[i]
            if side == "back":
                out[i, :size] = self.values[start : start + size]
                out[i, size:] = 0
            else:
                out[i, width - size :] = self.values[start : start + size]
                out[i, : width - size] = 0
        return out

    def __repr__(self) -> str:
        return f"RaggedBatch({len(self)} sequences, values {self.values.shape} {self.values.dtype})"


def allocate(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> np.ndarray:
    """An uninitialised array at a 64-byte boundary (NumPy's own begin 16 bytes off a page, which
    slows copies down).
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def as_array(out: Any) -> np.ndarray:
    """``out``, an ndarray or a CPU tensor, as an ndarray on the same memory. Raises InvalidTensor."""
    if isinstance(out, np.ndarray):
        return out
    if not hasattr(out, "__array__"):
        raise InvalidTensor(f"out is a NumPy array or a CPU tensor, not {type(out).__name__}")
    try:
        array: np.ndarray = out.numpy() if hasattr(out, "detach") else np.asarray(out)
        return array
    except (TypeError, RuntimeError) as error:  # on another device, bfloat16, or part of a graph
        raise InvalidTensor(f"out cannot be written to as an array: {error}") from None


def destination(out: Any, shape: tuple[int, ...], dtype: "np.dtype[Any] | None") -> np.ndarray:
    """``out`` (an ndarray, or a CPU tensor that shares its memory with NumPy) as the array to
    gather into.

    Raises InvalidTensor where its shape, dtype or layout is not the batch's.
    """
    array = as_array(out)
    if array.shape != shape:
        raise InvalidTensor(f"out has shape {array.shape}, the batch needs {shape}")
    if dtype is not None and array.dtype != dtype:
        raise InvalidTensor(f"out is {array.dtype}, the batch is {dtype}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise InvalidTensor("out must be C-contiguous and writable")
    return array

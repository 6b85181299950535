"""Memory for batches: what is reused, when, and what is never written to again."""

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from merstore import _core
from merstore.load.source import Empty
from merstore.store.batch import allocate

_BYTE = np.dtype(np.uint8)


def fresh(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
    """A new tensor at a 64-byte boundary."""
    return torch.from_numpy(allocate(shape, dtype))


def pinned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
    """A tensor in page-locked memory, from torch's own cache of it: that one gives memory out again once nobody
    holds a tensor of it and every copy from it has ended, on whichever stream.
    """
    return torch.empty(shape, dtype=torch_dtype(dtype), pin_memory=True)


def shared(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
    """A new tensor in memory that another process can map, so that a worker's batch is not copied once more."""
    nbytes = math.prod(shape) * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch_dtype(dtype)).set_(storage).view(shape)


@cache
def torch_dtype(dtype: "np.dtype[Any]") -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


class Pool:
    """Tensors of one view, batch after batch, in memory that is used again once nothing of a batch is left.

    A tensor holds its array, and so does everything made of it: slices, ``.numpy()``. When the array dies
    its slab comes back. A slab is as large as the largest batch so far; at most ``keep`` lie idle.
    """

    def __init__(self, keep: int) -> None:
        self.slabs = 0  # allocated so far
        self._size = 0
        self._free: deque[np.ndarray] = deque(maxlen=keep)
        self._lent: dict[int, tuple[np.ndarray, Any]] = {}

    # No lock: an array may die anywhere, also in the middle of this, in this very thread.

    def __call__(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
        size = math.prod(shape) * dtype.itemsize
        slab = self._take(size)
        array = slab[:size].view(dtype).reshape(shape)
        back = _core.Finalizer(partial(self._give_back, id(slab)))
        self._lent[id(slab)] = slab, weakref.ref(array, back)
        return torch.from_numpy(array)

    def _take(self, size: int) -> np.ndarray:
        while True:
            try:
                slab = self._free.pop()
            except IndexError:
                break
            if len(slab) >= size:
                return slab
        if size > self._size:  # by an eighth at least: lengths creep up to the longest
            self._size = max(size, self._size * 9 // 8)
        self.slabs += 1
        return allocate((self._size,), _BYTE)

    def _give_back(self, number: int) -> None:
        slab, _ = self._lent.pop(number, (None, None))
        if slab is not None:
            self._free.append(slab)


class Place:
    """Tensors of one view in one place of a ring: each is written over the one before."""

    def __init__(self) -> None:
        self._slab = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
        size = math.prod(shape) * dtype.itemsize
        if len(self._slab) < size:
            self._slab = allocate((size,), _BYTE)
        return torch.from_numpy(self._slab[:size].view(dtype).reshape(shape))


Buffers = Callable[[int], Mapping[str, Empty]]
"""Where the tensors of batch ``number`` of an epoch go, by view."""


def everywhere(keys: Iterable[str], empty: Empty) -> Buffers:
    places = dict.fromkeys(keys, empty)
    return lambda number: places


def pools(keys: Iterable[str], keep: int) -> Buffers:
    places = {key: Pool(keep) for key in keys}
    return lambda number: places


def ring(keys: Iterable[str], size: int) -> Buffers:
    listed = list(keys)
    places = [{key: Place() for key in listed} for _ in range(size)]
    return lambda number: places[number % size]

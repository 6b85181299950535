"""Views that are held whole in memory, of this machine or of a device."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from merstore.errors import MerstoreError
from merstore.load.buffers import fresh, torch_dtype
from merstore.load.source import Empty, Part, Source
from merstore.machine import available_memory

CHUNK_BYTES = 64 << 20  # read at a time

# index_select knows no unsigned integers of more than a byte
_SELECTED_AS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}

Progress = Callable[[str, int, int], None]
"""Called with a view's key, bytes loaded and bytes in all."""


class Resident:
    """A source's entries in one tensor: a batch is an index_select. Of one state of the view, see ``stamp``.

    Entries lie in the order in which they are in the file, so that loading reads it from front to back; behind
    them is a row of zeros, for what is missing and for padding.
    """

    def __init__(
        self, source: Source, device: torch.device, progress: Progress | None = None
    ) -> None:
        self.source = source
        self.device = device
        self.stamp = source.stamp()
        everything = np.arange(len(source.selection))
        picked = source.selection._pick(everything)
        self.present = picked.mask()
        self.complete = bool(self.present.all())
        self.lengths = picked.lengths()
        self.total = int(self.lengths.sum())
        rows = everything[self.present]
        places = np.fromiter(
            (picked.slots.location(row)[0] for row in rows.tolist()), np.int64, len(rows)
        )
        rows = rows[np.argsort(places)]
        ends = np.cumsum(self.lengths[rows])
        self.starts = np.full(len(everything), self.total)
        self.starts[rows] = ends - self.lengths[rows]
        shape = (self.total + 1, *source.record.row_shape)
        self.values = self._load(rows, ends, shape, progress)

    def _load(
        self, rows: np.ndarray, ends: np.ndarray, shape: tuple[int, ...], progress: Progress | None
    ) -> torch.Tensor:
        source, dtype = self.source, self.source.dtype
        here = self.device.type == "cpu"
        values = fresh(shape, dtype) if here else _on(self.device, shape, dtype)
        values[-1] = 0
        row_bytes = max(1, values[0].nbytes)
        done = first = 0
        while first < len(rows):
            # up to a chunk, and one entry at least
            last = int(np.searchsorted(ends, done + CHUNK_BYTES // row_bytes, "right"))
            last = max(last, first + 1)
            end = int(ends[last - 1])
            part = values[done:end] if here else fresh((end - done, *shape[1:]), dtype)
            source.selection.gather(rows[first:last], part)
            if not here:
                values[done:end].copy_(part)
            first, done = last, end
            if progress:
                progress(source.key, done * row_bytes, self.total * row_bytes)
        if self.device.type == "cuda":  # batches are made on other streams
            torch.cuda.synchronize(self.device)
        return values

    def read(self, rows: np.ndarray, empty: Empty) -> Part:
        """As Source.read, but on the device."""
        mask = self.present[rows]
        if not (self.complete or mask.all()) and self.source.reading.on_miss != "mask":
            return self.source.read(rows, empty)  # which raises, or fills
        lengths = self.lengths[rows]
        if not self.source.record.ragged:
            index = self.starts[rows]
            return Part(self._select(index, index.shape, empty), torch.from_numpy(mask))
        if self.source.reading.layout != "padded":
            return self._values(rows, mask, lengths, empty)
        width = self.source.width(lengths)
        np.minimum(lengths, width, out=lengths)
        steps = np.arange(width) - np.zeros((len(rows), 1), np.int64)
        if self.source.reading.side == "front":
            steps -= (width - lengths)[:, None]
        inside = (steps >= 0) & (steps < lengths[:, None])
        index = np.where(inside, self.starts[rows][:, None] + steps, self.total)
        values = self._select(index.reshape(-1), index.shape, empty)
        return Part(values, torch.from_numpy(mask), torch.from_numpy(lengths))

    def _values(
        self, rows: np.ndarray, mask: np.ndarray, lengths: np.ndarray, empty: Empty
    ) -> Part:
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        index = np.repeat(self.starts[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Part(
            self._select(index, index.shape, empty),
            torch.from_numpy(mask),
            torch.from_numpy(lengths),
            torch.from_numpy(offsets),
        )

    def _select(self, index: np.ndarray, shape: tuple[int, ...], empty: Empty) -> torch.Tensor:
        rows = torch.from_numpy(index)
        kind = self.values.dtype
        values = self.values.view(_SELECTED_AS.get(kind, kind))
        if self.device.type != "cpu":
            if self.device.type == "cuda":  # not given up before this stream is done with it
                self.values.record_stream(torch.cuda.current_stream(self.device))
            selected = torch.index_select(values, 0, rows.to(self.device, non_blocking=True))
            return selected.view(kind).view(*shape, *values.shape[1:])
        out = empty((*shape, *values.shape[1:]), self.source.dtype)
        torch.index_select(values, 0, rows, out=out.view(values.dtype).view(-1, *values.shape[1:]))
        return out


def _on(device: torch.device, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> torch.Tensor:
    return torch.empty(shape, dtype=torch_dtype(dtype), device=device)


class Cache:
    """Holds views in memory, as long as they do not change.

    where: ``"ram"``, ``"device"``, ``"auto"`` or None. nbytes: for all views in one memory; by default half of what is
    free there, what is held included.
    """

    def __init__(
        self,
        where: str | None,
        device: torch.device | None,
        nbytes: int | None,
        progress: Progress | None,
    ) -> None:
        if where not in (None, "ram", "device", "auto"):
            raise MerstoreError(f'cache is "ram", "device", "auto" or None, not {where!r}')
        if where == "device" and device is None:
            raise MerstoreError('cache="device" needs device=, which says where')
        self.held: dict[str, Resident] = {}
        self._nbytes = nbytes
        self._progress = progress
        self._devices = []
        if device is not None and (where == "device" or (where == "auto" and device.type != "cpu")):
            self._devices.append(device)
        if where in ("ram", "auto"):
            self._devices.append(torch.device("cpu"))

    def update(self, sources: Mapping[str, Source]) -> None:
        """Load what there is room for and is not held, or has changed."""
        if not self._devices:
            return
        for key in [key for key, held in self.held.items() if held.stamp != sources[key].stamp()]:
            del self.held[key]  # before its memory is needed again
        left = {device: self._left(device) for device in self._devices}
        for key, source in sources.items():
            if key not in self.held and settled(source):
                size = _nbytes(source)
                device = next((device for device in left if size <= left[device]), None)
                if device is not None:
                    self.held[key] = self._loaded(source, device)
                    left[device] -= size

    def _left(self, device: torch.device) -> int:
        taken = sum(held.values.nbytes for held in self.held.values() if held.device == device)
        nbytes = (_free(device) + taken) // 2 if self._nbytes is None else self._nbytes
        return nbytes - taken

    def _loaded(self, source: Source, device: torch.device) -> Resident:
        store = source.view.store
        while True:
            before = store.snapshot()
            resident = Resident(source, device, self._progress)
            if store.snapshot() is before:
                return resident


def _nbytes(source: Source) -> int:
    """What a source would take. Reads the index only."""
    record = source.record
    return (int(source.lengths().sum()) + 1) * record.row_elements * source.dtype.itemsize


def settled(source: Source) -> bool:
    """Whether what is there is all there will be, so that it makes sense to hold it."""
    if source.reading.on_miss != "fill":
        return True
    absent = np.flatnonzero(~source.selection.present())
    return not source.view.missing(source.selection.names.decoded(absent))


def _free(device: torch.device) -> int:
    """Memory that is free there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()

"""One iteration's way from row numbers to batches."""

import contextlib
import resource
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from merstore.load.batch import FeatureBatch
from merstore.load.buffers import Buffers
from merstore.load.dataset import FeatureDataset
from merstore.load.device import Copies
from merstore.load.resident import Resident

Asked = tuple[int, np.ndarray, "np.ndarray | None"]
"""The number of a batch, its rows, and those of a later one."""


class Gather:
    """Gathers batches, in any thread; ``received`` is for the thread that uses them.

    Where a thread has had to read from the disk, the pages of the later batch are asked for before its own are
    gathered. Where all was in memory that is not done.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        held: Mapping[str, Resident],
        buffers: Buffers,
        device: torch.device | None,
        pin_memory: bool,
        advice: bool,
    ) -> None:
        self.dataset = dataset
        self.sources = dataset.sources | dict(held)
        self.buffers = buffers
        self.device = device
        self.pin_memory = pin_memory
        self.copies = Copies(device) if device is not None and device.type == "cuda" else None
        self.advised = [
            source.selection
            for key, source in dataset.sources.items()
            if advice and key not in held
        ]
        self.cold = False

    def __call__(self, asked: Asked) -> Any:
        number, rows, later = asked
        before = _disk_reads()
        if self.cold and later is not None:
            for selection in self.advised:
                selection.willneed(later)
        stream = self.copies.stream if self.copies else None
        with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
            batch = self.dataset.batch(rows, self.buffers(number), self.sources)
        self.cold = _disk_reads() != before
        if self.copies:
            return self.copies.sent(batch)
        if self.device is not None and self.device.type != "cpu":
            return batch.to(self.device)
        return batch.pin_memory() if self.pin_memory else batch

    def received(self, done: Any) -> FeatureBatch:
        batch: FeatureBatch = self.copies.received(*done) if self.copies else done
        return batch


def _disk_reads() -> int:
    """What this thread has had read from disks so far, asked for ahead or waited for."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock

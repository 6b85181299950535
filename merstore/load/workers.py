"""Batches from worker processes, by torch's DataLoader."""

import multiprocessing.resource_tracker
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from merstore.load.batch import FeatureBatch
from merstore.load.buffers import shared
from merstore.load.dataset import FeatureDataset

Asked = tuple[int, np.ndarray]  # which iteration of the loader, and the rows of a batch


class _Batches(Dataset[FeatureBatch]):
    """What a worker holds: the dataset, refreshed once in each iteration."""

    def __init__(self, dataset: FeatureDataset) -> None:
        self.dataset = dataset
        self.empty = dict.fromkeys(dataset.views, shared)
        self.iteration = 0

    def __getitem__(self, asked: Asked) -> FeatureBatch:
        iteration, rows = asked
        if iteration != self.iteration:
            self.dataset.refresh()
            self.iteration = iteration
        return self.dataset.batch(rows, self.empty)


class _Order(Sampler[Asked]):
    """The order of the present iteration, as DataLoader asks for it."""

    def __init__(self) -> None:
        self.iteration = 0
        self.rows: Iterator[np.ndarray] = iter(())

    def __iter__(self) -> Iterator[Asked]:
        return ((self.iteration, rows) for rows in self.rows)


class Workers:
    """Worker processes that gather batches: a DataLoader with ``batch_size=None``.

    Workers never see Ctrl-C, which a terminal sends to all: they end when the process that started them does.
    """

    def __init__(self, dataset: FeatureDataset, count: int, options: dict[str, Any]) -> None:
        self._order = _Order()
        self._loader: DataLoader[FeatureBatch] = DataLoader(
            _Batches(dataset),
            batch_size=None,
            sampler=self._order,
            num_workers=count,
            **options,
        )

    def __call__(self, rows: Iterator[np.ndarray]) -> Iterator[FeatureBatch]:
        """Batches of ``rows``, in order."""
        self._order.iteration += 1
        self._order.rows = rows
        with _uninterrupted():
            return iter(self._loader)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started meanwhile never get Ctrl-C; here it waits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # which would unblock it after starting its own process
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Batches of a FeatureDataset, one after the other."""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from merstore.errors import MerstoreError
from merstore.load import buffers
from merstore.load.batch import FeatureBatch
from merstore.load.dataset import FeatureDataset
from merstore.load.device import as_device
from merstore.load.foreign import SamplerOrder
from merstore.load.gather import Asked, Gather
from merstore.load.pipeline import in_order, with_later
from merstore.load.resident import Cache, Progress
from merstore.load.samplers import BatchOrder, RowOrder, Share
from merstore.load.workers import Workers
from merstore.profile import load_profile

THREADS = 2  # at most: two fill the memory's bandwidth, and more take cores from the model
PREFETCH = 2
ADVISED_AHEAD = 2  # batches between the one that is gathered and the one whose pages are asked for


class FeatureLoader:
    """Iterates FeatureBatches of a dataset.

    batch_size, shuffle, seed, drop_last, rank, world_size: the order, as RowOrder has it (``shuffle="blocks"`` for cold
    disks). rank and world_size are torch.distributed's where that is initialised. sampler: another order (BucketOrder,
    TokenOrder, RowOrder with weights), or any Sampler of single rows, which is cut into batches. An epoch's order
    depends on seed and epoch alone; epochs follow each other by themselves.

    Threads of this process gather batches ahead, with the interpreter lock released: ``num_workers=0`` is the fast way.
    threads: how many; 0 gathers in the caller's thread. By default 2, or 1 on a machine of one core.
    prefetch: batches at most (2 by default) that are under way or waiting while the caller works on one.
    reuse: False: what you keep of a batch never changes, and its memory is used again once you hold nothing of it.
    True: a batch is good until the next one is asked for; its memory is written over ``prefetch + 1`` batches later.
    pin_memory: batches in page-locked memory. device: batches on this device; to a GPU they are copied from page-locked
    memory on a stream of their own, while the batch before is worked on.
    advice: ask the system for the pages of batches to come, while they are found to be on disk.

    cache: hold views in memory, ``"ram"``, ``"device"`` (that of ``device=``), or ``"auto"``: on the device if that is
    a GPU and has room, else in RAM, else not. A view is held if it fits in what is left of cache_bytes (by default
    half of the memory that is free there), and is loaded when an iteration begins and the view has changed;
    ``held`` says which are. progress: called with key, bytes loaded and bytes in all.

    profile: ``"auto"`` takes threads, prefetch, advice and cache, where they are not given, from what
    ``merstore tune`` found best for these views on this machine; where that holds no longer, a warning says why.

    num_workers: with worker processes, DataLoader's; ``options`` are its further arguments (``persistent_workers``,
    ``multiprocessing_context``, ``prefetch_factor``, ...).

    The stores are refreshed when an iteration begins; a batch is always of one state of each store. With
    ``on_miss="fill"`` what is missing is computed in the caller's thread when its batch is ``prefetch`` batches ahead.

    ``state_dict()`` is where the last iteration is, counted in batches that the caller was given; an iteration after
    ``load_state_dict()`` yields exactly the rest. Use it as torchdata's StatefulDataLoader.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        batch_size: int = 256,
        *,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        sampler: "BatchOrder | Sampler[int] | None" = None,
        rank: int | None = None,
        world_size: int | None = None,
        threads: int | None = None,
        prefetch: int | None = None,
        reuse: bool = False,
        pin_memory: bool = False,
        device: "str | int | torch.device | None" = None,
        cache: str | None = None,
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        advice: bool | None = None,
        num_workers: int = 0,
        profile: str | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(dataset, FeatureDataset):
            raise MerstoreError(
                f"FeatureLoader loads a FeatureDataset, not {dataset!r} (a part of one: dataset.take(rows))"
            )
        if profile not in (None, "auto"):
            raise MerstoreError(f'profile is "auto" or None, not {profile!r}')
        if profile and not num_workers and (tuned := load_profile(dataset)):
            settings = tuned.settings
            threads = settings.get("threads") if threads is None else threads
            prefetch = settings.get("prefetch") if prefetch is None else prefetch
            advice = settings.get("advice") if advice is None else advice
            if cache is None and (device is not None or settings.get("cache") != "device"):
                cache = settings.get("cache")
        prefetch = PREFETCH if prefetch is None else prefetch
        if not num_workers and any(options.values()):
            raise MerstoreError(
                f"{', '.join(options)}: for num_workers > 0, which has DataLoader's arguments"
            )
        if num_workers and (cache or reuse or threads):
            raise MerstoreError(
                "cache, reuse and threads are for num_workers=0, where all is done in this process"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.device = as_device(device)
        self.cache = Cache(cache, self.device, cache_bytes, progress)
        self.sampler = _order(
            dataset, batch_size, shuffle, seed, drop_last, sampler, rank, world_size
        )
        self.threads = min(THREADS, os.cpu_count() or 1) if threads is None else threads
        self.prefetch = prefetch
        for name, value in ("threads", self.threads), ("prefetch", prefetch):
            if not isinstance(value, int) or value < 0:
                raise MerstoreError(f"{name} is a number, 0 or more, not {value!r}")
        self.reuse = reuse
        if pin_memory and not torch.cuda.is_available():
            warnings.warn("pin_memory without a GPU: memory is not pinned", stacklevel=2)
            pin_memory = False
        self.pin_memory = pin_memory
        self.advice = advice is not False
        self._pools = buffers.pools(dataset.views, prefetch + 3)
        self._workers = None
        if num_workers:
            self._workers = Workers(dataset, num_workers, options | {"pin_memory": pin_memory})
        self._iteration = 0
        self._consumed = 0

    def __len__(self) -> int:
        """Batches in an epoch (of this rank)."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is of this epoch."""
        self.sampler.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the caller is in, or, between two iterations, the one that comes next."""
        epoch: int = self.state_dict()["epoch"]
        return epoch

    @property
    def held(self) -> dict[str, torch.device]:
        """Which views are held in memory since the last iteration began, and where."""
        return {key: held.device for key, held in self.cache.held.items()}

    def state_dict(self) -> dict[str, Any]:
        """A few hundred bytes, JSON-able."""
        return self.sampler.state_dict(self._consumed)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration continues where ``state`` was taken. The number of ranks, of workers and the batch
        size may be others than then; what is left of the epoch is dealt out anew.

        Raises MerstoreError for the state of another dataset, order or version.
        """
        self.sampler.load_state_dict(state)
        self._consumed = 0

    def __iter__(self) -> Iterator[FeatureBatch]:
        self.dataset.refresh()
        self._iteration += 1
        self._consumed = 0
        order = iter(self.sampler)
        batches = self._workers(order) if self._workers else self._gathered(order)
        return map(partial(self._counted, self._iteration, count(1)), batches)

    # A batch that is handed over stays in no variable here: the caller decides how long it lives.

    def _counted(self, iteration: int, numbers: Iterator[int], batch: FeatureBatch) -> FeatureBatch:
        number = next(numbers)
        if iteration == self._iteration:
            self._consumed = number
        if self._workers and self.device is not None:
            return batch.to(self.device, non_blocking=True)
        return batch

    def _gathered(self, order: Iterator[np.ndarray]) -> Iterator[FeatureBatch]:
        self.cache.update(self.dataset.sources)
        gather = Gather(
            self.dataset,
            self.cache.held,
            self._buffers(),
            self.device,
            self.pin_memory,
            self.advice,
        )
        asked = self._asked(order)
        return map(gather.received, in_order(gather, asked, self.threads, self.prefetch))

    def _asked(self, order: Iterator[np.ndarray]) -> Iterator[Asked]:
        for number, (rows, later) in enumerate(with_later(order, ADVISED_AHEAD)):
            self.dataset.fill(rows)  # here, where Ctrl-C can end it, and one batch at a time
            yield number, rows, later

    def _buffers(self) -> buffers.Buffers:
        views = self.dataset.views
        if self.pin_memory or (self.device is not None and self.device.type == "cuda"):
            return buffers.everywhere(views, buffers.pinned)
        if self.reuse:
            return buffers.ring(views, self.prefetch + 1 if self.threads else 1)
        return self._pools


def _order(
    dataset: FeatureDataset,
    batch_size: int,
    shuffle: Any,
    seed: int,
    drop_last: bool,
    sampler: Any,
    rank: int | None,
    world_size: int | None,
) -> "BatchOrder | SamplerOrder":
    if sampler is None:
        share: Share = {"seed": seed, "drop_last": drop_last, **_share(rank, world_size)}
        return RowOrder(len(dataset), batch_size, shuffle, **share)
    if shuffle or rank is not None or world_size is not None:
        raise MerstoreError("shuffle, rank and world_size are the sampler's, where one is given")
    if not isinstance(sampler, BatchOrder):
        return SamplerOrder(sampler, len(dataset), batch_size, drop_last)
    rows = getattr(sampler, "count", len(dataset))
    if rows != len(dataset):
        raise MerstoreError(
            f"the sampler is for {rows} samples, and the dataset has {len(dataset)}"
        )
    return sampler


def _share(rank: int | None, world_size: int | None) -> Share:
    if (rank is None) != (world_size is None):
        raise MerstoreError("rank and world_size go together: give both or none")
    if rank is not None and world_size is not None:
        return {"rank": rank, "world_size": world_size}
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
    return {}

"""Batches of a FeatureDataset, one after the other."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, SequentialSampler

from merstore.load.batch import FeatureBatch
from merstore.load.dataset import FeatureDataset


class FeatureLoader:
    """Iterates FeatureBatches: torch's DataLoader, asked for whole batches, so that each is gathered
    in one go.

    ``num_workers=0`` is the usual choice: a gather runs at memory speed. Other arguments (``num_workers``,
    ``multiprocessing_context``, ``persistent_workers``, ``pin_memory``, ...) go to DataLoader.
    seed: for ``shuffle``; the order then depends on it and the epoch alone. The store is refreshed between
    epochs.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        batch_size: int = 256,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        sampler: "Sampler[int] | None" = None,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        self.epoch = 0
        self._seed = seed
        self._generator = torch.Generator()
        if sampler is None:
            order: Iterable[int] = (
                RandomSampler(dataset, generator=self._generator)
                if shuffle
                else SequentialSampler(dataset)
            )
        else:
            order = sampler
        batches = BatchSampler(order, batch_size, drop_last)
        # batch_size=None: DataLoader passes each list of indices to dataset[...] as it is
        self._loader: DataLoader[Any] = DataLoader(
            dataset, batch_size=None, sampler=batches, **options
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[FeatureBatch]:
        for store in {id(view.store): view.store for view in self.dataset.views.values()}.values():
            store.refresh()
        self._generator.manual_seed(hash((self._seed, self.epoch)))
        self.epoch += 1
        return iter(self._loader)

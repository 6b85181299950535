from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value, load_from_disk
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from .peer import Batches, Collate, Entries, Index, Peer, Read, same


class HuggingFace(Peer):
    reads = 'List(float32, length) of flattened values (an Array2D column took ten times as long); with_format("torch")[rows]'
    pads = 'List(List(float32, length)); with_format("numpy")[rows], padded'
    loads = 'torch DataLoader over with_format("torch") with a BatchSampler and batch_size=None'

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        vector = List(Value("float32"), length=index.item_bytes // 4)
        features = Features(
            {"name": Value("string"), "x": List(vector) if index.ragged else vector}
        )
        dataset = Dataset.from_generator(
            _rows,
            features=features,
            gen_kwargs={"entries": _Held(entries)},
            cache_dir=str(folder / "cache"),
        )
        dataset.save_to_disk(str(folder / "x"))

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        dataset = load_from_disk(str(folder / "x")).select_columns(["x"])
        if not index.ragged:
            tensors = dataset.with_format("torch")
            return lambda rows: tensors[rows.tolist()]["x"].reshape(-1, *index.shape)
        arrays = dataset.with_format("numpy")
        collate = Collate(index, batch_size, reuse)

        def pad(rows: np.ndarray) -> np.ndarray:
            entries = arrays[rows.tolist()]["x"]
            return collate(rows, (_dense(entry, index.shape) for entry in entries))

        return pad

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        dataset = load_from_disk(str(folder / "x")).with_format("torch")
        order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=BatchSampler(order, batch_size, drop_last=False),
            collate_fn=same,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        return _Named(loader, index.shape)


class _Named:
    def __init__(self, loader: DataLoader[Any], shape: tuple[int, ...]) -> None:
        self.loader, self.shape = loader, shape

    def __iter__(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        return ((batch["name"], batch["x"].reshape(-1, *self.shape)) for batch in self.loader)


class _Held:
    """Entries that `from_generator` need not read to make a fingerprint of them."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries

    def __reduce__(self) -> Any:
        return _Held, (None,)


def _rows(entries: _Held) -> Iterator[dict[str, Any]]:
    ragged = entries.entries.index.ragged
    for name, entry in entries.entries.items():
        yield {"name": name, "x": list(entry) if ragged else entry.reshape(-1)}


def _dense(entry: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if entry.dtype == object:
        entry = np.stack(list(entry))
    return entry.reshape(-1, *shape)

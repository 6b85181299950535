from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import merstore
from benchmarks.data import FRAMES, RAGGED, VECTORS
from benchmarks.peers.peer import Batches, Entries, Index, Peer, Read
from merstore.load import FeatureDataset, FeatureLoader


class Merstore(Peer):
    reads = "selection.gather(rows, out=tensor)"
    pads = "selection.padded(rows, out=array)"
    loads = "FeatureLoader(FeatureDataset(view), batch_size=256, shuffle=True)"
    workers = (0,)

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        shape = (None, *index.shape) if index.ragged else index.shape
        with merstore.open(folder / "s.mer", "a") as store:
            view = store.create_view(_path(index), dtype="float32", shape=shape)
            view.update(entries.items())

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        selection = _view(folder, index).select(index.names)
        if index.lengths is None:
            out = torch.empty(batch_size, *index.shape)
            return lambda rows: selection.gather(rows, out=out[: len(rows)])
        lengths = index.lengths
        padded = np.zeros((batch_size, int(lengths.max()), *index.shape), np.float32).reshape(-1)

        def pad(rows: np.ndarray) -> np.ndarray:
            longest = int(lengths[rows].max())
            shape = len(rows), longest, *index.shape
            out = padded[: int(np.prod(shape))].reshape(shape)
            return selection.padded(rows, longest, out=out)[0]

        return pad

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        dataset = FeatureDataset({"x": _view(folder, index)}, names=index.names)
        return _Named(FeatureLoader(dataset, batch_size=batch_size, shuffle=True, seed=seed))


class _Named:
    def __init__(self, loader: FeatureLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        return ((batch.names, batch["x"]) for batch in self.loader)


def _path(index: Index) -> str:
    if index.ragged:
        return RAGGED.view
    return FRAMES.view if index.shape == FRAMES.shape else VECTORS.view


def _view(folder: Path, index: Index) -> merstore.View:
    return merstore.open(folder / "s.mer")[_path(index)]

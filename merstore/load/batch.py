"""A batch of samples with their tensors, by key."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from merstore.load.source import Reading
from merstore.store.names import Names


class FeatureBatch:
    """Tensors of one batch by key, with the samples' names.

    names: list of B names. ``batch[key]`` of a view: tensor ``[B, *shape]``; of a ragged one, by the dataset's
    ``layout``: ``[B, T, ...]`` padded with zeros, values ``[sum of lengths, ...]`` back to back, or a jagged
    nested tensor. Of a column: its values, ``[B, ...]``.
    mask: by key of a view, bool ``[B]``: False where the sample has no entry in that view and its row is zeros.
    lengths: by key of ragged views, int64 ``[B]``. offsets: by key of ragged views that are not padded, int64
    ``[B + 1]``: sample i is ``values[offsets[i]:offsets[i + 1]]``.

    ``model(**batch)`` passes the tensors, and what an item has beside them too: under ``<key>_length`` the lengths of
    padded views, and under ``<key>_mask`` the mask of views that are not read with ``on_miss="raise"``.
    (``batch["<key>_length"]`` and ``batch["<key>_mask"]`` are there in any case.)
    It is no Mapping on purpose: DataLoader takes those apart and gives plain dicts back.
    """

    def __init__(
        self,
        names: Names,
        rows: np.ndarray,
        tensors: dict[str, torch.Tensor],
        mask: dict[str, torch.Tensor],
        lengths: dict[str, torch.Tensor],
        offsets: dict[str, torch.Tensor],
        readings: Mapping[str, Reading],
    ) -> None:
        """names, rows: the samples are ``names[row]`` for each of ``rows``, looked up when asked for."""
        self.tensors = tensors
        self.mask = mask
        self.lengths = lengths
        self.offsets = offsets
        self._names: tuple[Names, np.ndarray] | Names | list[str] = names, rows
        self._size = len(rows)
        self._readings = readings

    @property
    def names(self) -> list[str]:
        if isinstance(self._names, tuple):
            names, rows = self._names
            self._names = names.decoded(rows)
        elif isinstance(self._names, Names):
            self._names = list(self._names)
        return self._names

    def __getitem__(self, key: str) -> torch.Tensor:
        tensor = self.tensors.get(key)
        if tensor is None:
            view, _, what = str(key).rpartition("_")
            parts = {"length": self.lengths, "mask": self.mask}
            if what not in parts or view not in parts[what]:
                raise KeyError(key)
            return parts[what][view]
        if key in self.offsets and self._readings[key].layout == "nested":
            return torch.nested.nested_tensor_from_jagged(tensor, self.offsets[key])
        return tensor

    def padding(self, key: str) -> torch.Tensor:
        """bool ``[B, T]``: which places of a padded view hold zeros only because the sample is shorter."""
        lengths, reading = self.lengths[key], self._readings[key]
        width = self.tensors[key].shape[1]
        places = torch.arange(width, device=lengths.device)
        if reading.side == "front":
            return places < (width - lengths)[:, None]
        return places >= lengths[:, None]

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        keys = list(self.tensors)
        for key, reading in self._readings.items():
            if key in self.lengths and key not in self.offsets:
                keys.append(f"{key}_length")
            if reading.on_miss != "raise":
                keys.append(f"{key}_mask")
        return keys

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((key, self[key]) for key in self.keys())

    def __len__(self) -> int:
        """The number of samples."""
        return self._size

    def to(self, device: Any, non_blocking: bool = False) -> "FeatureBatch":
        """The same batch with its tensors on ``device``."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> "FeatureBatch":
        """The same batch in page-locked memory (called by DataLoader's ``pin_memory=True``)."""

        def pinned(tensor: torch.Tensor) -> torch.Tensor:
            here = tensor.device.type == "cpu"
            return tensor.pin_memory() if here and not tensor.is_pinned() else tensor

        return self._each(pinned)

    def each(self) -> Iterator[torch.Tensor]:
        """All tensors: features, columns, masks, lengths and offsets."""
        for part in (self.tensors, self.mask, self.lengths, self.offsets):
            yield from part.values()

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "FeatureBatch":
        def changed(part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {key: change(tensor) for key, tensor in part.items()}

        copy = object.__new__(FeatureBatch)
        copy.__dict__ = self.__dict__ | {
            part: changed(getattr(self, part)) for part in ("tensors", "mask", "lengths", "offsets")
        }
        return copy

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self._names, tuple):  # of the dataset's names only these go along
            names, rows = self._names
            return self.__dict__ | {"_names": names.take(rows)}
        return self.__dict__

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key} {list(tensor.shape)}" for key, tensor in self.tensors.items())
        return f"FeatureBatch({len(self)} samples: {shapes})"

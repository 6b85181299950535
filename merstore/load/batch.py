"""A batch of samples with their tensors, by key."""

from collections.abc import Callable, ItemsView, KeysView
from typing import Any

import torch


class FeatureBatch:
    """Tensors of one batch by key, with the samples' names.

    names: list of B names. ``batch[key]``: tensor ``[B, *shape]``; of a ragged view padded with zeros
    at the back, ``[B, T, ...]``. lengths: by key of ragged views, int64 ``[B]``. mask: by key, bool ``[B]``: False
    where the sample has no entry in that view and its row is zeros.

    ``model(**batch)`` passes the tensors. It is no Mapping on purpose: DataLoader takes those apart and
    gives plain dicts back.
    """

    def __init__(
        self,
        names: list[str],
        tensors: dict[str, torch.Tensor],
        mask: dict[str, torch.Tensor],
        lengths: dict[str, torch.Tensor],
    ) -> None:
        self.names = names
        self.tensors = tensors
        self.mask = mask
        self.lengths = lengths

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.tensors[key]

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    def keys(self) -> KeysView[str]:
        return self.tensors.keys()

    def items(self) -> ItemsView[str, torch.Tensor]:
        return self.tensors.items()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.names)

    def to(self, device: Any, non_blocking: bool = False) -> "FeatureBatch":
        """The same batch with its tensors on ``device``."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> "FeatureBatch":
        """The same batch in page-locked memory (called by DataLoader's ``pin_memory=True``)."""
        return self._each(lambda tensor: tensor if tensor.is_pinned() else tensor.pin_memory())

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "FeatureBatch":
        def changed(part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {key: change(tensor) for key, tensor in part.items()}

        return FeatureBatch(
            self.names, changed(self.tensors), changed(self.mask), changed(self.lengths)
        )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key} {list(tensor.shape)}" for key, tensor in self.tensors.items())
        return f"FeatureBatch({len(self.names)} samples: {shapes})"

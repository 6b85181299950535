"""Samplers of single rows, as torch has them, as an order of batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from xxhash import xxh3_64_hexdigest

from merstore.errors import MerstoreError

_VERSION = 1


class SamplerOrder:
    """Cuts what ``sampler`` yields into batches of ``batch_size``; used as a BatchOrder is.

    An epoch's order is drawn when it begins. A state counts rows and has a digest of them, so that an order
    that does not come again (a RandomSampler without a seeded generator) is noticed and not continued.
    Where the sampler has ``set_epoch`` (DistributedSampler), it is told the epoch.
    """

    def __init__(
        self, sampler: "Sampler[int]", count: int, batch_size: int, drop_last: bool
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise MerstoreError(f"batch_size is a number, 1 or more, not {batch_size!r}")
        self.sampler = sampler
        self.count = count
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = 0
        self._begun = False
        self._resumed: tuple[int, str] | None = None  # rows consumed before, and their digest
        self._run: tuple[int, int, np.ndarray] | None = (
            None  # the last iteration's epoch, start, order
        )

    def __len__(self) -> int:
        rows = len(self.sampler)  # type: ignore[arg-type]
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        if self._begun or epoch != self.epoch:
            self.epoch, self._begun, self._resumed = epoch, False, None

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._begun:
            self.set_epoch(self.epoch + 1)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.epoch)
        order = self._drawn()
        start, digest = self._resumed or (0, _digest(order[:0]))
        if _digest(order[:start]) != digest:
            raise MerstoreError(
                f"the sampler's order is not the one that was begun: {type(self.sampler).__name__} gives another each "
                "time. Seed its generator anew for each epoch, or use the loader's own shuffle"
            )
        self._run = self.epoch, start, order
        return self._batches(*self._run)

    def _drawn(self) -> np.ndarray:
        order = np.array(list(self.sampler))
        if order.size and (order.ndim != 1 or order.dtype.kind not in "iu"):
            raise MerstoreError(
                f"{type(self.sampler).__name__} does not yield row numbers one by one: a sampler of batches is one of "
                "merstore.load's BatchOrder"
            )
        outside = order[(order < 0) | (order >= self.count)]
        if outside.size:
            raise MerstoreError(
                f"the sampler yields row {outside[0]}, and the dataset has {self.count} samples"
            )
        return order.astype(np.int64)

    def _batches(self, epoch: int, start: int, order: np.ndarray) -> Iterator[np.ndarray]:
        size = self.batch_size
        for first in range(start, len(order), size):
            rows = order[first : first + size]
            if len(rows) < size and self.drop_last:
                break
            self._begun |= epoch == self.epoch
            yield rows
        if epoch == self.epoch:
            self.set_epoch(epoch + 1)

    def state_dict(self, batches: int) -> dict[str, Any]:
        """Where the last iteration is once ``batches`` of it were consumed."""
        epoch, start, order = self._run or (self.epoch, 0, np.empty(0, np.int64))
        position = min(start + batches * self.batch_size, len(order))
        digest = _digest(order[:position])
        if self._run is None and self._resumed:
            position, digest = self._resumed
        elif position and (
            len(order) - position < (self.batch_size if self.drop_last else 1)
        ):  # all of it
            epoch, position, digest = epoch + 1, 0, _digest(order[:0])
        return {
            "version": _VERSION,
            "kind": type(self).__name__,
            "settings": {"sampler": type(self.sampler).__name__, "count": self.count},
            "epoch": epoch,
            "position": position,
            "digest": digest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        ours = {key: self.state_dict(0)[key] for key in ("version", "kind", "settings")}
        try:
            theirs = {key: state[key] for key in ours}
            if theirs != ours:
                raise MerstoreError(
                    f"the state is of another order: {theirs}, and here it is {ours}"
                )
            epoch, position = int(state["epoch"]), int(state["position"])
            digest = str(state["digest"])
        except (TypeError, KeyError, ValueError) as error:
            raise MerstoreError(
                f"this is no state of a loader, or a damaged one: {error!r}"
            ) from None
        if epoch < 0 or position < 0:
            raise MerstoreError(f"the state is damaged: epoch {epoch}, position {position}")
        self.epoch, self._begun, self._run = epoch, False, None
        self._resumed = position, digest


def _digest(rows: np.ndarray) -> str:
    return xxh3_64_hexdigest(np.ascontiguousarray(rows).tobytes())

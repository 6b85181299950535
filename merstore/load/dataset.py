"""A map-style dataset over one or several views."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from merstore.errors import MerstoreError, MissingEntry
from merstore.load.batch import FeatureBatch
from merstore.store.gathering import ON_MISS
from merstore.store.names import Names
from merstore.store.view import View


class FeatureDataset(Dataset[Any]):
    """Samples joined over views: item i is ``{"name": ..., key: tensor, ...}``.

    views: a View, several, or a mapping of key to View. Without keys of yours a view's key is its
    modality (``"frame"``), or, where two views share it, what follows the dataset in its path
    (``"audio@HUBERT_LARGE/8clips"``).
    names: which samples, in which order. By default those that all views have (with ``on_miss="fill"`` give
    them: what is not there yet cannot be listed).
    on_miss: ``"raise"``, ``"mask"`` or ``"fill"``, as in View.gather. A sample without an entry has zeros, and
    ``item["<key>_mask"]`` is False (there in all items unless ``on_miss="raise"``).

    ``dataset[i]`` is one item; ``dataset[[i, j, ...]]`` is a FeatureBatch, gathered in one go, which is what a
    DataLoader with ``batch_size=None`` and a BatchSampler as ``sampler`` asks for (FeatureLoader does). Items
    are what DataLoader's own collation expects, so it works with any other setting too; ragged entries
    then need a ``collate_fn``.

    Cheap to pickle, and safe in workers started by fork, spawn or forkserver: each opens the store for itself.
    """

    def __init__(
        self,
        views: View | Sequence[View] | Mapping[str, View],
        names: Iterable[str] | None = None,
        on_miss: str = "raise",
    ) -> None:
        if on_miss not in ON_MISS or on_miss == "skip":
            raise MerstoreError(
                f'on_miss is "raise", "mask" or "fill" here, not {on_miss!r}: to skip samples, leave '
                "them out of names (view.names(), selection.present())"
            )
        self.views = _keyed(views)
        self.on_miss = on_miss
        self.names = _common(self.views) if names is None else Names.of(names)
        self._selections = {key: view.select(self.names) for key, view in self.views.items()}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self.__getitems__([int(index)])[0]
        return self.batch(index)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Items for DataLoader's collation, gathered together."""
        rows = self._rows(indices)
        items: list[dict[str, Any]] = [{"name": self.names[row]} for row in rows.tolist()]
        for key, selection in self._selections.items():
            gathered = selection.gather(rows, on_miss=self.on_miss)
            for i, item in enumerate(items):
                item[key] = torch.from_numpy(np.asarray(gathered[i]))
                if self.on_miss != "raise":
                    item[f"{key}_mask"] = bool(gathered.mask[i])
        return items

    def batch(self, indices: Any) -> FeatureBatch:
        """The samples at ``indices`` (integers ``[B]``) as one FeatureBatch."""
        rows = self._rows(indices)
        tensors, masks, lengths = {}, {}, {}
        for key, selection in self._selections.items():
            if self.views[key].record.ragged:
                values, sizes, mask = selection.padded(rows, on_miss=self.on_miss)
                lengths[key] = torch.from_numpy(sizes)
            else:
                gathered = selection.gather(rows, on_miss=self.on_miss)
                values, mask = np.asarray(gathered), gathered.mask
            tensors[key] = torch.from_numpy(values)
            masks[key] = torch.from_numpy(mask.copy())
        return FeatureBatch([self.names[row] for row in rows.tolist()], tensors, masks, lengths)

    def _rows(self, indices: Any) -> np.ndarray:
        rows = np.asarray(indices, np.int64)
        outside = rows[(rows < -len(self)) | (rows >= len(self))]
        if outside.size:
            raise IndexError(f"sample {outside[0]} of a dataset of {len(self)}")
        return np.where(rows < 0, rows + len(self), rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"views": self.views, "names": self.names, "on_miss": self.on_miss}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"<FeatureDataset {len(self)} samples: {', '.join(self.views)}>"


def _keyed(views: View | Sequence[View] | Mapping[str, View]) -> dict[str, View]:
    if isinstance(views, Mapping):
        keyed = dict(views)
    else:
        listed = [views] if isinstance(views, View) else list(views)
        modalities = [view.modality for view in listed]
        keys = [
            view.modality if modalities.count(view.modality) == 1 else view.path.split("/", 1)[1]
            for view in listed
        ]
        if len(set(keys)) < len(keys):
            raise MerstoreError(
                f"two views would have the same key, name them: {{key: view}}; {keys}"
            )
        keyed = dict(zip(keys, listed, strict=True))
    if not keyed or "name" in keyed:
        raise MerstoreError('a dataset needs at least one view, and none under the key "name"')
    return keyed


def _common(views: Mapping[str, View]) -> Names:
    """The samples that all views have; MissingEntry says which view lacks them where there are none."""
    first, *others = views.values()
    names = first.names()
    for other in others:
        names = names.take(np.flatnonzero(other.select(names).present()))
    if not len(names):
        counts = ", ".join(f"{view.path} has {len(view)}" for view in views.values())
        raise MissingEntry(f"no sample is in all of the views: {counts}")
    return names

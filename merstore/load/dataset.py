"""A map-style dataset over one or several views."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from merstore.errors import MerstoreError, MissingEntry
from merstore.load.batch import FeatureBatch
from merstore.load.buffers import fresh, shared
from merstore.load.source import Empty, Part, Reading, Source
from merstore.store.names import Names
from merstore.store.store import Store
from merstore.store.view import View


class FeatureDataset(Dataset[Any]):
    """Samples joined over views: item i is ``{"name": ..., key: tensor, ...}``.

    views: a View, several (also of different stores), or a mapping of key to View. Without keys of yours a view's
    key is its modality (``"frame"``), or, where two views share it, what follows the dataset in its path
    (``"audio@HUBERT_LARGE/8clips"``).
    names: which samples, in which order, none twice. By default those that all views have; where that leaves some
    out, a warning says which (with ``on_miss="fill"`` give them: what is not there yet cannot be listed).
    on_miss: ``"raise"``, ``"mask"`` or ``"fill"``, as in View.gather. A sample without an entry has zeros, and
    ``item["<key>_mask"]`` is False (there in all items unless ``on_miss="raise"``).
    columns: what else belongs to a sample, such as its label, by key: ``{name: value}``, or an array
    ``[samples, ...]`` in the order of ``names``. Numbers and arrays of numbers; they are in items and batches.

    exclude: flags of quality, such as ``{"silent", "duplicate"}``: samples that have any of them, in any of their
    media, are left out (of those that share a clip all but the first by name). ``store.quality(dataset)`` has what
    is recorded; samples of which nothing is recorded stay.

    Of ragged views: ``layout`` is how a batch holds them, ``"padded"`` ``[B, T, ...]``, ``"values"`` back to back
    with offsets, or ``"nested"`` (jagged, of torch); ``side`` is where padding goes, ``"back"`` or ``"front"``;
    ``length`` what it goes up to: None for the batch's longest, ``"max"`` for the dataset's (from the index), or a
    number of rows, of which longer entries keep their first. With a length items are padded too, and have
    ``"<key>_length"``.
    dtype: cast float features to ``"float32"`` or ``"float64"`` on the way.
    on_miss, layout, side, length and dtype are for all views, or a mapping of key to value for some.

    ``dataset[i]`` is one item; ``dataset[[i, j, ...]]`` is a FeatureBatch, gathered in one go, which is what a
    DataLoader with ``batch_size=None`` and a sampler of batches asks for (FeatureLoader does). Items
    are what DataLoader's own collation expects, so it works with any other setting too; ragged entries
    then need a ``length`` or a ``collate_fn``.

    Cheap to pickle, and safe in workers started by fork, spawn or forkserver: each opens the store for itself.
    """

    def __init__(
        self,
        views: View | Sequence[View] | Mapping[str, View],
        names: Iterable[str] | None = None,
        on_miss: str | Mapping[str, str] = "raise",
        columns: Mapping[str, Any] | None = None,
        *,
        exclude: Iterable[str] = (),
        layout: str | Mapping[str, str] = "padded",
        side: str | Mapping[str, str] = "back",
        length: "int | str | Mapping[str, int | str | None] | None" = None,
        dtype: Any = None,
    ) -> None:
        self.views = _keyed(views)
        listed = _common(self.views) if names is None else _given(names)
        kept = _without(self.views, listed, exclude)
        self.names = listed if kept is None else listed.take(kept)
        options = Reading(on_miss, layout, side, length, dtype)  # type: ignore[arg-type]
        self.readings = _each(self.views, options)
        self.columns = {}
        for key, column in (columns or {}).items():
            if kept is None or isinstance(column, Mapping):
                self.columns[key] = _column(key, column, self.names, names is not None)
            else:
                self.columns[key] = _column(key, column, listed, names is not None)[kept]
        self._make()

    def _make(self) -> None:
        self._shared: dict[str, Any] | None = None
        items = [
            "name", *self.views, *self.columns,
            *(f"{key}_{more}" for key in self.views for more in ("mask", "length")),
        ]  # fmt: skip
        for key in items:
            if items.count(key) > 1:
                raise MerstoreError(f"two things in an item would be called {key!r}: rename one")
        self.sources = {
            key: Source(key, view, self.names, self.readings[key])
            for key, view in self.views.items()
        }

    def __len__(self) -> int:
        return len(self.names)

    @property
    def stores(self) -> list[Store]:
        """The stores of the views, each once."""
        return list({id(view.store): view.store for view in self.views.values()}.values())

    def refresh(self) -> None:
        """See what has been committed to the stores since. Raises UnknownView where a view is gone."""
        for store in self.stores:
            store.refresh()
        for view in self.views.values():
            view.record  # noqa: B018

    def take(self, rows: Any) -> "FeatureDataset":
        """A dataset of the samples at ``rows`` (integers ``[n]``, none twice), in their order: a split, a fold.

        ``length="max"`` is then of these samples. Raises IndexError.
        """
        rows = self.rows(rows)
        taken = object.__new__(FeatureDataset)
        taken.__setstate__(
            self.__getstate__()
            | {
                "names": _given(self.names.take(rows)),
                "columns": {key: column[rows] for key, column in self.columns.items()},
            }
        )
        return taken

    def lengths(self, key: str) -> np.ndarray:
        """int64 ``[samples]``: rows of each sample's entry in a ragged view, 0 where there is none: what
        BucketOrder and TokenOrder ask for. Reads the index only.
        """
        return self.sources[key].lengths()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self.__getitems__([int(index)])[0]
        return self.batch(self.rows(index))

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Items for DataLoader's collation, gathered together."""
        rows = self.rows(indices)
        items: list[dict[str, Any]] = [{"name": name} for name in self.names.decoded(rows)]
        for key, source in self.sources.items():
            entries, part = source.items(rows, fresh)
            for item, entry in zip(items, entries, strict=True):
                item[key] = entry
            if source.reading.length is not None and part.lengths is not None:
                for item, length in zip(items, part.lengths.tolist(), strict=True):
                    item[f"{key}_length"] = length
            if source.reading.on_miss != "raise":
                for item, there in zip(items, part.mask.tolist(), strict=True):
                    item[f"{key}_mask"] = there
        for key, column in self._columns(rows).items():
            for item, value in zip(items, column, strict=True):
                item[key] = value
        return items

    def batch(
        self,
        rows: np.ndarray,
        empty: Mapping[str, Empty] | None = None,
        sources: "Mapping[str, Any] | None" = None,
    ) -> FeatureBatch:
        """The samples at ``rows``, int64 ``[B]``, as one FeatureBatch, all of one state of each store.

        empty: where the tensors come from, by view. sources: what the views are read from, where it is
        not the stores.
        """
        stores = self.stores
        while True:
            before = [store.snapshot() for store in stores]
            parts: dict[str, Part] = {
                key: source.read(rows, empty[key] if empty else fresh)
                for key, source in (sources or self.sources).items()
            }
            # another thread may have refreshed or filled meanwhile
            if all(store.snapshot() is state for store, state in zip(stores, before, strict=True)):
                break
        return FeatureBatch(
            self.names,
            rows,
            {key: part.values for key, part in parts.items()} | self._columns(rows),
            {key: part.mask for key, part in parts.items()},
            {key: part.lengths for key, part in parts.items() if part.lengths is not None},
            {key: part.offsets for key, part in parts.items() if part.offsets is not None},
            self.readings,
        )

    def fill(self, rows: np.ndarray) -> None:
        """Have what is missing at ``rows`` computed, in views with ``on_miss="fill"``."""
        for source in self.sources.values():
            source.fill(rows)

    def rows(self, indices: Any) -> np.ndarray:
        """Integers ``[B]``, those below 0 counted from the end, as rows. Raises IndexError."""
        rows = np.asarray(indices)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(
                f"samples are asked for by integers [B], not {rows.dtype} of shape {rows.shape}"
            )
        rows = rows.astype(np.int64)
        outside = rows[(rows < -len(self)) | (rows >= len(self))]
        if outside.size:
            raise IndexError(f"sample {outside[0]} of a dataset of {len(self)}")
        return np.where(rows < 0, rows + len(self), rows)

    def _columns(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(column[rows]) for key, column in self.columns.items()}

    def __getstate__(self) -> dict[str, Any]:
        kept = ("views", "names", "readings", "columns")
        state = {key: self.__dict__[key] for key in kept}
        if get_spawning_popen() is None:
            return state
        # On its way to a worker, through a pipe that holds 64 KiB until the worker has imported torch: what is
        # larger would keep the next worker from being started. Tensors go there in shared memory.
        if self._shared is None:
            blob, offsets = self.names.parts
            self._shared = {
                "names": (_shared(np.frombuffer(blob, np.uint8)), _shared(offsets)),
                "columns": {key: _shared(column) for key, column in self.columns.items()},
            }
        return state | self._shared

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state["names"], Names):
            blob, offsets = state["names"]
            state["names"] = Names(blob.numpy().tobytes(), offsets.numpy())
            state["columns"] = {key: column.numpy() for key, column in state["columns"].items()}
        self.__dict__ = state
        self._make()

    def __repr__(self) -> str:
        return f"<FeatureDataset {len(self)} samples: {', '.join([*self.views, *self.columns])}>"


def _shared(array: np.ndarray) -> torch.Tensor:
    tensor = shared(array.shape, array.dtype)
    tensor.numpy()[...] = array
    return tensor


def _keyed(views: View | Sequence[View] | Mapping[str, View]) -> dict[str, View]:
    if isinstance(views, Mapping) and not isinstance(views, Store):
        keyed = dict(views)
    else:
        listed = [views] if isinstance(views, View) else _views(views)
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
    _views(keyed.values())
    if not keyed:
        raise MerstoreError("a dataset needs at least one view")
    return keyed


def _views(views: Any) -> list[View]:
    listed = list(views) if isinstance(views, Iterable) and not isinstance(views, str) else [views]
    for view in listed:
        if not isinstance(view, View):
            raise MerstoreError(f"a view is what store[path] gives, not {view!r}")
    return listed


def _each(views: Mapping[str, View], options: Reading) -> dict[str, Reading]:
    """The options of each view, from those that hold for all and those by key."""
    readings = dict.fromkeys(views, Reading("raise", "padded", "back", None, None))
    for field, option in options._asdict().items():
        by_key = option if isinstance(option, Mapping) else dict.fromkeys(views, option)
        for key, value in by_key.items():
            if key not in views:
                raise MerstoreError(
                    f"{field} is given for {key!r}, and the views are {', '.join(views)}"
                )
            readings[key] = readings[key]._replace(**{field: value})  # type: ignore[arg-type]
    return readings


def _given(names: Iterable[str]) -> Names:
    if isinstance(names, str):
        raise MerstoreError(f"names are a list of samples, not {names!r}")
    given = Names.of(names)
    if not len(given):
        raise MerstoreError("a dataset of no samples: names is empty")
    repeated = given.repeated()
    if len(repeated):
        raise MerstoreError(
            f"{len(repeated)} of the names are there more than once: {repeated.shown()}. "
            "To draw samples more often than others, give the loader a sampler with weights"
        )
    return given


def _common(views: Mapping[str, View]) -> Names:
    """The samples that all views have. Says which view lacks what where that is not all of them."""
    by_view = {key: view.names() for key, view in views.items()}
    first, *others = by_view.values()
    common = first
    for other in others:
        common = common.take(np.flatnonzero(other.find(common) >= 0))
    if len(common) == max(1, *map(len, by_view.values())):
        return common
    lacking = []
    for key, names in by_view.items():
        lacks = [
            other.take(np.flatnonzero(names.find(other) < 0))
            for other in by_view.values()
            if other is not names
        ]
        most = max(lacks, key=len, default=names)
        lacks_most = f" and lacks {most.shown(3)}" if len(most) and lacks else ""
        lacking.append(f"{views[key].path} has {len(names)}{lacks_most}")
    told = "; ".join(lacking)
    if not len(common):
        raise MissingEntry(f"no sample is in all of the views: {told}")
    warnings.warn(
        f"{len(common)} samples are in all of the views, the others are left out: {told}. "
        'To have them all the same, give names, and on_miss="mask" or "fill"',
        stacklevel=3,
    )
    return common


def _without(views: Mapping[str, View], names: Names, exclude: Iterable[str]) -> np.ndarray | None:
    """The rows, int64, of `names` that have none of the flags; None where that is no question."""
    flags = {exclude} if isinstance(exclude, str) else set(exclude)
    if not flags:
        return None
    datasets = {(id(view.store), view.dataset): view for view in views.values()}
    left = list(names)
    for view in datasets.values():
        left = view.store.quality(view.dataset).without(*flags, among=left)
    if not left:
        raise MissingEntry(
            f"none of {len(names)} samples is without {' and '.join(sorted(flags))}: exclude fewer flags"
        )
    return names.find(Names.of(left))


def _column(key: str, given: Any, names: Names, ordered: bool) -> np.ndarray:
    """Values by sample, ``[samples, ...]``."""
    if isinstance(given, Mapping):
        lacking = [name for name in names if name not in given]
        if lacking:
            raise MissingEntry(
                f"column {key!r} has no value for {len(lacking)} of {len(names)} samples: "
                f"{Names.of(lacking).shown()}. Leave them out of names, or give them one"
            )
        given = [given[name] for name in names]
    elif not ordered:
        raise MerstoreError(
            f"column {key!r} is an array, whose order is that of names: give names, or the column as {{name: value}}"
        )
    try:
        column = np.ascontiguousarray(given)
        torch.from_numpy(column[:0])
    except (TypeError, ValueError) as error:
        raise MerstoreError(
            f"column {key!r} holds what is no tensor ({error}): give numbers, or arrays of one shape"
        ) from None
    if column.ndim == 0 or len(column) != len(names):
        raise MerstoreError(
            f"column {key!r} has shape {column.shape}, and there are {len(names)} samples"
        )
    return column

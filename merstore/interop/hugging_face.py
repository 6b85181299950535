"""Views as a ``datasets.Dataset`` of Hugging Face, for code that maps, filters, shuffles and uploads those."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore.errors import InvalidTensor
from merstore.load.dataset import FeatureDataset
from merstore.store.view import View

if TYPE_CHECKING:
    import datasets
    import pyarrow

__all__ = ["to_dataset"]

CHUNK_BYTES = 64 << 20
_MAX_DIMS = 5  # of datasets' array features


def to_dataset(
    views: View | Sequence[View] | Mapping[str, View],
    names: Iterable[str] | None = None,
    on_miss: str | Mapping[str, str] = "raise",
    columns: Mapping[str, Any] | None = None,
    *,
    exclude: Iterable[str] = (),
    dtype: Any = None,
) -> "datasets.Dataset":
    """A Dataset with a row for each sample: ``name``, a column for each view, and `columns`.

    Arguments, keys and which samples there are: as of `merstore.load.FeatureDataset`. A column is
    typed by its view: numbers, ``List`` for vectors ``[D]`` (of length D) and ``[T]``, ``Array2D`` to
    ``Array5D`` for the rest, with None for a first dimension that varies. With on_miss,
    ``<key>_mask`` says what is there. bfloat16 becomes float32.

    The features are gathered into memory once, in record batches of about 64 MiB, and are the
    Dataset's Arrow table without another copy (booleans, of which Arrow makes bits, are packed).

    Raises what FeatureDataset does; InvalidTensor for a view of more than 5 dimensions.
    """
    import datasets
    import pyarrow

    source = FeatureDataset(
        views, names, on_miss, columns, exclude=exclude, layout="values", dtype=dtype
    )
    features = datasets.Features(_features(source))
    schema = features.arrow_schema
    batches = []
    for rows in _chunks(source):
        batch = source.batch(rows)
        arrays = {"name": pyarrow.array(batch.names, pyarrow.string())}
        for key, tensor in batch.tensors.items():
            offsets = batch.offsets.get(key)
            arrays[key] = _column(
                key,
                tensor.numpy(),
                schema.field(key).type,
                None if offsets is None else offsets.numpy(),
            )
        for key in features:
            if key not in arrays:
                arrays[key] = pyarrow.array(batch.mask[key.removesuffix("_mask")].numpy())
        batches.append(
            pyarrow.RecordBatch.from_arrays([arrays[key] for key in features], schema=schema)
        )
    table = pyarrow.Table.from_batches(batches, schema)
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features))


def _features(source: FeatureDataset) -> "dict[str, Any]":
    """The type of every column."""
    import datasets

    features: dict[str, Any] = {"name": datasets.Value("string")}
    for key, view in source.views.items():
        features[key] = _feature(view.path, view.shape, source.sources[key].dtype)
        if source.readings[key].on_miss != "raise":
            features[f"{key}_mask"] = datasets.Value("bool")
    for key, column in source.columns.items():
        features[key] = _feature(f"column {key!r}", column.shape[1:], column.dtype)
    return features


def _feature(what: str, shape: tuple[int | None, ...], dtype: "np.dtype[Any]") -> Any:
    import datasets

    if len(shape) > _MAX_DIMS:
        raise InvalidTensor(
            f"{what} has {len(shape)} dimensions, datasets' features at most {_MAX_DIMS}: reshape it"
        )
    value = datasets.Value(dtype.name)
    if not shape:
        return value
    if len(shape) == 1:
        return datasets.List(value, length=-1 if shape[0] is None else shape[0])
    return getattr(datasets, f"Array{len(shape)}D")(shape=shape, dtype=dtype.name)


def _chunks(source: FeatureDataset) -> Iterator[np.ndarray]:
    """All rows, in pieces of about `CHUNK_BYTES`."""
    nbytes = np.full(len(source), 64, np.int64)
    for key, view in source.views.items():
        record = view.record
        row = record.row_elements * source.sources[key].dtype.itemsize
        nbytes += row * (source.lengths(key) if record.ragged else 1)
    pieces = np.cumsum(nbytes) // CHUNK_BYTES
    yield from np.split(np.arange(len(source)), np.flatnonzero(np.diff(pieces)) + 1)


def _column(
    key: str, values: np.ndarray, kind: "pyarrow.DataType", offsets: np.ndarray | None
) -> "pyarrow.Array":
    """``[B, ...]``, or with offsets values back to back, as an Arrow array on the same memory."""
    import pyarrow

    extended = isinstance(kind, pyarrow.ExtensionType)
    storage = kind.storage_type if extended else kind
    array = _flat(values.reshape(-1))
    sizes = values.shape[1:] if offsets is None else (None, *values.shape[1:])
    for size in reversed(sizes[1:]):
        array = pyarrow.ListArray.from_arrays(_steps(key, len(array), size), array)
    if pyarrow.types.is_fixed_size_list(storage):
        array = pyarrow.FixedSizeListArray.from_arrays(array, sizes[0])
    elif sizes:
        steps = _steps(key, len(array), sizes[0]) if offsets is None else _narrow(key, offsets)
        array = pyarrow.ListArray.from_arrays(steps, array)
    # the names of the inner fields are a matter of taste among versions of Arrow
    return (
        pyarrow.ExtensionArray.from_storage(kind, array.cast(storage))
        if extended
        else array.cast(storage)
    )


def _flat(values: np.ndarray) -> "pyarrow.Array":
    import pyarrow

    if values.dtype == bool:
        return pyarrow.array(values)
    kind = pyarrow.from_numpy_dtype(values.dtype)
    return pyarrow.Array.from_buffers(kind, len(values), [None, pyarrow.py_buffer(values)])


def _steps(key: str, count: int, size: int | None) -> "pyarrow.Array":
    assert size
    return _narrow(key, np.arange(0, count + 1, size, dtype=np.int64))


def _narrow(key: str, offsets: np.ndarray) -> "pyarrow.Array":
    import pyarrow

    if offsets[-1] > np.iinfo(np.int32).max:
        raise InvalidTensor(
            f"{key!r} has an entry of {offsets[-1]:,} rows or values, more than datasets' lists hold"
        )
    return pyarrow.array(offsets.astype(np.int32))

"""Views as ``.safetensors`` files, for code without merstore: whole views in a few files of plain tensors.

A shard of a view of one shape holds the tensor ``features`` ``[N, *shape]``; of a view whose entries
differ in length ``values`` ``[sum of lengths, ...]`` and ``offsets`` int64 ``[N + 1]``, sample i being
``values[offsets[i]:offsets[i + 1]]``. The metadata, all text as the format wants it: ``names`` (a JSON
list, in the order of the rows), ``view``, ``spec`` (JSON), ``fingerprint``, ``failures`` (JSON: sample to
kind; in the first shard) and ``shard`` (``"1/3"``).

Format: https://github.com/huggingface/safetensors (a length, a JSON header, the tensors back to
back). It is written here piece by piece, so that a shard need not fit the memory.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from merstore.atomic import replacing
from merstore.errors import InvalidTensor, MerstoreError
from merstore.interop.exporting import ExportReport, NotExported, ViewExport
from merstore.store.batch import RaggedBatch
from merstore.store.dtypes import NAMES
from merstore.store.entry import unpack
from merstore.store.selection import Selection
from merstore.store.store import Store
from merstore.store.view import View

__all__ = ["SHARD_BYTES", "export_safetensors"]

SHARD_BYTES = 1 << 30
_PIECE_BYTES = 16 << 20  # gathered at a time
_SUFFIX = ".safetensors"

_CODES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


def export_safetensors(
    store: Store,
    out_dir: str | os.PathLike[str],
    views: Iterable[str] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> ExportReport:
    """Write the entries of `views` (all, by default) to
    ``<out>/<view path>/features-00001-of-00003.safetensors``, each of about `shard_bytes`.

    A file that holds the same already is left alone; one that holds another, or a shard of another
    export, is refused unless `overwrite`. Entries have the view's dtype (bfloat16: float32); those
    that are stored in another are cast, with a note. In the report, `written` and `unchanged` count
    samples. `progress` is called with samples done, samples in all, bytes of payload done.

    Raises UnknownView for a view that the store has not, MerstoreError where the folder cannot be
    written to. What concerns one view is in the report.
    """
    if shard_bytes < 1:
        raise MerstoreError(f"a shard has at least one byte, not {shard_bytes}")
    chosen = [store[path] for path in (store.views() if views is None else views)]
    report = ExportReport()
    total = sum(len(view) for view in chosen)
    samples = nbytes = 0
    for view in chosen:
        done = ViewExport(view.path, os.path.join(out_dir, *view.path.split("/")))
        report.views.append(done)
        done.failures = len(view.failures())
        start = time.perf_counter()
        try:
            for count, size in _export(view, done, shard_bytes, overwrite):
                samples += count
                nbytes += size
                if progress is not None:
                    progress(samples, total, nbytes)
        except InvalidTensor as error:
            done.problem = str(error)
        except OSError as error:
            raise MerstoreError(f"{done.directory}: cannot be written to: {error}") from error
        done.seconds = time.perf_counter() - start
    return report


def _export(
    view: View, done: ViewExport, shard_bytes: int, overwrite: bool
) -> Iterator[tuple[int, int]]:
    """Writes shard after shard; yields the samples and bytes of each."""
    selection = view.select()
    if not len(selection):
        return
    lengths = selection.lengths()
    row = view.record.row_elements * _dtype(view).itemsize
    sizes = lengths * row
    pieces = (np.cumsum(sizes) - sizes) // shard_bytes
    shards = np.split(np.arange(len(selection)), np.flatnonzero(np.diff(pieces)) + 1)
    files = [
        f"features-{number:05d}-of-{len(shards):05d}{_SUFFIX}"
        for number in range(1, len(shards) + 1)
    ]
    os.makedirs(done.directory, exist_ok=True)
    others = {file for file in os.listdir(done.directory) if file.endswith(_SUFFIX)} - {*files}
    if others and not overwrite:
        raise InvalidTensor(
            f"{done.directory}: holds {min(others)}, of another export: remove it, or overwrite"
        )
    if strangers := _cast(view):
        done.notes[f"stored in another dtype, written as {_dtype(view)}"] = strangers
    if view.dtype == "bfloat16":
        done.notes["bfloat16 as float32"] = len(selection)
    for number, (file, rows) in enumerate(zip(files, shards, strict=True), 1):
        path = os.path.join(done.directory, file)
        shard = _Shard(view, selection, rows, lengths[rows], f"{number}/{len(shards)}")
        if os.path.exists(path) and _holds(path, shard):
            done.unchanged += len(rows)
        elif os.path.exists(path) and not overwrite:
            reason = f"{path}: holds something else: remove it, or overwrite"
            done.refused.append(NotExported(file, reason))
        else:
            _write(path, shard)
            done.written += len(rows)
            done.bytes += shard.nbytes
        yield len(rows), shard.nbytes
    for file in others:
        os.unlink(os.path.join(done.directory, file))


class _Shard:
    """The content of one file: samples `rows` of a view, with their lengths."""

    def __init__(
        self, view: View, selection: Selection, rows: np.ndarray, lengths: np.ndarray, told: str
    ) -> None:
        self.selection = selection
        self.rows = rows
        self.dtype = _dtype(view)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        row_shape = view.record.row_shape
        self.row_bytes = view.record.row_elements * self.dtype.itemsize
        self.nbytes = int(self.offsets[-1]) * self.row_bytes
        self.ragged = view.record.ragged
        count = int(self.offsets[-1]) if self.ragged else len(rows)
        header: dict[str, Any] = {
            "__metadata__": {
                "format": "pt",
                "view": view.path,
                "fingerprint": view.fingerprint,
                "spec": json.dumps(view.spec, ensure_ascii=False),
                "shard": told,
                "names": json.dumps(selection.names.decoded(rows), ensure_ascii=False),
            }
        }
        if told.startswith("1/"):
            failures = {failure.name: failure.kind for failure in view.failures()}
            header["__metadata__"]["failures"] = json.dumps(failures, ensure_ascii=False)
        place = 0
        if self.ragged:  # in front: the values need not be of eight bytes
            place = self.offsets.nbytes
            header["offsets"] = {
                "dtype": "I64",
                "shape": [len(self.offsets)],
                "data_offsets": [0, place],
            }
        header["values" if self.ragged else "features"] = {
            "dtype": _CODES[self.dtype.name],
            "shape": [count, *row_shape],
            "data_offsets": [place, place + self.nbytes],
        }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.head = len(text).to_bytes(8, "little") + text
        if self.ragged:
            self.head += self.offsets.astype("<i8").tobytes()

    def pieces(self) -> Iterator[memoryview]:
        """The bytes of the file, in order."""
        yield memoryview(self.head)
        steps = self.offsets * self.row_bytes // _PIECE_BYTES
        for rows in np.split(self.rows, np.flatnonzero(np.diff(steps[:-1])) + 1):
            batch = self.selection.gather(rows, dtype=self.dtype if _floats(self.dtype) else None)
            values = batch.values if isinstance(batch, RaggedBatch) else np.asarray(batch)
            yield values.reshape(-1).view("u1").data


def _dtype(view: View) -> "np.dtype[Any]":
    return np.dtype("float32") if view.dtype == "bfloat16" else np.dtype(view.dtype)


def _floats(dtype: "np.dtype[Any]") -> bool:
    return dtype.name in ("float32", "float64")


def _cast(view: View) -> int:
    """How many entries are stored in another dtype than the view's."""
    declared = view.record.dtype
    values = (value for _, value in view.store.snapshot().scan(b"index", view.record.prefix))
    entries = (unpack(value) for value in values)
    return sum(entry is not None and NAMES[entry.dtype] != declared for entry in entries)


def _holds(path: str, shard: _Shard) -> bool:
    if os.path.getsize(path) != len(shard.head) + shard.nbytes:
        return False
    with open(path, "rb") as file:
        return all(file.read(len(piece)) == piece for piece in shard.pieces())


def _write(path: str, shard: _Shard) -> None:
    try:
        with replacing(path) as file:
            for piece in shard.pieces():
                file.write(piece)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidTensor(f"{path}: {error.strerror}") from None
        raise

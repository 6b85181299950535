"""Folders of ``.npy`` files into a store.

A tree is imported in two passes. The first reads every header, which settles what the view is:
its dtype by majority, its shape ``(D,)`` or ``(T, D)`` where all are alike, ``(None, D)`` where
they are not. The second reads the arrays and puts them, in order of name, so that a new view is
one sorted append. Both run in threads, a bounded number of bytes ahead of the writer.

Whatever is wrong with a file concerns that file: it is left out, with the reason, and nothing else
is affected. An import that was interrupted goes on where it was when it is started again.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from merstore._core import DIGEST_MIN, NPY_HEAD, Files
from merstore.errors import InvalidKey, InvalidTensor, SpecMismatch, StaleView
from merstore.interop.npy import Array, NpyHeader, parsed_headers, read_array, read_header
from merstore.interop.pipeline import Readers, chunks
from merstore.interop.trees import Tree
from merstore.store.dtypes import CODES, numpy_dtype
from merstore.store.entry import unpack
from merstore.store.store import Store
from merstore.store.view import View
from merstore.store.writer import Writer

__all__ = ["ImportReport", "Progress", "Refused", "ViewImport", "import_tree"]

COMMIT_BYTES = 64 << 20

Progress = Callable[[int, int, int], None]
"""Called with files done, files in all, bytes of payload done."""

Shape = tuple[int | None, ...]
Kept = tuple[Files, int]  # a file that was read, and its row there
Batch = tuple[Files, list[int]]
Single = tuple[str, Array | str]

KEEP_BYTES = 256 << 20  # of small files, from the first pass to the second
KEEP_FILE_BYTES = 16 << 10


class Refused(NamedTuple):
    """A file that was left out."""

    name: str
    path: str
    reason: str


@dataclass
class ViewImport:
    """What became of one tree. `bytes` is the payload imported; `notes` counts conversions.

    `problem` says why nothing at all of the tree was imported, where that is so.
    """

    view: str
    folder: str | None
    imported: int = 0
    skipped: int = 0
    refused: list[Refused] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    problem: str | None = None


@dataclass
class ImportReport:
    """What became of all trees, in their order."""

    views: list[ViewImport] = field(default_factory=list)

    @property
    def imported(self) -> int:
        """Files put into the store."""
        return sum(view.imported for view in self.views)

    @property
    def skipped(self) -> int:
        """Files whose samples were there already, of the same dtype and shape."""
        return sum(view.skipped for view in self.views)

    @property
    def refused(self) -> list[Refused]:
        """Files left out."""
        return [refused for view in self.views for refused in view.refused]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Views of which nothing was imported, and why."""
        return [(view.view, view.problem) for view in self.views if view.problem is not None]

    @property
    def bytes(self) -> int:
        """Bytes of payload put into the store."""
        return sum(view.bytes for view in self.views)

    @property
    def seconds(self) -> float:
        """Wall time of it all."""
        return sum(view.seconds for view in self.views)


def import_tree(
    store: Store,
    trees: Iterable[Tree],
    *,
    jobs: int = 4,
    nonfinite: str = "refuse",
    replace: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Put the files of `trees` (see `merstore.interop.trees.discover`) into `store`.

    Each tree becomes a view, or adds to the one that an earlier import made; its folder's name
    becomes the view's alias. Arrays keep dtype, shape and every bit; in a view of another dtype, or
    as a vector ``(D,)`` in a view of ``(None, D)``, they are stored as they are. Samples that the
    view has already, with the file's dtype and shape, are skipped without reading them; where those
    differ, the file is refused. `replace` puts every file again instead. `nonfinite` is the rule
    for NaN and Inf of the views that are made: ``"refuse"`` or ``"flag"``. `jobs` threads read.

    What is wrong with a file or a tree is in the report. Raises what a store raises where it cannot
    be written to (ReadOnlyStore, StoreFull, ...). What was committed by then, or by Ctrl-C, stays.
    """
    trees = list(trees)
    report = ImportReport()
    with Readers(jobs) as readers:
        meter = _Meter(progress, sum(len(tree.files) for tree in trees))
        for tree in trees:
            done = ViewImport(tree.view, tree.folder)
            report.views.append(done)
            start = time.perf_counter()
            try:
                folder = os.open(tree.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                done.problem = f"{tree.directory} cannot be read: {error.strerror}"
                meter.add(len(tree.files), 0)
                continue
            try:
                _ViewImporter(store, tree, folder, readers, meter, done).run(nonfinite, replace)
            finally:
                os.close(folder)
            done.seconds = time.perf_counter() - start
    return report


class _ViewImporter:
    def __init__(
        self,
        store: Store,
        tree: Tree,
        folder: int,
        readers: Readers,
        meter: "_Meter",
        done: ViewImport,
    ) -> None:
        self.store = store
        self.tree = tree
        self.folder = folder  # a descriptor of the tree's directory
        self.readers = readers
        self.meter = meter
        self.done = done
        self.kept: dict[str, Kept] = {}
        self.headers: dict[str, NpyHeader] = {}
        self.plain: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def run(self, nonfinite: str, replace: bool) -> None:
        headers = self._scan()
        if not headers:
            return
        try:
            view = self._view(headers.values(), nonfinite)
        except (InvalidKey, InvalidTensor, SpecMismatch, StaleView) as error:
            self.done.problem = str(error)
            self.meter.add(len(headers), 0)
            return
        if not replace:
            self._leave_out_present(view, headers)
        self._put(view, headers)

    def _scan(self) -> dict[str, NpyHeader]:
        """The header of every file that has one worth importing.

        For a new view, what it reads of small files is kept, as long as there is room, so that they
        need not be opened again.
        """
        headers = {}
        room = 0 if self.tree.view in self.store else KEEP_BYTES

        def look(names: Sequence[str]) -> list[tuple[str, NpyHeader | str, Kept | None]]:
            files = self._open(
                names, KEEP_FILE_BYTES, min(max(room, 0), len(names) * KEEP_FILE_BYTES)
            )
            found = files.headers(parsed_headers)
            return [
                (name, self._header(name), None)
                if known is None or not known[0].nbytes
                else (name, known[0], (files, row) if known[1] else None)
                for row, (name, known) in enumerate(zip(names, found, strict=True))
            ]

        todo = chunks(self.tree.files, lambda name: KEEP_FILE_BYTES, files=512)
        for results in self.readers.map(look, todo):
            for name, header, kept in results:
                if isinstance(header, str):
                    self._refuse(name, header)
                    self.meter.add(1, 0)
                    continue
                headers[name] = header
                if kept is not None:
                    self.kept[name] = kept
                    room -= header.nbytes
        return headers

    def _open(self, names: Sequence[str], limit: int, room: int) -> Files:
        paths = [os.fsencode(self.tree.files[name]) for name in names]
        return Files(self.folder, list(names), paths, limit, room)

    def _header(self, name: str) -> NpyHeader | str:
        """Of a file that is not plain; or why it is not imported."""
        path = self.tree.path(name)
        try:
            header = read_header(path)
        except (InvalidTensor, OSError) as error:
            return str(error)
        if header.nbytes == 0:
            return f"{path}: holds nothing (shape {header.shape}): compute it again, or remove it"
        return header

    def _view(self, headers: Iterable[NpyHeader], nonfinite: str) -> View:
        """The view of this tree: the one that is there, or a new one."""
        folder = {"folder": self.tree.folder} if self.tree.folder is not None else {}
        spec = {"imported": {"layout": self.tree.layout, **folder}}
        if self.tree.view in self.store:
            return self.store.view(self.tree.view, spec)
        dtype, shape = _settle(headers)
        return self.store.create_view(
            self.tree.view,
            dtype=dtype,
            shape=shape,
            spec=spec,
            alias=self.tree.folder,
            nonfinite=nonfinite,
        )

    def _leave_out_present(self, view: View, headers: dict[str, NpyHeader]) -> None:
        for key, value in self.store.snapshot().scan(b"index", view.record.prefix):
            stored = unpack(value)
            header = headers.get(name := key.decode()) if stored is not None else None
            if stored is None or header is None:
                continue
            del headers[name]
            self.meter.add(1, 0)
            dtype = numpy_dtype(stored.dtype)
            if (dtype, stored.shape) == (header.dtype, header.shape):
                self.done.skipped += 1
            else:
                self._refuse(
                    name,
                    f"{self.tree.path(name)}: holds {header.dtype} {header.shape}, and the store "
                    f"has {dtype} {stored.shape} of this sample: import with replace",
                )

    def _put(self, view: View, headers: dict[str, NpyHeader]) -> None:
        done = self.done
        record = view.record
        # what the files are like that the writer takes as they are
        dtype = numpy_dtype(CODES[record.dtype])
        if not record.ragged and record.row_elements * dtype.itemsize >= DIGEST_MIN:
            self.plain = dtype, record.row_shape
        self.headers = headers
        todo = chunks(headers, lambda name: headers[name].nbytes, files=256)
        with self.store.writer(COMMIT_BYTES) as writer:
            for names, batches, singles in self.readers.map(self._read, todo):
                before = done.bytes
                for files, rows in batches:
                    rest = writer.put_files(view, files, rows)
                    done.imported += len(rows) - len(rest)
                    done.bytes += (len(rows) - len(rest)) * headers[files.names[rows[0]]].nbytes
                    singles += [(files.names[row], self._array(files.names[row])) for row in rest]
                for name, array in singles:
                    self._put_single(writer, view, name, array)
                self.meter.add(len(names), done.bytes - before)

    def _put_single(self, writer: Writer, view: View, name: str, array: Array | str) -> None:
        if isinstance(array, str):
            self._refuse(name, array)
            return
        try:
            writer.put(view, name, array, as_stored=True)
        except (InvalidTensor, InvalidKey) as error:
            self._refuse(name, str(error))
            return
        self.done.imported += 1
        self.done.bytes += array.nbytes
        self.done.notes.update(self.headers[name].notes)

    def _read(self, names: Sequence[str]) -> tuple[Sequence[str], list[Batch], list[Single]]:
        """What there is to put: files that the writer takes as they are, by their rows; and arrays, or why
        there is none.
        """
        batches: list[Batch] = []
        singles: list[Single] = []
        again = [name for name in names if name not in self.kept]
        files = self._open(again, sys.maxsize, sum(self._room(name) for name in again))
        found = dict(zip(again, enumerate(files.headers(parsed_headers)), strict=True))
        for name in names:
            if name in found:
                row, known = found[name]
                header = known[0] if known and known[1] else None
                held = files
            else:
                held, row = self.kept.pop(name)
                header = self.headers[name]
            if header is None or header.notes:  # no plain file
                singles.append((name, self._array(name)))
            elif (header.dtype, header.shape) != self.plain:
                values = header.nbytes // header.dtype.itemsize
                start = held.place(row) + NPY_HEAD
                array = np.frombuffer(held, header.dtype, values, start)  # type: ignore[call-overload]
                singles.append((name, array.reshape(header.shape)))
            elif batches and batches[-1][0] is held:
                batches[-1][1].append(row)
            else:
                batches.append((held, [row]))
        return names, batches, singles

    def _room(self, name: str) -> int:
        return self.headers[name].nbytes + NPY_HEAD + 64

    def _array(self, name: str) -> Array | str:
        try:
            return read_array(self.tree.path(name))[0]
        except (InvalidTensor, OSError) as error:
            return str(error)

    def _refuse(self, name: str, reason: str) -> None:
        self.done.refused.append(Refused(name, self.tree.path(name), reason))


def _settle(headers: Iterable[NpyHeader]) -> tuple[np.dtype[Any], Shape]:
    """The dtype and shape of a view for these arrays; the few that do not fit it are refused later.

    The dtype is that of the most. Of the shapes, those that agree with the most in all but the
    first dimension count, a vector ``(D,)`` as one row of a ``(T, D)``: if they are all the same
    that is the shape, otherwise the first dimension is None.
    """
    kinds = Counter((header.dtype, header.shape) for header in headers)
    dtypes: Counter[np.dtype[Any]] = Counter()
    rows: Counter[tuple[int, ...]] = Counter()
    for (dtype, shape), count in kinds.items():
        dtypes[dtype] += count
        rows[_row(shape)] += count
    row = max(rows, key=lambda row: (rows[row], row))
    shapes = {shape for _, shape in kinds if _row(shape) == row}
    dtype = max(dtypes, key=lambda dtype: (dtypes[dtype], dtype.name))
    return dtype, shapes.pop() if len(shapes) == 1 else (None, *row)


def _row(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 1 else shape[1:]


class _Meter:
    """Adds up what is done and tells the callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._files = 0
        self._bytes = 0

    def add(self, files: int, nbytes: int) -> None:
        self._files += files
        self._bytes += nbytes
        if self._progress is not None:
            self._progress(self._files, self._total, self._bytes)

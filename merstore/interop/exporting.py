"""Views of a store as folders of ``.npy`` files, for code that reads those.

An array is written as `numpy.save` would write it, so that a tree that was imported and exported is
the same tree, byte for byte (files in another byte order, in Fortran order, or in frames come back
as one plain file with the same values). A file appears under its name only when it is whole.
"""

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from merstore.errors import InvalidKey, InvalidTensor, MerstoreError
from merstore.interop.npy import Array, encode_header, read_array
from merstore.store.keys import parse_view, sample_key
from merstore.store.legacy import folder_name
from merstore.store.store import Store
from merstore.store.view import View

__all__ = [
    "LAYOUTS",
    "ExportReport",
    "NotExported",
    "ViewExport",
    "export_views",
    "write_view",
]

LAYOUTS = ("affectgpt", "mertools", "features", "npy")


class NotExported(NamedTuple):
    """An entry that was not written."""

    name: str
    reason: str


@dataclass
class ViewExport:
    """What became of one view.

    `written` and `unchanged` count files, `failures` the samples that have no tensor (and so no
    file), `notes` conversions; `bytes` is the payload written. `problem` says why the view was not
    exported at all, where that is so.
    """

    view: str
    directory: str = ""
    written: int = 0
    unchanged: int = 0
    failures: int = 0
    refused: list[NotExported] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    problem: str | None = None


@dataclass
class ExportReport:
    """What became of all views, in their order."""

    views: list[ViewExport] = field(default_factory=list)

    @property
    def written(self) -> int:
        """Files written."""
        return sum(view.written for view in self.views)

    @property
    def unchanged(self) -> int:
        """Files that were there already and hold the same array."""
        return sum(view.unchanged for view in self.views)

    @property
    def refused(self) -> list[NotExported]:
        """Entries not written."""
        return [refused for view in self.views for refused in view.refused]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Views of which nothing was exported, and why."""
        return [(view.view, view.problem) for view in self.views if view.problem is not None]

    @property
    def bytes(self) -> int:
        """Bytes of payload written."""
        return sum(view.bytes for view in self.views)


def export_views(
    store: Store,
    out_dir: str | os.PathLike[str],
    views: Iterable[str] | None = None,
    layout: str = "affectgpt",
    *,
    overwrite: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> ExportReport:
    """Write the entries of `views` (all, by default) as ``.npy`` files below `out_dir`.

    ``affectgpt``: ``<out>/<dataset>/<folder>/<sample>.npy``; ``mertools``: the same with
    ``<dataset>/features/<folder>``; ``features``, for the views of one dataset, with
    ``features/<folder>``. The folder is the view's alias, or else the legacy name that means it.
    ``npy``: ``<out>/<view path>/<sample>.npy``. A file that holds the same array already
    is left alone, one that holds another is refused unless `overwrite`. ``.npy`` has no bfloat16:
    such entries are written as float32, with a note. `progress` is called with files done, files
    in all, bytes of payload done.

    Raises UnknownView for a view that the store has not, MerstoreError where the folder cannot be
    written to. What concerns one view or one entry is in the report.
    """
    if layout not in LAYOUTS:
        raise MerstoreError(f"layout {layout!r} is unknown: one of {', '.join(LAYOUTS)}")
    chosen = [store[path] for path in (store.views() if views is None else views)]
    report = ExportReport()
    total = sum(len(view) for view in chosen)
    files = nbytes = 0
    taken: dict[str, str] = {}
    for view in chosen:
        done = ViewExport(view.path)
        report.views.append(done)
        start = time.perf_counter()
        try:
            below = _directory(view, layout)
            if (twin := taken.setdefault(below, view.path)) != view.path:
                raise InvalidKey(
                    f"{below} is the folder of {twin}, too: export this view elsewhere"
                )
        except InvalidKey as error:
            done.problem = str(error)
            files += len(view)
            continue
        done.directory = os.path.join(out_dir, below)
        done.failures = len(view.failures())
        try:
            for size in write_view(view, done, overwrite):
                files += 1
                nbytes += size
                if progress is not None:
                    progress(files, total, nbytes)
        except OSError as error:
            raise MerstoreError(f"{done.directory}: cannot be written to: {error}") from error
        done.seconds = time.perf_counter() - start
    return report


def _directory(view: View, layout: str) -> str:
    """Where the view's files go, below the folder exported to."""
    path = parse_view(view.path)  # a store from elsewhere may say anything
    if layout == "npy":
        return os.path.join(*view.path.split("/"))
    folder = view.alias or folder_name(view.path.partition("/")[2])
    if folder is None:
        raise InvalidKey(f"view {view.path} has no legacy folder name: export it with layout npy")
    if folder != os.path.basename(folder) or folder in ("", os.curdir, os.pardir):
        raise InvalidKey(
            f"view {view.path}: its alias {folder!r} is no folder name: use layout npy"
        )
    above = {"affectgpt": [path.dataset], "mertools": [path.dataset, "features"]}
    return os.path.join(*above.get(layout, ["features"]), folder)


def write_view(
    view: View, done: ViewExport, overwrite: bool, pattern: str = "{name}.npy"
) -> Iterator[int]:
    """Writes the entries of a view below ``done.directory``, one by one, where `pattern` says: a file
    or one in a folder of its own. Yields the bytes of each, 0 where none were written.
    """
    os.makedirs(done.directory, exist_ok=True)
    present = set(os.listdir(done.directory))
    temporary = os.path.join(done.directory, f".merstore-{os.getpid()}.tmp")
    for name in view:
        file = pattern.format(name=name)
        path = os.path.join(done.directory, file)
        folder, _, inner = file.rpartition("/")
        try:
            sample_key(name)
            if folder in (os.curdir, os.pardir):
                raise InvalidKey(f"sample {name!r} cannot have a folder of that name: rename it")
            array, note = _array(view, name)
            there = (folder or inner) in present and (not folder or os.path.exists(path))
            if there and _holds(path, array):
                done.unchanged += 1
                yield 0
                continue
            if there and not overwrite:
                raise InvalidTensor(f"{path}: holds something else: remove it, or overwrite")
            if folder:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, temporary, array)
        except MerstoreError as error:
            done.refused.append(NotExported(name, str(error)))
            yield 0
            continue
        done.written += 1
        done.bytes += array.nbytes
        if note:
            done.notes[note] += 1
        yield array.nbytes


def _array(view: View, name: str) -> tuple[Array, str]:
    """The entry as ``.npy`` can hold it, and a note if that takes a conversion."""
    array = view[name]
    return array, "bfloat16 as float32" if view.dtype == "bfloat16" else ""


def _holds(path: str, array: Array) -> bool:
    try:
        there, _ = read_array(path)
    except (InvalidTensor, OSError):
        return False
    return (there.dtype, there.shape) == (array.dtype, array.shape) and np.array_equal(
        there.reshape(-1).view("u1"), array.reshape(-1).view("u1")
    )


def _write(path: str, temporary: str, array: Array) -> None:
    payload = array.reshape(-1).view("u1").data
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            for part in (memoryview(encode_header(array.dtype, array.shape)), payload):
                while part:
                    part = part[os.write(fd, part) :]
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EISDIR):
            raise InvalidKey(f"{path}: {error.strerror}: rename the sample to export it") from None
        raise

"""The switch: an unchanged program reads features from a store, and writes them to it.

While it is on, these functions see the store where a path is a place of the store's (see
`merstore.interop.feature_paths`), and do what they always do everywhere else: `numpy.load` and
`numpy.save`, `os.listdir`, `os.scandir` (so `glob` and `os.walk`, too) and `os.mkdir`, `os.path.exists`,
``lexists``, ``isfile`` and ``isdir``, and those of `pathlib.Path`. And the reader and datasets of a
MERTools checkout are replaced when they are imported (`merstore.interop.checkout`).

Where the store lacks a sample and the file is there, the file is read: it is what was asked for.
Where a file and an entry are there, the entry is read. ``numpy.save`` of a feature lands in the
store: it is buffered, seen at once by this process, and committed when 64 MiB or five seconds have
passed and at exit; child processes of multiprocessing, which may be ended at any time, commit each.
Children see the switch themselves: forked ones have it, and programs started from here take it from
the environment (``python -I``, ``-E`` and ``-S`` look at none, and go without).

What opens files by itself (``open``, ``os.stat``, ``shutil``) sees the disk alone. A name that was
bound before (``from numpy import load``) keeps what it
was bound to.
"""

import atexit
import contextlib
import errno
import json
import multiprocessing
import os
import pathlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from merstore.errors import MerstoreError, MissingEntry
from merstore.interop import bootstrap, checkout, mertools
from merstore.interop.feature_paths import FACES, FeaturePaths, Folder, absolute
from merstore.interop.mertools import EMPTY, empty_array
from merstore.store.store import Store, open_store
from merstore.store.view import View
from merstore.store.writer import Writer

__all__ = ["MissingFile", "environment", "install", "routed", "uninstall"]

COMMIT_SECONDS = 5.0
PathLike = str | os.PathLike[str]


class MissingFile(MissingEntry, FileNotFoundError):
    """No such entry, and no such file: a program that expects the latter may catch it."""


# --- on and off ----------------------------------------------------------------------------------


def install(
    store: Store | PathLike,
    roots: Iterable[PathLike] | None = None,
    dataset: str | None = None,
    on_miss: str = "raise",
) -> None:
    """Turn the switch on for this process and its children, until `uninstall`.

    roots, dataset: as of FeaturePaths. on_miss: what a checkout's reader and datasets do about a
    sample that is neither in the store nor on the disk: ``"raise"``, ``"mask"`` (one row of zeros)
    or ``"fill"``; ``numpy.load`` always raises. Raises MerstoreError where it is on already.
    """
    global _on
    with _turning:
        if _on is not None:
            raise MerstoreError("the switch is on already: uninstall() it first")
        switch = _Switch(store, roots, dataset, mertools.check_on_miss(on_miss))
        switch.before = mertools.use(switch.paths)
        _on = switch
        _patch()
        checkout.install(switch.paths)
        switch.environment = environment(
            switch.paths.store.path, switch.paths.roots, dataset, on_miss
        )
        switch.replaced = {name: os.environ.get(name) for name in switch.environment}
        os.environ.update(switch.environment)
        _register_once()


def uninstall() -> None:
    """Turn the switch off: everything is as it was, and what was saved is committed."""
    global _on
    with _turning:
        switch = _on
        if switch is None:
            return
        try:
            switch.saver.commit()
        finally:
            checkout.uninstall()
            _unpatch()
            _on = None
            mertools.use(switch.before)
            for name, value in switch.replaced.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            switch.close()


@contextlib.contextmanager
def routed(
    store: Store | PathLike,
    roots: Iterable[PathLike] | None = None,
    dataset: str | None = None,
    on_miss: str = "raise",
) -> Iterator[None]:
    """The switch as a context manager. Arguments as `install`."""
    install(store, roots, dataset, on_miss)
    try:
        yield
    finally:
        uninstall()


def environment(
    store: PathLike,
    roots: Iterable[PathLike] | None = None,
    dataset: str | None = None,
    on_miss: str = "raise",
) -> dict[str, str]:
    """The environment variables that turn the switch on in a program, and in those it starts."""
    folder = os.path.dirname(bootstrap.__file__)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    settings = {
        "store": os.path.abspath(store),
        "roots": None if roots is None else [os.path.abspath(root) for root in roots],
        "dataset": dataset,
        "on_miss": on_miss,
    }
    return {
        bootstrap.VARIABLE: json.dumps(settings),
        "PYTHONPATH": os.pathsep.join([folder, *(path for path in others if path != folder)]),
    }


def install_from_environment() -> None:
    """What a child process does: `install` as its parent was told to."""
    if _on is None:
        install(**json.loads(os.environ[bootstrap.VARIABLE]))


class _Switch:
    def __init__(
        self,
        store: Store | PathLike,
        roots: Iterable[PathLike] | None,
        dataset: str | None,
        on_miss: str,
    ) -> None:
        self.opened = None if isinstance(store, Store) else open_store(store)
        self.paths = FeaturePaths(self.opened or store, roots, dataset, on_miss)  # type: ignore[arg-type]
        self.saver = _Saver(self.paths)
        self.made: set[str] = set()  # feature folders that were made where none can be
        self.before: FeaturePaths | None = None
        self.environment: dict[str, str] = {}
        self.replaced: dict[str, str | None] = {}

    def close(self) -> None:
        self.saver.close()
        if self.opened is not None:
            self.opened.close()

    def find(self, path: str) -> tuple[View, str] | None:
        """The view and sample of a path, if it is a place of ours and the store has the view."""
        place = self.paths.entry(path)
        view = self.paths.view(place[0]) if place is not None else None
        return (view, place[1]) if view is not None and place is not None else None

    def load(self, path: str, mmap_mode: str | None) -> np.ndarray | None:
        """The array of a path; None where it is to be looked for on the disk."""
        found = self.find(path)
        if found is None:
            return None
        view, name = found
        if self.saver.pending(view, name):
            self.saver.commit()
        if name not in view:
            view.store.refresh()
        if name not in view:
            failure = view.failure(name)
            empty = empty_array(failure) if failure is not None else None
            if empty is None and not _original["exists"](path):
                raise MissingFile(f"{view._explain([name])}. It was loaded as {path}")
            return empty
        if mmap_mode is None or mmap_mode == "c":
            return np.array(view[name])
        if mmap_mode == "r":
            return view[name]
        raise MerstoreError(
            f'{path}: mmap_mode={mmap_mode!r} would change an entry of {view.path} in place: use "r" or '
            '"c", or save the array anew'
        )

    def has(self, path: str) -> str | None:
        """``"file"`` or ``"directory"`` if the store has such a thing at a path."""
        if path.endswith(".npy"):
            found = self.find(path)
            return "file" if found is not None and self._holds(*found) else None
        folder = self.paths.folder(path)
        if folder is not None and self.paths.view(folder) is not None:
            return "directory"
        if self.paths.home(path) is not None or (self.made and absolute(path) in self.made):
            return "directory"
        found = self._face(path)
        return "directory" if found is not None and self._holds(*found) else None

    def make(self, path: str) -> bool:
        """Whether a directory that cannot be made on the disk is a feature folder to be."""
        if self.has(path) == "directory":
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        folder = self.paths.place(path)
        if folder is None or not self.paths.home(os.path.dirname(folder.path)):
            return False
        self.made.add(folder.path)
        return True

    def _face(self, path: str) -> tuple[View, str] | None:
        place = self.paths.sample(path) if FACES in path else None
        view = self.paths.view(place[0]) if place is not None else None
        return (view, place[1]) if view is not None and place is not None else None

    def _holds(self, view: View, name: str) -> bool:
        if not name or len(name.encode(errors="replace")) > 400:
            return False
        if self.saver.pending(view, name) or name in view:
            return True
        view.store.refresh()
        if name in view:
            return True
        failure = view.failure(name)
        return failure is not None and failure.kind == EMPTY

    def names(self, path: str) -> list[tuple[str, bool]] | None:
        """What the store has in a directory: names, and whether each is a directory."""
        folder = self.paths.folder(path)
        view = self.paths.view(folder) if folder is not None else None
        if folder is not None and view is not None:
            self.saver.commit()
            view.store.refresh()
            return [(name if folder.faces else f"{name}.npy", folder.faces) for name in view]
        dataset = self.paths.home(path)
        if dataset is not None:
            return [(name, True) for name in self.paths.folders(dataset)]
        found = self._face(path)
        if found is not None and self._holds(*found):
            return [(f"{found[1]}.npy", False)]
        return None


# --- saving --------------------------------------------------------------------------------------


class _Saver:
    """Puts what is saved into the store: some at a time, in a child process each by itself."""

    def __init__(self, paths: FeaturePaths) -> None:
        self.paths = paths
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.store: Store | None = None
        self.writer: Writer | None = None
        self.views: dict[str, View] = {}
        self.names: set[tuple[str, str]] = set()
        self.timer: threading.Timer | None = None
        self.warned: set[str] = set()

    def save(self, path: str, array: np.ndarray) -> bool:
        """Whether the array was taken."""
        directory, file = os.path.split(absolute(path))
        folder = self.paths.place(directory)
        if folder is None or folder.faces or not file[:-4]:
            return False
        with self.lock:
            view = self._view(folder, array, file[:-4])
            if view is None:
                return False
            if self.writer is None:
                self.writer = view.store.writer(max_seconds=COMMIT_SECONDS)
            if array.size:
                self.writer.put(view, file[:-4], array, as_stored=True)
            else:
                self.writer.delete(view, file[:-4])
                self.writer.fail(view, file[:-4], EMPTY, f"{array.dtype} {array.shape}")
            self.names.add((view.path, file[:-4]))
            if self.process != os.getpid() or multiprocessing.parent_process() is not None:
                self.commit()
            elif self.timer is None:
                self.timer = threading.Timer(COMMIT_SECONDS, self._commit_in_time)
                self.timer.daemon = True
                self.timer.start()
        return True

    def _view(self, folder: Folder, array: np.ndarray, name: str) -> View | None:
        if self.store is None:
            self.store = open_store(self.paths.store.path, "a")
        known = self.paths.view(folder)
        path = known.path if known is not None else self.paths.new_view(folder)
        if path is None:
            if folder.name not in self.warned:
                self.warned.add(folder.name)
                warnings.warn(
                    f"{folder.path}: nothing says which dataset and modality these features are of; they are "
                    "written as files. Import them (`merstore import --modality`, --dataset), and later "
                    "ones will go into the store",
                    stacklevel=4,
                )
            return None
        if path in self.views:
            return self.views[path]
        if path in self.store:
            view = self.views[path] = self.store[path]
            return view
        shape: tuple[int | None, ...] = array.shape
        if not array.size:
            raise MerstoreError(
                f"{folder.path}/{name}.npy: the array is empty {array.shape}, and the first of its folder, so that "
                "nothing says what the others are like: save one that is not empty first"
            )
        if folder.name[-3:] == "FRA":
            shape = (None, *(array.shape[1:] if array.ndim > 1 else array.shape))
        view = self.views[path] = self.store.create_view(
            path,
            dtype=array.dtype,
            shape=shape,
            spec={"imported": {"layout": "mertools", "folder": folder.name}},
            alias=folder.name,
            nonfinite="flag",
            exist_ok=True,
        )
        return view

    def pending(self, view: View, name: str) -> bool:
        return (view.path, name) in self.names

    def commit(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.writer is not None and self.names:
                try:
                    self.writer.commit()
                finally:
                    self.paths.store.refresh()
                    self.names.clear()  # not before: other threads look whether they have to wait

    def _commit_in_time(self) -> None:
        with self.lock:
            if _on is not None and _on.saver is self:
                self.commit()

    def after_fork(self) -> None:
        """In the child: what was pending is the parent's to commit."""
        self.lock = threading.RLock()
        self.writer = self.timer = None
        self.names = set()

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


# --- what is replaced ----------------------------------------------------------------------------

_turning = threading.RLock()
_on: _Switch | None = None
_patched: list[tuple[Any, str, Any, Any]] = []  # where, name, what was there, what is there now
_original: dict[str, Callable[..., Any]] = {
    "exists": os.path.exists,
    "listdir": os.listdir,
    "mkdir": os.mkdir,
    "scandir": os.scandir,
    "load": np.load,
    "save": np.save,
}


def _patch() -> None:
    for name in ("load", "save"):
        _replace(np, name, globals()[f"_{name}"])
    for name in ("listdir", "scandir", "mkdir"):
        _replace(os, name, globals()[f"_{name}"])
    for name, kinds in (
        ("exists", ("file", "directory")),
        ("lexists", ("file", "directory")),
        ("isfile", ("file",)),
        ("isdir", ("directory",)),
    ):
        _replace(os.path, name, _asking(getattr(os.path, name), kinds))
    for name, kinds in (
        ("exists", ("file", "directory")),
        ("is_file", ("file",)),
        ("is_dir", ("directory",)),
    ):
        _replace(pathlib.Path, name, _asking(getattr(pathlib.Path, name), kinds))


def _replace(where: Any, name: str, new: Any) -> None:
    old = getattr(where, name)
    for attribute in ("__doc__", "__name__", "__qualname__", "__module__"):
        with contextlib.suppress(AttributeError):
            setattr(new, attribute, getattr(old, attribute))
    new.__wrapped__ = old
    _patched.append((where, name, old, new))
    setattr(where, name, new)


def _unpatch() -> None:
    while _patched:
        where, name, old, new = _patched.pop()
        if getattr(where, name) is new:  # somebody else may have put his own in its place
            setattr(where, name, old)


class _Inside(threading.local):
    """Whether this thread is inside the switch, where the store's own use of these functions is no
    business of the switch's.
    """

    yes = False


_inside = _Inside()


def _ask(question: Callable[..., Any], *args: Any) -> Any:
    _inside.yes = True
    try:
        return question(*args)
    finally:
        _inside.yes = False


def _current() -> _Switch | None:
    return None if _inside.yes else _on


def _text(path: Any) -> str | None:
    """A path as text; None for what is none (a descriptor, an open file, bytes)."""
    if isinstance(path, os.PathLike):
        path = path.__fspath__()
    return path if isinstance(path, str) else None


def _load(file: Any, mmap_mode: Any = None, *args: Any, **kwargs: Any) -> Any:
    if (switch := _current()) is not None:
        path = _text(file)
        if path is not None and path.endswith(".npy"):
            array = _ask(switch.load, path, mmap_mode)
            if array is not None:
                return array
    return _original["load"](file, mmap_mode, *args, **kwargs)


def _save(file: Any, arr: Any, *args: Any, **kwargs: Any) -> None:
    if (switch := _current()) is not None:
        path = _text(file)
        if path is not None:
            path = path if path.endswith(".npy") else f"{path}.npy"
            if _ask(switch.saver.save, path, np.asanyarray(arr)):
                return
    _original["save"](file, arr, *args, **kwargs)


def _mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
    try:
        _original["mkdir"](path, *args, **kwargs)
    except FileNotFoundError:
        switch, text = _current(), _text(path)
        if switch is None or text is None or not _ask(switch.make, text):
            raise


def _asking(original: Callable[..., bool], kinds: tuple[str, ...]) -> Callable[..., bool]:
    def ask(path: Any, *args: Any, **kwargs: Any) -> bool:
        if (switch := _current()) is not None:
            text = _text(path)
            if text and _ask(switch.has, text) in kinds:
                return True
        return original(path, *args, **kwargs)

    return ask


def _names_in(path: Any) -> tuple[str, list[tuple[str, bool]]] | None:
    if (switch := _current()) is not None:
        text = _text("." if path is None else path)
        found = _ask(switch.names, text) if text else None
        if text and found is not None:
            return text, found
    return None


def _listdir(path: Any = None) -> list[Any]:
    found = _names_in(path)
    if found is None:
        listed: list[Any] = _original["listdir"](path)
        return listed
    names = dict.fromkeys(name for name, _ in found[1])
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names |= dict.fromkeys(_original["listdir"](path))
    return list(names)


def _scandir(path: Any = None) -> Any:
    found = _names_in(path)
    return _original["scandir"](path) if found is None else _Scan(path, *found)


class _Scan:
    """What `os.scandir` returns: the store's entries, then others that are on the disk."""

    def __init__(self, path: Any, text: str, names: list[tuple[str, bool]]) -> None:
        self._entries = self._all(path, text, names)

    @staticmethod
    def _all(path: Any, text: str, names: list[tuple[str, bool]]) -> Iterator[Any]:
        for name, directory in names:
            yield _Entry(os.path.join(text, name) if path is not None else name, name, directory)
        seen = {name for name, _ in names}
        try:
            others = _original["scandir"](path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with others:
            yield from (entry for entry in others if entry.name not in seen)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def close(self) -> None:
        self._entries.close()  # type: ignore[attr-defined]

    def __enter__(self) -> "_Scan":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Entry:
    """An entry of the store as an `os.DirEntry`."""

    def __init__(self, path: str, name: str, directory: bool) -> None:
        self.path, self.name, self._directory = path, name, directory

    def __fspath__(self) -> str:
        return self.path

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._directory

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return not self._directory

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path)  # of the file, if there is one

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


# --- processes -----------------------------------------------------------------------------------

_registered = False


def _register_once() -> None:
    global _registered
    if not _registered:
        _registered = True
        os.register_at_fork(before=_commit, after_in_child=_after_fork)
        atexit.register(_at_exit)


def _commit() -> None:
    if _on is not None:
        _on.saver.commit()


def _after_fork() -> None:
    if _on is not None:
        _on.saver.after_fork()


def _at_exit() -> None:
    try:
        _commit()
    except MerstoreError as error:
        print(f"merstore: what was saved last is lost: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)

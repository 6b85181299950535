"""``merstore://``: a store as an fsspec file system of ``.npy`` files, made when they are opened.

A path is that of a store's folder and, behind it, a view and a sample::

    merstore://features.mer/mer2023/audio@HUBERT_LARGE/8clips/sample_00000001.npy
    merstore://features.mer/mer2023/audio_HUBERT_LARGE_8clips/sample_00000001.npy
    merstore://features.mer/audio_HUBERT_LARGE_8clips/sample_00000001.npy

The view goes by its path or by the folder name that AffectGPT and MERTools know it by, the latter
without its dataset where only one dataset has it. Listings show the first of these. Relative paths
are relative to the working directory; ``merstore:///data/features.mer/...`` is an absolute one.

It is for reading. ``np.load(fs.open(path))`` gives the array that was stored, to the bit (bfloat16,
of which ``.npy`` knows nothing, as float32). What has no tensor has no file: opening it raises
NoFile, which is a FileNotFoundError and says why.
"""

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from fsspec.spec import AbstractFileSystem

from merstore.errors import InvalidKey, MerstoreError, MissingEntry, ReadOnlyStore, UnknownView
from merstore.interop.npy import encode_header
from merstore.store.dtypes import BFLOAT16, numpy_dtype
from merstore.store.entry import unpack
from merstore.store.legacy import dataset_key
from merstore.store.store import Store, open_store
from merstore.store.view import View

__all__ = ["MerstoreFileSystem", "NoFile"]


class NoFile(MerstoreError, FileNotFoundError):
    """No such file or directory in a store, or no store on the path."""


class MerstoreFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Reads ``merstore://`` paths. Stores are opened when first needed and stay open until `close`.

    A sample that was written since is found; one that was overwritten is read as it was until
    ``invalidate_cache()``.
    """

    protocol = "merstore"
    root_marker = "/"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stores: dict[str, Store] = {}
        self._views: dict[tuple[str, tuple[str, ...]], View] = {}
        self._lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        stripped = os.fspath(path)
        for prefix in ("merstore://", "merstore::"):
            stripped = stripped.removeprefix(prefix)
        return os.path.abspath(stripped)

    def close(self) -> None:
        """Let go of all stores."""
        with self._lock:
            self._views.clear()
            while self._stores:
                self._stores.popitem()[1].close()

    def invalidate_cache(self, path: str | None = None) -> None:
        """See what has been committed since."""
        with self._lock:
            self._views.clear()
            for store in self._stores.values():
                store.refresh()

    # -- what is there

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The entries of a directory: datasets, modalities, samplings, and a view's samples."""
        path = self._strip_protocol(path)
        found = self._locate(path)
        if isinstance(found, tuple):
            view, sample = found
            listed = [self._file(path, view, sample)] if sample else list(_files(path, view))
        else:
            listed = [_directory(f"{path}/{name}") for name in found]
        return listed if detail else [entry["name"] for entry in listed]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """``name``, ``type`` and ``size``, in bytes; of a directory 0."""
        path = self._strip_protocol(path)
        found = self._locate(path)
        if isinstance(found, tuple) and found[1]:
            return self._file(path, *found)
        return _directory(path)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        if mode != "rb":
            raise ReadOnlyStore(f"{path}: merstore:// is for reading: write with `merstore import`")
        found = self._locate(path)
        if not (isinstance(found, tuple) and found[1]):
            raise IsADirectoryError(f"{path} is a directory: name a sample in it, <sample>.npy")
        array = self._array(path, *found)
        header = encode_header(array.dtype, array.shape)
        return io.BytesIO(b"".join((header, array.reshape(-1).view("u1").data)))

    # -- inside

    def _locate(self, path: str) -> tuple[View, str] | list[str]:
        """The view and the sample (empty for the view itself) at a path; of a directory above the
        views the names in it.
        """
        store, rest = self._store(path)
        if (found := self._in(store, path, rest)) is None:
            store.refresh()
            found = self._in(store, path, rest)
        if found is None:
            raise NoFile(
                f"{path}: no {'/'.join(rest)} in {store.path} (`merstore ls` shows what there is; a "
                "folder that several datasets have needs its dataset in front)"
            )
        return found

    def _store(self, path: str) -> tuple[Store, tuple[str, ...]]:
        parts = path.split("/")
        folders = ["/".join(parts[:length]) for length in range(len(parts), 1, -1)]
        with self._lock:
            folder = next((each for each in folders if each in self._stores), None)
            if folder is None:
                folder = next((f for f in folders if os.path.isfile(f"{f}/data.mdb")), None)
                if folder is not None:
                    self._stores[folder] = open_store(folder)
            if folder is not None:
                return self._stores[folder], tuple(parts[folder.count("/") + 1 :])
        raise NoFile(
            f"{path}: no store on this path: merstore://<store>/<dataset>/<view>/<name>.npy"
        )

    def _in(
        self, store: Store, path: str, rest: tuple[str, ...]
    ) -> tuple[View, str] | list[str] | None:
        lengths = range(min(len(rest), 3), 0, -1)
        known = (length for length in lengths if (str(store.path), rest[:length]) in self._views)
        for length in (*known, *lengths):  # to look for a view takes longer than to read a sample
            view = self._view(store, rest[:length])
            if view is None:
                continue
            if len(rest) == length:
                return view, ""
            sample = rest[length].removesuffix(".npy")
            whole = len(rest) == length + 1 and sample and sample != rest[length]
            return (view, sample) if whole else None
        within = "".join(f"{part}/" for part in rest)
        names = [
            view[len(within) :].partition("/")[0]
            for view in store.views()
            if view.startswith(within)
        ]
        return list(dict.fromkeys(names)) if names or not rest else None

    def _view(self, store: Store, parts: tuple[str, ...]) -> View | None:
        """The view that the parts stand for: its path, a dataset and a folder, or a folder alone."""
        key = str(store.path), parts
        view = self._views.get(key)
        if view is None:
            try:
                if len(parts) == 3:
                    resolved = "/".join(parts)
                else:
                    dataset = dataset_key(parts[0]) if len(parts) == 2 else None
                    resolved = store.resolve(parts[-1], dataset)
                view = self._views[key] = store[resolved]
            except (InvalidKey, UnknownView):
                return None
        return view

    def _array(self, path: str, view: View, sample: str) -> np.ndarray:
        try:
            return view[sample]
        except (MissingEntry, UnknownView):
            view.store.refresh()  # it may have been written since
        try:
            return view[sample]
        except (MissingEntry, UnknownView) as error:
            raise NoFile(f"{path}: {error}") from None

    def _file(self, path: str, view: View, sample: str) -> dict[str, Any]:
        array = self._array(path, view, sample)
        size = len(encode_header(array.dtype, array.shape)) + array.nbytes
        return {"name": path, "type": "file", "size": size}


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "type": "directory", "size": 0}


def _files(path: str, view: View) -> Iterator[dict[str, Any]]:
    for key, value in view.store.snapshot().scan(b"index", view.record.prefix):
        entry = unpack(value)
        if entry is not None:
            wide = entry.dtype == BFLOAT16
            dtype = np.dtype(np.float32) if wide else numpy_dtype(entry.dtype)
            size = len(encode_header(dtype, entry.shape))
            size += int(np.prod(entry.shape, dtype=np.int64)) * dtype.itemsize
            yield {"name": f"{path}/{key.decode()}.npy", "type": "file", "size": size}

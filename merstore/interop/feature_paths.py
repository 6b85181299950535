"""Which path of a feature tree stands for which view and sample of a store.

A tree that MERTools reads has its features at ``<dataset folder>/features/<feature folder>/
<sample>.npy`` and face stacks at ``<dataset folder>/openface_face/<sample>/<sample>.npy``. None of
these files need exist: a path is taken apart as text (its symbolic links followed where the text
alone does not tell), the feature folder is found by its name alone, whatever it is read for, and
the dataset by its customary folder (``mer2023-dataset-process``), its key, or as it was stated.
"""

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from merstore.errors import InvalidKey, UnknownView
from merstore.store.legacy import AFFECTGPT_DATASETS, dataset_key, folder_name, view_tail
from merstore.store.store import Store
from merstore.store.view import View

__all__ = ["FACES", "FeaturePaths", "Folder"]

FACES = "openface_face"
"""The folder of face stacks, and the alias (or ``face/openface_face``, the tail) of their view."""

FEATURES = "features"
UNKNOWN_FOR = 1.0  # seconds until a folder that the store lacks is looked for again


@dataclass(frozen=True, slots=True)
class Folder:
    """A place where the files of one view would lie; `dataset` is None where nothing says it."""

    path: str
    name: str
    dataset: str | None

    @property
    def faces(self) -> bool:
        """Whether it holds ``<sample>/<sample>.npy`` rather than ``<sample>.npy``."""
        return self.name == FACES


class FeaturePaths:
    """The paths that a store stands for.

    roots: directories; every feature folder below one of them is the store's, if it has the view.
    Without roots, those at the customary places of the datasets that are known or in the store.
    dataset: the one of what lies in no dataset's folder; not needed in a store of one dataset.
    """

    def __init__(
        self,
        store: Store,
        roots: Iterable[str | os.PathLike[str]] | None = None,
        dataset: str | None = None,
    ) -> None:
        self.store = store
        self.roots = None if roots is None else [os.path.abspath(root) for root in roots]
        self.dataset = None if dataset is None else dataset_key(dataset)
        self._inside = [
            place + "/" for root in self.roots or () for place in {root, os.path.realpath(root)}
        ]
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Look at everything anew: views were made or dropped."""
        self._folders: dict[str, Folder | None] = {}
        self._views: dict[tuple[str, str | None], tuple[View | None, float]] = {}
        self.datasets = {path.partition("/")[0] for path in self.store.views()}
        self._known = self.datasets | AFFECTGPT_DATASETS.keys()

    # -- paths

    def entry(self, path: str) -> tuple[Folder, str] | None:
        """The feature folder and sample of a ``.npy`` file, or None where it is no place of ours."""
        if not path.endswith(".npy"):
            return None
        directory, file = os.path.split(absolute(path))
        name = file[:-4]
        folder = self.folder(directory)
        if folder is not None and not folder.faces:
            return (folder, name) if name else None
        above, nested = os.path.split(directory)
        folder = self.folder(above) if nested == name else None
        return (folder, name) if folder is not None and folder.faces else None

    def sample(self, path: str) -> tuple[Folder, str] | None:
        """The face folder and sample of a directory that holds one face stack."""
        above, name = os.path.split(absolute(path))
        folder = self.folder(above) if name else None
        return (folder, name) if folder is not None and folder.faces else None

    def folder(self, path: str) -> Folder | None:
        """The feature folder that a directory would be, or None where it is no place of ours."""
        directory = absolute(path)
        try:
            return self._folders[directory]
        except KeyError:
            found = self._folders[directory] = self._place(directory)
            return found

    def home(self, path: str) -> str | None:
        """The dataset whose feature folders lie in a directory; None where that is not known."""
        folder = self._place(os.path.join(absolute(path), "any"))
        return folder.dataset if folder is not None else None

    def _place(self, directory: str) -> Folder | None:
        parent, name = os.path.split(directory)
        if not name:
            return None
        for above in dict.fromkeys((parent, os.path.realpath(parent))):
            if self.roots is None:
                place, features = os.path.split(above)
                if features != FEATURES:
                    if name != FACES:
                        continue
                    place = above
                dataset = dataset_key(os.path.basename(place))
                if dataset in self._known:
                    return Folder(directory, name, dataset)
            elif any(f"{above}/{name}/".startswith(root) for root in self._inside):
                return Folder(directory, name, self._innermost(above))
        return None

    def _innermost(self, directory: str) -> str | None:
        for part in reversed(directory.split("/")):
            if (dataset := dataset_key(part)) in self._known:
                return dataset
        return self.dataset

    # -- views

    def view(self, folder: Folder) -> View | None:
        """The view of a feature folder, None where the store has none.

        Raises UnknownView where several datasets have one and nothing says which is meant.
        """
        key = folder.name, folder.dataset
        view, since = self._views.get(key, (None, 0.0))
        if view is None and time.monotonic() - since > UNKNOWN_FOR:
            with self._lock:
                view = self._find(*key)
                self._views[key] = view, time.monotonic()
        return view

    def _find(self, name: str, dataset: str | None) -> View | None:
        spellings = (FACES, f"face/{FACES}") if name == FACES else (name,)
        self.store.refresh()
        found = []
        for known in [dataset] if dataset else {path.split("/")[0] for path in self.store.views()}:
            for spelling in spellings:
                try:
                    found.append(self.store.resolve(spelling, known))
                    break
                except UnknownView:
                    continue
        if len(found) > 1:
            self.store.resolve(name)  # says so, with all their paths
        return self.store[found[0]] if found else None

    def find(self, feature_root: str | os.PathLike[str], dataset: str | None = None) -> View:
        """The view of a feature folder that is given by its path, or by its name alone.

        Raises UnknownView, with the nearest names, where the store has none or several.
        """
        path = os.fspath(feature_root)
        folder = self.folder(path) if "/" in path.rstrip("/") else None
        name = os.path.basename(path.rstrip("/"))
        if folder is None:
            where = dataset_key(dataset) if dataset else self._innermost(os.path.dirname(path))
            folder = Folder(path, name, where)
        view = self.view(folder)
        if view is None:
            if folder.dataset and folder.dataset not in {p.split("/")[0] for p in self.store}:
                raise UnknownView(
                    f"{self.store.path} holds nothing of dataset {folder.dataset!r}, for {path}: "
                    f"it has {', '.join(sorted(self.datasets)) or 'no views'}"
                )
            self.store.resolve(name, folder.dataset)  # raises, with the nearest names
            raise UnknownView(f"{self.store.path} has no view for folder {name!r}")
        return view

    def new_view(self, folder: Folder) -> str | None:
        """The path that a feature folder's view gets, None where its name or place does not settle
        that.
        """
        dataset = folder.dataset or self.dataset
        if dataset is None and len(self.datasets) == 1:
            (dataset,) = self.datasets
        try:
            return f"{dataset}/{view_tail(folder.name)}" if dataset else None
        except InvalidKey:
            return None

    def folders(self, dataset: str) -> list[str]:
        """The names of a dataset's feature folders: aliases, or else the legacy names."""
        self.store.refresh()
        names = []
        for path, view in self.store.items():
            where, tail = path.split("/", 1)
            name = view.alias or folder_name(tail)
            if where == dataset and name and name != FACES and tail != f"face/{FACES}":
                names.append(name)
        return sorted(names)


def absolute(path: str) -> str:
    """A path without ``.``, ``..`` and trailing slashes. What stands before a ``..`` may be a
    link, and is followed then.
    """
    if ".." not in path:
        return os.path.abspath(path)
    head, tail = os.path.split(path.rstrip("/"))
    if tail in ("..", "."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(head), tail)

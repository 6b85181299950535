"""Which path of a feature tree stands for which view and sample of a store.

A tree that MERTools reads has its features at ``<dataset folder>/features/<feature folder>/
<sample>.npy`` and face stacks at ``<dataset folder>/openface_face/<sample>/<sample>.npy``. None of
these files need exist: a path is taken apart as text (its symbolic links followed where the text
alone does not tell), the feature folder is found by its name alone, whatever it is read for, and
the dataset by its customary folder (``mer2023-dataset-process``), its key, or as it was stated.
"""

import os
import threading
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
PLACES = 4096  # directories that are remembered


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
    on_miss: what MERTools' reader does about a sample that is nowhere (see `mertools.Features`).
    """

    def __init__(
        self,
        store: Store,
        roots: Iterable[str | os.PathLike[str]] | None = None,
        dataset: str | None = None,
        on_miss: str = "raise",
    ) -> None:
        self.store = store
        self.on_miss = on_miss
        self.roots = None if roots is None else [os.path.abspath(root) for root in roots]
        self.dataset = None if dataset is None else dataset_key(dataset)
        self._inside = [
            place + "/" for root in self.roots or () for place in {root, os.path.realpath(root)}
        ]
        self._own = os.path.abspath(self.store.path) + "/"
        self._lock = threading.RLock()
        self._found: dict[str, str | None] | None = None  # path of each view, and its alias
        self._seen = -1  # the last commit that was looked at
        self._look()

    def _look(self) -> None:
        """Look at the views again if anything was committed since, here or by another process."""
        commit = self.store.environment.last_commit()
        if commit == self._seen:
            return
        with self._lock:
            self.store.refresh()
            found = {path: view.alias for path, view in self.store.items()}
            if found != self._found:
                self._found = found
                self._places: dict[str, tuple[str | None, str | None]] = {}
                self._views: dict[tuple[str, str | None], View | None] = {}
                self.datasets = {path.partition("/")[0] for path in found}
                self._known = self.datasets | AFFECTGPT_DATASETS.keys()
                self._names = {
                    name
                    for path, alias in found.items()
                    for name in (alias, _folder_of(path, alias))
                    if name
                }
            self._seen = commit

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
        """The feature folder that a directory would be, or None where it is no place of ours or the
        store has no folder of that name, whatever the dataset.
        """
        folder = self._place(absolute(path))
        if folder is None:
            return None  # without a look into the store, which may be what asks
        self._look()
        return folder if folder.name in self._names else None

    def home(self, path: str) -> str | None:
        """The dataset whose feature folders lie in a directory; None where that is not known, or
        nothing of it is in the store.
        """
        directory = absolute(path)
        if os.path.basename(directory) != FEATURES and directory not in (self.roots or ()):
            return None
        folder = self.place(os.path.join(directory, "any"))
        return folder.dataset if folder is not None and folder.dataset in self.datasets else None

    def place(self, path: str) -> Folder | None:
        """The feature folder that a directory would be, whether the store has it or not."""
        return self._place(absolute(path))

    def _place(self, directory: str) -> Folder | None:
        parent, name = os.path.split(directory)
        if not name or f"{directory}/".startswith(self._own):
            return None
        try:
            features, faces = self._places[parent]
        except KeyError:
            if len(self._places) > PLACES:
                self._places.clear()
            features, faces = self._places[parent] = self._look_at(parent)
        if self.roots is not None and features is None:
            for above in (parent, os.path.realpath(parent)):
                if f"{above}/{name}/" in self._inside:
                    return Folder(directory, name, self._innermost(above))
        found = faces if name == FACES else features
        return Folder(directory, name, found or None) if found is not None else None

    def _look_at(self, parent: str) -> tuple[str | None, str | None]:
        """Whose feature folders lie in a directory, and whose faces: a dataset, ``""`` where nothing
        says which, or None.
        """
        faces = None
        for above in (parent, os.path.realpath(parent)):
            if self.roots is not None:
                if any(f"{above}/".startswith(root) for root in self._inside):
                    dataset = self._innermost(above) or ""
                    return dataset, dataset
                continue
            home, name = os.path.split(above)
            dataset = dataset_key(os.path.basename(home))
            if name == FEATURES and dataset in self._known:
                return dataset, dataset
            if dataset_key(name) in self._known:
                faces = faces or dataset_key(name)
        return None, faces

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
        self._look()
        key = folder.name, folder.dataset
        try:
            return self._views[key]
        except KeyError:
            with self._lock:
                found = self._views[key] = self._find(*key)
                return found

    def _find(self, name: str, dataset: str | None) -> View | None:
        spellings = (FACES, f"face/{FACES}") if name == FACES else (name,)
        found = []
        for known in [dataset] if dataset else sorted(self.datasets):
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
            above = os.path.abspath(os.path.dirname(path))
            if f"{above}/".startswith(self._own):  # below the store: what lies above says nothing
                above = f"{above}/"[len(self._own) :]
            where = dataset_key(dataset) if dataset else self._innermost(above)
            folder = Folder(path, name, where)
        view = self.view(folder)
        if view is None:
            if folder.dataset and folder.dataset not in self.datasets:
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
        self._look()
        return sorted(
            name
            for path, alias in (self._found or {}).items()
            if path.startswith(f"{dataset}/")
            and (name := alias or _folder_of(path, alias)) not in (None, FACES)
        )


def _folder_of(path: str, alias: str | None) -> str | None:
    tail = path.partition("/")[2]
    return FACES if FACES in (alias, tail.removeprefix("face/")) else folder_name(tail)


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

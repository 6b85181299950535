"""What a folder of ``.npy`` files holds: which files belong to which view.

Three layouts are known. A feature folder's name is read by the tables of `merstore.store.legacy`;
what they do not settle is reported, never guessed::

    affectgpt   <root>/<dataset>/<feature folder>/<sample>.npy
    mertools    <dataset root>/features/<feature folder>/<sample>.npy, or <sample>/<frame>.npy
    npy         any tree, by a pattern: "{dataset}/{encoder}/{sampling}/{sample}.npy"

Of the first two, any level may be given: the root, one dataset, one feature folder.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from merstore.errors import InvalidKey, MerstoreError
from merstore.store.keys import parse_view
from merstore.store.legacy import AFFECTGPT_DATASETS, dataset_key, is_affectgpt, view_tail

__all__ = ["LAYOUTS", "NPY_PATTERN", "Found", "Tree", "Unknown", "discover"]

LAYOUTS = ("auto", "affectgpt", "mertools", "npy")

NPY_PATTERN = "{dataset}/{modality}/{sampling}/{sample}.npy"
"""Where an export of layout ``npy`` puts an array; `modality` with its ``@encoder``."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one view.

    `files` maps sample names, in the order of their UTF-8 bytes, to paths relative to `directory`.
    `folder` is the legacy name that the view gets as its alias, None where the layout has none.
    """

    view: str
    folder: str | None
    layout: str
    directory: str
    files: Mapping[str, str] = field(repr=False)

    @property
    def dataset(self) -> str:
        """The first part of the view's path."""
        return self.view.partition("/")[0]

    def path(self, name: str) -> str:
        """The file (or directory of per-frame files) of a sample."""
        return f"{self.directory}/{self.files[name]}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something in the folder that is not imported, and why."""

    path: str
    reason: str


class Found(list[Tree]):
    """The trees of a folder, by view path; `unknown` is what was left out."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[Unknown] = []


def discover(
    root: str | os.PathLike[str],
    layout: str = "auto",
    *,
    pattern: str | None = None,
    dataset: str | None = None,
    view: str | None = None,
    modality: str | None = None,
) -> Found:
    """The views that the ``.npy`` files below `root` stand for. Lists directories, opens no file.

    `layout` is one of `LAYOUTS`; ``auto`` looks at folder names and at where the files are.
    `pattern` (layout ``npy``) is a path with the fields dataset, modality, encoder, sampling,
    feature (a legacy folder name) and sample. `dataset` says which dataset the files are of where
    no folder does, and selects one where folders do. `modality` is for feature folders that the
    tables do not have. `view` is the whole view path, for a root that is one feature folder.
    Raises MerstoreError where `root` is no directory, InvalidKey where something has to be said
    that was not.
    """
    root = os.path.abspath(os.fspath(root))
    if not os.path.isdir(root):
        raise MerstoreError(f"{root}: no such directory: give the folder that holds the .npy files")
    if layout not in LAYOUTS:
        raise MerstoreError(f"layout {layout!r} is unknown: one of {', '.join(LAYOUTS)}")
    if pattern is not None and layout not in ("auto", "npy"):
        raise MerstoreError(f"a pattern goes with layout npy, not {layout}: leave one of them out")
    if view is not None:
        parse_view(view)
    if pattern is not None or layout == "npy":
        found = _Pattern(pattern or NPY_PATTERN, dataset, view, modality).discover(root)
    else:
        found = _Legacy(layout, dataset, view, modality).discover(root)
    if not found and not found.unknown:
        found.unknown.append(Unknown(root, "no .npy files in it"))
    found.sort(key=lambda tree: tree.view)
    return found


# --- AffectGPT and MERTools ----------------------------------------------------------------------


class _Legacy:
    def __init__(
        self, layout: str, dataset: str | None, view: str | None, modality: str | None
    ) -> None:
        self.layout = layout
        self.dataset = None if dataset is None else dataset_key(dataset)
        self.view = view
        self.modality = modality
        self.found = Found()

    def discover(self, root: str) -> Found:
        if self.view is not None:
            if folders := [name for name in _subfolders(root) if _is_level(name)]:
                raise InvalidKey(
                    f"{root} holds folders of features ({folders[0]}, ...), and {self.view!r} is "
                    "one view: give one feature folder"
                )
            self._add_view(root, self.view)
        elif self._is_feature_folder(root):
            self._add_folder(root, self._dataset_of(root, os.path.dirname(root)))
        elif self._is_dataset(root):
            self._add_dataset(root, self._dataset_of(root, root))
        else:
            self._add_root(root)
        return self.found

    def _is_feature_folder(self, path: str) -> bool:
        if _is_known(os.path.basename(path)):
            return True
        return _holds_npy(path) and not any(map(_is_level, _subfolders(path)))

    def _is_dataset(self, path: str) -> bool:
        children = _subfolders(path)
        if "features" in children:
            return True
        if self.layout == "mertools":
            return not any(os.path.isdir(os.path.join(path, c, "features")) for c in children)
        if self.layout == "affectgpt":
            return self.dataset is not None and self.dataset not in map(dataset_key, children)
        return any(self._is_feature_folder(os.path.join(path, child)) for child in children)

    def _dataset_of(self, root: str, directory: str) -> str:
        """The dataset that was given, or that the directory is named after (by the table)."""
        if self.dataset is not None:
            return self.dataset
        if os.path.basename(directory) == "features":
            directory = os.path.dirname(directory)
        key = dataset_key(os.path.basename(directory))
        if key not in AFFECTGPT_DATASETS:
            raise InvalidKey(f"{root}: nothing says which dataset it is of: give the dataset")
        return key

    def _add_root(self, root: str) -> None:
        children = _subfolders(root)
        for child in children:
            key = dataset_key(child)
            if self.dataset in (None, key):
                self._add_dataset(os.path.join(root, child), key)
        if self.dataset is not None and self.dataset not in map(dataset_key, children):
            self._leave_out(root, f"no folder of dataset {self.dataset!r} in it")

    def _add_dataset(self, path: str, dataset: str) -> None:
        features = os.path.join(path, "features")
        if os.path.isdir(features):
            path = features
        folders = _subfolders(path)
        for folder in folders:
            self._add_folder(os.path.join(path, folder), dataset)
        if not folders:
            self._leave_out(path, "no feature folders in it")

    def _add_folder(self, path: str, dataset: str) -> None:
        try:
            tail = view_tail(os.path.basename(path), self.modality)
            view = str(parse_view(f"{dataset}/{tail}"))
        except InvalidKey as error:
            self._leave_out(path, str(error))
        else:
            self._add_view(path, view)

    def _add_view(self, path: str, view: str) -> None:
        twin = next((tree for tree in self.found if tree.view == view), None)
        if twin is not None:
            self._leave_out(path, f"stands for the same view as {twin.directory}: import it alone")
            return
        files, others = _samples(path)
        if others:
            self._leave_out(path, f"{len(others):,} other entries, e.g. {others[0]}")
        if not files:
            self._leave_out(path, "no .npy files in it")
            return
        folder = os.path.basename(path)
        layout = "affectgpt" if is_affectgpt(folder) else "mertools"
        self.found.append(Tree(view, folder, layout, path, files))

    def _leave_out(self, path: str, reason: str) -> None:
        self.found.unknown.append(Unknown(path, reason))


def _is_known(folder: str) -> bool:
    try:
        view_tail(folder)
    except InvalidKey:
        return False
    return True


def _is_level(folder: str) -> bool:
    """Whether a folder of this name holds features, or folders of them, rather than frames."""
    return folder == "features" or dataset_key(folder) in AFFECTGPT_DATASETS or _is_known(folder)


def _subfolders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _holds_npy(path: str) -> bool:
    with os.scandir(path) as entries:
        return any(entry.name.endswith(".npy") for entry in entries)


def _samples(path: str) -> tuple[dict[str, str], list[str]]:
    """Sample name -> file, or directory of per-frame files; and the entries that are neither."""
    files: dict[str, str] = {}
    folders: list[str] = []
    others: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".npy") and len(name) > 4 and not name.startswith("._"):
                files[name[:-4]] = name
            elif entry.is_dir():
                folders.append(name)
            else:
                others.append(name)
    for name in folders:
        if name in files:  # MERTools' reader takes the file, too
            others.append(f"{name}/ (there is a file {name}.npy)")
        else:
            files[name] = name
    return _in_order(files), sorted(others)


def _in_order(files: Mapping[str, str]) -> dict[str, str]:
    # By code point, which is the order of the UTF-8 bytes.
    return {name: files[name] for name in sorted(files)}


# --- any tree, by a pattern ----------------------------------------------------------------------

_FIELDS = ("dataset", "modality", "encoder", "sampling", "feature", "sample")


class _Pattern:
    def __init__(
        self, pattern: str, dataset: str | None, view: str | None, modality: str | None
    ) -> None:
        self.pattern = pattern
        self.given = {"dataset": dataset, "modality": modality}
        self.view = view
        self.segments = [_segment(pattern, part) for part in pattern.split("/")]
        self.fields = set(re.findall(r"\{(.*?)\}", pattern))
        self._check()

    def _check(self) -> None:
        stated = self.fields | {name for name, value in self.given.items() if value is not None}
        if unknown := self.fields - set(_FIELDS):
            raise InvalidKey(
                f"pattern {self.pattern!r}: unknown field {min(unknown)!r}: "
                f"use {', '.join(_FIELDS)}"
            )
        if "sample" not in self.fields:
            raise InvalidKey(f"pattern {self.pattern!r}: it has to say where {{sample}} is")
        if self.view is not None:
            return
        if "dataset" not in stated:
            raise InvalidKey(f"pattern {self.pattern!r}: it has no {{dataset}}: give the dataset")
        if "feature" not in stated and not stated >= {"modality", "sampling"}:
            raise InvalidKey(
                f"pattern {self.pattern!r}: it needs {{feature}}, or {{modality}} and "
                "{sampling}; or give the view's path"
            )

    def discover(self, root: str) -> Found:
        found = Found()
        trees: dict[tuple[str, str | None], dict[str, str]] = {}
        refused: dict[str, str] = {}
        strangers: list[str] = []
        for path, fields in self._walk(root, "", 0, {}, strangers):
            try:
                view, folder = self._view(fields)
            except InvalidKey as error:
                refused.setdefault(str(error), path)
                continue
            files = trees.setdefault((view, folder), {})
            if fields["sample"] in files:
                found.unknown.append(Unknown(path, f"same sample as {files[fields['sample']]}"))
            else:
                files[fields["sample"]] = path
        for (view, folder), files in trees.items():
            found.append(Tree(view, folder, "npy", root, _in_order(files)))
        found.unknown += [
            Unknown(path, f"and others like it: {why}") for why, path in refused.items()
        ]
        if strangers:
            count, example = len(strangers), min(strangers)
            found.unknown.append(
                Unknown(root, f"{count:,} entries do not fit the pattern, e.g. {example}")
            )
        return found

    def _walk(
        self, root: str, below: str, depth: int, known: dict[str, str], strangers: list[str]
    ) -> Iterator[tuple[str, dict[str, str]]]:
        segment = self.segments[depth]
        is_last = depth == len(self.segments) - 1
        with os.scandir(os.path.join(root, below)) as entries:
            for entry in entries:
                path = os.path.join(below, entry.name)
                matched = segment.fullmatch(entry.name)
                if matched is None or (not is_last and not entry.is_dir()):
                    strangers.append(path)
                    continue
                fields = known | matched.groupdict()
                if any(fields[name] != value for name, value in known.items()):
                    strangers.append(path)  # {sample}/{sample}.npy, and the two differ
                elif is_last:
                    yield path, fields
                else:
                    yield from self._walk(root, path, depth + 1, fields, strangers)

    def _view(self, fields: Mapping[str, str]) -> tuple[str, str | None]:
        folder = fields.get("feature")
        if self.view is not None:
            return self.view, folder
        dataset = self.given["dataset"] or fields["dataset"]
        modality = fields.get("modality") or self.given["modality"]
        if folder is not None:
            return str(parse_view(f"{dataset}/{view_tail(folder, modality)}")), folder
        what = f"{modality}@{fields['encoder']}" if "encoder" in fields else modality
        return str(parse_view(f"{dataset}/{what}/{fields['sampling']}")), None


def _segment(pattern: str, segment: str) -> re.Pattern[str]:
    """A part of a pattern between slashes as a regular expression with a group for each field."""
    if not segment or segment in (".", ".."):
        raise InvalidKey(f"pattern {pattern!r}: empty, '.' and '..' parts are not allowed")
    parts = re.split(r"\{(\w+)\}", segment)
    names = parts[1::2]
    if len(set(names)) < len(names):
        raise InvalidKey(f"pattern {pattern!r}: a field twice in {segment!r}")
    source = "".join(
        f"(?P<{part}>.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
    return re.compile(source, re.DOTALL)

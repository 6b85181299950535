"""A whole MERTools dataset folder into a store, and out of it again.

=====================  =====================================================================
in the folder          in the store
=====================  =====================================================================
features/<folder>/     a view each, by the table of legacy folder names
label npz, csv         ``<dataset>/label/<name>``, ``<dataset>/text/<name>`` (`merstore.corpora`)
openface_face/         ``<dataset>/face/openface``, uint8 ``[T, 112, 112, 3]``, BGR; its alias is
                       ``openface_face``. A folder without a track, and an empty track, is a
                       failure ``no_face``
video/, audio/         ``<dataset>/video/file``, ``<dataset>/audio/file``: not the media but where
                       they are: JSON with ``path`` (relative to the folder), ``bytes`` and
                       ``xxh3_128``, the digest of the content
=====================  =====================================================================

What is there already is skipped, so that an import that was interrupted goes on.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from merstore.atomic import replacing
from merstore.corpora import Corpus, Table, store_labels
from merstore.corpora.problem import Missing
from merstore.corpora.stored import LABEL, TEXT
from merstore.errors import DecodeError, InvalidTensor, MerstoreError, UnknownView
from merstore.extract.files import content_digest
from merstore.interop.exporting import (
    ExportReport,
    ViewExport,
    export_views,
    write_view,
)
from merstore.interop.importing import ImportReport, Refused, ViewImport, import_tree
from merstore.interop.label_files import label_files
from merstore.interop.npy import read_header
from merstore.interop.pipeline import Readers, chunks
from merstore.interop.trees import Found, Tree, Unknown, discover
from merstore.store.legacy import folder_name
from merstore.store.store import Store
from merstore.store.view import View

__all__ = ["FACES", "CorpusExport", "CorpusImport", "export_corpus", "import_corpus"]

FACES = "openface_face"
"""The folder of face tracks, and the alias of their view."""

_FACE_VIEW = "{dataset}/face/openface"
_FACE_SHAPE = (None, 112, 112, 3)  # as MERTools has OpenFace cut them
_NESTED, _FLAT = "{name}/{name}.npy", "{name}.npy"
_FILE_VIEW = "{dataset}/{medium}/file"
_FILE_SPEC = {"kind": "files", "encoding": "JSON, UTF-8", "digest": "xxh3_128"}
_NOTE = "corpus"  # of the store: where a dataset's folder was, and how its faces lay there
_NOT_FEATURES = {LABEL, TEXT, "quality"}

Progress = Callable[[int, int, int], None]


@dataclass
class CorpusImport:
    """What became of a dataset's folder. ``labels`` are the views of labels and transcripts;
    ``views`` has features, faces and references to media; ``problems`` what is wrong with parts of
    the folder; ``unknown`` folders and files that were left out.
    """

    dataset: str
    root: str
    views: list[ViewImport] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)

    @property
    def report(self) -> ImportReport:
        """Of the views, to be told like any other import."""
        return ImportReport(self.views)


@dataclass
class CorpusExport:
    """What became of a dataset's views. ``views`` has features and faces, ``files`` the labels,
    transcripts and links to media that were written, ``unchanged`` how many were there already,
    ``refused`` those that were not written, with the reason.
    """

    dataset: str
    root: str
    views: list[ViewExport] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unchanged: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def report(self) -> ExportReport:
        """Of the views, to be told like any other export."""
        return ExportReport(self.views)


# --- in ------------------------------------------------------------------------------------------


def import_corpus(
    store: Store,
    corpus: Corpus,
    *,
    modality: str | None = None,
    jobs: int = 4,
    nonfinite: str = "refuse",
    replace: bool = False,
    progress: Progress | None = None,
) -> CorpusImport:
    """Put everything of the corpus's folder into `store`, as the table above says.

    modality: of feature folders whose name does not say it. jobs, nonfinite, replace, progress: as of
    `merstore.interop.importing.import_tree`; `replace` also writes labels and references anew.

    What is wrong with a file, a folder or the labels is in the report, and concerns nothing else.
    Raises what a store raises where it cannot be written to.
    """
    done = CorpusImport(corpus.key, str(corpus.root))
    _labels(store, corpus, replace, done)
    trees = _features(corpus, modality, done)
    faces, faceless, pattern = _faces(corpus)
    media = {
        medium.modality: names
        for medium in corpus.table.media.values()
        if medium.modality != "face" and (names := _names(corpus, medium.modality, done))
    }
    meter = _Meter(progress, sum(len(tree.files) for tree in [*trees, *([faces] if faces else [])]))
    meter.total += sum(map(len, media.values()))
    how: dict[str, Any] = {"jobs": jobs, "nonfinite": nonfinite, "replace": replace}
    done.views += import_tree(store, trees, progress=meter.stage(), **how).views
    if faces is not None:
        done.views.append(_import_faces(store, faces, faceless, how, meter.stage()))
    for medium, names in media.items():
        done.views.append(_import_files(store, corpus, medium, names, jobs, replace, meter))
    facts = {"root": os.path.abspath(corpus.root), "faces": pattern}
    store.note(_NOTE, corpus.key, json.dumps(facts, ensure_ascii=False))
    return done


class _Meter:
    """One count over several stages."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self.total = total
        self._files = self._bytes = 0

    def stage(self) -> Progress:
        """Takes the counts of a stage, which begin at nothing."""
        files, nbytes = self._files, self._bytes

        def report(done: int, _: int, size: int) -> None:
            self._files, self._bytes = files + done, nbytes + size
            self._tell()

        return report

    def add(self, files: int, nbytes: int = 0) -> None:
        self._files += files
        self._bytes += nbytes
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._files, self.total, self._bytes)


def _labels(store: Store, corpus: Corpus, replace: bool, done: CorpusImport) -> None:
    table = corpus.table
    try:
        if replace:
            for name, labels in table.labels.items():
                _drop(store, corpus, LABEL, name, labels.sources, corpus.labels)
            for name, texts in table.transcripts.items():
                _drop(store, corpus, TEXT, name, texts.sources, corpus.transcripts)
        done.labels = store_labels(store, corpus)
    except MerstoreError as error:
        done.problems.append(("labels and transcripts", str(error)))


def _drop(
    store: Store,
    corpus: Corpus,
    part: str,
    name: str,
    sources: Iterable[str],
    read: Callable[[str], object],
) -> None:
    """Drops what is there of a set of labels or texts that can be read anew."""
    path = f"{corpus.key}/{part}/{name}"
    if path in store and corpus.has(sources):
        read(name)
        store.drop_view(path)


def _features(corpus: Corpus, modality: str | None, done: CorpusImport) -> Found:
    folder = corpus.root / "features"
    if not folder.is_dir():
        return Found()
    found = discover(folder, "mertools", dataset=corpus.key, modality=modality)
    done.unknown += found.unknown
    return found


def _names(corpus: Corpus, medium: str, done: CorpusImport) -> list[str]:
    """The samples that should have the medium, where its folder is there at all."""
    media = corpus.table.media_of(medium)
    if media is None or not any((corpus.root / folder).is_dir() for folder in media.folders):
        return []
    labelled: Iterable[str] = ()
    with suppress(MerstoreError):  # what is wrong with the labels has been said
        labelled = corpus.samples() if corpus.table.labels else ()
    return sorted(corpus.listed(media).union(labelled))


def _faces(corpus: Corpus) -> tuple[Tree | None, dict[str, Missing], str]:
    """The tracks; samples without one, and why; and how the tracks lie in their folder."""
    files: dict[str, str] = {}
    without: dict[str, Missing] = {}
    media = corpus.table.media_of("face")
    nested = 0
    for name in _names(corpus, "face", CorpusImport(corpus.key, "")):
        assert media is not None
        path = corpus.media(name, "face")
        if isinstance(path, Path):
            files[name] = str(path.relative_to(corpus.root))
            nested += path.parent.name == name
        elif any((corpus.root / folder / name).is_dir() for folder in media.folders):
            reason = f"{FACES}/{name} holds no track: no face was found, or it was interrupted"
            without[name] = Missing("no_face", reason)
        else:
            without[name] = path
    if not files and not without:
        return None, {}, _NESTED
    view = _FACE_VIEW.format(dataset=corpus.key)
    tree = Tree(view, FACES, "openface", str(corpus.root), files)
    return tree, without, _FLAT if files and 2 * nested < len(files) else _NESTED


def _import_faces(
    store: Store, tree: Tree, faceless: dict[str, Missing], how: dict[str, Any], progress: Progress
) -> ViewImport:
    if tree.view not in store:
        store.create_view(
            tree.view,
            dtype="uint8",
            shape=_face_shape(tree),
            spec={"imported": {"layout": tree.layout, "folder": tree.folder}},
            alias=tree.folder,
        )
    done = import_tree(store, [tree], progress=progress, **how).views[0]
    view = store[tree.view]
    kept = []
    for refused in done.refused:
        if _is_empty(refused.path):
            faceless[refused.name] = Missing("no_face", f"{tree.files[refused.name]} has no faces")
        else:
            kept.append(refused)
    done.refused = kept
    _fail(store, view, faceless, done)
    return done


def _face_shape(tree: Tree) -> tuple[int | None, ...]:
    """That of the first track that is one."""
    for name in tree.files:
        with suppress(InvalidTensor, OSError):
            header = read_header(tree.path(name))
            if header.nbytes and header.dtype == np.uint8 and len(header.shape) == 4:
                return (None, *header.shape[1:])
    return _FACE_SHAPE


def _is_empty(path: str) -> bool:
    try:
        return read_header(path).nbytes == 0
    except (InvalidTensor, OSError):
        return False


def _fail(store: Store, view: View, without: dict[str, Missing], done: ViewImport) -> None:
    """Records why samples have nothing; what they had before stays."""
    missing = view.missing(without)
    done.notes.update(f"not there, recorded as {without[name].kind}" for name in missing)
    with store.writer() as writer:
        for name in missing:
            writer.fail(view, name, *without[name])


def _import_files(
    store: Store,
    corpus: Corpus,
    medium: str,
    names: list[str],
    jobs: int,
    replace: bool,
    meter: _Meter,
) -> ViewImport:
    path = _FILE_VIEW.format(dataset=corpus.key, medium=medium)
    done = ViewImport(path, None)
    try:
        view = store.create_view(path, dtype="uint8", shape=(None,), spec=_FILE_SPEC, exist_ok=True)
    except MerstoreError as error:
        done.problem = str(error)
        meter.add(len(names))
        return done
    known = {} if replace else dict(_references(view))
    todo: dict[str, tuple[Path, int]] = {}
    without: dict[str, Missing] = {}
    for name in names:
        found = corpus.media(name, medium)
        if isinstance(found, Missing):
            without[name] = found
        else:
            todo[name] = found, found.stat().st_size
    for name, reference in known.items():
        file, size = todo.pop(name, (None, 0))
        if file is None:
            continue
        meter.add(1)
        if size == reference["bytes"]:
            done.skipped += 1
        else:
            reason = (
                f"{file}: has {size:,} bytes, and {reference['bytes']:,} when it was imported: "
                "import with replace"
            )
            done.refused.append(Refused(name, str(file), reason))
    _fail(store, view, without, done)
    meter.add(len(without))

    def digest(names: Sequence[str]) -> list[tuple[str, str | DecodeError]]:
        results: list[tuple[str, str | DecodeError]] = []
        for name in names:
            try:
                results.append((name, content_digest(todo[name][0])))
            except DecodeError as error:
                results.append((name, error))
        return results

    with Readers(jobs) as readers, store.writer() as writer:
        for results in readers.map(digest, chunks(todo, lambda name: todo[name][1], files=64)):
            for name, result in results:
                file, size = todo[name]
                if isinstance(result, DecodeError):
                    done.refused.append(Refused(name, str(file), str(result)))
                else:
                    relative = file.relative_to(corpus.root).as_posix()
                    text = json.dumps(
                        {"path": relative, "bytes": size, "xxh3_128": result}, ensure_ascii=False
                    )
                    writer.put(view, name, np.frombuffer(text.encode(), np.uint8))
                    done.imported += 1
                meter.add(1)
    return done


def _references(view: View) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a view of files. Raises InvalidTensor for what is none."""
    for name in view:
        try:
            reference = json.loads(view[name].tobytes())
            parts = Path(reference["path"]).parts
            inside = parts and not os.path.isabs(reference["path"]) and os.pardir not in parts
            if not inside or not isinstance(reference["bytes"], int):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InvalidTensor(
                f"{view.path}/{name} names no file of a dataset's folder: drop the view, import again"
            ) from None
        yield name, reference


# --- out -----------------------------------------------------------------------------------------


def export_corpus(
    store: Store,
    table: Table,
    out_dir: str | os.PathLike[str],
    *,
    media: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CorpusExport:
    """Write what the store has of a corpus to the folder `out_dir`, as its checkouts want it.

    ``features/<folder>/<sample>.npy``, byte for byte as `numpy.save` writes them; face tracks as they
    lay in the folder that was imported (``openface_face/<sample>/<sample>.npy`` where that is not
    known), with an empty folder for a sample without a face; label and transcript files; and links
    to videos and sounds in the folder `media`, by default that which was imported. Views that no
    code base knows a folder for (of quality, or of encoders without a legacy name) stay out.

    What is there and the same is left alone, what is another is refused unless `overwrite`. A medium
    whose size has changed is refused.

    Raises UnknownView where the store has nothing of this corpus, MerstoreError where the folder
    cannot be written to.
    """
    dataset = table.key
    paths = [path for path in store.views() if path.startswith(f"{dataset}/")]
    if not paths:
        raise UnknownView(
            f"{store.path} has nothing of {dataset} (`merstore ls` lists what it has)"
        )
    root = Path(out_dir)
    done = CorpusExport(dataset, str(root))
    facts = _facts(store, dataset)
    faces = next((path for path in paths if store[path].alias == FACES), None)
    media_views = {
        medium: path
        for medium in table.media
        if (path := _FILE_VIEW.format(dataset=dataset, medium=medium)) in paths
    }
    others = {faces, *media_views.values()}
    features = [
        path
        for path in paths
        if path not in others
        and store[path].modality not in _NOT_FEATURES
        and (store[path].alias or folder_name(path.partition("/")[2]))
    ]
    links = sum(len(store[path]) for path in media_views.values())
    total = sum(len(store[path]) for path in [*features, *([faces] if faces else [])])
    meter = _Meter(progress, total + links)
    done.views += export_views(
        store, root, features, "features", overwrite=overwrite, progress=meter.stage()
    ).views
    try:
        root.mkdir(parents=True, exist_ok=True)
        if faces is not None:
            done.views.append(_export_faces(store[faces], root, facts, overwrite, meter))
        for file, content in label_files(store, table):
            _write_file(root / file, content, overwrite, done)
        for path in media_views.values():
            _link_files(store[path], root, media or facts.get("root"), overwrite, done, meter)
    except OSError as error:
        raise MerstoreError(f"{root}: cannot be written to: {error}") from error
    return done


def _facts(store: Store, dataset: str) -> dict[str, str]:
    """What the import noted; nothing where there was none."""
    try:
        facts = json.loads(store.notes(_NOTE).get(dataset, "{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _export_faces(
    view: View, root: Path, facts: dict[str, str], overwrite: bool, meter: _Meter
) -> ViewExport:
    done = ViewExport(view.path, str(root / FACES))
    failures = view.failures()
    done.failures = len(failures)
    pattern = _FLAT if facts.get("faces") == _FLAT else _NESTED
    for size in write_view(view, done, overwrite, pattern):
        meter.add(1, size)
    for failure in failures:
        named = failure.name not in (os.curdir, os.pardir) and "/" not in failure.name
        if pattern == _NESTED and failure.kind == "no_face" and named:
            (root / FACES / failure.name).mkdir(exist_ok=True)
    return done


def _write_file(path: Path, content: bytes, overwrite: bool, done: CorpusExport) -> None:
    if path.exists():
        if path.read_bytes() == content:
            done.unchanged += 1
            return
        if not overwrite:
            done.refused.append((str(path), "holds something else: remove it, or overwrite"))
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
    done.files.append(str(path))


def _link_files(
    view: View,
    root: Path,
    media: str | os.PathLike[str] | None,
    overwrite: bool,
    done: CorpusExport,
    meter: _Meter,
) -> None:
    source = Path(os.path.abspath(media)) if media is not None else None
    if source is None or not source.is_dir():
        told = f"the folder {source} is gone" if source else "the store does not know their folder"
        done.refused.append((view.path, f"{told}: say where the media are"))
        meter.add(len(view))
        return
    try:
        references = dict(_references(view))
    except InvalidTensor as error:
        done.refused.append((view.path, str(error)))
        return
    for reference in references.values():
        meter.add(1)
        file, link = source / reference["path"], root / reference["path"]
        reason = ""
        if not file.is_file():
            reason = f"no such file in {source}"
        elif file.stat().st_size != reference["bytes"]:
            reason = f"{file} has another size than when it was imported: import it with replace"
        elif link.exists() and link.samefile(file):
            done.unchanged += 1
            continue
        elif link.exists() and not overwrite:
            reason = "is another file: remove it, or overwrite"
        if reason:
            done.refused.append((str(link), reason))
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file)
        done.files.append(str(link))

"""Texts from all that the field's scripts leave them in, and answers to the files that they read."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from merstore.corpora import pickled
from merstore.errors import MerstoreError, UnknownView
from merstore.run import answers
from merstore.run.labels.prompts import MERGE, OPENSET, SENTIMENT
from merstore.run.texts import put, read_texts, table
from merstore.score.files import KINDS, read_answers
from merstore.store.store import Store

COLUMNS = {OPENSET: "reason", SENTIMENT: OPENSET, MERGE: "reason"}
"""Where the texts of a task are, in a table of several columns."""

SUBTITLES = "english"
"""The column of subtitles; another will do where it is the only one."""

_GIVES = {OPENSET: OPENSET, SENTIMENT: SENTIMENT, MERGE: "reason"}
_SILENT = ("empty_text", "nan_text")  # as transcripts in a store say that nothing is said
OUTPUTS = (".npz", ".csv", ".jsonl")


class Source(NamedTuple):
    """``texts`` by name, as they stand there; ``absent``: names that are known to have none."""

    texts: Mapping[str, Any]
    absent: list[str]


def read_source(source: str, column: str, store: Store | None = None) -> Source:
    """The texts of an npz (``name2reason``, or ``filenames`` and ``fileitems``), a csv, tsv or jsonl
    with `column`, a folder with a ``NAME.npy`` each, or a view of texts in the store, by its path: a
    run's answers (`merstore infer`), or transcripts.

    Nothing is unpickled. Raises MerstoreError, which names the file, for one that cannot be read or
    has a name twice, UnknownView where there is neither file nor view.
    """
    path = Path(source)
    if path.is_dir():
        return Source(_read_folder(path), [])
    if path.exists() or store is None or source not in store:
        if not path.exists():
            of = f", nor is it a view of {store.path}" if store is not None else ""
            raise UnknownView(f"{source}: no such file or folder{of}: give {KINDS}")
        return Source(read_answers(path, column).by_name, [])
    view = store[source]
    if view.dtype != np.uint8 or view.shape != (None,):
        raise MerstoreError(
            f"{source} is a view of {view.shape} {view.dtype}, not of texts (uint8, one dimension)"
        )
    failures = view.failures()
    texts = {each.name: "" for each in failures if each.kind in _SILENT}
    absent = [each.name for each in failures if each.kind not in _SILENT]
    if view.modality == answers.MODALITY:
        texts |= {name: kept.text for name, kept in answers.read(view).items()}
    else:
        names = list(view)
        texts |= {
            name: text or "" for name, text in zip(names, read_texts(view, names), strict=True)
        }
    return Source(texts, absent)


def write_answers(path: Path, by_name: Mapping[str, str], task: str) -> None:
    """Write answers as ``filenames`` and ``fileitems`` (npz: unicode arrays), or as a table with
    ``name`` and what the task gives: ``openset``, ``sentiment`` or ``reason`` (csv, jsonl).

    A file that is there is replaced when the new one is whole. Raises MerstoreError for another
    ending, and where it cannot be written.
    """
    check_output(path)
    kind, column = path.suffix.lower(), _GIVES[task]
    if kind == ".npz":
        data = io.BytesIO()
        items = [np.array(list(each), str) for each in (by_name, by_name.values())]
        np.savez_compressed(data, filenames=items[0], fileitems=items[1])
        content = data.getvalue()
    else:
        content = table(kind, column, by_name)
    put(path, content)


def check_output(path: Path) -> None:
    """Raise MerstoreError where answers cannot go there, before they are asked for."""
    if path.suffix.lower() not in OUTPUTS:
        raise MerstoreError(f"{path}: answers are written as {', '.join(OUTPUTS)}")
    if not path.parent.is_dir():
        raise MerstoreError(f"{path}: there is no folder {path.parent}")


def _read_folder(path: Path) -> dict[str, Any]:
    texts = {file.stem: _read_text(file) for file in sorted(path.glob("*.npy"))}
    if not texts:
        raise MerstoreError(f"{path}: no .npy file in it: give the folder of texts by sample")
    return texts


def _read_text(path: Path) -> Any:
    """The text in a ``.npy`` file: an array of none, or of one item."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            head = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            _, _, dtype = head(file)
            if dtype == np.dtype(object):
                return pickled.unpickle(file.read())
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MerstoreError(f"{path}: no readable text ({error}): save it as text anew") from None
    if array.size != 1:
        raise MerstoreError(f"{path}: {array.shape} {array.dtype} is not one text")
    return array.item()

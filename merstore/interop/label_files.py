"""Labels and transcripts of a store as the files that the field's code bases read.

An array of a label npz is a dict ``{name: {"emo": ..., "val": ...}}`` in an object array, which NumPy
saves as a pickle. Those are written here, never loaded: `merstore.corpora` reads them without.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from merstore.corpora.labels import Label, Labels, Value
from merstore.corpora.stored import LABEL, TEXT, read_labels, read_transcripts
from merstore.corpora.table import Field, LabelTable, Split, Table
from merstore.corpora.transcripts import Transcripts
from merstore.store.store import Store

__all__ = ["label_files"]

# What MERTools' files say beside what is known (facts of its preprocessing): a class or a valence
# that stands for none, in every entry; and classes as their position.
_CONSTANT: dict[str, dict[str, Any]] = {
    **{dataset: {"emo": 0} for dataset in ("cmumosi", "cmumosei", "sims", "simsv2")},
    **{dataset: {"val": -10} for dataset in ("meld", "iemocap")},
}
_BY_POSITION = {"meld", "iemocap"}
_UNLABELLED = "neutral"  # what it writes for every sample of a split without labels

_COLUMN_ORDER = ("name", "chinese", "english", "sentence")


def label_files(store: Store, table: Table) -> Iterator[tuple[str, bytes]]:
    """The label and transcript files of a corpus: their names, as its table has them, and contents.

    Each label is written where it was read from, or, if its set of labels came from elsewhere, to
    the first file that the table names. A transcript's row is left out where the file had none;
    where it had no text, the cell is empty. Rows are in the order of the labels.
    """
    order: list[str] = []
    for name, labels_table in table.labels.items():
        if f"{table.key}/{LABEL}/{name}" in store:
            labels = read_labels(store, table.key, name)
            order += labels.samples
            yield from _label_files(table.key, labels_table, labels)
    by_file: dict[str, dict[str, Transcripts]] = {}
    for name, texts_table in table.transcripts.items():
        if f"{table.key}/{TEXT}/{name}" in store:
            found = read_transcripts(store, table.key, name)
            source = _source(texts_table.sources, found.sources)
            file, _, column = source.partition("#")
            by_file.setdefault(file, {})[column] = found
    for file, columns in by_file.items():
        yield file, _transcripts(columns, order)


def _source(sources: tuple[str, ...], read: Mapping[str, str]) -> str:
    """The one that was read, else the first."""
    return next((source for source in sources if source.partition("#")[0] in read), sources[0])


def _label_files(dataset: str, table: LabelTable, labels: Labels) -> Iterator[tuple[str, bytes]]:
    arrays: dict[str, dict[str, dict[str, Any]]] = {}
    sheets: dict[str, list[dict[str, Any]]] = {}
    by_split: dict[str, list[tuple[str, Label]]] = {}
    for sample, label in labels.samples.items():
        by_split.setdefault(label.split, []).append((sample, label))
    for split in table.splits.values():
        rows = by_split.get(split.name)
        if not rows:
            continue
        file, _, array = _source(split.sources, labels.sources).partition("#")
        if array:
            written = arrays.setdefault(file, {}).setdefault(array, {})
            for sample, label in rows:
                written[sample] = _entry(dataset, labels.fields, split, label)
        else:
            sheet = sheets.setdefault(file, [])
            for sample, label in rows:
                # of several names that a field goes by the last is that of the released sheets
                cells = {
                    field.columns[-1]: _cell(label.values[field.name])
                    for field in labels.fields.values()
                }
                sheet.append({"name": sample, **cells})
    for file, content in arrays.items():
        yield file, _npz(content)
    for file, sheet in sheets.items():
        yield file, _csv(list(sheet[0]), sheet)


def _entry(dataset: str, fields: Mapping[str, Field], split: Split, label: Label) -> dict[str, Any]:
    entry: dict[str, Any] = dict(_CONSTANT.get(dataset, {}))
    for field in fields.values():
        value: Any = label.values[field.name]
        if value is None:
            value = _absent(field, split)
        if value is None:
            continue
        if field.type == "class" and dataset in _BY_POSITION:
            value = field.classes.index(value)
        entry[field.columns[0]] = list(value) if isinstance(value, tuple) else value
    return dict(sorted(entry.items()))  # emo before val


def _absent(field: Field, split: Split) -> Any:
    """What stands for no value, where anything does."""
    if field.type == "number" and field.absent is not None:
        return int(field.absent) if float(field.absent).is_integer() else field.absent
    if field.type == "class" and field.placeholder is not None:
        return field.placeholder
    known = _UNLABELLED in field.classes
    return _UNLABELLED if field.type == "class" and split.unlabelled and known else None


def _cell(value: Value) -> Any:
    if isinstance(value, tuple):
        return str(list(value))
    return "" if value is None else value


def _npz(arrays: Mapping[str, Any]) -> bytes:
    boxes = {}
    for name, content in arrays.items():
        boxes[name] = np.empty((), object)
        boxes[name][()] = content
    file = io.BytesIO()
    np.savez_compressed(file, **boxes)  # type: ignore[arg-type]
    return file.getvalue()


def _transcripts(columns: Mapping[str, Transcripts], order: list[str]) -> bytes:
    rowless = [
        {problem.sample for problem in found.problems if problem.kind == "missing_text"}
        for found in columns.values()
    ]
    samples = dict.fromkeys(order)
    for found in columns.values():
        samples |= dict.fromkeys(found.texts)
        samples |= dict.fromkeys(problem.sample for problem in found.problems)
    rows = [
        {
            "name": sample,
            **{column: found.texts.get(sample, "") for column, found in columns.items()},
        }
        for sample in samples
        if not all(sample in lacking for lacking in rowless)
    ]
    known = [column for column in _COLUMN_ORDER if column == "name" or column in columns]
    return _csv([*known, *(column for column in columns if column not in known)], rows)


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    lines = []
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        line = io.StringIO(newline="")
        # this line end makes csv put quotes around either of its characters in a text
        csv.DictWriter(line, columns, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines).encode()

"""Labels: what the label files of a corpus say of each sample, and in which split it is."""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from merstore.corpora import pickled, sheet
from merstore.corpora.problem import Problem
from merstore.corpora.table import Field, LabelTable, Split
from merstore.errors import InvalidKey, MerstoreError
from merstore.store.keys import sample_key

Value = str | float | tuple[str, ...] | None
"""A class's name, a number, a list of words, a text; None where nobody said."""


class Label(NamedTuple):
    """A sample's split and its values by field."""

    split: str
    values: dict[str, Value]


@dataclass
class Labels:
    """One set of labels: ``samples`` by name, split after split, each in its file's order.

    ``sources``: the files that were read (relative), and the SHA-256 of each.
    """

    name: str
    fields: Mapping[str, Field]
    samples: dict[str, Label]
    problems: list[Problem]
    sources: dict[str, str]

    def splits(self) -> dict[str, list[str]]:
        """The samples of each split."""
        splits: dict[str, list[str]] = {}
        for sample, label in self.samples.items():
            splits.setdefault(label.split, []).append(sample)
        return splits

    def column(self, field: str) -> dict[str, float]:
        """The numbers of a field, classes by their position, for the samples that have one: what
        `merstore.load.FeatureDataset` takes as a column.
        """
        known = self.fields.get(field)
        if known is None or known.type not in ("class", "number"):
            raise InvalidKey(
                f"labels {self.name} have no numbers {field!r}: {', '.join(self.fields)}"
            )
        values = {name: label.values[field] for name, label in self.samples.items()}
        if known.type == "class":
            return {
                name: known.classes.index(str(value)) for name, value in values.items() if value
            }
        return {name: value for name, value in values.items() if isinstance(value, float)}


def read_labels(root: Path, table: LabelTable) -> Labels:
    """Read the label files below `root` as `table` declares them.

    What one sample's label lacks is in ``problems``, its value None. A sample that stands in a file
    twice with different labels has none. Raises MerstoreError where a file cannot be read, or none
    is there.
    """
    labels = Labels(table.name, table.fields, {}, [], {})
    files = _Files(root)
    for split in table.splits.values():
        source = files.first(split.sources)
        if source is None:
            if not split.optional:
                message = f"no {' nor '.join(split.sources)}"
                labels.problems.append(
                    Problem("missing_split", "", f"split {split.name}: {message}")
                )
            continue
        _read_split(files, source, split, labels)
    if not files.digests:
        wanted = dict.fromkeys(source.partition("#")[0] for source in table.sources)
        raise MerstoreError(f"{root}: no label file {', '.join(wanted)}: give the corpus's folder")
    labels.sources = files.digests
    labels.problems += files.problems
    return labels


def word_list(text: str) -> tuple[str, ...]:
    """The words of a list written as text, such as ``['happy', 'calm']``: one leading ``[`` and one
    trailing ``]`` off, split at quotes and commas, blanks stripped (the rule of OV-MER's scripts).
    """
    inner = text.removeprefix("[").removesuffix("]")
    for mark in "'\"":
        inner = inner.replace(mark, ",")
    return tuple(word for piece in inner.split(",") if (word := piece.strip()))


class _Files:
    """The label files of one corpus, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._read: dict[str, tuple[list[tuple[str, Any]], tuple[str, ...] | None]] = {}

    def first(self, sources: Iterable[str]) -> str | None:
        """The first of the sources that is there: the file, and the array in it."""
        for source in sources:
            file, _, array = source.partition("#")
            path = self.root / file
            if path.is_file() and (not array or array in pickled.read_arrays(path)):
                return source
        return None

    def read(self, source: str) -> tuple[list[tuple[str, Any]], tuple[str, ...] | None]:
        """Names with what is said of them; and the columns, of a csv file."""
        if source not in self._read:
            file, _, array = source.partition("#")
            path = self.root / file
            if array:
                found = pickled.read_arrays(path)[array]
                if not isinstance(found, dict):
                    raise MerstoreError(f"{path}: array {array} is no dictionary of labels")
                self._read[source] = list(found.items()), None
            else:
                read = sheet.read_sheet(path)
                self._read[source] = list(read.rows), read.columns
                self.problems += read.problems
            if file not in self.digests:
                self.digests[file] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._read[source]


def _read_split(files: _Files, source: str, split: Split, labels: Labels) -> None:
    rows, columns = files.read(source)
    fields = {} if split.unlabelled else labels.fields
    for field in fields.values():
        needed = columns is not None and field.absent is None
        if needed and not set(field.columns) & set(columns or ()):
            raise MerstoreError(
                f"{files.root / source}: no column {' or '.join(field.columns)}; it has: "
                f"{', '.join(columns or ())}"
            )
    matches = _matcher(split.where)
    fresh: dict[str, Label] = {}
    for sample, said in rows:
        if not matches(sample):
            continue
        try:
            sample_key(sample)
        except InvalidKey as error:
            labels.problems.append(Problem("bad_name", "", f"{source}: {error}"))
            continue
        values: dict[str, Value] = dict.fromkeys(labels.fields)
        for field in fields.values():
            values[field.name] = _value(field, said, sample, source, labels.problems)
        label = Label(split.name, values)
        earlier = labels.samples.get(sample) or fresh.get(sample)
        if earlier is None:
            fresh[sample] = label
        elif sample in labels.samples:
            message = f"{source}: is in split {earlier.split} already, and stays there"
            labels.problems.append(Problem("repeated_sample", sample, message))
        else:
            differs = earlier != label
            if differs:
                fresh[sample] = Label(split.name, dict.fromkeys(labels.fields))
            message = f"{source}: twice, " + ("with different labels" if differs else "the same")
            labels.problems.append(Problem("repeated_sample", sample, message))
    _drop_placeholders(fresh, fields, split, labels)
    labels.samples |= fresh


def _matcher(where: str | None) -> Callable[[str], object]:
    return re.compile(where).match if where else lambda sample: True


def _drop_placeholders(
    fresh: dict[str, Label], fields: Mapping[str, Field], split: Split, labels: Labels
) -> None:
    """Labels of which every one is the placeholder are none."""
    for field in fields.values():
        values = {label.values[field.name] for label in fresh.values()}
        if field.placeholder is not None and values == {field.placeholder}:
            for label in fresh.values():
                label.values[field.name] = None
            message = f"split {split.name}: every {field.name} is {field.placeholder!r}, which stands for no label"
            labels.problems.append(Problem("placeholder", "", message))


def _value(field: Field, said: Any, sample: str, source: str, problems: list[Problem]) -> Value:
    found = None
    if isinstance(said, dict):
        found = next((said[column] for column in field.columns if column in said), None)
    if found is None or found == "":
        if field.type == "list" and found == "":
            return ()
        if field.absent is None:
            problems.append(Problem("missing_label", sample, f"{source}: no {field.name}"))
        return None
    if isinstance(found, str) and sheet.is_undecoded(found):
        problems.append(Problem("undecodable", sample, f"{source}: {field.name} is no text"))
        return None
    try:
        return _PARSERS[field.type](field, found)
    except (ValueError, OverflowError):
        kind = "bad_number" if field.type == "number" else "unknown_label"
        # of other things not even the text is made: it may be endless
        short = isinstance(found, (str, int, float))
        told = repr(found)[:42] if short else f"some {type(found).__name__}"
        message = f"{source}: {field.name} is {told}"
        problems.append(Problem(kind, sample, message))
        return None


def _class(field: Field, found: Any) -> str:
    if isinstance(found, str) and found in field.classes:
        return found
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if type(found) is int and 0 <= found < len(field.classes):
        return field.classes[found]
    raise ValueError


def _number(field: Field, found: Any) -> float | None:
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        raise ValueError
    number = float(found)
    if not math.isfinite(number):
        raise ValueError
    return None if number == field.absent else number


def _words(field: Field, found: Any) -> tuple[str, ...]:
    if isinstance(found, str):
        return word_list(found)
    if isinstance(found, (list, tuple)) and all(isinstance(word, str) for word in found):
        if any(map(sheet.is_undecoded, found)):
            raise ValueError
        return tuple(found)
    raise ValueError


def _text(field: Field, found: Any) -> str:
    if not isinstance(found, str):
        raise ValueError
    return found


_PARSERS = {"class": _class, "number": _number, "list": _words, "text": _text}

"""Truth and predictions from the files that the field's scripts write."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merstore.corpora import pickled
from merstore.corpora.sheet import NAME_COLUMNS, is_undecoded, read_sheet
from merstore.errors import MerstoreError
from merstore.score.answers import parsed, shown
from merstore.score.labels import parse_labels

OPENSET, SENTIMENT = "-openset.npz", "-openset-sentiment.npz"
SHEETS = (".csv", ".tsv", ".jsonl")
KINDS = "npz (filenames and fileitems, or name2reason), csv, tsv or jsonl"


@dataclass(frozen=True)
class Answers:
    """Answers by name as they stand in the file. ``described``: they are descriptions (name2reason
    or a column ``reason``), from which labels are yet to be extracted.
    """

    path: Path
    by_name: Mapping[str, Any]
    described: bool

    def labels(self, parse: Callable[[Any], list[str]] = parse_labels) -> dict[str, list[str]]:
        """The labels of each answer. Raises MerstoreError, which names file and sample."""
        try:
            return dict(parsed(self.by_name.items(), parse))
        except MerstoreError as error:
            raise MerstoreError(f"{self.path}: {error}") from None

    def texts(self) -> dict[str, str]:
        """The answers, which must be texts, as they are; of none, such as NaN, the empty text."""
        found = {}
        for name, answer in self.by_name.items():
            if isinstance(answer, bytes):
                answer = answer.decode(errors="backslashreplace")
            found[name] = str(answer) if isinstance(answer, str) else _or_empty(answer)
        return found


def read_answers(path: Path, column: str = "openset") -> Answers:
    """Read a file of names with an answer each: an npz with ``filenames`` and ``fileitems``, or
    ``name2reason``; a csv, tsv or jsonl with ``name`` and `column`, or ``reason``, or only one other
    column.

    Pickled arrays are read without pickle. Raises MerstoreError, which names the file, where it
    cannot be read, a row is broken, or a name is there twice.
    """
    kind = path.suffix.lower()
    if kind == ".npz":
        pairs, described = _read_npz(path)
    elif kind in SHEETS:
        columns, rows = _read_jsonl(path) if kind == ".jsonl" else _read_csv(path)
        chosen = _choose(path, columns, column)
        pairs = [(name, row.get(chosen)) for name, row in rows]
        described = chosen == "reason"
    else:
        raise MerstoreError(f"{path}: give {KINDS}")
    return Answers(path, _by_name(path, pairs), described)


def read_rows(source: str) -> dict[str, Mapping[str, Any]]:
    """The rows of a file by name: a csv, tsv or jsonl with ``name``, or ``FILE.npz#ARRAY`` where
    the array holds a dictionary of dictionaries, as label files do.

    Raises MerstoreError as `read_answers`.
    """
    file, hashed, array = source.rpartition("#") if ".npz#" in source else (source, "", "")
    path = Path(file)
    kind = path.suffix.lower()
    if hashed:
        arrays = pickled.read_arrays(path)
        if array not in arrays:
            raise MerstoreError(f"{path}: no array {array!r}; it has: {', '.join(arrays.names)}")
        found = arrays[array]
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise MerstoreError(f"{path}: array {array} is no dictionary of labels by name")
        return found
    if kind == ".npz":
        raise MerstoreError(
            f"{path}: say which of its arrays: {path}#ARRAY, one of "
            f"{', '.join(pickled.read_arrays(path).names)}"
        )
    if kind not in SHEETS:
        raise MerstoreError(f"{path}: give csv, tsv, jsonl or FILE.npz#ARRAY")
    _, rows = _read_jsonl(path) if kind == ".jsonl" else _read_csv(path)
    return _by_name(path, rows)


def prediction_files(given: str, endings: Sequence[str] = (OPENSET,)) -> dict[str, Path]:
    """The file itself; of a folder the files below it with these endings, and those of SHEETS that
    do not hold descriptions, sorted. By their paths, beginning as given.

    Raises MerstoreError where a folder has none.
    """
    path = Path(given)
    if not path.is_dir():
        return {given: path}
    found = {
        os.path.join(given, file.relative_to(path)): file
        for file in sorted(path.rglob("*"))
        if file.name.endswith(tuple(endings))
        or (file.suffix.lower() in SHEETS and not _describes(file))
    }
    if not found:
        raise MerstoreError(
            f"{path}: no file *{endings[0]} nor {', '.join(SHEETS)} below it: labels are extracted "
            "from descriptions first"
        )
    return found


def _describes(sheet: Path) -> bool:
    try:
        return read_answers(sheet).described
    except MerstoreError:
        return False  # another kind of sheet, or one that is to be complained of when it is scored


def _read_npz(path: Path) -> tuple[list[tuple[Any, Any]], bool]:
    arrays = pickled.read_arrays(path)
    if "name2reason" in arrays:
        found = arrays["name2reason"]
        if not isinstance(found, dict):
            raise MerstoreError(f"{path}: name2reason is no dictionary of texts by name")
        return list(found.items()), True
    if "filenames" not in arrays or "fileitems" not in arrays:
        raise MerstoreError(
            f"{path}: it has {', '.join(arrays.names) or 'no arrays'}, not filenames and fileitems, "
            "nor name2reason"
        )
    names, items = arrays.items("filenames"), arrays.items("fileitems")
    if len(names) != len(items):
        raise MerstoreError(f"{path}: {len(names):,} filenames but {len(items):,} fileitems")
    return list(zip(names, items, strict=True)), False


_Rows = tuple[tuple[str, ...], list[tuple[Any, Mapping[str, Any]]]]  # columns, and rows by name


def _read_csv(path: Path) -> _Rows:
    sheet = read_sheet(path)
    if sheet.problems:
        told = "; ".join(p.message.removeprefix(f"{path.name}, ") for p in sheet.problems[:3])
        raise MerstoreError(f"{path}: {told}: correct the file")
    for name, row in sheet.rows:
        if any(map(is_undecoded, row.values())):
            raise MerstoreError(f"{path}: sample {name}: bytes that are no text: save it as UTF-8")
    return sheet.columns, list(sheet.rows)


def _read_jsonl(path: Path) -> _Rows:
    columns: dict[str, None] = {}
    rows: list[tuple[Any, Mapping[str, Any]]] = []
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise MerstoreError(f"{path}, line {number}: no JSON ({error})") from None
        if not isinstance(row, dict) or "name" not in row:
            raise MerstoreError(f'{path}, line {number}: an object with a "name" is wanted')
        columns |= dict.fromkeys(row)
        rows.append((row["name"], row))
    return tuple(columns), rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MerstoreError(f"{path}: no UTF-8 ({error.reason}): save it as UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _choose(path: Path, columns: Sequence[str], column: str) -> str:
    others = [name for name in columns if name not in NAME_COLUMNS]
    for wanted in [column, "reason", *(others if len(others) == 1 else [])]:
        if wanted in others:
            return wanted
    if not columns:
        return column  # a jsonl file without a line
    raise MerstoreError(f"{path}: no column {column!r}; it has: {', '.join(columns)}")


def _by_name(path: Path, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = key.decode(errors="backslashreplace") if isinstance(key, bytes) else key
        if not isinstance(name, str) or not name:
            raise MerstoreError(f"{path}: {key!r} is no sample's name: names are texts")
        found[name] = value
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = sorted(str(name) for name, count in counts.items() if count > 1)
        what = f"{len(twice):,} names are" if len(twice) > 1 else "a name is"
        raise MerstoreError(f"{path}: {what} there twice: {shown(twice)}: keep one")
    return found


def _or_empty(answer: Any) -> str:
    labels = parse_labels(answer)
    return labels[0] if len(labels) == 1 else ", ".join(labels)

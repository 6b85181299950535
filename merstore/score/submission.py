"""Files to hand in, checked before they are written."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from merstore.atomic import replacing
from merstore.errors import MerstoreError, MissingEntry
from merstore.score.answers import shown
from merstore.score.files import OPENSET
from merstore.score.labels import join_labels, parse_labels

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
"""The classes of MER2023 to MER2025, in the order of their index."""


def write_openset(path: Path, answers: Mapping[str, Any], candidates: Sequence[str]) -> None:
    """Write MER2025's submission: ``filenames`` and ``fileitems``, unicode arrays in the order of
    `candidates`. Each answer is written as ``[happy, calm]``, of the labels that the scorer's rule
    reads in it: they score as the answer itself does.

    Raises MissingEntry where a candidate has no answer, MerstoreError for a file that is not called
    ``*-openset.npz`` or is there already, a candidate that is listed twice, an answer of another
    name, or one that is no text.
    """
    if not path.name.endswith(OPENSET):
        raise MerstoreError(f"{path}: only files named *{OPENSET} are accepted")
    _check_names(answers, candidates)
    items = []
    for name in candidates:
        try:
            items.append(join_labels(parse_labels(answers[name])))
        except MerstoreError as error:
            raise MerstoreError(f"sample {name}: {error}") from None
    filenames, fileitems = np.array(list(candidates), str), np.array(items, str)

    def write(file: IO[bytes]) -> None:
        np.savez_compressed(file, filenames=filenames, fileitems=fileitems)

    def check(file: IO[bytes]) -> None:
        with np.load(file, allow_pickle=False) as read:
            if (
                read["filenames"].tolist() != list(candidates)
                or read["fileitems"].tolist() != items
            ):
                raise MerstoreError(
                    f"{path}: an answer or a name ends in a zero character, which arrays drop"
                )

    _put(path, write, check)


def write_classes(
    path: Path,
    classes: Mapping[str, str],
    candidates: Sequence[str],
    values: Mapping[str, Any] | None = None,
) -> None:
    """Write a csv submission: ``name,discrete`` (MER2025, MER2026) or, with `values`,
    ``name,discrete,valence`` (MER2023), rows in the order of `candidates`.

    Raises as `write_openset`, and MerstoreError for a class that is none of CLASSES or a value that
    is no finite number.
    """
    _check_names(classes, candidates)
    wrong = [name for name in candidates if classes[name] not in CLASSES]
    if wrong:
        strange = sorted({str(classes[name]) or "''" for name in wrong})
        raise MerstoreError(
            f"no class {shown(strange)}: there are {', '.join(CLASSES)}; correct {shown(wrong)}"
        )
    rows: list[list[Any]] = [[name, classes[name]] for name in candidates]
    if values is not None:
        _check_names(values, candidates)
        numbers = {name: _number(values[name]) for name in candidates}
        wrong = [name for name, number in numbers.items() if not np.isfinite(number)]
        if wrong:
            raise MerstoreError(f"the valence of {shown(wrong)} is no finite number")
        rows = [[*row, repr(numbers[row[0]])] for row in rows]
    header = ["name", "discrete"] if values is None else ["name", "discrete", "valence"]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    data = text.getvalue().encode("utf-8")
    _put(path, lambda file: file.write(data), lambda file: None)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _check_names(answers: Mapping[str, Any], candidates: Sequence[str]) -> None:
    if not candidates:
        raise MerstoreError(
            "there is no candidate: give the list of names that the challenge wants"
        )
    listed = set(candidates)
    if len(listed) < len(candidates):
        twice = sorted(name for name, count in Counter(candidates).items() if count > 1)
        raise MerstoreError(f"{len(twice):,} candidates are listed twice: {shown(twice)}")
    absent = [name for name in candidates if name not in answers]
    if absent:
        raise MissingEntry(
            f"{len(absent):,} of {len(candidates):,} candidates have no answer: {shown(absent)}"
        )
    extra = sorted(answers.keys() - listed)
    if extra:
        raise MerstoreError(f"{len(extra):,} answers are of no candidate: {shown(extra)}")


def _put(path: Path, write: Callable[[IO[bytes]], Any], check: Callable[[IO[bytes]], None]) -> None:
    """Write a file, look at it, and only then give it its name."""
    if path.exists():
        raise MerstoreError(f"{path}: is there already: remove it or choose another name")
    try:
        with replacing(path, durable=True) as file:
            write(file)
            file.seek(0)
            check(file)
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: choose another folder") from None

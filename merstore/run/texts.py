"""Texts by name: in views of a store, and in files as the field's scripts read them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merstore.atomic import replacing
from merstore.errors import CorruptEntry, MerstoreError

if TYPE_CHECKING:
    from merstore.store.view import View

FORMATS = ("npz", "csv", "jsonl")
"""The endings of files of answers."""

_READ = 16384  # texts read at once


def read_texts(view: "View", names: Iterable[str]) -> list[str | None]:
    """The entries of a view of texts (UTF-8, uint8 ``[T]``), None for what has none.

    Raises CorruptEntry.
    """
    names = list(names)
    found: list[str | None] = []
    try:
        for begin in range(0, len(names), _READ):
            batch: Any = view.gather(names[begin : begin + _READ], on_miss="mask")
            data, ends = batch.values.tobytes(), batch.offsets.tolist()
            found += [
                data[start:end].decode() if there else None
                for start, end, there in zip(ends, ends[1:], batch.mask.tolist(), strict=False)
            ]
    except UnicodeDecodeError:
        raise CorruptEntry(f"{view.path} holds bytes that are no text: write it again") from None
    return found


def table(kind: str, column: str, texts: Mapping[str, str]) -> bytes:
    """A ``.csv`` or ``.jsonl`` of ``name`` and `column`."""
    if kind == ".csv":
        told = io.StringIO()
        csv.writer(told, lineterminator="\n").writerows([("name", column), *texts.items()])
        return told.getvalue().encode()
    rows = ({"name": name, column: text} for name, text in texts.items())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def put(path: Path, content: bytes) -> None:
    """Write a file; one that is there is replaced at once or not at all. Raises MerstoreError."""
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: choose another folder") from None

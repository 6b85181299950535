"""Files of texts by name, as the field's scripts read them."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from merstore.atomic import replacing
from merstore.errors import MerstoreError

FORMATS = ("npz", "csv", "jsonl")
"""The endings of files of answers."""


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

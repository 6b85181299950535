"""Released outputs of baselines, made answers in the store, as if they had been run here."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.reading import Refusal
from merstore.run import answers
from merstore.run.answers import Stored
from merstore.run.labels.files import read_source
from merstore.run.zeroshot.baselines import find
from merstore.store.keys import sample_key
from merstore.store.legacy import dataset_key
from merstore.store.store import Store

_COLUMN = "reason"
_EMPTY = Refusal("empty_text", "the released answer is empty")
_NAN = Refusal("nan_text", "the released answer is NaN")


@dataclass(frozen=True)
class Imported:
    """``view``: the path of the answers. ``samples``: in the file; ``stored``: of them, put there
    now, and not there before. ``silent``: names without an answer, which have a failure record
    (``empty_text``, ``nan_text``) and count as empty where labels are extracted.
    """

    view: str
    samples: int
    stored: int
    silent: list[str]


def import_released(store: Store, dataset: str, baseline_name: str, file: str | Path) -> Imported:
    """The answers of a baseline from a file or folder in any format that `labels.read_source` reads
    (npz with ``name2reason``, or ``filenames`` and ``fileitems``; csv, tsv and jsonl with ``name``
    and ``reason``; a folder with a ``NAME.npy`` each), as a view of answers: which file it was is
    its spec. The same file again changes nothing.

    Nothing is unpickled. Raises InvalidKey for an unknown baseline and for names that a store cannot
    hold, MerstoreError, which names the file, where it cannot be read, has a name twice or an answer
    that is no text; then nothing is stored.
    """
    baseline, path = find(baseline_name), Path(file)
    texts = {name: _checked(path, name, text) for name, text in _read(path).items()}
    if not texts:
        raise MerstoreError(f"{path}: no answers in it")
    spec = {
        "kind": "answers",
        "mode": re.sub(r"[^A-Za-z0-9._+-]", "_", path.stem).lstrip("._+-")[:80] or "released",
        "baseline": baseline.name,
        "released": _digest(path),
    }
    view = answers.answers_view(store, dataset_key(dataset), baseline.name, spec)
    wanted = view.missing(list(texts))
    with store.writer() as writer:
        for name in wanted:
            text = texts[name]
            if isinstance(text, Refusal):
                writer.fail(view, name, *text)
            else:
                answers.put(writer, view, name, Stored(text, "", 0, True, "", None, 0.0, 0))
    silent = [name for name, text in texts.items() if isinstance(text, Refusal)]
    return Imported(view.path, len(texts), len(wanted), silent)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise MerstoreError(f"{path}: no such file or folder")
    return dict(read_source(str(path), _COLUMN).texts)


def _checked(path: Path, name: str, text: Any) -> str | Refusal:
    try:
        sample_key(name)
    except InvalidKey as error:
        raise InvalidKey(f"{path}: {error}") from None
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    if isinstance(text, float) and math.isnan(text):
        return _NAN
    if text is None or text == "":
        return _EMPTY
    if not isinstance(text, str):
        raise MerstoreError(f"{path}: sample {name}: {type(text).__name__} is no text: correct it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MerstoreError(f"{path}: sample {name}: no Unicode ({error.reason})") from None
    return text if text.strip() else _EMPTY


def _digest(path: Path) -> str:
    """Of a file, or of the texts in a folder with their names."""
    if path.is_dir():
        parts = [f"{file.name} {_digest(file)}" for file in sorted(path.glob("*.npy"))]
        return f"sha256:{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()}"
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

"""Answers in the store, and the files that AffectGPT's scripts read, which are exports of them.

A view ``DATASET/answer@<checkpoint>/<mode>-<run key>`` holds the answers of one checkpoint to one
question, of features, prompts and settings that its spec tells; the run key is of that. An entry is
JSON in UTF-8 (uint8 ``[T]``), a sample that cannot be answered has a failure record.
"""

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from merstore.errors import CorruptEntry, MerstoreError
from merstore.run.texts import FORMATS, read_texts, table
from merstore.run.texts import put as put_file
from merstore.store.legacy import dataset_key
from merstore.store.spec import fingerprint
from merstore.store.store import Store
from merstore.store.view import View
from merstore.store.writer import Writer

MODALITY = "answer"
_FOLDERS = {"iemocap": "iemocapfour"}  # of datasets that AffectGPT's runner calls otherwise
PROMPTS = 1  # the version of our prompts' wording; raise it when a word of it changes


@dataclass(frozen=True)
class Stored:
    """An answer as it is kept. ``prompt``: the prompt's digest. ``tokens``: how many were generated, 0
    where that is not known; ``ended``: by itself. ``cut``: what of the prompt's texts was left out.
    ``seed``: of a sampled one. ``seconds``: of the batch of ``batch`` samples that it was generated
    in.
    """

    text: str
    prompt: str
    tokens: int
    ended: bool
    cut: str
    seed: int | None
    seconds: float
    batch: int


def view_path(dataset: str, checkpoint: str, spec: Mapping[str, Any]) -> str:
    """Of the answers that `spec` tells of."""
    key = fingerprint(spec)[:12]
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", checkpoint).lstrip("._+-") or "checkpoint"
    return f"{dataset}/{MODALITY}@{name}/{spec['mode']}-{key}"


def answers_view(store: Store, dataset: str, checkpoint: str, spec: Mapping[str, Any]) -> View:
    """The view of the answers that `spec` tells of; created if it is not there."""
    path = view_path(dataset, checkpoint, spec)
    return store.create_view(path, dtype="uint8", shape=(None,), spec=dict(spec), exist_ok=True)


def digest(prompt: str) -> str:
    """Of a prompt, as it is kept beside its answer."""
    return str(xxhash.xxh3_64_hexdigest(prompt.encode()))


def seed_of(seed: int, dataset: str, name: str) -> int:
    """What the answer to a sample is drawn with: its own, whatever is asked beside it."""
    return int(xxhash.xxh3_64_intdigest(f"{seed}/{dataset}/{name}".encode()))


def put(writer: Writer, view: View, name: str, answer: Stored) -> None:
    data = json.dumps(asdict(answer), ensure_ascii=False).encode()
    writer.put(view, name, np.frombuffer(data, np.uint8))


def read(view: View, names: Iterable[str] | None = None) -> dict[str, Stored]:
    """The answers that are there, by name, of `names` in their order or of all.

    Raises CorruptEntry.
    """
    wanted = list(view if names is None else names)
    found = {}
    for name, text in zip(wanted, read_texts(view, wanted), strict=True):
        if text is not None:
            try:
                found[name] = Stored(**json.loads(text))
            except (ValueError, TypeError):
                raise CorruptEntry(
                    f"{view.path}/{name} is no answer: delete it, and run again"
                ) from None
    return found


def file_name(dataset: str, root: str, checkpoint: str, base: str = "output/results") -> Path:
    """Where AffectGPT's runner puts a dataset's answers, without the ending:
    ``<base>-<dataset>/<folder of the checkpoints>/<checkpoint>``. Its scripts tell the dataset by
    that folder, and IEMOCAP by its classes.
    """
    key = dataset_key(dataset)
    return Path(f"{base}-{_FOLDERS.get(key, key.lower())}") / root / checkpoint


def export(path: Path, answers: Mapping[str, str]) -> None:
    """Write answers by name, by the ending of `path`: ``.npz`` (``name2reason``, as AffectGPT's
    scripts read it), ``.csv`` or ``.jsonl`` (``name`` and ``reason``). A file that is there is
    replaced when the new one is whole.

    An npz with ``name2reason`` is a dictionary in an array of objects, which NumPy knows only as a
    pickle: reading it that way runs what is in it. `merstore score` reads it without. The
    other two hold no pickle.

    Raises MerstoreError for another ending, and where it cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".npz":
        data = io.BytesIO()
        np.savez_compressed(data, name2reason=np.array(dict(answers), object))
        content = data.getvalue()
    elif kind in (".csv", ".jsonl"):
        content = table(kind, "reason", answers)
    else:
        raise MerstoreError(f"{path}: answers are written as {', '.join(FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MerstoreError(f"{path.parent}: {error.strerror}: choose another folder") from None
    put_file(path, content)

"""Descriptions to open-set labels, and labels to a sentiment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.reading import Refusal
from merstore.run.labels.backend import Backend
from merstore.run.labels.cache import Progress, ask
from merstore.run.labels.prompts import OPENSET, SENTIMENT
from merstore.score.labels import join_labels
from merstore.store.store import Store

ON_EMPTY = {OPENSET: "[]", SENTIMENT: "neutral"}
"""What stands for an empty text, about which nothing is asked."""


@dataclass
class Extraction:
    """``answers``: the cleaned answer of each name, in the order of the texts; ``failed``: why the
    others have none. ``empty``: the names whose text was empty. ``asked``: how many messages were
    put to the backend, the rest was in the cache (``view``) or the same as another.
    """

    task: str
    answers: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Refusal] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    asked: int = 0
    view: str | None = None


def extract(
    texts: Mapping[str, Any],
    backend: Backend,
    task: str = OPENSET,
    store: Store | None = None,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """The answer to each text: ``openset``, labels from a description (``[happy, calm]`` as a rule:
    it is kept as it was said, and parsed where it is scored); ``sentiment``, one of positive,
    negative, neutral (the same) from labels.

    texts: by name, as `as_text` takes them. store: keeps what was answered, see `ask`; without one,
    nothing is kept. retry_failed: ask again what failed before.

    Raises InvalidKey for another task, MerstoreError for what is no text, and as the backend does.
    """
    if task not in ON_EMPTY:
        raise InvalidKey(f"no task {task!r}: there are {', '.join(ON_EMPTY)} (and merge)")
    plain = {name: as_text(name, text) for name, text in texts.items()}
    messages = {name: backend.message(task, text=text) for name, text in plain.items() if text}
    given = {name: ON_EMPTY[task] for name, text in plain.items() if not text}
    found = collect(list(plain), messages, given, backend, task, store, retry_failed, progress)
    found.empty = list(given)
    return found


def collect(
    names: list[str],
    messages: Mapping[str, str],
    given: Mapping[str, str],
    backend: Backend,
    task: str,
    store: Store | None,
    retry_failed: bool,
    progress: Progress | None,
) -> Extraction:
    """Answers by name: those `given`, and those to the messages."""
    asked = ask(list(messages.values()), backend, task, store, retry_failed, progress)
    told: dict[str, str | Refusal] = {**given, **dict(zip(messages, asked.found, strict=True))}
    found = Extraction(task, asked=asked.asked, view=asked.view)
    for name in names:
        answer = told[name]
        if isinstance(answer, Refusal):
            found.failed[name] = answer
        else:
            found.answers[name] = answer
    return found


def as_text(name: str, value: Any) -> str:
    """A text without blanks around it: bytes are UTF-8, None and NaN (a table's empty cell) are the
    empty text, a list of texts is written as labels are. Raises MerstoreError, which names the
    sample, for anything else.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, list | tuple):
        return join_labels([as_text(name, each) for each in value])
    try:
        if isinstance(value, bytes):
            return value.decode().strip()
        if isinstance(value, str):
            value.encode()
            return str(value).strip()
    except UnicodeError as error:
        raise MerstoreError(
            f"sample {name}: its text is no UTF-8 ({error}): write it anew"
        ) from None
    raise MerstoreError(f"sample {name}: {str(value)[:40]!r} is no text: give texts by name")

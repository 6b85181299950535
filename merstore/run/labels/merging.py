"""Clues from a video and the subtitle, merged into one description (OV-MER's "addsub")."""

from collections.abc import Mapping
from typing import Any

from merstore.errors import MissingEntry
from merstore.run.labels.backend import Backend
from merstore.run.labels.cache import Progress
from merstore.run.labels.extraction import Extraction, as_text, collect
from merstore.run.labels.prompts import MERGE, NOTHING_TO_GO_BY
from merstore.score.answers import shown
from merstore.store.store import Store


def merge(
    clues: Mapping[str, Any],
    subtitles: Mapping[str, Any],
    backend: Backend,
    store: Store | None = None,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """One description of each name of `clues` by what was seen and what is said (notes on the
    metrics, 5.2). Without a subtitle ("" or NaN) the clues stay as they are, and where there are
    none either, a fixed sentence says so; without clues the model is asked about the subtitle alone.

    ``empty`` of the result are the names without a subtitle. Raises MissingEntry for names that
    `subtitles` does not have at all, and otherwise as `extract`; a backend without a language model
    refuses.
    """
    absent = [name for name in clues if name not in subtitles]
    if absent:
        raise MissingEntry(
            f"{len(absent):,} of {len(clues):,} samples are not among the subtitles: {shown(absent)}; "
            "where nothing is said, the text is empty"
        )
    backend.spec(MERGE)  # refused here also where nothing has to be asked
    messages, given = {}, {}
    for name, clue in clues.items():
        text, subtitle = as_text(name, clue), as_text(name, subtitles[name])
        if not subtitle:
            given[name] = text or NOTHING_TO_GO_BY
        elif text:
            messages[name] = backend.message(MERGE, text=text, subtitle=subtitle)
        else:
            messages[name] = backend.message(MERGE, "subtitle only", subtitle=subtitle)
    names = list(clues)
    found = collect(names, messages, given, backend, MERGE, store, retry_failed, progress)
    found.empty = list(given)
    return found

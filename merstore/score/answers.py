"""Predictions set against the truth: whose answer is missing, empty, or of words nobody knows."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.labels import parse_labels

Labels = Sequence[str]
"""Labels; or an answer as it was given, from which they are read."""

Missing = Literal["error", "empty"]
Answer = TypeVar("Answer")

_SHOWN = 10


@dataclass(frozen=True)
class Coverage:
    """What became of ``n`` samples of the truth.

    ``missing``: samples without a prediction, scored as empty answers; ``empty``: samples whose
    answer has no label at all, those among them; ``unknown``: labels that the tables do not hold,
    with the number of samples that have them, most frequent first; ``unknown_only``: samples whose
    labels are all of that kind; ``extra``: how many predictions are of no sample of the truth.
    """

    n: int
    missing: tuple[str, ...]
    empty: tuple[str, ...]
    unknown: Mapping[str, int]
    unknown_only: tuple[str, ...]
    labels: int
    extra: int

    @property
    def unknown_share(self) -> float:
        """Of all predicted labels."""
        return sum(self.unknown.values()) / self.labels if self.labels else 0.0


def aligned(
    truth: Iterable[str],
    predictions: Mapping[str, Answer],
    missing: Missing,
    empty: Answer,
) -> tuple[list[tuple[str, Answer]], tuple[str, ...]]:
    """The prediction of each name, sorted by name, and the names that have none.

    missing: ``error`` raises MissingEntry, which lists them; ``empty`` gives them `empty`. Raises
    MerstoreError where there is no name at all.
    """
    names = sorted(truth)
    if not names:
        raise MerstoreError("the truth has no sample: give a file with names and labels")
    absent = tuple(name for name in names if name not in predictions)
    if absent and missing == "error":
        raise MissingEntry(
            f"{len(absent):,} of {len(names):,} samples have no prediction: {shown(absent)}; "
            "complete them, or count them as empty answers: --missing empty, with --json to list all"
        )
    return [(name, predictions.get(name, empty)) for name in names], absent


def parsed(
    answers: Iterable[tuple[str, Any]], parse: Callable[[Any], list[str]] = parse_labels
) -> list[tuple[str, list[str]]]:
    """Names with the labels of each answer. Raises MerstoreError, which names the sample."""
    found = []
    for name, answer in answers:
        try:
            found.append((name, parse(answer)))
        except MerstoreError as error:
            raise MerstoreError(f"sample {name}: {error}") from None
    return found


def coverage(
    found: Sequence[tuple[str, Labels]],
    absent: tuple[str, ...],
    predictions: Mapping[str, Any],
    known: Any,
) -> Coverage:
    """known: whether a label (in lower case, stripped) is in the tables."""
    unknown: Counter[str] = Counter()
    empty, unknown_only = [], []
    labels = 0
    strange: dict[str, bool] = {}
    for name, answer in found:
        words = {word.lower().strip() for word in answer} - {""}
        if not words:
            empty.append(name)
            continue
        labels += len(words)
        aside = []
        for word in words:
            if word not in strange:
                strange[word] = not known(word)
            if strange[word]:
                aside.append(word)
        unknown.update(aside)
        if len(aside) == len(words):
            unknown_only.append(name)
    order = sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))
    extra = len(predictions) - (len(found) - len(absent))
    return Coverage(
        len(found), absent, tuple(empty), dict(order), tuple(unknown_only), labels, extra
    )


def shown(names: Sequence[str]) -> str:
    """The first names, for a message."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

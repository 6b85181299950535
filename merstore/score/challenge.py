"""Classes and valences that were handed in, against the truth: MER2023 to MER2025's first tracks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from merstore.errors import MerstoreError
from merstore.score.answers import Missing, aligned
from merstore.score.classification import (
    accuracy,
    concordance,
    mean_squared_error,
    pearson,
    weighted_f1_of,
)

CLASS_FIELDS = ("discrete", "emo", "emotion", "label")
VALUE_FIELDS = ("valence", "val")
NO_VALENCE = -10.0  # MER2023's test3 has this where nobody said

_Row = Mapping[str, Any]
_Rows = Sequence[tuple[str, _Row, _Row]]  # name, true row, predicted row


@dataclass(frozen=True)
class ChallengeScore:
    """Scores by name: ``waf`` and ``acc`` of ``n`` classes, ``mse``, ``pcc`` and ``ccc`` of
    ``n_values`` valences, and MER2023's ``emoval`` = waf - mse / 4 where there are both.

    ``empty``: samples whose predicted class is; ``other``: predicted classes that no sample truly
    has. ``names``: the samples, sorted, of which at least one of the two is known; ``classes``: ``[N, 2]``
    int64, truth and prediction as places in ``labels``, -1 where the class is not known;
    ``valences``: ``[N, 2]`` float64, NaN where the valence is not.
    """

    n: int
    n_values: int
    scores: Mapping[str, float]
    empty: tuple[str, ...]
    other: Mapping[str, int]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    classes: np.ndarray
    valences: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def values(self) -> dict[str, float]:
        return dict(self.scores)

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples; NaN where none of them has a class, or a
        valence, that is known.
        """
        found = _scores(self.classes[rows], self.valences[rows], len(self.labels))
        return np.array([found.get(name, np.nan) for name in self.scores])


def challenge_score(
    truth: Mapping[str, _Row], predictions: Mapping[str, _Row], missing: Missing = "error"
) -> ChallengeScore:
    """Score rows by name. The class is in the first of CLASS_FIELDS that the rows have, the valence
    in the first of VALUE_FIELDS; what only one side has is not scored. A true class that is empty
    and a true valence that is NaN, empty or -10 is unknown: that sample is not scored on it.

    Raises MissingEntry where a prediction is missing, unless `missing` is ``empty`` (an empty class,
    which is wrong; no valence stands for a missing one), MerstoreError where there is nothing to
    score or a valence is no number.
    """
    found, _ = aligned(truth, predictions, missing, {})
    rows = [(name, truth[name], row) for name, row in found]
    pairs, valences = _classes(rows), _valences(rows)
    known, rated = [bool(true) for true, _ in pairs], ~np.isnan(valences[:, 0])
    some = rated | known
    if not some.any():
        raise MerstoreError(
            f"nothing to score: truth and predictions both need one of {', '.join(CLASS_FIELDS)} or "
            f"one of {', '.join(VALUE_FIELDS)}, and known labels"
        )
    # in the order of the texts, so that the sums over the classes are those over texts
    labels = sorted({label for pair in pairs if pair[0] for label in pair})
    places = {label: place for place, label in enumerate(labels)}
    classes = np.array(
        [[places[true], places[guess]] if true else [-1, -1] for true, guess in pairs]
    )
    true_ones = {true for true, _ in pairs}
    other = Counter(guess for _, guess in pairs if guess and guess not in true_ones)
    return ChallengeScore(
        sum(known),
        int(rated.sum()),
        _scores(classes, valences, len(labels)),
        tuple(row[0] for row, (true, guess) in zip(rows, pairs, strict=True) if true and not guess),
        dict(sorted(other.items(), key=lambda pair: (-pair[1], pair[0]))),
        tuple(row[0] for row, here in zip(rows, some, strict=True) if here),
        tuple(labels),
        classes[some],
        valences[some],
    )


def ranked_by(results: Iterable[ChallengeScore]) -> str:
    """What predictions are ranked by: ``waf``, or ``ccc`` where none has classes."""
    return "waf" if any("waf" in result.scores for result in results) else "ccc"


def _classes(rows: _Rows) -> list[tuple[str, str]]:
    """Truth and prediction of each sample, both empty where the class is not known."""
    true_field, field = _fields(rows, CLASS_FIELDS)
    pairs = []
    for name, true, row in rows:
        label = _class(name, true.get(true_field)) if field else ""
        pairs.append((label, _class(name, row.get(field)) if label else ""))
    return pairs


def _valences(rows: _Rows) -> np.ndarray:
    """Truth and prediction of each sample, float64 ``[N, 2]``; NaN where the valence is not known."""
    true_field, field = _fields(rows, VALUE_FIELDS)
    valences = np.full((len(rows), 2), np.nan)
    for place, (name, true, row) in enumerate(rows):
        value = _value(name, true.get(true_field)) if field else np.nan
        if value == NO_VALENCE or np.isnan(value):
            continue
        guess = _value(name, row.get(field))
        if not np.isfinite(guess):
            raise MerstoreError(f"sample {name}: the predicted valence is {guess}: give a number")
        valences[place] = value, guess
    return valences


def _scores(classes: np.ndarray, valences: np.ndarray, labels: int) -> dict[str, float]:
    """Of the samples where they are known. labels: how many classes there are."""
    classes, valences = classes[classes[:, 0] >= 0], valences[~np.isnan(valences[:, 0])]
    scores: dict[str, float] = {}
    if len(classes):
        true, guessed = classes.T
        scores |= {"waf": weighted_f1_of(true, guessed, labels), "acc": accuracy(true, guessed)}
    if len(valences):
        values, guesses = valences.T
        scores |= {
            "mse": mean_squared_error(values, guesses),
            "pcc": pearson(values, guesses),
            "ccc": concordance(values, guesses),
        }
    if len(classes) and len(valences):
        scores["emoval"] = scores["waf"] - 0.25 * scores["mse"]
    return scores


def _fields(rows: _Rows, names: Sequence[str]) -> tuple[str, str]:
    """What the truth calls it, and what the prediction does; empty unless both have it."""
    found = [
        next((name for name in names if any(name in row[side] for row in rows)), "")
        for side in (1, 2)
    ]
    return (found[0], found[1]) if all(found) else ("", "")


def _class(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str | int | float):
        raise MerstoreError(f"sample {name}: {str(value)[:40]!r} is no class")
    return str(value).strip()


def _value(name: str, value: Any) -> float:
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MerstoreError(f"sample {name}: {str(value)[:40]!r} is no number") from None

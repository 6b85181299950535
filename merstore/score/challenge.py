"""Classes and valences that were handed in, against the truth: MER2023 to MER2025's first tracks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from merstore.errors import MerstoreError
from merstore.score.answers import aligned
from merstore.score.classification import (
    accuracy,
    concordance,
    mean_squared_error,
    pearson,
    weighted_f1,
)

CLASS_FIELDS = ("discrete", "emo", "emotion", "label")
VALUE_FIELDS = ("valence", "val")
NO_VALENCE = -10.0  # MER2023's test3 has this where nobody said

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class ChallengeScore:
    """Scores by name: ``waf`` and ``acc`` of ``n`` classes, ``mse``, ``pcc`` and ``ccc`` of
    ``n_values`` valences, and MER2023's ``emoval`` = waf - mse / 4 where there are both.

    ``other``: predicted classes that no sample truly has. ``classes``: ``[n, 2]`` texts, truth and
    prediction; ``valences``: ``[n_values, 2]`` float64.
    """

    n: int
    n_values: int
    scores: Mapping[str, float]
    other: Mapping[str, int]
    classes: np.ndarray
    valences: np.ndarray

    def __len__(self) -> int:
        return max(self.n, self.n_values)

    def values(self) -> dict[str, float]:
        return dict(self.scores)

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples.

        Raises MerstoreError where not every sample has both a class and a valence, so that there
        are no common samples to draw.
        """
        both = [array for array in (self.classes, self.valences) if len(array)]
        if len({len(array) for array in both}) > 1:
            raise MerstoreError(
                f"{self.n:,} samples have a class and {self.n_values:,} a valence: intervals need "
                "both of each sample; leave one column out of the truth"
            )
        classes, valences = (
            array[rows] if len(array) else array for array in (self.classes, self.valences)
        )
        return np.array(list(_scores(classes, valences).values()))


def challenge_score(truth: Mapping[str, _Row], predictions: Mapping[str, _Row]) -> ChallengeScore:
    """Score rows by name. The class is in the first of CLASS_FIELDS that the rows have, the valence
    in the first of VALUE_FIELDS; what only one side has is not scored. A true class that is empty
    and a true valence that is NaN, empty or -10 is unknown: that sample is not scored on it.

    Raises MissingEntry where a prediction is missing, MerstoreError where there is nothing to score
    or a valence is no number.
    """
    found, _ = aligned(truth, predictions, "error", {})
    true_rows, rows = [truth[name] for name, _ in found], [row for _, row in found]
    names = [name for name, _ in found]
    classes, valences = [], []
    true_field, field = _field(true_rows, CLASS_FIELDS), _field(rows, CLASS_FIELDS)
    if true_field and field:
        for name, true, row in zip(names, true_rows, rows, strict=True):
            label = _class(name, true.get(true_field))
            if label:
                classes.append((label, _class(name, row.get(field))))
    true_field, field = _field(true_rows, VALUE_FIELDS), _field(rows, VALUE_FIELDS)
    if true_field and field:
        for name, true, row in zip(names, true_rows, rows, strict=True):
            value = _value(name, true.get(true_field))
            if value == NO_VALENCE or np.isnan(value):
                continue
            guess = _value(name, row.get(field))
            if not np.isfinite(guess):
                raise MerstoreError(
                    f"sample {name}: the predicted valence is {guess}: give a number"
                )
            valences.append((value, guess))
    if not classes and not valences:
        raise MerstoreError(
            f"nothing to score: truth and predictions both need one of {', '.join(CLASS_FIELDS)} or "
            f"one of {', '.join(VALUE_FIELDS)}, and known labels"
        )
    class_array, value_array = np.array(classes, str), np.array(valences, np.float64)
    known = {true for true, _ in classes}
    other = Counter(guess for _, guess in classes if guess not in known)
    return ChallengeScore(
        len(classes),
        len(valences),
        _scores(class_array, value_array),
        dict(sorted(other.items(), key=lambda pair: (-pair[1], pair[0]))),
        class_array,
        value_array,
    )


def _scores(classes: np.ndarray, valences: np.ndarray) -> dict[str, float]:
    scores: dict[str, float] = {}
    if len(classes):
        true, guessed = classes.T
        scores |= {"waf": weighted_f1(true, guessed), "acc": accuracy(true, guessed)}
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


def _field(rows: Sequence[_Row], names: Sequence[str]) -> str | None:
    return next((name for name in names if any(name in row for row in rows)), None)


def _class(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
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

"""Which samples a model learns from and which choose its best epoch (notes on MERTools 3.4)."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from merstore.errors import MerstoreError


class Fold(NamedTuple):
    """Row numbers int64: those of ``train`` in part "train", those of ``held`` in part ``part``."""

    name: str
    train: np.ndarray
    part: str
    held: np.ndarray


def random_folds(count: int, folds: int, seed: int) -> list[Fold]:
    """`folds` parts of shuffled rows, each held out once; floor(count / folds) rows each, the rest in
    the last. Shuffled by Python's ``random.Random(seed)``.

    Raises MerstoreError where there are too few samples.
    """
    if folds < 2 or count < folds:
        raise MerstoreError(
            f"{count} samples make no {folds} folds: take at least 2, and no more than samples"
        )
    rows = list(range(count))
    random.Random(seed).shuffle(rows)
    size = count // folds
    cuts = [number * size for number in range(folds)] + [count]
    shuffled = np.array(rows, np.int64)
    return [
        Fold(
            f"fold{number + 1}",
            np.concatenate([shuffled[: cuts[number]], shuffled[cuts[number + 1] :]]),
            "train",
            shuffled[cuts[number] : cuts[number + 1]],
        )
        for number in range(folds)
    ]


def session_folds(sessions: Sequence[str], part: str = "train") -> list[Fold]:
    """Each session held out once. sessions: that of every row.

    part: where the held rows are read, for features of another variant.
    """
    every = np.array(sessions)
    names = sorted(set(sessions))
    if len(names) < 2:
        raise MerstoreError(f"one session ({', '.join(names)}) cannot be left out of itself")
    return [
        Fold(name, np.flatnonzero(every != name), part, np.flatnonzero(every == name))
        for name in names
    ]


def fixed_split(train: int, held: int) -> list[Fold]:
    """The corpus's own split: all rows of part "train", all rows of part "val"."""
    return [Fold("val", np.arange(train), "val", np.arange(held))]


def check(folds: Sequence[Fold], emos: dict[str, np.ndarray], classes: int) -> None:
    """Raises MerstoreError where a fold has no sample to learn from or to hold out, or only one
    class of several.

    emos: int64 by part, -1 where not known.
    """
    for fold in folds:
        for side, rows, part in (
            ("trains on", fold.train, "train"),
            ("holds out", fold.held, fold.part),
        ):
            if not len(rows):
                raise MerstoreError(f"{fold.name} {side} no sample: take fewer folds")
            found = set(emos[part][rows].tolist()) - {-1}
            if classes and len(found) < 2:
                raise MerstoreError(
                    f"{fold.name} {side} {len(rows)} samples of one class only: "
                    "take fewer folds, another seed, or more samples"
                )

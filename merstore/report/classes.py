"""Predictions of classes and valences, compared on one page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from merstore.report import compared, counting
from merstore.report.compared import Compared, Covered, Grid, Line, Standing, Texts
from merstore.report.counting import Confusion
from merstore.score.board import Ranked, ranked
from merstore.score.challenge import ChallengeScore, ranked_by

CLASSES = Texts(
    "Classes compared",
    "weighted F1 of the classes",
    "",
    "WAF: F1 of each class, weighted by how many samples truly are of it. ACC: the share that is right. "
    "Of valences: MSE, the mean squared error; PCC, Pearson's correlation; CCC, the concordance. "
    "EMOVAL: WAF - MSE / 4.",
    "A sample is scored on what is known of it. No class, and a class that no sample truly has, are "
    "wrong.",
    "classes that no sample truly has",
    "How many samples are of a class: in the truth, and in each prediction",
    "Rows are true classes and columns predicted ones, (nothing) where none was predicted. Shades are "
    "shares of a row.",
    "The score is 1 for the right class and 0 for another; of equal ones those whose valence is "
    "furthest off are harder",
)
VALENCES = CLASSES._replace(
    title="Valences compared",
    value="concordance of the valences",
    none="where nothing varies there is no concordance",
    hardest="The score is minus the squared error of the valence",
)


def compare(
    truth: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Mapping[str, Mapping[str, Any]]],
    results: Mapping[str, ChallengeScore],
    seed: int | None = None,
) -> Compared:
    """truth, predictions: rows by sample, these by the prediction's name too. results: what they
    score. seed: of the bootstrap, which is done where it is given.
    """
    by = ranked_by(results.values())
    board = ranked(results, by, seed)
    values = [by, *(value for entry in board for value in entry.values)]
    standing = Standing(board, {value: value.upper() for value in values}, percent=False)
    classes = _classes(board)
    per_class = [_per_class(place, entry.result, classes) for place, entry in enumerate(board)]
    names = sorted({name for entry in board for name in entry.result.names})
    true = {
        name: labels for entry in reversed(board) for name, labels in _told(entry.result, 0).items()
    }
    right, off = (
        np.array([column(entry.result, names) for entry in board]) for column in (_right, _off)
    )
    return Compared(
        CLASSES if by == "waf" else VALENCES,
        standing,
        _grid(classes, per_class) if classes else None,
        compared.lines(standing, _n) + [line for each in per_class for line in each],
        [
            Covered(
                len(truth),
                _scored(entry.result),
                sorted(name for name in truth if name not in predictions[entry.name]),
                entry.result.empty,
                sum(name not in truth for name in predictions[entry.name]),
                entry.result.other,
            )
            for entry in board
        ],
        len(truth) - len(names),
        counting.frequencies(
            _chosen(board[0].result, 0) if classes else {},
            [_chosen(entry.result, 1) for entry in standing.shown],
            exact=True,
        ),
        [[_confusion(entry.result)] for entry in standing.shown if entry.result.n],
        counting.hardest(
            names,
            true,
            [_told(entry.result, 1) for entry in standing.shown],
            right if by == "waf" else -off,
            np.nan_to_num(off).mean(axis=0),
        ),
    )


def _scored(result: ChallengeScore) -> tuple[int, int]:
    counts = [n for n in (result.n, result.n_values) if n]
    return min(counts), max(counts)


def _classes(board: Sequence[Ranked[ChallengeScore]]) -> list[str]:
    """Those that samples truly have, sorted; of many the most frequent."""
    counts: Counter[str] = Counter()
    for entry in board:
        counts.update({label: 0 for (label,) in _chosen(entry.result, 0).values()})
    if board[0].result.n:
        counts.update(label for (label,) in _chosen(board[0].result, 0).values())
    often = sorted(counts, key=lambda label: (-counts[label], label))
    return sorted(often[: counting.GROUPS])


def _grid(classes: Sequence[str], lines: Sequence[Sequence[Line]]) -> Grid:
    many = len(classes) == counting.GROUPS
    what = f"F1 of the {len(classes)} most frequent classes" if many else "F1 of each class"
    return Grid(
        "Classes",
        what,
        f"{what}.",
        classes,
        np.array([[line.value for line in each] for each in lines]),
        [("Classes", range(len(classes)))],
    )


def _n(result: ChallengeScore, value: str) -> int:
    return result.n if value in ("waf", "acc") else result.n_values


def _per_class(place: int, result: ChallengeScore, classes: Sequence[str]) -> list[Line]:
    """Precision, recall and F1 of each class; one that is neither there nor predicted has none."""
    true, guessed = result.classes[result.classes[:, 0] >= 0].T
    lines = []
    for label in classes:
        at = result.labels.index(label) if label in result.labels else len(result.labels)
        n, said = int((true == at).sum()), int((guessed == at).sum())
        hits = int(((true == at) & (guessed == at)).sum())
        lines.append(
            Line(
                place,
                label,
                2 * hits / (n + said) if n + said else np.nan,
                n,
                hits / said if said else np.nan,
                hits / n if n else np.nan,
            )
        )
    return lines


def _chosen(result: ChallengeScore, side: int) -> dict[str, list[str]]:
    """The class of each sample, true (0) or predicted (1), where there is one."""
    return {
        name: [result.labels[place]]
        for name, place in zip(result.names, result.classes[:, side].tolist(), strict=True)
        if place >= 0 and result.labels[place]
    }


def _told(result: ChallengeScore, side: int) -> dict[str, list[str]]:
    """Class and valence of each sample."""
    found: dict[str, list[str]] = {name: [] for name in result.names} | _chosen(result, side)
    for name, value in zip(result.names, result.valences[:, side].tolist(), strict=True):
        if value == value:
            found[name].append(f"{value:g}")
    return found


def _right(result: ChallengeScore, names: Sequence[str]) -> np.ndarray:
    """1 or 0 for each of these samples; NaN where the class is not known."""
    true, guessed = result.classes.T
    return _spread(result, np.where(true >= 0, true == guessed, np.nan), names)


def _off(result: ChallengeScore, names: Sequence[str]) -> np.ndarray:
    """The squared error of the valence of each of these samples; NaN where it is not known."""
    return _spread(result, (result.valences[:, 0] - result.valences[:, 1]) ** 2, names)


def _spread(result: ChallengeScore, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    known = dict(zip(result.names, values.tolist(), strict=True))
    return np.array([known.get(name, np.nan) for name in names])


def _confusion(result: ChallengeScore) -> Confusion:
    pairs = result.classes[result.classes[:, 0] >= 0]
    groups = [label for label in result.labels if label]
    at = {place: groups.index(label) for place, label in enumerate(result.labels) if label}
    true, said = (
        counting.marks(([at[place]] if place in at else [] for place in side), len(groups))
        for side in pairs.T.tolist()
    )
    return counting.fewer(counting.confusion("Classes", true, said, groups))

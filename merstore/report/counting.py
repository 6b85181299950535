"""What pages of scores count: labels, what is said in the place of what, the hardest samples."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from typing import NamedTuple

import numpy as np

from merstore.score.answers import Labels

LABELS = 30  # most frequent ones
HARDEST = 25
GROUPS = 12  # of a confusion, more than any wheel has
NOTHING, ANOTHER = "(nothing)", "(another)"


class Frequency(NamedTuple):
    """In how many samples a label is: of the truth, and of each prediction. ``known``: None where
    there are no tables.
    """

    label: str
    known: bool | None
    true: int
    predicted: tuple[int, ...]


class Confusion(NamedTuple):
    """``counts [G, G]`` int64: by true and predicted group; the last is NOTHING."""

    title: str
    groups: tuple[str, ...]
    counts: np.ndarray


class Hard(NamedTuple):
    """A sample with its mean score over all predictions, and what each of those said."""

    name: str
    score: float
    truth: Labels
    answers: list[tuple[float, Labels]]


def marks(answers: Iterable[Iterable[int]], size: int) -> np.ndarray:
    """Bool ``[N, size]``: the places that each answer names."""
    found = [list(answer) for answer in answers]
    marked = np.zeros((len(found), size), np.bool_)
    rows = np.repeat(np.arange(len(found)), [len(answer) for answer in found])
    marked[rows, [place for answer in found for place in answer]] = True
    return marked


def confusion(title: str, true: np.ndarray, said: np.ndarray, groups: Sequence[str]) -> Confusion:
    """What is said in the place of what, by ``true [N, G]`` and ``said [N, G]``, bool. Of each sample
    whose truth has a group, groups that are both true and predicted count on the diagonal. What is
    left of the truth was missed, what is left of the prediction is wrong: each pair of those counts
    once, and where nothing is left on one side, NOTHING stands for it.
    """
    scored = true.any(axis=1)
    true, said = true[scored], said[scored]
    missed, wrong = true & ~said, said & ~true
    none_missed, none_wrong = ~missed.any(axis=1), ~wrong.any(axis=1)
    rows = np.column_stack([missed, none_missed]).astype(np.float64)
    columns = np.column_stack([wrong, none_wrong & ~none_missed]).astype(np.float64)
    counts = (rows.T @ columns).astype(np.int64)  # of whole numbers, so that nothing is rounded
    counts[np.diag_indices(len(groups))] += (true & said).sum(axis=0)
    return Confusion(title, (*groups, NOTHING), counts)


def fewer(found: Confusion, most: int = GROUPS) -> Confusion:
    """The same with the most frequent groups alone; ANOTHER stands for the others, which are counted
    in its cell whether they are confused or not.
    """
    groups, counts = found.groups[:-1], found.counts
    if len(groups) <= most:
        return found
    often = counts.sum(axis=0) + counts.sum(axis=1)
    kept = sorted(sorted(range(len(groups)), key=lambda place: (-often[place], place))[:most])
    into = np.full(len(groups) + 1, most)
    into[kept] = range(most)
    into[-1] = most + 1
    folded = np.zeros((most + 2, most + 2), np.int64)
    np.add.at(folded, (into[:, None], into[None, :]), counts)
    return Confusion(found.title, (*(groups[place] for place in kept), ANOTHER, NOTHING), folded)


def frequencies(
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    known: Callable[[str], bool] | None = None,
    exact: bool = False,
) -> list[Frequency]:
    """The most frequent labels of the truth and of each prediction, among the samples of the truth,
    by how often they are true. exact: ``Sad`` is another one than ``sad``.
    """
    true = _counted(truth.values(), exact)
    said = [_counted((each[name] for name in truth if name in each), exact) for each in predictions]
    few = max(LABELS // 3, 1)
    chosen = {label for label, _ in _first(true, LABELS)}
    chosen |= {label for counts in said for label, _ in _first(counts, few)}
    order = sorted(chosen, key=lambda label: (-true[label], -sum(c[label] for c in said), label))
    return [
        Frequency(
            label,
            known(label) if known else None,
            true[label],
            tuple(counts[label] for counts in said),
        )
        for label in order
    ]


def hardest(
    names: Sequence[str],
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    by_sample: np.ndarray,
    worse: np.ndarray | None = None,
) -> list[Hard]:
    """The samples with the lowest mean of ``by_sample [P, N]``, whose columns `names` name, of all
    predictions that it is not NaN of; of equal ones those that are highest in ``worse [N]``, then by
    place. Those that are not scored are left out. The answers are those of the first predictions.
    """
    means = mean_of_known(by_sample.T)
    order = np.lexsort((np.zeros(len(means)) if worse is None else -worse, means))
    return [
        Hard(
            names[row],
            float(means[row]),
            truth[names[row]],
            [
                (float(by_sample[number, row]), each.get(names[row], ()))
                for number, each in enumerate(predictions)
            ],
        )
        for row in order[:HARDEST]
        if not isnan(means[row])
    ]


def mean_of_known(rows: np.ndarray) -> np.ndarray:
    """The mean of what is not NaN in each row of ``[N, K]``; NaN where all is."""
    known = ~np.isnan(rows)
    n = known.sum(axis=1)
    means = np.full(len(n), np.nan)
    np.divide(np.where(known, rows, 0).sum(axis=1), n, out=means, where=n > 0)
    return means


def _counted(answers: Iterable[Labels], exact: bool) -> Counter[str]:
    return Counter(
        label
        for labels in answers
        for label in (set(labels) if exact else {label.lower().strip() for label in labels})
    )


def _first(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]

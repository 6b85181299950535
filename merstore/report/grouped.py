"""Predictions compared on one page by MER2024's score, whose words are grouped sample by sample."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from merstore.report import compared, counting, openset
from merstore.report.compared import Compared, Covered, Grid, Standing, Texts
from merstore.report.counting import Confusion
from merstore.score.answers import Labels
from merstore.score.board import ranked
from merstore.score.grouped import GroupedScore, Groups, first_words
from merstore.store.entry import Failure

MER2024 = Texts(
    "MER2024's open-vocabulary labels compared",
    "mean of accuracy and recall",
    "",
    "In per cent. Words are what stands in quotes, or else the whole list; those of one group of a "
    "sample are one word. Accuracy: the share of the predicted "
    "words that are true; recall: the share of the true words that are predicted.",
    "Samples that have groups. A sample without a prediction, or without a word in it, has accuracy "
    "and recall 0.",
    "",
    openset.LABELS,
    "Of the most frequent words, each the first of its group; rows are true and columns predicted. "
    "What is both stands on the diagonal. Where a true word was not predicted, and a predicted one is "
    "not true, each such pair counts once; (nothing) stands where one of the two has none left, "
    "(another) for all other words. Shades are shares of a row.",
    "The score, in per cent, is the mean of a sample's accuracy and recall",
)
_VALUES = {"average": "average", "accuracy": "accuracy", "recall": "recall"}


def compare(
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Mapping[str, Labels]],
    results: Mapping[str, GroupedScore],
    groups: Mapping[str, Groups],
    seed: int | None = None,
    failed: Mapping[str, Sequence[Failure]] | None = None,
) -> Compared:
    """As `merstore.report.openset.compare`."""
    standing = Standing(ranked(results, "average", seed), _VALUES)
    board = standing.board
    names = board[0].result.names
    true = {name: truth[name] for name in names}
    shown = [predictions[entry.name] for entry in standing.shown]
    return Compared(
        MER2024,
        standing,
        Grid(
            "All scores",
            "Accuracy and recall",
            "",
            list(_VALUES.values()),
            np.array([[entry.values[value] for value in _VALUES] for entry in board]),
            [("Accuracy and recall", (1, 2))],
        ),
        compared.lines(standing, lambda result, _: len(result)),
        [
            Covered(
                len(entry.result),
                (len(entry.result),) * 2,
                entry.result.missing,
                entry.result.empty,
                sum(name not in groups for name in predictions[entry.name]),
                failed=compared.named((failed or {}).get(entry.name)),
            )
            for entry in board
        ],
        sum(name not in groups for name in truth),
        counting.frequencies(true, shown),
        [[_confusion(true, each, groups)] for each in shown],
        counting.hardest(
            names, true, shown, np.array([entry.result.samples.mean(axis=1) for entry in board])
        ),
    )


def _confusion(
    truth: Mapping[str, Labels], predicted: Mapping[str, Labels], groups: Mapping[str, Groups]
) -> Confusion:
    pairs = [
        (first_words(truth[name], groups[name]), first_words(predicted.get(name, ()), groups[name]))
        for name in truth
    ]
    often = Counter(word for pair in pairs for words in pair for word in words)
    words = sorted(often)
    place = {word: number for number, word in enumerate(words)}
    true, said = (
        counting.marks(([place[word] for word in pair[side]] for pair in pairs), len(words))
        for side in (0, 1)
    )
    return counting.fewer(counting.confusion("Words", true, said, words))

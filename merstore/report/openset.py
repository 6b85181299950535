"""Predictions of open-vocabulary labels, compared on one page, by OV-MER's metrics or by MER2025's."""

from collections.abc import Mapping, Sequence

import numpy as np

from merstore.report import compared, counting
from merstore.report.compared import Compared, Covered, Grid, Line, Standing, Texts
from merstore.report.counting import Confusion
from merstore.score.answers import Coverage, Labels
from merstore.score.board import Ranked, ranked
from merstore.score.ov import COARSE, FINE, OvScores
from merstore.score.wheels import METRICS, WheelTables
from merstore.store.entry import Failure

WHEELED = tuple(metric for metric in METRICS if metric not in ("M1", "M2"))

COVERAGE = (
    "A sample is scored in a metric where its truth has a group in it. Missing and empty answers "
    "count as no label; unknown labels are in none of the tables and never count."
)
LABELS = "In how many samples the most frequent labels are: in the truth, and in each prediction"
CONFUSION = (
    "At level 1 of each wheel, rows are true and columns predicted. What is both stands on the "
    "diagonal. Where a sample's truth has a group that was not predicted, and its prediction one "
    "that is not true, each such pair counts once; (nothing) stands where one of the two has none "
    "left. Shades are shares of a row."
)
HARDEST = "F, in per cent, is a sample's mean over the metrics that it is scored in"

OV = Texts(
    "Open-vocabulary labels compared",
    "mean F of the twelve metrics",
    "of some metric no sample of the truth has a label that the tables know",
    "In per cent. M-avg: mean F of OV-MER's twelve metrics; MER2025: mean F of five wheels at two "
    "levels, and the mean of the two.",
    COVERAGE,
    "unknown labels",
    LABELS,
    CONFUSION,
    HARDEST,
)
MER2025 = OV._replace(
    title="MER2025's track 2 compared",
    value="mean F of the two levels",
    scores="In per cent. MER2025 ranks by the mean of level 1 and level 2; each is the mean F of five "
    "wheels.",
)
_OV_VALUES = {name: name for name in ("M-avg", "MER2025-rank", "MER2025-L1", "MER2025-L2")}
_MER2025_VALUES = {"MER2025-rank": "score", "MER2025-L1": "level 1", "MER2025-L2": "level 2"}


def compare(
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Mapping[str, Labels]],
    results: Mapping[str, OvScores],
    tables: WheelTables,
    texts: Texts = OV,
    seed: int | None = None,
    failed: Mapping[str, Sequence[Failure]] | None = None,
) -> Compared:
    """predictions: labels by sample, by the prediction's name. results: what they score. texts: OV or
    MER2025, which ranks by its two levels and knows no M1 and M2. seed: of the bootstrap, which is
    done where it is given. failed: failure records, by the prediction's name, where there may be.
    """
    mer2025 = texts is MER2025
    values, metrics = (_MER2025_VALUES, WHEELED) if mer2025 else (_OV_VALUES, METRICS)
    board = ranked(results, next(iter(values)), seed)
    caption = "F in per cent. " + (
        "Wx-Ly: wheel x, level y."
        if mer2025
        else "M1: word forms; M2: synonyms too; M3Wx-Ly: wheel x, level y."
    )
    return compare_board(
        texts, Standing(board, values), metrics, caption, truth, predictions, tables, failed
    )


def compare_board(
    texts: Texts,
    standing: Standing,
    metrics: Sequence[str],
    caption: str,
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Mapping[str, Labels]],
    tables: WheelTables,
    failed: Mapping[str, Sequence[Failure]] | None = None,
    confused: int = compared.SHOWN,
) -> Compared:
    """All that these metrics, with the wheels among them, tell of a board of OvScores. confused: how many
    predictions have their confusions shown.
    """
    board: Sequence[Ranked[OvScores]] = standing.board
    shown = [predictions[entry.name] for entry in standing.shown]
    by_sample = np.array([sample_f(entry.result, metrics) for entry in board])
    levels = [("Wheels, level 1", COARSE), ("Wheels, level 2", FINE)]
    return Compared(
        texts,
        standing,
        Grid(
            "Metrics",
            "F",
            caption,
            [metric.removeprefix("M3") if "M1" not in metrics else metric for metric in metrics],
            np.array([[entry.result[metric].f for metric in metrics] for entry in board]),
            [
                (title, [metrics.index(metric) for metric in level])
                for title, level in levels
                if set(level) <= set(metrics)
            ],
        ),
        [
            Line(
                place,
                metric,
                (each := entry.result[metric]).f,
                each.n,
                each.precision,
                each.recall,
                entry.intervals.get(metric),
                entry.behind.get(metric),
            )
            for place, entry in enumerate(board)
            for metric in metrics
        ],
        [
            covered(
                entry.result.coverage,
                [entry.result[metric].n for metric in metrics],
                (failed or {}).get(entry.name),
            )
            for entry in board
        ],
        int(np.isnan(by_sample[0]).sum()),
        counting.frequencies(truth, shown, tables.known),
        confusions(truth, shown[:confused], tables),
        counting.hardest(board[0].result.names, truth, shown, by_sample),
    )


def covered(
    known: Coverage, scored: Sequence[int], failed: Sequence[Failure] | None = None
) -> Covered:
    """scored: how many samples, in each metric."""
    return Covered(
        known.n,
        (min(scored), max(scored)),
        known.missing,
        known.empty,
        known.extra,
        known.unknown,
        known.unknown_share,
        known.unknown_only,
        compared.named(failed),
    )


def confusions(
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    tables: WheelTables,
) -> list[list[Confusion]]:
    """Of each prediction, one for level 1 of each wheel."""
    names = sorted(truth)
    true = _marked([truth[name] for name in names], tables)
    found = []
    for predicted in predictions:
        said = _marked([predicted.get(name, ()) for name in names], tables)
        found.append(
            [
                counting.confusion(metric, one, two, tables.groups[METRICS.index(metric)])
                for metric, one, two in zip(COARSE, true, said, strict=True)
            ]
        )
    return found


def sample_f(result: OvScores, metrics: Sequence[str] = METRICS) -> np.ndarray:
    """F of each sample, float64 ``[N]``: the mean over the metrics that it is scored in; NaN where
    it is in none.
    """
    counts = result.counts[:, [METRICS.index(metric) for metric in metrics]]
    true, guessed, both = np.moveaxis(counts.astype(np.float64), 2, 0)
    # 2pr / (p + r) of p = both / guessed and r = both / true
    f = 2 * both / np.maximum(true + guessed, 1)
    return counting.mean_of_known(np.where(true > 0, f, np.nan))


def _marked(answers: Sequence[Labels], tables: WheelTables) -> list[np.ndarray]:
    """Which groups each answer has, at level 1 of each wheel."""
    places = [METRICS.index(metric) for metric in COARSE]
    numbers = [[tables.numbers(label) for label in answer] for answer in answers]
    return [
        counting.marks(
            ([label[place] for label in answer if label[place] >= 0] for answer in numbers),
            len(tables.groups[place]),
        )
        for place in places
    ]

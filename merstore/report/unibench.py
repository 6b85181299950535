"""Models compared on one page on MER-UniBench's nine sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from merstore.report import compared, counting, openset
from merstore.report.compared import Compared, Covered, Grid, Line, Standing, Texts
from merstore.score.board import Ranked
from merstore.score.ov import COARSE, OvScores
from merstore.score.unibench import SIGNS, HitRate, SignScore
from merstore.score.unibench_results import SETS, Boards, SetResult
from merstore.score.wheels import WheelTables

CONFUSED = 3  # models of each set whose confusions are shown

UNIBENCH = Texts(
    "MER-UniBench compared",
    "mean of the nine sets",
    "only a model that has all nine sets has a mean",
    "In per cent. The mean is that of all nine sets. Of sets of classes the score is the hit rate, of "
    "sets of sentiment WAF, of OV-MERD+ F at level 1.",
    coverage="",
    unknown="",
    labels="",
    confusion="",
    hardest="",
    each="model",
)
HITS = openset.OV._replace(
    value="hit rate",
    each="model",
    scores="In per cent: how often the group of the one true label is among those that were predicted, "
    "at level 1 of five wheels. Long answers are not punished.",
    hardest="The hit rate, in per cent, of a sample is that over the wheels that it is scored in",
)
LISTS = openset.OV._replace(
    value="F at level 1", each="model", scores="In per cent: the mean F of level 1 of five wheels."
)
SENTIMENT = openset.OV._replace(
    value="weighted F1",
    each="model",
    none="",
    scores="In per cent: WAF and ACC of whether the sentiment is positive.",
    coverage="Samples whose true value is 0 are not scored. Neutral, and an answer that is no "
    "sentiment, count as negative.",
    unknown="answers that are no sentiment",
    labels="How many samples have an answer, and truly are positive or negative",
    confusion="Rows are true and columns predicted, (nothing) where the answer is no sentiment. "
    "Shades are shares of a row.",
    hardest="100 for right and 0 for wrong; of equal ones those of stronger sentiment are harder",
)


def compare(
    models: Mapping[str, Mapping[str, SetResult]], boards: Boards, tables: WheelTables
) -> tuple[Compared, dict[str, Compared]]:
    """The models on the whole, and in each set that one of them has. boards: how they stand."""
    standing = Standing(boards.models, {"mean": "mean"})
    found = {}
    for key, board in boards.sets.items():
        sets = {model: models[model][key] for model in board}
        found[key] = _set(list(board.values()), sets, tables)
    order = [entry.name for entry in boards.models]
    whole = Compared(
        UNIBENCH,
        standing,
        Grid(
            "Sets",
            "Scores",
            "In per cent.",
            [key.upper() for key in SETS],
            np.array(
                [
                    [models[model][key].score if key in models[model] else np.nan for key in SETS]
                    for model in order
                ]
            ),
            [("Sets", [place for place, key in enumerate(SETS) if key in boards.sets])],
        ),
        [
            Line(
                place,
                key.upper(),
                each.score,
                len(each.result),
                interval=boards.sets[key][model].intervals.get(each.value),
                behind=boards.sets[key][model].behind.get(each.value),
            )
            for place, model in enumerate(order)
            for key, each in models[model].items()
        ],
    )
    return whole, found


def _set(
    board: Sequence[Ranked[Any]], sets: Mapping[str, SetResult], tables: WheelTables
) -> Compared:
    first = sets[board[0].name]
    if isinstance(first.result, SignScore):
        return _sentiment(board, sets)
    if isinstance(first.result, OvScores):
        return openset.compare_board(
            LISTS,
            Standing(board, {first.value: "F"}),
            COARSE,
            "F in per cent on level 1 of each wheel.",
            first.truth.labels,
            {model: each.answers for model, each in sets.items()},
            tables,
            confused=CONFUSED,
        )
    return _hits(board, sets, tables)


def _hits(
    board: Sequence[Ranked[HitRate]], sets: Mapping[str, SetResult], tables: WheelTables
) -> Compared:
    standing = Standing(board, {"hit rate": "hit rate"})
    truth = {name: [label] for name, label in sets[board[0].name].truth.labels.items()}
    shown = [sets[entry.name].answers for entry in standing.shown]
    by_sample = np.array([counting.mean_of_known(entry.result.hits) for entry in board])
    return Compared(
        HITS,
        standing,
        Grid(
            "Wheels",
            "Hit rate",
            "In per cent on level 1 of each wheel.",
            COARSE,
            np.array([entry.result.rates for entry in board]),
            [("Wheels, level 1", range(len(COARSE)))],
        ),
        [
            Line(
                place,
                metric,
                rate,
                n,
                interval=entry.intervals.get(metric),
                behind=entry.behind.get(metric),
            )
            for place, entry in enumerate(board)
            for metric, rate, n in zip(COARSE, entry.result.rates, entry.result.n, strict=True)
        ],
        [openset.covered(entry.result.coverage, entry.result.n) for entry in board],
        int(np.isnan(by_sample[0]).sum()),
        counting.frequencies(truth, shown, tables.known),
        openset.confusions(truth, shown[:CONFUSED], tables),
        counting.hardest(sorted(truth), truth, shown, by_sample),
    )


def _sentiment(board: Sequence[Ranked[SignScore]], sets: Mapping[str, SetResult]) -> Compared:
    standing = Standing(board, {"waf": "WAF", "acc": "ACC"})
    values = sets[board[0].name].truth.labels
    sure = sorted(name for name, value in values.items() if value != 0)
    truth = {name: ["positive" if values[name] > 0 else "negative"] for name in sure}
    shown = [
        {name: [answer] for name, answer in sets[entry.name].answers.items() if answer}
        for entry in standing.shown
    ]
    groups = list(SIGNS)
    marked = [
        counting.marks(
            (
                [groups.index(label) for label in each.get(name, ()) if label in SIGNS]
                for name in sure
            ),
            len(groups),
        )
        for each in (truth, *shown[:CONFUSED])
    ]
    return Compared(
        SENTIMENT,
        standing,
        Grid(
            "All scores",
            "WAF and ACC",
            "",
            list(standing.values.values()),
            np.array([list(entry.values.values()) for entry in board]),
            [("WAF and ACC", (0, 1))],
        ),
        compared.lines(standing, lambda result, _: len(result)),
        [
            Covered(
                len(values),
                (len(entry.result),) * 2,
                entry.result.missing,
                [name for name in sure if not sets[entry.name].answers.get(name)],
                sum(name not in values for name in sets[entry.name].answers),
                {label: count for label, count in entry.result.other.items() if label},
            )
            for entry in board
        ],
        len(values) - len(sure),
        counting.frequencies(truth, shown, exact=True),
        [[counting.confusion("Sentiment", marked[0], said, groups)] for said in marked[1:]],
        counting.hardest(
            sure,
            {name: [*labels, f"{values[name]:g}"] for name, labels in truth.items()},
            shown,
            np.array([np.equal(*entry.result.classes.T) for entry in board], np.float64),
            np.array([abs(values[name]) for name in sure]),
        ),
    )

"""`merstore score ov`, `mer2025` and `mer2024-ov`: labels that are any words."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.score import options
from merstore.cli.score.scoring import score_grouped, score_openset, whose
from merstore.cli.score.telling import answer_facts, board_table, json_board, tell_coverage
from merstore.score.answers import Missing
from merstore.score.board import ranked
from merstore.score.grouped import read_groups
from merstore.score.ov import OvScores
from merstore.score.wheels import METRICS, WheelTables


@click.command("ov", short_help="OV-MER's twelve metrics")
@options.given(*options.OPENSET, console.as_json)
def ov_(predictions: Sequence[str], **how: Any) -> None:
    """Score open-vocabulary labels by the twelve metrics of OV-MER: M1, M2, and M3 of five wheels
    at two levels. Ranked by the mean of their F (M-AVG).
    """
    short = [name.replace("M3", "").replace("-", "") for name in METRICS]
    _ov(predictions, "M-avg", ["M-avg", *METRICS], ["M-AVG", *short], _ov_facts, **how)


@click.command("mer2025", short_help="the two levels of MER2025's track 2")
@options.given(*options.OPENSET, console.as_json)
def mer2025_(predictions: Sequence[str], **how: Any) -> None:
    """Score open-vocabulary labels as MER2025's track 2 does: the mean F of five wheels at level 1
    and at level 2, ranked by the mean of the two.
    """
    shown = ["MER2025-rank", "MER2025-L1", "MER2025-L2"]
    _ov(predictions, shown[0], shown, ["SCORE", "LEVEL1", "LEVEL2"], _mer2025_facts, **how)


def _ov(
    predictions: Sequence[str],
    by: str,
    shown: Sequence[str],
    header: Sequence[str],
    facts: Callable[[OvScores], dict[str, Any]],
    truth: Path,
    tables: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    wheels = WheelTables.load(tables)
    results = score_openset(predictions, truth, wheels, missing, store).results
    board = ranked(results, by, seed if bootstrap else None)
    if as_json:
        told = {
            "tables": {"folder": str(tables), "sha256": wheels.digest, "changed": wheels.changed}
        }
        json_board(board, lambda result: facts(result) | answer_facts(result.coverage) | told)
        return
    board_table(
        board,
        shown,
        header,
        ["MISSING", "EMPTY", "UNKNOWN"],
        lambda result: [
            f"{len(result.coverage.missing):,}",
            f"{len(result.coverage.empty):,}",
            f"{100 * result.coverage.unknown_share:.1f}%",
        ],
    )
    for entry in board:
        tell_coverage(entry.name, entry.result.coverage)
    scored = [  # the truth alone decides, and of a wheel both levels score the same samples
        f"{metric.removeprefix('M3').removesuffix('-L1')} {board[0].result[metric].n:,}"
        for metric in METRICS
        if not metric.endswith("-L2")
    ]
    click.echo(f"samples scored: {', '.join(scored)}")
    click.echo(f"tables: {tables}, {whose(wheels)} (sha256 {wheels.digest})")


@click.command("mer2024-ov", short_help="MER2024's score by groups of words")
@options.given(*options.GROUPED, console.as_json)
def mer2024_ov_(
    predictions: Sequence[str],
    truth: Path,
    groups: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score open-vocabulary labels as MER2024 did: by groups of words that a chat model made for
    truth and prediction, kept in files. They fit the predictions that they were made for.
    """
    results = score_grouped(predictions, truth, read_groups(groups), missing, store).results
    board = ranked(results, "average", seed if bootstrap else None)
    if as_json:
        json_board(
            board,
            lambda result: {
                "n": len(result),
                **result.values(),
                "missing": result.missing,
                "n_empty": len(result.empty),
                "empty": result.empty,
            },
        )
        return
    board_table(
        board,
        ["average", "accuracy", "recall"],
        ["AVERAGE", "ACCURACY", "RECALL"],
        ["N", "MISSING", "EMPTY"],
        lambda r: [f"{len(r):,}", f"{len(r.missing):,}", f"{len(r.empty):,}"],
        written=repr,  # as they are published
    )


def _ov_facts(result: OvScores) -> dict[str, Any]:
    return (
        {metric: found._asdict() for metric, found in result.metrics.items()}
        | _mer2025_facts(result)
        | {"M-avg": result.average}
    )


def _mer2025_facts(result: OvScores) -> dict[str, Any]:
    return {
        "MER2025-L1": result.level1._asdict(),
        "MER2025-L2": result.level2._asdict(),
        "MER2025-rank": result.rank,
    }

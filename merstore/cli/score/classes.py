"""`merstore score classification`: classes and valences."""

from collections.abc import Sequence
from typing import Any

import click

from merstore.cli import console
from merstore.cli.score import options
from merstore.cli.score.scoring import score_classes
from merstore.cli.score.telling import board_table, counts, json_board
from merstore.score.answers import Missing
from merstore.score.board import ranked
from merstore.score.challenge import ChallengeScore, ranked_by


@click.command("classification", short_help="classes and valences: WAF, ACC, MSE, PCC, CCC")
@options.given(*options.CLASSES, console.as_json)
def classification_(
    predictions: Sequence[str],
    truth: str,
    missing: Missing,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score classes and valences, as MER2023 to MER2025 rank them. PRED: csv, tsv or jsonl with the
    columns that --truth names.
    """
    results = score_classes(predictions, truth, missing).results
    board = ranked(results, ranked_by(results.values()), seed if bootstrap else None)
    if as_json:
        json_board(board, _facts)
        return
    shown = list(dict.fromkeys(key for entry in board for key in entry.values))
    board_table(
        board,
        shown,
        [key.upper() for key in shown],
        ["N", "EMPTY", "OTHER"],
        lambda r: [f"{len(r):,}", f"{len(r.empty):,}", f"{sum(r.other.values()):,}"],
        written="{:.4f}".format,
    )
    for entry in board:
        if entry.result.other:
            told = counts(entry.result.other)
            click.echo(f"{entry.name}: classes that no sample truly has: {told}")


def _facts(result: ChallengeScore) -> dict[str, Any]:
    return {
        "n": result.n,
        "n_values": result.n_values,
        **result.scores,
        "n_empty": len(result.empty),
        "empty": result.empty,
        "other": result.other,
    }

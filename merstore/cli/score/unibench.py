"""`merstore score merunibench`: AffectGPT's results on MER-UniBench's nine sets."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.score import options
from merstore.cli.score.scoring import score_unibench
from merstore.cli.score.telling import (
    answer_facts,
    counts,
    percent,
    plain,
    sure_cells,
    sure_facts,
    tell_coverage,
)
from merstore.score.answers import Missing
from merstore.score.board import Ranked
from merstore.score.ov import OvScores
from merstore.score.unibench import HitRate, SignScore
from merstore.score.unibench_results import SETS, SetResult, boards
from merstore.score.wheels import WheelTables


@click.command("merunibench", short_help="MER-UniBench's nine sets")
@options.given(*options.UNIBENCH, console.as_json)
def merunibench_(
    predictions: Sequence[str],
    labels: Path,
    tables: Path,
    missing: Missing,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score AffectGPT's results: hit rate of the four sets of classes, WAF of the four of sentiment,
    and F at level 1 of OV-MERD+.

    PRED: files or folders with results-SET in their path, as AffectGPT's runner writes them:
    *-openset.npz, and *-openset-sentiment.npz of the sets of sentiment. A checkpoint is a line; none
    is chosen by its score. The mean is that of all nine sets.
    """
    models = score_unibench(predictions, labels, WheelTables.load(tables), missing)
    found = boards(models, seed if bootstrap else None)
    first = found.models[0].name
    if as_json:
        console.json_out(
            plain(
                {
                    entry.name: {
                        "mean": entry.values["mean"],
                        **sure_facts(entry, first),
                        "sets": {
                            key: {"file": each.file, "score": each.score}
                            | _facts(each.result)
                            | sure_facts(found.sets[key][entry.name], next(iter(found.sets[key])))
                            for key, each in entry.result.items()
                        },
                    }
                    for entry in found.models
                }
            )
        )
        return
    sure = ["95%", "BEHIND"] if found.models[0].intervals else []
    header = [key.upper() for key in SETS]
    rows = [
        [
            entry.name,
            percent(entry.values["mean"]),
            *(sure_cells(entry, "mean", percent) if sure else ()),
            *(
                _cell(entry.result.get(key), found.sets.get(key, {}).get(entry.name))
                for key in SETS
            ),
        ]
        for entry in found.models
    ]
    console.table(["MODEL", "MEAN", *sure, *header], rows, right=" ".join(["MEAN", *header]))
    for entry in found.models:
        for each in entry.result.values():
            _tell(each)


def _cell(found: SetResult | None, entry: Ranked[Any] | None) -> str:
    """A score, with its interval where there is one."""
    if found is None or entry is None:
        return ""
    inside = entry.intervals.get(found.value)
    if inside is None or math.isnan(inside.low):
        return percent(found.score)
    return f"{percent(found.score)} ({percent(inside.low)}-{percent(inside.high)})"


def _tell(found: SetResult) -> None:
    result = found.result
    if not isinstance(result, SignScore):
        tell_coverage(found.file, result.coverage)
        return
    absent = f", {len(result.missing):,} missing" if result.missing else ""
    other = f", counted as neutral: {counts(result.other)}" if result.other else ""
    click.echo(f"{found.file}: {console.plural(result.n, 'sample')} scored{absent}{other}")


def _facts(result: OvScores | HitRate | SignScore) -> dict[str, Any]:
    if isinstance(result, SignScore):
        return {
            "n": result.n,
            "waf": result.waf,
            "acc": result.acc,
            "missing": result.missing,
            "other": result.other,
        }
    if isinstance(result, HitRate):
        told: dict[str, Any] = {"n": result.n, "hit rates": result.rates, "mixed": result.mixed}
    else:
        told = {"n": [result[f"M3W{wheel}-L1"].n for wheel in range(1, 6)]}
        told |= result.level1._asdict()
    return told | answer_facts(result.coverage)

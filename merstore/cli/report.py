"""`merstore report`: pages for people, each one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from merstore import pages
from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument
from merstore.cli.score import options
from merstore.cli.score.scoring import (
    score_classes,
    score_grouped,
    score_openset,
    score_unibench,
    whose,
)
from merstore.score.answers import Missing

_out = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The page to write, an HTML file."
)


class _StoreUnlessNamed(click.Group):
    """`merstore report STORE` is `merstore report store STORE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            args = ["store", *args]
        return super().resolve_command(ctx, args)


@click.group(
    "report",
    cls=_StoreUnlessNamed,
    context_settings={"ignore_unknown_options": True},
    short_help="a page of a store, or of scores",
    subcommand_metavar="[store] STORE [VIEW]... | KIND PRED...",
)
def report_() -> None:
    """Write one HTML page that needs no network: of a store (or some of its views, or a run), or of
    predictions as `merstore score KIND` scores them: scores, with --bootstrap their intervals and
    differences, labels, confusion, coverage, and the samples that are hardest.
    """


@report_.command("store", short_help="what a store holds, and what was run on it")
@store_argument
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@_out
def store_(store: Path, views: Sequence[str], out: Path) -> None:
    """Write what STORE holds, or these of its VIEWs, a run's among them: coverage, failures by kind,
    quality, sizes, training, inference, speed, specs.
    """
    from merstore.report import contents

    with open_store(store) as opened:
        chosen = [find_view(opened, view).path for view in views] or None
        page = contents.html(contents.contents_of(opened, chosen))
    _write(out, page)


@report_.command("ov", short_help="open-vocabulary labels by OV-MER's twelve metrics")
@options.given(*options.OPENSET, _out)
def ov_(**how: Any) -> None:
    """Compare predictions as `merstore score ov` scores them."""
    from merstore.report import openset

    _openset(openset.OV, **how)


@report_.command("mer2025", short_help="open-vocabulary labels by MER2025's two levels")
@options.given(*options.OPENSET, _out)
def mer2025_(**how: Any) -> None:
    """Compare predictions as `merstore score mer2025` scores them."""
    from merstore.report import openset

    _openset(openset.MER2025, **how)


def _openset(
    texts: Any,
    predictions: Sequence[str],
    truth: Path,
    tables: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    out: Path,
) -> None:
    from merstore.report import openset, scores
    from merstore.score.wheels import WheelTables

    wheels = WheelTables.load(tables)
    scored = score_openset(predictions, truth, wheels, missing, store)
    found = openset.compare(
        scored.truth,
        scored.predictions,
        scored.results,
        wheels,
        texts,
        seed if bootstrap else None,
        scored.failed,
    )
    _write(out, scores.html("scores.html", truth, found, _tables(tables, wheels)))


@report_.command("mer2024-ov", short_help="open-vocabulary labels by MER2024's groups of words")
@options.given(*options.GROUPED, _out)
def mer2024_ov_(
    predictions: Sequence[str],
    truth: Path,
    groups: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    out: Path,
) -> None:
    """Compare predictions as `merstore score mer2024-ov` scores them."""
    from merstore.report import grouped, scores
    from merstore.score.grouped import read_groups

    of_words = read_groups(groups)
    scored = score_grouped(predictions, truth, of_words, missing, store)
    found = grouped.compare(
        scored.truth,
        scored.predictions,
        scored.results,
        of_words,
        seed if bootstrap else None,
        scored.failed,
    )
    _write(out, scores.html("scores.html", truth, found, {"groups": str(groups)}))


@report_.command("classification", short_help="classes and valences")
@options.given(*options.CLASSES, _out)
def classification_(
    predictions: Sequence[str],
    truth: str,
    missing: Missing,
    bootstrap: bool,
    seed: int,
    out: Path,
) -> None:
    """Compare predictions as `merstore score classification` scores them."""
    from merstore.report import classes, scores

    scored = score_classes(predictions, truth, missing)
    found = classes.compare(
        scored.truth, scored.predictions, scored.results, seed if bootstrap else None
    )
    _write(out, scores.html("scores.html", truth, found))


@report_.command("merunibench", short_help="models on MER-UniBench's nine sets")
@options.given(*options.UNIBENCH, _out)
def merunibench_(
    predictions: Sequence[str],
    labels: Path,
    tables: Path,
    missing: Missing,
    bootstrap: bool,
    seed: int,
    out: Path,
) -> None:
    """Compare models as `merstore score merunibench` scores them."""
    from merstore.report import scores, unibench
    from merstore.score.unibench_results import boards
    from merstore.score.wheels import WheelTables

    wheels = WheelTables.load(tables)
    models = score_unibench(predictions, labels, wheels, missing)
    found, sets = unibench.compare(models, boards(models, seed if bootstrap else None), wheels)
    _write(out, scores.html("unibench.html", labels, found, _tables(tables, wheels), sets=sets))


def _tables(folder: Path, tables: Any) -> Mapping[str, str]:
    return {"tables": f"{folder}, {whose(tables)} (SHA-256 {tables.digest[:16]}…)"}


def _write(out: Path, page: str) -> None:
    pages.write(out, page)
    console.note(f"written: {out}")

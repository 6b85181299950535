"""`merstore report`: pages for people, each one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merstore import pages
from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument
from merstore.cli.score import (
    labels_of,
    missing_option,
    naming,
    predictions_argument,
    store_option,
    tables_option,
    truth_option,
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
    subcommand_metavar="[store] STORE [VIEW]... | ov PRED...",
)
def report_() -> None:
    """Write one HTML page that needs no network: of a store (or some of its views, or a run), or of
    scores compared.
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


@report_.command("ov", short_help="predictions of open-vocabulary labels compared")
@predictions_argument
@truth_option
@tables_option
@missing_option
@store_option
@_out
def ov_(
    predictions: Sequence[str],
    truth: Path,
    tables: Path,
    missing: Missing,
    store: Path | None,
    out: Path,
) -> None:
    """Compare predictions as `merstore score ov` scores them: scores with intervals, wheels, labels,
    confusion, coverage, and the samples that are hardest.
    """
    from merstore.report import scores
    from merstore.score.files import read_answers
    from merstore.score.ov import ov_scores
    from merstore.score.wheels import WheelTables

    wheels = WheelTables.load(tables)
    true = read_answers(truth).labels()
    labels: dict[str, Any] = {}
    results = {}
    for name, found in labels_of(predictions, store):
        with naming(name):
            labels[name], results[name] = found, ov_scores(true, found, wheels, missing)
    page = scores.html(scores.compare(true, labels, results, wheels), str(truth), str(tables))
    _write(out, page)


def _write(out: Path, page: str) -> None:
    pages.write(out, page)
    console.note(f"written: {out}")

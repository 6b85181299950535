"""`merstore import`: folders of .npy files into a store."""

from dataclasses import asdict
from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import force_option, store_argument
from merstore.interop.importing import ImportReport, import_tree
from merstore.interop.trees import LAYOUTS, Unknown, discover

SHOWN = 10  # files and folders named of each kind of trouble; --json has them all


@click.command("import", short_help="folders of .npy files into a store")
@store_argument
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--dataset", help="Dataset of the files, where no folder says it; selects one where folders do."
)
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True)
@click.option(
    "--pattern", help='Any other tree, such as "{dataset}/{encoder}/{sampling}/{sample}.npy".'
)
@click.option("--view", help="The whole path of the view, for a single folder.")
@click.option("--modality", help="Of feature folders whose name does not say it.")
@click.option(
    "--nonfinite",
    type=click.Choice(["refuse", "flag"]),
    default="refuse",
    show_default=True,
    help="What to do with arrays that hold NaN or Inf.",
)
@click.option("--replace", is_flag=True, help="Import samples again that the store has already.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=4, show_default=True, help="Reading threads."
)
@force_option
@console.as_json
def import_(
    store: Path,
    source: Path,
    dataset: str | None,
    layout: str,
    pattern: str | None,
    view: str | None,
    modality: str | None,
    nonfinite: str,
    replace: bool,
    jobs: int,
    force: bool,
    as_json: bool,
) -> int:
    """Import the .npy files below SOURCE into STORE, which is made if it is not there.

    SOURCE is an AffectGPT or MERTools feature tree, one dataset or one feature folder of it, or any
    tree by --pattern. Arrays keep their dtype, shape and every bit. Samples that are there already
    are skipped, so an import that was interrupted goes on when it is started again.

    Exits with 1 where something was refused or left out.
    """
    import merstore

    found = discover(source, layout, pattern=pattern, dataset=dataset, view=view, modality=modality)
    report = ImportReport()
    if found:
        with (
            merstore.open(store, "a", force=force) as opened,
            console.progress("importing", "files") as bar,
        ):
            report = import_tree(
                opened,
                found,
                jobs=jobs,
                nonfinite=nonfinite,
                replace=replace,
                progress=lambda files, total, nbytes: bar(files, total, console.size(nbytes)),
            )
    if as_json:
        views = [
            vars(done) | {"refused": [refused._asdict() for refused in done.refused]}
            for done in report.views
        ]
        console.json_out({"views": views, "left_out": [asdict(item) for item in found.unknown]})
    else:
        _print(report, found.unknown)
    return 1 if report.refused or report.problems or found.unknown else 0


def _print(report: ImportReport, left_out: list[Unknown]) -> None:
    if report.views:
        console.table(
            ["VIEW", "IMPORTED", "PRESENT", "REFUSED", "SIZE"],
            [
                [
                    done.view,
                    f"{done.imported:,}",
                    f"{done.skipped:,}",
                    f"{len(done.refused):,}",
                    console.size(done.bytes),
                ]
                for done in report.views
            ],
            right="IMPORTED PRESENT REFUSED SIZE",
        )
    for done in report.views:
        for what, count in done.notes.items():
            console.note(f"note: {done.view}: {console.plural(count, 'file')}: {what}")
    console.listing("not imported", [f"{view}: {why}" for view, why in report.problems], SHOWN)
    console.listing("refused", [refused.reason for refused in report.refused], SHOWN)
    console.listing("left out", [f"{item.path}: {item.reason}" for item in left_out], SHOWN)
    if report.views:
        rate = console.rate(report.imported, "files", report.bytes, report.seconds)
        files = console.plural(report.imported, "file")
        click.echo(f"imported {files}, {console.size(report.bytes)}{rate}")

"""`merstore export`: views as folders of .npy files."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument
from merstore.interop.exporting import LAYOUTS, export_views

SHOWN = 10  # entries named of each kind of trouble; --json has them all


@click.command("export", short_help="views as folders of .npy files")
@store_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option("--layout", type=click.Choice(LAYOUTS), default="affectgpt", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace files that hold something else.")
@console.as_json
def export_(
    store: Path, out: Path, views: tuple[str, ...], layout: str, overwrite: bool, as_json: bool
) -> int:
    """Write VIEWs of STORE (all, if none is named) as .npy files below OUT.

    Files that hold the same array already are left alone; others are refused unless --overwrite.

    Exits with 1 where something was not written.
    """
    with open_store(store) as opened, console.progress("exporting", "files") as bar:
        report = export_views(
            opened,
            out,
            [find_view(opened, view).path for view in views] or None,
            layout,
            overwrite=overwrite,
            progress=lambda files, total, nbytes: bar(files, total, console.size(nbytes)),
        )
    if as_json:
        exported = [
            vars(done) | {"refused": [refused._asdict() for refused in done.refused]}
            for done in report.views
        ]
        console.json_out({"views": exported})
        return 1 if report.refused or report.problems else 0

    console.table(
        ["VIEW", "WRITTEN", "PRESENT", "REFUSED", "FAILED", "SIZE", "FOLDER"],
        [
            [
                done.view,
                f"{done.written:,}",
                f"{done.unchanged:,}",
                f"{len(done.refused):,}",
                f"{done.failures:,}",
                console.size(done.bytes),
                done.directory or "-",
            ]
            for done in report.views
        ],
        right="WRITTEN PRESENT REFUSED FAILED SIZE",
    )
    for done in report.views:
        for what, count in done.notes.items():
            console.note(f"note: {done.view}: {console.plural(count, 'file')}: {what}")
    console.listing("not exported", [f"{view}: {why}" for view, why in report.problems], SHOWN)
    console.listing("refused", [refused.reason for refused in report.refused], SHOWN)
    seconds = sum(done.seconds for done in report.views)
    rate = console.rate(report.written, "files", report.bytes, seconds)
    click.echo(
        f"wrote {console.plural(report.written, 'file')}, {console.size(report.bytes)}{rate}"
    )
    return 1 if report.refused or report.problems else 0

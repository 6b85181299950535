"""`merstore export`: views as folders of .npy files, as safetensors, or as a dataset's folder."""

import re
from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument
from merstore.interop.exporting import LAYOUTS, ExportReport, export_views

SHOWN = 10  # entries named of each kind of trouble; --json has them all


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(context: click.Context, option: click.Parameter, value: str) -> int:
    """Bytes, with or without a unit: ``500MiB``, ``2G``."""
    matched = re.fullmatch(r"(\d+)\s*([KMG]?)(iB|B)?", value, re.IGNORECASE)
    if matched is None or not int(matched[1]):
        raise click.BadParameter(f"{value!r} is no size: such as 500MiB or 2G")
    return int(matched[1]) * _UNITS[matched[2].upper()]


@click.command("export", short_help="views as .npy files, safetensors or a dataset's folder")
@store_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("views", metavar="[VIEW]...", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["npy", "safetensors"]), default="npy", show_default=True
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="affectgpt",
    show_default=True,
    help="Folders of .npy files.",
)
@click.option(
    "--shard-size", callback=_size, default="1GiB", show_default=True, help="Of safetensors files."
)
@click.option(
    "--corpus",
    help="OUT becomes the folder of this corpus: features, labels, transcripts, faces and links to the media.",
)
@click.option(
    "--media",
    type=click.Path(path_type=Path),
    help="With --corpus: where videos and sounds are (default: the folder that was imported).",
)
@click.option(
    "--tables",
    type=click.Path(path_type=Path),
    help="A YAML file of more corpora (default: $MERSTORE_CORPORA).",
)
@click.option("--overwrite", is_flag=True, help="Replace files that hold something else.")
@console.as_json
def export_(
    store: Path,
    out: Path,
    views: tuple[str, ...],
    form: str,
    layout: str,
    shard_size: int,
    corpus: str | None,
    media: Path | None,
    tables: Path | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Write VIEWs of STORE (all, if none is named) below OUT: as .npy files in the folders of
    --layout, or as safetensors; or, with --corpus, all that the store has of a corpus as its
    checkouts want it.

    Files that hold the same array already are left alone; others are refused unless --overwrite.

    Exits with 1 where something was not written.
    """
    if corpus is not None:
        if views or form != "npy":
            raise click.UsageError("--corpus writes all views of a corpus, as .npy files")
        return _export_corpus(store, out, corpus, media, tables, overwrite, as_json)
    if media is not None:
        raise click.UsageError("--media goes with --corpus")
    with open_store(store) as opened, console.progress("exporting", "files") as bar:
        paths = [find_view(opened, view).path for view in views] or None

        def told(files: int, total: int, nbytes: int) -> None:
            bar(files, total, console.size(nbytes))

        if form == "safetensors":
            from merstore.interop.safetensors_export import export_safetensors

            report = export_safetensors(
                opened, out, paths, shard_bytes=shard_size, overwrite=overwrite, progress=told
            )
        else:
            report = export_views(opened, out, paths, layout, overwrite=overwrite, progress=told)
    if as_json:
        console.json_out({"views": _json(report)})
    else:
        _print(report, "samples" if form == "safetensors" else "files")
    return 1 if report.refused or report.problems else 0


def _export_corpus(
    store: Path,
    out: Path,
    name: str,
    media: Path | None,
    tables: Path | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    from merstore.corpora import find
    from merstore.interop.bridging import export_corpus

    table = find(name, tables)
    with open_store(store) as opened, console.progress("exporting", "files") as bar:
        done = export_corpus(
            opened,
            table,
            out,
            media=media,
            overwrite=overwrite,
            progress=lambda files, total, nbytes: bar(files, total, console.size(nbytes)),
        )
    report = done.report
    if as_json:
        console.json_out(
            {
                "dataset": done.dataset,
                "root": done.root,
                "views": _json(report),
                "files": done.files,
                "unchanged": done.unchanged,
                "refused": done.refused,
            }
        )
    else:
        _print(report, "files")
        console.listing("not written", [f"{what}: {why}" for what, why in done.refused], SHOWN)
        click.echo(
            f"labels, transcripts and links to media: {len(done.files):,} written, "
            f"{done.unchanged:,} present"
        )
    return 1 if report.refused or report.problems or done.refused else 0


def _json(report: ExportReport) -> list[dict[str, Any]]:
    return [
        vars(done) | {"refused": [refused._asdict() for refused in done.refused]}
        for done in report.views
    ]


def _print(report: ExportReport, what: str) -> None:
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
    rate = console.rate(report.written, what, report.bytes, seconds)
    wrote = console.plural(report.written, what.removesuffix("s"))
    click.echo(f"wrote {wrote}, {console.size(report.bytes)}{rate}")

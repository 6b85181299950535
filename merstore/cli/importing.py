"""`merstore import`: folders of .npy files into a store."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.opening import force_option, store_argument
from merstore.interop.importing import ImportReport, ViewImport, import_tree
from merstore.interop.trees import LAYOUTS, Unknown, discover

SHOWN = 10  # files and folders named of each kind of trouble; --json has them all


@click.command("import", short_help="folders of .npy files, or a dataset's, into a store")
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
    "--corpus",
    help="SOURCE is the folder of this corpus: its features, labels, transcripts, faces, videos and sounds.",
)
@click.option(
    "--tables",
    type=click.Path(path_type=Path),
    help="A YAML file of more corpora (default: $MERSTORE_CORPORA).",
)
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
    corpus: str | None,
    tables: Path | None,
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

    With --corpus, SOURCE is a whole MERTools dataset folder (features/, label files, transcripts,
    openface_face/, video/, audio/). Videos and sounds are not copied: the store keeps where they are,
    their sizes and digests. `merstore export --corpus` gives the folder back.

    Exits with 1 where something was refused or left out.
    """
    import merstore

    how: dict[str, Any] = {"jobs": jobs, "nonfinite": nonfinite, "replace": replace}
    if corpus is not None:
        if (dataset, layout, pattern, view) != (None, "auto", None, None):
            raise click.UsageError(
                "--corpus says it all: no --dataset, --layout, --pattern, --view"
            )
        return _import_corpus(store, source, corpus, tables, modality, how, force, as_json)

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
                progress=lambda files, total, nbytes: bar(files, total, console.size(nbytes)),
                **how,
            )
    if as_json:
        left_out = [asdict(item) for item in found.unknown]
        console.json_out({"views": _json(report.views), "left_out": left_out})
    else:
        _print(report, found.unknown)
    return 1 if report.refused or report.problems or found.unknown else 0


def _import_corpus(
    store: Path,
    source: Path,
    name: str,
    tables: Path | None,
    modality: str | None,
    how: dict[str, Any],
    force: bool,
    as_json: bool,
) -> int:
    import merstore
    from merstore.corpora import open_corpus
    from merstore.interop.bridging import import_corpus

    corpus = open_corpus(name, source, tables)
    with (
        merstore.open(store, "a", force=force) as opened,
        console.progress("importing", "files") as bar,
    ):
        done = import_corpus(
            opened,
            corpus,
            modality=modality,
            progress=lambda files, total, nbytes: bar(files, total, console.size(nbytes)),
            **how,
        )
        labels = {path: len(opened[path]) for path in done.labels}
    if as_json:
        console.json_out(
            {
                "dataset": done.dataset,
                "root": done.root,
                "views": _json(done.views),
                "labels": labels,
                "problems": done.problems,
                "left_out": [asdict(item) for item in done.unknown],
            }
        )
    else:
        for path, count in labels.items():
            click.echo(f"{path}: {console.plural(count, 'sample')}")
        console.listing("wrong", [f"{what}: {why}" for what, why in done.problems], SHOWN)
        _print(done.report, done.unknown)
        if not done.views and not labels:
            console.note(f"nothing of {done.dataset} in {done.root}: `merstore corpora {name}`")
    troubled = done.problems or done.unknown or done.report.refused or done.report.problems
    return 1 if troubled or not (done.views or labels) else 0


def _json(views: list[ViewImport]) -> list[dict[str, Any]]:
    return [
        vars(done) | {"refused": [refused._asdict() for refused in done.refused]} for done in views
    ]


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

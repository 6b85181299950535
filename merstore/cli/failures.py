"""`merstore failures`: which samples have no tensor, and why."""

from datetime import datetime
from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument, view_argument


@click.command("failures", short_help="samples that could not be computed, and why")
@store_argument
@view_argument
@click.option("--kind", help="Only failures of this kind, such as no_face or decode_error.")
@console.as_json
def failures_(store: Path, view: str | None, kind: str | None, as_json: bool) -> None:
    """List the samples of VIEW, or of all views, that could not be computed, and why.

    They are tried again by `merstore prewarm --retry-failed KIND`.
    """
    with open_store(store) as opened:
        views = [find_view(opened, view).path] if view else opened.views()
        found = [(path, failure) for path in views for failure in opened.failures(path, kind=kind)]
    if as_json:
        console.json_out([{"view": path, **failure._asdict()} for path, failure in found])
        return
    if not found:
        console.note("no failures" + (f" of kind {kind}" if kind else ""))
        return
    with_view = len(views) > 1
    console.table(
        [*(["VIEW"] if with_view else []), "SAMPLE", "KIND", "TRIED", "LAST", "MESSAGE"],
        [
            [
                *([path] if with_view else []),
                failure.name,
                failure.kind,
                str(failure.attempts),
                f"{datetime.fromtimestamp(failure.time):%Y-%m-%d %H:%M}",
                " ".join(failure.message.split()),
            ]
            for path, failure in found
        ],
        right="TRIED",
    )

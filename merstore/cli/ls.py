"""`merstore ls`: the views of a store, or the samples of a view."""

from itertools import islice
from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument, view_argument
from merstore.store.store import Store
from merstore.store.view import View

LINES = 1000  # printed in one go


@click.command("ls", short_help="views, or the samples of a view")
@store_argument
@view_argument
@click.option("-n", "limit", type=click.IntRange(min=0), help="At most this many lines.")
@console.as_json
def ls_(store: Path, view: str | None, limit: int | None, as_json: bool) -> None:
    """List the views of STORE, or the samples that VIEW has a tensor of, one to a line."""
    with open_store(store) as opened:
        if view is None:
            _views(opened, limit, as_json)
        else:
            _samples(find_view(opened, view), limit, as_json)


def _views(store: Store, limit: int | None, as_json: bool) -> None:
    records = {path: store[path].record for path in store.views()[:limit]}
    if as_json:
        console.json_out(
            [
                {
                    "view": path,
                    "entries": record.entries,
                    "failures": record.failures,
                    "dtype": record.dtype,
                    "shape": record.shape,
                    "bytes": record.nbytes,
                }
                for path, record in records.items()
            ]
        )
    elif not records:
        console.note("no views yet: `merstore import` and `merstore prewarm` make them")
    else:
        console.table(
            ["VIEW", "ENTRIES", "FAILED", "DTYPE", "SHAPE", "SIZE"],
            [
                [
                    path,
                    f"{record.entries:,}",
                    f"{record.failures:,}",
                    record.dtype,
                    console.shape(record.shape),
                    console.size(record.nbytes),
                ]
                for path, record in records.items()
            ],
            right="ENTRIES FAILED SIZE",
        )


def _samples(view: View, limit: int | None, as_json: bool) -> None:
    names = islice(view, limit)
    if as_json:
        console.json_out(list(names))
        return
    any_shown = False
    while chunk := list(islice(names, LINES)):
        click.echo("\n".join(chunk))
        any_shown = True
    if not any_shown and limit != 0:
        failed = view.record.failures
        console.note("no entries" + (f", {console.plural(failed, 'failure')}" if failed else ""))

"""`merstore compact`: rewrites the store without its dead bytes."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import open_store, store_argument


@click.command("compact", short_help="give the space of what was deleted back")
@store_argument
def compact_(store: Path) -> None:
    """Rewrite STORE without what was overwritten or deleted, and give the space back to the disk.

    Needs the store alone, and room beside it for a second copy of what is alive.
    """
    with open_store(store, "a") as opened:
        before = opened.stats()["file_bytes"]
        with console.progress("compacting", "B") as progress:
            opened.compact(progress=progress)
        after = opened.stats()["file_bytes"]
    saved = (
        f"{console.size(before - after)} given back" if after < before else "nothing to give back"
    )
    click.echo(f"{store}: {console.size(before)} -> {console.size(after)}, {saved}")

"""`merstore compact`: rewrites the store without its dead bytes."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import open_store, store_argument


@click.command("compact")
@store_argument
def compact_(store: Path) -> None:
    """Rewrite STORE without what was overwritten or deleted, and give the space back to the disk.

    Needs room beside the store for a second copy of what is alive, and nobody else writing.
    """
    file = store / "data.mdb"
    with open_store(store, "a") as opened:
        before = file.stat().st_size
        opened.compact()
        after = file.stat().st_size
    saved = f"{console.size(before - after)} given back" if after < before else "nothing to give back"
    click.echo(f"{store}: {console.size(before)} -> {console.size(after)}, {saved}")

"""The arguments and options that commands share, and how a store and a view are found from them."""

from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.store.store import Store
from merstore.store.view import View

store_argument = click.argument("store", type=click.Path(path_type=Path))
view_argument = click.argument("view", required=False)
force_option = click.option("--force", is_flag=True, help="Write even on a network filesystem.")
weights_option = click.option(
    "--weights",
    metavar="ENCODER=WHERE",
    multiple=True,
    callback=console.named,
    help="An encoder's folder or hub id.",
)
retry_option = click.option(
    "--retry-failed",
    "retry",
    metavar="KIND",
    multiple=True,
    help="Try failures of this kind again, or of all kinds: all. May be repeated.",
)


def open_store(path: Path, mode: str = "r", **how: Any) -> Store:
    """An existing store; unlike `merstore.open`, mode "a" does not make one."""
    import merstore

    if mode == "a":
        merstore.open(path, "r").close()  # says what is wrong with the path
    return merstore.open(path, mode, **how)


def find_view(store: Store, name: str) -> View:
    """A view by its path, or by its legacy folder name (with its dataset in front or without)."""
    if name in store:
        return store[name]
    dataset, _, folder = name.rpartition("/")
    if "/" in dataset:
        return store[name]  # raises UnknownView, with the nearest names
    return store[store.resolve(folder, dataset or None)]

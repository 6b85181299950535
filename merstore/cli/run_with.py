"""`merstore run-with`: an unchanged program that reads from a store."""

import os
import shutil
import sys
from pathlib import Path

import click

from merstore.cli.opening import open_store, store_argument


@click.command(
    "run-with",
    short_help="a program that reads .npy files, unchanged, from a store",
)
@store_argument
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of feature folders, or above them, that the store stands for (need not exist). Can be given several "
    "times. Default: the customary folders of the datasets in STORE (mer2023-dataset-process/features ...).",
)
@click.option("--dataset", help="The dataset of what lies in no dataset's folder.")
@click.option(
    "--on-miss",
    type=click.Choice(["raise", "mask"]),
    default="raise",
    show_default=True,
    help="What MERTools' reader does about a sample that is nowhere: fail, or read one row of zeros.",
)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_with_(
    store: Path,
    roots: tuple[Path, ...],
    dataset: str | None,
    on_miss: str,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND with the features of STORE in the place of .npy files:

    \b
        merstore run-with features.mer -- python main-release.py --dataset=MER2023 ...

    In COMMAND and every Python that it starts, np.load, np.save, os.listdir and os.path.exists see the
    store where feature folders would be, and MERTools' reader and datasets are replaced by faster ones
    that give the same batches. Everything else is untouched: exit code, input and output are COMMAND's.
    """
    from merstore.interop.switch import environment

    open_store(store).close()
    program = shutil.which(command[0])
    if program is None:
        raise click.UsageError(f"{command[0]}: no such program")
    os.environ.update(environment(store, roots or None, dataset, on_miss))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, command)  # does not return

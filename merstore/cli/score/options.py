"""What the commands that score take; `merstore report` takes it too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

path_type = click.Path(path_type=Path)
_Decorator = Callable[[Any], Any]


def given(*options: _Decorator) -> _Decorator:
    """Predictions, with these options, and those of the bootstrap."""

    def add(command: Any) -> Any:
        for option in reversed((_predictions, *options[:-1], _bootstrap, _seed, options[-1])):
            command = option(command)
        return command

    return add


_predictions = click.argument("predictions", metavar="PRED...", nargs=-1, required=True)
_bootstrap = click.option(
    "--bootstrap", is_flag=True, help="95 % intervals, and comparisons with the best."
)
_seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --bootstrap."
)
_truth = click.option(
    "--truth", type=path_type, required=True, help="Names with the true labels, a file as PRED is."
)
_tables = click.option(
    "--tables",
    type=path_type,
    required=True,
    help="The folder of word tables, emotion_wheel (OV-MER's or MER2026's).",
)
_missing = click.option(
    "--missing",
    type=click.Choice(["error", "empty"]),
    default="error",
    show_default=True,
    help="What a name without a prediction is; empty: an answer without labels.",
)
_store = click.option(
    "--store",
    type=path_type,
    help="A PRED that is no file is a view of texts in this store: a run's.",
)
_groups = click.option(
    "--groups",
    type=path_type,
    required=True,
    help="Groups of words of one meaning: MER2024's openset-synonym.zip, or its folder.",
)
_rows = click.option(
    "--truth",
    required=True,
    help="csv, tsv or jsonl with name, discrete (or emo, emotion, label) and, if known, valence "
    "(or val); or FILE.npz#ARRAY of a label file, such as label-6way.npz#test1_corpus.",
)
_labels = click.option(
    "--labels",
    type=path_type,
    required=True,
    help="The folder that holds the corpora's folders with their label files.",
)

OPENSET = (_truth, _tables, _missing, _store)
GROUPED = (_truth, _groups, _missing, _store)
CLASSES = (_rows, _missing)
UNIBENCH = (_labels, _tables, _missing)

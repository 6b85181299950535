"""`merstore score`: what predictions are worth, by the field's metrics."""

import click

from merstore.cli.score.classes import classification_
from merstore.cli.score.openset import mer2024_ov_, mer2025_, ov_
from merstore.cli.score.submission import submission_
from merstore.cli.score.unibench import merunibench_


@click.group("score", short_help="score predictions by the field's metrics")
def score_() -> None:
    """Score predictions by the metrics of the field, to their last digit.

    PRED is a file of names with answers: npz (filenames and fileitems, as *-openset.npz, or
    name2reason), csv, tsv or jsonl; or a folder, of which all *-openset.npz, csv, tsv and jsonl
    files are scored and ranked. A name without a prediction is an error.
    """


for command in (ov_, mer2025_, mer2024_ov_, classification_, merunibench_, submission_):
    score_.add_command(command)

"""`merstore score submission`: files to hand in."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.score.options import path_type
from merstore.cli.score.scoring import note_descriptions
from merstore.score.files import read_answers, read_rows
from merstore.score.submission import write_classes, write_openset


@click.group("submission", short_help="write checked files to hand in")
def submission_() -> None:
    """Write the files that challenges take. Names are complete, none is there twice, and nothing in
    them is pickled; a file that is there already stays as it is.
    """


_candidates = click.option(
    "--names", type=path_type, required=True, help="The candidates: a csv with a column name."
)
_out = click.argument("out", type=path_type)


@submission_.command("openset", short_help="MER2025's track 2: *-openset.npz")
@click.argument("prediction", metavar="PRED", type=path_type)
@_out
@_candidates
def openset_(prediction: Path, out: Path, names: Path) -> None:
    """Write the labels of PRED as OUT, which must be called *-openset.npz."""
    candidates = list(read_rows(str(names)))
    answers = read_answers(prediction)
    note_descriptions(str(prediction), answers)
    write_openset(out, answers.by_name, candidates)
    console.note(f"{out}: {console.plural(len(candidates), 'sample')}")


@submission_.command("classes", short_help="MER2023's and MER2025's csv")
@click.argument("prediction", metavar="PRED")
@_out
@_candidates
@click.option("--valence", is_flag=True, help="With the column valence, which MER2023 wants.")
def classes_(prediction: str, out: Path, names: Path, valence: bool) -> None:
    """Write name and discrete (and valence) of PRED, a csv, tsv or jsonl with these columns, as OUT."""
    candidates = list(read_rows(str(names)))
    rows = read_rows(prediction)
    write_classes(
        out,
        {name: row.get("discrete", "") for name, row in rows.items()},
        candidates,
        {name: row.get("valence", "") for name, row in rows.items()} if valence else None,
    )
    console.note(f"{out}: {console.plural(len(candidates), 'sample')}")

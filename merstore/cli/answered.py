"""How the commands that have samples answered tell what became of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console

if TYPE_CHECKING:
    from merstore.run.answering import Counts

SHOWN = 10  # samples named of each kind of trouble


def print_answered(
    store: Path,
    reports: "Sequence[Counts]",
    files: Sequence[Path],
    shown: str,
    lacking: str,
    also: Callable[[Any], None] | None = None,
) -> None:
    """shown: what the model is shown of a sample. lacking: what to say where a modality is not in the
    store. also: prints what else a report has.
    """
    for report in reports:
        told = [f"{report.answered:,} answered"]
        told += [f"{report.elsewhere:,} by others meanwhile"] if report.elsewhere else []
        told += [f"{report.present:,} there already"] if report.present else []
        told += [f"{report.known_failures:,} failed before"] if report.known_failures else []
        told += [f"{report.failures:,} failed"] if report.failures else []
        told += [f"{report.without:,} without {shown}"] if report.without else []
        click.echo(f"{report.view}: {', '.join(told)}")
        if report.answered:
            rate = console.number(report.answered / report.seconds)
            waited = report.waiting / report.seconds
            click.echo(
                f"  {console.duration(report.seconds)}, {rate} answers/s; waiting for {shown} {waited:.1%}"
            )
        if also is not None:
            also(report)
        console.listing("  as long as an answer may be, and not ended", report.endless, SHOWN)
        for kind, names in sorted(report.failed.items()):
            console.listing(f"  {kind}", names, SHOWN)
        for modality, names in sorted(report.lacking.items()):
            console.listing(f"  no {modality} in the store, and {lacking}", names, SHOWN)
    for path in files:
        click.echo(f"written: {path}")
    if any(path.suffix == ".npz" for path in files):
        console.note(
            "name2reason is a pickled dictionary, the format of the published scripts; --format csv "
            "or jsonl has none"
        )
    if any(report.failed or report.known_failures for report in reports):
        click.echo(f"merstore failures {store} lists all and why")

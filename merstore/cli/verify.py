"""`merstore verify`: reads everything and checks it."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import open_store, store_argument


@click.command("verify")
@store_argument
@console.as_json
def verify_(store: Path, as_json: bool) -> int:
    """Read every block of STORE and check it: checksums, headers, index and counters.

    Exits with 1 and names what is damaged where something is. Nothing is changed.
    """
    with open_store(store) as opened:
        with console.progress("verifying", "entries") as progress:
            problems = opened.verify(progress=progress)
        entries = sum(len(opened[path]) for path in opened.views())
    if as_json:
        console.json_out({"entries": entries, "problems": [p._asdict() for p in problems]})
    elif problems:
        console.table(
            ["VIEW", "SAMPLE", "KIND", "PROBLEM"],
            [[p.view or "-", p.name or "-", p.kind, p.message] for p in problems],
        )
        console.note(f"{console.plural(len(problems), 'problem')} in {store}")
    else:
        click.echo(f"{store}: {console.plural(entries, 'entry', 'entries')} checked, no problems")
    return 1 if problems else 0

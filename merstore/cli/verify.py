"""`merstore verify`: reads everything and checks it."""

from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import open_store, store_argument


@click.command("verify", short_help="read everything and check it")
@store_argument
@console.as_json
def verify_(store: Path, as_json: bool) -> int:
    """Read every entry of STORE and check it: checksums, headers, index and counters.

    Exits with 1 and names what is damaged where something is. Nothing is changed.
    """
    with open_store(store) as opened:
        with console.progress("verifying", "B") as progress:
            problems = opened.verify(progress=progress)
        stats = opened.stats()
    checked = f"{console.plural(stats['entries'], 'entry', 'entries')}"
    if as_json:
        found = [problem._asdict() for problem in problems]
        console.json_out(
            {"entries": stats["entries"], "bytes": stats["payload_bytes"], "problems": found}
        )
    elif problems:
        console.table(
            ["VIEW", "SAMPLE", "KIND", "PROBLEM"],
            [[p.view or "-", p.name or "-", p.kind, p.message] for p in problems],
        )
        console.note(f"{console.plural(len(problems), 'problem')} in {store} ({checked} checked)")
    else:
        click.echo(
            f"{store}: {checked} ({console.size(stats['payload_bytes'])}) checked, no problems"
        )
    return 1 if problems else 0

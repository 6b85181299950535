"""How the commands speak: aligned text or JSON on stdout; progress, notes and errors on stderr.

Nothing is ever wrapped or cut to the width of a terminal, so that output may be piped into a file.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Progress(Protocol):
    """What long operations report to: how many are done, of how many, how many of them failed."""

    def __call__(self, done: int, total: int, failed: int = 0) -> None: ...


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Prints aligned columns. `right` names the columns (by header) that are flush right."""
    from rich.cells import cell_len  # East Asian names are two cells a character

    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    flush = [name in right.split() for name in header]
    for number, line in enumerate(lines):
        padded = (
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(line, widths, flush, strict=True)
        )
        click.secho("  ".join(padded).rstrip(), bold=True if number == 0 else None)


def fields(pairs: Mapping[str, object]) -> None:
    """Prints `name  value` lines with the values aligned; what is None is left out."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        if value is not None:
            click.echo(f"{name:<{width}}  {value}")


def json_out(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def note(message: str) -> None:
    """Something a person should know that is not the result: to stderr."""
    click.echo(message, err=True)


def error(message: str) -> None:
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def size(n: float) -> str:
    """Bytes for people: `512 B`, `1.4 MiB`."""
    if n < 1024:
        return f"{n:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n /= 1024
        if n < 1000:
            return f"{n:.3g} {unit}" if n < 100 else f"{n:.0f} {unit}"
    return f"{n / 1024:.3g} TiB"


def duration(seconds: float) -> str:
    """A time span for people: `0.42 s`, `3 min 20 s`, `2 h 05 min`, `3 days`."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // (24 * 60)} days"


def shape(dims: Sequence[int | None]) -> str:
    """`8x768`; the size that varies from entry to entry is `T`."""
    return "x".join("T" if dim is None else str(dim) for dim in dims)


@contextmanager
def progress(label: str, unit: str) -> Iterator[Progress]:
    """A bar on stderr with rate and time left; where stderr is no terminal, nothing at all."""
    if not sys.stderr.isatty():
        yield lambda done, total, failed=0: None
        return

    from rich import progress as bar
    from rich.console import Console

    class Rate(bar.ProgressColumn):
        def render(self, task: bar.Task) -> Any:
            return f"{task.speed:,.0f} {unit}/s" if task.speed and task.speed >= 10 else (
                f"{task.speed:.2g} {unit}/s" if task.speed else ""
            )

    columns = (
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.MofNCompleteColumn(),
        Rate(),
        bar.TimeRemainingColumn(compact=True),
        bar.TextColumn("{task.fields[failed]}"),
    )
    with bar.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None, failed="")

        def report(done: int, total: int, failed: int = 0) -> None:
            told = f"{failed:,} failed" if failed else ""
            shown.update(task, completed=done, total=total, failed=told)

        yield report

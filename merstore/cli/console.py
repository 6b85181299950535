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


def named(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """An option's callback: what is given as ``NAME=VALUE``, any number of times, by name."""
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise click.BadParameter(f"{text!r}: write {option.make_metavar(context)}")
        found[name] = value
    return found


class Progress(Protocol):
    """What long operations report to: how much is done, of how much, and a few words beside it."""

    def __call__(self, done: int, total: int, told: str = "") -> None: ...


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Prints aligned columns. `right` names the columns (by header) that are flush right."""
    from rich.cells import cell_len  # East Asian names are two cells a character

    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    flush = [name in right.split() for name in header]
    for number, line in enumerate(lines):
        padded = (
            " " * (width - cell_len(cell)) + cell
            if to_right
            else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(line, widths, flush, strict=True)
        )
        click.secho("  ".join(padded).rstrip(), bold=True if number == 0 else None)


def fields(pairs: Mapping[str, object]) -> None:
    """Prints `name  value` lines with the values aligned; what is None is left out."""
    told = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, told))
    for name, value in told.items():
        click.echo(f"{name:<{width}}  {value}")


def json_out(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def note(message: str) -> None:
    """Something a person should know that is not the result: to stderr."""
    click.echo(message, err=True)


def error(message: str) -> None:
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)


def listing(title: str, lines: Sequence[str], shown: int) -> None:
    """Prints up to `shown` of the lines under a title that counts them all; nothing if there are none."""
    if lines:
        click.echo(f"{title} ({len(lines):,}):")
        for line in lines[:shown]:
            click.echo(f"  {line}")
        if len(lines) > shown:
            click.echo(f"  and {len(lines) - shown:,} more (--json lists them all)")


def rate(count: int, what: str, nbytes: int, seconds: float) -> str:
    """` in 12 s (840 files/s, 3.3 MiB/s)`; empty where nothing was done."""
    if not count or seconds <= 0:
        return ""
    speed = f"{number(count / seconds)} {what}/s, {size(nbytes / seconds)}/s"
    return f" in {duration(seconds)} ({speed})"


def number(n: float) -> str:
    """A measured number, to as many digits as are worth printing: `1.2`, `840`, `3,220,000`."""
    if n < 10:
        return f"{n:.2g}"
    digits = max(0, len(str(int(n))) - 3)
    return f"{round(n, -digits):,.0f}"


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
    """A bar on stderr with rate and time left; where stderr is no terminal, nothing at all.

    `unit` is what is counted, such as "clips"; "B" stands for bytes and is shown as sizes.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, told="": None
        return

    from rich import progress as bar
    from rich.console import Console

    def amount(n: float) -> str:
        return size(n) if unit == "B" else f"{n:,.0f}"

    class Done(bar.ProgressColumn):
        def render(self, task: bar.Task) -> str:
            of = "" if task.total is None else f"/{amount(task.total)}"
            return f"{amount(task.completed)}{of}" + ("" if unit == "B" else f" {unit}")

    class Rate(bar.ProgressColumn):
        def render(self, task: bar.Task) -> str:
            if not task.speed:
                return ""
            return f"{size(task.speed) if unit == 'B' else number(task.speed)}/s"

    told_column = bar.TextColumn("{task.fields[told]}")
    columns = (bar.TextColumn("{task.description}"), bar.BarColumn(), Done(), Rate())
    shown = bar.Progress(
        *columns,
        bar.TimeRemainingColumn(),
        told_column,
        console=Console(stderr=True),
        transient=True,
    )
    with shown:
        task = shown.add_task(label, total=None, told="")

        def report(done: int, total: int, told: str = "") -> None:
            shown.update(task, completed=done, total=total, told=told)

        yield report

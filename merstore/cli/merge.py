"""`merstore merge`: joins the stores that the shards of a run have filled."""

from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.opening import force_option
from merstore.errors import MergeConflict, MerstoreError, NotAStore
from merstore.fill.shards import Shard
from merstore.store.merge import MergeReport, merge

SHOWN = 10  # samples named of each kind of trouble; --json has them all


@click.command("merge", short_help="join the shards of a store, or any stores")
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("shards", metavar="[SHARD]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--keep",
    is_flag=True,
    help="Where entries differ, keep TARGET's, else the first SHARD's, instead of refusing.",
)
@force_option
@console.as_json
def merge_(target: Path, shards: tuple[Path, ...], keep: bool, force: bool, as_json: bool) -> int:
    """Copy what the SHARDs hold into TARGET, which is made if it is not there.

    A SHARD is any store; without one, those that `merstore prewarm --shard` left in TARGET.shards are
    meant, all of them. Entries are copied as they are. A sample that several hold alike is copied
    once; where they differ, nothing is merged unless --keep says whose to keep. Interrupted, the same
    command goes on. The SHARDs are not changed.

    Exits with 1 where entries differ, or are damaged and were left out.
    """
    import merstore

    sources = list(shards) or _own(target)
    for source in sources:  # before a target is made
        merstore.open(source).close()
    try:
        with (
            merstore.open(target, "a", force=force) as opened,
            console.progress("merging", "B") as bar,
        ):
            report = merge(opened, sources, "keep" if keep else "raise", bar)
    except MergeConflict as refused:
        if not as_json:
            console.listing("different entries", list(map(str, refused.conflicts)), SHOWN)
            raise
        console.json_out({"views": [], "conflicts": [each._asdict() for each in refused.conflicts]})
        return 1
    if as_json:
        console.json_out(_summary(report))
    else:
        _print(target, report, len(sources))
    return 1 if report.damaged or (report.conflicts and not keep) else 0


def _own(target: Path) -> list[Path]:
    found = Shard.all(target)
    if not found.paths:
        example = Shard(0, 2).path(target)
        raise NotAStore(
            f"{target} has no shards: name the stores to be joined, or fill some with "
            f"`merstore prewarm --shard i/n`, which leaves them as {example}"
        )
    if found.missing:
        shown = ", ".join(map(str, found.missing[:SHOWN]))
        more = f" and {len(found.missing) - SHOWN} more" if len(found.missing) > SHOWN else ""
        raise MerstoreError(
            f"{target}: shards {shown}{more} are not there: fill them with `merstore prewarm --shard`, or name "
            "those that are to be joined without them"
        )
    return found.paths


def _summary(report: MergeReport) -> dict[str, Any]:
    views = [
        {
            "view": view.view,
            "added": view.added,
            "failures": view.failures,
            "present": view.present,
            "bytes": view.bytes,
        }
        for view in report.views
    ]
    return {
        "views": views,
        "notes": report.notes,
        "seconds": report.seconds,
        "conflicts": [each._asdict() for each in report.conflicts],
        "damaged": [each._asdict() for each in report.damaged],
    }


def _print(target: Path, report: MergeReport, sources: int) -> None:
    if report.views:
        console.table(
            ["VIEW", "ADDED", "FAILURES", "PRESENT", "SIZE"],
            [
                [
                    view.view,
                    f"{view.added:,}",
                    f"{view.failures:,}",
                    f"{view.present:,}",
                    console.size(view.bytes),
                ]
                for view in report.views
            ],
            right="ADDED FAILURES PRESENT SIZE",
        )
    console.listing("different entries, the first kept", list(map(str, report.conflicts)), SHOWN)
    console.listing(
        "damaged, left out",
        [f"{each.view}/{each.name} in {each.store}: {each.message}" for each in report.damaged],
        SHOWN,
    )
    rate = console.rate(report.added, "entries", report.bytes, report.seconds)
    added = console.plural(report.added, "entry", "entries")
    click.echo(f"{target}: {added} of {console.plural(sources, 'store')} added{rate}")

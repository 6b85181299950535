"""`merstore failures`: which samples have no tensor, why, and what is odd about the others."""

from datetime import datetime
from pathlib import Path

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument, view_argument
from merstore.quality import DUPLICATE, FLAGS
from merstore.store import quality
from merstore.store.entry import Failure
from merstore.store.quality import Qualities


@click.command("failures", short_help="samples that could not be computed, and odd ones")
@store_argument
@view_argument
@click.option("--kind", help="Only failures of this kind, such as no_face or decode_error.")
@click.option("--flag", help="Instead, the samples with this flag, such as silent or duplicate.")
@console.as_json
def failures_(
    store: Path, view: str | None, kind: str | None, flag: str | None, as_json: bool
) -> None:
    """List the samples of VIEW, or of all views, that could not be computed, and why; and how many
    samples of its dataset have something odd about them.

    Failures are tried again by `merstore prewarm --retry-failed KIND`. Odd samples have their
    features, and are left out of a dataset by FeatureDataset(..., exclude={FLAG}).
    """
    if kind and flag:
        raise click.UsageError(
            "--kind is of failures, --flag of samples that did not fail: one of both"
        )
    with open_store(store) as opened:
        found_view = find_view(opened, view) if view else None
        views = [found_view.path] if found_view else opened.views()
        recorded = quality.datasets(opened)
        if flag:  # asked of a dataset without records, Store.quality says so
            wanted = {found_view.dataset} if found_view else set(recorded or _datasets(views))
        else:
            wanted = set() if kind else {*recorded} & _datasets(views)
        odd = [opened.quality(dataset) for dataset in sorted(wanted)]
        if flag:
            _flagged(odd, flag, as_json)
            return
        found = [(path, failure) for path in views for failure in opened.failures(path, kind=kind)]
    if as_json:
        counts = [
            {"dataset": each.dataset, "flag": name, "samples": count}
            for each in odd
            for name, count in each.counts().items()
        ]
        listed = [{"view": path, **failure._asdict()} for path, failure in found]
        console.json_out({"failures": listed, "quality": counts})
        return
    if found:
        _failures(found, with_view=len(views) > 1)
    else:
        console.note("no failures" + (f" of kind {kind}" if kind else ""))
    _counts(odd, gap=bool(found))


def _datasets(views: list[str]) -> set[str]:
    return {path.partition("/")[0] for path in views}


def _failures(found: list[tuple[str, Failure]], with_view: bool) -> None:
    console.table(
        [*(["VIEW"] if with_view else []), "SAMPLE", "KIND", "TRIED", "LAST", "MESSAGE"],
        [
            [
                *([path] if with_view else []),
                failure.name,
                failure.kind,
                str(failure.attempts),
                f"{datetime.fromtimestamp(failure.time):%Y-%m-%d %H:%M}",
                " ".join(failure.message.split()),
            ]
            for path, failure in found
        ],
        right="TRIED",
    )


def _counts(odd: list[Qualities], gap: bool) -> None:
    meaning = {**FLAGS, DUPLICATE: "another sample, before it by name, has the same clip"}
    rows = [
        [each.dataset, flag, str(count), meaning.get(flag, "")]
        for each in odd
        for flag, count in each.counts().items()
    ]
    if rows:
        click.echo("\n" if gap else "", nl=False)
        console.table(["DATASET", "FLAG", "SAMPLES", "MEANING"], rows, right="SAMPLES")


def _flagged(odd: list[Qualities], flag: str, as_json: bool) -> None:
    knowing = [each for each in odd if flag in each.known()] or odd
    found = [(each, name) for each in knowing for name in each.names(flag)]
    if as_json:
        records = [
            {
                "dataset": each.dataset,
                "name": name,
                "quality": {medium: record._asdict() for medium, record in each[name].items()},
            }
            for each, name in found
        ]
        console.json_out(records)
    elif not found:
        console.note(f"no samples with flag {flag}")
    elif len(odd) > 1:
        console.table(["DATASET", "SAMPLE"], [[each.dataset, name] for each, name in found])
    else:
        for _, name in found:
            click.echo(name)

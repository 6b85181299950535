"""A page about a run: what was answered, of what features, how fast, why not, and the answers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merstore import pages
from merstore.fill.report import Group
from merstore.run import answers
from merstore.run.inference.report import Report
from merstore.store.store import Store

SHOWN = 200  # samples of each dataset with their answers, evenly spread
DRAWN = 12  # datasets and checkpoints in a picture
_LASTED = (
    ("generating", pages.BLUE),
    ("projecting", pages.GREEN),
    ("waiting for features", pages.ORANGE),
    ("everything else", pages.GREY),
)
_WORK = (
    ("load", pages.GREY),
    ("encode", pages.ORANGE),
    ("project", pages.GREEN),
    ("generate", pages.BLUE),
)


@dataclass
class _Facts:
    """One dataset with one checkpoint: ``given`` answers by sample, and what they come from."""

    report: Report
    spec: dict[str, Any]
    given: dict[str, answers.Stored]
    failed: list[Group]
    features: list[dict[str, Any]]

    @property
    def answers(self) -> int:
        return len(self.given)

    @property
    def failures(self) -> int:
        return sum(group.count for group in self.failed)

    @property
    def cut(self) -> int:
        return sum(bool(answer.cut) for answer in self.given.values())

    @property
    def endless(self) -> int:
        return sum(not answer.ended for answer in self.given.values())

    @property
    def tokens(self) -> float | None:
        """Of an answer, in the mean."""
        return (
            sum(each.tokens for each in self.given.values()) / len(self.given)
            if self.given
            else None
        )

    @property
    def rate(self) -> float | None:
        report = self.report
        return report.answered / report.seconds if report.answered else None


def write_page(
    path: "str | os.PathLike[str]",
    store: Store,
    reports: Sequence[Report],
    names: Mapping[str, Sequence[str]],
) -> None:
    """Write the page of a run. names: the samples of each dataset.

    Raises MerstoreError where it cannot be written, or jinja2 or matplotlib are not installed.
    """
    runs = [_facts(store, report, list(names[report.dataset])) for report in reports]
    text = pages.render(
        __package__,
        "run.html",
        store=str(store.path),
        runs=runs,
        failed=[group for run in runs for group in [*run.failed, *_lacking(run.report)]],
        plots=list(_plots([report for report in reports if report.answered])),
        shown=list(_shown(runs, names)),
    )
    pages.write(path, text)


def _facts(store: Store, report: Report, names: list[str]) -> _Facts:
    view = store[report.view]
    asked = set(names)
    failed: dict[str, Group] = {}
    for failure in view.failures():
        if failure.name in asked:
            group = failed.setdefault(failure.kind, Group(_where(report), failure.kind))
            group.add(failure.name, failure.message)
    features = [
        {
            "modality": modality,
            **source,
            "computed": report.computed.get(modality, 0),
            "stored": report.fetched.get(modality, 0) - report.computed.get(modality, 0),
        }
        for modality, source in view.spec["features"].items()
    ]
    order = sorted(failed.values(), key=lambda group: (-group.count, group.kind))
    return _Facts(report, view.spec, answers.read(view, names), order, features)


def _where(report: Report) -> str:
    return f"{report.dataset}, {report.checkpoint}"


def _lacking(report: Report) -> Iterator[Group]:
    """Samples without features are no failures that are on record; by modality."""
    for modality, names in report.lacking.items():
        group = Group(_where(report), f"no features of {modality}")
        for name in sorted(names):
            group.add(name)
        yield group


def _shown(
    runs: Sequence[_Facts], names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[_Facts, str, answers.Stored]]:
    """Some samples of each dataset, with the answers of all checkpoints side by side."""
    for dataset in dict.fromkeys(run.report.dataset for run in runs):
        these = [run for run in runs if run.report.dataset == dataset]
        have = [name for name in names[dataset] if any(name in run.given for run in these)]
        for name in have[:: max(1, -(-len(have) // SHOWN))]:
            for run in these:
                if name in run.given:
                    yield run, name, run.given[name]


# -- pictures


def _plots(reports: Sequence[Report]) -> Iterator[tuple[str, str, Any]]:
    if not reports:
        return
    most = f" The first {DRAWN}." if len(reports) > DRAWN else ""
    for title, told, unit, bars in (
        (
            "What the run took",
            "Everything else: reading the model, committing answers.",
            "seconds",
            [_lasted(report) for report in reports],
        ),
        (
            "Work for an answer",
            "Means of new answers. Loading and encoding go on beside projecting and generating.",
            "ms an answer",
            [_work(report) for report in reports],
        ),
    ):
        words = "; ".join(
            f"{_where(report)}: " + ", ".join(f"{part} {value:.4g}" for part, value in bar.items())
            for report, bar in zip(reports, bars, strict=True)
        )
        drawn = pages.picture(
            f"{title}, {unit}. {words}.", _bars, _labels(reports)[:DRAWN], bars[:DRAWN], unit
        )
        yield title, told + most, drawn


def _lasted(report: Report) -> dict[str, float]:
    """Seconds that make up all that it lasted."""
    rest = max(0.0, report.seconds - report.generating - report.waiting)
    generating = report.generating - report.projecting
    seconds = (generating, report.projecting, report.waiting, rest)
    return {part: each for (part, _), each in zip(_LASTED, seconds, strict=True)}


def _work(report: Report) -> dict[str, float]:
    """Milliseconds for each new answer."""
    generating = report.generating - report.projecting
    seconds = (report.loading, report.filling, report.projecting, generating)
    each = 1000 / report.answered
    return {part: each * took for (part, _), took in zip(_WORK, seconds, strict=True)}


def _labels(reports: Sequence[Report]) -> list[str]:
    """Dataset and checkpoint, or what of them differs."""
    one_set = len({report.dataset for report in reports}) == 1
    one_checkpoint = len({report.checkpoint for report in reports}) == 1
    told = [
        [report.checkpoint]
        if one_set
        else [report.dataset] + [report.checkpoint] * (not one_checkpoint)
        for report in reports
    ]
    return ["\n".join(map(pages.plain, lines)) for lines in told]


def _bars(axes: Any, labels: Sequence[str], bars: Sequence[dict[str, float]], unit: str) -> None:
    left = [0.0] * len(bars)
    colours = dict((*_LASTED, *_WORK))
    places = range(len(bars))
    for part in bars[0]:
        widths = [bar[part] for bar in bars]
        axes.barh(places, widths, left=left, color=colours[part], label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(places, labels, fontsize=7)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=unit)
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)

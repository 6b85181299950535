"""A page about a run: what was answered, of what features, how fast, why not, and the answers."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from merstore import pages
from merstore.run.inference import answers
from merstore.run.inference.report import Report
from merstore.store.store import Store

SHOWN = 200  # answers of each dataset and checkpoint, evenly spread
_PARTS = (
    ("generating", pages.BLUE),
    ("waiting for features", pages.ORANGE),
    ("everything else", pages.GREY),
)


def write_page(
    path: "str | os.PathLike[str]",
    store: Store,
    reports: Sequence[Report],
    names: Mapping[str, Sequence[str]],
) -> None:
    """Write the page of a run. names: the samples of each dataset.

    Raises MerstoreError where it cannot be written, or jinja2 or matplotlib are not installed.
    """
    text = pages.render(
        __package__,
        "run.html",
        store=str(store.path),
        date=time.strftime("%Y-%m-%d %H:%M"),
        runs=[_facts(store, report, list(names[report.dataset])) for report in reports],
        plot=pages.svg(_draw_times, reports) if any(report.answered for report in reports) else "",
    )
    pages.write(path, text)


def _facts(store: Store, report: Report, names: list[str]) -> dict[str, Any]:
    view = store[report.view]
    failures = view.failures()
    asked = set(names)
    failed = Counter(failure.kind for failure in failures if failure.name in asked)
    found = answers.read(view, names)
    step = max(1, -(-len(found) // SHOWN))
    features = [
        {
            "modality": modality,
            **source,
            "computed": report.computed.get(modality, 0),
            "stored": report.fetched.get(modality, 0) - report.computed.get(modality, 0),
        }
        for modality, source in view.spec["features"].items()
    ]
    return {
        "report": report,
        "spec": view.spec,
        "answers": len(found),
        "failed": sorted(failed.items(), key=lambda pair: -pair[1]),
        "features": features,
        "rate": report.answered / report.seconds if report.answered else None,
        "tokens": sum(answer.tokens for answer in found.values()) / len(found) if found else 0.0,
        "shown": list(found.items())[::step],
    }


def _draw_times(axes: Any, reports: Sequence[Report]) -> None:
    labels = [f"{report.dataset}\n{report.checkpoint}" for report in reports]
    left = [0.0] * len(reports)
    for part, colour in _PARTS:
        widths = [_times(report)[part] for report in reports]
        axes.barh(labels, widths, left=left, color=colour, label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend()


def _times(report: Report) -> dict[str, float]:
    rest = max(0.0, report.seconds - report.generating - report.waiting)
    seconds = (report.generating, report.waiting, rest)
    return {part: each for (part, _), each in zip(_PARTS, seconds, strict=True)}

"""What a prewarm has done, as one HTML page: from the store as it is, and the log of the runs."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from merstore import _core, machine, pages
from merstore.errors import UnknownView
from merstore.fill.log import read_log
from merstore.quality import DUPLICATE, FLAGS
from merstore.store.entry import unpack_failure
from merstore.store.store import Store
from merstore.store.view import View

SHOWN = 50  # names of each kind of failure, and of each flag
POINTS = 240  # of a run's line in a plot
LINES = 8  # runs that are drawn, the latest

_NONFINITE = "holds NaN or infinity (the profile admits them)"
_ZERO_ROW = "has a row of zeros, which the profile asks for or the encoder gave"
_DUPLICATE = "a sample before it, by name, has the same clip"


@dataclass
class Coverage:
    """One view: of ``samples`` that are wanted so many have an entry, a failure record, or neither.

    ``bytes``: of payload. ``spec``: what the view is. ``failed``: by kind.
    """

    view: str
    dtype: str
    shape: tuple[int | None, ...]
    samples: int
    entries: int
    failures: int
    missing: int
    bytes: int
    spec: dict[str, Any]
    failed: "list[Group]" = field(default_factory=list)


class Named(NamedTuple):
    """A sample, and what is to be said of it."""

    name: str
    message: str = ""


@dataclass
class Group:
    """Samples that have something in common, a kind of failure or a flag: how many, and the first of
    them by name. ``where``: view or dataset.
    """

    where: str
    kind: str
    meaning: str = ""
    count: int = 0
    shown: list[Named] = field(default_factory=list)

    def add(self, name: str, message: str = "") -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(Named(name, message))


class Rate(NamedTuple):
    """A stretch of a run that ended ``seconds`` after its beginning: entries a second, and the shares
    of the time, 0 to 1, in which the encoder was at work and in which reading was waited for, where
    they are known.
    """

    seconds: float
    entries: float
    encode: float | None
    decode: float | None


@dataclass
class PastRun:
    """One process's run, by its events in the log."""

    began: str
    seconds: float = 0.0
    done: int = 0
    failed: int = 0
    ended: bool = False
    shard: str | None = None
    rates: list[Rate] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass
class RunFacts:
    """All that the page tells; see `facts_of`."""

    store: str
    date: str
    views: list[Coverage]
    flags: list[Group] = field(default_factory=list)
    runs: list[PastRun] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[Group]:
        return [group for view in self.views for group in view.failed]


def facts_of(
    store: Store,
    views: Iterable[str],
    log: "str | os.PathLike[str] | None" = None,
    names: Sequence[str] | None = None,
) -> RunFacts:
    """What the views, by path, hold now, and what the log, if there is one, tells of the runs.

    names: the samples that were wanted. Without them the log's last plan says how many those were;
    without a log they are all that any of the views of the same dataset has an entry or a failure
    record of.

    Raises UnknownView; MerstoreError where the log cannot be read.
    """
    opened = [store[path] for path in dict.fromkeys(views)]
    events = read_log(log) if log is not None else []
    plans = [event for event in events if event["event"] == "plan"]
    scanned = [_Scan(view, _planned(plans, view.path)) for view in opened]
    flags = [group for scan in scanned for group in scan.flags]
    for dataset in dict.fromkeys(view.dataset for view in opened):
        flags += _quality(store, dataset)
    last = plans[-1] if plans else {}
    return RunFacts(
        str(store.path),
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        [scan.coverage(names, scanned) for scan in scanned],
        flags,
        _runs(events),
        _mapping(last.get("settings")),
        _mapping(last.get("machine")) or machine.describe(store.path),
    )


def write_report(path: "str | os.PathLike[str]", facts: RunFacts) -> None:
    """Write the page, whole or not at all.

    Raises MerstoreError where jinja2 or matplotlib are not installed, or the file cannot be written.
    """
    pages.write(path, html(facts))


def html(facts: RunFacts) -> str:
    """Raises MerstoreError where jinja2 or matplotlib are not installed."""
    return pages.render(
        "merstore.fill",
        "report.html",
        facts=facts,
        plots=list(_plots(facts)),
    )


# -- from the store


class _Scan:
    """One walk over a view's index."""

    def __init__(self, view: View, plan: Mapping[str, Any] | None) -> None:
        self.view = view
        self.plan = plan
        self.names: set[str] = set()
        self.newer = 0  # than the plan
        failed: dict[str, Group] = {}
        flagged = {
            _core.NONFINITE: Group(view.path, "nonfinite", _NONFINITE),
            _core.ZERO_ROW: Group(view.path, "zero_row", _ZERO_ROW),
        }
        planned = plan["time"] if plan else math.inf
        for key, value in view._scan():
            name = key.decode()
            self.names.add(name)
            self.newer += int.from_bytes(value[8:16], "little", signed=True) >= planned
            failure = unpack_failure(name, value)
            if failure is not None:
                group = failed.setdefault(failure.kind, Group(view.path, failure.kind))
                group.add(name, failure.message)
            elif value[3]:
                for flag, group in flagged.items():
                    if value[3] & flag:
                        group.add(name)
        self.failed = sorted(failed.values(), key=lambda group: (-group.count, group.kind))
        self.flags = [group for group in flagged.values() if group.count]

    def coverage(self, names: Sequence[str] | None, scanned: "list[_Scan]") -> Coverage:
        view, record = self.view, self.view.record
        if names is not None:
            samples = len(set(names))
            missing = len(view.missing(dict.fromkeys(names)))
        elif self.plan is not None:
            # a shard's plan knows what the whole store has; what came since is the store's own
            samples = self.plan["samples"]
            missing = max(0, self.plan["missing"] - self.newer)
        else:
            same = [scan.names for scan in scanned if scan.view.dataset == view.dataset]
            samples = len(set().union(*same))
            missing = samples - len(self.names)
        return Coverage(
            view.path,
            record.dtype,
            record.shape,
            samples,
            record.entries,
            record.failures,
            missing,
            record.nbytes,
            record.spec,
            self.failed,
        )


def _quality(store: Store, dataset: str) -> Iterator[Group]:
    try:
        known = store.quality(dataset)
    except UnknownView:
        return
    for flag, count in sorted(known.counts().items(), key=lambda item: (-item[1], item[0])):
        meaning = _DUPLICATE if flag == DUPLICATE else FLAGS.get(flag, "")
        shown = [Named(name) for name in known.names(flag)[:SHOWN]]
        yield Group(dataset, flag, meaning, count, shown)


# -- from the log


def _planned(plans: list[dict[str, Any]], view: str) -> dict[str, Any] | None:
    """Of the last plan with this view: how many samples, how many missing, and when, in
    microseconds since 1970.
    """
    for plan in reversed(plans):
        counts = _mapping(_mapping(plan.get("views")).get(view))
        try:
            moment = datetime.fromisoformat(plan["time"]).timestamp()
            samples, missing = int(counts["samples"]), int(counts["missing"])
        except (KeyError, ValueError, TypeError, OverflowError):
            continue
        return {"samples": samples, "missing": missing, "time": round(moment * 1e6)}
    return None


def _runs(events: list[dict[str, Any]]) -> list[PastRun]:
    """The runs in the order in which they began."""
    runs: dict[Any, PastRun] = {}
    last: dict[Any, tuple[float, int]] = {}
    for event in events:
        name = str(event.get("run"))
        run = runs.setdefault(name, PastRun(str(event.get("time", ""))))
        seconds = float(event["seconds"])
        run.seconds = max(run.seconds, seconds)
        if event["event"] == "plan" and event.get("shard"):
            run.shard = str(event["shard"])
        elif event["event"] == "done":
            run.ended = True
        elif event["event"] == "progress":
            # what others have done is theirs
            done = _count(event, "done") - _count(event, "elsewhere")
            since, before = last.get(name, (0.0, 0))
            run.done, run.failed = done, _count(event, "failed")
            if seconds > since:
                rate = max(0, done - before) / (seconds - since)
                run.rates.append(
                    Rate(seconds, rate, _share(event, "encode"), _share(event, "decode"))
                )
                last[name] = seconds, done
    for run in runs.values():
        run.rates = _thinned(run.rates)
    return list(runs.values())


def _thinned(rates: list[Rate]) -> list[Rate]:
    """At most POINTS of them, neighbours averaged by how long they lasted."""
    size = -(-len(rates) // POINTS)
    ends = [0.0, *(rate.seconds for rate in rates)]
    lasted = [end - begin for begin, end in pairwise(ends)]
    thinned = []
    for first in range(0, len(rates), max(size, 1)):
        some = slice(first, first + size)
        entries, encode, decode = (
            _mean([rate[column] for rate in rates[some]], lasted[some]) for column in (1, 2, 3)
        )
        thinned.append(Rate(rates[some][-1].seconds, entries or 0.0, encode, decode))
    return thinned


def _mean(values: list[float | None], weights: list[float]) -> float | None:
    known = [
        (value, weight) for value, weight in zip(values, weights, strict=True) if value is not None
    ]
    whole = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / whole if whole > 0 else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(event: Mapping[str, Any], name: str) -> int:
    value = event.get(name)
    return int(value) if isinstance(value, int | float) else 0


def _share(event: Mapping[str, Any], name: str) -> float | None:
    value = event.get(name)
    return float(value) if isinstance(value, int | float) else None


# -- onto the page


def _plots(facts: RunFacts) -> Iterator[tuple[str, str, Any]]:
    """Title, how to read it, and the picture; none where nothing is known to draw."""
    drawn = [run for run in facts.runs if len(run.rates) > 1][-LINES:]
    if not drawn:
        return
    longest = max(run.seconds for run in drawn)
    unit = next(
        unit
        for unit in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if longest >= 3 * unit[1] or unit[1] == 1.0
    )
    told = "; ".join(
        f"run of {run.began}: {run.rate:,.1f} in the mean, from "
        f"{min(rate.entries for rate in run.rates):,.1f} to "
        f"{max(rate.entries for rate in run.rates):,.1f}"
        for run in drawn
    )
    yield (
        "Entries",
        "Computed and failed a second; a line for each run, from its own beginning.",
        pages.picture(f"Entries a second. {told}.", _draw_rates, drawn, unit),
    )
    shares = [
        f"run of {run.began}: {label} {_mean_share(run, name):.0%} of the time"
        for run in drawn
        for name, (label, _) in _SHARES.items()
        if _known(run, name)
    ]
    if shares:
        yield (
            "What the time went into",
            "Where reading is waited for, more reading processes help; where the encoder is at work "
            "throughout, it is the bound.",
            pages.picture(f"{'; '.join(shares)}.", _draw_shares, drawn, unit),
        )


_SHARES = {
    "encode": ("encoder at work", pages.BLUE),
    "decode": ("waiting for reading", pages.ORANGE),
}


def _draw_rates(axes: Any, runs: Sequence[PastRun], unit: tuple[str, float]) -> None:
    for number, run in enumerate(runs):
        places = [rate.seconds / unit[1] for rate in run.rates]
        shade = pages.SHADES[number % len(pages.SHADES)]
        axes.plot(places, [rate.entries for rate in run.rates], color=shade, linewidth=1.2)
    axes.set(xlabel=f"{unit[0]} of a run", ylabel="entries/s", ylim=(0, None), xlim=(0, None))


def _draw_shares(axes: Any, runs: Sequence[PastRun], unit: tuple[str, float]) -> None:
    for name, (label, color) in _SHARES.items():
        for run in runs:
            points = _known(run, name)
            places = [seconds / unit[1] for seconds, _ in points]
            shares = [share * 100 for _, share in points]
            told = label if run is runs[0] else None  # once in the legend
            axes.plot(places, shares, color=color, linewidth=1.2, label=told)
    axes.set(xlabel=f"{unit[0]} of a run", ylabel="% of the time", ylim=(0, 105), xlim=(0, None))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _known(run: PastRun, name: str) -> list[tuple[float, float]]:
    shares = ((rate.seconds, getattr(rate, name)) for rate in run.rates)
    return [(seconds, share) for seconds, share in shares if share is not None]


def _mean_share(run: PastRun, name: str) -> float:
    """Over the stretches of which it is known, by how long they lasted."""
    ends = [0.0, *(rate.seconds for rate in run.rates)]
    lasted = [end - begin for begin, end in pairwise(ends)]
    return _mean([getattr(rate, name) for rate in run.rates], lasted) or 0.0

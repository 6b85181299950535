"""A Tuning as one HTML page with its plots inside: it needs no network and no other file."""

from collections.abc import Iterator
from typing import Any

from merstore.load.ceilings import DISK
from merstore.load.results import COLD, OTHERS, SIZES, THREADS, Trial, Tuning
from merstore.pages import BLUE, GREEN, GREY, ORANGE, RED, SHADES, picture, render

Bar = tuple[str, float, str]  # label, GB/s and colour
_PERCENTILES = ((50, BLUE, "o"), (90, ORANGE, "D"), (99, RED, "|"))


def html(tuning: Tuning) -> str:
    """Raises MerstoreError where jinja2 or matplotlib are not installed."""
    return render(
        "merstore.load",
        "tuning_report.html",
        tuning=tuning,
        plots=list(_plots(tuning)),
        groups=[THREADS, OTHERS, COLD, SIZES],
        settings=", ".join(f"{name}={value!r}" for name, value in tuning.profile.settings.items()),
    )


def _plots(tuning: Tuning) -> Iterator[tuple[str, str, Any]]:
    """Title, a sentence on how to read it, and the picture."""
    if threads := tuning.group(THREADS):
        rates = "; ".join(
            f"{trial.candidate.label}: {_gigabytes(trial):.2f}" for trial in threads if trial.runs
        )
        told = "Rate by number of threads, a line for each prefetch."
        yield "Threads", told, picture(f"GB/s with {rates}.", _threads, threads)
        told = "Rate by batches ahead, a line for each number of threads."
        yield "Prefetch", told, picture(f"GB/s with {rates}.", _prefetch, threads)
    if sizes := tuning.group(SIZES):
        told = ", ".join(f"{t.candidate.batch_size}: {_gigabytes(t):.2f}" for t in sizes)
        drawn = picture(f"GB/s by samples in a batch. {told}.", _sizes, sizes)
        yield "Batch size", "Rate of the chosen settings by samples in a batch.", drawn
    if threads:
        trials = {t.candidate.label: t for t in tuning.group(THREADS, OTHERS) if t.runs}
        told = "; ".join(
            f"{label}: " + ", ".join(f"{trial.latency(p) * 1e3:.2f}" for p, *_ in _PERCENTILES)
            for label, trial in trials.items()
        )
        drawn = picture(f"Milliseconds, p50, p90 and p99. {told}.", _latency, trials)
        yield "Latency", "From asking for a batch to having it: p50, p90 and p99.", drawn
    if tuning.group(COLD):
        told = "Stored bytes read with nothing in the page cache, and warm."
        yield "Cold and warm", told, _drawn_bars(_cold(tuning))
    if threads:
        told = "The chosen settings beside what this machine can do at best."
        yield "Ceilings", told, _drawn_bars(_ceilings(tuning))
        told = "; ".join(
            f"{room.step_ms:g} ms for a step: {room.share:.1%} of the time, without threads "
            f"{room.without_threads:.1%}"
            for room in tuning.headroom
        )
        drawn = picture(f"How long a model waits. {told}.", _headroom, tuning)
        yield (
            "Head-room",
            "Share of its time that a model waits, by the time it takes for a step.",
            drawn,
        )


def _gigabytes(trial: Trial) -> float:
    return trial.bytes_per_second / 1e9


def _rates(axes: Any, trials: list[Trial], line: str, along: str) -> None:
    lines: dict[Any, list[Trial]] = {}
    for trial in trials:
        if trial.runs and trial.candidate.threads:
            lines.setdefault(getattr(trial.candidate, line), []).append(trial)
    for number, (value, members) in enumerate(sorted(lines.items())):
        members.sort(key=lambda trial: getattr(trial.candidate, along))
        places = [getattr(trial.candidate, along) for trial in members]
        shade = SHADES[number % len(SHADES)]
        axes.plot(places, [*map(_gigabytes, members)], "o-", color=shade, label=f"{line} {value}")
    axes.set(xlabel=along, ylabel="GB/s", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _threads(axes: Any, trials: list[Trial]) -> None:
    alone = [t for t in trials if t.runs and not t.candidate.threads]
    axes.plot([0] * len(alone), [*map(_gigabytes, alone)], "s", color=ORANGE, label="no threads")
    _rates(axes, trials, "prefetch", "threads")


def _prefetch(axes: Any, trials: list[Trial]) -> None:
    _rates(axes, trials, "threads", "prefetch")


def _sizes(axes: Any, trials: list[Trial]) -> None:
    sizes = [trial.candidate.batch_size for trial in trials]
    axes.plot(sizes, [*map(_gigabytes, trials)], "o-", color=BLUE)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [*map(str, sizes)])
    axes.set(xlabel="samples in a batch", ylabel="GB/s", ylim=(0, None))


def _latency(axes: Any, trials: dict[str, Trial]) -> None:
    for percentile, color, mark in _PERCENTILES:
        places = [trial.latency(percentile) * 1e3 for trial in trials.values()]
        axes.plot(places, range(len(trials)), mark, color=color, label=f"p{percentile}")
    axes.set_yticks(range(len(trials)), [*trials], fontsize=7)
    axes.set(xlabel="ms", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _drawn_bars(values: list[Bar]) -> Any:
    told = "; ".join(f"{label}: {rate:.2f}" for label, rate, _ in values)
    return picture(f"GB/s. {told}.", _bars, values)


def _bars(axes: Any, values: list[Bar]) -> None:
    places = range(len(values))
    axes.barh(places, [value for _, value, _ in values], color=[color for *_, color in values])
    for place, (_, value, _) in enumerate(values):
        axes.text(value, place, f" {value:.2f}", va="center", fontsize=8)
    axes.set_yticks(places, [label for label, *_ in values], fontsize=8)
    axes.set(xlabel="GB/s")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _cold(tuning: Tuning) -> list[Bar]:
    settings = tuning.chosen.candidate
    warm = [
        trial for trial in tuning.group(SIZES) if trial.candidate.batch_size == settings.batch_size
    ]

    def read(trial: Trial) -> float:
        return trial.rate * tuning.stored_bytes / 1e9

    bars = [(f"warm: {trial.candidate.label}", read(trial), BLUE) for trial in warm]
    bars += [(f"cold: {trial.candidate.label}", read(trial), GREEN) for trial in tuning.group(COLD)]
    if DISK in tuning.ceilings:
        bars.append((DISK, tuning.ceilings[DISK] / 1e9, GREY))
    return bars


def _ceilings(tuning: Tuning) -> list[Bar]:
    found = [(name, rate / 1e9, GREY) for name, rate in tuning.ceilings.items() if name != DISK]
    return [("FeatureLoader", _gigabytes(tuning.chosen), BLUE), *found]


def _headroom(axes: Any, tuning: Tuning) -> None:
    steps = [room.step_ms for room in tuning.headroom]
    shares = [room.share * 100 for room in tuning.headroom]
    alone = [room.without_threads * 100 for room in tuning.headroom]
    axes.plot(steps, alone, "s--", color=ORANGE, label="without threads")
    axes.plot(steps, shares, "o-", color=BLUE, label="chosen")
    axes.legend()
    for step, share in zip(steps, shares, strict=True):
        axes.annotate(
            f"{share:.1f} %", (step, share), (4, 6), textcoords="offset points", fontsize=8
        )
    axes.set(
        xlabel="ms for a step", ylabel="% of the time spent waiting", xscale="log", ylim=(0, None)
    )
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.2)

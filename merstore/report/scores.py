"""Predictions of open-vocabulary labels, compared on one page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from merstore import pages
from merstore.pages import picture, plain
from merstore.score.answers import Labels
from merstore.score.board import Ranked, ranked
from merstore.score.files import OPENSET
from merstore.score.ov import COARSE, FINE, OvScores
from merstore.score.wheels import METRICS, WheelTables

SHOWN = 10  # predictions, best first, beyond the tables of scores
DRAWN = 6  # of them with bars of their own
LABELS = 30  # most frequent ones
NAMES = 50  # samples or labels of a kind
HARDEST = 25
BY = "M-avg"
NOTHING = "(nothing)"
SUMMARY = (BY, "MER2025-rank", "MER2025-L1", "MER2025-L2")


class Confusion(NamedTuple):
    """``counts [G + 1, G + 1]`` int64: by true and predicted group; the last is NOTHING."""

    metric: str
    groups: tuple[str, ...]
    counts: np.ndarray


class Frequency(NamedTuple):
    """In how many samples a label is: of the truth, and of each prediction."""

    label: str
    known: bool
    true: int
    predicted: tuple[int, ...]


class Hard(NamedTuple):
    """A sample with its mean F, 0 to 1, over all predictions, and what each of those said."""

    name: str
    f: float
    truth: Labels
    answers: list[tuple[float, Labels]]


@dataclass(frozen=True)
class Compared:
    """All that the page tells; see `compare`. Everything below ``board`` is in its order."""

    tables: WheelTables
    board: list[Ranked[OvScores]]
    short: list[str]
    confusions: list[list[Confusion]]
    frequencies: list[Frequency]
    hardest: list[Hard]
    unscored: int


def compare(
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Mapping[str, Labels]],
    results: Mapping[str, OvScores],
    tables: WheelTables,
) -> Compared:
    """predictions: labels by sample, by the prediction's name. results: what they score."""
    board = ranked(results, BY, seed=0)
    shown = [predictions[entry.name] for entry in board[:SHOWN]]
    by_sample = np.array([sample_f(entry.result) for entry in board])
    return Compared(
        tables,
        board,
        shortened([entry.name for entry in board]),
        [[confusion(truth, each, tables, metric) for metric in COARSE] for each in shown],
        frequencies(truth, shown, tables),
        hardest(truth, shown, board[0].result.names, by_sample),
        int(np.isnan(by_sample[0]).sum()),
    )


def html(found: Compared, truth: str, folder: str) -> str:
    """truth, folder: where the true labels and the tables are from, as given.

    Raises MerstoreError where jinja2 or matplotlib are not installed.
    """
    return pages.render(
        "merstore.report",
        "scores.html",
        found=found,
        truth=truth,
        folder=folder,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plots=list(_plots(found)),
        metrics=METRICS,
        summary=SUMMARY,
        shown=found.board[:SHOWN],
        names=NAMES,
        percent=percent,
    )


def sample_f(result: OvScores) -> np.ndarray:
    """F of each sample, float64 ``[N]``: the mean over the metrics that it is scored in; NaN where
    it is in none.
    """
    true, guessed, both = np.moveaxis(result.counts.astype(np.float64), 2, 0)
    # 2pr / (p + r) of p = both / guessed and r = both / true
    f = 2 * both / np.maximum(true + guessed, 1)
    scored = true > 0
    n = scored.sum(axis=1)
    sums = np.where(scored, f, 0).sum(axis=1)
    means = np.full(len(n), np.nan)
    np.divide(sums, n, out=means, where=n > 0)
    return means


def confusion(
    truth: Mapping[str, Labels],
    predicted: Mapping[str, Labels],
    tables: WheelTables,
    metric: str,
) -> Confusion:
    """What is said in the place of what. Of each sample that is scored in the metric, groups that
    are both true and predicted count on the diagonal. What is left of the truth was missed, what is
    left of the prediction is wrong: each pair of those counts once, and where nothing is left on one
    side, NOTHING stands for it.
    """
    groups = tables.groups[METRICS.index(metric)]
    place = {group: number for number, group in enumerate(groups)}
    none = len(groups)
    counts = np.zeros((none + 1, none + 1), np.int64)
    for name, labels in truth.items():
        true = _groups(labels, tables, metric)
        if not true:
            continue
        said = _groups(predicted.get(name, ()), tables, metric)
        for group in true & said:
            counts[place[group], place[group]] += 1
        missed = [place[group] for group in true - said]
        wrong = [place[group] for group in said - true]
        if missed or wrong:
            for row in missed or [none]:
                for column in wrong or [none]:
                    counts[row, column] += 1
    return Confusion(metric, (*groups, NOTHING), counts)


def frequencies(
    truth: Mapping[str, Labels], predictions: Sequence[Mapping[str, Labels]], tables: WheelTables
) -> list[Frequency]:
    """The most frequent labels of the truth and of each prediction, among the samples of the truth,
    by how often they are true.
    """
    true = _counted(truth.values())
    said = [_counted(each[name] for name in truth if name in each) for each in predictions]
    few = max(LABELS // 3, 1)
    chosen = {label for label, _ in _first(true, LABELS)}
    chosen |= {label for counts in said for label, _ in _first(counts, few)}
    order = sorted(chosen, key=lambda label: (-true[label], -sum(c[label] for c in said), label))
    return [
        Frequency(label, tables.known(label), true[label], tuple(counts[label] for counts in said))
        for label in order
    ]


def hardest(
    truth: Mapping[str, Labels],
    predictions: Sequence[Mapping[str, Labels]],
    names: Sequence[str],
    by_sample: np.ndarray,
) -> list[Hard]:
    """The samples with the lowest mean of ``by_sample [predictions, N]``, whose columns `names`
    name; equal ones by name. Those that are not scored are left out.
    """
    means = by_sample.mean(axis=0)
    order = [row for row in np.argsort(means, kind="stable") if not isnan(means[row])]
    return [
        Hard(
            names[row],
            float(means[row]),
            truth[names[row]],
            [
                (float(by_sample[number, row]), each.get(names[row], ()))
                for number, each in enumerate(predictions)
            ],
        )
        for row in order[:HARDEST]
    ]


def shortened(names: Sequence[str]) -> list[str]:
    """Names without the folders that all have, nor the ending of label files."""
    folders = [name.split("/")[:-1] for name in names]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    cut = sum(len(level[0]) + 1 for level in same)
    return [name[cut:].removesuffix(OPENSET) or name for name in names]


def percent(value: float) -> str:
    return "" if isnan(value) else f"{100 * value:.2f}"


def _groups(labels: Labels, tables: WheelTables, metric: str) -> set[str]:
    place = METRICS.index(metric)
    return {group for label in labels if (group := tables.projections(label)[place]) is not None}


def _counted(answers: Any) -> Counter[str]:
    return Counter(
        label for labels in answers for label in {label.lower().strip() for label in labels}
    )


def _first(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]


# -- pictures


def _plots(found: Compared) -> Any:
    """Title, how to read it, and the SVG."""
    board = found.board[:SHOWN]
    labels = [f"{n} {plain(name)}" for n, name in enumerate(found.short[:SHOWN], 1)]
    told = "; ".join(
        f"{label}: {percent(entry.values[BY])}, from {percent(entry.intervals[BY].low)} to "
        f"{percent(entry.intervals[BY].high)}"
        for label, entry in zip(labels, board, strict=True)
    )
    yield (
        "Mean F of the twelve metrics",
        "In per cent, with 95 % intervals.",
        picture(f"{BY} with its 95 % interval. {told}", _intervals, board, labels),
    )
    for title, metrics in (("Wheels, level 1", COARSE), ("Wheels, level 2", FINE)):
        told = "; ".join(
            f"{label}: "
            + ", ".join(f"{metric} {percent(entry.values[metric])}" for metric in metrics)
            for label, entry in zip(labels[:DRAWN], board, strict=False)
        )
        yield (
            title,
            "F in per cent on each of the five wheels"
            + (f", of the first {DRAWN}." if len(board) > DRAWN else "."),
            picture(f"F by wheel. {told}", _wheels, board[:DRAWN], labels[:DRAWN], metrics),
        )


def _intervals(axes: Any, board: Sequence[Ranked[OvScores]], labels: Sequence[str]) -> None:
    for place, entry in enumerate(board):
        inside = entry.intervals[BY]
        axes.plot([100 * inside.low, 100 * inside.high], [place] * 2, color=pages.GREY, linewidth=3)
        axes.plot([100 * entry.values[BY]], [place], "o", color=pages.BLUE)
    axes.set_yticks(range(len(board)), labels, fontsize=7, parse_math=False)
    axes.set(xlabel="M-avg, %", ylim=(len(board) - 0.5, -0.5))


def _wheels(
    axes: Any, board: Sequence[Ranked[OvScores]], labels: Sequence[str], metrics: Sequence[str]
) -> None:
    shades = (*pages.SHADES, pages.ORANGE, pages.GREEN)
    width = 0.8 / len(board)
    for number, (entry, label) in enumerate(zip(board, labels, strict=True)):
        places = [wheel + (number - (len(board) - 1) / 2) * width for wheel in range(len(metrics))]
        # a label that begins with _ is left out of a legend; ours begin with their place
        heights = [100 * entry.values[metric] for metric in metrics]
        axes.bar(places, heights, width, color=shades[number % len(shades)], label=label)
    axes.set_xticks(range(len(metrics)), [metric[2:4] for metric in metrics])
    axes.set(ylabel="F, %")
    axes.grid(visible=False, axis="x")
    legend = axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=6)
    for text in legend.get_texts():
        text.set_parse_math(False)

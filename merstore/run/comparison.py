"""Runs side by side as one HTML page: scores, curves, which hyper-parameters did well."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from merstore.pages import BLUE, GREY, ORANGE, RED, SHADES, render, svg
from merstore.run.results import Results, Row

SHOWN = 20  # trials in the table of a run


def html(runs: Sequence[Results]) -> str:
    """Raises MerstoreError where jinja2 or matplotlib are not installed."""
    return render(
        "merstore.run",
        "comparison.html",
        runs=[
            {
                "results": run,
                "title": f"{run.about['task']}: {_label(run)}",
                "best": run.best,
                "rows": sorted(run.rows, key=lambda row: -row.cv["metric"])[:SHOWN],
                "tests": list(run.best.tests),
                "hyper": list(run.best.hyper),
                "spread": spread(run.rows),
                "floors": run.about["floors"],
                "plots": list(_plots(run)),
            }
            for run in runs
        ],
        plots=[("Runs", "The best trial's score in cross-validation.", svg(_bars, runs))]
        if len(runs) > 1
        else [],
    )


def spread(rows: Sequence[Row], best: int = 10) -> tuple[float, float]:
    """Mean and population standard deviation of the metric of the best trials, as MER2026 reports."""
    metrics = sorted((row.cv["metric"] for row in rows), reverse=True)[:best]
    return float(np.mean(metrics)), float(np.std(metrics))


def _label(run: Results) -> str:
    return f"{run.about['model']}: {' + '.join(dict.fromkeys(run.about['features']))}"


def _plots(run: Results) -> Iterator[tuple[str, str, Any]]:
    yield (
        "Losses",
        "Of the best trial, by epoch; a thin line for each fold.",
        svg(_losses, run.best),
    )
    metric = run.about["metric"]
    told = f"{metric} on held-out samples by epoch; dots are the epochs chosen."
    yield "Metric", told, svg(_metric, run.best)
    if len(run.rows) > 1:
        yield "Trials", "The metric of all trials, best first.", svg(_trials, run.rows)
        for name in run.best.hyper:
            if len({row.hyper[name] for row in run.rows}) > 1:
                yield name, f"The metric of all trials by {name}.", svg(_by, run.rows, name)


def _losses(axes: Any, row: Row) -> None:
    for name, color in (("train_loss", BLUE), ("eval_loss", ORANGE)):
        each = np.array([fold[name] for fold in row.history])
        axes.plot(range(1, each.shape[1] + 1), each.T, color=color, linewidth=0.5, alpha=0.5)
        told = "training" if name == "train_loss" else "held out"
        axes.plot(range(1, each.shape[1] + 1), each.mean(0), color=color, label=told)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _metric(axes: Any, row: Row) -> None:
    for number, fold in enumerate(row.history):
        shade, values = SHADES[number % len(SHADES)], fold["eval_metric"]
        axes.plot(range(1, len(values) + 1), values, color=shade, linewidth=0.8, label=fold["fold"])
        axes.plot([fold["best"] + 1], [values[fold["best"]]], "o", color=RED, markersize=4)
    axes.set(xlabel="epoch", ylabel="metric")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=7)


def _trials(axes: Any, rows: Sequence[Row]) -> None:
    metrics = sorted((row.cv["metric"] for row in rows), reverse=True)
    axes.plot(range(1, len(metrics) + 1), metrics, "o", color=BLUE, markersize=3)
    axes.set(xlabel="trials", ylabel="metric")


def _by(axes: Any, rows: Sequence[Row], name: str) -> None:
    values = sorted({row.hyper[name] for row in rows})
    places = [values.index(row.hyper[name]) for row in rows]
    axes.plot(places, [row.cv["metric"] for row in rows], "o", color=GREY, markersize=4)
    means = [np.mean([r.cv["metric"] for r in rows if r.hyper[name] == value]) for value in values]
    axes.plot(range(len(values)), means, "o-", color=BLUE, label="mean")
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.set(xlabel=name, ylabel="metric")
    axes.legend()


def _bars(axes: Any, runs: Sequence[Results]) -> None:
    metrics = [run.best.cv["metric"] for run in runs]
    axes.barh(range(len(runs)), metrics, color=BLUE)
    for place, value in enumerate(metrics):
        axes.text(value, place, f" {value:.3f}", va="center", fontsize=8)
    axes.set_yticks(range(len(runs)), [*map(_label, runs)], fontsize=7)
    axes.set(xlabel="metric")
    axes.margins(x=0.15)
    axes.invert_yaxis()

"""Runs side by side as one HTML page: scores, curves, which hyper-parameters did well."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from merstore.pages import BLUE, GREEN, GREY, ORANGE, RED, SHADES, picture, plain, render
from merstore.run.training.results import Results, Row

SHOWN = 20  # trials in the table of a run


def html(runs: Sequence[Results]) -> str:
    """Raises MerstoreError where jinja2 or matplotlib are not installed."""
    return render(
        "merstore.run.training",
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
        plots=[_compared(runs)] if len(runs) > 1 else [],
    )


def spread(rows: Sequence[Row], best: int = 10) -> tuple[float, float]:
    """Mean and population standard deviation of the metric of the best trials, as MER2026 reports."""
    metrics = sorted((row.cv["metric"] for row in rows), reverse=True)[:best]
    return float(np.mean(metrics)), float(np.std(metrics))


def _label(run: Results) -> str:
    return f"{run.about['model']}: {' + '.join(dict.fromkeys(run.about['features']))}"


def curve(best: Row) -> Any:
    """The picture of a trial's metric on held-out samples by epoch."""
    told = ", ".join(
        f"{fold['fold']}: {fold['eval_metric'][fold['best']]:.4f} in epoch {fold['best'] + 1} of "
        f"{len(fold['eval_metric'])}"
        for fold in best.history
    )
    return picture(f"Metric on held-out samples by epoch, as chosen: {told}.", _metric, best)


def _plots(run: Results) -> Iterator[tuple[str, str, Any]]:
    best = run.best
    ends = "; ".join(
        f"{told} from {mean[0]:.3f} to {mean[-1]:.3f}"
        for told, _, each in _both_losses(best)
        for mean in [each.mean(0)]
    )
    yield (
        "Losses",
        "Of the best trial, by epoch; a thin line for each fold.",
        picture(f"Mean loss by epoch: {ends}.", _losses, best),
    )
    metric = run.about["metric"]
    told = f"{metric} on held-out samples by epoch; dots are the epochs chosen."
    yield "Metric", told, curve(best)
    if len(run.rows) > 1:
        metrics = sorted((row.cv["metric"] for row in run.rows), reverse=True)
        told = f"{len(metrics)} trials, from {metrics[0]:.4f} down to {metrics[-1]:.4f}."
        yield "Trials", "The metric of all trials, best first.", picture(told, _trials, metrics)
        for name in best.hyper:
            means = {
                value: np.mean([row.cv["metric"] for row in run.rows if row.hyper[name] == value])
                for value in sorted({row.hyper[name] for row in run.rows})
            }
            if len(means) > 1:
                told = ", ".join(f"{value:g}: {mean:.4f}" for value, mean in means.items())
                drawn = picture(f"Mean metric by {name}: {told}.", _by, run.rows, name, means)
                yield name, f"The metric of all trials by {name}, and the mean.", drawn


def _both_losses(row: Row) -> Iterator[tuple[str, str, np.ndarray]]:
    """What it is called, its colour, and ``[folds, epochs]``."""
    for name, told, color in (("train_loss", "training", BLUE), ("eval_loss", "held out", ORANGE)):
        yield told, color, np.array([fold[name] for fold in row.history])


def _losses(axes: Any, row: Row) -> None:
    for told, color, each in _both_losses(row):
        epochs = range(1, each.shape[1] + 1)
        axes.plot(epochs, each.T, color=color, linewidth=0.7, alpha=0.6)
        axes.plot(epochs, each.mean(0), color=color, label=told)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _metric(axes: Any, row: Row) -> None:
    shades = (*SHADES, ORANGE, GREEN)
    for number, fold in enumerate(row.history):
        shade, values = shades[number % len(shades)], fold["eval_metric"]
        axes.plot(range(1, len(values) + 1), values, color=shade, linewidth=1.2, label=fold["fold"])
        axes.plot([fold["best"] + 1], [values[fold["best"]]], "o", color=RED, markersize=4)
    axes.set(xlabel="epoch", ylabel="metric")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=7)


def _trials(axes: Any, metrics: Sequence[float]) -> None:
    axes.plot(range(1, len(metrics) + 1), metrics, "o", color=BLUE, markersize=3)
    axes.set(xlabel="place", ylabel="metric")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _by(axes: Any, rows: Sequence[Row], name: str, means: Mapping[float, float]) -> None:
    values = list(means)
    places = [values.index(row.hyper[name]) for row in rows]
    axes.plot(places, [row.cv["metric"] for row in rows], "o", color=GREY, markersize=4)
    axes.plot(range(len(values)), list(means.values()), "o-", color=BLUE, label="mean")
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.set(xlabel=name, ylabel="metric")
    axes.legend()


def _compared(runs: Sequence[Results]) -> tuple[str, str, Any]:
    told = "; ".join(f"{_label(run)}: {run.best.cv['metric']:.3f}" for run in runs)
    read = "The metric of each run's best trial in cross-validation."
    return "Scores", read, picture(f"Metric by run. {told}.", _bars, runs)


def _bars(axes: Any, runs: Sequence[Results]) -> None:
    metrics = [run.best.cv["metric"] for run in runs]
    labels = [plain(_label(run)).replace(": ", ":\n").replace(" + ", "\n+ ") for run in runs]
    axes.barh(range(len(runs)), metrics, color=BLUE)
    for place, value in enumerate(metrics):
        side = "left" if value >= 0 else "right"
        axes.text(value, place, f" {value:.3f} ", va="center", ha=side, fontsize=8)
    axes.set_yticks(range(len(runs)), labels, fontsize=7)
    axes.set(xlabel="metric")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=6)
    axes.invert_yaxis()

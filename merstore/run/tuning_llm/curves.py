"""A training's curves as one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore import pages
from merstore.pages import BLUE, GREY, ORANGE, picture, render

if TYPE_CHECKING:
    from merstore.run.tuning_llm.material import Material
    from merstore.run.tuning_llm.training import Run

_POINTS = 2000  # in a plot


def write(path: Path, run: "Run", material: "Material") -> None:
    """Raises MerstoreError where jinja2 or matplotlib are not installed, or it cannot be written."""
    options = run.options
    facts = {
        "mode": material.mode,
        "samples": ", ".join(f"{name}: {n}" for name, n in material.counts.items()),
        "questions": ", ".join(material.label_types),
        "views": ", ".join(material.views.values()) or "none",
        "batches": f"{options.accumulate} of {options.batch_size} in a step, "
        f"{options.steps} steps in an epoch",
        "seed": options.seed,
        "left out": material.lacking() or "nothing",
    }
    rates = [options.rate(epoch) for epoch in range(1, options.epochs + 1)]
    losses = ", ".join(f"{n}: {loss:.3f}" for n, loss in enumerate(run.epoch_losses, 1))
    plots = [
        (
            "Loss",
            "Of every step, and the mean of each epoch.",
            picture(f"Mean loss by epoch: {losses or 'none is over'}.", _losses, run),
        ),
        (
            "Learning rate",
            "Of each epoch.",
            picture(f"Learning rate, from {rates[0]:g} to {rates[-1]:g}.", _rates, rates),
        ),
    ]
    page = render(
        "merstore.run.tuning_llm",
        "curves.html",
        folder=run.folder,
        done=len(run.losses),
        total=options.epochs * options.steps,
        epochs=list(enumerate(run.epoch_losses, 1)),
        rates=rates,
        facts=facts,
        plots=plots,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.write(path, page)


def thinned(losses: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, float64 ``[n]``, and the mean losses around them: at most so many that a plot shows
    them all.
    """
    size = -(-len(losses) // _POINTS) or 1
    starts = np.arange(0, len(losses), size)
    if not len(starts):
        return starts.astype(float), np.empty(0)
    counts = np.diff(np.append(starts, len(losses)))
    return starts + (counts + 1) / 2, np.add.reduceat(np.array(losses), starts) / counts


def _losses(axes: Any, run: "Run") -> None:
    steps = run.options.steps
    axes.plot(*thinned(run.losses), color=GREY, linewidth=0.7, label="steps")
    means = run.epoch_losses
    ends = [(number + 1) * steps for number in range(len(means))]
    axes.plot(ends, means, "o-", color=BLUE, markersize=3, label="epochs")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()


def _rates(axes: Any, rates: Sequence[float]) -> None:
    axes.plot(range(1, len(rates) + 1), rates, ".-", color=ORANGE)
    axes.set(xlabel="epoch", ylabel="learning rate")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)

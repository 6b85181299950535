"""What came of training, kept in the store: a table of trials, and predictions by sample.

A run is two kinds of views, so that everything that works on views works on results too (``ls``,
``verify``, ``compact``, dropping one), each protected by its checksums:

- ``<dataset>/result@<model>/<run>``: one entry per trial, ``trial_0000`` ..., UTF-8 JSON (uint8
  ``[T]``): hyper-parameters, seeds, scores, losses of every epoch, seconds. The spec has what all
  trials share: arguments, folds' sizes, the views read with their fingerprints.
- ``<dataset>/prediction@<model>/<run>.<split>``: one entry per sample, float32 ``[trials, C + R]``:
  logits, then values. Samples of a test split have the average over the folds; those of ``train`` (of
  ``val``, where the corpus has one) have what the model predicted that had not seen them. Test
  samples of another corpus are in that corpus's dataset.
"""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from merstore.errors import CorruptEntry, InvalidKey, UnknownView
from merstore.run.training.baseline import Run, Trial, derive
from merstore.run.training.inputs import Problem
from merstore.score.classification import Score, accuracy, weighted_f1
from merstore.store.keys import parse_view
from merstore.store.store import Store

RESULT, PREDICTION = "result", "prediction"


@dataclass
class Row:
    """One trial of the table. ``cv`` and ``tests``: scores by name (``f1``, ``acc``, ``mse``,
    ``metric``); a test without labels has None.
    """

    trial: int
    hyper: dict[str, float]
    cv: dict[str, float]
    tests: dict[str, dict[str, Any] | None]
    seconds: float
    history: list[dict[str, Any]]
    seeds: list[int]
    together: int


@dataclass
class Results:
    """One run as it was kept. ``about``: the spec, with ``arguments``, ``classes``, ``views`` ..."""

    path: str
    about: dict[str, Any]
    rows: list[Row]

    @property
    def dataset(self) -> str:
        return self.path.partition("/")[0]

    @property
    def run(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def best(self) -> Row:
        """The first with the highest metric in cross-validation."""
        return max(self.rows, key=lambda row: row.cv["metric"])


@dataclass
class Predictions:
    """``names [N]``, ``logits [N, C]`` and ``values [N, R]`` of one trial."""

    names: list[str]
    logits: np.ndarray
    values: np.ndarray


def new_name() -> str:
    """A name for a run: the time, and something that no other run has."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"


def save(store: Store, run: Run, arguments: dict[str, Any], name: str | None = None) -> str:
    """Keep a run under a name, by default a new one; the path of its table.

    arguments: JSON values, as asked for. Raises InvalidKey for a name that no view can have,
    SpecMismatch where it is there already.
    """
    problem, options, task = run.problem, run.options, run.problem.task
    name = name or new_name()
    path = f"{task.dataset}/{RESULT}@{options.model}/{name}"
    parse_view(path)
    width = len(task.classes) + task.values
    table = store.create_view(path, dtype="uint8", shape=(None,), spec=_about(run, arguments))
    part = "val" if task.folds == "val" else "train"
    parts = {(task.dataset, part): [run.held(trial) for trial in run.trials]}
    for part in problem.tests:
        names = problem.samples[part].names
        parts[task.test_dataset, part] = [
            {name: (logits, values) for name, logits, values in
             zip(names, *trial.predictions[part], strict=True)}
            for trial in run.trials
        ]  # fmt: skip
    views = [
        store.create_view(
            f"{dataset}/{PREDICTION}@{options.model}/{name}.{part}",
            shape=(len(run.trials), width),
            spec={
                "kind": "predictions",
                "results": path,
                "classes": list(task.classes),
                "values": task.values,
                "split": part,
            },
        )
        for dataset, part in parts
    ]
    with store.writer() as writer:
        for trial in run.trials:
            text = json.dumps(asdict(_row(run, trial))).encode()
            writer.put(table, f"trial_{trial.number:04d}", np.frombuffer(text, np.uint8))
        for view, each in zip(views, parts.values(), strict=True):
            writer.update(view, _stacked(each).items())
    return path


def of(run: Run, arguments: dict[str, Any], path: str = "not kept") -> Results:
    """A run as `read` gives it back."""
    about = json.loads(json.dumps(_about(run, arguments)))
    rows = [Row(**json.loads(json.dumps(asdict(_row(run, trial))))) for trial in run.trials]
    return Results(path, about, rows)


def _about(run: Run, arguments: dict[str, Any]) -> dict[str, Any]:
    problem, options, task = run.problem, run.options, run.problem.task
    return {
        "kind": "training results",
        "model": options.model,
        "arguments": arguments,
        "options": asdict(options),
        "features": problem.folders,
        "views": problem.views,
        "task": task.name,
        "test_dataset": task.test_dataset,
        "labels": task.labels,
        "classes": list(task.classes),
        "values": task.values,
        "metric": task.metric,
        "binary": task.binary,
        "protocol": _PROTOCOL[task.folds],
        "parts": {part: len(samples) for part, samples in problem.samples.items()},
        "folds": {fold.name: [len(fold.train), len(fold.held)] for fold in run.folds},
        "floors": floors(problem),
        "notes": problem.notes,
        "started": run.started,
        "seconds": run.seconds,
    }


_PROTOCOL = {
    "random": "cross-validation over random folds; each fold's epoch is chosen on the samples that it holds out",
    "session": "one session held out in turn; its epoch is chosen on the session that is reported",
    "val": "the epoch is chosen on the corpus's validation split",
}


def runs(store: Store, dataset: str | None = None) -> list[str]:
    """The paths of all tables of results, oldest name first; of one dataset, with `dataset`."""
    found = []
    for path in store.views():
        parts = parse_view(path)
        if parts.modality == RESULT and dataset in (None, parts.dataset):
            found.append(path)
    return sorted(found, key=lambda path: path.rpartition("/")[2])


def read(store: Store, path: str) -> Results:
    """A run by the path of its table, or by its name alone. Raises UnknownView, CorruptEntry."""
    if path not in store:
        named = [found for found in runs(store) if found.rpartition("/")[2] == path]
        if len(named) != 1:
            raise UnknownView(
                f"{store.path} has {len(named) or 'no'} results {path!r}; there are: "
                f"{', '.join(runs(store)) or 'none'}"
            )
        path = named[0]
    view = store[path]
    rows = []
    for name in view:
        try:
            rows.append(Row(**json.loads(view[name].tobytes())))
        except (ValueError, TypeError):
            raise CorruptEntry(f"{path}/{name} is no trial: drop the view, train again") from None
    rows.sort(key=lambda row: row.trial)
    return Results(path, dict(view.spec), rows)


def predictions(
    store: Store, results: Results, part: str | None = None, trial: int | None = None
) -> Predictions:
    """What a trial (by default the best) predicted for a test split, or, without one, for the samples
    that it held out. Raises InvalidKey for a split that was not predicted.
    """
    about = results.about
    held = part in (None, "train", "val")
    dataset = results.dataset if held else about["test_dataset"]
    if part is None:
        part = "val" if "val" in about["parts"] else "train"
    path = f"{dataset}/{PREDICTION}@{about['model']}/{results.run}.{part}"
    if path not in store:
        raise InvalidKey(f"{results.path} has no predictions of {part!r}")
    view = store[path]
    names = list(view)
    number = results.best.trial if trial is None else trial
    found = np.asarray(view.gather(names))[:, number]
    classes = len(about["classes"])
    return Predictions(names, found[:, :classes], found[:, classes:])


def floors(problem: Problem) -> dict[str, dict[str, float]]:
    """By split, what always saying its most frequent class (or sign) would score."""
    found = {}
    for part, samples in problem.samples.items():
        truth = samples.signs if problem.task.binary else samples.emos
        truth = truth[truth >= 0]
        if len(truth):
            constant = np.full(len(truth), np.bincount(truth).argmax())
            found[part] = {"f1": weighted_f1(truth, constant), "acc": accuracy(truth, constant)}
    return found


def _row(run: Run, trial: Trial) -> Row:
    def told(score: Score | None) -> dict[str, Any] | None:
        return None if score is None else score._asdict()

    seeds = [derive(run.options.seed, "init", trial.number, fold) for fold in range(len(run.folds))]
    history = [
        {
            "fold": fold.name,
            "train_loss": fold.train_loss,
            "eval_loss": fold.eval_loss,
            "eval_metric": fold.eval_metric,
            "best": fold.best,
            "score": told(fold.score),
        }
        for fold in trial.folds
    ]
    tests = {name: told(found) for name, found in trial.scores.items()}
    return Row(
        trial.number, dict(trial.hyper), trial.cv, tests, round(trial.seconds, 3), history, seeds,
        trial.together,
    )  # fmt: skip


Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def _stacked(each: Iterable[Pairs]) -> dict[str, np.ndarray]:
    trials = list(each)
    return {
        name: np.stack([np.concatenate(trial[name]) for trial in trials]).astype(np.float32)
        for name in trials[0]
    }

"""Training a baseline under many hyper-parameters on one set of loaded features (notes on MERTools
4.5-4.8).

A trial is one choice of hyper-parameters. It trains a fresh model in every fold, for a fixed number
of epochs; the best epoch is the first with the highest metric on the held-out samples. Cross-validation
scores are the plain mean over the folds; of a test split, the folds' logits at their best epochs are
averaged for each sample and scored once.

Trials that may be trained as one are (`merstore.run.training.trainer.Stacked`); others run in processes beside
each other. Either way a trial's numbers are those that it has alone.

Seeds, all from ``seed``: folds by ``random.Random(seed)``; the order of samples and the dropout of
fold f by `derive` (``"order"`` and ``"noise"``), the same for all trials; the initialisation of trial t
in fold f by ``derive(seed, "init", t, f)``.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from merstore.errors import InvalidKey, MerstoreError
from merstore.models.baselines import MODELS
from merstore.models.baselines.blocks import parameters_of
from merstore.run.training.folds import Fold
from merstore.run.training.inputs import Problem
from merstore.run.training.trainer import (
    Hyper,
    Rows,
    Shape,
    Single,
    Stacked,
    Trainer,
    stack_key,
    stackable,
)
from merstore.score.classification import Score, score

STACK_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}  # of models that are trained as one
COPIES = 5  # parameters, gradients, Adam's two, and one on the way

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """How to train. The names are MERTools'.

    folds: how many, where the corpus has no split of its own. shuffle: a new order of samples in
    every epoch (MERTools shuffles MER2023 to MER2026 and IEMOCAP only). keep_weights: each fold's
    best model. jobs: processes for trials that cannot be trained as one; None for one a core.
    """

    model: str
    feat_type: str = "utt"
    epochs: int = 100
    batch_size: int = 32
    l2: float = 1e-5
    folds: int = 5
    seed: int = 0
    shuffle: bool = True
    device: str = "cpu"
    stack: bool = True
    jobs: int | None = None
    keep_weights: bool = False


@dataclass
class FoldResult:
    """One fold of one trial. ``train_loss``, ``eval_loss``, ``eval_metric``: by epoch. ``best``: the
    epoch chosen, from 0; ``score`` and the predictions are of it: ``held`` and ``tests`` are (logits
    ``[N, C]``, values ``[N, R]``).
    """

    name: str
    train_loss: list[float] = field(default_factory=list)
    eval_loss: list[float] = field(default_factory=list)
    eval_metric: list[float] = field(default_factory=list)
    best: int = -1
    score: Score | None = None
    held: tuple[np.ndarray, np.ndarray] | None = None
    tests: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    weights: dict[str, np.ndarray] | None = None


@dataclass
class Trial:
    """One choice of hyper-parameters, and what came of it. ``tests``: averaged (logits, values) and
    the score, None where the split has no labels. ``seconds``: its share of the time that it took
    with the ``together`` trials that were trained as one.
    """

    number: int
    hyper: dict[str, float | int]
    folds: list[FoldResult]
    cv: dict[str, float]
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]
    scores: dict[str, Score | None]
    seconds: float
    together: int

    @property
    def metric(self) -> float:
        return self.cv["metric"]


@dataclass
class Run:
    """All trials of one training. ``started``: seconds since 1970."""

    problem: Problem
    options: Options
    folds: list[Fold]
    trials: list[Trial]
    started: float
    seconds: float

    @property
    def best(self) -> Trial:
        """The first trial with the highest metric in cross-validation."""
        return max(self.trials, key=lambda trial: trial.metric)

    def held(self, trial: Trial) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Logits and values of every sample that was held out, by name, each from the model that had
        not seen it.
        """
        found = {}
        for fold, result in zip(self.folds, trial.folds, strict=True):
            names = self.problem.samples[fold.part].names
            assert result.held is not None
            for row, logits, values in zip(fold.held, *result.held, strict=True):
                found[names[row]] = logits, values
        return found


def derive(seed: int, *what: object) -> int:
    """A seed (32 bits) for one purpose: the first four bytes, big-endian, of the SHA-256 of
    ``"<seed>/<what>/..."``.
    """
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def train(
    problem: Problem,
    options: Options,
    hypers: Sequence[Mapping[str, float | int]],
    progress: Progress | None = None,
) -> Run:
    """Train all trials; `progress` is told of (fold, epoch and trial)s done, of how many.

    Raises MerstoreError where folds cannot be made, or a loss is no number any more.
    """
    if options.model not in MODELS:
        raise InvalidKey(f"no model {options.model!r}: one of {', '.join(MODELS)}")
    if not hypers or options.epochs < 1 or options.batch_size < 1:
        raise MerstoreError("training needs a trial, an epoch and a batch of one at least")
    started = time.time()
    folds = problem.folds(options.folds, options.seed)
    shape = shape_of(problem, options)
    total = len(hypers) * len(folds) * options.epochs
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    trials: dict[int, Trial] = {}
    groups = list(_groups(shape, options, hypers))
    alone = [group[0] for group in groups if len(group) == 1]
    for group in (group for group in groups if len(group) > 1):
        trials |= _train_group(problem, options, folds, hypers, group, step)
    for number, trial in _each(problem, options, folds, hypers, alone):
        trials[number] = trial
        step(len(folds) * options.epochs)
    ordered = [trials[number] for number in range(len(hypers))]
    return Run(problem, options, folds, ordered, started, time.time() - started)


def shape_of(problem: Problem, options: Options) -> Shape:
    return Shape(
        options.model,
        problem.dims,
        len(problem.task.classes),
        problem.task.values,
        options.feat_type,
        options.l2,
    )


def _groups(shape: Shape, options: Options, hypers: Sequence[Hyper]) -> Iterator[list[int]]:
    """Trials that are trained as one, as many as fit the memory they are given."""
    together: dict[object, list[int]] = {}
    for number, hyper in enumerate(hypers):
        key = stack_key(shape, hyper) if options.stack and stackable(shape) else number
        together.setdefault(key, []).append(number)
    room = STACK_BYTES[torch.device(options.device).type]
    for group in together.values():
        with torch.device("meta"):
            model = shape.build(hypers[group[0]])
        most = max(1, room // (parameters_of(model) * 4 * COPIES))
        parts = -(-len(group) // most)
        size = -(-len(group) // parts)
        for first in range(0, len(group), size):
            yield group[first : first + size]


def _train_group(
    problem: Problem,
    options: Options,
    folds: Sequence[Fold],
    hypers: Sequence[Hyper],
    group: Sequence[int],
    step: Callable[[int], None] = lambda count: None,
) -> dict[int, Trial]:
    device = torch.device(options.device)
    shape = shape_of(problem, options)
    parts = {name: rows.to(device) for name, rows in problem.parts.items()}
    picked = [hypers[number] for number in group]
    started = time.perf_counter()
    results: list[list[FoldResult]] = [[] for _ in group]
    for number, fold in enumerate(folds):
        seeds = [derive(options.seed, "init", trial, number) for trial in group]
        noise = derive(options.seed, "noise", number)
        trainer: Trainer
        if len(group) == 1:
            trainer = Single(shape, picked[0], seeds[0], noise, device)
        else:
            trainer = Stacked(shape, picked, seeds, noise, device)
        found = _fit(trainer, problem, parts, options, fold, number, group, step)
        for each, result in zip(results, found, strict=True):
            each.append(result)
    seconds = (time.perf_counter() - started) / len(group)
    return {
        number: _trial(problem, number, dict(hyper), result, seconds, len(group))
        for number, hyper, result in zip(group, picked, results, strict=True)
    }


def _fit(
    trainer: Trainer,
    problem: Problem,
    parts: Mapping[str, Rows],
    options: Options,
    fold: Fold,
    number: int,
    group: Sequence[int],
    step: Callable[[int], None],
) -> list[FoldResult]:
    """All epochs of one fold."""
    device, task = torch.device(options.device), problem.task
    order = torch.Generator().manual_seed(derive(options.seed, "order", number))
    rows = torch.from_numpy(fold.train)
    held = parts[fold.part].take(torch.from_numpy(fold.held).to(device))
    truth = problem.samples[fold.part].take(fold.held)
    results = [FoldResult(fold.name) for _ in group]
    for epoch in range(options.epochs):
        index = rows[torch.randperm(len(rows), generator=order)] if options.shuffle else rows
        train_loss = trainer.epoch(
            parts["train"], torch.split(index.to(device), options.batch_size)
        )
        if not np.isfinite(train_loss).all():
            lost = group[int(np.flatnonzero(~np.isfinite(train_loss))[0])]
            raise MerstoreError(
                f"trial {lost}, {fold.name}, epoch {epoch}: the loss is no number any more: "
                "take a smaller learning rate, or clip gradients"
            )
        logits, values, own = trainer.predict(held, range(len(group)))
        eval_loss = own + _losses(logits, values, truth.emos, truth.vals)
        better = []
        for k, result in enumerate(results):
            found = score(truth.emos, logits[k], truth.vals, values[k], task.binary)
            if found is None:
                raise MerstoreError(f"{fold.name} holds out no sample that can be scored")
            result.train_loss.append(float(train_loss[k]))
            result.eval_loss.append(float(eval_loss[k]))
            metric = found.metric(task.metric)
            if result.best < 0 or metric > result.eval_metric[result.best]:
                result.best, result.score = epoch, found
                result.held = logits[k], values[k]
                better.append(k)
            result.eval_metric.append(metric)
        for name in problem.tests if better else ():
            logits, values, _ = trainer.predict(parts[name], better)
            for k, *predicted in zip(better, logits, values, strict=True):
                results[k].tests[name] = predicted[0], predicted[1]
        if options.keep_weights:
            for k in better:
                results[k].weights = trainer.weights(k)
        step(len(group))
    return results


def _losses(
    logits: np.ndarray, values: np.ndarray, emos: np.ndarray, vals: np.ndarray
) -> np.ndarray:
    """Cross entropy and squared error, both / N: ``[K]``."""
    total = np.zeros(len(logits))
    size = logits.shape[1]
    if logits.shape[-1]:
        high = logits.max(-1, keepdims=True)
        spread = np.log(np.exp(logits - high).sum(-1)) + high[..., 0]
        picked = np.take_along_axis(logits, np.maximum(emos, 0)[None, :, None], -1)[..., 0]
        total += ((spread - picked) * (emos >= 0)).sum(1) / size
    if values.shape[-1]:
        wrong = np.where(np.isfinite(vals), values[..., 0] - np.nan_to_num(vals), 0)
        total += (wrong**2).sum(1) / size
    return total


def _trial(
    problem: Problem,
    number: int,
    hyper: dict[str, float | int],
    folds: list[FoldResult],
    seconds: float,
    together: int,
) -> Trial:
    task = problem.task
    cv = {"metric": float(np.mean([fold.eval_metric[fold.best] for fold in folds]))}
    for name in ("f1", "acc", "mse"):
        each = [getattr(fold.score, name) for fold in folds]
        if None not in each:
            cv[name] = float(np.mean(each))
    predictions = {}
    scores = {}
    for name in problem.tests:
        logits, values = (np.mean([fold.tests[name][i] for fold in folds], axis=0) for i in (0, 1))
        predictions[name] = logits, values
        truth = problem.samples[name]
        scores[name] = score(truth.emos, logits, truth.vals, values, task.binary)
    return Trial(number, hyper, folds, cv, predictions, scores, seconds, together)


# -- trials that are not trained as one: beside each other, in processes

_shared: dict[str, Any] = {}


def _each(
    problem: Problem,
    options: Options,
    folds: Sequence[Fold],
    hypers: Sequence[Hyper],
    alone: Sequence[int],
) -> Iterator[tuple[int, Trial]]:
    jobs = options.jobs if options.jobs is not None else (os.cpu_count() or 1)
    jobs = min(jobs, len(alone)) if options.device == "cpu" else 1
    if jobs <= 1:
        for number in alone:
            yield from _train_group(problem, options, folds, hypers, [number]).items()
        return
    import torch.multiprocessing

    for rows in problem.parts.values():
        for x in rows.inputs.values():
            x.share_memory_()  # type: ignore[no-untyped-call]
    threads = max(1, torch.get_num_threads() // jobs)
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(jobs, _receive, (problem, options, folds, hypers, threads)) as pool:
        yield from pool.imap_unordered(_train_alone, alone)


def _receive(
    problem: Problem,
    options: Options,
    folds: Sequence[Fold],
    hypers: Sequence[Hyper],
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    _shared.update(problem=problem, options=options, folds=folds, hypers=hypers)


def _train_alone(number: int) -> tuple[int, Trial]:
    found = _train_group(**_shared, group=[number])
    return number, found[number]

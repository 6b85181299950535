"""Results in the files that MERTools writes (notes on MERTools 4.9), and leader-board tables.

``<save_root>[-cross][-noise][-multitop]-<unimodal ...>/result/cv_<prefix>_<metrics>_<time>.npz`` and
``test<j>_...``, with the names and keys of the released code. Where that pickles its arguments as an
object array, ``args`` here is text, JSON in a 0-d unicode array, so that the files load without
pickle; ``names`` beside ``emo_probs`` says whose row is whose. File names have colons, which Windows
refuses.
"""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from merstore.errors import MerstoreError
from merstore.run.training.baseline import Run, Trial

MODALITY_COUNT = {0: "others", 1: "unimodal", 2: "bimodal", 3: "trimodal"}
_SCORES = re.compile(r"(f1|acc|val):(-?[0-9.]+(?:e-?\d+)?|nan)(?=_|\.npz)")

Arguments = Mapping[str, Any]


def root_of(save_root: Path, arguments: Arguments) -> Path:
    """Where the files of such a run go."""
    name = str(save_root)
    name += "-cross" if arguments.get("train_dataset") else ""
    name += "-noise" if arguments.get("test_snr") else ""
    name += "-multitop" if arguments.get("fusion_topn") else ""
    return Path(f"{name}-{MODALITY_COUNT[len(_features(arguments))]}")


def prefix_of(arguments: Arguments) -> str:
    """The part of a file name that says what was trained."""
    a = arguments
    prefix = f"features:{'+'.join(_features(a))}_dataset:{a['dataset']}_model:{a['model']}+{a['feat_type']}+None"
    if a.get("train_dataset"):
        prefix += f"_train:{a['train_dataset']}_test:{a['test_dataset']}"
    if a.get("train_snr") or a.get("test_snr"):
        prefix += f"_trainsnr:{a.get('train_snr')}_testsnr:{a.get('test_snr')}"
    if a.get("fusion_topn"):
        prefix += f"_fusiontopn:{a['fusion_topn']}_modality:{a['fusion_modality']}"
    return prefix


def _features(arguments: Arguments) -> list[str]:
    if arguments.get("fusion_topn"):
        return []
    given = (arguments.get(f"{role}_feature") for role in ("audio", "text", "video"))
    return sorted({str(each).rpartition("/")[2] for each in given if each})


def write(run: Run, arguments: Arguments, save_root: Path) -> list[Path]:
    """The files of all trials; test splits are numbered from 1 in their order."""
    root = root_of(save_root, arguments)
    folder = root / "result"
    folder.mkdir(parents=True, exist_ok=True)
    prefix = prefix_of(arguments)
    written = []
    for trial in run.trials:
        time = run.started + trial.number / 1000  # no two files of one name
        args = np.array(
            json.dumps(
                {**arguments, **trial.hyper, "duration": trial.seconds, "trial": trial.number}
            )
        )
        path = folder / f"cv_{prefix}_{_metrics(trial.cv)}_{time}.npz"
        np.savez_compressed(_fits(path), args=args)
        written.append(path)
        for number, part in enumerate(run.problem.tests, 1):
            found = trial.scores[part]
            metrics = _metrics(found._asdict()) if found else "unlabelled"
            path = folder / f"test{number}_{prefix}_{metrics}_{time}.npz"
            logits, values = trial.predictions[part]
            np.savez_compressed(
                _fits(path),
                emo_probs=logits,
                val_preds=values,
                names=np.array(run.problem.samples[part].names),
                args=args,
            )
            written.append(path)
    return written


def write_weights(run: Run, arguments: Arguments, save_root: Path) -> list[Path]:
    """The best trial's models, an npz file of arrays by parameter name for each fold."""
    folder = root_of(save_root, arguments) / "model"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, fold in enumerate(run.best.folds):
        if fold.weights is None:
            raise MerstoreError("weights were not kept: train with keep_weights (--savemodel)")
        path = folder / f"{prefix_of(arguments)}_folder:{number}_{run.started}.npz"
        arrays: dict[str, Any] = dict(fold.weights)
        np.savez(_fits(path), **arrays)
        written.append(path)
    return written


def read_metrics(name: str) -> dict[str, float]:
    """The scores in a result file's name, as MERTools' reporting finds them."""
    return {key: float(value) for key, value in _SCORES.findall(name)}


def write_leaderboard(run: Run, folder: Path, trial: Trial | None = None) -> list[Path]:
    """What a challenge takes for each test split: ``name,discrete`` and, where values are predicted,
    ``valence``; labels as text. Of the best trial by default.
    """
    task, trial = run.problem.task, trial or run.best
    if not task.classes:
        raise MerstoreError(f"{task.name} has no classes, and no leader board takes values alone")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in run.problem.tests:
        logits, values = trial.predictions[part]
        path = folder / f"{task.name}-{part}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["name", "discrete", *(["valence"] if task.values else [])])
            names = run.problem.samples[part].names
            for name, emo, value in zip(names, logits.argmax(1), values, strict=True):
                table.writerow([name, task.classes[emo], *(f"{x:.4f}" for x in value)])
        written.append(path)
    return written


def _metrics(scores: Mapping[str, Any]) -> str:
    told = [f"{name}:{scores[name]:.4f}" for name in ("f1", "acc") if scores.get(name) is not None]
    if scores.get("mse") is not None and not scores.get("binary"):
        told.append(f"val:{scores['mse']:.4f}")
    return "_".join(told)


def _fits(path: Path) -> Path:
    if len(path.name.encode()) > 255:
        raise MerstoreError(
            f"{path.name[:80]}...: too long for a file name: the store keeps the results all the same"
        )
    return path

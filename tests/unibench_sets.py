"""MER-UniBench's nine sets, made small, and results of models on them, in AffectGPT's layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from score_tables import HEADER, write_xlsx

SIX = ("happy", "angry", "worried", "sad", "surprise", "neutral")
SEVEN = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
FOUR = ("happy", "sad", "neutral", "anger")
CLASSES = {"mer2023": SIX, "mer2024": SIX, "meld": SEVEN, "iemocap": FOUR}
VALUES = ("cmumosi", "cmumosei", "sims", "simsv2")
SPLITS = {"mer2023": ("train", "test1", "test2", "test3"), "mer2024": ("train", "test1")}
TESTED = {"mer2023": "test1", "mer2024": "test1", "iemocap": "whole"}
FILES = {"mer2023": "label-6way", "mer2024": "label-6way", "iemocap": "label_4way"}


def write_wheels(folder: Path) -> Path:
    """Word tables whose five wheels all have each class, so that every set has a score."""
    folder.mkdir()
    words = sorted({*SIX, *SEVEN, *FOUR} - {"neutral"})
    rows = [[word, f"{word} two", f"{word} three"] for word in words]
    for number in range(1, 6):
        write_xlsx(folder / f"wheel{number}.xlsx", [HEADER, *rows])
    heads = [word for row in rows for word in row]
    header = [f"{what}_run{run}" for run in range(1, 9) for what in ("word", "synonym")]
    write_xlsx(folder / "synonym.xlsx", [header, *([head] * len(header) for head in heads)])
    lines = [f"{head},{head}" for head in heads]
    (folder / "format.csv").write_text("\n".join(["name,format", *lines]) + "\n")
    return folder


def truths(n: int, words: tuple[str, ...], seed: int = 0) -> dict[str, dict[str, Any]]:
    """The true label of `n` samples of each set: a class, a value, or a list of these words."""
    rng = np.random.default_rng(seed)
    names = [f"Ses05_{number:05}" for number in range(n)]  # the fifth sign is IEMOCAP's session
    found: dict[str, dict[str, Any]] = {}
    for key, classes in CLASSES.items():
        found[key] = dict(zip(names, rng.choice(classes, n).tolist(), strict=True))
    for key in VALUES:
        values = rng.integers(-3, 4, n).astype(float).tolist()
        values[0] = 1.5  # at least one is not 0
        found[key] = dict(zip(names, values, strict=True))
    found["ovmerdplus"] = {name: rng.choice(words, 2, replace=False).tolist() for name in names}
    return found


def write_labels(root: Path, sets: Mapping[str, Mapping[str, Any]]) -> Path:
    """The label files of these sets."""
    for key, samples in sets.items():
        folder = root / f"{key}-{'dataset-' if key.startswith('mer2') else ''}process"
        folder.mkdir(parents=True)
        if key == "ovmerdplus":
            lines = [f'{name},"[{", ".join(labels)}]"' for name, labels in samples.items()]
            (folder / "ovlabel.csv").write_text("\n".join(["name,openset", *lines]) + "\n")
            continue
        tested = TESTED.get(key, "test")
        splits = ("whole",) if key == "iemocap" else SPLITS.get(key, ("train", "val", "test"))
        arrays = {}
        for split in splits:
            corpus = {
                name if split == tested else f"{split}{name}": _label(key, label)
                for name, label in samples.items()
            }
            arrays[f"{split}_corpus"] = np.array(corpus, object)
        np.savez(folder / f"{FILES.get(key, 'label')}.npz", **arrays)  # type: ignore[arg-type]
    return root


def _label(key: str, label: Any) -> dict[str, Any]:
    if key in VALUES:
        return {"emo": 0, "val": label}
    if key in ("meld", "iemocap"):
        return {"emo": CLASSES[key].index(label), "val": -10}
    return {"emo": label, "val": -10.0}


def write_results(
    output: Path, sets: Mapping[str, Mapping[str, Any]], model: str, right: float, seed: int = 0
) -> None:
    """Answers of a model of which about this share is right; some sentiments are none."""
    rng = np.random.default_rng([seed, round(100 * right)])
    for key, samples in sets.items():
        folder = output / f"results-{key}" / model
        folder.mkdir(parents=True)
        pool = list(samples.values())
        labels, signs = {}, {}
        for name, label in samples.items():
            said = label if rng.random() < right else pool[rng.integers(len(pool))]
            if key in VALUES:
                signs[name] = ("neutral", "positive", "negative")[int(np.sign(said))]
                if rng.random() < 0.1:
                    signs[name] = "mixed"
                said = "happy" if said > 0 else "sad"
            labels[name] = f"[{', '.join(said if isinstance(said, list) else [said])}]"
        _write(folder / "checkpoint_1-openset.npz", labels)
        if signs:
            _write(folder / "checkpoint_1-openset-sentiment.npz", signs)


def _write(path: Path, answers: Mapping[str, str]) -> None:
    np.savez(path, filenames=list(answers), fileitems=list(answers.values()))

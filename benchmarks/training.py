"""A random search in one process, all trials as one, against a process for each trial.

The protocol that it replaces starts a process 50 times. Here three such processes run in full (start,
imports, reading, training and evaluation), one after another, and stand for fifty: their mean × 50. The
other side is one process with 50 trials, likewise in full. Both do the same trials: hidden size, epochs,
folds and samples are the same, learning rate and dropout are drawn. Losses are checked to agree.

At this size most of a process's time is its start. What is gained on training alone, and at the widths
of a real search, where a CPU's arithmetic is the limit for both, is shown beside it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import merstore
from merstore.corpora.table import Field

from .figures import Figure
from .measure import interleave

TRIALS, PROCESSES, ROUNDS = 50, 3, 3
SAMPLES, TESTED, WIDTH, HIDDEN, EPOCHS, FOLDS = 1000, 300, 64, 64, 4, 5
PART = (
    f"Training: attention, {TRIALS} trials of random search, CPU, {SAMPLES:,} samples, 3 × [{WIDTH}], "
    f"hidden size {HIDDEN}, {FOLDS} folds of {EPOCHS} epochs (a real search: 3,373 samples, up to [5120], 100 epochs)"
)
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
FEATURES = ("chinese-hubert-large-UTT", "Baichuan-13B-Base-UTT", "clip-vit-large-patch14-UTT")
PATHS = ("audio@chinese-hubert-large", "text@Baichuan-13B-Base", "face@clip-vit-large-patch14")


def run(folder: Path) -> Iterator[Figure]:
    try:
        import torch  # noqa: F401

        from merstore.run.training import results
    except ImportError as error:
        print(f"  left out: {error}")
        return
    path = folder / "training.mer"
    _make(path)
    together = _process(path, "together", TRIALS)
    each = [_process(path, f"alone{number}", 1) for number in range(PROCESSES)]
    with merstore.open(path) as store:
        one, other = (results.read(store, name).rows[0] for name in ("together", "alone0"))
    for a, b in zip(one.history, other.history, strict=True):  # trial 0 of both
        np.testing.assert_allclose(a["train_loss"], b["train_loss"], rtol=0, atol=1e-5)
    alone = float(np.mean(each)) * TRIALS
    yield Figure(
        PART,
        f"`merstore train attention --trials {TRIALS}`",
        alone / together,
        "x",
        f"{TRIALS} processes of one trial, one after another ({PROCESSES} measured, × {TRIALS}/{PROCESSES})",
        5,
        low=min(each) * TRIALS / together,
        high=max(each) * TRIALS / together,
        ours=f"{together:.0f} s",
        theirs=f"{alone:.0f} s",
    )

    yield from _steps()


def _steps() -> Iterator[Figure]:
    """Optimiser steps alone: models in a stack against the same models one by one, one thread."""
    import torch

    from merstore.models.baselines.blocks import ROLES
    from merstore.run.training.trainer import Rows, Shape, Single, Stacked

    threads, device = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(1)
    try:
        for widths, hidden, count in (((WIDTH,) * 3, HIDDEN, 50), ((1024, 5120, 768), 128, 16)):
            source = torch.Generator().manual_seed(0)
            rows = Rows(
                {
                    r: torch.randn(320, w, generator=source)
                    for r, w in zip(ROLES, widths, strict=True)
                },
                torch.randint(6, (320,), generator=source),
                torch.full((320,), torch.nan),
            )
            shape = Shape("attention", widths, 6, 0)
            hypers = [
                {"hidden_dim": hidden, "dropout": (2 + k % 4) / 10, "lr": 1e-3}
                for k in range(count)
            ]
            batches = torch.arange(320).split(32)
            stack = Stacked(shape, hypers, range(count), 0, device)
            some = [Single(shape, hypers[k], k, 0, device) for k in range(4)]

            def together(number: int, stack=stack, rows=rows, batches=batches) -> Iterator[None]:
                yield
                stack.epoch(rows, batches)
                yield

            def alone(number: int, some=some, rows=rows, batches=batches) -> Iterator[None]:
                yield
                for model in some:
                    model.epoch(rows, batches)
                yield

            seconds = interleave({"stack": together, "alone": alone}, ROUNDS)
            ours, theirs = seconds["stack"] / count, seconds["alone"] / len(some)
            low, value, high = np.percentile(theirs / ours, (25, 50, 75))
            yield Figure(
                PART,
                f"training steps alone, {count} models of {hidden} over {', '.join(map(str, widths))}",
                float(value),
                "x",
                "the same models one by one (4 measured)",
                low=float(low),
                high=float(high),
                rounds=ROUNDS,
                ours=f"{np.median(ours) / len(batches) * 1e3:.2f} ms a model and step",
                theirs=f"{np.median(theirs) / len(batches) * 1e3:.2f} ms",
            )
    finally:
        torch.set_num_threads(threads)


def _make(path: Path) -> None:
    rng = np.random.default_rng(0)
    names = {f"sample_{i:08d}": "train" for i in range(SAMPLES)}
    names |= {f"test_{i:08d}": "test1" for i in range(TESTED)}
    emos = {name: int(rng.integers(len(CLASSES))) for name in names}
    with merstore.open(path, "w") as store:
        from dataclasses import asdict
        from json import dumps

        field = Field("emo", "class", ("emo",), CLASSES)
        labels = store.create_view(
            "mer2024/label/6way",
            dtype="uint8",
            shape=(None,),
            spec={"kind": "labels", "fields": [asdict(field)], "sources": {}},
        )
        labels.update(
            {
                name: np.frombuffer(
                    dumps(
                        {"split": split, "row": row, "values": {"emo": CLASSES[emos[name]]}}
                    ).encode(),
                    np.uint8,
                )
                for row, (name, split) in enumerate(names.items())
            }
        )
        for encoder in PATHS:
            centres = rng.normal(size=(len(CLASSES), WIDTH))
            view = store.create_view(f"mer2024/{encoder}/UTT", shape=(WIDTH,))
            view.update(
                {
                    name: (centres[emo] + 3 * rng.normal(size=WIDTH)).astype(np.float32)
                    for name, emo in emos.items()
                }
            )


def _process(path: Path, name: str, trials: int) -> float:
    """Seconds that one `merstore train` takes in full, one thread."""
    roles = zip(("audio", "text", "video"), FEATURES, strict=True)
    command = [sys.executable, "-m", "merstore.cli", "train", "attention"]
    command += ["--store", str(path), "--dataset", "MER2024", "--run", name]
    command += [word for role, folder in roles for word in (f"--{role}_feature", folder)]
    command += ["--trials", str(trials), "--epochs", str(EPOCHS), "--hidden_dim", str(HIDDEN)]
    command += ["--folds", str(FOLDS), "--gpu", "-1"]
    started = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return time.perf_counter() - started

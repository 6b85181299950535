"""The features of a task as tensors: every view is read once, for all trials."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from merstore.errors import InvalidTensor, MerstoreError, MissingEntry
from merstore.interop.mertools import map_to_length, snr_folder
from merstore.run.training import folds as folding
from merstore.run.training.folds import Fold
from merstore.run.training.task import Samples, Task
from merstore.run.training.trainer import Rows
from merstore.store.legacy import folder_name
from merstore.store.store import Store
from merstore.store.view import View

SCALES = {"utt": 1, "frm_align": 6, "frm_unalign": 12}
"""feat_type -> how many rows become one, before anything else."""
TEXT = 1  # the role whose lengths the others are aligned to
ON_MISS = ("raise", "skip")
_SHOWN = 5
_CHUNK = 256


@dataclass
class Problem:
    """A task with its features. ``folders``: the legacy names of the features, in the order of the
    model's inputs; ``views``: path -> fingerprint of all that was read; ``parts``: "train", "val",
    "held" (the train samples as the tests are read, where that differs) and the tests.
    """

    task: Task
    feat_type: str
    folders: list[str]
    views: dict[str, str]
    dims: tuple[int, ...]
    parts: dict[str, Rows]
    samples: dict[str, Samples]
    notes: list[str] = field(default_factory=list)

    def folds(self, count: int, seed: int) -> list[Fold]:
        """Raises MerstoreError where they cannot be made, or one has nothing to learn or to tell."""
        task, train = self.task, self.samples["train"]
        if task.folds == "session":
            session = dict(zip(task.train.names, task.sessions, strict=True))
            made = folding.session_folds(
                [session[name] for name in train.names],
                "held" if "held" in self.parts else "train",
            )
        elif task.folds == "val":
            made = folding.fixed_split(len(train), len(self.samples["val"]))
        else:
            made = folding.random_folds(len(train), count, seed)
        known = {
            name: each.signs if task.binary else each.emos for name, each in self.samples.items()
        }
        folding.check(made, known, 2 if task.binary else len(task.classes))
        return made

    @property
    def tests(self) -> list[str]:
        return list(self.task.tests)


def load(
    store: Store,
    task: Task,
    folders: Sequence[str],
    keys: Sequence[str],
    *,
    feat_type: str = "utt",
    feat_scale: int | None = None,
    train_snr: str | None = None,
    test_snr: str | None = None,
    on_miss: str = "raise",
) -> Problem:
    """Read the features of all samples of a task, as MERTools' loader makes them: compressed by
    block means, averaged over time (``utt``) or padded in front to the longest of their split.

    folders: views by legacy folder name, tail (``audio@X/UTT``) or path, one for each of the model's
    inputs `keys`. train_snr, test_snr: the noisy variant of them for train and validation, and for
    tests. on_miss: ``"raise"`` MissingEntry, or ``"skip"`` samples that any feature lacks.
    Raises UnknownView with the nearest names, InvalidTensor for NaN, MerstoreError.
    """
    if feat_type not in SCALES:
        raise MerstoreError(f"feat_type is one of {', '.join(SCALES)}, not {feat_type!r}")
    if on_miss not in ON_MISS:
        raise MerstoreError(f"on_miss is one of {', '.join(ON_MISS)}, not {on_miss!r}")
    if feat_type != "utt" and (train_snr or test_snr):
        raise MerstoreError(
            "noisy variants are of UTT features: leave the snr out, or feat_type utt"
        )
    scale = feat_scale if feat_scale is not None else SCALES[feat_type]
    wanted: dict[str, tuple[Samples, str, str | None]] = {
        "train": (task.train, task.dataset, train_snr)
    }
    if task.val is not None and task.folds == "val":
        wanted["val"] = (task.val, task.dataset, train_snr)
    if task.folds == "session" and train_snr != test_snr:
        wanted["held"] = (task.train, task.dataset, test_snr)
    for name, samples in task.tests.items():
        wanted[name] = (samples, task.test_dataset, test_snr)

    problem = Problem(task, feat_type, [], {}, (), {}, {}, list(task.notes))
    every: dict[str, list[View]] = {}
    for part, (_, dataset, snr) in wanted.items():
        every[part] = [find_view(store, folder, dataset, snr) for folder in folders]
        if feat_type != "utt":
            _frames_only(every[part], feat_type)
    kept = {part: _present(problem, part, samples, every[part], on_miss)
            for part, (samples, _, _) in wanted.items()}  # fmt: skip
    if "held" in kept:  # the same rows as train, whichever variant lacks a sample
        both = set(kept["train"].names) & set(kept["held"].names)
        for part in ("train", "held"):
            rows = [row for row, name in enumerate(kept[part].names) if name in both]
            kept[part] = kept[part].take(np.array(rows, np.int64))
    for part, samples in kept.items():
        blocks = _blocks(every[part], samples.names, feat_type, scale)
        dims = tuple(block.shape[-1] for block in blocks)
        if problem.dims and dims != problem.dims:
            raise MerstoreError(
                f"features of {part} have {dims} dimensions, those of train {problem.dims}: "
                "give features of one encoder for both"
            )
        problem.dims = dims
        problem.views |= {view.path: view.fingerprint for view in every[part]}
        problem.samples[part] = samples
        problem.parts[part] = Rows(
            dict(zip(keys, map(torch.from_numpy, blocks), strict=True)),
            torch.from_numpy(samples.emos),
            torch.from_numpy(samples.vals.astype(np.float32)),
        )
    problem.folders = [_shown(view) for view in every["train"]]
    return problem


def find_view(store: Store, folder: str, dataset: str, snr: str | None = None) -> View:
    """The view that a feature's name stands for in a dataset; of its noisy variant, with `snr`."""
    if snr is not None:
        folder = snr_folder(_shown(find_view(store, folder, dataset)), snr)
    if folder in store:
        return store[folder]
    return store[store.resolve(folder.removeprefix(f"{dataset}/"), dataset)]


def _shown(view: View) -> str:
    tail = view.path.partition("/")[2]
    return view.alias or folder_name(tail) or tail


def _frames_only(views: Sequence[View], feat_type: str) -> None:
    for view in views:
        if view.sampling != "FRA":
            raise MerstoreError(f"{view.path}: feat_type {feat_type} reads FRA features")


def _present(
    problem: Problem, part: str, samples: Samples, views: Sequence[View], on_miss: str
) -> Samples:
    """Those samples that all views have; what they lack is told."""
    there = np.ones(len(samples), bool)
    for view in dict.fromkeys(views):
        found = view.select(samples.names).present()
        if not found.all() and on_miss == "raise":
            lacking = [samples.names[row] for row in np.flatnonzero(~found)]
            raise MissingEntry(
                f"split {part}: {view._explain(lacking)}. Training reads all samples that have "
                'labels; on_miss="skip" leaves these out'
            )
        there &= found
    if not there.all():
        problem.notes.append(f"{part}: {(~there).sum()} of {len(there)} samples lack a feature")
    if not there.any():
        raise MissingEntry(
            f"split {part}: none of its {len(there)} samples is in all of "
            f"{', '.join(view.path for view in views)}: import or prewarm them"
        )
    if part == "train":
        labelled = set(samples.names).union(*(each.names for each in problem.task.tests.values()))
        if problem.task.val is not None:
            labelled |= set(problem.task.val.names)
        for view in dict.fromkeys(views):
            others = len(view) - sum(name in labelled for name in view)
            if others:
                problem.notes.append(
                    f"{view.path}: {others:,} samples are in no split, and not used"
                )
    return samples.take(np.flatnonzero(there))


def _blocks(
    views: Sequence[View], names: list[str], feat_type: str, scale: int
) -> list[np.ndarray]:
    """float32 ``[N, D]`` or ``[N, L, D]`` of each view; one that stands for several roles is read
    once, where the roles are treated alike.
    """
    lengths = [np.maximum(-(-_rows(view, names) // scale), 1) for view in views]
    made: dict[tuple[str, bytes], np.ndarray] = {}
    found = []
    for view, length in zip(views, lengths, strict=True):
        aligned = lengths[TEXT] if feat_type == "frm_align" else length
        key = view.path, aligned.tobytes()
        if key not in made:
            steps = [length, aligned] if feat_type == "frm_align" else [length]
            made[key] = _block(view, names, steps, feat_type == "utt")
        found.append(made[key])
    return found


def _rows(view: View, names: list[str]) -> np.ndarray:
    """int64 ``[N]``: how many rows each entry has."""
    shape = view.shape
    if len(shape) not in (1, 2):
        raise InvalidTensor(
            f"{view.path}: entries {shape} are no vectors [D] or sequences [T, D] of features"
        )
    if len(shape) == 2 and shape[0] is None:
        lengths = view.select(names).lengths()
        if not lengths.all():
            empty = names[int(np.flatnonzero(lengths == 0)[0])]
            raise InvalidTensor(f"{view.path}/{empty}: the sequence is empty: compute it again")
        return lengths
    return np.full(len(names), 1 if len(shape) == 1 else shape[0], np.int64)


def _block(view: View, names: list[str], steps: list[np.ndarray], mean: bool) -> np.ndarray:
    width = view.shape[-1] or 0
    longest = int(steps[-1].max(initial=0))
    out = np.zeros((len(names), width) if mean else (len(names), longest, width), np.float32)
    plain = len(view.shape) == 1
    if plain and mean and view.dtype in (np.float32, "bfloat16", np.float16):
        view.gather(names, out=out, dtype="float32")
        out += np.float32(0)  # a mean is a sum, which begins with 0: -0. becomes 0.
    else:
        for first in range(0, len(names), _CHUNK):
            batch = view.gather(names[first : first + _CHUNK])
            for row in range(len(names[first : first + _CHUNK])):
                array = np.asarray(batch[row])
                array = array[np.newaxis] if plain else array
                for step in steps:
                    array = map_to_length(array, int(step[first + row]))
                if mean:
                    out[first + row] = np.mean(array, axis=0)
                else:
                    out[first + row, longest - len(array) :] = array
    finite = np.isfinite(out.reshape(len(out), -1)).all(axis=1)
    if not finite.all():
        wrong = [names[row] for row in np.flatnonzero(~finite)]
        raise InvalidTensor(
            f"{view.path}: {len(wrong)} samples hold NaN or Inf: {', '.join(wrong[:_SHOWN])}. "
            "Compute them again, or record them as failures"
        )
    return out

"""What is to be learned: classes, values, splits, and which metric chooses the best epoch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from merstore.corpora import Labels, open_corpus, read_labels
from merstore.errors import InvalidKey, MerstoreError
from merstore.store.legacy import AFFECTGPT_DATASETS, dataset_key
from merstore.store.store import Store

LABELS_OF = {"iemocapfour": "4way", "iemocapsix": "6way"}
"""Datasets whose spelling says which set of labels is meant."""

FOUR = ("happy", "sad", "neutral", "angry")
"""The classes that MERTools learns across corpora, in its order."""
FOUR_OF = {
    "happy": "happy", "joy": "happy", "sad": "sad", "sadness": "sad",
    "neutral": "neutral", "angry": "angry", "anger": "angry",
}  # fmt: skip
TRIPLED = ("sims", "simsv2")  # valence from -1 to 1, made to reach as far as CMU's, -3 to 3
ACROSS_TEST = ("test1", "test")

SESSION = re.compile(r"session\d+")
_SHOWN = 5


@dataclass
class Samples:
    """Names with classes int64 ``[N]`` (-1: not known) and values float64 ``[N]`` (NaN: not known)."""

    names: list[str]
    emos: np.ndarray
    vals: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> "Samples":
        return Samples([self.names[row] for row in rows], self.emos[rows], self.vals[rows])

    @property
    def signs(self) -> np.ndarray:
        """int64 ``[N]``: whether the value is above 0; -1 where it is 0 or not known."""
        sure = np.isfinite(self.vals) & (self.vals != 0)
        return np.where(sure, self.vals > 0, -1)

    @property
    def labelled(self) -> np.ndarray:
        """bool ``[N]``"""
        known: np.ndarray = (self.emos >= 0) | np.isfinite(self.vals)
        return known


@dataclass
class Task:
    """`name` as MERTools spells it, `dataset` the key in the store. ``folds``: ``random``,
    ``session`` or ``val``. ``metric``: ``emo``, ``emoval``. ``binary``: values are scored by sign.

    notes: what was left out, in sentences.
    """

    name: str
    dataset: str
    test_dataset: str
    labels: str
    classes: tuple[str, ...]
    values: int
    metric: str
    binary: bool
    folds: str
    train: Samples
    sessions: list[str]
    val: Samples | None
    tests: dict[str, Samples]
    notes: list[str] = field(default_factory=list)


def find_labels(
    store: Store, dataset: str, source: Path | None = None, name: str | None = None
) -> Labels:
    """The labels of a dataset: those in the store, or those in a corpus's folder or label file.

    name: of the set, where there are several. Raises MerstoreError, InvalidKey, UnknownView.
    """
    name = name or LABELS_OF.get(dataset.casefold())
    if source is None:
        return read_labels(store, dataset_key(dataset), name)
    if source.is_file():
        corpus = open_corpus(dataset, source.parent)
        files = {s.partition("#")[0] for t in corpus.table.labels.values() for s in t.sources}
        if source.name not in files:
            raise MerstoreError(
                f"{source}: no label file of corpus {corpus.key} (it has: {', '.join(sorted(files))})"
            )
        corpus.root = source.parent
        return corpus.labels(name)
    return open_corpus(dataset, source).labels(name)


def task_of(labels: Labels, dataset: str, *, debug: bool = False) -> Task:
    """The task that a set of labels states.

    Classes are learned from its class field, values from its number field. Splits named
    ``session<n>`` are left out in turn; a split ``val`` chooses the epoch; else it is random folds
    of ``train``. All splits whose name begins with ``test`` are tests. debug: the first 100 samples
    of each split. Raises MerstoreError where there is nothing to learn from.
    """
    wrong = [problem for problem in labels.problems if problem.kind == "unknown_label"]
    if wrong:
        told = "; ".join(f"{p.sample}: {p.message}" for p in wrong[:_SHOWN])
        raise MerstoreError(
            f"labels {labels.name}: {len(wrong)} samples have a class that is none of the corpus's: "
            f"{told}. Mend the file, or declare the classes"
        )
    splits = {name: _samples(labels, names) for name, names in labels.splits().items()}
    if debug:
        splits = {name: each.take(np.arange(min(100, len(each)))) for name, each in splits.items()}
    key = dataset_key(dataset)
    classes = next((f.classes for f in labels.fields.values() if f.type == "class"), ())
    values = int(any(field.type == "number" for field in labels.fields.values()))
    notes: list[str] = []
    sessions: list[str] = []
    if splits and all(SESSION.fullmatch(name) for name in splits):
        folds = "session"
        sessions = [name for name, each in splits.items() for _ in range(len(each))]
        train = _joined(list(splits.values()))
        splits = {}
    else:
        folds = "val" if "val" in splits else "random"
        if "train" not in splits:
            raise MerstoreError(
                f"labels {labels.name} have no split train (they have: {', '.join(splits) or 'none'})"
            )
        train = splits["train"]
    if not train.labelled.any():
        raise MerstoreError(f"labels {labels.name}: no sample of split train has a label")
    if not (train.emos >= 0).any():
        classes = ()
    if not np.isfinite(train.vals).any():
        values = 0
    kept = np.flatnonzero(train.labelled)
    if len(kept) < len(train):
        notes.append(f"{len(train) - len(kept)} samples of train have no label and are left out")
        train, sessions = train.take(kept), [sessions[row] for row in kept] if sessions else []
    return Task(
        name=_spelling(dataset, labels.name),
        dataset=key,
        test_dataset=key,
        labels=labels.name,
        classes=classes,
        values=values,
        metric="emoval" if classes and values else "emo",
        binary=not classes,
        folds=folds,
        train=train,
        sessions=sessions,
        val=splits.get("val"),
        tests={name: each for name, each in splits.items() if name.startswith("test")},
        notes=notes,
    )


def across(train: Task, test: Task) -> Task:
    """Train on one corpus, test on another (notes on MERTools 3.4): four classes that both have, or
    values, where those of SIMS are tripled. Raises MerstoreError where one has classes and the other
    has not.
    """
    if bool(train.classes) != bool(test.classes):
        raise MerstoreError(
            f"{train.name} and {test.name} do not go together: one has classes, the other values alone"
        )
    convert = _four if train.classes else _tripled
    train, test = convert(train), convert(test)
    if test.folds == "session":
        split, samples = "whole", test.train
    else:
        found = [name for name in ACROSS_TEST if name in test.tests]
        if not found:
            raise MerstoreError(f"{test.name} has no split test1 or test to test on")
        split, samples = found[0], test.tests[found[0]]
    return replace(
        train, name=test.name, test_dataset=test.dataset, tests={split: samples},
        notes=[*train.notes, *(f"{test.name}: {note}" for note in test.notes)],
    )  # fmt: skip


def _four(task: Task) -> Task:
    index = np.array(
        [FOUR.index(FOUR_OF[name]) if name in FOUR_OF else -1 for name in task.classes] + [-1]
    )
    absent = set(FOUR) - {FOUR_OF.get(name) for name in task.classes}
    if absent:
        raise InvalidKey(
            f"{task.name} has no class for {', '.join(sorted(absent))}: {task.classes}"
        )

    def mapped(samples: Samples) -> tuple[Samples, np.ndarray]:
        emos = index[samples.emos]
        kept = np.flatnonzero(emos >= 0)
        every = Samples(samples.names, emos, np.full(len(emos), np.nan))
        return every.take(kept), kept

    train, kept = mapped(task.train)
    return replace(
        task,
        classes=FOUR,
        values=0,
        metric="emo",
        train=train,
        sessions=[task.sessions[row] for row in kept] if task.sessions else [],
        val=mapped(task.val)[0] if task.val is not None else None,
        tests={name: mapped(each)[0] for name, each in task.tests.items()},
    )


def _tripled(task: Task) -> Task:
    factor = 3.0 if task.dataset in TRIPLED else 1.0

    def scaled(samples: Samples) -> Samples:
        return replace(samples, vals=samples.vals * factor)

    return replace(
        task,
        train=scaled(task.train),
        val=scaled(task.val) if task.val is not None else None,
        tests={name: scaled(each) for name, each in task.tests.items()},
    )


def _samples(labels: Labels, names: list[str]) -> Samples:
    fields = {
        kind: [f for f in labels.fields.values() if f.type == kind] for kind in ("class", "number")
    }
    emos = np.full(len(names), -1, np.int64)
    vals = np.full(len(names), np.nan)
    for row, name in enumerate(names):
        said: Mapping[str, object] = labels.samples[name].values
        for each in fields["class"][:1]:
            value = said.get(each.name)
            if value is not None and value not in each.classes:
                raise MerstoreError(
                    f"labels {labels.name}: {name} is {value!r}, which is none of "
                    f"{', '.join(each.classes)}: mend the label, or declare the class"
                )
            if value is not None:
                emos[row] = each.classes.index(str(value))
        for each in fields["number"][:1]:
            value = said.get(each.name)
            if isinstance(value, float):
                vals[row] = value
    return Samples(names, emos, vals)


def _joined(each: list[Samples]) -> Samples:
    return Samples(
        [name for samples in each for name in samples.names],
        np.concatenate([samples.emos for samples in each]),
        np.concatenate([samples.vals for samples in each]),
    )


def _spelling(dataset: str, labels: str) -> str:
    """As MERTools spells it, which is in the names of its result files."""
    for spelling, name in LABELS_OF.items():
        if dataset_key(dataset) == "iemocap" and name == labels:
            return {"iemocapfour": "IEMOCAPFour", "iemocapsix": "IEMOCAPSix"}[spelling]
    known = AFFECTGPT_DATASETS.get(dataset_key(dataset))
    return known[0] if known else dataset

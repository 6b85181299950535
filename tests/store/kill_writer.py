"""A writer to be killed, and what its store must then hold.

What commit k of a run does follows from the run's seed, k and what the store held before: so the tests
know, after a kill, what each acknowledged commit wrote, and also what the one did that was under way.
"""

from collections.abc import Iterator
from copy import deepcopy
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from store.files_contents import digest

import merstore

FIXED = "demo/frame@X/uniform_8frms"
RAGGED = "demo/audio@Y/FRA"


class Operation(NamedTuple):
    kind: str  # put, delete or fail
    view: str
    name: str
    array: np.ndarray | None = None
    message: str = ""


class Model:
    """What a store holds: digests of tensors, and failures."""

    def __init__(self) -> None:
        self.tensors: dict[str, dict[str, str]] = {FIXED: {}, RAGGED: {}}
        self.failures: dict[str, dict[str, tuple[str, int]]] = {FIXED: {}, RAGGED: {}}

    @classmethod
    def of(cls, store: merstore.Store) -> "Model":
        model = cls()
        for path in store.views():
            view = store[path]
            model.tensors[path] = {name: digest(view[name]) for name in view}
            model.failures[path] = {f.name: (f.message, f.attempts) for f in view.failures()}
            assert len(view) == len(model.tensors[path])
        return model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and vars(self) == vars(other)

    def after(self, operations: list[Operation]) -> "Model":
        """This, and one commit more."""
        model = deepcopy(self)
        for kind, view, name, array, message in operations:
            tensors, failures = model.tensors[view], model.failures[view]
            if kind == "put":
                assert array is not None
                tensors[name] = digest(array)
                failures.pop(name, None)
            elif kind == "delete":
                tensors.pop(name, None)
                failures.pop(name, None)
            elif name not in tensors:
                failures[name] = (message, failures.get(name, ("", 0))[1] + 1)
        return model


def create(store: merstore.Store) -> None:
    store.create_view(FIXED, shape=(8, 128), spec={"n": 8}, exist_ok=True)
    store.create_view(RAGGED, dtype="float16", shape=(None, 64), exist_ok=True)


def commits(model: Model, seed: int, prefix: str = "") -> Iterator[list[Operation]]:
    """What each commit does: most are small, some large; new names, known ones, deletions, failures."""
    for number in range(1 << 30):
        rng = np.random.default_rng([seed, number])
        count = int(rng.choice([1, 3, 20, 120], p=[0.3, 0.4, 0.25, 0.05]))
        operations = [_operation(rng, model, prefix) for _ in range(count)]
        # a name comes once in a commit: what several would mean is another test's business
        operations = list({(each.view, each.name): each for each in operations}.values())
        yield operations
        model = model.after(operations)


def _operation(rng: np.random.Generator, model: Model, prefix: str) -> Operation:
    view = FIXED if rng.random() < 0.6 else RAGGED
    known = [n for n in (*model.tensors[view], *model.failures[view]) if n.startswith(prefix)]
    name = f"{prefix}s{rng.integers(0, 400):03d}"
    if known and rng.random() < 0.5:
        name = known[int(rng.integers(0, len(known)))]
    choice = rng.random()
    if choice < 0.15:
        return Operation("delete", view, name)
    if choice < 0.25:
        return Operation("fail", view, name, message=f"tried {rng.integers(0, 1000)}")
    if view == FIXED:
        return Operation("put", view, name, rng.standard_normal((8, 128), np.float32))
    # sometimes larger than a block
    rows = 9000 if rng.random() < 0.02 else int(rng.integers(1, 60))
    return Operation("put", view, name, rng.random((rows, 64), np.float32).astype(np.float16))


def write_for_ever(link: Connection, path: Path, seed: int, durability: str, prefix: str) -> None:
    """Commit, and say so, until killed."""
    with merstore.open(path, "a", durability=durability) as store:
        create(store)
        model = Model.of(store)
        link.send("open")
        for number, operations in enumerate(commits(model, seed, prefix)):
            with store.writer(max_bytes=1 << 40, max_seconds=1e9) as writer:
                for kind, view, name, array, message in operations:
                    if kind == "put":
                        writer.put(store[view], name, array)
                    elif kind == "delete":
                        writer.delete(store[view], name)
                    else:
                        writer.fail(store[view], name, "decode_error", message)
            link.send(number)

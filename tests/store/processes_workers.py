"""What worker processes of the tests run; in a module of its own, so that spawned ones find it."""

import os

import numpy as np

import merstore

VIEW = "demo/frame@X/uniform_8frms"
RAGGED = "demo/audio@Y/FRA"
SHAPE = (4, 64)
NAMES = [f"s{i:03d}" for i in range(60)]


def entry(i: int, generation: int = 0) -> np.ndarray:
    """What sample i holds in a generation: every number in it says both."""
    return np.full(SHAPE, i + 1000 * generation, np.float32)


def fill(store: merstore.Store, generation: int = 0) -> merstore.View:
    """All samples of a generation, in one commit."""
    view = store.create_view(VIEW, shape=SHAPE, exist_ok=True)
    ragged = store.create_view(RAGGED, dtype="float16", shape=(None, 8), exist_ok=True)
    with store.writer() as writer:
        for i, name in enumerate(NAMES):
            writer.put(view, name, entry(i, generation))
            writer.put(ragged, name, np.full((i % 5 + 1, 8), i, np.float16))
    return view


def generation_of(batch: np.ndarray, rows: list[int]) -> int:
    """The generation that a batch of the samples ``rows`` is of: whole and of one, or AssertionError."""
    generations, samples = np.divmod(np.asarray(batch), 1000)
    assert (samples == np.reshape(rows, (-1, 1, 1))).all()
    assert (generations == generations.flat[0]).all()
    return int(generations.flat[0])


def use_store(store: merstore.Store, row: int) -> tuple[int, float, bool]:
    return os.getpid(), float(store[VIEW][NAMES[row]][0, 0]), store.mode == "a"


def use_view(view: merstore.View, row: int) -> tuple[int, float, bool]:
    return os.getpid(), float(view.gather([NAMES[row]])[0, 0, 0]), view.store.mode == "a"


def use_selection(rows: merstore.Selection, row: int) -> tuple[int, float, bool]:
    return os.getpid(), float(rows.gather([row])[0, 0, 0]), rows.view.store.mode == "a"


def write_one(view: merstore.View, row: int) -> int:
    view[f"from worker {row}"] = entry(row)
    return row


def ask_for_nothing(view: merstore.View, row: int) -> None:
    view.gather([f"nothing {row}"])

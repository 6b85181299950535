"""What tests of loading share: a view of each kind, and who computes entries of them."""

from collections.abc import Iterable

import numpy as np

import merstore

SAMPLES = 50
Views = dict[str, merstore.View]


def length(i: int) -> int:
    """Rows of sample i in the ragged view."""
    return i % 5 + 1


def create(store: merstore.Store) -> Views:
    """Sample ``s07`` is 7 everywhere, in frames ``[8, 4]`` and in audio ``[3, 3]``."""
    frame = store.create_view("demo/frame@X/uniform_8frms", shape=(8, 4))
    audio = store.create_view("demo/audio@Y/FRA", shape=(None, 3))
    frame.update({f"s{i:02d}": np.full((8, 4), i, np.float32) for i in range(SAMPLES)})
    audio.update({f"s{i:02d}": np.full((length(i), 3), i, np.float32) for i in range(SAMPLES)})
    return {"frame": frame, "audio": audio}


class CountingFiller:
    """Computes a sample as full of its number, and remembers who it was asked for."""

    def __init__(self, failing: Iterable[str] = ()) -> None:
        self.asked: list[str] = []
        self.failing = set(failing)

    def fill(self, view: merstore.View, names: list[str]) -> None:
        self.asked += names
        ragged = view.shape[0] is None
        with view.store.writer() as writer:
            for name in names:
                i = int(name[1:])
                if name in self.failing:
                    writer.fail(view, name, "no_face", "nobody there")
                else:
                    shape = (length(i), *view.shape[1:]) if ragged else view.shape
                    writer.put(view, name, np.full(shape, i, np.float32))

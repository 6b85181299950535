"""Features on their way from the store to the model: their shapes."""

import numpy as np
import pytest
from answering import World, runner

from merstore.run.answers import read
from merstore.run.inference.sources import Sources
from merstore.run.inference.templates import Wanted
from merstore.run.tasks import Task
from merstore.store.store import Store

VIEW = "frame@EVA_CLIP_G/uniform_8frms"


def entry(shape: tuple[int, ...], number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    ("shape", "enters"),
    [((768,), (1, 768)), ((8, 768), (8, 768)), ((3, 4, 768), (3, 4, 768))],
    ids=["one vector", "one of each frame", "several of each frame"],
)
def test_an_entry_enters_as_rows(
    store: Store, world: World, shape: tuple[int, ...], enters: tuple[int, ...]
) -> None:
    stored = {f"s{number}": entry(shape, number) for number in range(3)}
    store.create_view(f"toy/{VIEW}", shape=shape, spec={"drawn": 1}).update(stored)

    def no_recipe(view: str) -> None:
        raise AssertionError(view)

    wanted = {"frame": Wanted(VIEW, "store")}
    sources = Sources(store, lambda: store, "toy", wanted, no_recipe, None)  # type: ignore[arg-type]
    found = sources.fetch(list(stored)).features
    for name, feature in found.items():
        assert feature["frame"].shape == enters
        np.testing.assert_array_equal(feature["frame"].reshape(shape), stored[name])
    asked = runner(store, world, mode="frameonly")
    asked.template = asked.template.changed({"frame": VIEW})
    (report,) = asked.run([Task("toy", list(stored))])
    assert len(read(store[report.view])) == 3

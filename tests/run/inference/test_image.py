"""Mode `image`: one frame of each clip, the same wherever it is computed, by the path of all features."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from answering import SHORT, World, make_encoders, make_media

from merstore.extract.rules import seed_of
from merstore.extract.sampling import drawn
from merstore.fill import Filler, declare
from merstore.run import answers
from merstore.run.inference import Runner, read_template
from merstore.run.inference.sources import recipes_of
from merstore.run.tasks import task_of
from merstore.store.store import Store

VIEW = "toy/frame@CLIP_VIT_LARGE/random_1frms"


def test_a_frame_of_each_clip_from_the_store_or_computed(
    store: Store, world: World, tmp_path: Path
) -> None:
    recipes = recipes_of(make_encoders(tmp_path / "models"), device="cpu")
    task = task_of(store, "toy", media=make_media(tmp_path, 3) / "clips")
    texts = []
    for template in ("full", "realtime", "full"):
        asked = Runner(
            store,
            world.checkpoints[:1],
            world.llm,
            read_template(template),
            mode="image",
            recipes=recipes,
            settings=SHORT,
            device="cpu",
            jobs=0,
        )
        (report,) = asked.run([task])
        found = answers.read(store[report.view], task.names)
        texts.append({name: answer.text for name, answer in found.items()})
    assert len(texts[0]) == 3
    assert texts[1:] == texts[:1] * 2
    assert (report.present, report.answered) == (3, 0)
    every = recipes("frame@CLIP_VIT_LARGE/FRA", "affectgpt")
    assert task.materials is not None
    Filler(task.materials, every, jobs=0).fill(declare(store, "toy", every), list(task.names))
    for name in task.names:
        rows = store["toy/frame@CLIP_VIT_LARGE/FRA"][name]
        (shown,) = drawn(len(rows), 1, seed_of(name))
        far = np.abs(rows - store[VIEW][name]).max(axis=1)
        assert far[shown] < 1e-5  # up to rounding, and no other frame is as near
        assert np.delete(far, shown).min() > 1e-3

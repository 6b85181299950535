"""Filling behind the reader's back."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from filling import Bytes

import merstore
from merstore.fill import Background, Filler, declare

Clips = dict[str, Path]


def test_the_reader_gets_a_mask_at_once_and_the_entries_after_a_refresh(
    store: merstore.Store, clips: Clips, recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    background = view.filler = Background(Filler(clips, recipe, jobs=0))
    names = list(clips)[:3]
    assert not view.gather(names, on_miss="fill").mask.any()
    background.wait()
    store.refresh()
    batch = view.gather(names, on_miss="fill")
    assert batch.mask.all()
    np.testing.assert_array_equal(batch[0], [1] * 8)
    assert len(recipe.computed()) == 3, "what was asked for, once"


def test_what_the_thread_failed_with_is_raised_to_the_reader(
    store: merstore.Store, clips: Clips, recipe: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = declare(store, "demo", recipe)
    background = view.filler = Background(Filler(clips, recipe, jobs=0))

    def broken(*_: object) -> list[np.ndarray]:
        raise ZeroDivisionError

    monkeypatch.setattr(recipe, "encode", broken)
    background.fill(view, ["clip_000"])
    with pytest.raises(ZeroDivisionError):
        background.wait()


def test_another_spec_is_refused_at_once(
    store: merstore.Store, clips: Clips, recipe: Bytes, tmp_path: Path
) -> None:
    view = declare(store, "demo", recipe)
    other = Background(Filler(clips, Bytes(tmp_path / "log", version=2), jobs=0))
    with pytest.raises(merstore.StaleView):
        other.fill(view, ["clip_000"])


def test_it_travels_with_its_view(store: merstore.Store, clips: Clips, recipe: Bytes) -> None:
    view = declare(store, "demo", recipe)
    view.filler = Background(Filler(clips, recipe, jobs=0))
    copy = pickle.loads(pickle.dumps(view))
    copy.gather(list(clips)[:2], on_miss="fill")
    copy.filler.wait()
    assert len(recipe.computed()) == 2

"""Filling: each entry computed once, failures recorded, nothing under another spec."""

import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from filling import SAMPLES, Bytes

import merstore
from merstore.fill import Failed, Filler, Progress, declare
from merstore.store.leases import Owner


def test_every_clip_becomes_an_entry(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    seen: list[Progress | Failed] = []
    report = Filler(clips, recipe, jobs=0).fill(view, tell=seen.append)
    assert view.path == "demo/frame@bytes/all"
    assert (report.samples, report.computed, report.failed) == (SAMPLES, SAMPLES, {})
    assert report.bytes == SAMPLES * 32
    assert isinstance(seen[-1], Progress)
    assert seen[-1][:3] == (SAMPLES, SAMPLES, 0)
    for i, name in enumerate(clips):
        np.testing.assert_array_equal(view[name], np.full(8, i + 1, np.float32))


def test_a_second_fill_computes_nothing(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    filler = Filler(clips, recipe, jobs=0)
    filler.fill(view)
    report = filler.fill(view)
    assert (report.present, report.computed) == (SAMPLES, 0)
    assert len(recipe.computed()) == SAMPLES


def test_failures_are_recorded_by_kind_and_not_tried_again_until_asked(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    names = list(clips)
    clips[names[0]].unlink()
    clips[names[1]].write_bytes(b"")
    clips[names[2]].write_bytes(bytes([255] * 8))  # the encoder refuses it, and it alone
    clips[names[3]].write_bytes(bytes([254] * 8))  # its features are NaN
    view = declare(store, "demo", recipe)
    filler = Filler(clips, recipe, jobs=0)
    report = filler.fill(view, [*names, "never_heard_of"])
    assert report.failed == {
        "missing_file": [names[0], "never_heard_of"],
        "decode_error": [names[1]],
        "encoder_error": [names[2], names[3]],
    }
    assert report.computed == SAMPLES - 4
    assert {failure.name for failure in view.failures()} == {*names[:4], "never_heard_of"}

    again = filler.fill(view, names)
    assert (again.known_failures, again.computed, again.failed) == (4, 0, {})

    clips[names[1]].write_bytes(bytes(range(1, 9)))
    retried = filler.fill(view, names, retry=["decode_error"])
    assert (retried.computed, retried.known_failures) == (1, 3)
    assert names[1] in view
    assert view.failure(names[1]) is None

    still = filler.fill(view, names, retry="all")
    still_failed = [name for failed in still.failed.values() for name in failed]
    assert sorted(still_failed) == [names[0], names[2], names[3]]
    failure = view.failure(names[0])
    assert failure is not None
    assert failure.attempts == 2


def test_a_view_of_another_spec_is_never_filled(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes, tmp_path: Path
) -> None:
    view = declare(store, "demo", recipe)
    other = Bytes(tmp_path / "log", version=2)
    with pytest.raises(merstore.StaleView, match=r"version: 1 against 2"):
        Filler(clips, other, jobs=0).fill(view)
    with pytest.raises(merstore.SpecMismatch):
        declare(store, "demo", other)
    assert len(view) == 0


def test_gather_fills_what_is_missing_and_masks_what_cannot_be_computed(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    names = list(clips)
    clips[names[1]].write_bytes(b"")
    view = declare(store, "demo", recipe)
    view.filler = Filler(clips, recipe, jobs=0)
    batch = view.gather(names[:3], on_miss="fill")
    np.testing.assert_array_equal(batch.mask, [True, False, True])
    np.testing.assert_array_equal(batch[0], np.full(8, 1, np.float32))
    assert not batch[1].any()
    assert len(recipe.computed()) == 2, "only what was asked for"
    view.gather(names[:3], on_miss="fill")
    assert len(recipe.computed()) == 2, "the second time all is served"


def test_without_a_filler_fill_says_what_to_do(store: merstore.Store, recipe: Bytes) -> None:
    view = declare(store, "demo", recipe)
    with pytest.raises(merstore.MerstoreError, match=r"view\.filler ="):
        view.gather(["a"], on_miss="fill")


def test_a_filler_travels_with_its_view(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    view.filler = Filler(clips, recipe, jobs=0)
    copy = pickle.loads(pickle.dumps(view))
    assert copy.gather(list(clips)[:2], on_miss="fill").mask.all()


def test_what_another_process_holds_is_waited_for_and_not_computed_twice(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_fill, args=(str(store.path), view.path, clips, recipe))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store.refresh()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(view) == SAMPLES
    assert sorted(recipe.computed()) == sorted(path.read_bytes().hex() for path in clips.values())
    assert store.verify() == []


def _fill(path: str, view: str, clips: dict[str, Path], recipe: Bytes) -> None:
    with merstore.open(path, "a") as store:
        report = Filler(clips, recipe, jobs=0).fill(store[view])
        assert report.computed + report.elsewhere + report.present == SAMPLES


def test_the_leases_of_a_killed_filler_do_not_hold_the_next_one_up(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        Owner().claim(store[view.path], clips)
        os.write(writing, b".")
        signal.pause()
    assert os.read(reading, 1) == b"."
    busy = Owner().claim(view, clips)
    assert len(busy.busy) == SAMPLES
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert Filler(clips, recipe, jobs=0).fill(view).computed == SAMPLES


def test_an_interrupted_fill_keeps_what_it_computed_and_gives_its_leases_back(
    store: merstore.Store, clips: dict[str, Path], recipe: Bytes
) -> None:
    view = declare(store, "demo", recipe)

    def interrupt(told: Progress | Failed) -> None:
        if isinstance(told, Progress) and told.done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Filler(clips, recipe, jobs=0).fill(view, tell=interrupt)
    kept = len(view)
    assert 20 <= kept < SAMPLES
    with store.environment.transaction() as txn:
        assert txn.stat(store.environment.databases[b"leases"])["entries"] == 0
    assert Filler(clips, recipe, jobs=0).fill(view).computed == SAMPLES - kept
    assert len(recipe.computed()) == SAMPLES

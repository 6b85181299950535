"""Prewarming: several views from one reading of each sample, resumed after anything."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filling import SAMPLES, Bytes, Large, Ragged, content, write_clips
from store.files_disks import small_disk

import merstore
from merstore.errors import MerstoreError, SpecMismatch
from merstore.extract.material import Material
from merstore.fill import Failed, Progress, declare, make_plan, prewarm

Clips = dict[str, Path]


@pytest.fixture
def recipes(tmp_path: Path) -> list[Bytes]:
    log = tmp_path / "log"
    return [Bytes(log), Bytes(log, sampling="again"), Ragged(log)]


def test_a_sample_is_in_every_view_and_was_read_by_one_process_for_all(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    reports = prewarm(store, "demo", clips, recipes, jobs=2)
    assert [report.view for report in reports] == [
        "demo/frame@bytes/all", "demo/frame@bytes/again", "demo/audio@bytes/all",
    ]  # fmt: skip
    assert [report.computed for report in reports] == [SAMPLES] * 3
    for i, name in enumerate(clips):
        np.testing.assert_array_equal(store["demo/frame@bytes/again"][name], [i + 1] * 8)
        assert store["demo/audio@bytes/all"][name].shape == (i + 1, 2)


def test_only_what_is_missing_of_each_view_is_computed(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    names = list(clips)
    prewarm(store, "demo", clips, recipes[:1], names=names[:10], jobs=0)
    reports = prewarm(store, "demo", clips, recipes[:2], jobs=0)
    assert [(report.present, report.computed) for report in reports] == [
        (10, SAMPLES - 10), (0, SAMPLES),
    ]  # fmt: skip
    assert sorted(recipes[0].computed()) == sorted(recipes[1].computed())
    again = prewarm(store, "demo", clips, recipes[:2], jobs=0)
    assert [(report.present, report.computed) for report in again] == [(SAMPLES, 0)] * 2


def test_a_clip_that_hangs_or_crashes_costs_one_sample(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    names = list(clips)
    clips[names[3]].write_bytes(bytes([253] * 8))
    clips[names[5]].write_bytes(bytes([252] * 8))
    told: list[Progress | Failed] = []
    reports = prewarm(store, "demo", clips, recipes[:2], jobs=2, seconds=1.0, tell=told.append)
    for report in reports:
        assert report.failed == {"decoder_crash": [names[3]], "timeout": [names[5]]}
        assert report.computed == SAMPLES - 2
    failures = [each for each in told if isinstance(each, Failed)]
    assert {(each.name, each.kind) for each in failures} == {
        (names[3], "decoder_crash"), (names[5], "timeout"),
    }  # fmt: skip


def test_what_was_odd_about_a_sample_is_kept_beside_its_features(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    names = list(clips)
    clips[names[1]].write_bytes(b"")
    prewarm(store, "demo", clips, recipes[:1], jobs=0)
    quality = store.quality("demo")
    assert quality.names("silent") == names[::2]
    assert quality[names[2]]["video"].facts == {"content": "03" * 8}


def test_an_array_that_the_view_refuses_fails_alone(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    names = list(clips)
    clips[names[0]].write_bytes(bytes([255] * 8))
    clips[names[1]].write_bytes(bytes([254] * 8))
    (report,) = prewarm(store, "demo", clips, recipes[:1], jobs=0)
    assert report.failed == {"encoder_error": names[:2]}


def test_a_sample_without_the_part_that_a_view_needs_says_which(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    lacks = {"video": ("missing_file", "no a.mp4 nor a.avi")}
    (report,) = prewarm(store, "demo", {"a": Material("a", lacks=lacks)}, recipes[:1], jobs=0)
    assert report.failed == {"missing_file": ["a"]}
    failure = store["demo/frame@bytes/all"].failure("a")
    assert failure is not None
    assert failure.message == "no a.mp4 nor a.avi"


def test_no_samples_and_a_view_asked_for_twice_are_refused(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    with pytest.raises(MerstoreError, match="the list of samples is empty"):
        prewarm(store, "demo", {}, recipes)
    with pytest.raises(MerstoreError, match="no views to compute for demo"):
        prewarm(store, "demo", clips, [])
    with pytest.raises(MerstoreError, match="asked for twice: demo/frame@bytes/all"):
        prewarm(store, "demo", clips, [recipes[0], recipes[0]])
    assert store.views() == []


def test_a_view_of_another_spec_is_refused_before_anything_is_computed(
    store: merstore.Store, clips: Clips, recipes: list[Bytes], tmp_path: Path
) -> None:
    declare(store, "demo", Bytes(tmp_path / "log", version=2))
    with pytest.raises(SpecMismatch, match="version: 2 against 1"):
        prewarm(store, "demo", clips, recipes[:1])


def test_a_shard_leaves_out_what_its_store_has(
    store: merstore.Store, clips: Clips, recipes: list[Bytes], tmp_path: Path
) -> None:
    names = list(clips)
    clips[names[0]].write_bytes(b"")
    prewarm(store, "demo", clips, recipes[:1], names=names[:10], jobs=0)
    with merstore.open(tmp_path / "shard.mer", "a") as shard:
        (report,) = prewarm(shard, "demo", clips, recipes[:1], base=store, jobs=0)
        assert (report.samples, report.present, report.known_failures) == (SAMPLES, 9, 1)
        assert list(shard["demo/frame@bytes/all"]) == names[10:]


def test_a_plan_computes_nothing_and_knows_what_a_run_took(
    store: merstore.Store, clips: Clips, recipes: list[Bytes]
) -> None:
    names = list(clips)
    nothing = make_plan([], "demo", names, recipes)
    assert [(view.missing, view.bytes, view.seconds) for view in nothing.views] == [
        (SAMPLES, SAMPLES * 32, None), (SAMPLES, SAMPLES * 32, None), (SAMPLES, None, None),
    ]  # fmt: skip
    assert nothing.seconds is None
    clips[names[0]].write_bytes(b"")
    prewarm(store, "demo", clips, recipes, names=names[:10], jobs=0)
    plan = make_plan([store], "demo", names, recipes)
    assert [(view.present, view.failed, view.missing) for view in plan.views] == [(9, 1, 30)] * 3
    assert plan.views[2].bytes == round(30 * sum(range(2, 11)) / 9 * 8)
    assert plan.seconds is not None
    assert recipes[0].computed() == recipes[1].computed()
    retried = make_plan([store], "demo", names, recipes, retry=["decode_error"])
    assert [(view.failed, view.missing) for view in retried.views] == [(0, 31)] * 3
    assert make_plan([store], "demo", names[1:10], recipes).seconds == 0.0


def test_a_disk_that_is_full_in_the_middle_of_a_run(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merstore.fill.engine.COMMIT_SECONDS", 0.0)
    recipe = Large(tmp_path / "log")
    with small_disk(tmp_path / "disk", 16 << 20) as disk:
        with merstore.open(disk / "s.mer", "a") as store:
            with pytest.raises(merstore.StoreFull, match=r"no space left.*Free some"):
                prewarm(store, "demo", clips, [recipe], jobs=0)
            view = store["demo/frame@bytes/all"]
            there = list(view)
            assert 0 < len(there) < SAMPLES
            assert store.verify() == []
            for name in there:
                np.testing.assert_array_equal(
                    view[name], np.full(1 << 17, clips[name].read_bytes()[0])
                )
        with merstore.open(disk / "s.mer", "a") as store:  # it goes on from there
            (report,) = prewarm(store, "demo", clips, [recipe], names=there, jobs=0)
            assert report.present == len(there)


def test_a_clock_that_is_set_back_holds_nothing_up(
    store: merstore.Store, clips: Clips, recipes: list[Bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(10**9, 0, -3600))
    monkeypatch.setattr("time.time", lambda: float(next(steps)))
    (report,) = prewarm(store, "demo", clips, recipes[:1], jobs=0)
    assert report.computed == SAMPLES
    assert report.seconds >= 0


_RUN = """
import sys
from pathlib import Path
import merstore
from filling import Bytes, Ragged
from merstore.fill import prewarm
folder, store, log = map(Path, sys.argv[1:])
clips = {path.stem: path for path in sorted(folder.iterdir())}
with merstore.open(store, "a") as opened:
    prewarm(opened, "demo", clips, [Bytes(log), Ragged(log)], jobs=2, seconds=5.0)
"""


def _start(clips: Path, store: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", _RUN, str(clips), str(store), str(log)]
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})


def test_killed_ten_times_at_random_it_ends_in_the_same_content(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 200)
    (tmp_path / "clips" / "clip_007.bin").write_bytes(b"")
    (tmp_path / "clips" / "clip_100.bin").write_bytes(bytes([253] * 8))
    assert _start(tmp_path / "clips", tmp_path / "once.mer", tmp_path / "log1").wait() == 0
    draw = random.Random(5)
    for _ in range(10):
        child = _start(tmp_path / "clips", tmp_path / "often.mer", tmp_path / "log2")
        try:
            child.wait(draw.uniform(0.2, 1.2))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert _start(tmp_path / "clips", tmp_path / "often.mer", tmp_path / "log2").wait() == 0
    with (
        merstore.open(tmp_path / "once.mer") as once,
        merstore.open(tmp_path / "often.mer") as often,
    ):
        assert content(often) == content(once)
        assert len(often["demo/audio@bytes/all"]) == len(clips) - 2
        assert often.verify() == []


def test_two_prewarms_of_one_store_at_once_compute_nothing_twice(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 200)
    runs = [_start(tmp_path / "clips", tmp_path / "s.mer", tmp_path / "log") for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    computed = Bytes(tmp_path / "log").computed()
    assert len(computed) == len(set(computed)) == len(clips)

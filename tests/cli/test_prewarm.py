"""prewarm: from clips to entries and failure records, on real files and random encoders."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.cli.main import run
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.extract.demo_encoder import make_random_encoder
from merstore.fill.log import read_log

from .conftest import Merstore

VIEW = "toy/frame@encoder/uniform_8frms"
NAMES = [f"sample_{n:08d}" for n in range(3)]
BROKEN, SILENT = TRUNCATED.removesuffix(".mp4"), NO_VIDEO.removesuffix(".mp4")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_random_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips and the two broken ones of the demo."""
    made = make_clips(tmp_path_factory.mktemp("media"))
    for path in made[3:-2]:
        path.unlink()
    return made[0].parent


@pytest.fixture
def command(clips: Path, models: Path, tmp_path: Path) -> list[object]:
    args = ["--dataset", "toy", "--models", models, "--device", "cpu", "--jobs", "0"]
    return ["prewarm", tmp_path / "s.mer", clips, *args, "--view", "frame@encoder/uniform_8frms"]


def test_every_clip_ends_as_an_entry_or_a_failure_record(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    first = cli(*command)
    assert first.code == 1, first.err  # two clips failed
    assert f"{VIEW}: 3 computed, 2 failed" in first.out
    assert f"{VIEW} decode_error: 1" in first.out
    assert "merstore failures" in first.out
    with merstore.open(tmp_path / "s.mer") as store:
        view = store[VIEW]
        assert [len(view), view.shape] == [3, (8, 64)]
        failed = {failure.name: failure.kind for failure in view.failures()}
        assert failed == {BROKEN: "decode_error", SILENT: "no_video"}

    again = cli(*command, "--json")
    assert again.code == 0
    (view,) = again.json["views"]
    counts = [view[key] for key in ("samples", "present", "known_failures", "computed")]
    assert counts == [5, 3, 2, 0]

    retried = cli(*command, "--retry-failed", "no_video", "--json")
    assert retried.code == 1
    assert retried.json["views"][0]["failed"] == {"no_video": [SILENT]}
    failures = cli("failures", tmp_path / "s.mer", VIEW, "--kind", "no_video", "--json").json
    assert json.dumps(failures).count(SILENT) == 1


def test_a_plan_makes_no_store_and_computes_nothing(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    plan = cli(*command, "--plan", "--json")
    assert plan.code == 0
    (view,) = plan.json["views"]
    assert [view["missing"], view["bytes"], view["seconds"]] == [5, 5 * 8 * 64 * 4, None]
    assert not (tmp_path / "s.mer").exists()
    cli(*command)
    told = cli(*command, "--plan")
    assert told.lines[1].split() == [VIEW, "5", "3", "2", "0", "0", "B", "0", "s"]


def test_several_views_and_profiles_of_a_clip(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    more = [
        "--view",
        "frame@encoder/headtail_6frms?profile=affectgpt",
        "--view",
        "frame@encoder/UTT",
    ]
    assert cli(*command, *more).code == 1
    with merstore.open(tmp_path / "s.mer") as store:
        frames = [path for path in store.views() if "/frame@" in path]
        assert [len(store[path]) for path in frames] == [3, 3, 3]
        assert store["toy/frame@encoder/UTT"].shape == (64,)
        assert "affectgpt" in json.dumps(store["toy/frame@encoder/headtail_6frms"].spec)


def test_shards_fill_stores_of_their_own_and_are_joined(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.mer"
    assert cli(command[0], whole, *command[2:]).code == 1
    for index in range(2):
        told = cli(*command, "--shard", f"{index}/2")
        assert f"shard {index}/2" in told.err
    assert not (tmp_path / "s.mer" / "data.mdb").exists()
    assert cli("merge", tmp_path / "s.mer").code == 0
    with merstore.open(whole) as one, merstore.open(tmp_path / "s.mer") as joined:
        assert joined.views() == one.views()
        for name in NAMES:
            np.testing.assert_array_equal(joined[VIEW][name], one[VIEW][name])
        assert len(joined[VIEW].failures()) == 2
    rest = cli(*command, "--shard", "0/2", "--json")
    assert rest.json["views"][0]["computed"] == 0


def test_torchrun_and_slurm_say_which_shard_this_is(
    cli: Merstore, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "shard 1/3" in cli(*command).err
    assert (tmp_path / "s.mer.shards" / "0001-of-0003.mer").is_dir()


def test_two_devices_fill_one_store(cli: Merstore, command: list[object], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    report = cli(*command, "--device", "cpu,cpu", "--log", log, "--json")
    assert report.code == 1, report.err
    (view,) = report.json["views"]
    assert [view["computed"], view["elsewhere"]] == [3, 0]
    assert sorted(view["failed"]) == ["decode_error", "no_video"]
    done = [event for event in read_log(log) if event["event"] == "done"]
    assert sum(event["computed"] for event in done) == 3
    with merstore.open(tmp_path / "s.mer") as store:
        assert sorted(store[VIEW]) == NAMES


def test_a_log_and_a_report_of_the_run(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    log, page = tmp_path / "log.jsonl", tmp_path / "report.html"
    assert cli(*command, "--log", log, "--report", page).code == 1
    told = read_log(log)
    assert told[0]["settings"]["profile"] == "clean"
    events = [event["event"] for event in told]
    assert events[0] == "plan"
    assert events.count("failure") == 2
    assert events[-1] == "done"
    html = page.read_text(encoding="utf-8")
    assert VIEW in html
    assert BROKEN in html


def test_only_the_clips_of_a_list(cli: Merstore, command: list[object], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("sample_00000001\nsample_00000999\n")
    (view,) = cli(*command, "--list", listed, "--json").json["views"]
    assert view["computed"] == 1
    assert view["failed"] == {"missing_file": ["sample_00000999"]}


def test_sounds_faces_and_texts_lie_beside_the_clips(
    cli: Merstore, command: list[object], tmp_path: Path
) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    np.save(faces / f"{NAMES[0]}.npy", np.full((9, 112, 112, 3), 7, np.uint8))
    args = ["--view", "face@encoder/8frms?profile=affectgpt", "--faces", faces, "--json"]
    report = cli(*command, *args)
    view = report.json["views"][1]
    assert view["computed"] == 1
    assert {kind: sorted(names) for kind, names in view["failed"].items()} == {
        "no_face": sorted([*NAMES[1:], BROKEN, SILENT])
    }


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--dataset", "no/slash"], "no/slash"),
        (["--view", "frame@encoder/never"], "no sampling 'never'"),
        (["--view", "frame@nobody/UTT"], "no encoder 'nobody'"),
        (["--view", "frame@encoder/UTT?colour=red"], "colour"),
        (["--view", "frame@encoder/uniform_8frms"], "asked for twice"),
        (["--weights", "encoder"], "ENCODER=WHERE"),
        (["--shard", "3/3"], "shards are counted from 0"),
        (["--faces", "nowhere"], "nowhere"),
        (["--device", ","], "no device"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    args: list[str], told: str, cli: Merstore, command: list[object]
) -> None:
    result = cli(*command, *args)
    assert result.code in (1, 2)
    assert result.err.splitlines()[-1].startswith("error: ")
    assert told in result.err


def test_no_clips_no_store(cli: Merstore, command: list[object], tmp_path: Path) -> None:
    result = cli(*command[:2], tmp_path / "nowhere", *command[3:])
    assert result.code == 1
    assert "nowhere" in result.err
    assert not (tmp_path / "s.mer").exists()


def test_weights_that_changed_do_not_mix_with_what_is_stored(
    cli: Merstore, command: list[object], models: Path, tmp_path: Path
) -> None:
    cli(*command)
    other = tmp_path / "other"
    make_random_encoder(other / "encoder", seed=1)
    changed = cli(*command, "--models", other)
    assert changed.code == 1
    assert "encoder.weights: sha256:" in changed.err


def test_a_finished_plan_needs_neither_torch_nor_transformers(
    command: list[object], cli: Merstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*command)
    for heavy in ("torch", "transformers", "av"):
        monkeypatch.setitem(sys.modules, heavy, None)
    assert run([str(arg) for arg in command]) == 0

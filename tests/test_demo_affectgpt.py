"""`make demo-affectgpt`: what it says, of few clips, and as a newcomer runs it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from merstore.demo.affectgpt import QUESTIONS, TEMPLATES, WITH_FRAMES, WITHOUT_FRAMES, World, show
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.demo.models import ENCODERS, make_checkpoint, make_llm
from merstore.extract.faces import read_faces
from merstore.extract.mer_factory import MerFactory
from merstore.extract.video import read_frames
from merstore.models.affectgpt import Config, Tokens, read

FEW = [f"sample_{number:08d}" for number in (0, 1, 2, 10, 27)]
SAME = "sample_00000010"  # of eight frames, which both rules take


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A few clips, two of them broken."""
    world = World(tmp_path_factory.mktemp("demo"))
    for clip in make_clips(world.media):
        if clip.stem not in FEW and clip.name not in (TRUNCATED, NO_VIDEO):
            clip.unlink()
    return world


@pytest.fixture
def told(world: World, capsys: pytest.CaptureFixture[str]) -> str:
    """What the demo says, the first time or a later one."""
    show(world)
    return capsys.readouterr().out


def costs(told: str) -> dict[tuple[str, str], list[int]]:
    """there, answered, failed, read, computed and kept, by mode and template."""
    rows = re.findall(r"^(multi\w+) +(\w+)((?: +\d+){6}) +[\d.]+$", told, re.M)
    return {(mode, name): [int(each) for each in numbers.split()] for mode, name, numbers in rows}


def answers(told: str, mode: str) -> dict[str, list[str]]:
    """The rows of a mode's answers, by sample."""
    _, _, rest = told.partition(f"answers in mode {mode}\n")
    rows = [re.split(r" {2,}", line) for line in rest.split("\nfull and")[0].splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


def test_says_where_features_come_from_and_that_the_same_give_the_same(told: str) -> None:
    assert "RANDOM weights" in told
    assert costs(told) == {
        # all but one of the good clips were there before
        (WITHOUT_FRAMES, "full"): [0, 5, 2, 8, 2, 2],
        (WITHOUT_FRAMES, "realtime"): [0, 5, 2, 0, 10, 0],
        (WITHOUT_FRAMES, "hybrid"): [5, 0, 2, 0, 0, 0],  # what realtime asked
        (WITH_FRAMES, "full"): [0, 5, 2, 14, 1, 1],
        (WITH_FRAMES, "realtime"): [0, 5, 2, 0, 15, 0],
        (WITH_FRAMES, "hybrid"): [0, 4, 3, 4, 8, 0],  # of one clip nobody knows the peak
    }
    for row in answers(told, WITHOUT_FRAMES).values():
        assert len(set(row)) == 1
    found = answers(told, WITH_FRAMES)
    assert all(full == realtime for full, realtime, *_ in found.values())
    assert found[SAME][2:] == [found[SAME][0], "same", "same"]
    assert found[FEW[0]][3] == "other"
    assert found[FEW[-1]][2:] == ["(none)", "-", "-"]
    assert "full 0 1 2 3 4 5 6 7, hybrid 0 1 2 3 4 5 6 7" in told
    assert f"no answer about {FEW[-1]}: no_au_info (hybrid)" in told
    assert "6 runs: 0 features computed, 0 answers given; 29 answers were there" in told


def test_run_again_it_computes_nothing_and_shows_the_same(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    show(world)
    first = capsys.readouterr().out
    show(world)
    second = capsys.readouterr().out
    assert "0 features computed in this run" in second
    assert all(row[1] == row[4] == 0 for row in costs(second).values())
    for mode in QUESTIONS:
        assert answers(second, mode) == answers(first, mode)
        assert len(TEMPLATES) == sum(key[0] == mode for key in costs(second))


def test_face_tracks_are_of_the_clips_own_frames_as_openface_leaves_them(
    told: str, world: World
) -> None:
    analyses = MerFactory(world.analyses)
    assert analyses.samples() == FEW[:-1]
    for name in FEW:
        pixels = read_frames(world.media / f"{name}.mp4", range, None).pixels
        faces = read_faces(world.faces / f"{name}.npy")
        assert faces.pixels.shape == (len(pixels), 112, 112, 3)
        middle = pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2, ::-1].astype(int)
        assert np.abs(faces.pixels[:, 56, 56] - middle).max() < 128
    assert analyses.read(SAME).au_info()["total_frames"] == 8


def test_models_are_the_same_each_time_and_small(told: str, world: World, tmp_path: Path) -> None:
    llm = make_llm(tmp_path / "llm")
    again = make_checkpoint(tmp_path / world.checkpoint.name, llm)
    for file in world.llm.iterdir():
        assert (llm / file.name).read_bytes() == file.read_bytes()
    one, other = read(again).state, read(world.checkpoint).state
    assert one.keys() == other.keys()
    assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert sorted(path.name for path in world.encoders.iterdir()) == sorted(ENCODERS)
    assert sum(path.stat().st_size for path in world.models.rglob("*.*")) < 32 << 20


@pytest.mark.shared
def test_the_tokenizer_is_laid_out_like_the_real_one(tmp_path: Path, shared: Path) -> None:
    folders = [make_llm(tmp_path / "llm"), shared / "models" / "qwen2.5-tokenizer"]
    small, real = (json.loads((each / "tokenizer.json").read_bytes()) for each in folders)
    assert small["normalizer"] == real["normalizer"]
    assert small["pre_tokenizer"] == real["pre_tokenizer"]
    special = [
        [t["content"] for t in each["added_tokens"] if t["special"]] for each in (small, real)
    ]
    assert special[0] == special[1]  # in the order of their ids
    small, real = (Tokens.from_folder(each, Config().queries) for each in folders)
    assert small.tokenizer.eos_token == real.tokenizer.eos_token
    assert len(small.stops) == len(real.stops)
    assert small.tokenizer.decode(small.encode("Why? 你好 ###").ids) == "Why? 你好 ###"


@pytest.mark.slow
def test_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    def ran(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    out = ran(sys.executable, "-m", "merstore.demo.affectgpt")
    assert "full and realtime: the same features of 28 samples, and the same answers" in out
    assert re.search(r"other frames of 25, where [1-9]\d* answers differ", out)
    _, _, play = out.partition("to play with\n")
    assert len(play.splitlines()) == 3
    for line in play.splitlines():
        _, *words = shlex.split(line)
        ran(sys.executable, "-m", "merstore.cli", *words)
    assert "answer@checkpoint_000001" in (tmp_path / "demo/affectgpt.html").read_text("utf-8")

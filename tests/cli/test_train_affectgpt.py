"""train affectgpt: from features in a store to checkpoints that `infer` takes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from answering import make_llm
from html_page import Page
from run.test_affectgpt_training import COUNTS, make_corpus, name_of

import merstore
from merstore.models.affectgpt import open_model, read

from .conftest import Merstore


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    make_llm(root / "llm")
    with merstore.open(root / "features.mer", "a") as store:
        for dataset in COUNTS:
            make_corpus(store, root, dataset)
    return root


@pytest.fixture
def command(root: Path, tmp_path: Path) -> list[Any]:
    return [
        "train", "affectgpt", "--store", root / "features.mer", "--llm", root / "llm",
        "--dataset", "mercaptionplus,OVMERD", "--output", tmp_path / "run", "--device", "cpu",
        "--epochs", 2, "--steps", 3, "--lr", 1e-3, "--state-every", 1,
    ]  # fmt: skip


def test_trains_and_says_what_came_of_it(cli: Merstore, command: list[Any], root: Path) -> None:
    done = cli(*command, "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["samples"] == {"mercaptionplus": 5, "ovmerd": 3}
    assert len(told["losses"]) == 6
    assert len(told["epochs"]) == 2
    first, last = told["checkpoints"]
    assert first.endswith(f"checkpoint_000001_loss_{told['epochs'][0]:.3f}.pth")
    _, report = open_model(last, root / "llm", device="cpu")
    assert report.complete


def test_started_again_it_has_nothing_to_do(cli: Merstore, command: list[Any]) -> None:
    first = cli(*command)
    assert first.code == 0, first.err
    assert first.lines[0].startswith("6 steps on mercaptionplus: 5, ovmerd: 3; loss ")
    assert [line.partition(" ")[0] for line in first.lines[1:]] == ["written:", "written:"]
    again = cli(*command)
    assert again.code == 0, again.err
    assert again.lines[0].startswith("0 steps, after 6 before on ")
    assert len(again.lines) == 1


KILLED = """
import contextlib, os, signal, sys
from merstore.cli import console, main
@contextlib.contextmanager
def progress(label, unit):
    yield lambda done, total, told="": done == 4 and os.kill(os.getpid(), signal.SIGKILL)
console.progress = progress
main.run(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_and_started_again_it_goes_on(
    cli: Merstore, command: list[Any], tmp_path: Path
) -> None:
    whole = cli(*command, "--json").json["losses"]
    command[command.index("--output") + 1] = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(Path(merstore.__file__).parents[1])},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    after = cli(*command, "--json")
    assert after.code == 0, after.err
    assert after.json["begun"] == 4
    assert after.json["losses"] == whole


def test_begins_with_a_checkpoint(cli: Merstore, command: list[Any], tmp_path: Path) -> None:
    before = cli(*command, "--json").json
    command[command.index("--output") + 1] = tmp_path / "more"
    more = cli(*command, "--model", before["checkpoints"][-1], "--json")
    assert more.code == 0, more.err
    assert "parameters" in more.err
    assert more.json["losses"][0] < before["losses"][0]  # on the same samples


def test_a_page_has_the_curves(cli: Merstore, command: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = cli(*command, "--html", tmp_path / "page.html")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "6 of 6 steps" in page
    Page(page).check()
    assert page.count("<svg") == 2
    assert "mercaptionplus: 5, ovmerd: 3" in page


def test_corpora_are_mixed_by_any_spelling(cli: Merstore, command: list[Any]) -> None:
    ratios = ["--ratio", "MERCaptionPlus=1", "--ratio", "ovmerd=3"]
    assert cli(*command, *ratios).code == 0
    other = cli(*command, "--ratio", "ovmerd=3")
    assert other.code == 1
    assert "give one above 0 for each of mercaptionplus, ovmerd" in other.err


def test_labels_may_come_from_the_corpus(
    cli: Merstore, command: list[Any], root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.mer"
    with merstore.open(path, "a") as bare, merstore.open(root / "features.mer") as store:
        for tail in ("face@CLIP_VIT_LARGE/8frms", "audio@HUBERT_LARGE/8clips"):
            view = store[f"ovmerd/{tail}"]
            copy = bare.create_view(view.path, shape=view.shape, spec=view.spec)
            copy.update({name: view[name] for name in view})
    command[command.index("--store") + 1] = path
    command[command.index("--dataset") + 1] = "ovmerd"
    without = cli(*command)
    assert without.code == 1
    assert "has no labels to train on: give the corpus's folder" in without.err
    done = cli(*command, "--corpora", root / "ovmerd", "--json")
    assert done.code == 0, done.err
    assert done.json["samples"] == {"ovmerd": 3}


def test_features_of_another_encoder_make_another_model(
    cli: Merstore, command: list[Any], root: Path, tmp_path: Path
) -> None:
    with merstore.open(tmp_path / "other.mer", "a") as store:
        make_corpus(store, tmp_path, "ovmerd")
        view = store.create_view("ovmerd/audio@DATA2VEC_BASE/8clips", shape=(8, 768), spec={})
        rows = np.random.default_rng(0).standard_normal((8, 768), np.float32)
        view.update({name_of("ovmerd", n): rows for n in range(3)})
    command[command.index("--store") + 1] = tmp_path / "other.mer"
    command[command.index("--dataset") + 1] = "ovmerd"
    done = cli(*command, "--feature", "audio=audio@DATA2VEC_BASE/8clips", "--json")
    assert done.code == 0, done.err
    (*_, last) = done.json["checkpoints"]
    model, report = open_model(last, root / "llm", device="cpu")
    assert report.complete
    assert model.config.acoustic_dim == 768
    assert read(last).config["model"]["acoustic_encoder"] == "DATA2VEC_BASE"


def test_images_are_trained_on_as_other_features_are(
    cli: Merstore, command: list[Any], root: Path, tmp_path: Path
) -> None:
    """Single frames, of another encoder."""
    with merstore.open(tmp_path / "frames.mer", "a") as store:
        make_corpus(store, tmp_path, "ovmerd")
        view = store.create_view("ovmerd/frame@DINO2_LARGE/random_1frms", shape=(1, 1024), spec={})
        rows = np.random.default_rng(0).standard_normal((1, 1024), np.float32)
        view.update({name_of("ovmerd", n): rows for n in range(3)})
    command[command.index("--store") + 1] = tmp_path / "frames.mer"
    command[command.index("--dataset") + 1] = "ovmerd"
    image = ["--mode", "image", "--feature", "image=frame@DINO2_LARGE/random_1frms"]
    done = cli(*command, *image, "--json")
    assert done.code == 0, done.err
    (*_, last) = done.json["checkpoints"]
    model, _ = open_model(last, root / "llm", device="cpu")
    assert model.config.visual_dim == 1024
    assert read(last).config["model"]["visual_encoder"] == "DINO2_LARGE"
    assert read(last).modes == {"ovmerd": "image"}


@pytest.mark.parametrize(
    ("option", "value", "code", "told"),
    [
        ("--mode", "face_frame_audio", 1, "unknown mode 'face_frame_audio'"),
        ("--mode", "image", 2, "no view mercaptionplus/frame@CLIP_VIT_LARGE/random_1frms"),
        ("--device", "cuda:99", 1, "cuda:99 is not there"),
        ("--feature", "face", 2, "write MODALITY=VIEW"),
        ("--feature", "face=face@CLIP_VIT_LARGE/9frms", 2, "9frms"),
        ("--label-type", "mood", 1, "unknown label type 'mood'"),
        ("--ratio", "ovmerd=much", 2, "'much' is no number"),
        ("--max-length", 50, 1, "more than max_length 50"),
        ("--min-lr", 1, 1, "0 <= min_lr <= lr"),
        ("--llm", "nowhere", 1, "nowhere"),
    ],
)
def test_bad_input_is_named(
    cli: Merstore, command: list[Any], option: str, value: Any, code: int, told: str, tmp_path: Path
) -> None:
    done = cli(*command, option, value)
    assert done.code == code, done.err
    assert told in done.err
    assert not (tmp_path / "run").exists()


def test_missing_features_are_named_or_left_out(
    cli: Merstore, command: list[Any], tmp_path: Path
) -> None:
    with merstore.open(tmp_path / "holed.mer", "a") as store:
        make_corpus(store, tmp_path, "ovmerd")
        with store.writer() as writer:
            writer.delete(store["ovmerd/audio@HUBERT_LARGE/8clips"], name_of("ovmerd", 1))
    command[command.index("--store") + 1] = tmp_path / "holed.mer"
    command[command.index("--dataset") + 1] = "ovmerd"
    refused = cli(*command)
    assert refused.code == 1
    assert (
        "no audio in ovmerd/audio@HUBERT_LARGE/8clips: 1 samples (sample_00000001)" in refused.err
    )
    done = cli(*command, "--on-miss", "skip", "--json")
    assert done.code == 0, done.err
    assert "left out: no audio" in done.err
    assert done.json["samples"] == {"ovmerd": 2}


def test_the_other_models_are_trained_as_before(cli: Merstore) -> None:
    assert "--audio_feature" in cli("train", "--help").out.replace("-feature", "_feature")
    assert "--llm" in cli("train", "affectgpt", "--help").out
    assert cli("train", "nothing", "--store", "s").code == 2

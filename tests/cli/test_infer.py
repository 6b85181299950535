"""infer: from clips and a checkpoint to answers in the store and files of them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from answering import (
    SUBTITLES,
    VIEWS,
    World,
    make_checkpoint,
    make_encoders,
    make_llm,
    make_media,
    store_features,
)

import merstore
from merstore.cli import infer
from merstore.run.answers import read
from merstore.run.inference import Report
from merstore.score.files import read_answers

from .conftest import Merstore

COUNT = 3
NAMES = list(SUBTITLES)[:COUNT]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a user has on the disk."""
    root = tmp_path_factory.mktemp("affectgpt")
    runs = root / "output" / "tiny" / "tiny_20250110100"
    llm = make_llm(root / "llm")
    for epoch in (20, 30):
        make_checkpoint(runs / f"checkpoint_{epoch:06d}_loss_0.602.pth", llm, epoch)
    make_encoders(root / "encoders")
    make_media(root / "media", COUNT)
    return root


@pytest.fixture
def world(root: Path) -> World:
    return World(root / "llm", sorted((root / "output/tiny").rglob("*.pth")))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "toy.mer"
    merstore.open(path, "a").close()
    return path


@pytest.fixture
def command(root: Path, store: Path, tmp_path: Path) -> list[Any]:
    """Of the last checkpoint, over clips."""
    media = root / "media"
    words = ["infer", "--model", root / "output/tiny/tiny_20250110100", "--llm", root / "llm"]
    words += ["--store", store, "--dataset", "toy", "--device", "cpu", "--jobs", "0"]
    words += ["--max-new-tokens", "8", "--max-length", "408", "--texts", media / "texts.csv"]
    words += ["--output", tmp_path / "output", "--format", "npz", "--format", "jsonl"]
    return words


def of_clips(root: Path) -> list[Any]:
    media = root / "media"
    words = ["--media", media / "clips", "--faces", media / "faces"]
    return [*words, "--models", root / "encoders"]


def test_from_clips_to_answers(
    cli: Merstore, command: list[Any], root: Path, store: Path, tmp_path: Path
) -> None:
    first = cli(*command, *of_clips(root))
    assert first.code == 0, first.err
    assert "3 answered" in first.out
    assert "features computed: 3 of face, 3 of audio" in first.out
    folder = tmp_path / "output" / "results-toy" / "tiny_20250110100"
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        "checkpoint_000030_loss_0.602.jsonl",
        "checkpoint_000030_loss_0.602.npz",
    ]
    found = [read_answers(file, "reason").by_name for file in files]
    assert found[0] == found[1]
    assert list(found[0]) == NAMES
    assert "pickled" in first.err

    again = cli(
        *command, "--json", "--report", tmp_path / "run.html"
    )  # nothing to compute from, and nothing to compute
    assert again.code == 0
    assert "3 answers" in (tmp_path / "run.html").read_text(encoding="utf-8")
    (report,) = again.json["answers"]
    assert [report["present"], report["answered"], report["computed"]] == [3, 0, {}]
    with merstore.open(store) as opened:
        entry = json.loads(opened[report["view"]][NAMES[0]].tobytes())
        assert entry["text"] == found[0][NAMES[0]]


def test_a_store_is_made_where_there_is_something_to_fill_it_from(
    cli: Merstore, command: list[Any], root: Path, store: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.mer"
    words = [new if word == store else word for word in command]
    refused = cli(*words)
    assert refused.code == 2
    assert f"{new} does not exist" in refused.err
    assert not new.exists()
    (report,) = cli(*words, *of_clips(root), "--json").json["answers"]
    assert report["answered"] == 3


def test_checkpoints_of_one_name_keep_their_answers_apart(
    cli: Merstore, command: list[Any], root: Path, world: World, store: Path, tmp_path: Path
) -> None:
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES)
    first = world.checkpoints[0]
    other = make_checkpoint(root / "other" / first.name, world.llm, 7)
    words = [
        word for word in command if word not in ("--model", root / "output/tiny/tiny_20250110100")
    ]
    ran = cli(*words, "--model", first, "--ckpt", other, "--json")
    assert ran.code == 0, ran.err
    files = [Path(file) for file in ran.json["files"] if file.endswith("jsonl")]
    assert [file.parent.name for file in files] == ["tiny_20250110100", "other"]
    texts = [read_answers(file, "reason").by_name for file in files]
    assert texts[0] != texts[1]


def test_files_that_go_over_each_other_are_one_checkpoint(
    cli: Merstore, command: list[Any], root: Path, world: World, store: Path
) -> None:
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES)
    words = [
        word for word in command if word not in ("--model", root / "output/tiny/tiny_20250110100")
    ]
    stack = ",".join(map(str, world.checkpoints))
    (report,) = cli(*words, "--model", stack, "--json").json["answers"]
    with merstore.open(store) as opened:
        assert len(opened[report["view"]].spec["checkpoint"]) == 2
        over = read(opened[report["view"]])
    (report,) = cli(*words, "--model", world.checkpoints[1], "--json").json["answers"]
    with merstore.open(store) as opened:
        alone = read(opened[report["view"]])
    assert {name: each.text for name, each in over.items()} == {
        name: each.text for name, each in alone.items()
    }


def test_what_others_answered_meanwhile_is_written_too(store: Path, tmp_path: Path) -> None:
    """By a run beside this one, after the last look at the store."""
    path, checkpoint = "toy/answer@c/face-0", tmp_path / "run" / "c.pth"
    other = (
        "import sys, merstore\n"
        "from merstore.run.answers import Stored, put\n"
        "with merstore.open(sys.argv[1], 'a') as store, store.writer() as writer:\n"
        "    answer = Stored('yes', '00', 2, True, '', None, 0.1, 1)\n"
        "    put(writer, store[sys.argv[2]], 'b', answer)\n"
    )
    with merstore.open(store, "a") as opened:
        opened.create_view(path, dtype="uint8", shape=(None,), spec={})
        assert len(opened[path]) == 0  # what it knows of from here on
        subprocess.run([sys.executable, "-c", other, store, path], check=True)
        asked = {"output": tmp_path / "output", "formats": ["jsonl"]}
        report = Report("toy", path, 2, checkpoint="c")
        (file,) = infer._export(opened, [(checkpoint,)], [report], {"toy": ["a", "b"]}, asked, None)
    assert read_answers(file, "reason").by_name == {"b": "yes"}


def test_shards_share_the_samples(
    cli: Merstore, command: list[Any], world: World, store: Path
) -> None:
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES)
    counts = []
    for index in range(2):
        (report,) = cli(*command, "--shard", f"{index}/2", "--json").json["answers"]
        counts.append(report["answered"])
    assert counts == [2, 1]
    (report,) = cli(*command, "--json").json["answers"]
    assert report["present"] == 3


def test_samples_without_an_answer_are_named_and_tried_again(
    cli: Merstore, command: list[Any], store: Path, tmp_path: Path
) -> None:
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES, ["audio"])
        store_features(opened, NAMES[:2], ["face"])
        opened[f"toy/{VIEWS['face']}"].fail(NAMES[1], "no_face", "nobody there")
        del opened[f"toy/{VIEWS['face']}"][NAMES[0]]
        store_features(opened, NAMES[2:], ["face"])
        opened[f"toy/{VIEWS['face']}"].fail(NAMES[1], "no_face", "nobody there")
    ran = cli(*command)
    assert ran.code == 1
    assert "1 without features" in ran.out
    assert "no face in the store, and nothing to compute it from (1)" in ran.out
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES, ["face"])
    (report,) = cli(*command, "--retry-failed", "no_face", "--json").json["answers"]
    assert report["known_failures"] == 0
    assert report["present"] + report["answered"] == 3


def test_the_command_line_of_the_fork(
    cli: Merstore, command: list[Any], root: Path, store: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES, ["frame", "face", "audio"])
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"model: {{arch: affectgpt, llama_model: {root / 'llm'}, skip_encoders: true}}\n"
        "datasets: {mercaptionplus: {face_or_frame: multiface_audio_face_text}}\n"
        "inference: {test_epochs: xxx-xxx, use_preextracted_face: true,\n"
        f"  use_preextracted_audio: true, base_root: output/results, preextracted_root: {store}}}\n"
    )
    monkeypatch.chdir(root)
    words = ["infer", "--cfg-path", config, "--dataset", "toy", "--zeroshot"]
    words += ["--max-new-tokens", "8", "--max-length", "408", "--device", "cpu"]
    words += ["--texts", root / "media" / "texts.csv", "--output", tmp_path / "out"]
    words += ["--options", "inference.test_epochs=20-30", "inference.skip_epoch=10"]
    ran = cli(*words)
    assert ran.code == 0, ran.err
    assert ran.out.count("3 answered") == 2  # both epochs
    rows = {
        line.split()[0]: line for line in ran.lines if line.startswith(("model.", "inference."))
    }
    assert "corrected" in rows["model.skip_encoders"]
    assert "used" in rows["inference.test_epochs"]
    assert len(list((tmp_path / "out" / "results-toy" / "tiny_20250110100").glob("*.npz"))) == 2
    tree = tmp_path / "preextracted_features"  # the fork's own folders
    tree.mkdir()
    told = cli(*words, f"inference.preextracted_root={tree}")
    assert told.code == 2
    assert f"`merstore import features.mer {tree}`" in told.err
    keys = cli(*words, "--json").json["keys"]
    assert {key["key"] for key in keys} >= {"inference.base_root", "model.llama_model"}


def test_one_clip(cli: Merstore, root: Path, world: World) -> None:
    media = root / "media"
    words = ["infer", "--model", world.checkpoints[0], "--llm", world.llm, "--device", "cpu"]
    words += ["--models", root / "encoders", "--max-new-tokens", "8", "--max-length", "408"]
    words += ["--video_path", media / "clips" / f"{NAMES[0]}.mp4", "--subtitle", "Why?"]
    words += ["--faces", media / "faces" / f"{NAMES[0]}.npy"]
    told = cli(*words, "--json")
    assert told.code == 0, told.err
    assert cli(*words).out == told.json["text"] + "\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--store", "s.mer", "--dataset", "toy"], "Missing option '--llm'"),
        (["--llm", "llm", "--store", "s.mer", "--dataset", "toy"], "Missing option '--model'"),
        (["--llm", "llm", "--model", "c.pth"], "give --store and --dataset, or --video"),
        (["--llm", "llm", "--model", "c.pth", "more"], "unexpected extra argument"),
        (["--llm", "l", "--model", "c.pth", "--feature", "x"], "MODALITY=VIEW"),
        (
            ["--llm", "l", "--model", "c.pth", "--video", "v.mp4", "--question", "valence"],
            "of a dataset's labels",
        ),
        (["--cfg-path", "c.yaml", "--dataset", "merbench"], "c.yaml"),
    ],
)
def test_wrong_usage(cli: Merstore, words: list[str], told: str) -> None:
    ran = cli("infer", *words)
    assert ran.code in (1, 2)
    assert told in ran.err


def test_what_is_no_checkpoint_or_no_language_model(
    cli: Merstore, command: list[Any], root: Path, store: Path, tmp_path: Path
) -> None:
    with merstore.open(store, "a") as opened:
        store_features(opened, NAMES)
    pickled = tmp_path / "checkpoint_000001_loss_1.000.pth"
    pickled.write_bytes(pickle.dumps({"model": Path("not a weight")}))
    other = [word if word != root / "output/tiny/tiny_20250110100" else pickled for word in command]
    refused = cli(*other)
    assert refused.code == 1
    assert "refused" in refused.err
    assert str(pickled) in refused.err
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (root / "llm").iterdir():
        if "token" not in file.name:
            (bare / file.name).write_bytes(file.read_bytes())
    other = [word if word != root / "llm" else bare for word in command]
    ran = cli(*other)
    assert ran.code == 1
    assert f"{bare}: no tokenizer" in ran.err
    with merstore.open(store) as opened:  # nothing is recorded of samples that are not to blame
        assert all(not opened[path].failures() for path in opened.views())

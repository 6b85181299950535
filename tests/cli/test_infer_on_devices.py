"""infer: on several devices at once, and through vLLM."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from answering import (
    VIEWS,
    World,
    make_checkpoint,
    make_llm,
    names_of,
    store_features,
    subtitles_of,
)
from vllm_stand_in import stand_in

import merstore
from merstore.cli.infer import only_visible
from merstore.errors import MerstoreError
from merstore.run.answers import read

from .conftest import Merstore

NAMES = names_of(12)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("affectgpt")
    llm = make_llm(root / "llm")
    paths = [root / "runs" / f"checkpoint_{epoch:06d}_loss_0.602.pth" for epoch in (20, 30)]
    return World(llm, [make_checkpoint(path, llm, seed) for seed, path in enumerate(paths)])


@pytest.fixture
def command(world: World, tmp_path: Path) -> list[Any]:
    """Of two checkpoints, over samples of which one has no face."""
    rows = [f"{name},{text}" for name, text in subtitles_of(NAMES).items()]
    (tmp_path / "texts.csv").write_text("\n".join(["name,english", *rows]) + "\n")
    words = ["infer", "--llm", world.llm, "--dataset", "toy", "--jobs", "0", "--batch-size", "1"]
    for path in world.checkpoints:
        words += ["--model", path]
    words += ["--max-new-tokens", "6", "--max-length", "406", "--texts", tmp_path / "texts.csv"]
    return words


def filled(path: Path) -> Path:
    with merstore.open(path, "a") as store:
        store_features(store, NAMES)
        view = store[f"toy/{VIEWS['face']}"]
        del view[NAMES[5]]
        view.fail(NAMES[5], "no_face", "nobody there")
    return path


def texts(path: Path, report: dict[str, Any]) -> dict[str, str]:
    with merstore.open(path) as store:
        return {name: each.text for name, each in read(store[report["view"]]).items()}


def test_two_devices_share_the_samples(cli: Merstore, command: list[Any], tmp_path: Path) -> None:
    alone, shared = filled(tmp_path / "alone.mer"), filled(tmp_path / "shared.mer")
    expected = cli(*command, "--store", alone, "--device", "cpu", "--json").json["answers"]
    output = ["--output", tmp_path / "output", "--format", "jsonl", "--report", tmp_path / "r.html"]
    ran = cli(*command, "--store", shared, "--device", "cpu,cpu", *output, "--json")
    assert ran.code == 1, ran.err  # one has no face
    for report, one in zip(ran.json["answers"], expected, strict=True):
        for key in ("view", "samples", "present", "answered", "elsewhere", "failed", "fetched"):
            assert report[key] == one[key], key
        assert report["answered"] == len(NAMES) - 1
        assert report["failed"] == {"no_face": [NAMES[5]]}
        assert 0 < report["generating"] <= report["seconds"]
        assert texts(shared, report) == texts(alone, one)
    files = [Path(file) for file in ran.json["files"]]
    assert len(files) == 2
    assert [len(file.read_text().splitlines()) for file in files] == [len(NAMES) - 1] * 2
    assert (tmp_path / "r.html").is_file()


def test_one_clip_takes_one_device(cli: Merstore, command: list[Any], tmp_path: Path) -> None:
    ran = cli(*command, "--video", tmp_path / "clip.mp4", "--device", "cpu,cpu")
    assert ran.code == 2
    assert "one clip takes one device" in ran.err


class TestVllm:
    def test_answers_are_those_of_transformers_and_kept_apart(
        self, cli: Merstore, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        llm = stand_in(monkeypatch)
        store = filled(tmp_path / "s.mer")
        found = {}
        for backend in ("vllm", "transformers"):
            ran = cli(*command, "--store", store, "--device", "cpu", "--backend", backend, "--json")
            found[backend] = ran.json["answers"]
            assert [report["answered"] for report in found[backend]] == [11, 11]
        for one, other in zip(found["vllm"], found["transformers"], strict=True):
            assert one["view"] != other["view"]
            assert texts(store, one) == texts(store, other)
        assert texts(store, found["vllm"][0]) != texts(store, found["vllm"][1])
        with merstore.open(store) as opened:
            assert opened[found["vllm"][0]["view"]].spec["backend"] == "vllm"
        assert len(llm.made) == 1  # for both checkpoints

    def test_without_it_it_is_said(
        self, cli: Merstore, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        store = filled(tmp_path / "s.mer")
        ran = cli(*command, "--store", store, "--device", "cpu", "--backend", "vllm")
        assert ran.code == 1
        assert "pip install 'merstore[vllm]'" in ran.err
        with merstore.open(store) as opened:
            assert not any("/answer@" in path for path in opened.views())

    @pytest.mark.parametrize(
        ("visible", "device", "left"),
        [("4, 6,7", "cuda:1", "6"), ("4,6", "cuda", "4,6"), ("4,6", "auto", "4,6")],
    )
    def test_it_sees_the_gpu_that_is_asked_for(
        self, visible: str, device: str, left: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert only_visible(device) == device.partition(":")[0]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == left

    @pytest.mark.parametrize("device", ["cuda:2", "cuda:x"])
    def test_a_gpu_that_is_not_there(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        with pytest.raises(MerstoreError, match=f"no device {device}: .* 4, 6"):
            only_visible(device)

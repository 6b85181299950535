"""A small store to look at, and a way to run one command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merstore
from merstore.cli.main import run

FRAMES = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
SOUND = "mer2023/audio@chinese-hubert-large/FRA"


@dataclass
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Merstore = Callable[..., Result]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Merstore:
    """Runs ``merstore ARGS...`` in this process."""

    def call(*args: object) -> Result:
        capfd.readouterr()
        code = run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with a fixed and a ragged view, odd sample names and two failures."""
    path = tmp_path / "features.mer"
    rng = np.random.default_rng(0)
    with merstore.open(path, "a") as store:
        frames = store.create_view(
            FRAMES, shape=(8, 4), spec={"encoder": {"name": "clip", "dim": 4}}
        )
        names = ["-dash", "sample_00000001", "sample_00000002", "中文_样本"]
        frames.update({name: rng.random((8, 4), np.float32) for name in names})
        frames.fail("broken", "decode_error", "the decoder stops\nafter 3 of 9 frames")
        frames.fail("mute", "no_video", "has no moving pictures")
        sound = store.create_view(
            SOUND, dtype="float16", shape=(None, 4), alias="chinese-hubert-large-FRA"
        )
        sound.update({f"s{n}": rng.random((n, 4)).astype(np.float16) for n in (1, 5, 9)})
    return path

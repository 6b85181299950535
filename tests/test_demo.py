"""`make demo`, as a newcomer runs it: with no network, GPU or weights, and a second time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import merstore


def run_demo(folder: Path, *args: str) -> str:
    command = [sys.executable, "-m", "merstore.demo", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_ends_with_all_that_it_promises_and_runs_again(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    assert "RANDOM weights" in first
    assert re.search(r"^entries +28$", first, re.M)
    assert re.search(r"^failures +2  \(decode_error 1, no_video 1\)$", first, re.M)
    assert re.search(r"^computed +28 in this run$", first, re.M)
    assert re.search(
        r"^batch rate +[\d,]+ samples/s from the store, [\d,]+ from \.npy", first, re.M
    )
    (path,) = re.findall(r"^store +(\S+)", first, re.M)
    with merstore.open(tmp_path / path) as store:
        held = {view.modality: len(view) for view in store.values()}
        assert held == {"frame": 28, "quality": 30}

    second = run_demo(tmp_path)
    assert re.search(r"^computed +0 in this run$", second, re.M)
    assert re.search(r"^served +56 ", second, re.M)


@pytest.mark.shared
@pytest.mark.slow
def test_every_file_of_the_shared_media_ends_as_an_entry_or_a_failure(
    shared: Path, tmp_path: Path
) -> None:
    media = shared / "media"
    out = run_demo(
        tmp_path, "--media", str(media), "--encoder", str(shared / "models" / "dinov2-small")
    )
    assert "failures    32  (decode_error 9, no_video 23)" in out
    with merstore.open(tmp_path / "demo" / "media.mer") as store:
        view = store["media/frame@dinov2-small/uniform_8frms"]
        failed = {failure.name for failure in view.failures()}
        assert failed.isdisjoint(view)
        assert failed | set(view) == {path.stem for path in media.iterdir()}

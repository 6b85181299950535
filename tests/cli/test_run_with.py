"""`merstore run-with`: an old checkout runs unchanged, and prints what it printed before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.interop.importing import import_tree
from merstore.interop.trees import discover

from .conftest import Merstore

CHECKOUT = Path(__file__).parent.parent / "interop" / "old_checkout"
PACKAGE = Path(merstore.__file__).parent.parent
NAMES = [f"sample_{number:08d}" for number in range(7)]
FOLDERS = {
    "audio": ("chinese-hubert-large", "-", 6, "f4", 40),
    "text": ("Baichuan-13B-Base", "-", 5, "f2", 12),
    "video": ("resnet50face", "_", 4, "f8", 30),
}


def run(*command: object, data: Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    # merstore may not be installed; the command itself is to find the rest
    environment = os.environ | {"CHECKOUT_DATA": str(data), "PYTHONPATH": str(PACKAGE)}
    return subprocess.run(
        [str(part) for part in command],
        env=environment, input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip


def run_with(store: Path, *command: object, data: Path, stdin: str = "", root: object = None):  # type: ignore[no-untyped-def]
    options = [] if root is None else ["--root", root]
    return run(
        sys.executable, "-m", "merstore.cli", "run-with", store, *options, "--", *command,
        data=data, stdin=stdin,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A tree of three features at both levels, and one sample that is a folder of frames."""
    data = tmp_path / "tree"
    features = data / "mer2023-dataset-process" / "features"
    rng = np.random.default_rng(0)
    for base, separator, dim, dtype, longest in FOLDERS.values():
        for level in ("UTT", "FRA"):
            folder = features / f"{base}{separator}{level}"
            folder.mkdir(parents=True)
            for name in NAMES:
                rows = rng.integers(1, longest)
                shape = (dim,) if level == "UTT" else (rows, dim)
                array = rng.standard_normal(shape).astype(dtype)
                np.save(folder / f"{name}.npy", array[0] if shape == (1, dim) else array)
    frames = features / "resnet50face_FRA" / NAMES[2]
    whole = np.load(f"{frames}.npy")
    os.remove(f"{frames}.npy")
    frames.mkdir()
    for number, frame in enumerate(np.atleast_2d(whole)):
        np.save(frames / f"{number:04d}.npy", frame)
    return data


@pytest.fixture
def stored(data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "features.mer"
    with merstore.open(path, "a") as store:
        assert not import_tree(store, discover(data)).refused
    return path


def roles(level: str) -> list[str]:
    return [
        f"--{role}_feature={base}{separator}{level}"
        for role, (base, separator, *_) in FOLDERS.items()
    ] + [f"--level={level}"]


@pytest.mark.parametrize("level", ["UTT", "FRA"])
def test_an_old_checkout_prints_the_same_numbers(
    data: Path, stored: Path, tmp_path: Path, level: str
) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, CHECKOUT / "main.py", *roles(level)]
    before = run(*command, data=data, stdin="typed in")
    assert before.returncode == len(NAMES), before.stderr
    assert "typed in" in before.stdout
    gone = tmp_path / "gone"  # where no tree is
    after = run_with(stored, *command, data=gone, stdin="typed in")
    assert (after.stdout, after.returncode) == (before.stdout, before.returncode), after.stderr
    assert not gone.exists()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_plain_script_loads_and_saves_in_processes(tmp_path: Path, start: str) -> None:
    data, gone, stored = tmp_path / "tree", tmp_path / "gone", tmp_path / "features.mer"
    folder = data / "mer2023-dataset-process" / "features" / "manet_UTT"
    folder.mkdir(parents=True)
    for number, name in enumerate("abcde"):
        np.save(folder / f"{name}.npy", np.full(3, number + 0.25, "f4"))
    with merstore.open(stored, "a") as store:
        import_tree(store, discover(data))
    command = [sys.executable, CHECKOUT / "plain.py", start]
    before = run(*command, data=data)
    assert before.returncode == 0, before.stderr
    after = run_with(stored, *command, data=gone)
    assert (after.stdout, after.returncode) == (before.stdout, 0), after.stderr
    assert not list(gone.rglob("*.npy"))
    with merstore.open(stored) as store:
        assert store["mer2023/face@emonet/UTT"]["e"].tolist() == [8.5] * 3


def test_a_root_anywhere(data: Path, stored: Path, tmp_path: Path) -> None:
    code = "import numpy as np; print(np.load('feats/resnet50face_UTT/sample_00000000.npy').shape)"
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"]
    assert "FileNotFoundError" in run_with(stored, *command, data=data).stderr
    found = run_with(stored, *command, data=data, root=tmp_path / "feats")
    assert found.stdout == "(4,)\n", found.stderr


def test_a_sitecustomize_that_is_there_is_run_as_well(stored: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('mine')")
    code = "import sys, numpy, sitecustomize; print(numpy.load.__wrapped__.__name__)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(own), str(PACKAGE)])}
    out = subprocess.run(
        [sys.executable, "-m", "merstore.cli", "run-with", str(stored), "--", sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.split() == [
        "mine",
        "mine",
        "load",
    ]  # of merstore's own start, and of the program's


def test_a_program_fails_as_it_does_alone(stored: Path, tmp_path: Path) -> None:
    result = run_with(stored, sys.executable, "-c", "raise SystemExit(7)", data=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (7, "", "")


def test_a_store_that_vanishes_stops_the_program(stored: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.mer"
    code = f"import os; os.rename({str(stored)!r}, {str(moved)!r}); import numpy; print('went on')"
    result = run_with(stored, sys.executable, "-c", code, data=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot read from the store" in result.stderr


def test_wrong_usage_is_told_before_anything_runs(
    cli: Merstore, tmp_path: Path, stored: Path
) -> None:
    assert cli("run-with", tmp_path / "none.mer", "--", "true").code == 2
    missing = cli("run-with", stored, "--", "no-such-program")
    assert missing.code == 2
    assert "no-such-program" in missing.err
    assert cli("run-with", stored).code == 2
    assert shutil.which("true")

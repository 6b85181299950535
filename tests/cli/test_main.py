"""What holds of every command: exit codes, where output goes, and that nothing ends in a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.cli import main

from .conftest import FRAMES, Merstore

COMMAND = [sys.executable, "-m", "merstore.cli"]


def test_help_names_every_command_of_the_first_release(cli: Merstore) -> None:
    told = cli("--help").out
    listed = [line.split()[0] for line in told.partition("Commands:")[2].splitlines() if line]
    assert listed == list(main.COMMANDS)
    assert {"ls", "info", "failures", "import", "export"} < set(listed)
    assert {"prewarm", "verify", "compact", "doctor"} < set(listed)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(name: str, cli: Merstore) -> None:
    result = cli(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: merstore {name}")


def test_the_version(cli: Merstore) -> None:
    assert cli("--version").out == f"merstore {merstore.__version__}\n"


@pytest.mark.parametrize(
    "args", [["frob"], ["ls"], ["ls", "a", "b", "c"], ["ls", "--frob", "x"], ["ls", "x", "-n", "y"]]
)
def test_wrong_usage_is_one_line_of_error_and_exit_code_2(args: list[str], cli: Merstore) -> None:
    result = cli(*args)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1].startswith("error: ")


def test_a_path_that_is_no_store_is_wrong_usage(cli: Merstore, tmp_path: Path) -> None:
    for command in ("ls", "info", "failures", "verify", "compact"):
        result = cli(command, tmp_path)
        assert result.code == 2
        assert result.err.startswith("error: ")
        assert str(tmp_path) in result.err
        assert not list(tmp_path.iterdir()), f"{command} made a store"


def test_an_unknown_view_names_the_near_ones(cli: Merstore, filled: Path) -> None:
    result = cli("ls", filled, FRAMES.replace("LARGE", "LARG"))
    assert result.code == 2
    assert FRAMES in result.err


def test_errors_go_to_stderr_without_a_traceback(filled: Path) -> None:
    (filled / "data.mdb").write_bytes(b"\0" * 8192)
    done = subprocess.run([*COMMAND, "ls", str(filled)], capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_names_are_neither_wrapped_nor_cut_in_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "store.mer"
    names = [letter * 300 for letter in "abc"]
    with merstore.open(path, "a") as store:
        view = store.create_view(FRAMES, shape=(2,))
        view.update({name: np.ones(2, np.float32) for name in names})
        view.fail("d" * 300, "no_video", "x" * 300)
    environment = os.environ | {"COLUMNS": "80"}
    for args, lines in ((["ls", str(path), FRAMES], names), (["failures", str(path)], None)):
        done = subprocess.run(
            [*COMMAND, *args], capture_output=True, text=True, env=environment, check=True
        )
        if lines is None:
            assert "d" * 300 in done.stdout
            assert done.stdout.endswith("x" * 300 + "\n")
        else:
            assert done.stdout.splitlines() == lines


def test_a_name_that_the_output_cannot_hold_is_escaped(filled: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "ls", str(filled), FRAMES],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0
    assert rb"\u4e2d\u6587" in done.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        view = store.create_view(FRAMES, shape=(1,))
        view.update({f"sample_{n:080d}": np.ones(1, np.float32) for n in range(20_000)})
    process = subprocess.Popen(
        [*COMMAND, "ls", str(path), FRAMES], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == main.BROKEN_PIPE


def test_ctrl_c_is_one_line_and_exit_code_130(
    cli: Merstore, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("merstore.store.store.Store.stats", interrupted)
    result = cli("info", filled)
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")

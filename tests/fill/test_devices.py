"""Processes that share a run: what they print is gathered, and what becomes of them."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from merstore import machine
from merstore.errors import MerstoreError
from merstore.fill.devices import named, run_on, several, visible_gpus


def command(device: str, number: int) -> list[str]:
    """A device is a program here."""
    return [sys.executable, "-S", "-c", device, str(number)]


def printing(code: int = 0, before: str = "pass") -> str:
    return f"import sys; {before}; print('{{\"number\": ' + sys.argv[1] + '}}'); sys.exit({code})"


def test_what_each_prints_is_gathered_in_the_order_of_the_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    until = f"open({str(tmp_path / 'told')!r}).read()"  # waits for somebody to write
    told: list[int] = []

    def tell() -> None:
        if not told:
            told.append(1)
            (tmp_path / "told").write_text("now")

    found = run_on([printing(before=until), printing(code=1)], command, tell)
    assert found == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize(
    "broken", ["raise SystemExit(2)", "raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)"]
)
def test_one_that_breaks_is_named_when_the_others_have_ended(broken: str, tmp_path: Path) -> None:
    """Also one that ends as if samples had failed, and has nothing to report."""
    done = f"open({str(tmp_path / 'done')!r}, 'w')"
    with pytest.raises(MerstoreError, match=r"ended with -?\d: see its message above") as caught:
        run_on([broken, printing(before=done)], command, lambda: None)
    assert str(caught.value).startswith(broken)
    assert (tmp_path / "done").exists()


def test_ctrl_c_reaches_all_and_they_are_waited_for(tmp_path: Path) -> None:
    """Each says that it is there; when all are, this process is interrupted as a terminal would."""

    def waiting(number: int) -> str:
        there, gone = tmp_path / f"there-{number}", tmp_path / f"gone-{number}"
        return (
            "import signal, sys\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"open({str(there)!r}, 'w').close()\n"
            "try: signal.pause()\n"
            f"except KeyboardInterrupt: open({str(gone)!r}, 'w').close()\n"
        )

    def tell() -> None:
        if len(list(tmp_path.glob("there-*"))) == 2 and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    interrupted = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_on([waiting(0), waiting(1)], command, tell)
    assert len(list(tmp_path.glob("gone-*"))) == 2


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named("cuda:0, cuda:3") == ["cuda:0", "cuda:3"]
    assert [several(each) for each in ("all", "cpu,cpu", "cuda:1", "auto")] == [
        True, True, False, False,
    ]  # fmt: skip
    monkeypatch.setattr(machine, "gpus", lambda: ["A", "B", "C"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert named("all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert visible_gpus() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("visible", "found"),
    [("5", ["5"]), ("2, GPU-ab", ["2", "GPU-ab"]), ("1,-1,2", ["1"]), ("", []), ("-1", [])],
)
def test_gpus_that_are_hidden_are_not_taken(
    visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA reads it: what stands behind a wrong one is hidden too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == found
    if found:
        assert named("all") == [f"cuda:{number}" for number in range(len(found))]
    else:
        with pytest.raises(MerstoreError, match="no GPU can be seen"):
            named("all")

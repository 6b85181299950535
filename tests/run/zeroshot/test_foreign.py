"""Adapters in a process of their own: what they are given, and that nothing they do costs more than
the sample in hand.
"""

import ast
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from merstore.errors import MerstoreError
from merstore.extract.material import Material
from merstore.extract.reading import Refusal
from merstore.run.zeroshot import foreign as module
from merstore.run.zeroshot import host
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.baselines import find
from merstore.run.zeroshot.foreign import Foreign

HERE = Path(__file__).parent
ADAPTER = HERE / "foreign_adapter.py"
PYTHON = [sys.executable, "-I", "-S"]  # no package there, least of all ours
VERSION = ".".join(map(str, sys.version_info[:3]))
OTTER = find("otter")

Make = Callable[..., Foreign]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Foreign] = []

    def make(adapter: Path = ADAPTER, python: Any = PYTHON, **more: Any) -> Foreign:
        made.append(Foreign(more.pop("baseline", OTTER), adapter, python, **more))
        return made[-1]

    yield make
    for foreign in made:
        foreign.close()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe: whoever reads it sees its end once no process holds the other end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def asked(prompt: str, name: str = "a", **more: Any) -> Asked:
    return Asked(name, prompt, more.pop("material", Material(name)), **more)


@contextmanager
def reading(pipe: Path) -> Iterator[IO[str]]:
    """The reading end of a pipe whose other end may never be opened."""
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        yield reader


def ask(foreign: Foreign, *prompts: str) -> list[str | Refusal]:
    """Its answers, each asked with the place that it has for a seed."""
    return foreign.answer([asked(prompt) for prompt in prompts], range(len(prompts)))


def told(foreign: Foreign, sample: Asked | None = None, seed: int = 7) -> dict[str, Any]:
    """What reached the adapter."""
    (answer,) = foreign.answer([sample or asked("tell")], [seed])
    assert isinstance(answer, str), answer
    found: dict[str, Any] = json.loads(answer)
    return found


# --- what an adapter is given --------------------------------------------------------------------------


def test_it_is_given_the_sample_and_the_options(
    make: Make, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = make(options={"num_beams": 1, "weights": "w.pth"})
    material = Material("b", video=Path("b.mp4"), audio=Path("/clips/b.wav"))
    found = told(foreign, asked("tell", "样本 b", material=material), seed=2**63 + 1)
    options = {**OTTER.options, "num_beams": 1, "weights": "w.pth"}
    assert found["options"] == options
    assert found["sample"] == {
        "name": "样本 b",
        "prompt": "tell",
        "video": str(tmp_path / "b.mp4"),
        "audio": "/clips/b.wav",
        "frames": None,
        "seconds": None,
        "sound": None,
        "seed": 2**63 + 1,
        "options": options,
    }


def test_the_model_is_loaded_once(make: Make) -> None:
    foreign = make()
    assert told(foreign)["process"] == told(foreign)["process"]
    assert ask(foreign, "empty", "empty") == ["", ""]


def test_frames_and_sound_are_handed_over_in_files_that_are_then_gone(make: Make) -> None:
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, 6, 4, 3), np.uint8)
    sound = rng.standard_normal(1000).astype(np.float32)
    baseline = replace(OTTER, sound=find("salmonn").sound)
    foreign = make(HERE / "foreign_media_adapter.py", baseline=baseline)
    assert foreign.needs == {"frames", "sound"}
    found = told(foreign, asked("any", frames=frames, seconds=np.arange(16) / 4.0, sound=sound))
    files = {name: io.BytesIO(base64.b64decode(found[name])) for name in ("frames", "sound")}
    np.testing.assert_array_equal(np.load(files["frames"]), frames)
    read, rate = soundfile.read(files["sound"], dtype="float32")
    np.testing.assert_array_equal(read, sound)
    assert rate == 16_000
    assert found["seconds"] == [i / 4 for i in range(16)]
    assert [Path(path).suffix for path in found["paths"]] == [".npy", ".wav"]
    assert not any(Path(path).exists() for path in found["paths"])
    folder = Path(found["paths"][0]).parent
    assert folder.exists()
    foreign.close()
    assert not folder.exists()


def test_what_it_does_not_need_is_not_handed_over(make: Make) -> None:
    foreign = make()
    assert foreign.needs == frozenset()
    sample = asked("tell", frames=np.zeros((16, 2, 2, 3), np.uint8), sound=np.zeros(4, np.float32))
    found = told(foreign, sample)["sample"]
    assert (found["frames"], found["sound"]) == (None, None)


def test_draws_go_by_the_seed_alone(make: Make) -> None:
    foreign = make()
    samples = [asked("draw"), asked("draw"), asked("draw")]
    first = foreign.answer(samples, [1, 2, 1])
    assert first[0] == first[2] != first[1]
    assert foreign.answer(samples[:1], [2]) == first[1:2]


def test_it_can_import_what_lies_beside_it_and_nothing_of_ours(make: Make) -> None:
    beside = ["foreign_media_adapter"]
    ours = ["merstore", "prompts", "policies", "host", "numpy"]
    for python in (PYTHON, [sys.executable, "-E", "-S"]):
        foreign = make(python=python, options={"names": beside + ours})
        assert ask(foreign, "imports") == [" ".join(beside)]


def test_nothing_is_imported_for_it(make: Make) -> None:
    """Not by a Python that has it all, either, though the versions of torch are told."""
    foreign = make(python=sys.executable)
    assert ask(foreign, "loaded") == [""]


# --- its spec ------------------------------------------------------------------------------------------


def test_its_spec_tells_adapter_options_and_environment(make: Make, tmp_path: Path) -> None:
    foreign = make(options={"weights": "w.pth"})
    spec = foreign.spec()
    assert spec == json.loads(json.dumps(spec))
    assert spec["baseline"] == foreign.name == "otter"
    assert spec["options"] == {**OTTER.options, "weights": "w.pth"}
    assert spec["versions"] == {"python": VERSION}
    copy = tmp_path / "copy.py"
    copy.write_bytes(ADAPTER.read_bytes())
    assert make(copy, options={"weights": "w.pth"}).spec() == spec
    copy.write_bytes(ADAPTER.read_bytes() + b"# changed\n")
    assert make(copy, options={"weights": "w.pth"}).spec() != spec


def test_the_versions_are_those_of_its_environment(make: Make) -> None:
    there = [package for package in ("torch", "transformers") if find_spec(package)]
    versions = make(python=sys.executable).spec()["versions"]
    assert versions == {"python": VERSION} | {each: metadata.version(each) for each in there}


# --- what goes wrong with a sample -----------------------------------------------------------------------


def test_whatever_it_prints_and_reads_meets_nobody(make: Make) -> None:
    assert ask(make(), "chatter", "empty") == ["''", ""]


@pytest.mark.parametrize(
    ("prompt", "kind", "message"),
    [
        ("fail", "model_error", "ValueError: what a clip"),
        ("leave", "model_error", "SystemExit: enough"),
        ("no such thing", "model_error", "KeyError"),
        ("nothing", "bad_answer", "foreign_adapter.py gave NoneType, not a text"),
        ("labels", "bad_answer", "gave list"),
        ("surrogate", "bad_answer", "no Unicode"),
    ],
)
def test_what_gives_no_text_is_refused_and_the_process_goes_on(
    make: Make, prompt: str, kind: str, message: str
) -> None:
    foreign = make()
    before = told(foreign)["process"]
    (refusal,) = ask(foreign, prompt)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == kind
    assert message in refusal.message
    assert told(foreign)["process"] == before


def test_one_that_ends_costs_its_sample_alone(make: Make) -> None:
    foreign = make()
    before, refusal, after = ask(foreign, "tell", "crash", "tell")
    assert refusal == Refusal(
        "model_crash", "the model's process ended with exit status 3: this is the end"
    )
    assert json.loads(before)["process"] != json.loads(after)["process"]
    assert json.loads(before)["options"] == json.loads(after)["options"]


def test_one_whose_gpu_is_lost_is_started_anew(make: Make) -> None:
    foreign = make()
    before, refusal, after = ask(foreign, "tell", "fail_on_gpu", "tell")
    assert refusal.kind == "model_error"
    assert json.loads(before)["process"] != json.loads(after)["process"]


def test_one_that_is_killed_in_the_middle_costs_its_sample_alone(make: Make, pipe: Path) -> None:
    foreign = make(options={"pipe": str(pipe)})
    process = told(foreign)["process"]

    def kill() -> None:
        with pipe.open() as reader:
            assert reader.readline() == "hanging\n"
            os.kill(process, signal.SIGKILL)
            assert reader.read() == ""

    killer = threading.Thread(target=kill)
    killer.start()
    refusal, answer = ask(foreign, "hang", "empty")
    killer.join()  # and with it what it had started
    assert refusal.kind == "model_crash"
    assert "signal 9 (SIGKILL)" in refusal.message
    assert answer == ""


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(make: Make, pipe: Path) -> None:
    foreign = make(options={"pipe": str(pipe)}, seconds=0.5)
    with reading(pipe) as reader:
        (refusal,) = ask(foreign, "hang")
        assert reader.read() in ("", "hanging\n")
    assert refusal == Refusal(
        "timeout", "the model's process was not done after 0.5 s, and was ended"
    )
    foreign.seconds = 600
    assert ask(foreign, "empty") == [""]


def test_five_failures_in_a_row_are_no_fault_of_the_samples(make: Make) -> None:
    foreign = make()
    four = ["crash"] * 4
    kinds = [each.kind for each in ask(foreign, *four, "fail", *four) if each]
    assert kinds == ["model_crash"] * 4 + ["model_error"] + ["model_crash"] * 4
    with pytest.raises(MerstoreError, match=r"5 samples in a row.*\n.*this is the end"):
        ask(foreign, "crash")


# --- what keeps it from answering at all -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def load(options) return 1", "SyntaxError"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise SystemExit('not today')", "not today"),
        ("def load(options): ...", "no function answer"),
        ("answer = 1\ndef load(options): ...", "no function answer"),
        ("NEEDS = 'smell'\ndef load(options): ...\nanswer = load", "'smell'; there is frames"),
        ("NEEDS = 'sound'\ndef load(options): ...\nanswer = load", "NEEDS names sound, and otter"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_shown_with_its_reason(
    make: Make, tmp_path: Path, source: str, message: str
) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text(source, encoding="utf-8")
    for use in (Foreign.spec, lambda each: each.needs, lambda each: ask(each, "any")):
        with pytest.raises(MerstoreError) as caught:
            use(make(adapter))
        assert str(caught.value).startswith(str(adapter))
        assert message in str(caught.value)


def test_a_model_that_cannot_be_loaded_is_shown_with_its_reason(make: Make) -> None:
    foreign = make(options={"broken": "w.pth"})
    assert foreign.spec()["versions"]
    with pytest.raises(MerstoreError) as caught:
        ask(foreign, "empty")
    assert "foreign_adapter.py cannot load its model: its Python ended" in str(caught.value)
    assert str(caught.value).endswith("OSError: no weights at w.pth")
    assert "the model of" in str(caught.value)  # what it printed before


@pytest.mark.parametrize("command", [["/no/such/python"], [str(HERE)], ["python\0"]], ids=repr)
def test_a_python_that_is_none_is_named(make: Make, command: list[str]) -> None:
    with pytest.raises(MerstoreError, match=r"cannot be started .* name the Python"):
        make(python=command).spec()


def test_a_program_that_is_no_python_is_named_by_what_it_says(make: Make) -> None:
    with pytest.raises(
        MerstoreError, match=r"imported: its Python ended with exit status 4\nwhat\?"
    ):
        make(python=["sh", "-c", "echo 'what?' >&2; exit 4"]).spec()
    with pytest.raises(MerstoreError, match="ended with exit status 0"):
        make(python=["true"]).spec()


def test_one_that_is_never_up_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.1)
    with pytest.raises(MerstoreError, match=r"was not done after 0.1 s"):
        make(python=["sh", "-c", "sleep 1000"]).spec()


def test_what_was_given_is_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"none\.py: No such file"):
        Foreign(OTTER, tmp_path / "none.py")
    with pytest.raises(MerstoreError, match="no JSON values"):
        Foreign(OTTER, ADAPTER, options={"weights": Path("w")})
    with pytest.raises(MerstoreError, match="is positive"):
        Foreign(OTTER, ADAPTER, seconds=0)


# --- its end ---------------------------------------------------------------------------------------------


def test_closed_it_is_gone_and_asked_again_it_is_back(make: Make, pipe: Path) -> None:
    foreign = make(options={"pipe": str(pipe)})
    before = told(foreign)["process"]
    foreign.close()
    foreign.close()
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert told(foreign)["process"] != before


def test_dropped_it_is_gone() -> None:
    foreign = Foreign(OTTER, ADAPTER, PYTHON)
    process = told(foreign)["process"]
    del foreign
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_fork_leaves_it_alone(make: Make) -> None:
    foreign = make()
    before = told(foreign)["process"]
    if not (pid := os.fork()):
        foreign.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert told(foreign)["process"] == before


@pytest.fixture
def program(pipe: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Another program that is in the middle of asking."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "run.zeroshot.foreign_program", str(pipe), str(ADAPTER)]
        path = os.pathsep.join([str(HERE.parent.parent), *sys.path])
        process = subprocess.Popen(
            [*command, *more],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    "more", [(), ("forked",), ("wrapped",)], ids=["alone", "forked", "wrapped"]
)
def test_it_ends_with_the_program_that_asks(
    program: Callable[..., "subprocess.Popen[str]"], pipe: Path, how: int, more: tuple[str, ...]
) -> None:
    process = program(*more)
    with pipe.open() as reader:
        assert reader.readline() == "hanging\n"
        os.kill(process.pid, how)
        assert reader.read() == ""


def test_ctrl_c_ends_it_and_it_can_be_asked_again(
    program: Callable[..., "subprocess.Popen[str]"], pipe: Path
) -> None:
    process = program()
    with pipe.open() as reader:
        assert reader.readline() == "hanging\n"
        os.kill(process.pid, signal.SIGINT)
        assert reader.read() == ""
    assert process.stdout is not None
    assert process.stdout.read() == "interrupted\n['']\n"
    assert process.wait() == 0


# --- the other side --------------------------------------------------------------------------------------


def test_the_host_is_a_program_for_python_3_8_and_its_library_alone() -> None:
    source = Path(host.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names


def test_it_runs_by_every_python_that_is_here(make: Make) -> None:
    pythons = filter(None, (shutil.which(f"python3.{minor}") for minor in range(8, 15)))
    for python in pythons:
        if subprocess.run([python, "-c", ""], capture_output=True).returncode:
            continue  # a version manager's, which is not there
        foreign = make(python=[python, "-I", "-S"])
        version = Path(python).name.removeprefix("python")
        assert foreign.spec()["versions"]["python"].startswith(f"{version}.")
        assert ask(foreign, "chatter", "crash", "empty")[::2] == ["''", ""]

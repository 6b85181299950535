"""Models that run by code of their own, in an environment of their own: asked through an adapter."""

import hashlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from merstore.errors import MerstoreError
from merstore.extract.processes import how_ended
from merstore.extract.reading import Refusal
from merstore.run.zeroshot.asked import Answerer, Asked
from merstore.run.zeroshot.baselines import Baseline

SECONDS = 600.0  # for one answer

_START_SECONDS = 3600.0  # for importing an adapter, and for loading a model, from a cold disk
_CRASHES = 5  # in a row, after which it is not the samples that are at fault
_LOOK = 1.0  # seconds between two looks at whether a silent process is still there
_DYING_SECONDS = 10.0  # from closing its end of the pipe to being gone
_PRINTED = 4000  # bytes of what it printed that are kept
_SHORT = 250  # characters of them in a failure record
_FLOAT_WAVE = 3  # WAVE_FORMAT_IEEE_FLOAT
_HOST = Path(__file__).with_name("host.py")


class Foreign(Answerer):
    """A baseline that an adapter runs, in a process of its own by a Python of its own.

    adapter: a Python file with two functions, and a name where it wants more than paths::

        NEEDS = "frames"                # or "sound", or both: what is handed over
        def load(options): ...          # once: the model, whatever that is
        def answer(model, sample): ...  # for each sample: the answer, as text

    ``sample`` has ``name``; ``prompt``; ``video`` and ``audio``, the paths of its files; ``frames``,
    the path of a ``.npy`` (uint8 ``[T, H, W, 3]``, RGB), and ``seconds``, when each is shown;
    ``sound``, the path of a ``.wav`` (float32, mono, at the baseline's rate); ``seed``, with which
    random, NumPy and torch were seeded; and ``options``. What there is not, or is not needed, is
    None; frames and sound are there until `answer` returns.

    python: what starts the Python of its environment, a path or a command of several words.
    options: for the adapter, over the baseline's own. seconds: how long one answer may take.

    What goes wrong with a sample is a Refusal: ``model_error`` where `answer` raises, ``bad_answer``
    where it gives no text, ``timeout``, and ``model_crash`` where the process ends; it is started
    anew for the next. Raised is a MerstoreError, with the end of what was printed, where the process
    cannot be started or the model cannot be loaded, and where it ends on several samples in a row.
    """

    def __init__(
        self,
        baseline: Baseline,
        adapter: str | Path,
        python: str | Path | Sequence[str] = sys.executable,
        options: Mapping[str, Any] | None = None,
        *,
        seconds: float = SECONDS,
    ) -> None:
        if not seconds > 0:
            raise MerstoreError(f"the time limit of an answer is positive, not {seconds}")
        self.name = baseline.name
        self.baseline = baseline
        self.adapter = Path(adapter).absolute()
        self.python = [str(python)] if isinstance(python, str | Path) else list(python)
        self.options = {**baseline.options, **(options or {})}
        self.seconds = seconds
        self._process: _Process | None = None
        self._loaded = False
        self._hello: Mapping[str, Any] = {}
        self._crashes = 0
        try:
            self._digest = hashlib.sha256(self.adapter.read_bytes()).hexdigest()
        except OSError as error:
            raise MerstoreError(f"{adapter}: {error.strerror}: give the adapter's file") from None
        try:
            json.dumps(self.options)
        except (TypeError, ValueError) as error:
            raise MerstoreError(f"{adapter}: its options are no JSON values: {error}") from None

    @property
    def needs(self) -> frozenset[str]:
        """What it wants besides paths: ``"frames"``, ``"sound"``, both or nothing.

        Imports the adapter. Raises MerstoreError.
        """
        return frozenset(self._greeting()["needs"])

    def spec(self) -> dict[str, Any]:
        """Imports the adapter. Raises MerstoreError."""
        greeting = self._greeting()
        return {
            "backend": "adapter",
            "baseline": self.baseline.name,
            "adapter": f"sha256:{self._digest}",
            "options": self.options,
            "needs": sorted(greeting["needs"]),
            "versions": greeting["versions"],
        }

    def answer(self, asked: Sequence[Asked], seeds: Sequence[int]) -> list[str | Refusal]:
        return [self._answer(*each) for each in zip(asked, seeds, strict=True)]

    def close(self) -> None:
        if self._process is not None:
            self._process.end()

    def _greeting(self) -> Mapping[str, Any]:
        if not self._hello:
            self._imported()
        return self._hello

    def _imported(self) -> "_Process":
        """The process, with the adapter imported."""
        if self._process is None or self._process.ended:
            self._process = _Process([*self.python, str(_HOST), str(self.adapter)])
            self._loaded = False
            self._hello = self._begin(self._process, None, "cannot be imported")
            for need, given in (("frames", self.baseline.frames), ("sound", self.baseline.sound)):
                if need in self._hello["needs"] and given is None:
                    self.close()
                    raise MerstoreError(
                        f"{self.adapter}: NEEDS names {need}, and {self.name} has none: take the "
                        "file (sample.video, sample.audio)"
                    )
        return self._process

    def _ready(self) -> "_Process":
        """The process, with the model loaded."""
        process = self._imported()
        if not self._loaded:
            self._begin(process, {"load": self.options}, "cannot load its model")
            self._loaded = True
        return process

    def _begin(
        self, process: "_Process", request: Mapping[str, Any] | None, fails: str
    ) -> Mapping[str, Any]:
        try:
            return process.ask(request, _START_SECONDS)
        except _Failed as failed:
            raise MerstoreError(f"{self.adapter} {fails}: its Python {failed}") from None

    def _answer(self, asked: Asked, seed: int) -> str | Refusal:
        process = self._ready()
        try:
            with self._handed(asked, process.folder) as media:
                sample = {"name": asked.name, "prompt": asked.prompt, "seed": seed} | media
                reply = process.ask({"ask": sample}, self.seconds)
        except _Failed as failed:
            self._crashes += 1
            if self._crashes == _CRASHES:
                raise MerstoreError(
                    f"{self.adapter} has failed on {_CRASHES} samples in a row, the last time on "
                    f"{asked.name}: its Python {failed}"
                ) from None
            last = " ".join(failed.printed[-_SHORT:].split())
            return Refusal(failed.kind, f"the model's process {failed.told}: {last}".rstrip(": "))
        self._crashes = 0
        if "error" in reply:
            if "CUDA error" in reply["error"]:  # after which that process can do nothing more
                process.end()
            return Refusal("model_error", reply["error"])
        text = reply.get("answer")
        if text is None:
            return Refusal("bad_answer", f"{self.adapter.name} gave {reply['bad']}, not a text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return Refusal("bad_answer", f"{self.adapter.name} gave no Unicode: {error.reason}")
        return str(text)

    @contextmanager
    def _handed(self, asked: Asked, folder: Path) -> Iterator[dict[str, Any]]:
        """The media of a sample, those that are needed in files of their own for so long."""
        media: dict[str, Any] = {"video": None, "audio": None, "frames": None, "seconds": None}
        media["sound"] = None
        for part in ("video", "audio"):
            if (file := getattr(asked.material, part)) is not None:
                media[part] = os.path.abspath(file)
        frames, sound = folder / "frames.npy", folder / "sound.wav"
        try:
            if "frames" in self.needs and asked.frames is not None:
                np.save(frames, asked.frames)
                media["frames"] = str(frames)
                media["seconds"] = None if asked.seconds is None else asked.seconds.tolist()
            if "sound" in self.needs and asked.sound is not None:
                assert self.baseline.sound is not None
                _write_wave(sound, asked.sound, self.baseline.sound.rate)
                media["sound"] = str(sound)
        except OSError as error:
            raise MerstoreError(
                f"{folder}: {error.strerror}: set TMPDIR to a folder with more room"
            ) from None
        try:
            yield media
        finally:
            for file in (frames, sound):
                file.unlink(missing_ok=True)


def _write_wave(path: Path, sound: npt.NDArray[np.float32], rate: int) -> None:
    """float32, mono: what soundfile, librosa, scipy and FFmpeg read."""
    data = sound.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, _FLOAT_WAVE, 1, rate, 4 * rate, 4, 32, 0)
    fact = struct.pack("<4sII", b"fact", 4, len(sound))
    body = b"WAVE" + form + fact + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)


class _Failed(Exception):
    """No reply came, and the process has been ended. ``kind``: of the failure record; ``told``: what
    became of it; ``printed``: the end of what it printed.
    """

    def __init__(self, kind: str, told: str, printed: str) -> None:
        super().__init__(kind, told, printed)
        self.kind, self.told, self.printed = kind, told, printed

    def __str__(self) -> str:
        return f"{self.told}\n{self.printed}".rstrip()


class _Gone(Exception):
    """There is nobody at the other end."""


class _Process:
    """A process that replies to one request at a time. It ends with this one, however that ends.

    ``folder``: a place for files, which goes with it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="merstore-"))
        self._log = (self.folder / "printed").open("a+b", buffering=0)
        self._buffer = b""
        try:
            # In a session of its own: Ctrl-C is for this process, which then ends that one, and with
            # it whatever it has started.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._log.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            told = f"cannot be started ({error}): name the Python of the model's environment"
            raise MerstoreError(f"{command[0]} {told}") from None
        self._end = weakref.finalize(self, _end, os.getpid(), self._process, self._log, self.folder)

    @property
    def ended(self) -> bool:
        return not self._end.alive

    def end(self) -> int | None:
        """End it, if it is not. Gives its exit status the first time."""
        return self._end()

    def ask(self, request: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
        """The reply to a request, or to the start (None). Raises _Failed.

        After any exception it is ended: its reply may be still to come.
        """
        try:
            if request is not None:
                self._log.truncate(0)  # what it printed before
                self._send(request)
            reply: dict[str, Any] = json.loads(self._line(time.monotonic() + seconds))
            return reply
        except (_Gone, ValueError):
            self._wait()
            printed, status = self._printed(), self.end()
            raise _Failed("model_crash", how_ended(status or 0), printed) from None
        except TimeoutError:
            printed = self._printed()
            self.end()
            told = f"was not done after {seconds:g} s, and was ended"
            raise _Failed("timeout", told, printed) from None
        except BaseException:
            self.end()
            raise

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        left = memoryview(json.dumps(request).encode() + b"\n")
        try:
            while left:
                left = left[self._process.stdin.write(left) :]
        except BrokenPipeError:
            raise _Gone from None

    def _line(self, deadline: float) -> bytes:
        """Raises _Gone, and TimeoutError at the deadline."""
        assert self._process.stdout is not None
        ready = select.poll()
        ready.register(self._process.stdout, select.POLLIN)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            gone = self._is_gone()
            if ready.poll(1000 * min(left, _LOOK)):
                more = self._process.stdout.read(1 << 16)
                if not more:
                    raise _Gone
                self._buffer += more
            elif gone:  # and some process that it started holds the pipe open
                raise _Gone
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _is_gone(self) -> bool:
        """Without forgetting it: until it is waited for, nothing else has its number."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def _wait(self) -> None:
        deadline = time.monotonic() + _DYING_SECONDS
        while not self._is_gone() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _printed(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        data = os.pread(self._log.fileno(), _PRINTED, max(0, size - _PRINTED))
        return data.decode(errors="replace").strip()


def _end(
    owner: int, process: "subprocess.Popen[bytes]", log: IO[bytes], folder: Path
) -> int | None:
    """End a process of ours, and all that it has started; its exit status."""
    if os.getpid() != owner:  # a fork, whose affair it is not
        return None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # stuck in the kernel, as on a dead network disk
        process.wait(_DYING_SECONDS)
    for file in (process.stdin, process.stdout, log):
        if file is not None:
            file.close()
    shutil.rmtree(folder, ignore_errors=True)
    return process.returncode

"""The comparison: every rival in its own process, one at work at a time, in turns."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import FRAMES, RAGGED, VECTORS, Shape, names, values, write_flat

from .install import failures
from .peer import Index
from .registry import OURS, PEERS
from .session import Truth, serve

WRITE_SECONDS, STEP_SECONDS = 240, 120  # before a rival is given up
AIM = 0.04  # seconds of a rival's turn
MOST = 16  # batches of a turn
CHECKING = 8  # seconds


@dataclass(frozen=True)
class Case:
    """A column of the table. how: which of a rival's entries in `Peer.how` it uses."""

    key: str
    label: str
    how: str
    shape: Shape
    batch_size: int


CASES = (
    Case("frames", "random batches of 256, [8,768]", "batch", FRAMES, 256),
    Case("frames-loader", "loader, shuffled epochs with names, [8,768]", "loader", FRAMES, 256),
    Case("vectors", "random batches of 256, [1024]", "batch", VECTORS, 256),
    Case("ragged", "random batches of 64, [20..600,1024], padded", "ragged", RAGGED, 64),
)


@dataclass(frozen=True)
class Size:
    nbytes: int  # of each shape
    rounds: int
    epochs: int


FULL = Size(256 << 20, 30, 7)
QUICK = Size(32 << 20, 8, 3)


class Failed(Exception):
    """Why a rival has no figure, as the table shows it."""


class Rival:
    """A rival's process."""

    def __init__(self, key: str, folder: Path) -> None:
        context = get_context("spawn")
        self.key = key
        self.log = folder / f"{key}.log"
        home = folder / "home"
        home.mkdir(exist_ok=True)
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, key, self.log, home))
        self._process.start()
        there.close()
        self.failed: str | None = None

    def answer(self, seconds: float) -> Any:
        if self.failed is not None:
            raise Failed(self.failed)
        try:
            if not self._connection.poll(seconds):
                self.failed = f"given up after {seconds:.0f} s"
                self.end()
                raise Failed(self.failed)
            kind, result = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            self.failed = f"ended by itself, exit code {self._process.exitcode}"
            self.end()
            raise Failed(self.failed) from None
        if kind == "failed":
            raise Failed(result)
        return result

    def ask(self, method: str, *arguments: Any, seconds: float = STEP_SECONDS) -> Any:
        if self.failed is None:
            with suppress(OSError):
                self._connection.send((method, arguments))
        return self.answer(seconds)

    def last_words(self) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
        return ""

    def end(self) -> None:
        """Its process and those that it started."""
        self._connection.close()  # which is how a process that waits learns of it
        self._process.join(0 if self.failed else 10)
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()


class Comparison:
    """records: what the table is made of, by rival, in the order of the registry."""

    def __init__(
        self, folder: Path, size: Size, only: list[str], say: Callable[[str], None]
    ) -> None:
        self.folder, self.size, self.say = folder, size, say
        self.asked = {OURS, *only} if only else set(PEERS)
        self.records: dict[str, dict[str, Any]] = {
            key: {
                "key": key,
                "title": known.title,
                "version": _version(known.package),
                "cases": {},
            }
            for key, known in PEERS.items()
        }
        self.rivals: dict[str, Rival] = {}

    def run(self) -> None:
        try:
            self._start()
            for shape in (FRAMES, VECTORS, RAGGED):
                truth = self._truth(shape)
                cases = [case for case in CASES if case.shape is shape]
                self._write(truth, cases)
                for case in cases:
                    if case.how == "loader":
                        self._epochs(truth, case)
                    else:
                        self._batches(truth, case)
                    for key in self.rivals:
                        self.say(f"{case.key} {key}: {_brief(self._cell(key, case))}")
                self._clean(truth)
        finally:
            for rival in self.rivals.values():
                rival.end()

    def _start(self) -> None:
        missing = failures(Path(sys.prefix))
        for key, known in PEERS.items():
            if key in self.asked:
                self.rivals[key] = Rival(key, self.folder)
            elif known.package and self.records[key]["version"] is None:
                self.records[key]["failed"] = missing.get(known.package, "not installed")
            else:
                self.records[key]["failed"] = "left out of this run"
        for key, rival in list(self.rivals.items()):
            try:
                self.records[key] |= rival.answer(STEP_SECONDS)
            except Failed as reason:
                self.records[key]["failed"] = missing.get(PEERS[key].package, str(reason))
                self.rivals.pop(key).end()
                self.say(f"{key}: {self.records[key]['failed']}")
        if OURS not in self.rivals:
            raise RuntimeError(self.records[OURS]["failed"])

    def _truth(self, shape: Shape) -> Truth:
        nbytes, lengths = self.size.nbytes, None
        count = shape.entries(nbytes)
        if shape is RAGGED:
            lengths = np.random.default_rng(2).integers(20, 601, nbytes // (310 * shape.nbytes))
            count = len(lengths)
        path = self.folder / "truth.bin"
        write_flat(path, values(shape, count if lengths is None else int(lengths.sum())))
        batch_size = next(case.batch_size for case in CASES if case.shape is shape)
        return Truth(path, Index(names(count), shape.shape, lengths), batch_size)

    def _write(self, truth: Truth, cases: list[Case]) -> None:
        for key in self.rivals:
            able = [case for case in cases if case.how in self.records[key]["how"]]
            if able:
                try:
                    self.rivals[key].ask("write", self.folder / key, truth, seconds=WRITE_SECONDS)
                except Failed as reason:
                    for case in able:
                        self._cell(key, case)["failed"] = str(reason)

    def _batches(self, truth: Truth, case: Case) -> None:
        turns: dict[str, int] = {}
        for key in self._able(case):
            with self._failing(key, case):
                seconds = self.rivals[key].ask("open", CHECKING)
                turns[key] = max(1, min(MOST, int(AIM / max(seconds, 1e-6))))
        shape = (self.size.rounds, 1 + MOST, case.batch_size)
        rows = np.random.default_rng(1).integers(0, len(truth.index), shape)

        def turn(key: str, number: int) -> float:
            batches = rows[number, : 1 + turns[key]]  # the first one is not timed
            seconds: float = self.rivals[key].ask("batches", batches)
            return sum(truth.index.nbytes(batch) for batch in batches[1:]) / seconds

        self._rounds(case, list(turns), turn, self.size.rounds)

    def _epochs(self, truth: Truth, case: Case) -> None:
        ready: list[str] = []
        for key in self._able(case):
            with self._failing(key, case):
                self._cell(key, case)["workers"] = self._best_workers(key, case)
                ready.append(key)
        nbytes = truth.index.nbytes(np.arange(len(truth.index)))

        def turn(key: str, number: int) -> float:
            seconds: float = self.rivals[key].ask("epoch")
            return nbytes / seconds

        self._rounds(case, ready, turn, self.size.epochs)

    def _best_workers(self, key: str, case: Case) -> int:
        """How many make the rival's loader fastest; its session is left with that one."""
        seconds: dict[int, float] = {}
        reason = None
        for number in self.records[key]["workers"]:
            try:
                seconds[number] = self.rivals[key].ask("loader", number)
            except Failed as failed:
                reason = failed
                self._cell(key, case)["note"] = f"with {number} workers: {failed}"
        if not seconds:
            assert reason is not None
            raise reason
        best = min(seconds, key=seconds.__getitem__)
        if best != self.records[key]["workers"][-1]:
            self.rivals[key].ask("loader", best)
        return best

    def _rounds(
        self, case: Case, keys: list[str], turn: Callable[[str, int], float], rounds: int
    ) -> None:
        """Turns in an order of each round's own. turn: bytes a second."""
        draw = np.random.default_rng(0)
        rates = {key: np.zeros(rounds) for key in keys}
        for number in range(rounds):
            for key in draw.permutation(list(rates)).tolist():
                with self._failing(key, case):
                    rates[key][number] = turn(key, number)
                if "failed" in self._cell(key, case):
                    del rates[key]
        for key, theirs in rates.items():
            cell = self._cell(key, case)
            cell["rounds"] = rounds
            cell["gbps"] = _quartiles(theirs / 1e9)
            if OURS in rates:
                cell["ratio"] = _quartiles(rates[OURS] / theirs)

    def _clean(self, truth: Truth) -> None:
        for key, rival in list(self.rivals.items()):
            with suppress(Failed):
                rival.ask("close")
            shutil.rmtree(self.folder / key, ignore_errors=True)
            if rival.failed is not None:  # the next shape is tried all the same
                self.rivals[key] = Rival(key, self.folder)
                with suppress(Failed):
                    self.rivals[key].answer(STEP_SECONDS)
        truth.path.unlink()

    def _able(self, case: Case) -> list[str]:
        return [
            key
            for key in self.rivals
            if case.how in self.records[key]["how"] and "failed" not in self._cell(key, case)
        ]

    def _cell(self, key: str, case: Case) -> dict[str, Any]:
        cell: dict[str, Any] = self.records[key]["cases"].setdefault(case.key, {})
        return cell

    @contextmanager
    def _failing(self, key: str, case: Case) -> Iterator[None]:
        """A rival that fails gets the reason for its figure."""
        try:
            yield
        except Failed as reason:
            self._cell(key, case)["failed"] = str(reason)
            self.say(f"{case.key} {key}: {reason}\n{self.rivals[key].last_words()}".rstrip())


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package) if package else None
    return None


def _quartiles(measured: np.ndarray) -> list[float]:
    """Lower quartile, median, upper quartile, to four digits."""
    return [float(f"{value:.4g}") for value in np.percentile(measured, (25, 50, 75))]


def _brief(cell: dict[str, Any]) -> str:
    if "gbps" not in cell:
        return str(cell.get("failed", "–"))
    ratio = f", merstore {cell['ratio'][1]:.2f}x" if "ratio" in cell else ""
    workers = f", {cell['workers']} workers" if "workers" in cell else ""
    return f"{cell['gbps'][1]:.2f} GB/s{ratio}{workers}"

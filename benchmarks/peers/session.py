"""The process of one rival: it writes, reads and is timed there, and answers over a pipe."""

import gc
import os
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing import set_start_method
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .peer import Batches, Entries, Index, Peer, Read, Unsupported
from .registry import load


@dataclass(frozen=True)
class Truth:
    """The entries of a case in a flat file, from which every rival writes and is checked."""

    path: Path
    index: Index
    batch_size: int

    def entries(self) -> Entries:
        array = np.memmap(self.path, np.float32, "r").reshape(-1, *self.index.shape)
        return Entries(self.index, array)


class Wrong(Exception):
    """A result that is not what was written."""


class Session:
    """Its public methods are what the runner may ask for."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._read: Read | None = None
        self._loader: Batches = ()

    def about(self) -> dict[str, Any]:
        peer = self._peer
        how = {"batch": peer.reads, "ragged": peer.pads, "loader": peer.loads}
        return {"how": {case: text for case, text in how.items() if text}, "workers": peer.workers}

    def write(self, folder: Path, truth: Truth) -> None:
        self._folder, self._truth = folder, truth
        self._entries = truth.entries()
        folder.mkdir(parents=True)
        self._peer.write(folder, self._entries)

    def open(self, seconds: float) -> float:
        """Reads and checks batches until all entries or the time are through; seconds of a batch."""
        truth = self._truth
        self._read = read = self._peer.open(self._folder, truth.index, truth.batch_size, reuse=True)
        order = np.random.default_rng(9).permutation(len(truth.index))
        taken = []
        started = time.perf_counter()
        for start in range(0, len(order), truth.batch_size):
            rows = order[start : start + truth.batch_size]
            before = time.perf_counter()
            result = read(rows)
            taken.append(time.perf_counter() - before)
            if self._peer.exact and not np.array_equal(
                np.asarray(result), self._entries.batch(rows)
            ):
                raise Wrong("other values than were written")
            if time.perf_counter() - started > seconds:
                break
        return float(np.median(taken[-8:]))

    def batches(self, rows: np.ndarray) -> float:
        """Seconds for all the batches of `rows`, int64 ``[batches, B]``, but the first."""
        assert self._read is not None
        first, *others = rows
        self._read(first)
        started = time.perf_counter()
        for batch in others:
            self._read(batch)
        return time.perf_counter() - started

    def loader(self, workers: int) -> float:
        """Makes a loader in place of the last one and checks its first epoch. Seconds of the second one."""
        self._read = None
        self._loader = ()  # there are those who mind another one of the same folder
        gc.collect()
        truth = self._truth
        self._loader = self._peer.loader(self._folder, truth.index, truth.batch_size, 0, workers)
        rows = {name: row for row, name in enumerate(truth.index.names)}
        seen: list[int] = []
        for names, values in self._loader:
            batch = [rows[name] for name in names]
            if not np.array_equal(np.asarray(values), self._entries.batch(np.array(batch))):
                raise Wrong("other values than were written")
            seen += batch
        if sorted(seen) != list(range(len(rows))):
            raise Wrong(
                f"an epoch of {len(seen):,} with {len(set(seen)):,} of {len(rows):,} entries"
            )
        if seen == sorted(seen):
            raise Wrong("not shuffled")
        return self.epoch()

    def epoch(self) -> float:
        count = 0
        started = time.perf_counter()
        for names, _ in self._loader:
            count += len(names)
        seconds = time.perf_counter() - started
        if count != len(self._truth.index):
            raise Wrong(f"an epoch of {count:,} of {len(self._truth.index):,} entries")
        return seconds

    def close(self) -> None:
        self._read = None
        self._loader = ()
        gc.collect()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(connection: Connection, key: str, log: Path, home: Path) -> None:
    """The process: answers ``(method, arguments)`` with ``("ok", result)`` or ``("failed", reason)``."""
    os.setsid()  # so that its own processes end with it
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # caches and settings of the rivals' go with the run; nothing is fetched
    os.environ |= dict.fromkeys(("HOME", "TMPDIR", "HF_HOME"), str(home))
    os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
    tempfile.tempdir = str(home)
    set_start_method("fork", force=True)  # as in a script of one's own; this process was spawned
    torch.set_num_threads(1)
    try:
        session = Session(load(key))
    except ImportError as error:
        connection.send(("failed", f"not installed: {error}"))
        return
    except Exception as error:  # noqa: BLE001 (a rival may raise anything: it becomes its row)
        connection.send(("failed", _reason(error)))
        return
    connection.send(("ok", session.about()))
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = "ok", getattr(session, method)(*arguments)
        except Unsupported as error:
            answer = "failed", str(error)
        except Wrong as error:
            answer = "failed", f"wrong data: {error}"
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            answer = "failed", _reason(error)
        connection.send(answer)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return text if len(text) < 160 else text[:157] + "..."

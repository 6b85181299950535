"""FeatureDataset under torch's own DataLoader, with worker processes by every way to start them."""

import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loading import SAMPLES, Views
from torch.utils.data import DataLoader

import merstore
from merstore.load import FeatureDataset

PATIENCE = 60  # seconds after which a process counts as hanging
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def view(views: Views) -> merstore.View:
    return views["frame"]


@pytest.fixture(autouse=True, scope="module")
def preloaded() -> None:
    """The fork server imports torch once, and not each of its children again."""
    multiprocessing.set_forkserver_preload(["merstore.load"])


def epoch(loader: "DataLoader[Any]") -> list[str]:
    """The names of an epoch, sorted; the features belong to them."""
    names = []
    for batch in loader:
        assert batch["frame"][:, 7, 3].tolist() == [float(name[1:]) for name in batch["name"]]
        names += batch["name"]
    return sorted(names)


def test_it_serves_every_sample_once_without_workers(view: merstore.View) -> None:
    loader: DataLoader[Any] = DataLoader(FeatureDataset(view), batch_size=5, shuffle=True)
    assert epoch(loader) == epoch(loader) == list(view)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
@pytest.mark.parametrize(
    ("workers", "persistent", "method"),
    [
        *((1, persistent, method) for persistent in (False, True) for method in METHODS),
        (8, True, "fork"),
        pytest.param(8, True, "spawn", marks=pytest.mark.slow),  # eight times torch's import
        (8, True, "forkserver"),
    ],
)
def test_it_serves_every_sample_once_with_workers(
    view: merstore.View, workers: int, persistent: bool, method: str
) -> None:
    loader: DataLoader[Any] = DataLoader(
        FeatureDataset(view),
        batch_size=3,
        shuffle=True,
        num_workers=workers,
        persistent_workers=persistent,
        multiprocessing_context=method,
    )
    assert epoch(loader) == epoch(loader) == list(view)


@pytest.mark.parametrize("method", METHODS)
def test_an_error_in_a_worker_comes_whole_with_the_key(view: merstore.View, method: str) -> None:
    dataset = FeatureDataset(view, [*view, "nobody"])
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=SAMPLES, num_workers=1, multiprocessing_context=method
    )
    batches = iter(loader)
    assert len(next(batches)["name"]) == SAMPLES
    with pytest.raises(merstore.MissingEntry) as caught:
        next(batches)
    told = str(caught.value)
    assert "DataLoader worker process 0" in told
    assert "in __getitems__" in told  # the worker's traceback
    assert re.search(r"MissingEntry: .*demo/frame@X/uniform_8frms lacks .*nobody", told)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_loader_abandoned_in_mid_epoch_leaves_no_process(
    view: merstore.View, method: str, persistent: bool
) -> None:
    loader: DataLoader[Any] = DataLoader(
        FeatureDataset(view),
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )
    before = multiprocessing.active_children()
    batches = iter(loader)
    next(batches)
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    del batches, loader
    for worker in workers:
        worker.join(PATIENCE)
        assert worker.exitcode == 0


_SCRIPT = """
import itertools
import sys
from torch.utils.data import DataLoader, get_worker_info
import merstore
from merstore.load import FeatureDataset

class Dataset(FeatureDataset):
    def __getitems__(self, indices):
        return [item | {"worker": get_worker_info().id} for item in super().__getitems__(indices)]

class Endless:  # so that no worker is being started when Ctrl-C comes, which is torch's own to survive
    def __iter__(self):
        return itertools.cycle(range(50))

if __name__ == "__main__":
    path, method, persistent, ending = sys.argv[1:]
    with merstore.open(path) as store:
        dataset = Dataset(store["demo/frame@X/uniform_8frms"])
        loader = DataLoader(
            dataset,
            sampler=Endless() if ending == "endless" else None,
            num_workers=2,
            multiprocessing_context=method,
            persistent_workers=persistent == "True",
        )
        served = set()
        while len(served) < 2:
            for batch in loader:
                served.add(int(batch["worker"]))
                if len(served) == 2:
                    print("both workers serve", flush=True)
                    if ending == "abandoned":
                        break
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(_SCRIPT)
    return path


def started(script: Path, view: merstore.View, *arguments: object) -> "subprocess.Popen[str]":
    """The script in a session of its own, once both workers have served a batch."""
    process = subprocess.Popen(
        [sys.executable, str(script), str(view.store.path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise AssertionError(process.communicate()[1])
    return process


def members(session: int) -> Iterator[int]:
    """The processes of a session that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(of) == session and state != "Z":
            yield int(stat.parent.name)


def assert_none_is_left(session: int) -> None:
    """Helpers of multiprocessing end when the pipe to them does, a moment later."""
    for number in list(members(session)):
        try:
            process = os.pidfd_open(number)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([process], [], [], PATIENCE)
        os.close(process)
        assert ended, f"process {number} is left"


def end(process: "subprocess.Popen[str]") -> str:
    """Waits for the process and all it started; what they wrote to stderr."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
        assert_none_is_left(process.pid)
    finally:
        for number in members(process.pid):
            os.kill(number, signal.SIGKILL)
    return errors


@pytest.mark.parametrize(
    ("method", "persistent"),
    [
        *((method, False) for method in METHODS),
        *(pytest.param(method, True, marks=pytest.mark.slow) for method in METHODS),
    ],
)
def test_ctrl_c_ends_all_processes_without_a_storm_of_tracebacks(
    view: merstore.View, script: Path, method: str, persistent: bool
) -> None:
    process = started(script, view, method, persistent, "endless")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    errors = end(process)
    assert process.returncode == -signal.SIGINT
    assert errors.count("\nKeyboardInterrupt") == 1, errors
    # A worker that was just handing memory over says that nobody took it: multiprocessing's doing.
    others = errors.count("Traceback") - 1
    assert others == errors.count("in _serve") <= 2, errors


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_ends_in_mid_epoch_leaves_none_behind(
    view: merstore.View, script: Path, method: str
) -> None:
    process = started(script, view, method, True, "abandoned")
    assert end(process) == ""
    assert process.returncode == 0

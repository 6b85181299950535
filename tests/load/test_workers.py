"""FeatureLoader with worker processes, by every way to start them."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import SAMPLES, Views

import merstore
from merstore.load import FeatureBatch, FeatureDataset, FeatureLoader

METHODS = ["fork", "spawn", "forkserver"]
# a process by spawn imports torch anew: seconds
PLACES = [("fork", False), ("fork", True), ("spawn", True), ("forkserver", False)]


def checked(batch: FeatureBatch) -> list[str]:
    numbers = [float(name[1:]) for name in batch.names]
    assert batch["frame"][:, 7, 3].tolist() == numbers
    assert batch["audio"][:, 0, 0].tolist() == numbers
    return batch.names


@pytest.mark.parametrize(("method", "persistent"), PLACES)
def test_every_sample_is_served_once_an_epoch_from_its_state_of_the_store(
    views: Views, method: str, persistent: bool
) -> None:
    labels = {name: int(name[1:]) for name in views["frame"]}
    loader = FeatureLoader(
        FeatureDataset(views, columns={"label": labels}),
        8,
        shuffle=True,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )
    assert len(loader) == 7
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert all(batch["label"].tolist() == [labels[n] for n in batch.names] for batch in batches)
        assert all(tensor.is_shared() for tensor in batches[0].tensors.values())
        epochs.append([name for batch in batches for name in checked(batch)])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(views["frame"])
    assert epochs[0] != epochs[1]
    views["frame"].update({name: np.full((8, 4), 99, np.float32) for name in views["frame"]})
    assert all(batch["frame"].eq(99).all() for batch in loader)


@pytest.mark.parametrize("layout", ["values", "nested"])
def test_ragged_batches_come_whole(views: Views, layout: str) -> None:
    dataset = FeatureDataset(views, layout=layout)
    for batch, expected in zip(
        FeatureLoader(dataset, 8, num_workers=2), FeatureLoader(dataset, 8), strict=True
    ):
        assert all(a.equal(b) for a, b in zip(batch.each(), expected.each(), strict=True))
        assert batch["audio"].is_nested == (layout == "nested")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_an_error_comes_whole_with_the_key(views: Views, method: str) -> None:
    del views["audio"]["s20"]
    loader = FeatureLoader(
        FeatureDataset(views, list(views["frame"])),
        8,
        num_workers=2,
        multiprocessing_context=method,
    )
    batches = iter(loader)
    assert [checked(next(batches))[0] for _ in range(2)] == ["s00", "s08"]
    with pytest.raises(
        merstore.MissingEntry, match=r"(?s)worker process.*demo/audio@Y/FRA lacks.*s20"
    ):
        next(batches)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_an_abandoned_loader_end_with_it(views: Views, persistent: bool) -> None:
    resource_tracker.ensure_running()  # multiprocessing's own process, which stays
    before = children()
    loader = FeatureLoader(FeatureDataset(views), 2, num_workers=2, persistent_workers=persistent)
    batches = iter(loader)
    checked(next(batches))
    workers = children() - before
    assert len(workers) == 2
    del batches
    assert sum(len(checked(batch)) for batch in loader) == SAMPLES  # begun anew
    del loader
    assert not children() & workers


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_little_goes_through_the_pipe_to_a_worker(
    store: merstore.Store, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Or it would not hold it, and the next worker would wait until this one is up."""
    from multiprocessing import reduction

    view = store.create_view("demo/x@X/UTT", shape=())
    view.update((f"s{i:05d}", np.float32(i)) for i in range(10_000))
    sizes: list[int] = []
    dump = reduction.dump

    def noted(thing: object, file: Any, *others: Any) -> None:
        dump(thing, file, *others)
        sizes.append(file.tell())

    monkeypatch.setattr(reduction, "dump", noted)
    labels = {f"s{i:05d}": i for i in range(10_000)}
    loader = FeatureLoader(
        FeatureDataset(view, columns={"label": labels}),
        1000,
        num_workers=2,
        multiprocessing_context=method,
    )
    for batch in loader:
        expected = [int(name[1:]) for name in batch.names]
        assert batch["x"].tolist() == batch["label"].tolist() == expected
    assert len(sizes) >= 2
    assert max(sizes) < 1 << 14


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


_INTERRUPTED = """
import sys
import merstore
from merstore.load import FeatureDataset, FeatureLoader

if __name__ == "__main__":
    store = merstore.open(sys.argv[1])
    loader = FeatureLoader(
        FeatureDataset(store["demo/frame@X/uniform_8frms"]), 1, num_workers=2,
        multiprocessing_context=sys.argv[2], persistent_workers=sys.argv[3] == "True",
    )
    print("ready", flush=True)
    while True:
        for batch in loader:
            print(batch.names, flush=True)
"""


@pytest.mark.parametrize("moment", ["starting", "running"])
@pytest.mark.parametrize(
    ("method", "persistent"),
    [
        ("fork", False),
        pytest.param("fork", True, marks=pytest.mark.slow),
        pytest.param("spawn", True, marks=pytest.mark.slow),
        pytest.param("spawn", False, marks=pytest.mark.slow),
        pytest.param("forkserver", True, marks=pytest.mark.slow),
        pytest.param("forkserver", False, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_all_with_one_traceback(
    views: Views, tmp_path: Path, method: str, persistent: bool, moment: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(_INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(views["frame"].store.path), method, str(persistent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for _ in range(1 if moment == "starting" else 20):
        assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    _, errors = process.communicate(timeout=60)  # which waits for all who hold its end of the pipe
    assert process.returncode in (1, -signal.SIGINT, 130)
    # A worker that was handing over a tensor just then may tell that nobody took it (multiprocessing's `_serve`).
    told = errors.count("Traceback") - errors.count("in _serve")
    assert told == 1, errors
    assert "\nKeyboardInterrupt\n" in errors
    assert not group(process.pid)


def group(number: int) -> bool:
    """Whether any process of the group is left, after a moment to end in."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return False
    return True


@pytest.mark.gpu
def test_batches_from_workers_go_to_the_device(views: Views) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8, num_workers=2, device="cuda", pin_memory=True)
    for batch in loader:
        assert {tensor.device.type for tensor in batch.each()} == {"cuda"}
        checked(batch)
    assert torch.cuda.is_initialized()

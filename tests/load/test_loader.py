"""FeatureLoader in one process: order, threads, errors, what it leaves behind, and stores that change."""

import contextlib
import gc
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import SAMPLES, CountingFiller, Views
from torch.utils.data import RandomSampler, SequentialSampler

import merstore
from merstore.load import (
    BucketOrder,
    FeatureBatch,
    FeatureDataset,
    FeatureLoader,
    RowOrder,
    TokenOrder,
)

THREADS = [0, 1, 3]


def loading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "merstore-load" in thread.name]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
def test_every_sample_is_served_once_an_epoch(
    views: Views, threads: int, reuse: bool, shuffle: bool | str
) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8, shuffle=shuffle, threads=threads, reuse=reuse)
    assert len(loader) == 7
    first = [name for batch in loader for name in _checked(batch)]
    second = [name for batch in loader for name in _checked(batch)]
    assert sorted(first) == sorted(second) == sorted(views["frame"])
    assert (first != second) == bool(shuffle)


def _checked(batch: FeatureBatch) -> list[str]:
    numbers = [float(name[1:]) for name in batch.names]
    assert batch["frame"][:, 7, 3].tolist() == numbers
    assert batch["audio"][:, 0, 0].tolist() == numbers
    return batch.names


def test_the_order_depends_on_seed_and_epoch_alone(views: Views) -> None:
    dataset = FeatureDataset(views["frame"])

    def order(seed: int) -> list[str]:
        loader = FeatureLoader(dataset, 8, shuffle=True, seed=seed)
        return [name for _ in range(2) for batch in loader for name in batch.names]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_next_epoch_sees_what_was_written_meanwhile(
    store: merstore.Store, views: Views
) -> None:
    with merstore.open(store.path) as reader:
        loader = FeatureLoader(FeatureDataset(reader[views["frame"].path]), 64)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 0
        views["frame"]["s00"] = np.full((8, 4), 9, np.float32)
        assert float(next(iter(loader))["frame"][0, 0, 0]) == 9


@pytest.mark.parametrize("threads", THREADS)
def test_a_loader_may_be_iterated_twice_at_once(views: Views, threads: int) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8, threads=threads, prefetch=3)
    one, two = iter(loader), iter(loader)
    names: tuple[list[str], list[str]] = [], []
    for pair in zip(one, two, strict=True):
        for batch, seen in zip(pair, names, strict=True):
            seen += _checked(batch)
    assert names[0] == names[1] == sorted(views["frame"])


def test_a_batch_may_be_larger_than_the_set(views: Views) -> None:
    (batch,) = FeatureLoader(FeatureDataset(views), 1000)
    assert len(batch) == SAMPLES
    with pytest.raises(merstore.MerstoreError, match="drop_last leaves nothing"):
        FeatureLoader(FeatureDataset(views), 1000, drop_last=True)


def test_ranks_share_an_epoch(views: Views) -> None:
    seen = []
    for rank in range(3):
        loader = FeatureLoader(FeatureDataset(views), 4, shuffle=True, rank=rank, world_size=3)
        assert len(loader) == 5
        seen += [name for batch in loader for name in _checked(batch)]
    assert set(seen) == set(views["frame"])
    assert len(seen) == 51


@pytest.mark.parametrize("threads", THREADS)
def test_other_orders_are_taken(views: Views, threads: int) -> None:
    dataset = FeatureDataset(views)
    lengths = dataset.lengths("audio")
    for order in BucketOrder(lengths, 8), TokenOrder(lengths, 16), RowOrder(SAMPLES, 9):
        loader = FeatureLoader(dataset, sampler=order, threads=threads)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sorted(name for batch in batches for name in _checked(batch)) == list(dataset.names)
        if isinstance(order, TokenOrder):
            assert all(batch["audio"][..., 0].numel() <= 16 for batch in batches)
    for sampler in SequentialSampler(dataset), RandomSampler(dataset), [3, 1, 4, 1, 5]:
        loader = FeatureLoader(dataset, 2, sampler=sampler, threads=threads)
        rows = [int(name[1:]) for batch in loader for name in _checked(batch)]
        assert rows == sampler or sorted(rows) == list(range(SAMPLES))
    with pytest.raises(merstore.MerstoreError, match="for 49 samples"):
        FeatureLoader(dataset, sampler=RowOrder(49, 8))
    with pytest.raises(merstore.MerstoreError, match="the sampler's"):
        FeatureLoader(dataset, sampler=SequentialSampler(dataset), shuffle=True)
    for wrong, message in (([0, 50], "row 50"), ([[0, 1], [2, 3]], "one by one")):
        with pytest.raises(merstore.MerstoreError, match=message):
            iter(FeatureLoader(dataset, sampler=wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"shuffle": "somehow"}, "shuffle"),
        ({"threads": -1}, "threads is a number"),
        ({"prefetch": 1.5}, "prefetch is a number"),
        ({"rank": 0}, "go together"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"cache": "disk"}, "cache is"),
        ({"cache": "device"}, "needs device"),
        ({"device": "nowhere"}, "not one that torch has"),
        ({"persistent_workers": True}, "persistent_workers: for num_workers > 0"),
        ({"num_workers": 1, "cache": "ram"}, "for num_workers=0"),
        ({"profile": "best"}, "profile"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    views: Views, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(merstore.MerstoreError, match=message):
        FeatureLoader(FeatureDataset(views), **options)


# -- errors, and loaders that are not iterated to the end


@pytest.mark.parametrize("threads", THREADS)
def test_a_missing_sample_raises_at_its_batch_and_names_it(views: Views, threads: int) -> None:
    del views["audio"]["s20"]
    loader = FeatureLoader(FeatureDataset(views, list(views["frame"])), 8, threads=threads)
    batches = iter(loader)
    assert [next(batches).names[0] for _ in range(2)] == ["s00", "s08"]
    with pytest.raises(merstore.MissingEntry, match=r"view demo/audio@Y/FRA lacks 1 .*: s20"):
        next(batches)
    assert not loading()
    with pytest.raises(StopIteration):
        next(batches)
    assert _checked(next(iter(loader)))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loader_that_is_abandoned_leaves_no_thread_and_no_memory(
    views: Views, threads: int
) -> None:
    loader = FeatureLoader(FeatureDataset(views), 4, threads=threads, prefetch=3)
    batches = iter(loader)
    batch = next(batches)
    assert loading()
    del batches
    gc.collect()
    assert not loading()
    pools = loader._buffers()(0)
    assert all(len(pool._lent) == 1 for pool in pools.values())  # type: ignore[attr-defined]
    del batch
    assert not any(pool._lent for pool in pools.values())  # type: ignore[attr-defined]


def test_memory_stays_flat_over_epochs(views: Views) -> None:
    view = views["frame"].store.create_view("demo/big@Z/UTT", shape=(64, 1024))
    view.update((f"s{i:02d}", np.full((64, 1024), i, np.float32)) for i in range(SAMPLES))
    loader = FeatureLoader(FeatureDataset(view), 8, shuffle=True)  # 2 MiB a batch

    def epochs(count: int) -> int:
        for _ in range(count):
            for batch in loader:
                batch["big"]
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = epochs(3)
    assert epochs(30) - before < 4 << 10  # KiB


def test_a_forked_process_iterates_anew(views: Views) -> None:
    loader = FeatureLoader(FeatureDataset(views), 8)
    batches = iter(loader)
    next(batches)
    child = os.fork()
    if not child:
        code = 1
        try:
            next(batches)
        except merstore.MerstoreError:
            code = 0 if len([_checked(batch) for batch in loader]) == 7 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(batches)) == 6


_INTERRUPTED = """
import os, signal, sys, threading
import merstore
from merstore.load import FeatureDataset, FeatureLoader
store = merstore.open(sys.argv[1])
loader = FeatureLoader(FeatureDataset(store["demo/frame@X/uniform_8frms"]), 2, threads=3, prefetch=4)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
print("ready", flush=True)
while True:
    for batch in loader:
        pass
"""


def test_ctrl_c_ends_it_with_one_traceback(views: Views) -> None:
    command = [sys.executable, "-c", _INTERRUPTED, str(views["frame"].store.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, -2, 130)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


# -- stores that change


@pytest.mark.parametrize("threads", THREADS)
def test_a_batch_is_of_one_state_of_the_store(views: Views, threads: int) -> None:
    frame, audio = views["frame"], views["audio"]
    loader = FeatureLoader(FeatureDataset(views), 10, threads=threads)

    def write() -> None:
        names = list(views["frame"])
        for value in range(100, 140):
            entries = (
                np.full((8, 4), value, np.float32),
                np.full((value % 7 + 1, 3), value, np.float32),
            )
            with frame.store.writer() as writer:  # one commit
                writer.update(frame, [(name, entries[0]) for name in names])
                writer.update(audio, [(name, entries[1]) for name in names])

    writing = threading.Thread(target=write)
    writing.start()
    states = set()
    while writing.is_alive():
        for batch in loader:
            if batch["frame"][0, 0, 0] >= 100:
                (value,) = {
                    float(v) for key in ("frame", "audio") for v in batch[key][:, 0].unique()
                }
                assert batch.lengths["audio"].tolist() == [value % 7 + 1] * len(batch)
                states.add(value)
    writing.join()
    assert states


@pytest.mark.parametrize("threads", THREADS)
def test_a_reader_keeps_its_state_for_an_epoch(views: Views, threads: int) -> None:
    with merstore.open(views["frame"].store.path) as reader:
        dataset = FeatureDataset([reader[view.path] for view in views.values()])
        loader = FeatureLoader(dataset, 5, threads=threads)
        batches = iter(loader)
        next(batches)
        views["frame"].update({name: np.full((8, 4), 7, np.float32) for name in views["frame"]})
        for name in list(views["audio"])[:40]:
            del views["audio"][name]
        assert sum(len(_checked(batch)) for batch in batches) == SAMPLES - 5
        with pytest.raises(merstore.MissingEntry, match="s00"):
            next(iter(loader))


@pytest.mark.parametrize("threads", THREADS)
def test_a_view_may_be_dropped_or_compacted_meanwhile(views: Views, threads: int) -> None:
    store = views["frame"].store
    with merstore.open(store.path) as reader:
        dataset = FeatureDataset([reader[view.path] for view in views.values()])
        loader = FeatureLoader(dataset, 5, threads=threads)
        batches = iter(loader)
        next(batches)
        store.drop_view(views["audio"].path)
        assert sum(len(_checked(batch)) for batch in batches) == SAMPLES - 5
        with pytest.raises(merstore.UnknownView, match="demo/audio@Y/FRA"):
            iter(loader)
    loader = FeatureLoader(FeatureDataset(views["frame"]), 5, threads=threads)
    batches = iter(loader)
    kept = next(batches)["frame"]
    copy = kept.clone()
    with contextlib.suppress(merstore.StoreBusy):  # a thread may be gathering
        store.compact()
    rest = [float(value) for batch in batches for value in batch["frame"][:, 0, 0]]
    assert rest == list(range(5, SAMPLES))
    assert kept.equal(copy)


@pytest.mark.parametrize("threads", THREADS)
def test_the_first_epoch_computes_what_is_missing_and_the_second_reads_it(
    store: merstore.Store, threads: int
) -> None:
    view = store.create_view("demo/face@X/uniform_8frms", shape=(8, 4))
    names = [f"s{i:02d}" for i in range(SAMPLES)]
    view["s07"] = np.full((8, 4), 7, np.float32)
    filler = view.filler = CountingFiller(failing=["s09"])
    dataset = FeatureDataset(view, names, on_miss="fill")
    # names come more than once: each is computed once all the same
    often = RowOrder(SAMPLES, 7, weights=np.ones(SAMPLES), draws=200)
    for loader in (
        FeatureLoader(dataset, sampler=often, threads=threads),
        FeatureLoader(dataset, 8, threads=threads),
        FeatureLoader(dataset, 8, threads=threads),
    ):
        for batch in loader:
            for name, there, values in zip(
                batch.names, batch.mask["face"], batch["face"], strict=True
            ):
                assert there == (name != "s09")
                assert values.eq(float(name[1:]) if there else 0).all()
    assert sorted(filler.asked) == [name for name in names if name != "s07"]


@pytest.mark.parametrize("threads", THREADS)
def test_who_cannot_compute_says_so_at_the_batch(views: Views, threads: int) -> None:
    del views["frame"]["s20"]
    loader = FeatureLoader(
        FeatureDataset(views["frame"], list(views["audio"]), on_miss="fill"), 8, threads=threads
    )
    batches = iter(loader)
    assert [next(batches).names[0] for _ in range(2)] == ["s00", "s08"]
    with pytest.raises(merstore.MerstoreError, match="nothing computes view demo/frame@X"):
        next(batches)


def test_pages_are_asked_for_ahead_only_where_the_disk_was_read(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    from merstore.load import gather

    asked: list[int] = []
    monkeypatch.setattr(
        merstore.Selection, "willneed", lambda self, rows: asked.append(int(rows[0]))
    )
    reads = iter([0, 8, 8, 8, 8, 8, 8, 16] + [16] * 100)  # before and after each batch
    monkeypatch.setattr(gather, "_disk_reads", lambda: next(reads))
    loader = FeatureLoader(FeatureDataset(views["frame"]), 5, threads=0)
    assert sum(len(batch) for batch in loader) == SAMPLES
    assert asked == [15, 30]  # at the second and the fifth batch, two ahead
    asked.clear()
    reads = iter(range(1000))
    list(FeatureLoader(FeatureDataset(views["frame"]), 5, threads=0, advice=False))
    assert not asked


def test_a_loader_on_the_cpu_gives_plain_tensors(views: Views) -> None:
    for batch in FeatureLoader(FeatureDataset(views), 8, device="cpu"):
        assert {tensor.device for tensor in batch.each()} == {torch.device("cpu")}
        _checked(batch)
    if not torch.cuda.is_available():
        with pytest.warns(UserWarning, match="without a GPU"):
            FeatureLoader(FeatureDataset(views), 8, pin_memory=True)
        with pytest.raises(merstore.MerstoreError, match="'cuda' is not one that torch has here"):
            FeatureLoader(FeatureDataset(views), 8, device="cuda")


@pytest.mark.parametrize("io", ["map", "pread"])
def test_a_store_that_is_read_otherwise_serves_the_same(
    views: Views, io: str, tmp_path: Path
) -> None:
    with merstore.open(views["frame"].store.path, io=io, checksum=True) as reader:
        dataset = FeatureDataset([reader[view.path] for view in views.values()])
        assert sum(len(_checked(batch)) for batch in FeatureLoader(dataset, 8)) == SAMPLES


@pytest.mark.parametrize("threads", [0, 2])
def test_the_epoch_is_the_callers(views: Views, threads: int) -> None:
    """However far ahead batches are gathered."""
    loader = FeatureLoader(FeatureDataset(views), 2, threads=threads, prefetch=8)
    for epoch in range(3):
        assert loader.epoch == epoch
        seen = [loader.epoch for _ in loader]
        assert seen == [epoch] * (len(loader) - 1) + [epoch + 1]

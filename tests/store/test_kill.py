"""Killed at any moment: what was acknowledged is there, bit for bit; what was not is there whole or not at all."""

import itertools
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store.kill_writer import FIXED, RAGGED, Model, commits, create, write_for_ever
from store.processes_child import Child, Died, start

import merstore
from merstore.store import compact as compacting
from merstore.store import store as storing

CYCLES = 50


def read_ledger(child: Child, lines: int, patience: float) -> list[Any]:
    """Wait for some lines, then for the next one or a moment, whichever comes first; kill; and what was
    said by then.
    """
    said = [child.receive() for _ in range(lines)]
    child.link.poll(patience)
    child.kill()
    while child.link.poll():
        try:
            said.append(child.link.recv())
        except EOFError:
            break
    return said


def check(path: Path, *allowed: Model) -> Model:
    """The store is sound and holds one of these, which is returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mark of a fast writer that was killed
        store = merstore.open(path, "a", checksum=True)
    with store:
        assert store.verify() == []
        held = Model.of(store)
        assert held in allowed
        # as a loader reads it
        for view in (FIXED, RAGGED):
            names = sorted(held.tensors[view])
            if names:
                assert store[view].gather(names).mask.all()
    return held


def numbers(said: list[Any]) -> list[int]:
    """The commits that a ledger acknowledges: all up to the last."""
    found = [line for line in said if isinstance(line, int)]
    assert found == list(range(len(found)))
    return found


@pytest.mark.parametrize(("durability", "cycles"), [("full", CYCLES), ("fast", 15)])
def test_no_acknowledged_commit_is_lost(tmp_path: Path, durability: str, cycles: int) -> None:
    """One store through all the kills; each writer goes on from what the last one left."""
    path = tmp_path / "store.mer"
    rng = np.random.default_rng(11)
    with merstore.open(path, "a") as store:
        create(store)
    model = Model()
    acknowledged = under_way = 0
    for cycle in range(cycles):
        with start(write_for_ever, path, cycle, durability, "") as child:
            said = read_ledger(child, int(rng.integers(0, 8)), float(rng.random() * 0.02))
        done = len(numbers(said))
        coming = commits(model, cycle)
        for operations in itertools.islice(coming, done):
            model = model.after(operations)
        held = check(path, model, model.after(next(coming)))
        under_way += held != model
        model = held
        acknowledged += done
    assert acknowledged > 2 * cycles
    assert sum(map(len, model.tensors.values())) > 100
    _offline_check(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = merstore.open(path, "a")
    with store:
        store.compact()
    check(path, model)


def _offline_check(path: Path) -> None:
    """py-lmdb's own verifier, which looks at the file without LMDB."""
    command = [sys.executable, "-m", "lmdb", "-e", str(path), "verify"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "verify: OK"), done.stdout + done.stderr


def test_a_killed_writer_holds_up_nobody(tmp_path: Path) -> None:
    """Two writers at once; one is killed, over and over, the other goes on as if nothing had been."""
    path = tmp_path / "store.mer"
    rng = np.random.default_rng(12)
    with merstore.open(path, "a") as store:
        create(store)
    last = Model()
    with start(write_for_ever, path, 1000, "full", "steady-") as steady:
        assert steady.receive() == "open"
        reached = -1
        for cycle in range(10):
            with start(write_for_ever, path, cycle, "full", "killed-") as child:
                said = read_ledger(child, int(rng.integers(1, 6)), float(rng.random() * 0.02))
            for _ in range(2):
                reached = steady.receive()
            with merstore.open(path, checksum=True) as store:
                assert store.verify() == []
                held = _of(Model.of(store), "killed-")
            model = last
            coming = commits(model, cycle, "killed-")
            for operations in itertools.islice(coming, len(numbers(said[1:]))):
                model = model.after(operations)
            assert held in (model, model.after(next(coming)))
            last = held
        said = read_ledger(steady, 1, 0.01)
    done = max([reached, *numbers_from(said)]) + 1
    model = Model()
    coming = commits(model, 1000, "steady-")
    for operations in itertools.islice(coming, done):
        model = model.after(operations)
    with merstore.open(path, checksum=True) as store:
        assert store.verify() == []
        assert _of(Model.of(store), "steady-") in (model, model.after(next(coming)))


def numbers_from(said: list[Any]) -> list[int]:
    return [line for line in said if isinstance(line, int)]


def _of(model: Model, prefix: str) -> Model:
    """The part of a store that one writer wrote."""
    for views in vars(model).values():
        for view, entries in views.items():
            views[view] = {n: e for n, e in entries.items() if n.startswith(prefix)}
    return model


def test_killed_while_a_store_is_made(tmp_path: Path) -> None:
    def make(link: Connection, path: Path) -> None:
        link.send("about to")
        with merstore.open(path, "a") as store:
            link.send("made")
            create(store)
            link.send("views")

    rng = np.random.default_rng(13)
    for cycle in range(20):
        path = tmp_path / f"store{cycle}.mer"
        with start(make, path) as child:
            read_ledger(child, int(rng.integers(1, 3)), float(rng.random() * 0.01))
        with merstore.open(path, "a") as store:
            assert store.verify() == []
            create(store)
            store[FIXED]["a"] = np.ones((8, 128), np.float32)
        with merstore.open(path) as store:
            assert store[FIXED]["a"].all()
            assert store.verify() == []


# -- compact


@pytest.fixture
def aged(tmp_path: Path) -> tuple[Path, Model]:
    """A store with dead bytes and free pages, and what it holds."""
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        create(store)
        for operations in itertools.islice(commits(Model(), 7), 40):
            with store.writer() as writer:
                for kind, view, name, array, message in operations:
                    if kind == "put":
                        writer.put(store[view], name, array)
                    elif kind == "delete":
                        writer.delete(store[view], name)
                    else:
                        writer.fail(store[view], name, "decode_error", message)
        return path, Model.of(store)


def leftovers(path: Path) -> list[str]:
    return sorted(f.name for f in path.iterdir() if f.name not in ("data.mdb", "lock.mdb"))


def test_killed_while_compacting(aged: tuple[Path, Model]) -> None:
    """At random moments: the old file is there, or the new one, and what is left over goes."""
    path, model = aged

    def compact(link: Connection) -> None:
        with merstore.open(path, "a") as store:
            while True:
                store.compact(lambda done, total: link.send("copying"))
                link.send("compacted")

    rng = np.random.default_rng(14)
    ends = set()
    for _ in range(20):
        with start(compact) as child:
            said = read_ledger(child, int(rng.integers(0, 300)), float(rng.random() * 0.02))
        ends.add((said or ["nothing"])[-1])
        with merstore.open(path) as store:  # a reader leaves alone what is left over
            assert Model.of(store) == model
        check(path, model)
        assert leftovers(path) == []
    assert "copying" in ends


STEPS = ["ftruncate", "replace", "unlink", "_sync_directory"]


def _killed_at(step: str, when: str) -> Callable[..., None]:
    """Compact, and be killed just before or just after one step of the exchange of files."""

    def compact(link: Connection, path: Path, pause: bool) -> None:
        owner: Any = {"_sync_directory": compacting, "unlink": Path}.get(step, os)
        real = getattr(owner, step)

        def instead(*arguments: Any, **options: Any) -> None:
            if step == "unlink" and Path(arguments[0]).name != "lock.mdb":
                return real(*arguments, **options)
            if pause:
                link.send("in the middle")
                link.recv()
            if when == "after":
                real(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(owner, step, instead)
        with merstore.open(path, "a") as store:
            store.compact()

    return compact


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_files_change_places(aged: tuple[Path, Model], step: str, when: str) -> None:
    path, model = aged
    with start(_killed_at(step, when), path, False) as child, pytest.raises(Died, match="SIGKILL"):
        child.result()
    check(path, model)
    assert leftovers(path) == []


def _waits(pid: int) -> bool:
    """Whether a process waits for a file's lock: those are the lines with an arrow."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[:-1])  # then the lock file is gone, and nobody waits
def test_killed_while_files_change_places_and_others_wait(
    aged: tuple[Path, Model], step: str, when: str
) -> None:
    """Those who wait to open the store find the old file or the new one, and a lock file that belongs to
    it: one that knows another file's transactions would send them to the wrong state of this one.
    """
    path, model = aged

    def use(link: Connection, number: int) -> Model:
        link.send("opening")
        with merstore.open(path, "a") as store:
            held = Model.of(store)
            for i in range(5):
                store[FIXED][f"{number} {i}"] = np.full((8, 128), number, np.float32)
            return held

    with start(_killed_at(step, when), path, True) as compactor:
        assert compactor.receive() == "in the middle"
        waiting = [start(use, number) for number in (1, 2, 3)]
        try:
            for child in waiting:
                assert child.receive() == "opening"
                while not _waits(child.pid):
                    assert not child.link.poll()
            compactor.send("die")
            for child in waiting:
                assert child.result() in _grown(model)
        finally:
            for child in waiting:
                child.kill()
                child.link.close()
    with merstore.open(path, "a", checksum=True) as store:
        assert store.verify() == []
        for number in (1, 2, 3):
            for i in range(5):
                assert (store[FIXED][f"{number} {i}"] == number).all()
                del store[FIXED][f"{number} {i}"]
        assert Model.of(store) == model
        assert store.verify() == []


class _Grown:
    """Any model that holds all of another."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __contains__(self, other: Model) -> bool:
        return all(
            other.tensors[view].items() >= self.model.tensors[view].items()
            and other.failures[view] == self.model.failures[view]
            for view in (FIXED, RAGGED)
        )


def _grown(model: Model) -> _Grown:
    return _Grown(model)


# -- drop_view


def test_killed_while_dropping_a_view(
    aged: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is there as a whole, or gone; what is left of it takes up room until the next compaction,
    and never turns up in another view.
    """
    path, model = aged
    monkeypatch.setattr(storing, "DROP_CHUNK", 7)  # many transactions

    def drop(link: Connection) -> None:
        with merstore.open(path, "a") as store:
            link.send("dropping")
            store.drop_view(RAGGED)
            link.send("dropped")
            link.recv()

    rng = np.random.default_rng(15)
    kinds = set()
    for cycle in range(200):
        if cycle >= 15 and kinds:  # some kill fell into the middle of it, however busy the machine
            break
        with start(drop) as child:
            said = read_ledger(child, 1, float(rng.random() * 0.05))
        with merstore.open(path, "a", checksum=True) as store:
            problems = store.verify()
            kinds |= {problem.kind for problem in problems}
            assert {problem.kind for problem in problems} <= {"orphan"}
            assert not problems or RAGGED not in store
            assert ("dropped" in said) <= (RAGGED not in store)
            held = Model.of(store)
            assert held.tensors[FIXED] == model.tensors[FIXED]
            if RAGGED in store:
                assert held == model
            else:
                view = store.create_view(RAGGED, dtype="float16", shape=(None, 64))
                assert (len(view), list(view), view.failures()) == (0, [], [])
                assert view.missing(model.tensors[RAGGED]) == list(model.tensors[RAGGED])
                store.compact()
                assert store.verify() == []
                create(store)
                for name in model.tensors[RAGGED]:  # again, for the next cycle
                    array = np.random.default_rng(cycle).random((50, 64)).astype(np.float16)
                    with store.writer() as writer:
                        writer.put(store[RAGGED], name, array)
            model = Model.of(store)
    assert kinds == {"orphan"}

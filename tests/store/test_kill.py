"""SIGKILL at random moments: every acknowledged commit is there bit for bit, and nothing of an
unfinished one.
"""

import json
import os
import random
import select
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merstore
from merstore.store.writer import digest

VIEW = "kill/frame@X/all"
NAMES = [f"s{i:03d}" for i in range(60)]
CYCLES = 50
PATIENCE = 60  # seconds; a child that says nothing for so long has hung

State = dict[str, "int | None"]  # name: digest of its bytes, None for a failure record


def _array(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((int(rng.integers(1, 40)), 512), np.float32)


def _write(path: Path, seed: int, ledger: int, durability: str) -> None:
    """In the child: commits of puts, overwrites, deletions and failures; before each it writes to the
    ledger what it is about to do, and after it, that it is done.
    """
    rng = random.Random(seed)
    with merstore.open(path, "a", durability=durability) as store:
        view = store[VIEW]
        while True:
            steps = []
            with store.writer(max_seconds=1e9) as writer:
                for _ in range(rng.choice([1, 1, 3, 10, 40])):
                    name = rng.choice(NAMES)
                    kind = rng.choice(["put", "put", "put", "delete", "fail"])
                    number = rng.randrange(1 << 30)
                    steps.append((kind, name, number))
                    if kind == "put":
                        writer.put(view, name, _array(number))
                    elif kind == "delete":
                        writer.delete(view, name)
                    else:
                        writer.fail(view, name, "decode_error", str(number))
                _say(ledger, {"begin": steps})
            _say(ledger, {"done": len(steps)})


def _say(ledger: int, line: object) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(ledger, data) :]


def _after(state: State, steps: list[tuple[str, str, int]]) -> State:
    """What the store must hold after a transaction: the plain reference."""
    state = dict(state)
    for kind, name, number in steps:
        if kind == "put":
            state[name] = digest(_array(number))
        elif kind == "delete":
            state.pop(name, None)
        elif state.get(name) is None:  # a failure never replaces a tensor
            state[name] = None
    return state


def _held(store: merstore.Store) -> State:
    view = store[VIEW]
    found: State = {name: digest(view[name]) for name in view}
    return found | {failure.name: None for failure in view.failures()}


def _kill_one(path: Path, seed: int, durability: str) -> list[dict[str, Any]]:
    """Run a writer and kill it. Returns its ledger."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _write(path, seed, writing, durability)
        finally:
            os._exit(1)
    os.close(writing)
    rng = random.Random(seed + 1_000_000)
    patience = rng.randrange(12)
    lines = 0
    data = b""
    os.set_blocking(reading, False)
    while lines <= patience:
        assert select.select([reading], [], [], PATIENCE)[0], "the writer hangs"
        part = os.read(reading, 1 << 16)
        assert part, "the writer ended by itself"
        data += part
        lines = data.count(b"\n")
    for _ in range(rng.randrange(2000)):  # somewhere in the next transaction
        pass
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    while part := os.read(reading, 1 << 16):
        data += part
    os.close(reading)
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


@pytest.mark.parametrize("durability", ["full", "fast"])
def test_what_was_acknowledged_survives(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        store.create_view(VIEW, shape=(None, 512))
    state: State = {}
    kept = 0
    for cycle in range(CYCLES if durability == "full" else 5):
        lines = _kill_one(path, cycle, durability)
        unfinished: list[tuple[str, str, int]] = []
        for line in lines:
            if "begin" in line:
                unfinished = [tuple(step) for step in line["begin"]]
            else:
                state = _after(state, unfinished)
                unfinished = []
                kept += 1
        with _quietly(path) as store:
            held = _held(store)
            # The last transaction was not acknowledged: it is there as a whole, or not at all.
            assert held in (state, _after(state, unfinished)), f"cycle {cycle}"
            state = held
            assert store.verify() == []
            assert len(store[VIEW]) == sum(value is not None for value in state.values())
    assert kept > CYCLES if durability == "full" else kept > 0
    with merstore.open(path, "a") as store:
        store[VIEW]["after all"] = _array(1)
        assert store.verify() == []


def _quietly(path: Path) -> merstore.Store:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # durability="fast" says that it was not closed
        return merstore.open(path)


def test_a_killed_compaction_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        view = store.create_view(VIEW, shape=(None, 512))
        view.update({name: _array(i) for i, name in enumerate(NAMES)})
        view.update({name: _array(i + 1000) for i, name in enumerate(NAMES[::2])})
        before = _held(store)
    for cycle in range(12):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)

            def tell(done: int, total: int, writing: int = writing) -> None:
                os.write(writing, b".")

            try:
                with merstore.open(path, "a") as store:
                    os.write(writing, b"o")
                    store.compact(tell)
                    os.write(writing, b"e")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writing)
        wanted = 1 + cycle * 6  # from just opened to all done
        got = 0
        while got < wanted:
            assert select.select([reading], [], [], PATIENCE)[0], "the compaction hangs"
            part = os.read(reading, wanted - got)
            got += len(part)
            if b"e" in part:
                break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        with merstore.open(path, "a") as store:
            assert _held(store) == before, f"cycle {cycle}"
            assert store.verify() == []
            store[VIEW]["s001"] = _array(1)  # writable, and the same again
            assert _held(store) == before


def test_a_killed_drop_leaves_at_worst_orphans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        keep = store.create_view("kill/keep@X/all", shape=(4,))
        keep.update({name: np.full(4, i, np.float32) for i, name in enumerate(NAMES)})
        gone = store.create_view(VIEW, shape=(None, 512))
        gone.update({name: _array(i) for i, name in enumerate(NAMES)})
    child = os.fork()
    if child == 0:
        calls = 0

        def die(*arguments: object) -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        from merstore.store import store as module

        real = module._delete_some
        monkeypatch.setattr(module, "_delete_some", die)
        try:
            with merstore.open(path, "a") as store:
                store.drop_view(VIEW)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    with merstore.open(path, "a") as store:
        assert VIEW not in store
        kept = store["kill/keep@X/all"].gather(NAMES)
        np.testing.assert_array_equal(kept[:, 0], np.arange(len(NAMES)))
        assert {problem.kind for problem in store.verify()} <= {"orphan"}
        del kept
        store.compact()
        assert store.verify() == []

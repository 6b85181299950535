"""One store in many hands: opened again and again, by threads, by forked and spawned processes, and interrupted."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import lmdb
import numpy as np
import pytest
from store.processes_child import PATIENCE, run, start
from store.processes_workers import (
    NAMES,
    RAGGED,
    VIEW,
    ask_for_nothing,
    entry,
    fill,
    generation_of,
    use_selection,
    use_store,
    use_view,
    write_one,
)

import merstore
from merstore.store import registry

ROWS = list(range(len(NAMES)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        fill(store)
    return path


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own; their results, or the first error."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(f) for f in functions]]


def generation(store: merstore.Store) -> int:
    store.refresh()
    assert store.verify() == []
    return generation_of(store[VIEW].gather(NAMES), ROWS)


# -- opened many times


def test_a_store_opened_many_times_is_one_environment(path: Path) -> None:
    stores = [merstore.open(path, "a" if i % 3 else "r") for i in range(20)]
    assert len({id(store.environment) for store in stores}) == 1
    fill(stores[1], 1)
    for store in stores[::2]:
        store.close()
    for store in stores[1::2]:
        assert generation(store) == 1
        store.close()
    lmdb.open(str(path), max_dbs=6).close()  # nothing of ours holds it any more


def test_each_store_reads_what_it_has_seen_until_it_is_refreshed(path: Path) -> None:
    with merstore.open(path) as old, merstore.open(path, "a") as writer:
        view = old[VIEW]
        rows = view.select(NAMES)
        assert generation_of(rows.gather(ROWS), ROWS) == 0
        for number in range(1, 6):
            fill(writer, number)
            assert generation_of(rows.gather(ROWS), ROWS) == 0
            assert generation_of(view.gather(NAMES), ROWS) == 0
            assert generation_of(writer[VIEW].gather(NAMES), ROWS) == number
        old.refresh()
        assert generation_of(rows.gather(ROWS), ROWS) == 5


def test_arrays_outlive_their_store(path: Path) -> None:
    with merstore.open(path) as store:
        array = store[VIEW][NAMES[7]]
    with merstore.open(path, "a") as store:
        for number in range(1, 10):
            fill(store, number)
        with pytest.raises(merstore.StoreBusy, match="let go of its arrays"):
            store.compact()
    assert (array == entry(7)).all()
    with pytest.raises(lmdb.Error, match="already open"):
        lmdb.open(str(path), max_dbs=6)
    del array
    lmdb.open(str(path), max_dbs=6).close()


def test_a_store_that_is_forgotten_is_closed(path: Path) -> None:
    store = merstore.open(path)
    view = store[VIEW]
    view.gather(NAMES)
    del store, view
    gc.collect()
    lmdb.open(str(path), max_dbs=6).close()


def test_a_writer_does_not_outlive_its_store(path: Path) -> None:
    store = merstore.open(path, "a")
    writer = store.writer()
    writer.put(store[VIEW], "late", entry(1))
    store.close()
    with pytest.raises(merstore.MerstoreError, match=f"the store {path} is closed"):
        writer.commit()
    with merstore.open(path) as store:
        assert "late" not in store[VIEW]
    lmdb.open(str(path), max_dbs=6).close()


# -- threads


def test_threads_gather_while_one_writes(path: Path) -> None:
    """Every batch is of one generation, whole: of shared views and selections, and of threads' own."""
    written = threading.Event()
    with merstore.open(path, "a") as store:
        shared, rows, ragged = store[VIEW], store[VIEW].select(NAMES), store[RAGGED].select(NAMES)

        def read(ask: Callable[[list[int]], np.ndarray], seed: int) -> int:
            rng = np.random.default_rng(seed)
            batches, last = 0, 0
            while not written.is_set() or not batches:
                some = rng.permutation(len(NAMES))[:32].tolist()
                seen = generation_of(ask(some), some)
                assert seen >= last
                last = seen
                batches += 1
            return batches

        def masked(some: list[int]) -> np.ndarray:
            batch = shared.gather([NAMES[i] for i in some], on_miss="mask")
            assert batch.mask.all()
            return batch

        def own(some: list[int]) -> np.ndarray:
            return store[VIEW].gather([NAMES[i] for i in some])

        def opened(some: list[int]) -> np.ndarray:
            with merstore.open(path) as mine:
                return mine[VIEW].select(NAMES).gather(some)

        def read_ragged() -> None:
            while not written.is_set():
                values, lengths, mask = ragged.padded(ROWS)
                assert mask.all()
                assert lengths.tolist() == [i % 5 + 1 for i in ROWS]
                assert (values[:, 0] == np.reshape(ROWS, (-1, 1))).all()

        def read_one() -> None:
            while not written.is_set():
                assert (shared[NAMES[9]] % 1000 == 9).all()

        def write() -> None:
            try:
                for number in range(1, 21):
                    fill(store, number)
            finally:
                written.set()

        in_threads(
            write,
            lambda: read(lambda some: rows.gather(some), 1),
            lambda: read(lambda some: rows.gather(some), 2),
            lambda: read(masked, 3),
            lambda: read(own, 4),
            lambda: read(opened, 5),
            lambda: read(lambda some: shared.gather([NAMES[i] for i in some]), 6),
            read_ragged,
            read_one,
        )
        assert generation(store) == 20


def test_threads_write_at_once(path: Path) -> None:
    def write(number: int) -> None:
        with merstore.open(path, "a") as store:
            view = store[VIEW]
            for i in range(10):
                view[f"t{number} {i}"] = entry(i, number)

    in_threads(*(lambda n=n: write(n) for n in range(4)))
    with merstore.open(path) as store:
        assert store.verify() == []
        for number in range(4):
            for i in range(10):
                assert (store[VIEW][f"t{number} {i}"] == entry(i, number)).all()


@pytest.mark.parametrize("durability", ["full", "fast"])
def test_threads_open_and_close_while_one_writes(path: Path, durability: str) -> None:
    with merstore.open(path, "a", durability=durability) as store:

        def write() -> None:
            for number in range(1, 21):
                fill(store, number)

        def open_and_close() -> None:
            for _ in range(20):
                with merstore.open(path, "a", durability=durability) as other:
                    assert other[VIEW].gather(NAMES).mask.all()

        in_threads(write, open_and_close, open_and_close)
        assert generation(store) == 20
    with merstore.open(path) as store:
        assert store.stats()["durability"] == "full"


def test_a_thread_closes_the_store_under_another_that_writes(path: Path) -> None:
    """What has begun is ended; what comes after is refused."""
    for _ in range(5):
        store = merstore.open(path, "a")
        began = threading.Event()

        def write(store: merstore.Store = store, began: threading.Event = began) -> int:
            with contextlib.suppress(merstore.MerstoreError):
                for number in range(1, 1000):
                    fill(store, number)
                    began.set()
            return number

        with ThreadPoolExecutor(1) as pool:
            reached = pool.submit(write)
            assert began.wait(PATIENCE)
            store.close()
            last = reached.result(PATIENCE)
        assert last < 999
        with merstore.open(path) as store:
            assert generation(store) in (last - 1, last)
        lmdb.open(str(path), max_dbs=6).close()


# -- fork


def test_a_forked_child_uses_what_its_parent_had_open(path: Path) -> None:
    with merstore.open(path, "a") as store:
        view, rows, array = store[VIEW], store[VIEW].select(NAMES), store[VIEW][NAMES[5]]
        view.gather(NAMES[:10])
        rows.gather([0, 1])
        walk = iter(view)
        assert next(walk) == NAMES[0]

        def use() -> tuple[bool, ...]:
            view["from the child"] = entry(3)
            return (
                bool((array == entry(5)).all()),
                generation_of(view.gather(NAMES), ROWS) == 0,
                generation_of(rows.gather(ROWS), ROWS) == 0,
                store.verify() == [],
                len(view) == len(NAMES) + 1,
            )

        assert all(run(use))
        assert len(view) == len(NAMES)
        store.refresh()
        assert (view["from the child"] == entry(3)).all()
        assert list(walk) == NAMES[1:]


def test_a_child_that_rewrites_everything_leaves_its_parents_snapshot_alone(path: Path) -> None:
    with merstore.open(path, "a") as store:
        view, rows = store[VIEW], store[VIEW].select(NAMES)
        arrays = [view[name] for name in NAMES]
        before = [array.tobytes() for array in arrays]
        rows.gather(ROWS)

        def rewrite() -> int:
            for number in range(1, 21):
                fill(store, number)
            store.close()
            del arrays[:], store.__dict__["_kept"]
            gc.collect()
            with merstore.open(path, "a") as again:
                return generation(again)

        assert run(rewrite) == 20
        assert [array.tobytes() for array in arrays] == before
        assert generation_of(rows.gather(ROWS), ROWS) == 0
        assert generation_of(view.gather(NAMES), ROWS) == 0
        assert generation(store) == 20


def test_children_of_children_and_of_closed_stores(path: Path) -> None:
    store = merstore.open(path, "a")
    rows = store[VIEW].select(NAMES)

    def child() -> list[int]:
        return [generation_of(rows.gather(ROWS), ROWS), run(grandchild)]

    def grandchild() -> int:
        return generation_of(rows.gather(ROWS), ROWS)

    assert run(child) == [0, 0]
    store.close()

    def late() -> int:
        with pytest.raises(merstore.MerstoreError, match="is closed"):
            rows.gather(ROWS)
        with merstore.open(path) as mine:
            return generation(mine)

    assert run(late) == 0


def test_a_child_that_wakes_up_after_a_compaction(path: Path) -> None:
    """It has held no lock: the files it knew are gone when it first looks."""

    def child(link: Connection, store: merstore.Store, rows: merstore.Selection) -> list[int]:
        link.send("forked")
        link.recv()
        seen = [generation_of(rows.gather(ROWS), ROWS)]
        with merstore.open(path, "a") as other:
            assert other.environment is store.environment
            fill(other, 9)
        store.refresh()
        return [*seen, generation_of(rows.gather(ROWS), ROWS)]

    store = merstore.open(path, "a")
    rows = store[VIEW].select(NAMES)
    rows.gather(ROWS)
    with start(child, store, rows) as waiting:
        assert waiting.receive() == "forked"
        for number in range(1, 4):
            fill(store, number)
        store.compact()
        store.close()
        waiting.send("wake up")
        assert waiting.result() == [3, 9]


def test_forking_waits_for_a_thread_that_writes(path: Path) -> None:
    with merstore.open(path, "a") as store:
        began, go_on = threading.Event(), threading.Event()
        order = []

        def write() -> None:
            with store.environment.transaction() as txn:
                began.set()
                assert go_on.wait(PATIENCE)
                order.append("written")
                txn.put(b"mark", b"1", db=store.environment.databases[b"meta"])

        def use() -> int:
            fill(store, 1)
            return generation(store)

        def fork() -> int:
            with start(lambda link: use()) as child:
                order.append("forked")
                return int(child.result())

        def release(forking: threading.Thread) -> None:
            """When the fork is seen to wait (or, wrongly, not to)."""
            while forking.is_alive() and not order:
                frame = sys._current_frames().get(forking.ident or 0)
                while frame is not None:
                    if frame.f_code is registry._before_fork.__code__:
                        go_on.set()
                        return
                    frame = frame.f_back

        seen: list[int] = []
        writing = threading.Thread(target=write)
        forking = threading.Thread(target=lambda: seen.append(fork()))
        writing.start()
        assert began.wait(PATIENCE)
        forking.start()
        release(forking)
        writing.join(PATIENCE)
        forking.join(PATIENCE)
        assert order == ["written", "forked"]
        assert seen == [1]
        assert generation(store) == 1


def test_a_fork_in_the_middle_of_ones_own_write_harms_nobody(path: Path) -> None:
    """The child can neither end its parent's transaction nor use the store; the parent goes on."""

    def parent() -> tuple[int, str, bool]:
        store = merstore.open(path, "a")
        env = store.environment
        here, there = multiprocessing.Pipe()
        pid = -1
        try:
            with env.transaction() as txn:
                pid = os.fork()
                if pid == 0:
                    try:
                        store[VIEW].gather(NAMES)
                    except merstore.StoreBusy as error:
                        there.send(str(error))
                else:
                    said = here.recv()
                    status = os.waitpid(pid, 0)[1]
                    txn.put(b"mark", b"parent", db=env.databases[b"meta"])
        except merstore.MerstoreError:
            os._exit(7 if pid == 0 else 1)
        if pid == 0:
            os._exit(0)  # it believes to have committed
        fill(store, 1)
        assert store.snapshot().get(b"meta", b"mark") == b"parent"
        return os.waitstatus_to_exitcode(status), said, generation(store) == 1

    status, said, sound = run(parent)
    assert status == 7
    assert "forked in the middle of a write" in said
    assert sound
    with merstore.open(path, "a") as store:
        assert generation(store) == 1


def test_threads_fork_at_once_while_one_writes(path: Path) -> None:
    with merstore.open(path, "a") as store:
        rows = store[VIEW].select(NAMES)
        done = threading.Event()

        def write() -> None:
            number = 0
            while not done.is_set():
                number += 1
                fill(store, number)

        def fork() -> None:
            for _ in range(8):
                run(lambda: generation_of(rows.gather(ROWS), ROWS))

        def forks() -> None:
            try:
                in_threads(fork, fork, fork)
            finally:
                done.set()

        in_threads(write, forks)
        fill(store, 500)
        assert generation(store) == 500


# -- multiprocessing


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind(path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    with merstore.open(path, "a") as store:
        view, rows = store[VIEW], store[VIEW].select(NAMES)
        rows.gather(ROWS)
        with context.Pool(2) as pool:
            for use, what in ((use_store, store), (use_view, view), (use_selection, rows)):
                answers = pool.starmap(use, [(what, row) for row in range(12)])
                assert [value for _, value, _ in answers] == list(range(12))
                assert all(writable for _, _, writable in answers)
                assert os.getpid() not in {pid for pid, _, _ in answers}
            assert pool.starmap(write_one, [(view, row) for row in range(6)]) == list(range(6))
            with pytest.raises(merstore.MissingEntry, match=f"{VIEW} lacks 1 .*nothing 3"):
                pool.starmap(ask_for_nothing, [(view, 3)])
            pool.close()
            pool.join()
        store.refresh()
        assert [(view[f"from worker {i}"] == entry(i)).all() for i in range(6)] == [True] * 6


def test_what_is_pickled_is_a_path_a_mode_and_names(path: Path) -> None:
    with merstore.open(path, "a", checksum=True, io="pread") as store:
        rows = store[VIEW].select(NAMES)
        rows.gather(ROWS)
        data = pickle.dumps(rows)
        assert len(data) < 2000
        again = pickle.loads(data)
        copied = again.view.store
        assert (copied.path, copied.mode, copied.checksum, copied.io) == (path, "a", True, "pread")
        assert generation_of(again.gather(ROWS), ROWS) == 0
        copied.close()
    with merstore.open(path) as store, pickle.loads(pickle.dumps(store)) as copied:
        assert copied.mode == "r"


def test_every_error_survives_pickling() -> None:
    def children(error: type) -> Iterator[type]:
        yield error
        for child in error.__subclasses__():
            yield from children(child)

    for error in children(merstore.MerstoreError):
        arguments = ("clip.mp4", "no_video", "why") if error is merstore.DecodeError else ("why",)
        one = error(*arguments)
        other = pickle.loads(pickle.dumps(one))
        assert type(other) is error
        assert str(other) == str(one)
        assert "why" in str(other)


# -- processes beside each other


def test_two_processes_write_at_once(path: Path) -> None:
    def write(link: Connection, number: int) -> int:
        with merstore.open(path, "a") as store:
            view = store[VIEW]
            link.send("open")
            link.recv()
            for i in range(30):
                view.update({f"p{number} {i}": entry(i, number), f"both {i}": entry(i, number)})
            return len(view)

    with start(write, 1) as one, start(write, 2) as other:
        for child in (one, other):
            assert child.receive() == "open"
        for child in (one, other):
            child.send("go")
        one.result(), other.result()
    with merstore.open(path) as store:
        view = store[VIEW]
        assert len(view) == len(NAMES) + 90
        for i in range(30):
            for number in (1, 2):
                assert (view[f"p{number} {i}"] == entry(i, number)).all()
            assert float(view[f"both {i}"][0, 0]) in (1000 + i, 2000 + i)
        assert store.verify() == []


@pytest.mark.parametrize("hold", ["a store", "a snapshot", "an array"])
def test_compacting_waits_for_nobody_and_refuses_while_others_read(path: Path, hold: str) -> None:
    def read(link: Connection) -> int:
        store = merstore.open(path)
        held: Any = store.views()
        if hold == "a snapshot":
            held = store[VIEW].select(NAMES)
            held.gather(ROWS)
        elif hold == "an array":
            held = store[VIEW][NAMES[7]]
            store.close()
        link.send("reading")
        link.recv()
        if hold == "an array":
            assert (held == entry(7)).all()
        del held
        store.close()
        link.send("closed")
        link.recv()
        with merstore.open(path) as again:
            return generation(again)

    with start(read) as child, merstore.open(path, "a") as store:
        assert child.receive() == "reading"
        for number in (1, 2):
            fill(store, number)
            with pytest.raises(
                merstore.StoreBusy, match="open in another process: compact when nobody"
            ):
                store.compact()
            assert generation(store) == number
        child.send("close")
        assert child.receive() == "closed"
        store.compact()
        assert generation(store) == 2
        child.send("open again")
        assert child.result() == 2


def test_compacting_needs_the_store_alone_in_its_own_process_too(path: Path) -> None:
    with merstore.open(path, "a") as store:
        array = store[VIEW][NAMES[3]]
        with pytest.raises(merstore.StoreBusy, match="let go of its arrays"):
            store.compact()
        del array
        other = merstore.open(path)
        with pytest.raises(merstore.StoreBusy, match="close its other stores"):
            store.compact()
        other.close()
        rows = store[VIEW].select(NAMES)
        rows.gather(ROWS)
        store.compact()
        assert generation_of(rows.gather(ROWS), ROWS) == 0


def test_processes_open_read_and_write_while_others_compact(path: Path) -> None:
    """Whoever comes while a compaction is at work waits and then sees the new file; nothing that was
    acknowledged is lost.
    """

    def read(link: Connection) -> int:
        for _ in range(60):
            with merstore.open(path) as store:
                assert generation_of(store[VIEW].gather(NAMES), ROWS) == 0
        return 0

    def write(link: Connection, number: int) -> int:
        for i in range(40):
            with merstore.open(path, "a") as store:
                store[VIEW][f"p{number} {i}"] = entry(i, number)
        return 40

    def compact(link: Connection) -> int:
        done = 0
        while not link.poll():
            with merstore.open(path, "a") as store, contextlib.suppress(merstore.StoreBusy):
                store.compact()
                done += 1
        return done

    with start(compact) as one, start(compact) as other:
        with start(read) as reader, start(write, 1) as first, start(write, 2) as second:
            for child in (reader, first, second):
                child.result()
        one.send("stop"), other.send("stop")
        assert one.result() + other.result() > 0
    with merstore.open(path, "a") as store:
        assert len(store[VIEW]) == len(NAMES) + 80
        for number in (1, 2):
            for i in range(40):
                assert (store[VIEW][f"p{number} {i}"] == entry(i, number)).all()
        assert store.verify() == []


def test_a_compaction_does_not_take_the_lock_of_one_that_has_just_ended(path: Path) -> None:
    """The second opens the lock file, the first ends and puts it away, the second locks what is no
    longer there: it must not believe itself alone.
    """

    def second(link: Connection) -> str:
        real = fcntl.lockf

        def late(*arguments: Any) -> None:
            link.send("has opened the lock file")
            link.recv()
            real(*arguments)

        import merstore.store.compact as compacting

        compacting.fcntl = type("fcntl", (), {**vars(fcntl), "lockf": staticmethod(late)})  # type: ignore[assignment]
        with merstore.open(path, "a") as store:
            try:
                store.compact()
            except merstore.StoreBusy as error:
                return str(error)
        return "compacted"

    import fcntl

    with start(second) as child:
        assert child.receive() == "has opened the lock file"
        with merstore.open(path, "a") as store:
            store.compact()
            child.send("go on")
            view = store[VIEW]
            view["meanwhile"] = entry(4)
            assert "open in another process" in child.result()
            assert (view["meanwhile"] == entry(4)).all()
    with merstore.open(path) as store:
        assert (store[VIEW]["meanwhile"] == entry(4)).all()


def test_slots_of_killed_readers_are_given_back(path: Path) -> None:
    """A reader that was killed would keep LMDB from ever using a page again."""

    def hold(link: Connection) -> None:
        with merstore.open(path) as store:
            array = store[VIEW][NAMES[0]]
            link.send(os.getpid())
            link.recv()
            del array

    with start(hold) as witness:  # somebody who keeps the lock file from being made anew
        alive = witness.receive()
        with start(hold) as killed:
            pid = killed.receive()
            killed.kill()
        with merstore.open(path, "a") as store:
            readers = store.environment.handle().readers()
            assert f"{pid} " not in readers
            assert f"{alive} " in readers


def test_the_file_does_not_grow_for_killed_readers(path: Path) -> None:
    def read(link: Connection) -> None:
        with merstore.open(path) as store:
            array = store[VIEW][NAMES[0]]
            link.send("reading")
            link.recv()
            del array

    with merstore.open(path, "a") as store:
        for number in range(1, 10):
            fill(store, number)
        size = (path / "data.mdb").stat().st_size
        for _ in range(5):
            with start(read) as child:
                assert child.receive() == "reading"
        for number in range(10, 30):
            fill(store, number)
        assert (path / "data.mdb").stat().st_size < 1.5 * size


def test_a_store_moved_away_while_open_elsewhere(path: Path, tmp_path: Path) -> None:
    def read(link: Connection) -> tuple[int, int]:
        with merstore.open(path) as store:
            first = generation_of(store[VIEW].gather(NAMES), ROWS)
            link.send("read")
            link.recv()
            store.refresh()
            return first, generation_of(store[VIEW].gather(NAMES), ROWS)

    other = tmp_path / "other"
    shutil.copytree(path, other, ignore=shutil.ignore_patterns("lock.mdb"))
    with merstore.open(other, "a") as store:
        fill(store, 7)
    with start(read) as child:
        assert child.receive() == "read"
        path.rename(tmp_path / "old")
        other.rename(path)
        child.send("go on")
        assert child.result() == (0, 7)


# -- Ctrl-C


def _interrupted(link: Connection, path: Path, what: str) -> None:
    """Work until interrupted, over and over; then all is as whole as before, and goes on."""
    with merstore.open(path, "a") as store:
        rows = store[VIEW].select(NAMES)
        number = written = 0
        for _ in range(link.recv()):
            interrupts = 0
            try:
                link.send("working")
                while True:
                    if what == "update":
                        number += 1
                        fill(store, number)
                        written = number
                    elif what == "refresh":
                        store.refresh()
                        rows.gather(ROWS)
                    else:
                        rows.gather(ROWS)
            except KeyboardInterrupt:
                interrupts += 1
            assert interrupts == 1
            assert generation(store) in (written, number)
            written = generation(store)
            in_threads(lambda: store[VIEW].__setitem__("another thread", entry(1)))


@pytest.mark.parametrize("what", ["update", "refresh", "gather"])
def test_ctrl_c_is_one_interrupt_and_no_harm(path: Path, what: str) -> None:
    times = 25
    with start(_interrupted, path, what) as child:
        child.send(times)
        for _ in range(times):
            assert child.receive() == "working"
            os.kill(child.pid, signal.SIGINT)
        child.result()
    with merstore.open(path) as store:
        assert store.verify() == []


class Interrupter:
    """Raises a KeyboardInterrupt at one of the points where Python looks for Ctrl-C: on the way into a
    function of its own, and on the way back from one in C.
    """

    def __init__(self) -> None:
        self.ours = (os.path.dirname(registry.__file__), contextlib.__file__)
        self.passed = self.wanted = 0

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(self.ours):
            self.passed += 1
            if self.passed == self.wanted:
                raise KeyboardInterrupt

    def run(self, work: Callable[[], object], wanted: int) -> BaseException | None:
        """What came out of it. Where there is no such point any more, ``passed`` is less than ``wanted``."""
        self.passed, self.wanted = 0, wanted
        try:
            sys.setprofile(self.profile)
            try:
                work()
            finally:
                sys.setprofile(None)
        except KeyboardInterrupt as error:
            return error
        return None


# a campaign: thousands of interrupts, one at each place where Python looks for one
@pytest.mark.slow
@pytest.mark.parametrize(("what", "stride"), [("write", 3), ("compact", 173)])
def test_an_interrupt_wherever_python_looks_for_one_leaves_the_store_usable(
    path: Path, what: str, stride: int
) -> None:
    """The same, without leaving it to chance, and with the last traceback kept as an interactive session
    does.
    """
    store = merstore.open(path, "a", durability="fast" if what == "write" else "full")
    view = store[VIEW]
    interrupter = Interrupter()
    last = generation = 0
    kept: BaseException | None = None

    def write() -> None:
        view[NAMES[0]] = entry(0, generation)
        view.gather(NAMES[:1])

    def reached() -> int:
        store.refresh()
        return generation_of(view.gather(NAMES[:1]), [0])

    while interrupter.passed >= interrupter.wanted:
        kept = None  # an array or a snapshot in it would keep compact from its work
        generation += 1
        wanted = interrupter.wanted + stride
        kept = interrupter.run(write if what == "write" else store.compact, wanted)
        assert (kept is not None) == (interrupter.passed >= wanted)  # once each
        # another thread can write now, and another process
        in_threads(lambda: view.__setitem__("thread", entry(1)))
        if generation % 20 == 0:
            run(view.__setitem__, "process", entry(2))
        assert reached() in ((last, generation) if what == "write" else (0,))
        last = reached()
        if generation % 20 == 0:
            assert store.verify() == []
    assert generation > 20
    assert store.verify() == []
    assert [f.name for f in path.iterdir() if f.is_dir()] == []
    store.close()
    lmdb.open(str(path), max_dbs=6).close()


# an interrupt while Python takes an object apart is told, and dropped
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["open", "create"])
def test_an_interrupt_while_a_store_is_opened_or_made(
    path: Path, tmp_path: Path, what: str
) -> None:
    interrupter = Interrupter()
    kept: BaseException | None = None

    def work() -> None:
        merstore.open(path if what == "open" else tmp_path / f"new{wanted}", "a").close()

    while interrupter.passed >= interrupter.wanted:
        wanted = interrupter.wanted + 2
        kept = None
        kept = interrupter.run(work, wanted)
        with merstore.open(path if what == "open" else tmp_path / f"new{wanted}", "a") as store:
            assert store.views() == ([RAGGED, VIEW] if what == "open" else [])
            if interrupter.passed < wanted:
                assert store.verify() == []
    assert wanted > 100
    assert kept is None
    lmdb.open(str(path), max_dbs=6).close()

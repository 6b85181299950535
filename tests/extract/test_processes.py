"""Reading processes: what they answer, and what a decoder that hangs or dies may cost."""

import copy
import gc
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extract.processes_recipes import (
    CountsCopies,
    DiesWhenImported,
    Misbehaving,
    Odd,
    Plain,
    kinds,
    sample,
)

from merstore.errors import MerstoreError
from merstore.extract import processes
from merstore.extract.processes import Readers
from merstore.extract.reading import Read, Reading, Refusal, read

PATIENCE = 60
TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a process, a zombie, a thread or a descriptor behind."""
    descriptors = os.listdir("/proc/self/fd")
    yield
    gc.collect()
    eventually(lambda: not children())
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "merstore-read"])
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


@pytest.fixture
def readers() -> Iterator[Readers]:
    with Readers(2) as opened:
        yield opened


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children() -> set[int]:
    """Our child processes that read, zombies too."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and (b"merstore.extract.processes" in command or not command):
            found.add(int(path.name))
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, types and all."""
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def do(what: str) -> tuple[list[Plain], Any]:
    return [Plain(), Misbehaving()], sample("s", what)


def only(future: Future[Read]) -> Any:
    """The result of Misbehaving, where nothing went wrong with it."""
    result = future.result(PATIENCE).results[-1]
    assert not isinstance(result, Refusal), result
    return result


# What comes back.


def test_what_is_read_is_what_would_be_read_here(readers: Readers) -> None:
    recipes = [Plain(), Plain(side=224), Odd(), Misbehaving()]
    samples = [sample(f"s{n}", "refuse" if n % 5 == 0 else None) for n in range(6)]
    futures = [readers.submit(recipes, one) for one in samples]
    for one, future in zip(samples, futures, strict=True):
        there, here = future.result(PATIENCE), read(one, recipes)
        assert same(there.results, here.results)
        assert there.quality == here.quality
        there.results[1]["pixels"][:] = 0  # ours to write into


@pytest.mark.parametrize("count", [0, 1])
def test_a_recipe_that_fails_leaves_the_others(count: int) -> None:
    with Readers(count) as readers:
        result = readers.submit(*do("raise")).result(PATIENCE)
        assert kinds(result) == [None, "decode_error"]
        assert kinds(readers.submit(*do("refuse")).result(PATIENCE)) == [None, "no_video"]


def test_no_recipes_no_results(readers: Readers) -> None:
    assert readers.submit([], sample()).result(PATIENCE) == Read([], {})


def test_without_processes_it_is_done_at_once_and_here() -> None:
    class Local(Plain):
        """Which no other process could import."""

    with Readers(0) as readers:
        future = readers.submit([Local(), Misbehaving()], sample(do="pid"))
        assert future.done()
        assert future.result().results[1] == os.getpid()


def test_an_error_comes_with_the_traceback_of_the_process(readers: Readers) -> None:
    with pytest.raises(TypeError, match="pickle") as caught:
        readers.submit(*do("return_what_does_not_pickle")).result(PATIENCE)
    assert "In the reading process:\nTraceback" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="in unpickling"):
        readers.submit(*do("return_what_does_not_unpickle")).result(PATIENCE)
    assert readers.submit(*do("nothing")).result(PATIENCE).quality


@pytest.mark.parametrize("where", ["closed over", "main"])
def test_a_recipe_that_cannot_be_imported_is_refused_with_the_way_out(
    readers: Readers, where: str
) -> None:
    class Local(Plain):
        pass

    if where == "main":
        Local.__module__, Local.__qualname__ = "__main__", "Local"
        sys.modules["__main__"].Local = Local  # type: ignore[attr-defined]
    try:
        future = readers.submit([Local()], sample())
        with pytest.raises(MerstoreError, match=r"Local.*into a module.*jobs=0"):
            future.result(PATIENCE)
        assert kinds(readers.submit([Plain()], sample()).result(PATIENCE)) == [None]
    finally:
        vars(sys.modules["__main__"]).pop("Local", None)


def test_running_out_of_memory_here_mixes_up_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    recipes, one = [Plain(side=64)], sample()
    with Readers(1) as readers, monkeypatch.context() as patch:
        readers.submit(recipes, one).result(PATIENCE)
        patch.setattr(np, "empty", no_memory)  # for what is received
        future = readers.submit(recipes, sample("b"))
        with pytest.raises(MemoryError):
            future.result(PATIENCE)
        patch.undo()
        there = readers.submit(recipes, one).result(PATIENCE)
    assert same(there.results, read(one, recipes).results)


def test_a_recipe_goes_to_a_process_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = [CountsCopies(), CountsCopies()]
    with Readers(1) as readers:
        for _ in range(5):
            assert readers.submit(recipes, sample()).result(PATIENCE).results == [2, 2]
        assert readers.submit(recipes[1:], sample()).result(PATIENCE).results == [2]
        monkeypatch.setattr(processes, "_RECIPES", 3)
        others = [[CountsCopies(side=n)] for n in range(10)]  # more than it keeps
        counts = [readers.submit(one, sample()).result(PATIENCE).results[0] for one in others]
        assert counts == list(range(3, 13))
        assert readers.submit(recipes, sample()).result(PATIENCE).results == [14, 14]
        assert not readers._pool or len(next(iter(readers._pool.children)).known) <= 3


def test_a_process_imports_nothing_heavy_and_keeps_to_one_thread(readers: Readers) -> None:
    loaded = {name.partition(".")[0] for name in only(readers.submit(*do("modules")))}
    assert not loaded & {"torch", "torchaudio", "transformers", "av", "soundfile", "pandas", "rich"}
    assert only(readers.submit(*do("threads"))) == "1"


def test_a_process_holds_its_own_end_of_the_socket_and_nothing_else_of_ours(
    tmp_path: Path,
) -> None:
    with Readers(1) as readers, (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        # standard input, output, error; the socket; the folder that is listed
        assert only(readers.submit(*do("descriptors"))) == 5


def test_what_it_prints_is_not_ours_to_show(capfd: pytest.CaptureFixture[str]) -> None:
    with Readers(1) as readers:
        assert kinds(readers.submit(*do("print")).result(PATIENCE)) == [None, None]
    assert capfd.readouterr() == ("", "")


def test_a_default_timeout_of_sockets_is_not_ours() -> None:
    socket.setdefaulttimeout(1e-3)
    try:
        with Readers(1) as readers:
            assert kinds(readers.submit([Plain(side=224)], sample()).result(PATIENCE)) == [None]
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("arguments", [(-1,), (1, 0), (1, -1.0), (1, float("nan"))])
def test_impossible_numbers_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(MerstoreError, match=str(arguments[-1])):
        Readers(*arguments)


# What a sample may do.


@pytest.mark.parametrize("how", ["hang", "hang_with_the_lock", "print_without_end"])
def test_a_sample_that_takes_too_long_is_refused_alone(how: str) -> None:
    with Readers(1, seconds=1) as readers:
        first = only(readers.submit(*do("pid")))
        before, stuck, after = (readers.submit(*do(what)) for what in ("pid", how, "pid"))
        assert only(before) == first
        result = stuck.result(PATIENCE)
        assert kinds(result) == ["timeout", "timeout"]
        assert "longer than 1 s: raise the limit" in result.results[0].message
        assert only(after) != first
        eventually(lambda: not alive(first))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("segfault", "the decoder ended by signal 11 (SIGSEGV): [1mmalloc(): invalid size"),
        ("leave", "the decoder ended with exit status 3"),
        ("end", "the decoder ended by signal 9 (SIGKILL), as for want of memory"),
        ("exit", "the decoder ended with exit status 1: a library that gives up"),
    ],
)
def test_a_sample_that_ends_its_process_is_refused_alone(how: str, message: str) -> None:
    with Readers(1, seconds=None) as readers:
        before, deadly, after = (readers.submit(*do(what)) for what in ("print", how, "nothing"))
        assert kinds(before.result(PATIENCE)) == [None, None]
        assert deadly.result(PATIENCE) == Read([Refusal("decoder_crash", message)] * 2, {})
        assert kinds(after.result(PATIENCE)) == [None, None]


def test_a_sample_that_wants_too_much_memory_is_refused_alone(readers: Readers) -> None:
    result = readers.submit(*do("memory")).result(PATIENCE)
    assert kinds(result) == [None, "decode_error"]
    assert "allocate" in result.results[1].message


def test_processes_killed_at_random_cost_a_sample_each() -> None:
    chance = random.Random(5)
    samples = [sample(f"s{n}", "pid") for n in range(200)]
    recipes = [Plain(side=64), Misbehaving()]
    killed = set()
    with Readers(3) as readers:
        futures = [readers.submit(recipes, one) for one in samples]
        for future in futures:
            pid = future.result(PATIENCE).results[1]
            if isinstance(pid, int) and alive(pid) and chance.random() < 0.1:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    lost = 0
    for one, future in zip(samples, futures, strict=True):
        result = future.result()
        if isinstance(result.results[1], Refusal):
            assert kinds(result) == ["decoder_crash"] * 2
            lost += 1
        else:
            assert same(result.results[0], recipes[0].prepare(Reading(one)))
    assert killed
    assert lost <= len(killed)


def test_a_process_killed_while_it_has_nothing_to_do_costs_nothing() -> None:
    with Readers(1) as readers:
        for _ in range(3):
            pid = only(readers.submit(*do("pid")))
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: not alive(pid))


def test_what_ends_a_process_before_it_reads_is_not_the_samples_fault(tmp_path: Path) -> None:
    with Readers(1) as readers:
        twice = DiesWhenImported(tmp_path / "twice", 2)
        always = DiesWhenImported(tmp_path / "always", 1000)
        for recipe in (twice, always):
            recipe.folder.mkdir()  # type: ignore[attr-defined]
        assert kinds(readers.submit([twice], sample()).result(PATIENCE)) == [None]
        future = readers.submit([always], sample())
        with pytest.raises(MerstoreError, match="ended with exit status 9 before it could read"):
            future.result(PATIENCE)
        assert kinds(readers.submit([Plain()], sample()).result(PATIENCE)) == [None]


# How many, in which order, how long.


class Gate:
    """Samples that wait in their process until the gate is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        self.path.touch()

    def sample(self) -> Any:
        return sample("s", "wait", self.path)

    def waiting(self) -> int:
        return len(list(self.path.parent.glob("gate-*")))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_there_are_no_more_processes_than_needed_or_allowed(readers: Readers, gate: Gate) -> None:
    assert not children()
    pids = {only(readers.submit(*do("pid"))) for _ in range(10)}
    assert len(pids) == 1  # a second was not needed
    futures = [readers.submit([Misbehaving()], gate.sample()) for _ in range(10)]
    eventually(lambda: gate.waiting() == 2)
    assert len(children()) == 2
    assert not futures[2].running()
    gate.path.unlink()
    assert len({only(future) for future in futures}) == 2


def test_first_submitted_is_first_begun_and_cancelled_is_never(gate: Gate) -> None:
    begun: list[str] = []
    with Readers(1) as readers:
        first = readers.submit([Misbehaving()], gate.sample())
        eventually(gate.waiting)
        others = {name: readers.submit([Plain()], sample(name)) for name in "abcdef"}
        for name, future in others.items():
            future.add_done_callback(lambda f, name=name: f.cancelled() or begun.append(name))
        assert others["b"].cancel()
        assert others["e"].cancel()
        assert not first.cancel()
        gate.path.unlink()
        wait(others.values(), PATIENCE)
    assert "".join(begun) == "acdf"


def test_many_threads_may_submit(readers: Readers) -> None:
    recipes = [Plain()]
    wrong = []

    def use(thread: int) -> None:
        for n in range(30):
            one = sample(f"{thread}-{n}")
            if not same(readers.submit(recipes, one).result(PATIENCE), read(one, recipes)):
                wrong.append(one)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(children()) == 2


def test_close_ends_the_processes_in_the_middle_of_a_sample(gate: Gate) -> None:
    readers = Readers(2, seconds=None)
    busy = [readers.submit([Misbehaving()], gate.sample()) for _ in range(2)]
    eventually(lambda: gate.waiting() == 2)
    queued = [readers.submit(*do("nothing")) for _ in range(5)]
    readers.close()
    assert not children()
    assert all(future.cancelled() for future in queued)
    for future in busy + queued:
        with pytest.raises(CancelledError):
            future.result(PATIENCE)
    readers.close()
    assert kinds(readers.submit([Plain()], sample()).result(PATIENCE)) == [None]  # begins anew
    readers.close()


def test_close_while_processes_start() -> None:
    for _ in range(5):
        readers = Readers(2)
        futures = [readers.submit([Plain()], sample()) for _ in range(4)]
        readers.close()
        assert wait(futures, PATIENCE).not_done == set()
        assert not children()


def test_close_from_a_futures_callback(readers: Readers) -> None:
    closed = threading.Event()

    def close(_: Any) -> None:
        readers.close()
        closed.set()

    readers.submit([Plain()], sample()).add_done_callback(close)
    assert closed.wait(PATIENCE)


def test_dropped_readers_finish_what_was_submitted_and_end() -> None:
    readers = Readers(2)
    futures = [readers.submit([Plain()], sample(f"{n}")) for n in range(5)]
    del readers
    assert [kinds(future.result(PATIENCE)) for future in futures] == [[None]] * 5
    eventually(lambda: not children())


# Other processes.


@pytest.mark.parametrize("copied", [lambda r: pickle.loads(pickle.dumps(r)), copy.deepcopy])
def test_a_copy_has_processes_of_its_own(readers: Readers, copied: Any) -> None:
    pid = only(readers.submit(*do("pid")))
    with copied(readers) as other:
        assert (other.count, other.seconds) == (readers.count, readers.seconds)
        assert only(other.submit(*do("pid"))) != pid


def test_a_forked_process_has_its_own_and_leaves_the_parents_alone(gate: Gate) -> None:
    with Readers(1) as readers:
        ours = only(readers.submit(*do("pid")))
        busy = readers.submit([Misbehaving()], gate.sample())
        eventually(gate.waiting)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                theirs = only(readers.submit(*do("pid")))
                readers.close()
                status = 0 if theirs != ours and not children() else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        gate.path.unlink()
        assert only(busy) == ours
        assert only(readers.submit(*do("pid"))) == ours


def test_a_fork_does_not_keep_a_process_from_being_seen_to_die() -> None:
    """Were a copy of its end of the socket open in another process, no end would be read here."""
    inside, outside = os.pipe()
    forked = []
    try:
        with Readers(2, seconds=None) as readers:
            for _ in range(3):
                futures = [readers.submit(*do("leave")) for _ in range(2)]
                if (pid := os.fork()) == 0:
                    os.close(outside)
                    os.read(inside, 1)
                    os._exit(0)
                forked.append(pid)
                for future in futures:
                    assert kinds(future.result(PATIENCE)) == ["decoder_crash"] * 2
    finally:
        os.close(outside)
        os.close(inside)
        for pid in forked:
            os.waitpid(pid, 0)


SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from extract.processes_recipes import Misbehaving, Plain, sample
from merstore.extract.processes import Readers
readers = Readers(2, seconds=None)
pids = set()
while len(pids) < 2:
    pids |= {f.result().results[0] for f in [readers.submit([Misbehaving()], sample(do="pid")) for _ in range(4)]}
print(*pids, flush=True)
"""


def script(body: str) -> subprocess.Popen[str]:
    """A user's script, without a guard."""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", SCRIPT + body, str(TESTS)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


HANG = """
busy = [readers.submit([Misbehaving()], sample(do="hang_with_the_lock")) for _ in range(2)]
while not all(f.running() for f in busy): pass
print("busy", flush=True)
"""


@pytest.mark.parametrize(
    "ending",
    [
        "",
        HANG,
        "readers.close()",
        "del readers",
        "readers.x = readers; del readers",
        HANG + "1 / 0",
    ],
)
def test_a_script_ends_with_its_processes_and_without_a_word(ending: str) -> None:
    process = script(ending)
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == ("1 / 0" in ending)
    lines = [line for line in errors.splitlines() if not line.startswith((" ", "Traceback"))]
    assert lines == ["ZeroDivisionError: division by zero"] * ("1 / 0" in ending)
    for pid in map(int, out.splitlines()[0].split()):
        eventually(lambda pid=pid: not alive(pid))


@pytest.mark.parametrize("busy", [False, True])
def test_processes_end_with_a_parent_that_is_killed(busy: bool) -> None:
    with script(
        (HANG if busy else "print('idle', flush=True)") + "\nimport time; time.sleep(3600)"
    ) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        assert parent.stdout.readline()
        assert all(map(alive, pids))
        parent.kill()
        for pid in pids:
            eventually(lambda pid=pid: not alive(pid))


INTERRUPTED = """
import signal
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("SIGTERM"))
try:
    print("ready", flush=True)
    while True:
        readers.submit([Plain()], sample()).result().results[0]["pixels"]
except KeyboardInterrupt:
    futures = [readers.submit([Misbehaving()], sample(do="pid")) for _ in range(9)]
    print({future.result().results[0] for future in futures} <= pids, *told)
"""


def test_what_a_terminal_or_a_batch_system_sends_to_all_is_the_parents_affair() -> None:
    process = script(INTERRUPTED)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (out, errors, process.returncode) == ("True SIGTERM\n", "", 0)

"""Reading samples in processes that may hang or die: each is ended and replaced, and costs one sample.

A thread here looks after each process: it sends a sample, waits no longer than allowed, and takes
the arrays straight from a socket into the memory that they stay in. The processes are started by
a command of their own, not by multiprocessing: a script needs no ``__main__`` guard, and nothing of
this process (CUDA, threads, locks) is forked.
"""

import atexit
import ctypes
import fcntl
import os
import pickle
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import numpy as np

from merstore.errors import MerstoreError
from merstore.extract.material import Material
from merstore.extract.reading import Read, Refusal, read
from merstore.extract.recipes import Recipe

SECONDS = 60.0  # for one sample

_START_SECONDS = 600.0  # for a process to import what the recipes need: torch, from a cold disk
_START_ATTEMPTS = 3  # where something kills it before it reads anything
_RECIPES = 1000  # that a process keeps
_LOG_BYTES = 1 << 20  # of what a process prints about one sample
_PR_SET_PDEATHSIG = 1

# What a terminal or a batch system sends to all processes of a job: the affair of the one that
# started the others, which end when it does.
_GROUP_SIGNALS = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


class Readers:
    """Processes that read samples, started when they are first needed.

    count: how many; 0: none, samples are read by the thread that submits them, without limits (the
    way for recipes defined in ``__main__``). seconds: how long one sample may take; None: for ever.

    Safe to call from many threads. After a fork, or pickled (count and seconds only), it starts
    processes of its own. ``close`` ends them, as does the end of this process, however it comes.
    Dropped without ``close``, it finishes what was submitted.

    Raises MerstoreError for a negative count or a limit that is not positive.
    """

    def __init__(self, count: int, seconds: float | None = SECONDS) -> None:
        if count < 0:
            raise MerstoreError(f"the number of reading processes is 0 or more, not {count}")
        if seconds is not None and not seconds > 0:
            raise MerstoreError(f"the time limit of a sample is positive or None, not {seconds}")
        self.count = count
        self.seconds = seconds
        self._pool: _Pool | None = None
        self._retire: weakref.finalize[[], Readers] | None = None

    def submit(self, recipes: Sequence[Recipe], material: Material) -> Future[Read]:
        """What `reading.read` gives of a sample; first submitted, first begun.

        Where the process takes too long or dies, all of this sample's results are refusals of the
        kind ``timeout`` or ``decoder_crash``. The future raises MerstoreError for a recipe that
        cannot be imported elsewhere, CancelledError where `close` came first, and what `read` raised.

        A process keeps the recipes that it was given: they must not change.
        """
        task = _Task(list(recipes), material)
        if self.count == 0:
            task.run(lambda: read(material, task.recipes))
            return task.future
        with _guard:
            pool = self._pool
            if pool is None or pool.pid != os.getpid():
                pool = self._pool = _Pool(self.count, self.seconds)
                self._retire = weakref.finalize(self, pool.retire)
                self._retire.atexit = False  # _at_exit is quicker
                _pools.add(pool)
            pool.submit(task)
        return task.future

    def close(self) -> None:
        """End the processes, busy or not, and cancel what is not read. A later `submit` starts anew."""
        with _guard:
            pool, self._pool = self._pool, None
            if self._retire is not None:
                self._retire.detach()
        if pool is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.count, self.seconds)

    def __repr__(self) -> str:
        return f"Readers({self.count}, seconds={self.seconds})"


@dataclass
class _Task:
    recipes: list[Recipe]
    material: Material
    future: Future[Read] = field(default_factory=Future)

    def run(self, read: Callable[[], Read]) -> None:
        """Settle the future, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = read()
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class _Pool:
    """The threads that look after the processes of one `Readers` in this process."""

    def __init__(self, count: int, seconds: float | None) -> None:
        self.pid = os.getpid()
        self.count = count
        self.seconds = seconds
        self.tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.idle = threading.Semaphore(0)  # threads that wait, with a process that is up
        self.threads: list[threading.Thread] = []
        self.children: set[_Child] = set()
        self.closed = False

    def submit(self, task: _Task) -> None:
        self.tasks.put(task)  # first: a new thread does not count as idle before it has looked
        if not self.idle.acquire(blocking=False) and len(self.threads) < self.count:
            thread = threading.Thread(
                target=self._look_after_one, name="merstore-read", daemon=True
            )
            thread.start()
            self.threads.append(thread)

    def retire(self) -> None:
        """End when all is done. Takes no lock: the garbage collector calls it, anywhere."""
        for _ in self.threads:
            self.tasks.put(None)

    def close(self) -> None:
        self.closed = True
        for child in list(self.children):
            child.process.kill()
        self.retire()
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(5)  # not for ever: a future's callback may wait for us

    def _look_after_one(self) -> None:
        # Inherited by the process. Python runs signal handlers in its main thread only.
        signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
        keeper = _Keeper(self)
        try:
            while (task := self._next()) is not None:
                if self.closed:
                    task.future.cancel()
                keeper.do(task)
                del task  # and the arrays of its result with it
        finally:
            keeper.end()

    def _next(self) -> _Task | None:
        try:
            return self.tasks.get_nowait()
        except queue.Empty:
            self.idle.release()
            return self.tasks.get()


class _Keeper:
    """Keeps one process up, and answers for those that are not."""

    def __init__(self, pool: _Pool) -> None:
        self.pool = pool
        self.child: _Child | None = None

    def do(self, task: _Task) -> None:
        task.run(lambda: self._read(task))

    def _read(self, task: _Task) -> Read:
        child = self._begin(task)
        try:
            result: Read = child.answer()
        except _TooLong:
            self.end()
            limit = f"{self.pool.seconds:g} s"
            message = f"reading it took longer than {limit}: raise the limit if it is only slow"
            return _refused(task, "timeout", message)
        except _Gone:
            how = self.end(1)
            if self.pool.closed:
                raise CancelledError("the reading processes were closed") from None
            return _refused(task, "decoder_crash", f"the decoder {how}")
        except MemoryError:
            self.end()  # what this process had no room for is still under way
            raise
        return result

    def _begin(self, task: _Task) -> "_Child":
        """A process that has begun with the sample. One that dies before does not cost the sample."""
        for _ in range(_START_ATTEMPTS):
            child = self._up()
            try:
                child.learn(task.recipes)
                child.begin(task.recipes, task.material)
            except _TooLong:
                self.end()
                message = f"a reading process was not up after {_START_SECONDS:g} s"
                raise MerstoreError(message) from None
            except _Gone:
                how = self.end(1)
                if self.pool.closed:
                    raise CancelledError("the reading processes were closed") from None
                continue
            return child
        raise MerstoreError(f"a reading process {how} before it could read anything")

    def _up(self) -> "_Child":
        if self.child is None:
            with _guard:  # no fork meanwhile, which would keep its end of the socket open
                self.child = _Child(self.pool.seconds)
                self.pool.children.add(self.child)
            if self.pool.closed:
                self.child.process.kill()
        return self.child

    def end(self, patience: float = 0) -> str:
        """How the process ended; if it did not within so many seconds, it does now."""
        child, self.child = self.child, None
        if child is None:
            return "was not there"
        # Before its descriptors are closed: a fork would close whatever has their numbers then.
        self.pool.children.discard(child)
        return child.end(patience)


def _refused(task: _Task, kind: str, message: str) -> Read:
    return Read([Refusal(kind, message)] * len(task.recipes), {})


class _Child:
    """A process, seen from here, and the link to it."""

    def __init__(self, seconds: float | None) -> None:
        _dying[:] = [process for process in _dying if process.poll() is None]
        self.seconds = seconds
        self.known: dict[int, Recipe] = {}  # by id; kept, so that no other recipe gets that id
        # Standard output and error: of fixed size and in memory, so that nothing has to drain it and
        # a decoder that complains for ever fills nothing.
        self.log = os.memfd_create("merstore-read", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.log, _LOG_BYTES)
        fcntl.fcntl(self.log, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        self.link, theirs = socket.socketpair()
        try:
            for end in (self.link, theirs):
                end.settimeout(None)  # whatever socket.setdefaulttimeout says
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            path = [entry for entry in sys.path if isinstance(entry, str)]
            self.process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, str(theirs.fileno()), *path],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                pass_fds=[theirs.fileno()],
                # as many processes as asked for, of one thread each
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        except BaseException:
            self._let_go()
            raise
        finally:
            theirs.close()

    def learn(self, recipes: Sequence[Recipe]) -> None:
        """Hand over those recipes that it does not have. Not counted against the sample: it may import
        torch.
        """
        new = {id(recipe): recipe for recipe in recipes if id(recipe) not in self.known}
        if not new:
            return
        forget = len(self.known) + len(new) > _RECIPES
        if forget:
            new = {id(recipe): recipe for recipe in recipes}
        try:
            _send(self.link, _packed(("learn", forget, pickle.dumps(new, protocol=5))))
            self._limit(_START_SECONDS)
            self.answer()
        except (_Gone, _TooLong):
            raise
        except Exception as error:
            raise MerstoreError(
                f"a recipe cannot be handed to another process ({type(error).__name__}: {error}). "
                "Put it into a module that can be imported, not a script or a notebook, or read in "
                "this process (jobs=0)"
            ) from error
        finally:
            self._limit(self.seconds)
        self.known = new if forget else self.known | new

    def begin(self, recipes: Sequence[Recipe], material: Material) -> None:
        """Raises _Gone where the process has ended before."""
        _send(self.link, _packed(("read", [id(recipe) for recipe in recipes], material)))

    def answer(self) -> Any:
        """What it says; raises what was raised there, _Gone and _TooLong."""
        good, value, text = _receive(self.link)
        if good:
            return value
        error: Exception = value or MerstoreError("a reading process failed")
        error.add_note(f"In the reading process:\n{text}")
        raise error

    def end(self, patience: float) -> str:
        """How it ended, with the last line that it printed; killed if it does not end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:  # stuck in the kernel, as on a dead network disk
            _dying.append(self.process)
            status = -signal.SIGKILL
        line = self._last_line()
        self._let_go()
        return how_ended(status) + (f": {line}" if line else "")

    def _limit(self, seconds: float | None) -> None:
        """How long `answer` waits."""
        whole, part = divmod(min(seconds or 0, 1e9), 1)
        timeval = struct.pack("@ll", int(whole), max(int(part * 1e6), seconds is not None))
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def _last_line(self) -> str:
        end = os.lseek(self.log, 0, os.SEEK_CUR)
        start = max(0, end - 4096)
        lines = os.pread(self.log, end - start, start).decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return "".join(filter(str.isprintable, last)).strip()[:200]

    def _let_go(self) -> None:
        self.link.close()
        os.close(self.log)

    def forget(self) -> None:
        """In a forked process, where it is none of ours."""
        self._let_go()
        if self.process.returncode is None:
            self.process.returncode = 0  # not to be waited for


def how_ended(status: int) -> str:
    """What a process's exit status says; below 0 it is a signal."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    memory = ", as for want of memory" if status == -signal.SIGKILL else ""
    return f"ended by signal {-status}{name}{memory}"


# Between the processes: the lengths, a pickle, and then the arrays, which it leaves out. All of it
# comes from our own program, never from a file.

# Lengths and pickle together are at least as long: most often one call receives them and another all
# arrays. After each call a thread may have to wait for Python's lock, 5 ms where others keep it busy.
_HEAD_BYTES = 4096
_AT_ONCE = 1000  # arrays in a call; the system's limit is 1024


class _Gone(Exception):
    """There is nobody at the other end."""


class _TooLong(Exception):
    """Nothing came within the limit."""


def _packed(message: object) -> list[Any]:
    """The parts of a message, to be sent one after another. Arrays are not copied."""
    large: list[pickle.PickleBuffer] = []
    small = pickle.dumps(message, protocol=5, buffer_callback=large.append)
    views = [buffer.raw() for buffer in large]
    lengths = [len(small), len(views), *(view.nbytes for view in views)]
    head = struct.pack(f"={len(lengths)}Q", *lengths) + small
    return [head.ljust(_HEAD_BYTES, b"\0"), *views]


def _send(link: socket.socket, parts: list[Any]) -> None:
    try:
        for part in parts:
            link.sendall(part)
    except ConnectionError:
        raise _Gone from None


def _receive(link: socket.socket) -> Any:
    head = bytearray(_HEAD_BYTES)
    _fill(link, [memoryview(head)])
    small, count = struct.unpack_from("=2Q", head)
    start = 16 + 8 * count
    if start + small > len(head):
        rest = bytearray(start + small - len(head))
        _fill(link, [memoryview(rest)])
        head += rest
    lengths = struct.unpack_from(f"={count}Q", head, 16)
    arrays = [memoryview(np.empty(length, np.uint8).data) for length in lengths]
    _fill(link, [array for array in arrays if array])
    return pickle.loads(memoryview(head)[start : start + small], buffers=arrays)  # noqa: S301


def _fill(link: socket.socket, blocks: list[memoryview]) -> None:
    blocks = blocks[::-1]
    while blocks:
        try:
            got = link.recvmsg_into(blocks[: -_AT_ONCE - 1 : -1], 0, socket.MSG_WAITALL)[0]
        except BlockingIOError:
            raise _TooLong from None
        except ConnectionError:
            got = 0
        if not got:
            raise _Gone
        while got:
            block = blocks.pop()
            if len(block) > got:
                blocks.append(block[got:])
            got -= min(got, len(block))


# What runs in the processes.

_COMMAND = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "import merstore.extract.processes as module; module.serve(int(sys.argv[1]))"
)


def serve(descriptor: int) -> NoReturn:
    """Answer what comes over the socket of that number, until there is nobody at the other end."""
    # Also where it is in the middle of a sample, and the thread that started it is no more.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    recipes: dict[int, Recipe] = {}

    def learn(forget: bool, new: bytes) -> None:
        if forget:
            recipes.clear()
        recipes.update(pickle.loads(new))  # noqa: S301

    def read_one(chosen: list[int], material: Material) -> Read:
        return read(material, [recipes[number] for number in chosen])

    with socket.socket(fileno=descriptor) as link, suppress(_Gone):
        link.set_inheritable(False)
        while True:
            what, *arguments = _receive(link)
            os.lseek(2, 0, os.SEEK_SET)  # print over what was printed before
            _send(link, _answer(learn if what == "learn" else read_one, arguments))
            del arguments
    os._exit(0)  # whatever threads a library has left running


def _answer(do: Callable[..., Any], arguments: list[Any]) -> list[Any]:
    try:
        return _packed((True, do(*arguments), ""))
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # noqa: BLE001 - not every exception survives it
            return _packed((False, None, text))
        return _packed((False, error, text))


# Forks and the end of this process.

_guard = threading.RLock()  # over each Readers' pool, and the start of a process
_pools: "weakref.WeakSet[_Pool]" = weakref.WeakSet()
_dying: list["subprocess.Popen[bytes]"] = []  # killed, and not yet gone


def _before_fork() -> None:
    try:
        _guard.acquire()
    except BaseException:  # Ctrl-C while waiting: the fork goes on all the same
        _guard.acquire()
        raise


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        for child in pool.children:
            child.forget()
        pool.children.clear()
    for process in _dying:
        process.returncode = 0
    _dying.clear()
    _guard.release()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_guard.release,
    after_in_child=_after_fork_in_child,
)
atexit.register(_at_exit)

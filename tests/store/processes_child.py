"""A piece of a test in a process of its own: forked, so that it begins at once, may run as another user,
and may die of a signal without the tests noticing more than that.

    assert run(read_all, path) == {...}                  # what the function returns, or its error

    with start(write_for_ever, path) as child:           # the function's first argument is a link back
        assert child.receive() == "first commit"
        child.kill()
"""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

PATIENCE = 60  # seconds after which a child that says nothing counts as hanging
NOBODY = 65534
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()  # `make sanitize`


class Died(Exception):
    """The child ended without an answer: by a signal, or by leaving."""

    def __init__(self, status: int) -> None:
        self.signal = -status if status < 0 else None
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        super().__init__(f"the child ended by {how}")


class Failed(Exception):
    """The function raised something that does not pickle; this is its traceback."""


class Child:
    """A forked process and the link to it."""

    def __init__(self, pid: int, link: Connection) -> None:
        self.pid = pid
        self.link = link
        self.status: int | None = None

    def send(self, value: Any) -> None:
        self.link.send(value)

    def receive(self) -> Any:
        """What the child sends next. Died if it ends instead; AssertionError if it hangs."""
        if not self.link.poll(PATIENCE):
            self.kill()
            raise AssertionError(f"the child said nothing for {PATIENCE} seconds")
        try:
            return self.link.recv()
        except (EOFError, ConnectionError, pickle.UnpicklingError):
            raise Died(self.wait()) from None

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        kind, value = self.receive()
        assert self.wait() == 0
        if kind == "error":
            raise value
        assert kind == "result", (kind, value)
        return value

    def wait(self) -> int:
        """The exit status, negative for a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end."""
        if self.status is None:
            os.kill(self.pid, number)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.link.close()


def start(function: Callable[..., Any], *arguments: Any, user: int | None = None) -> Child:
    """Run ``function(link, *arguments)`` in a child; ``link`` is a Connection to this process."""
    here, there = Pipe()
    pid = os.fork()
    if pid:
        there.close()
        return Child(pid, here)
    status = 1
    try:
        here.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if user is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        there.send(_outcome(function, there, arguments))
        status = 0
    except BaseException:  # noqa: BLE001  (nothing may reach pytest's own code in a child)
        traceback.print_exc()
    finally:
        os._exit(status)


def _outcome(
    function: Callable[..., Any], link: Connection, arguments: tuple[Any, ...]
) -> tuple[str, Any]:
    try:
        return "result", function(link, *arguments)
    except BaseException as error:  # noqa: BLE001  (it is raised again by the parent)
        told = f"{error}\n\nin the child:\n{traceback.format_exc()}"
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001
            return "error", Failed(told)
        error.add_note(told)
        return "error", error


def run(function: Callable[..., Any], *arguments: Any, user: int | None = None) -> Any:
    """``function(*arguments)`` in a child, as ``user`` where the tests run as root."""
    with start(_without_link, function, arguments, user=user) as child:
        return child.result()


def _without_link(_: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)

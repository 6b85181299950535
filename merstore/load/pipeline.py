"""Work done ahead by threads, handed over in order."""

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from merstore.errors import MerstoreError

Item = TypeVar("Item")
Result = TypeVar("Result")


def with_later(items: Iterable[Item], distance: int) -> Iterator[tuple[Item, Item | None]]:
    """Each item with the one that comes ``distance`` places later, None where there is none."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > distance:
            yield waiting.popleft(), item
    for item in waiting:
        yield item, None


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """``work(item)`` for each item, by ``threads`` threads, while the caller looks at what came before: at most
    ``ahead`` results are under way or waiting meanwhile. Items are taken in the caller's thread.

    What work raises is raised in its place. Closed or dropped half-way, the iterator cancels what is not
    begun, and waits for its threads. MerstoreError where a forked process goes on with its parent's.
    """
    if not threads:
        for item in items:
            yield work(item)
        return
    process = os.getpid()
    items = iter(items)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "merstore-load")
    try:
        while True:
            while len(waiting) <= ahead:
                future: Future[Result]
                try:
                    future = pool.submit(work, next(items))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  it belongs to this batch, not to those before it
                    future = Future()
                    future.set_exception(error)
                    items = iter(())
                waiting.append(future)
                del future  # or it would keep its batch
            if not waiting:
                return
            yield waiting.popleft().result()  # without a name of its own here: it is the caller's
            if os.getpid() != process:
                raise MerstoreError(
                    "this iterator was begun in another process, and its threads are there: iterate the loader anew"
                )
    finally:
        # at the end of the interpreter the threads have ended, and what shutdown() needs is gone
        if os.getpid() == process and not sys.is_finalizing():
            with contextlib.suppress(
                RuntimeError
            ):  # garbage may be collected in one of the threads
                pool.shutdown(wait=True, cancel_futures=True)

"""Taking turns with the clock, and control of what is in memory when it starts."""

import mmap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from merstore.store import pagecache

Method = Callable[[int], Iterator[None]]
"""Called with the number of the round. What it does before its first ``yield`` is preparation, what
it does up to the second is timed, the rest is clean-up."""

P = ParamSpec("P")
R = TypeVar("R")


def interleave(methods: Mapping[str, Method], rounds: int) -> dict[str, np.ndarray]:
    """Seconds ``[rounds]`` of each method. All run once in each round, in an order of its own."""
    seconds = {name: np.empty(rounds) for name in methods}
    draw = np.random.default_rng(0)
    for number in range(rounds):
        for name in draw.permutation(list(methods)).tolist():
            steps = methods[name](number)
            next(steps)
            started = time.perf_counter()
            next(steps)
            seconds[name][number] = time.perf_counter() - started
            with suppress(StopIteration):
                next(steps)
    return seconds


def fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function` in a new process that has nothing from this one."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args, dict(kwargs))


# --- memory --------------------------------------------------------------------------------------


def settle(nbytes: int) -> None:
    """Touch so much free memory, and give it back.

    On a virtual machine the first touch of a page waits for the host, 2 us and more, which is
    slower than many a disk. What is measured next would otherwise pay for it, or not, by chance.
    """
    memory = np.empty(nbytes, np.uint8)
    memory[:: mmap.PAGESIZE] = 1


resident = pagecache.resident


def drop(path: Path) -> None:
    """Take a file out of the page cache, with all others if need be. RuntimeError where that fails."""
    pagecache.drop(path, everything=True)


def faults() -> tuple[int, int]:
    """Page faults of this process so far: those that waited for the disk, and all others."""
    import resource

    usage: Any = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_majflt, usage.ru_minflt

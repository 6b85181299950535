"""What this machine can do at best with bytes: the speeds that no loader gets past."""

import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

POOL_BYTES = 256 << 20  # copied from: well beyond a processor's caches
DISK_BYTES = 8 << 20  # asked for at once
ROUNDS = 7

MEMCPY, MEMCPY_TWO = "memcpy", "memcpy, two threads"
INDEX_SELECT = "index_select from RAM"
DISK, TO_DEVICE = "sequential disk read", "host to device"

Work = Callable[[], int]
"""Moves some bytes and says how many."""


def measure(
    path: Path, batch_bytes: int, entry_bytes: int, device: torch.device | None, seconds: float
) -> tuple[dict[str, float], list[str]]:
    """Bytes per second of each, medians over rounds in which all take turns; and notes on what cannot be measured.

    path: a file on the disk in question. batch_bytes: what is moved at once. entry_bytes: a row of index_select.
    """
    notes: list[str] = []
    works = _memory(max(batch_bytes, 1 << 16), max(entry_bytes, 4))
    if device is not None and device.type == "cuda":
        works[TO_DEVICE] = _to_device(batch_bytes, device)
    handle = _uncached(path)
    if handle is None:
        notes.append("the disk's own speed is not known: this filesystem has no direct reads")
    else:
        works[DISK] = _reading(handle)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                work()  # what the one before left in the caches is not its advantage
                rates[name].append(_rate(work, seconds / ROUNDS / len(works)))
    finally:
        torch.set_num_threads(threads)
        if handle is not None:
            os.close(handle)
    return {name: float(np.median(found)) for name, found in rates.items()}, notes


def _rate(work: Work, seconds: float) -> float:
    moved, started = 0, time.perf_counter()
    while True:
        moved += work()
        spent = time.perf_counter() - started
        if spent >= seconds:
            return moved / spent


def _memory(batch_bytes: int, entry_bytes: int) -> dict[str, Work]:
    pool = np.ones(max(POOL_BYTES, 2 * batch_bytes) // 4, np.float32)
    elements = batch_bytes // 4
    out = np.ones(elements, np.float32)
    draw = np.random.default_rng(0)
    threads = ThreadPoolExecutor(2)
    table = torch.from_numpy(pool[: len(pool) // (entry_bytes // 4) * (entry_bytes // 4)])
    table = table.view(-1, entry_bytes // 4)
    count = max(1, batch_bytes // entry_bytes)
    selected = torch.ones(count, entry_bytes // 4)

    def source() -> np.ndarray:
        start = int(draw.integers(0, len(pool) - elements))
        return pool[start : start + elements]

    def one() -> int:
        np.copyto(out, source())
        return out.nbytes

    def two() -> int:
        parts = zip(np.array_split(out, 2), np.array_split(source(), 2), strict=True)
        list(threads.map(lambda pair: np.copyto(*pair), parts))
        return out.nbytes

    def select() -> int:
        rows = torch.from_numpy(draw.integers(0, len(table), count))
        torch.index_select(table, 0, rows, out=selected)
        return selected.nbytes

    return {MEMCPY: one, MEMCPY_TWO: two, INDEX_SELECT: select}


def _to_device(batch_bytes: int, device: torch.device) -> Work:
    pinned = torch.ones(batch_bytes, dtype=torch.uint8).pin_memory()
    there = torch.empty(batch_bytes, dtype=torch.uint8, device=device)

    def copy() -> int:
        for _ in range(8):
            there.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize(device)
        return 8 * batch_bytes

    return copy


def _uncached(path: Path) -> int | None:
    """A handle that reads past the page cache; None where there is no such thing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        with mmap.mmap(-1, 4096) as page:
            os.preadv(handle, [page], 0)
    except OSError:
        os.close(handle)
        return None
    return handle


def _reading(handle: int) -> Work:
    buffer = mmap.mmap(-1, DISK_BYTES)
    offset = 0

    def read() -> int:
        nonlocal offset
        got = os.preadv(handle, [buffer], offset)
        offset = offset + got if got == DISK_BYTES else 0  # and from the beginning again
        return got

    return read

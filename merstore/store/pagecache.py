"""What of a file is in the page cache, and taking it out: for measurements that start cold."""

import ctypes
import mmap
import os
from contextlib import suppress
from pathlib import Path

import numpy as np


def resident(path: Path) -> np.ndarray:
    """bool ``[pages]``: which pages of a file are in the page cache (mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    present = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        view = np.frombuffer(pages, np.uint8)
        failed = libc.mincore(
            ctypes.c_void_p(view.ctypes.data),
            ctypes.c_size_t(size),
            ctypes.c_void_p(present.ctypes.data),
        )
        del view
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return (present & 1).astype(bool)


def drop(path: Path, everything: bool = False) -> None:
    """Take a file out of the page cache. Nobody may have it mapped. RuntimeError where that fails.

    everything: where that does not suffice, drop the whole system's cache, if this user may.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if everything and resident(path).any():
        with suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("1\n")
    left = resident(path).mean()
    if left > 0.001:
        raise RuntimeError(
            f"{left:.1%} of {path.name} stays in the page cache (a file system in memory, or "
            "another process has it open?)"
        )

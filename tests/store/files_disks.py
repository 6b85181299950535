"""Small disks and read-only ones, for the tests that need them. Only root may mount; others skip."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def _mounted(at: Path, *arguments: str) -> Iterator[Path]:
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextmanager
def small_disk(at: Path, size: int) -> Iterator[Path]:
    """A filesystem of ``size`` bytes at the folder ``at``, which is made."""
    at.mkdir()
    with _mounted(at, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield at


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[Path]:
    """``folder`` once more, at ``at``, where nothing can be written."""
    at.mkdir()
    with _mounted(at, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(at)], check=True)
        yield at


@contextmanager
def public_folder() -> Iterator[Path]:
    """A new folder that every user may enter (pytest's own are for one)."""
    folder = Path(tempfile.mkdtemp(prefix="merstore-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def fill_up(folder: Path) -> Path:
    """Take all space that the disk of ``folder`` has left; deleting the file that is returned frees it."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert os.statvfs(folder).f_bavail == 0
    return path

"""What is in the page cache, and taking a file out of it."""

import mmap
from pathlib import Path

import pytest

from merstore.store.pagecache import drop, resident


def test_a_file_that_was_read_is_there_until_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(40 * mmap.PAGESIZE - 7))
    assert resident(path).shape == (40,)
    assert resident(path).all()
    try:
        drop(path)
    except RuntimeError:
        pytest.skip("a filesystem in memory")
    assert not resident(path).any()


def test_what_somebody_has_mapped_stays_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(40 * mmap.PAGESIZE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        assert sum(held[:: mmap.PAGESIZE]) == 0
        with pytest.raises(RuntimeError, match="stays in the page cache"):
            drop(path)

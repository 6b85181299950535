"""A file is replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from merstore.atomic import replacing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / ("n" * 250 + ".json")  # as long as a name may be
    path.write_bytes(b"before")
    return path


@pytest.mark.parametrize("durable", [False, True])
def test_it_has_its_name_when_the_block_has_ended(path: Path, durable: bool) -> None:
    with replacing(path, durable=durable) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert os.listdir(path.parent) == [path.name]


def test_what_was_there_stays_where_the_block_fails(path: Path) -> None:
    def stopped() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_a_name_that_cannot_be_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "folder") as file:
        file.write(b"x")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "file"):
        raise AssertionError("never here")
    assert os.listdir(tmp_path) == ["folder"]


def test_it_may_be_read_before_it_is_done_and_has_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with replacing(path) as file:
        file.write(b"abc")
        file.seek(0)
        assert file.read() == b"abc"
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    assert path.stat().st_mode == usual.stat().st_mode

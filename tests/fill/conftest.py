from pathlib import Path

import pytest
from filling import Bytes, write_clips


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    return write_clips(tmp_path / "clips")


@pytest.fixture
def recipe(tmp_path: Path) -> Bytes:
    return Bytes(tmp_path / "log")

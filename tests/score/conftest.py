"""Word tables: small ones, and those of OV-MER where they are."""

from pathlib import Path

import pytest
from score_tables import write_tables

from merstore.score.wheels import WheelTables


@pytest.fixture(scope="session")
def tables_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables") / "emotion_wheel")


@pytest.fixture(scope="session")
def tables(tables_folder: Path) -> WheelTables:
    return WheelTables.load(tables_folder)


@pytest.fixture(scope="session")
def ov_data(shared: Path) -> Path:
    return shared / "data" / "ov"


@pytest.fixture(scope="session")
def ov_tables(ov_data: Path) -> WheelTables:
    return WheelTables.load(ov_data / "emotion_wheel")

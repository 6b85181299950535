"""What the tests of the store share: a small view, and the reference reader after each test of it."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from reference import Reference

from merstore import Store, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
RAGGED = "mer2023/audio@chinese-hubert-large/FRA"


@pytest.fixture
def view(store: Store) -> View:
    """Vectors of four float32."""
    return store.create_view(PATH, shape=(4,), spec={"n": 8})


@pytest.fixture
def ragged(store: Store) -> View:
    """Sequences of three float16."""
    return store.create_view(RAGGED, shape=(None, 3), dtype="float16")


@pytest.fixture
def reference(store: Store) -> Iterator[Callable[[], Reference]]:
    """Opens the reference reader on the store as it is at that moment, and checks every MUST of the format."""
    opened: list[Reference] = []

    def look() -> Reference:
        reader = Reference.copy(store.path)
        opened.append(reader)
        reader.check()
        return reader

    yield look
    for reader in opened:
        reader.close()


@pytest.fixture
def vector() -> Callable[[float], np.ndarray]:
    return lambda value: np.full(4, value, np.float32)

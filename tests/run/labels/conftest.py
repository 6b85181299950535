"""Word tables, an endpoint on this machine, and a tiny language model with a tokenizer of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from score_tables import write_tables

from merstore.run.labels import Rule
from merstore.score.wheels import WheelTables

from .server import Server
from .tiny import save_model, save_tokenizer


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> WheelTables:
    return WheelTables.load(write_tables(tmp_path_factory.mktemp("tables") / "emotion_wheel"))


@pytest.fixture
def rule(tables: WheelTables) -> "Counting":
    return Counting(tables)


class Counting(Rule):
    """The rule-based backend, which also writes down what it is asked."""

    def __init__(self, tables: WheelTables) -> None:
        super().__init__(tables)
        self.asked: list[list[str]] = []

    def answer(self, task: str, messages: Any) -> Any:
        self.asked.append(list(messages))
        return super().answer(task, messages)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    save_model(folder, vocabulary=save_tokenizer(folder))
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A folder with another tiny model; the arguments are those of `save_model`."""

    def make(chat: bool = True, **how: Any) -> Path:
        folder = tmp_path / "other-model"
        save_model(folder, vocabulary=save_tokenizer(folder, chat=chat), **how)
        return folder

    return make

"""A tiny AffectGPT, and the tokenizer of the real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from merstore.models.affectgpt import AffectGPT, Config, Tokens

from .made import shaken, tiny_llm


@pytest.fixture
def tiny() -> Callable[..., AffectGPT]:
    """Makes a tiny AffectGPT of a small vocabulary, by the fields of its configuration."""

    def make(seed: int = 0, **fields: Any) -> AffectGPT:
        llm = tiny_llm(seed, vocabulary=100)
        return shaken(AffectGPT(llm, Config(**fields)), seed + 1)

    return make


@pytest.fixture(scope="session")
def tokenizer_folder(shared: Path) -> Path:
    return shared / "models" / "qwen2.5-tokenizer"


@pytest.fixture(scope="session")
def tokens(tokenizer_folder: Path) -> Tokens:
    return Tokens.from_folder(tokenizer_folder, Config().queries)

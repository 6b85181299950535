"""A tiny AffectGPT in a folder."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from answering import World, make_checkpoint, make_llm


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("affectgpt")
    llm = make_llm(root / "llm")
    runs = root / "output" / "tiny" / "tiny_20250110100"
    checkpoints = [
        make_checkpoint(runs / f"checkpoint_{epoch:06d}_loss_0.{epoch}.pth", llm, epoch)
        for epoch in (20, 30)
    ]
    return World(llm, checkpoints)

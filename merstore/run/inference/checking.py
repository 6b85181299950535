"""What can be found wrong before a language model is loaded, and before anything is written."""

from collections.abc import Sequence
from pathlib import Path

from merstore.extract.models import ModelFolder
from merstore.models.affectgpt import AffectGPT, Checkpoint, Tokens, config_of, load
from merstore.models.affectgpt.model import hollow_llm
from merstore.run import prompts


def check(
    head: Sequence[Checkpoint], llm: str | Path, mode: str, question: str, au: bool, limit: int
) -> None:
    """Whether a stack of checkpoints goes with a language model, and the question into a prompt of
    `limit` tokens. Of the language model, its configuration and tokenizer are read.

    Raises MerstoreError and EncoderError, as `open_model`, `Tokens.from_folder` and
    `Tokens.encode` do.
    """
    import torch

    config = config_of(head)
    with torch.device("meta"):
        load(AffectGPT(hollow_llm(llm), config), head)
    folder = ModelFolder(llm).path
    tokens = Tokens.from_folder(folder, config.queries, au=config.au_fusion is not None)
    tokens.encode(prompts.prompt(mode, question, "", au_features=au), limit)

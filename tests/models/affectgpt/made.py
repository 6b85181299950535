"""Tiny language models, made at random, and features."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from merstore.models.affectgpt import AffectGPT

HIDDEN = 64
VOCABULARY = 151_665  # of the real tokenizer, without the placeholders


def tiny_llm(
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Any:
    """A causal language model of Qwen2's architecture, two layers, 64 wide."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
        **changes,
    }
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **sizes)).to(dtype).eval()


def shaken(model: AffectGPT, seed: int = 1) -> AffectGPT:
    """With adapters that do something: new ones have no effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05, generator=generator)
    return model


def rows(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

"""A tiny random Qwen2, and a byte-level tokenizer trained on a few sentences."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # the first has number 0
SENTENCES = ["She is happy and proud of it.", "He looks sad, jealous, ashamed; the voice is low."]


def save_tokenizer(folder: Path, chat: bool = True) -> int:
    """Write a tokenizer; how many tokens it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(folder)
    return len(fast)


def save_model(
    folder: Path,
    vocabulary: int,
    room: int = 4096,
    change: Callable[[Any], None] | None = None,
    **generation: Any,
) -> None:
    """Write a model. `change`: what is done to it before; `generation`: its generation config."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=room,
        initializer_range=0.4,
    )
    model = Qwen2ForCausalLM(config)
    if change is not None:
        with torch.no_grad():
            change(model)
    for name, value in {"eos_token_id": [2, 0], **generation}.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)

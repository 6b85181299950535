"""The parts of an AffectGPT, tiny and with random weights, laid out as the real ones are.

Nobody trained them, so what they say means nothing. The weights follow from seeds; nothing is
downloaded. The demo runs with them, and the tests do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from merstore.extract.demo_encoder import make_random_encoder
from merstore.extract.models import quiet
from merstore.run.prompts import FRAGMENTS

CLIP, HUBERT = ENCODERS = ("CLIP_VIT_LARGE", "HUBERT_LARGE")
MODE = "multiface_audio_face_text"  # what the released checkpoints were trained on

# How Qwen2.5 splits text before merging bytes, and its special tokens, in the order of their ids.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END, _START, _EOS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_OTHERS = [
    *(f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad") for end in ("start", "end")),
    *(f"<|{name}|>" for name in ("vision_start", "vision_end", "vision_pad")),
    *(f"<|{name}_pad|>" for name in ("image", "video")),
]
_MERGED = 150  # tokens of more than a byte


def make_llm(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A language model of Qwen2's architecture, 32 wide, with a byte-level tokenizer laid out like
    Qwen2.5's, in `folder`, which it returns. `changes` are of its configuration.
    """
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_EOS,
        pad_token=_END,
        extra_special_tokens=[_START, _EOS, *_OTHERS],
    ).save_pretrained(folder)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,  # large, so that different features give different answers
        **changes,
    }
    with _seeded(seed), quiet():
        config = Qwen2Config(vocab_size=tokenizer.get_vocab_size(), **sizes)
        Qwen2ForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_encoders(folder: Path) -> Path:
    """A folder with a folder for each of `ENCODERS`: a CLIP and a HuBERT whose features are as wide
    as the real ones' (768 and 1024), and little else is.
    """
    import torch
    from transformers import (
        CLIPConfig,
        CLIPModel,
        HubertConfig,
        HubertModel,
        Wav2Vec2FeatureExtractor,
    )

    make_random_encoder(folder / CLIP)
    pictures = CLIPConfig.from_pretrained(folder / CLIP)
    pictures.projection_dim = 768
    pictures.vision_config.initializer_factor = 4.0  # small weights see no difference in pictures
    with _seeded(1), quiet():
        CLIPModel(pictures).save_pretrained(folder / CLIP)
    sound = HubertConfig(
        hidden_size=1024,
        num_hidden_layers=1,  # already the larger part of all megabytes, and of the time
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=16,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    with _seeded(2), quiet():
        HubertModel(sound).to(torch.float16).save_pretrained(folder / HUBERT)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / HUBERT)
    return folder


def make_checkpoint(path: Path, llm: Path, seed: int = 0, mode: str = MODE, **fields: Any) -> Path:
    """A checkpoint in the released format, of a name with an epoch in it as they have, in `path`,
    which it returns. Everything in it is random, adapters too. `fields` are of its `Config`.
    """
    import torch

    from merstore.models.affectgpt import AffectGPT, Config, load_llm, save

    with _seeded(seed), torch.no_grad():
        model = AffectGPT(load_llm(llm, "cpu"), Config(**fields))
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:  # without which an adapter has no effect
                parameter.normal_(std=0.2)
            elif parameter.requires_grad and ".lora_" not in name and "proj" in name:
                parameter.mul_(3.0)
    datasets = {"mercaptionplus": {"face_or_frame": mode, "label_type": "hybird"}}
    config = {"model": model.config.to_yaml(), "datasets": datasets}
    return save(path, model, epoch=int(path.stem.split("_")[1]), config=config)


def _tokenizer() -> Any:
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + _MERGED, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([*FRAGMENTS.values(), "### ## # ###"] * 4, trainer)
    special = [_END, _START, _EOS, *_OTHERS]
    made.add_special_tokens([AddedToken(text, special=True) for text in special])
    return made


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch by a seed; afterwards they go on as if nothing had been drawn."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

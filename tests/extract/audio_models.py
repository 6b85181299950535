"""Small random models of sound of the real architectures, and made signals for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

FAMILIES = {  # name -> the transformers class, and what of its configuration is not the default
    "hubert-base": ("Hubert", {}),
    "hubert-large": ("Hubert", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wav2vec2-base": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wavlm-base": ("WavLM", {}),
    "wavlm-large": ("WavLM", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "data2vec-audio": ("Data2VecAudio", {"conv_pos_kernel_size": 5}),
}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def shaken(model: Any) -> Any:
    """So that no bias is 0 and no norm's scale 1, as they are in a fresh model."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def make_model(folder: Path, family: str, **changes: Any) -> Path:
    """A small random model with its feature extractor, saved as the real ones are."""
    import transformers

    kind, config = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **config})
    shaken(getattr(transformers, f"{kind}Model")(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        return_attention_mask=family.endswith("large"), **changes
    ).save_pretrained(folder)
    return folder


def make_whisper(folder: Path) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=5,
        decoder_layers=2,
        vocab_size=60,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        decoder_start_token_id=3,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=1,
    )
    shaken(transformers.WhisperModel(config)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_maker(root: Path) -> Callable[[str], Path]:
    """Makes a model of one of FAMILIES, or ``"whisper"``, in the folder `root`, once."""

    def make(family: str) -> Path:
        folder = root / family
        if not folder.exists():
            make_whisper(folder) if family == "whisper" else make_model(folder, family)
        return folder

    return make

"""A small vision encoder with random weights, to try things on where no real one is at hand."""

import json
from pathlib import Path

README = """\
# A randomly initialised encoder

Nobody trained this model: its weights are random numbers (seed {seed}), so its features mean
nothing. It is laid out like a {kind} checkpoint, to try merstore without downloading one.
"""

# What openai/clip-vit-* and facebook/dinov2-* have in their preprocessor_config.json.
_PREPROCESSORS = {
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 224},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
}
_STEPS = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def make_random_encoder(folder: str | Path, seed: int = 0, kind: str = "clip") -> Path:
    """Writes a model 64 wide into `folder`, which it returns; `kind` is ``clip`` or ``dinov2``.

    The weights follow from `seed`. A README.md beside them says what they are.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

    from merstore.extract.models import quiet

    folder = Path(folder)
    tower = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    picture = tower | {"image_size": 224, "patch_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "clip":
            text = tower | {"intermediate_size": 64, "vocab_size": 64, "max_position_embeddings": 8}
            text |= {"bos_token_id": 62, "eos_token_id": 63}
            vision = picture | {"intermediate_size": 128}
            config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)
            model = CLIPModel(config)
        elif kind == "dinov2":
            model = Dinov2Model(Dinov2Config(**picture, mlp_ratio=2))
        else:
            raise ValueError(f"a random encoder is of the kind clip or dinov2, not {kind}")
    with quiet():
        model.save_pretrained(folder)
    preprocessor = json.dumps(_STEPS | _PREPROCESSORS[kind], indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(preprocessor, encoding="utf-8")
    (folder / "README.md").write_text(README.format(seed=seed, kind=kind), encoding="utf-8")
    return folder

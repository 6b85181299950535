"""What AffectGPT and MERTools compute of pictures, in a straight line of transformers calls, and small
random models of every architecture to compute it with.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

KINDS = ("clip", "dinov2", "siglip", "data2vec-vision", "videomae")

_PROCESSORS = {
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224},
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 96, "width": 96}},
    "data2vec-vision": {
        "feature_extractor_type": "BeitFeatureExtractor",
        "size": 224,
        "resample": 2,
    },
    "videomae": {
        "feature_extractor_type": "VideoMAEFeatureExtractor",
        "size": 224,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
}


def make_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """A small model with random weights, none of them zero, so that each counts."""
    import torch
    import transformers as hf

    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    wide = small | {"intermediate_size": 96}
    text = wide | {"vocab_size": 64, "max_position_embeddings": 8}
    text |= {"bos_token_id": 62, "eos_token_id": 63}
    configs: dict[str, Callable[[], Any]] = {
        "clip": lambda: hf.CLIPModel(
            hf.CLIPConfig(
                text_config=text,
                vision_config=wide | {"image_size": 224, "patch_size": 32},
                projection_dim=40,
            )
        ),
        "dinov2": lambda: hf.Dinov2Model(
            hf.Dinov2Config(**small, mlp_ratio=2, image_size=224, patch_size=28)
        ),
        "siglip": lambda: hf.SiglipModel(
            hf.SiglipConfig(
                text_config=text, vision_config=wide | {"image_size": 96, "patch_size": 16}
            )
        ),
        "data2vec-vision": lambda: hf.Data2VecVisionForImageClassification(
            hf.Data2VecVisionConfig(
                **wide, image_size=224, patch_size=32, use_relative_position_bias=True
            )
        ),
        "videomae": lambda: hf.VideoMAEForPreTraining(
            hf.VideoMAEConfig(
                **wide,
                use_mean_pooling=False,
                decoder_hidden_size=48,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=3,
                decoder_intermediate_size=48,
            )
        ),
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = configs[kind]()
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PROCESSORS[kind]))
    return folder


def uniform(n_frames: int, n: int) -> list[int]:
    """AffectGPT's and MERTools' rule, as they write it."""
    k = min(n, n_frames)
    chosen = np.arange(0, n_frames, n_frames / k).astype(int)[:k].tolist()
    return chosen + chosen[-1:] * (n - k)


def affectgpt(folder: Path, frames: Pixels) -> Features:
    """Of uint8 [T, 224, 224, 3] frames, or faces in BGR: float32 [T, dim]."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    raw = torch.from_numpy(frames.copy()).permute(3, 0, 1, 2).float()  # [3, T, 224, 224]
    pictures = [
        Image.fromarray(raw[:, t].to(torch.uint8).permute(1, 2, 0).numpy())
        for t in range(raw.shape[1])
    ]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder).eval()
    inputs = torch.from_numpy(np.stack(processor(images=pictures)["pixel_values"]))
    with torch.no_grad():
        if model.config.model_type == "clip":
            features = model.get_image_features(pixel_values=inputs).pooler_output
        elif model.config.model_type == "siglip":
            features = model.vision_model(pixel_values=inputs).last_hidden_state.mean(dim=1)
        else:
            features = model(pixel_values=inputs).last_hidden_state.mean(dim=1)
    return features.numpy()


def mertools(folder: Path, faces: Pixels, sunlicai: bool = False) -> Features:
    """Of a BGR track uint8 [N, 112, 112, 3]: float32 [T, dim], the features at FRAME level."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    frames = [face[:, :, ::-1].copy() for face in faces]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder).eval()
    kind = model.config.model_type
    with torch.no_grad():
        if kind == "videomae":
            clips = [uniform(len(frames), 16)]
            if sunlicai:
                every = list(range(0, len(frames), 4))
                every += every[-1:] * (16 - len(every))
                clips = [every[:16], every[len(every) - 16 :]]
            rows = []
            for clip in clips:
                pixels = processor([frames[i] for i in clip])["pixel_values"]
                inputs = torch.from_numpy(np.asarray(pixels))
                hidden = model(pixel_values=inputs).last_hidden_state
                rows.append(hidden.view(8, 196, -1).mean(dim=1))
            return torch.cat(rows).numpy()
        if kind == "dinov2":
            frames = [frames[i] for i in uniform(len(frames), 64)]
        inputs = torch.from_numpy(np.stack(processor(images=frames)["pixel_values"]))
        rows = []
        for batch in inputs.split(32):
            if kind == "clip":
                rows.append(model.get_image_features(pixel_values=batch).pooler_output)
            else:
                rows.append(model(pixel_values=batch).last_hidden_state.sum(dim=1))
        return torch.cat(rows).numpy()


def clean(folder: Path, pictures: Pixels) -> Features:
    """Of uint8 [n, H, W, 3] pictures: what the profile clean is to give of single ones."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder).eval()
    inputs = torch.from_numpy(np.stack(processor(images=list(pictures))["pixel_values"]))
    with torch.no_grad():
        if model.config.model_type in ("clip", "siglip"):
            return model.get_image_features(pixel_values=inputs).pooler_output.numpy()
        return model(pixel_values=inputs).last_hidden_state[:, 1:].mean(dim=1).numpy()

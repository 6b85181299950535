"""CLIP's and DINOv2's vision towers in plain NumPy, from the weight files alone; for small models."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors.numpy import load_file

Array = npt.NDArray[np.float64]


def features(folder: Path, frames: npt.NDArray[np.uint8], clean: bool = False) -> Array:
    """What AffectGPT stores of uint8 [N, H, W, 3] frames, or the profile clean: float64 [N, dim]."""
    config = json.loads((folder / "config.json").read_text())
    steps = json.loads((folder / "preprocessor_config.json").read_text())
    weights = {key: w.astype(float) for key, w in load_file(folder / "model.safetensors").items()}
    pixels = np.stack([preprocess(frame, steps) for frame in frames])
    if config["model_type"] == "clip":
        return clip(pixels, weights, config)
    return dinov2(pixels, weights, config)[:, clean:].mean(axis=1)


def preprocess(frame: npt.NDArray[np.uint8], steps: dict[str, object]) -> Array:
    """Shortest side to size (bicubic), middle 224x224, to 0..1, minus mean, over std: [3, 224, 224]."""
    height, width = frame.shape[:2]
    scale = steps["size"]["shortest_edge"] / min(height, width)  # type: ignore[index]
    resized = Image.fromarray(frame).resize(
        (int(width * scale), int(height * scale)), Image.Resampling.BICUBIC
    )
    image = np.asarray(resized, float)
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    image = image[top : top + 224, left : left + 224] / 255
    return ((image - steps["image_mean"]) / steps["image_std"]).transpose(2, 0, 1)


def clip(pixels: Array, weights: dict[str, Array], config: dict[str, dict[str, int]]) -> Array:
    vision = config["vision_config"]
    model = "vision_model."
    x = patches(pixels, weights[model + "embeddings.patch_embedding.weight"])
    first = np.broadcast_to(weights[model + "embeddings.class_embedding"], (len(x), 1, x.shape[2]))
    x = np.concatenate([first, x], axis=1) + weights[model + "embeddings.position_embedding.weight"]
    x = norm(x, weights, model + "pre_layrnorm", 1e-5)
    for layer in range(vision["num_hidden_layers"]):
        at = f"{model}encoder.layers.{layer}."
        y = norm(x, weights, at + "layer_norm1", 1e-5)
        names = [f"{at}self_attn.{part}_proj" for part in ("q", "k", "v", "out")]
        x = x + attention(y, weights, names, vision["num_attention_heads"])
        y = linear(norm(x, weights, at + "layer_norm2", 1e-5), weights, at + "mlp.fc1")
        x = x + linear(y / (1 + np.exp(-1.702 * y)), weights, at + "mlp.fc2")
    pooled = norm(x[:, 0], weights, model + "post_layernorm", 1e-5)
    return pooled @ weights["visual_projection.weight"].T


def dinov2(pixels: Array, weights: dict[str, Array], config: dict[str, int]) -> Array:
    x = patches(pixels, weights["embeddings.patch_embeddings.projection.weight"])
    x = x + weights["embeddings.patch_embeddings.projection.bias"]
    first = np.broadcast_to(weights["embeddings.cls_token"], (len(x), 1, x.shape[2]))
    x = np.concatenate([first, x], axis=1) + weights["embeddings.position_embeddings"]
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        y = norm(x, weights, at + "norm1", 1e-6)
        names = [f"{at}attention.attention.{part}" for part in ("query", "key", "value")]
        y = attention(
            y, weights, [*names, at + "attention.output.dense"], config["num_attention_heads"]
        )
        x = x + y * weights[at + "layer_scale1.lambda1"]
        y = linear(norm(x, weights, at + "norm2", 1e-6), weights, at + "mlp.fc1")
        y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, weights, at + "mlp.fc2")
        x = x + y * weights[at + "layer_scale2.lambda1"]
    return norm(x, weights, "layernorm", 1e-6)


def patches(pixels: Array, kernel: Array) -> Array:
    """[N, 3, 224, 224] to [N, patches, width], each square patch times the kernel [width, 3, p, p]."""
    size = kernel.shape[-1]
    count, rows = len(pixels), pixels.shape[2] // size
    tiles = pixels.reshape(count, 3, rows, size, rows, size).transpose(0, 2, 4, 1, 3, 5)
    return tiles.reshape(count, rows * rows, -1) @ kernel.reshape(len(kernel), -1).T


def linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def norm(x: Array, weights: dict[str, Array], name: str, epsilon: float) -> Array:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * weights[name + ".weight"] + weights[name + ".bias"]


def attention(x: Array, weights: dict[str, Array], names: list[str], heads: int) -> Array:
    """`names`: of the query, key, value and output layers."""
    count, tokens, width = x.shape
    q, k, v = (
        linear(x, weights, name).reshape(count, tokens, heads, -1).transpose(0, 2, 1, 3)
        for name in names[:3]
    )
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = scores / scores.sum(-1, keepdims=True) @ v
    return linear(mixed.transpose(0, 2, 1, 3).reshape(count, tokens, width), weights, names[3])


def erf(x: Array) -> Array:
    import torch

    return torch.special.erf(torch.from_numpy(x)).numpy()

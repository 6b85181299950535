"""Models of text in plain NumPy, from the weight files alone, for small models; and, in a few
straight lines of torch and transformers, what MERTools and AffectGPT do with any model.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from .reference import erf, linear, norm

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]


def mertools(folder: Path, text: str, probe: str, level: str) -> npt.NDArray[Any]:
    """MERTools' text features of one sentence, on a CPU."""
    import torch
    from transformers import AutoModel, AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    t5 = json.loads((folder / "config.json").read_text())["model_type"] == "t5"
    model = (
        (T5EncoderModel if t5 else AutoModel).from_pretrained(folder, dtype=torch.float32).eval()
    )
    ids = tokenizer(probe)["input_ids"]
    start, end = next(
        (start, end)
        for start in (0, 1, 2)
        for end in (None, -1, -2)
        if tokenizer.decode(ids[start:end]).replace(" ", "") == probe
    )
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    summed = torch.stack(states.hidden_states[-4:]).sum(dim=0)[0][start:end].numpy()
    return summed.mean(axis=0) if level == "UTT" else summed


def hidden_states(folder: Path, ids: list[int]) -> list[Array]:
    """All hidden states of BERT, GPT-2 or LLaMA: float64 [tokens, width] each."""
    config = json.loads((folder / "config.json").read_text())
    weights = {key: w.astype(float) for key, w in load_file(folder / "model.safetensors").items()}
    return {"bert": bert, "gpt2": gpt2, "llama": llama}[config["model_type"]](ids, weights, config)


def bert(ids: list[int], weights: Weights, config: dict[str, Any]) -> list[Array]:
    at = "embeddings."
    x = weights[at + "word_embeddings.weight"][ids]
    x = x + weights[at + "position_embeddings.weight"][: len(ids)]
    x = x + weights[at + "token_type_embeddings.weight"][0]
    x = norm(x, weights, at + "LayerNorm", 1e-12)
    states = [x]
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        q, k, v = (
            linear(x, weights, f"{at}attention.self.{name}") for name in ("query", "key", "value")
        )
        y = linear(
            mixed(q, k, v, config["num_attention_heads"]), weights, at + "attention.output.dense"
        )
        x = norm(x + y, weights, at + "attention.output.LayerNorm", 1e-12)
        y = linear(x, weights, at + "intermediate.dense")
        y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, weights, at + "output.dense")
        x = norm(x + y, weights, at + "output.LayerNorm", 1e-12)
        states.append(x)
    return states


def gpt2(ids: list[int], weights: Weights, config: dict[str, Any]) -> list[Array]:
    def conv(x: Array, name: str) -> Array:  # a linear layer whose weight lies the other way
        return x @ weights[name + ".weight"] + weights[name + ".bias"]

    x = weights["wte.weight"][ids] + weights["wpe.weight"][: len(ids)]
    states = []
    for layer in range(config["n_layer"]):
        states.append(x)
        at = f"h.{layer}."
        q, k, v = np.split(
            conv(norm(x, weights, at + "ln_1", 1e-5), at + "attn.c_attn"), 3, axis=-1
        )
        x = x + conv(mixed(q, k, v, config["n_head"], causal=True), at + "attn.c_proj")
        y = conv(norm(x, weights, at + "ln_2", 1e-5), at + "mlp.c_fc")
        y = y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2
        x = x + conv(y, at + "mlp.c_proj")
    return [*states, norm(x, weights, "ln_f", 1e-5)]


def llama(ids: list[int], weights: Weights, config: dict[str, Any]) -> list[Array]:
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads

    def rms(x: Array, name: str) -> Array:
        scale = np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return x / scale * weights[name + ".weight"]

    def turned(x: Array) -> Array:  # each pair of values by an angle that grows with the position
        x = x.reshape(len(x), -1, size)
        angles = np.outer(np.arange(len(x)), 10000.0 ** -(np.arange(0, size, 2) / size))[:, None]
        a, b = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    x = weights["embed_tokens.weight"][ids]
    states = []
    for layer in range(config["num_hidden_layers"]):
        states.append(x)
        at = f"layers.{layer}."
        y = rms(x, at + "input_layernorm")
        q, k, v = (y @ weights[f"{at}self_attn.{name}_proj.weight"].T for name in "qkv")
        k, v = (
            np.repeat(each, heads // shared, axis=1).reshape(len(x), -1)
            for each in (turned(k), v.reshape(len(x), shared, size))
        )
        q = turned(q).reshape(len(x), -1)
        x = x + mixed(q, k, v, heads, causal=True) @ weights[at + "self_attn.o_proj.weight"].T
        y = rms(x, at + "post_attention_layernorm")
        gate, up = (y @ weights[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[at + "mlp.down_proj.weight"].T
    return [*states, rms(x, "norm")]


def clip(folder: Path, texts: list[str]) -> Array:
    """CLIP's projected text features, rows of length 1: float64 [texts, width].

    The folder's tokenizer must be one that takes every letter of lower-case text for a token.
    """
    config = json.loads((folder / "config.json").read_text())["text_config"]
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    weights = {key: w.astype(float) for key, w in load_file(folder / "model.safetensors").items()}
    rows = []
    for text in texts:
        letters = [*" ".join(text.lower().split())]
        words = [
            f"{a}</w>" if b == " " else a
            for a, b in zip(letters, [*letters[1:], " "], strict=True)
            if a != " "
        ]
        ids = [vocabulary[word] for word in words]
        ids = [vocabulary["<|startoftext|>"], *ids[:75], vocabulary["<|endoftext|>"]]
        at = "text_model.embeddings."
        x = weights[at + "token_embedding.weight"][ids]
        x = x + weights[at + "position_embedding.weight"][: len(ids)]
        for layer in range(config["num_hidden_layers"]):
            at = f"text_model.encoder.layers.{layer}."
            y = norm(x, weights, at + "layer_norm1", 1e-5)
            q, k, v = (linear(y, weights, f"{at}self_attn.{name}_proj") for name in "qkv")
            y = mixed(q, k, v, config["num_attention_heads"], causal=True)
            x = x + linear(y, weights, at + "self_attn.out_proj")
            y = linear(norm(x, weights, at + "layer_norm2", 1e-5), weights, at + "mlp.fc1")
            x = x + linear(y / (1 + np.exp(-1.702 * y)), weights, at + "mlp.fc2")
        x = norm(x, weights, "text_model.final_layer_norm", 1e-5)
        row = x[-1] @ weights["text_projection.weight"].T
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def mixed(q: Array, k: Array, v: Array, heads: int, causal: bool = False) -> Array:
    """Attention among tokens [T, width]."""
    q, k, v = (x.reshape(len(x), heads, -1).transpose(1, 0, 2) for x in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)

"""AffectGPT's computation in straight lines, from a state dict and the facts about the model.

Nothing here knows merstore. Rows of features are [B, T, D] float32; a state dict has the names of
released checkpoints.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    normal = (x - mean) / torch.sqrt(variance + 1e-12)
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(state: dict[str, Tensor], name: str, hidden: Tensor, rows: Tensor) -> Tensor:
    query = linear(state, f"{name}.self.query", hidden)
    key = linear(state, f"{name}.self.key", rows)
    value = linear(state, f"{name}.self.value", rows)
    parts = []
    for head in range(12):
        of = slice(head * 64, head * 64 + 64)
        scores = torch.einsum("bqd,bkd->bqk", query[..., of], key[..., of]) / math.sqrt(64)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        parts.append(torch.einsum("bqk,bkd->bqd", weights, value[..., of]))
    projected = linear(state, f"{name}.output.dense", torch.cat(parts, -1))
    return layer_norm(state, f"{name}.output.LayerNorm", projected + hidden)


def qformer(state: dict[str, Tensor], prefix: str, rows: Tensor) -> Tensor:
    """[B, T, D], positions already added -> [B, queries, 768]."""
    bert = f"{prefix}_Qformer.bert"
    queries = state[f"{prefix}_query_tokens"].repeat(len(rows), 1, 1)
    hidden = layer_norm(state, f"{bert}.embeddings.LayerNorm", queries)
    for number in range(2):
        layer = f"{bert}.encoder.layer.{number}"
        hidden = attend(state, f"{layer}.attention", hidden, hidden)
        hidden = attend(state, f"{layer}.crossattention", hidden, rows)
        inner = linear(state, f"{layer}.intermediate_query.dense", hidden)
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        out = linear(state, f"{layer}.output_query.dense", inner)
        hidden = layer_norm(state, f"{layer}.output_query.LayerNorm", out + hidden)
    return hidden


NAMES = {
    "video": ("video_frame_position_embedding", "affectgpt_proj"),
    "audio": ("audio_position_embedding", "audio_llama_proj"),
    "au": ("au_position_embedding", "au_llama_proj"),
}


def temporal(
    state: dict[str, Tensor],
    branch: str,
    fusion: str,
    rows: Tensor,
    queries: int,
    bypass: bool = False,
) -> Tensor:
    table, projection = NAMES[branch]
    if fusion == "qformer":
        positioned = rows + state[f"{table}.weight"][: rows.shape[1]]
        return linear(state, projection, qformer(state, branch, positioned))
    if fusion == "mean":
        fused = rows.sum(1) / rows.shape[1]
    elif bypass and rows.shape[1] == 1:
        fused = rows[:, 0]
    else:
        fused = torch.zeros_like(rows[:, 0])
        for step in range(rows.shape[1]):
            score = linear(state, f"{branch}_attention_mlp", rows[:, step])
            fused = fused + score * rows[:, step]
    return torch.stack([linear(state, projection, fused)] * queries, 1)


def multi(
    state: dict[str, Tensor], fusion: str, video: Tensor, audio: Tensor, queries: int
) -> Tensor:
    if fusion == "qformer":
        v = linear(state, "multi_video_embs", video)
        u = linear(state, "multi_audio_embs", audio)
        rows = torch.cat([v, u], 1)
        rows = rows + state["multi_position_embedding.weight"][: rows.shape[1]]
        return linear(state, "multi_llama_proj", qformer(state, "multi", rows))
    v = linear(state, "multi_video_embs", video.sum(1) / video.shape[1])
    u = linear(state, "multi_audio_embs", audio.sum(1) / audio.shape[1])
    weights = linear(state, "fc_att", linear(state, "attention_mlp", torch.cat([v, u], 1)))
    mixed = weights[:, 0:1] * v + weights[:, 1:2] * u
    return torch.stack([linear(state, "multi_llama_proj", mixed)] * queries, 1)


def image(state: dict[str, Tensor], fusion: str, rows: Tensor, queries: int) -> Tensor:
    if fusion == "token":
        return torch.stack([linear(state, "image_llama_proj", row) for row in rows])
    return torch.stack([linear(state, "image_llama_proj", rows.squeeze(1))] * queries, 1)


def embedded(table: Tensor, ids: list[int], vectors: dict[int, Tensor]) -> Tensor:
    """The language model's input [L, W] of one prompt; `vectors` [Q, W] by placeholder id."""
    used = dict.fromkeys(vectors, 0)
    rows = []
    for token in ids:
        if token in vectors:
            rows.append(vectors[token][used[token]])
            used[token] += 1
        else:
            rows.append(table[token])
    assert all(used[token] in {0, len(vectors[token])} for token in used)
    return torch.stack(rows)


def merged(llm: dict[str, Tensor], state: dict[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """The language model's weights with the adapters of `state` added: W + scaling * B A."""
    out = dict(llm)
    for name in state:
        if name.endswith(".lora_A.default.weight"):
            stem = name.removesuffix(".lora_A.default.weight")
            target = stem.removeprefix("llama_model.base_model.model.") + ".weight"
            b, a = state[f"{stem}.lora_B.default.weight"], state[name]
            out[target] = llm[target] + scaling * (b @ a)
    return out


def greedy(llm: torch.nn.Module, inputs: Tensor, stops: list[list[int]], most: int) -> list[int]:
    """One prompt [L, W], token by token, everything computed anew each time."""
    table = llm.get_input_embeddings().weight
    new: list[int] = []
    while len(new) < most:
        scores = llm(inputs_embeds=inputs.unsqueeze(0), use_cache=False, logits_to_keep=1).logits[
            0, -1
        ]
        new.append(int(scores.argmax()))
        if any(new[-len(stop) :] == stop for stop in stops):
            break
        inputs = torch.cat([inputs, table[new[-1]].unsqueeze(0)])
    return new


def sampled(
    llm: torch.nn.Module, inputs: Tensor, temperature: float, top_k: int, top_p: float
) -> Tensor:
    """The probabilities [V] of the first new token."""
    scores = (
        llm(inputs_embeds=inputs.unsqueeze(0), use_cache=False, logits_to_keep=1).logits[0, -1]
        / temperature
    )
    order = scores.argsort(descending=True)[:top_k]
    probability = functional.softmax(scores[order].double(), 0)
    out = torch.zeros(len(scores), dtype=torch.float64)
    mass = 0.0
    for token, p in zip(order.tolist(), probability.tolist(), strict=True):
        if mass >= top_p:
            break
        out[token] = p
        mass += p
    return out / out.sum()

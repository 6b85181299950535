"""From rows of features to vectors of the language model: AffectGPT without the language model.

Formulas, module names and shapes are those of AffectGPT (Lian et al., ICML 2025), so that its
checkpoints fit. Its "attention" is a weighted sum with raw linear scores: there is no softmax.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from merstore.errors import MerstoreError
from merstore.models.affectgpt.config import Config
from merstore.models.affectgpt.qformer import HIDDEN, QFormer

MODALITIES = ("frame", "face", "audio", "multi", "image", "au")
"""What a prompt may have placeholders for; ``multi`` is fused of audio and face or frame."""

_MULTI_POSITIONS = 264


class _Branch(NamedTuple):
    """How AffectGPT names the parts of a modality."""

    prefix: str
    table: str
    positions: int
    projection: str


_VIDEO = _Branch("video", "video_frame_position_embedding", 32, "affectgpt_proj")
_AUDIO = _Branch("audio", "audio_position_embedding", 8, "audio_llama_proj")
_AU = _Branch("au", "au_position_embedding", 32, "au_llama_proj")


class Fusion(nn.Module):
    """Fuses and projects features to ``width``, the language model's.

    A feature enters as ``[B, T, D]`` whether it was stored or just computed, with T = 1 too. Of
    an encoder that gives several vectors of a picture (EVA_CLIP_G 32) it is ``[B, T, P, D]``: the
    Q-Former sees all, with the position of their picture, a projected image all; else they are
    averaged. Face and frame share one branch. Parameters are float32, and so is the computation, unless the
    module is converted or runs under autocast.
    """

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.config = config
        self.width = width
        fused = config.fused_dim
        self.image_llama_proj = nn.Linear(config.visual_dim, width)
        self._add(_VIDEO, config.video_fusion, config.visual_dim, config.video_queries)
        self._add(_AUDIO, config.audio_fusion, config.acoustic_dim, config.audio_queries)
        self.multi_audio_embs = nn.Linear(config.acoustic_dim, fused)
        self.multi_video_embs = nn.Linear(config.visual_dim, fused)
        if config.multi_fusion == "attention":
            self.attention_mlp = nn.Linear(2 * fused, fused)
            self.fc_att = nn.Linear(fused, 2)
            self.multi_llama_proj = nn.Linear(fused, width)
        else:
            self._add_qformer("multi", fused, config.multi_queries)
            self.multi_position_embedding = nn.Embedding(_MULTI_POSITIONS, fused)
            self.multi_llama_proj = nn.Linear(HIDDEN, width)
        if config.au_fusion:
            self._add(_AU, config.au_fusion, config.au_dim, config.au_queries)

    def forward(
        self, features: Mapping[str, Tensor], names: Iterable[str], multi: str | None = None
    ) -> dict[str, Tensor]:
        """The vectors ``[B, queries, width]`` of the modalities `names`.

        `features`: ``frame``, ``face``, ``audio``, ``image`` and ``au``, each ``[B, T, D]``, as far
        as they are needed. `multi`: ``"face"`` or ``"frame"``, what the modality ``multi`` fuses
        with the audio.

        Raises MerstoreError for features that are missing or of another shape.
        """
        vectors = {}
        for name in names:
            if name not in MODALITIES:
                raise MerstoreError(f"{name!r}: no modality; there are {', '.join(MODALITIES)}")
            if name == "multi":
                if multi not in {"face", "frame"}:
                    raise MerstoreError(f"multi is fused of face or frame, not of {multi!r}")
                vectors[name] = self.multi(_of(features, multi), _of(features, "audio"), multi)
            elif name in {"face", "frame"}:
                vectors[name] = self.video(_of(features, name), name)
            else:
                vectors[name] = getattr(self, name)(_of(features, name))
        return vectors

    def video(self, rows: Tensor, name: str = "video") -> Tensor:
        """``[B, T, visual_dim] -> [B, video_queries, width]``, of face or frame."""
        config = self.config
        rows = self._checked(rows, name, config.visual_dim, several=True)
        if rows.ndim == 4 and config.video_fusion != "qformer":
            rows = rows.mean(2)
        return self._temporal(_VIDEO, config.video_fusion, rows, config.video_queries)

    def audio(self, rows: Tensor) -> Tensor:
        """``[B, T, acoustic_dim] -> [B, audio_queries, width]``."""
        config = self.config
        rows = self._checked(rows, "audio", config.acoustic_dim)
        return self._temporal(_AUDIO, config.audio_fusion, rows, config.audio_queries)

    def au(self, rows: Tensor) -> Tensor:
        """``[B, N, au_dim] -> [B, au_queries, width]``."""
        config = self.config
        if config.au_fusion is None:
            raise MerstoreError("au: this model has no action unit modality")
        rows = self._checked(rows, "au", config.au_dim)
        return self._temporal(_AU, config.au_fusion, rows, config.au_queries)

    def image(self, rows: Tensor) -> Tensor:
        """``[B, 1, visual_dim] -> [B, image_queries, width]``; fused by ``token``, there are as many
        rows as queries.
        """
        config = self.config
        rows = self._checked(rows, "image", config.visual_dim, several=True)
        if rows.ndim == 4:
            rows = rows.flatten(1, 2) if config.image_fusion == "token" else rows.mean(2)
        expected = config.image_queries if config.image_fusion == "token" else 1
        if rows.shape[1] != expected:
            raise MerstoreError(
                f"image: {rows.shape[1]} rows of features; with image_fusion "
                f"{config.image_fusion!r} there are {expected}"
            )
        projected: Tensor = self.image_llama_proj(rows)
        return projected.expand(-1, config.image_queries, -1)

    def multi(self, video: Tensor, audio: Tensor, name: str = "video") -> Tensor:
        """``[B, T, visual_dim], [B, S, acoustic_dim] -> [B, multi_queries, width]``."""
        config = self.config
        video = self._checked(video, name, config.visual_dim, several=True)
        if video.ndim == 4:
            video = video.mean(2)
        audio = self._checked(audio, "audio", config.acoustic_dim)
        if config.multi_fusion == "attention":
            v = self.multi_video_embs(video.mean(1))
            u = self.multi_audio_embs(audio.mean(1))
            w = self.fc_att(self.attention_mlp(torch.cat([v, u], 1)))  # [B, 2]
            mixed = w[:, :1] * v + w[:, 1:] * u
            projected: Tensor = self.multi_llama_proj(mixed)
            return projected.unsqueeze(1).expand(-1, config.multi_queries, -1)
        rows = torch.cat([self.multi_video_embs(video), self.multi_audio_embs(audio)], 1)
        queried = self._queried("multi", "multi_position_embedding", rows)
        out: Tensor = self.multi_llama_proj(queried)
        return out

    def _temporal(self, branch: _Branch, fusion: str, rows: Tensor, queries: int) -> Tensor:
        project = self.get_submodule(branch.projection)
        projected: Tensor
        if fusion == "qformer":
            projected = project(self._queried(branch.prefix, branch.table, rows))
            return projected
        if fusion == "mean":
            fused = rows.mean(1)
        elif rows.shape[1] == 1 and self.config.single_frame_bypass:
            fused = rows[:, 0]
        else:
            scores = self.get_submodule(f"{branch.prefix}_attention_mlp")(rows)  # [B, T, 1]
            fused = (scores * rows).sum(1)
        projected = project(fused)
        return projected.unsqueeze(1).expand(-1, queries, -1)

    def _queried(self, prefix: str, table: str, rows: Tensor) -> Tensor:
        positions = self.get_parameter(f"{table}.weight")
        if rows.shape[1] > len(positions):
            raise MerstoreError(
                f"{prefix}: {rows.shape[1]} rows of features, and the Q-Former has "
                f"{len(positions)} positions: sample fewer"
            )
        tokens = self.get_parameter(f"{prefix}_query_tokens").expand(len(rows), -1, -1)
        places = positions[: rows.shape[1]]
        placed = rows + places if rows.ndim == 3 else (rows + places.unsqueeze(1)).flatten(1, 2)
        out: Tensor = self.get_submodule(f"{prefix}_Qformer")(tokens, placed)
        return out

    def _checked(self, rows: Tensor, name: str, dim: int, several: bool = False) -> Tensor:
        """several: there may be more vectors than one of each step."""
        known = rows.ndim == 3 or (several and rows.ndim == 4)
        if not known or 0 in rows.shape[1:-1] or rows.shape[-1] != dim:
            raise MerstoreError(
                f"{name}: features of shape {list(rows.shape)}; this model takes [B, T, {dim}] "
                "with at least one row: the view is of another encoder than the checkpoint"
            )
        weight = self.image_llama_proj.weight
        return rows.to(weight.device, weight.dtype)

    def _add(self, branch: _Branch, fusion: str, dim: int, queries: int) -> None:
        width = dim
        if fusion == "attention":
            self.add_module(f"{branch.prefix}_attention_mlp", nn.Linear(dim, 1))
        elif fusion == "qformer":
            self._add_qformer(branch.prefix, dim, queries)
            self.add_module(branch.table, nn.Embedding(branch.positions, dim))
            width = HIDDEN
        self.add_module(branch.projection, nn.Linear(width, self.width))

    def _add_qformer(self, prefix: str, dim: int, queries: int) -> None:
        tokens = nn.Parameter(torch.empty(1, queries, HIDDEN).normal_(std=0.02))
        self.register_parameter(f"{prefix}_query_tokens", tokens)
        self.add_module(f"{prefix}_Qformer", QFormer(dim))


def _of(features: Mapping[str, Any], name: str) -> Tensor:
    if name not in features:
        raise MerstoreError(f"{name}: the prompt needs its features, and there are none")
    rows: Tensor = features[name]
    return rows

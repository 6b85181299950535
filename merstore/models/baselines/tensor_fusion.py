"""Fusion by products of the three roles: ``tfn`` (Zadeh et al. 2017) and, at low rank, ``lmf``
(Liu et al. 2018).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from merstore.models.baselines.blocks import Baseline, Batch, Dropout, Output, ones_like_first


def _with_one(x: Tensor) -> Tensor:
    """``[B, H] -> [B, 1 + H]``: a constant, so that products keep what one role says alone."""
    return torch.cat([ones_like_first(x), x], dim=-1)


class Tfn(Baseline):
    """The outer product of the three vectors, each with a constant, through two linear layers with
    ReLU. (H + 1)^3 inputs: 275.8 million parameters at H = 128.
    """

    def __init__(
        self,
        dims: Sequence[int],
        output_dim1: int,
        output_dim2: int,
        *,
        hidden_dim: int,
        dropout: float,
        feat_type: str = "utt",
    ) -> None:
        super().__init__(dims, output_dim1, output_dim2)
        self.add_roles(hidden_dim, dropout, feat_type)
        self.post_fusion_dropout = Dropout(dropout)
        self.post_fusion_layer_1 = nn.Linear((hidden_dim + 1) ** 3, hidden_dim)
        self.post_fusion_layer_2 = nn.Linear(hidden_dim, hidden_dim)
        self.add_heads(hidden_dim)

    def forward(self, batch: Batch) -> Output:
        audio, text, video = map(_with_one, self.encode(batch))
        pairs = (audio.unsqueeze(-1) * video.unsqueeze(-2)).flatten(-2)
        product = (pairs.unsqueeze(-1) * text.unsqueeze(-2)).flatten(-2)
        fused = functional.relu(self.post_fusion_layer_1(self.post_fusion_dropout(product)))
        return self.heads(functional.relu(self.post_fusion_layer_2(fused)))


class Lmf(Baseline):
    """The same product by its factors: per role a tensor ``[rank, H + 1, H / 2]``, multiplied
    elementwise and summed over the rank by learned weights. Fused features are ``[B, H / 2]``.
    """

    def __init__(
        self,
        dims: Sequence[int],
        output_dim1: int,
        output_dim2: int,
        *,
        hidden_dim: int,
        dropout: float,
        rank: int,
        feat_type: str = "utt",
    ) -> None:
        super().__init__(dims, output_dim1, output_dim2)
        width = hidden_dim // 2
        self.add_roles(hidden_dim, dropout, feat_type)
        self.audio_factor = nn.Parameter(torch.empty(rank, hidden_dim + 1, width))
        self.video_factor = nn.Parameter(torch.empty(rank, hidden_dim + 1, width))
        self.text_factor = nn.Parameter(torch.empty(rank, hidden_dim + 1, width))
        self.fusion_weights = nn.Parameter(torch.empty(1, rank))
        self.fusion_bias = nn.Parameter(torch.zeros(1, width))
        for factor in (self.audio_factor, self.video_factor, self.text_factor, self.fusion_weights):
            nn.init.xavier_normal_(factor)
        self.add_heads(width)

    def forward(self, batch: Batch) -> Output:
        audio, text, video = (_with_one(x).unsqueeze(-3) for x in self.encode(batch))
        product = (
            torch.matmul(audio, self.audio_factor)
            * torch.matmul(video, self.video_factor)
            * torch.matmul(text, self.text_factor)
        )  # [rank, B, H / 2]
        weights = self.fusion_weights.unsqueeze(-3)  # [1, 1, rank]
        fused = torch.matmul(weights, product.transpose(-3, -2)).squeeze(-2)
        return self.heads(fused + self.fusion_bias)

"""``lf_dnn``: late fusion by a small network over the concatenated hidden vectors."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from merstore.models.baselines.blocks import Baseline, Batch, Dropout, Output


class LfDnn(Baseline):
    """Concatenation of audio, video and text (in this order), dropout, two linear layers with ReLU."""

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
        self.post_fusion_layer_1 = nn.Linear(hidden_dim * 3, hidden_dim)
        self.post_fusion_layer_2 = nn.Linear(hidden_dim, hidden_dim)
        self.add_heads(hidden_dim)

    def forward(self, batch: Batch) -> Output:
        audio, text, video = self.encode(batch)
        fused = self.post_fusion_dropout(torch.cat([audio, video, text], dim=-1))
        fused = functional.relu(self.post_fusion_layer_1(fused))
        return self.heads(functional.relu(self.post_fusion_layer_2(fused)))

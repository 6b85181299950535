"""Fusion by weights that are computed from all inputs: ``attention`` and ``attention_topn``."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from merstore.errors import MerstoreError
from merstore.models.baselines.blocks import Baseline, Batch, MLPEncoder, Output


class Attention(Baseline):
    """The hidden vectors of audio, text and video, weighted (the weights are not normalised) and
    summed.
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
        self.attention_mlp = MLPEncoder(hidden_dim * 3, hidden_dim, dropout)
        self.fc_att = nn.Linear(hidden_dim, 3)
        self.add_heads(hidden_dim)

    def forward(self, batch: Batch) -> Output:
        return self.heads(_weighted(self.encode(batch), self.attention_mlp, self.fc_att))


class AttentionTopn(Baseline):
    """The same over any number of inputs, ``feat0``, ``feat1`` ...; vectors only."""

    MAX_INPUTS = 18

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
        if feat_type != "utt" or not 1 <= len(dims) <= self.MAX_INPUTS:
            raise MerstoreError(
                f"attention_topn takes 1 to {self.MAX_INPUTS} inputs of feat_type utt, "
                f"not {len(dims)} of {feat_type}: choose a smaller fusion_topn, or attention"
            )
        for number, size in enumerate(dims):
            self.add_module(f"encoder{number}", MLPEncoder(size, hidden_dim, dropout))
        self.attention_mlp = MLPEncoder(hidden_dim * len(dims), hidden_dim, dropout)
        self.fc_att = nn.Linear(hidden_dim, len(dims))
        self.add_heads(hidden_dim)

    def forward(self, batch: Batch) -> Output:
        hidden = [
            self.get_submodule(f"encoder{number}")(batch[f"feat{number}"])
            for number in range(len(self.dims))
        ]
        return self.heads(_weighted(hidden, self.attention_mlp, self.fc_att))


def _weighted(hidden: Sequence[Tensor], mlp: nn.Module, fc_att: nn.Module) -> Tensor:
    weights = fc_att(mlp(torch.cat(tuple(hidden), dim=-1)))
    stacked = torch.stack(tuple(hidden), dim=-1)  # [B, H, K]
    return torch.matmul(stacked, weights.unsqueeze(-1)).squeeze(-1)

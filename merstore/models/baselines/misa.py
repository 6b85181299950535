"""``misa``: what each role says alone and what they share (Hazarika, Zimmermann, Poria 2020)."""

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from merstore.models.baselines.blocks import Baseline, Batch, Dropout, Output

MOMENTS = 5


class Misa(Baseline):
    """Private and shared vectors of each role, six in all, through one transformer layer. The loss
    asks private ones to differ, shared ones to agree, and both together to give the role back.
    """

    scalars: ClassVar[tuple[str, ...]] = ("sim_weight", "diff_weight", "recon_weight")

    def __init__(
        self,
        dims: Sequence[int],
        output_dim1: int,
        output_dim2: int,
        *,
        hidden_dim: int,
        dropout: float,
        sim_weight: float,
        diff_weight: float,
        recon_weight: float,
        feat_type: str = "utt",
    ) -> None:
        super().__init__(dims, output_dim1, output_dim2)
        self.sim_weight, self.diff_weight = sim_weight, diff_weight
        self.recon_weight = recon_weight
        self.add_roles(hidden_dim, dropout, feat_type)
        roles = ("audio", "text", "video")

        def square() -> nn.Linear:
            return nn.Linear(hidden_dim, hidden_dim)

        self.project = nn.ModuleDict(
            {role: nn.Sequential(square(), nn.ReLU(), nn.LayerNorm(hidden_dim)) for role in roles}
        )
        self.private = nn.ModuleDict(
            {role: nn.Sequential(square(), nn.Sigmoid()) for role in roles}
        )
        self.shared = nn.Sequential(square(), nn.Sigmoid())
        self.recon = nn.ModuleDict({role: square() for role in roles})
        self.fusion = nn.Sequential(
            nn.Linear(hidden_dim * 6, hidden_dim * 3),
            Dropout(dropout),
            nn.ReLU(),
            nn.Linear(hidden_dim * 3, hidden_dim // 2),
        )
        self.transformer = nn.TransformerEncoderLayer(hidden_dim, nhead=2)
        self.add_heads(hidden_dim // 2)

    def forward(self, batch: Batch) -> Output:
        roles = dict(zip(("audio", "text", "video"), self.encode(batch), strict=True))
        whole = {role: self.project[role](x) for role, x in roles.items()}
        private = {role: self.private[role](x) for role, x in whole.items()}
        shared = {role: self.shared(x) for role, x in whole.items()}
        six = torch.stack([*private.values(), *shared.values()])  # [6, B, H]
        mixed = self.transformer(six)
        fused = self.fusion(mixed.transpose(0, 1).flatten(1))

        pairs = list(combinations(roles, 2))
        alike = sum((moment_distance(shared[a], shared[b]) for a, b in pairs), fused.new_zeros(()))
        apart = sum((overlap(private[a], private[b]) for a, b in pairs), fused.new_zeros(()))
        apart = apart + sum(overlap(private[role], shared[role]) for role in roles)
        back = sum(
            (
                functional.mse_loss(self.recon[role](private[role] + shared[role]), whole[role])
                for role in roles
            ),
            fused.new_zeros(()),
        )
        loss = (
            self.diff_weight * apart
            + self.sim_weight * alike / len(pairs)
            + self.recon_weight * back / len(roles)
        )
        return self.heads(fused, loss)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """How far two sets of vectors ``[B, H]`` are from orthogonal: the mean squared product of their
    centred and normalised vectors. Scalar.
    """

    def normed(x: Tensor) -> Tensor:
        x = x - x.mean(dim=0, keepdim=True)
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).detach()
        out: Tensor = x / (norm + 1e-6)
        return out

    product: Tensor = torch.matmul(normed(a).T, normed(b))
    return product.pow(2).mean()


def moment_distance(a: Tensor, b: Tensor) -> Tensor:
    """Central moment discrepancy of two sets of vectors ``[B, H]`` (Zellinger et al. 2017): the
    distances of their means and of their central moments up to the fifth. Scalar.
    """
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    a, b = a - mean_a, b - mean_b
    total = _distance(mean_a, mean_b)
    for power in range(2, MOMENTS + 1):
        total = total + _distance(a.pow(power).mean(dim=0), b.pow(power).mean(dim=0))
    return total


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # the square root has no gradient at 0, where two roles are the same feature
    return ((a - b).pow(2).sum() + 1e-12).sqrt()

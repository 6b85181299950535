"""``mmim``: fusion that keeps mutual information (Han, Chen, Poria 2021)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from merstore.models.baselines.blocks import Baseline, Batch, Dropout, Output


class Mmim(Baseline):
    """A small network over the concatenated hidden vectors. The loss raises a lower bound of what
    text says of video and of audio (times ``beta``), and lowers the contrastive loss of giving the
    roles back from what was fused (times ``alpha``).
    """

    scalars: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    def __init__(
        self,
        dims: Sequence[int],
        output_dim1: int,
        output_dim2: int,
        *,
        hidden_dim: int,
        dropout: float,
        cpc_layers: int,
        alpha: float,
        beta: float,
        feat_type: str = "utt",
    ) -> None:
        super().__init__(dims, output_dim1, output_dim2)
        self.alpha, self.beta = alpha, beta
        self.add_roles(hidden_dim, dropout, feat_type)
        self.mi_tv = LowerBound(hidden_dim)
        self.mi_ta = LowerBound(hidden_dim)
        self.cpc_zt = Predictive(hidden_dim, cpc_layers)
        self.cpc_zv = Predictive(hidden_dim, cpc_layers)
        self.cpc_za = Predictive(hidden_dim, cpc_layers)
        self.fusion = nn.Sequential(
            Dropout(dropout),
            nn.Linear(hidden_dim * 3, hidden_dim),
            nn.Tanh(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.Tanh(),
        )
        self.add_heads(hidden_dim)

    def forward(self, batch: Batch) -> Output:
        audio, text, video = self.encode(batch)
        bound = self.mi_tv(text, video) + self.mi_ta(text, audio)
        fused = self.fusion(torch.cat([text, audio, video], dim=-1))
        contrast = self.cpc_zt(text, fused) + self.cpc_zv(video, fused) + self.cpc_za(audio, fused)
        return self.heads(fused, self.alpha * contrast - self.beta * bound)


class LowerBound(nn.Module):
    """The log-likelihood, up to a constant, of y under a Gaussian that x predicts: scalar."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mu = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
        self.logvar = nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.Tanh()
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logvar = self.logvar(x)
        likelihood: Tensor = -((self.mu(x) - y).pow(2)) / 2 / logvar.exp() - logvar / 2
        return likelihood.sum(dim=-1).mean(dim=-1)


class Predictive(nn.Module):
    """Contrastive predictive coding: each x is to be told from those of the batch by its z. Scalar."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for number in range(layers):
            parts += [nn.Tanh()] if number else []
            parts.append(nn.Linear(size, size))
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        guess = self.net(z)
        guess = guess / (torch.linalg.vector_norm(guess, dim=-1, keepdim=True) + 1e-8)
        x = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-8)
        scores = torch.matmul(x, guess.mT)  # [B, B]
        right = (x * guess).sum(dim=-1)
        loss: Tensor = torch.logsumexp(scores, dim=-1) - right
        return loss.mean(dim=-1)

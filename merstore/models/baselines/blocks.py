"""What the baselines are made of."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = Mapping[str, Tensor]
Output = tuple[Tensor, Tensor, Tensor, Tensor]

ROLES = ("audios", "texts", "videos")
"""The keys of a batch, in the order in which every model has its inputs."""


class Dropout(nn.Dropout):
    """Dropout whose mask may be given: ``mask`` (already divided by what is kept) takes the place of
    a draw. Models that are trained side by side have each a mask of its own.
    """

    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.mask is None else x * self.mask


class MLPEncoder(nn.Module):
    """``[B, in] -> [B, hidden]``: dropout on the input, then three linear layers with ReLU."""

    def __init__(self, in_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.linear_1 = nn.Linear(in_size, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)
        self.linear_3 = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.linear_1(self.drop(x)))
        x = functional.relu(self.linear_2(x))
        return functional.relu(self.linear_3(x))


class LSTMEncoder(nn.Module):
    """``[B, T, in] -> [B, hidden]``: the last hidden state of an LSTM, dropout, a linear layer."""

    def __init__(self, in_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(in_size, hidden_size, batch_first=True)
        self.drop = Dropout(dropout)
        self.linear_1 = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        _, (last, _) = self.rnn(x)
        out: Tensor = self.linear_1(self.drop(last.squeeze(0)))
        return out


def encoder(feat_type: str, in_size: int, hidden_size: int, dropout: float) -> nn.Module:
    """An MLP over vectors (``"utt"``), an LSTM over sequences (``"frm_align"``, ``"frm_unalign"``)."""
    kind = MLPEncoder if feat_type == "utt" else LSTMEncoder
    return kind(in_size, hidden_size, dropout)


class Baseline(nn.Module):
    """A baseline. ``dims``: the widths of its inputs; ``output_dim1`` classes and ``output_dim2``
    regressed values, 0 for none (a linear layer without outputs, as released).

    Where it can be helped, ``forward`` treats all dimensions before ``[B, ...]`` alike, so that K
    models whose parameters are stacked run as one: inputs ``[B, D]`` or ``[K, B, D]``, outputs
    ``[K, B, ...]``, losses ``[K]``. scalars: hyper-parameters that only scale losses, ``[K]`` then.
    """

    scalars: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dims: Sequence[int], output_dim1: int, output_dim2: int) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.output_dim1, self.output_dim2 = output_dim1, output_dim2

    def add_roles(self, hidden_dim: int, dropout: float, feat_type: str) -> None:
        """``audio_encoder``, ``text_encoder`` and ``video_encoder``, made in this order."""
        audio, text, video = self.dims
        self.audio_encoder = encoder(feat_type, audio, hidden_dim, dropout)
        self.text_encoder = encoder(feat_type, text, hidden_dim, dropout)
        self.video_encoder = encoder(feat_type, video, hidden_dim, dropout)

    def add_heads(self, width: int) -> None:
        """``fc_out_1`` for the classes and ``fc_out_2`` for the values, made last."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            self.fc_out_1 = nn.Linear(width, self.output_dim1)
            self.fc_out_2 = nn.Linear(width, self.output_dim2)

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The hidden vectors ``[B, H]`` of audio, text and video."""
        audio, text, video = (batch[role] for role in ROLES)
        return self.audio_encoder(audio), self.text_encoder(text), self.video_encoder(video)

    def heads(self, features: Tensor, loss: Tensor | None = None) -> Output:
        if loss is None:
            loss = features.new_zeros(features.shape[:-2])
        return features, self.fc_out_1(features), self.fc_out_2(features), loss

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    __call__: Any  # typed as forward is


def parameters_of(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters())


def ones_like_first(x: Tensor) -> Tensor:
    """``[B, 1]`` of ones."""
    return torch.ones_like(x[..., :1])

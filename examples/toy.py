"""What the examples train: a small store made on the spot, and a classifier over two of its views."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

import merstore

FRAME = "toy/frame@CLIP/uniform_8frms"  # [8, 16] for each sample
AUDIO = "toy/audio@HUBERT/FRA"  # [T, 12]: as many steps as the clip is long
EMOTIONS = 3
LABELS = {f"clip_{i:03d}": i % EMOTIONS for i in range(96)}
TRAINING, HELD_OUT = list(LABELS)[:72], list(LABELS)[72:90]  # the last six have no audio


@contextmanager
def store() -> Iterator[merstore.Store]:
    """A store of its own, gone afterwards. Yours: ``with merstore.open("features.mer") as store:``."""
    rng = np.random.default_rng(0)
    means = 0.3 * normal(rng, EMOTIONS, 1, 16)
    with TemporaryDirectory() as folder, merstore.open(Path(folder) / "toy.mer", "a") as opened:
        frame = opened.create_view(FRAME, shape=(8, 16))
        frame.update({name: means[label] + normal(rng, 8, 16) for name, label in LABELS.items()})
        audio = opened.create_view(AUDIO, shape=(None, 12))
        audio.update(
            {name: normal(rng, 5 + i % 25, 12) for i, name in enumerate(TRAINING + HELD_OUT)}
        )
        yield opened


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


class Classifier(nn.Module):
    """Attention over the frames and over the steps of the audio, then an MLP over both."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = Attention(16)
        self.audio = Attention(12)
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, EMOTIONS))

    def forward(
        self,
        frame: torch.Tensor,
        audio: torch.Tensor,
        audio_length: torch.Tensor,
        labels: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        padding = torch.arange(audio.shape[1], device=audio.device) >= audio_length[:, None]
        logits = self.head(torch.cat([self.frame(frame), self.audio(audio, padding)], dim=1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Attention(nn.Module):
    """``[B, T, width]`` to ``[B, 32]``: a sum of the steps, weighted by a learnt query."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 32)
        self.attend = nn.MultiheadAttention(32, num_heads=2, batch_first=True)
        self.query = nn.Parameter(torch.randn(1, 1, 32))

    def forward(self, steps: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        steps = self.project(steps)
        query = self.query.expand(len(steps), -1, -1)
        pooled: torch.Tensor = self.attend(query, steps, steps, padding, need_weights=False)[0]
        return pooled[:, 0]

"""How a language model chooses its words: settings, and what of them acts on the scores."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoding:
    """How a model chooses its words: the likeliest at ``temperature`` 0, else drawn from the
    likeliest that make up ``top_p``. Draws depend on the seed and the message alone, not on what
    is answered beside it, or before.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    def seed_of(self, message: str) -> int:
        """63 bits."""
        digest = hashlib.sha256(f"{self.seed} {message}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1


GREEDY = Decoding()
PUBLISHED = Decoding(temperature=0.7, top_p=0.8, repetition_penalty=1.05)
"""The settings of OV-MER, MER2025 and AffectGPT (which set no seed)."""


def processors(decoding: Decoding, mask: Any, seeds: Sequence[int]) -> list[Any]:
    """What `decoding` does to the scores of each row, as transformers' logits processors. `mask`:
    ``[B, L]`` of the prompts. `seeds`: a number for each row, which alone decides what it draws.
    """
    chain: list[Any] = []
    if decoding.repetition_penalty != 1:
        chain.append(_Penalty(decoding.repetition_penalty, mask))
    if decoding.temperature > 0:
        chain.append(_Draw(decoding.temperature, decoding.top_p, seeds))
    return chain


class _Penalty:
    """The repetition penalty, for what was said: not for the tokens that pad a shorter row."""

    def __init__(self, penalty: float, mask: Any) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        self._penalise = RepetitionPenaltyLogitsProcessor(penalty)
        self._mask = mask.bool()

    def __call__(self, ids: Any, scores: Any) -> Any:
        width = self._mask.shape[1]
        said = ids.clone()
        said[:, :width] = ids[:, :width].where(self._mask, ids[:, width - 1 : width])
        return self._penalise(said, scores)


class _Draw:
    """A draw for each row by a generator of its own: all scores but that of the token drawn go to
    minus infinity. Nucleus sampling after Holtzman et al., "The Curious Case of Neural Text
    Degeneration" (ICLR 2020).
    """

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = [random.Random(seed) for seed in seeds]

    def __call__(self, ids: Any, scores: Any) -> Any:
        import torch

        shares = (scores.float() / self._temperature).softmax(-1)
        shares, order = shares.sort(descending=True, stable=True)
        likelier = shares.cumsum(-1) - shares
        kept = shares.masked_fill(likelier >= self._top_p, 0).cumsum(-1)
        drawn = torch.tensor([each.random() for each in self._random], device=kept.device)
        place = (kept <= drawn[:, None] * kept[:, -1:]).sum(-1, keepdim=True)
        token = order.gather(-1, place.clamp(max=order.shape[-1] - 1))
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)

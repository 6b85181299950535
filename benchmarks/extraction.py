"""Label extraction where every answer is in the store already."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import merstore
from merstore.run.labels import GREEDY, extract
from merstore.run.labels.backend import LanguageModel

from .figures import Figure, milliseconds

PART = "Label extraction"
TEXTS = 100_000
RATE = 50_000  # texts a second
ROUNDS = 5
WORDS = 90  # of a description; those of OV-MER's baselines have 40 to 150


class Known(LanguageModel):
    """Stands in for a model while the cache is filled; what is measured asks none."""

    name = "model"
    batch = 16384

    def model(self) -> dict[str, Any]:
        return {"model": self.name}

    def answer(self, task: str, messages: Sequence[str]) -> list[str]:
        return ["[happy, content, at ease]"] * len(messages)


def run(folder: Path) -> Iterator[Figure]:
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghijklmno"), 6)) for _ in range(2000)]
    picked = draw.integers(len(words), size=(TEXTS, WORDS)).tolist()
    texts = {
        f"sample_{n:08d}": " ".join(words[word] for word in row) for n, row in enumerate(picked)
    }
    path = folder / "s.mer"
    backend = Known(GREEDY)
    with merstore.open(path, "a") as store:
        extract(texts, backend, store=store)
    seconds = []
    for _ in range(ROUNDS):
        with merstore.open(path, "a") as store:  # nothing of an earlier round is remembered
            started = time.perf_counter()
            found = extract(texts, backend, store=store)
            seconds.append(time.perf_counter() - started)
        assert found.asked == 0
        assert len(found.answers) == TEXTS
    what = f"{TEXTS:,} descriptions to labels, all of them in the cache"
    yield milliseconds(PART, what, seconds, bar=1e3 * TEXTS / RATE)

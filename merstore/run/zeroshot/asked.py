"""What a baseline is asked, and what answers: the contract between the runner and any model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.extract.material import Material
from merstore.extract.reading import Refusal


@dataclass(frozen=True)
class Asked:
    """One sample's question. ``prompt``: with the subtitle where it belongs. ``material``: the paths
    of its media. ``frames``: those of the baseline's frame policy, RGB uint8 ``[T, H, W, 3]``;
    ``seconds``: when each is shown, float64 ``[T]``. ``sound``: float32 ``[N]``, mono at the
    baseline's rate. None where the baseline does not look, or does not listen.
    """

    name: str
    prompt: str
    material: Material
    frames: npt.NDArray[np.uint8] | None = None
    seconds: npt.NDArray[np.float64] | None = None
    sound: npt.NDArray[np.float32] | None = None


class Said(NamedTuple):
    """An answer of which more is known. ``tokens``: how many were generated; ``ended``: by itself,
    and not because there were as many as there may be.
    """

    text: str
    tokens: int
    ended: bool


class Answerer(ABC):
    """Something that answers. ``name``: of the model, as it may stand in a view's path."""

    name: str

    @property
    def needs(self) -> frozenset[str]:
        """What of ``"frames"`` and ``"sound"`` it takes, where the baseline has it; else only paths."""
        return frozenset({"frames", "sound"})

    @property
    def draws(self) -> bool:
        """Whether seeds may decide about an answer."""
        return True

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """All that decides about an answer besides what is asked, as JSON values."""

    @abstractmethod
    def answer(
        self, asked: Sequence[Asked], seeds: Sequence[int]
    ) -> Sequence[str | Said | Refusal]:
        """An answer, or why there is none, to each; drawn ones by the seed of each, so that no
        answer depends on what is asked beside it.

        Raises MerstoreError where nothing can be answered at all.
        """

    def close(self) -> None:
        """Give back what it holds."""
        return

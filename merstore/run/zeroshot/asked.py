"""What a baseline is asked, and what answers: the contract between the runner and any model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


class Answerer(ABC):
    """Something that answers. ``name``: of the model, as it may stand in a view's path."""

    name: str

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """All that decides about an answer besides what is asked, as JSON values."""

    @abstractmethod
    def answer(self, asked: Sequence[Asked], seeds: Sequence[int]) -> list[str | Refusal]:
        """An answer, or why there is none, to each; drawn ones by the seed of each, so that no
        answer depends on what is asked beside it.

        Raises MerstoreError where nothing can be answered at all.
        """

    def close(self) -> None:
        """Give back what it holds."""
        return

"""Frame features of a clip, whole: decode, sample, encode."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from merstore.extract.sampling import uniform
from merstore.extract.video import VERSION, Pixels, read_frames
from merstore.extract.vision import VisionEncoder

RULES: dict[str, Callable[[int, int], list[int]]] = {"uniform": uniform}

_SIZE = (224, 224)  # height, width
_LONGEST = 10_000  # frames; up to here it is checked that a rule gives n of them


class VideoFeatures:
    """What makes a view of frame features: `n` frames of each clip by a sampling rule, encoded.

    ``modality``, ``encoder_name`` and ``sampling`` name the view; ``dtype``, ``shape`` (n, dim)
    and ``spec`` declare it.

    Picklable, and safe to call from many threads.

    Raises ValueError for a rule that is not there and for an `n` with which it would not give n
    frames of every clip (`uniform` and 7, 11, 13, …: see there).
    """

    modality = "frame"
    dtype = "float32"

    def __init__(self, encoder: VisionEncoder, n: int = 8, rule: str = "uniform") -> None:
        if rule not in RULES:
            raise ValueError(f"no sampling rule {rule!r}; there is {', '.join(RULES)}")
        self.encoder = encoder
        self.n = n
        self.rule = rule
        odd = next((v for v in range(1, _LONGEST) if len(self._choose(v)) != n), None)
        if odd:
            raise ValueError(f"{rule} does not give {n} of {odd} frames; take another n, such as 8")

    @property
    def encoder_name(self) -> str:
        return self.encoder.name

    @property
    def sampling(self) -> str:
        """The legacy spelling, ``uniform_8frms``."""
        return f"{self.rule}_{self.n}frms"

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.encoder.dim

    @property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        return {
            "modality": self.modality,
            "encoder": self.encoder.spec(),
            "sampling": {"rule": self.rule, "n": self.n},
            "frames": {"size": list(_SIZE), "fit": "squash", "channels": "RGB", "version": VERSION},
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    def decode(self, path: str | Path) -> Pixels:
        """The clip's frames for `encode`: uint8 [n, 224, 224, 3], RGB. Raises DecodeError."""
        return read_frames(path, self._choose, _SIZE).pixels

    def encode(self, clips: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """The features of clips that `decode` gave: float32 [n, dim] of each.

        All frames go through the encoder together. Each clip's features are what it gets alone: on
        a CPU to the bit where n is a multiple of 4, otherwise within 1e-5. Raises EncoderError.
        """
        if not clips:
            return []
        features = self.encoder.encode(np.concatenate(clips))
        ends = np.cumsum([len(pixels) for pixels in clips])[:-1]
        return [part.copy() for part in np.split(features, ends)]

    def _choose(self, n_frames: int) -> list[int]:
        return RULES[self.rule](n_frames, self.n)

"""Features of facial actions: MER-Factory's descriptions of a face, through CLIP's text tower.

One row per described frame, in the frames' order, of length 1. Profiles:

``affectgpt``
    What the file has for each frame is encoded, be it with the conversation that led to it.
``clean``
    The description alone.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merstore.errors import EncoderError, InvalidKey
from merstore.extract.text_encoders import Array, ClipTextEncoder

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

_VERSIONS = {"affectgpt": 1, "clean": 1}  # of what a profile does
_TEXTS = {"affectgpt": "as in the file", "clean": "the description alone"}
_SAMPLING = re.compile(r"[1-9]\d{0,3}frms")


class AuFeatures:
    """What makes a view of facial action features (a Recipe): [N, D], N the described frames.

    ``name``: the encoder's in the view's path. ``weights``: a CLIP's folder or hub id. The sampling
    is ``8frms``, AffectGPT's constant name, whatever N is. Of an analysis the frames of
    ``summary_description`` count or, without it, those of ``fine_grained_descriptions``.

    ``half``: run in float16 on a GPU and store float16, as OpenAI's package does there (which keeps
    its layer norms in float32: the two agree within float16's rounding).

    Picklable, and safe to use from many threads. Raises InvalidKey for a sampling that is not there,
    EncoderError for a model that cannot be had.
    """

    modality = "au"
    reads = "au"

    def __init__(
        self,
        name: str,
        sampling: str = "8frms",
        *,
        profile: str = "clean",
        weights: str | Path,
        device: str = "auto",
        half: bool = False,
    ) -> None:
        if not _SAMPLING.fullmatch(sampling):
            raise InvalidKey(f"no sampling {sampling!r} of au; there is 8frms")
        if profile not in _VERSIONS:
            known = ", ".join(_VERSIONS)
            raise EncoderError(f"no profile {profile!r} of facial actions; there is {known}")
        self.encoder_name = name
        self.sampling = sampling
        self.profile = profile
        self.encoder = ClipTextEncoder(weights, device, half=half)

    @classmethod
    def create(cls, name: str, sampling: str, **options: Any) -> "AuFeatures":
        """As the registry makes it."""
        return cls(name, sampling, **options)

    @property
    def dtype(self) -> str:
        return "float16" if self.encoder.half else "float32"

    @property
    def shape(self) -> tuple[int | None, int]:
        return None, self.encoder.dim

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        return {
            "modality": self.modality,
            "encoder": {"name": self.encoder_name, **self.encoder.spec()},
            "profile": {"name": self.profile, "version": _VERSIONS[self.profile]},
            "sampling": "described frames, in order",
            "options": {"text": _TEXTS[self.profile], "normalise": "rows to length 1"},
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""
        return

    def prepare(self, reading: "Reading") -> list[str]:
        """The descriptions, in order; at least one. Raises DecodeError."""
        described = reading.analysis().descriptions()
        return [each.raw if self.profile == "affectgpt" else each.text for each in described]

    def size(self, prepared: list[str]) -> int:
        """Descriptions."""
        return len(prepared)

    def encode(self, batch: Sequence[list[str]]) -> list[Array]:
        """The entries, [N, D] of `dtype`. Raises EncoderError."""
        return [rows.astype(self.dtype, copy=False) for rows in self.encoder.encode(batch)]

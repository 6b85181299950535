"""Features of a clip's frames: which frames, how large, through which encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, InvalidKey
from merstore.extract import rules
from merstore.extract.pictures import Pixels
from merstore.extract.rules import Choice, Rule
from merstore.extract.sampling import Variant
from merstore.extract.vision import VisionEncoder

if TYPE_CHECKING:
    from merstore.extract.reading import Reading
    from merstore.extract.video import FrameRequest

_SQUASHED = (224, 224)  # height, width
_SUNLICAI = "sunlicai-"  # MERTools' name for a VideoMAE that is shown two clips
_NO_ANALYSIS = {"no_au_info", "missing_file"}  # for which emotion_peak's variants have a way out
_DINOV2_FRAMES = 64  # that MERTools takes, where it takes all for other models of single pictures


class PictureFeatures:
    """What views of frames and of faces share: a rule, an encoder, and a mean over time or not.

    ``sampling`` ``FRA`` is a vector of each frame that the encoder is shown, ``UTT`` their mean, one
    vector. Which frames those are depends on the model: VideoMAE is shown 16, uniformly (in the
    profile mertools, where its name begins with ``sunlicai-``, two clips of 16, every fourth frame);
    in that profile DINOv2 is shown 64, uniformly; else they are all.
    """

    modality: str
    dtype = "float32"

    def __init__(self, encoder: VisionEncoder, sampling: str, rule: Rule) -> None:
        self.encoder = encoder
        self.rule = rule
        self._sampling = sampling
        if rule.frames is not None and rule.frames % encoder.window:
            few = f"{encoder.name} sees {encoder.window} frames at a time"
            raise InvalidKey(f"{few}: {sampling} is not a multiple of that")

    @property
    def encoder_name(self) -> str:
        return self.encoder.name

    @property
    def sampling(self) -> str:
        return self._sampling

    @property
    def pooled(self) -> bool:
        """Whether the entry is the mean over time."""
        return self.sampling == "UTT"

    @property
    def shape(self) -> tuple[int | None, ...]:
        if self.pooled:
            return (self.encoder.dim,)
        return self._rows, self.encoder.dim

    @property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        return {
            "modality": self.modality,
            "encoder": self.encoder.spec(),
            "sampling": self.rule.spec,
            **self._pictures,
            "pooling": "mean over time" if self.pooled else None,
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    @property
    def _pictures(self) -> dict[str, Any]:
        """Of the spec: what the pictures are."""
        raise NotImplementedError

    @property
    def _rows(self) -> int | None:
        if self.rule.frames is None:
            return None
        return self.rule.frames // self.encoder.window * self.encoder.rows_per_window

    def size(self, prepared: Pixels) -> int:
        """Frames."""
        return len(prepared)

    def encode(self, batch: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """The entries of samples that were prepared, float32 of `shape`.

        On a CPU each is to the bit what it is of that sample alone. Raises EncoderError.
        """
        features = self.encoder.encode(batch)
        return [rows.mean(axis=0) for rows in features] if self.pooled else features


class FrameFeatures(PictureFeatures):
    """What makes a view of frame features: frames of each clip by a sampling rule, encoded.

    ``sampling``: `rules.PATTERNS`; ``UTT`` and ``FRA`` are as in `PictureFeatures`, and hold all of
    a clip's frames at the encoder's size at once. ``variant``: what emotion_peak does where it does
    not apply (`sampling.emotion_peak`); by default the sample fails with ``no_au_info``.

    In the profile affectgpt a frame is squashed to 224x224, whatever its aspect ratio, by FFmpeg's
    bilinear scaler, before the model's own preprocessing, as AffectGPT does. In the others it keeps
    its aspect ratio: the scaler only shrinks it, its shorter side to the larger side of what that
    preprocessing resizes to, which then crops the middle where it is one that crops.

    Picklable, and safe to use from many threads. Raises InvalidKey for a sampling that is not
    there.
    """

    modality = "frame"
    reads = "video"

    def __init__(
        self,
        encoder: VisionEncoder,
        sampling: str = "uniform_8frms",
        *,
        variant: Variant = "strict",
    ) -> None:
        rule = level_rule(encoder) if sampling in rules.LEVELS else rules.named(sampling, variant)
        super().__init__(encoder, sampling, rule)

    @classmethod
    def create(
        cls,
        name: str,
        sampling: str,
        *,
        profile: str,
        weights: str | Path,
        device: str = "auto",
        variant: Variant = "strict",
        **options: Any,
    ) -> "FrameFeatures":
        """As the registry makes it: `name` is the encoder's in the view's path, `weights` its folder
        or hub id; `options` are those of VisionEncoder.
        """
        encoder = VisionEncoder(weights, device, profile, name=name, **options)
        return cls(encoder, sampling, variant=variant)

    @property
    def _pictures(self) -> dict[str, Any]:
        from merstore.extract.video import VERSION

        size = self._size
        fit: dict[str, Any] = {"fit": "as they are"}
        if isinstance(size, tuple):
            fit = {"fit": "squash", "size": list(size)}
        elif size is not None:
            fit = {"fit": "aspect kept, shrunk to the short side", "short_side": size}
        return {"frames": {**fit, "channels": "RGB", "version": VERSION}}

    @property
    def _size(self) -> tuple[int, int] | int | None:
        if self.encoder.profile == "affectgpt":
            return _SQUASHED
        return self.encoder.preprocessing.short_side

    def request(self, reading: "Reading") -> "FrameRequest":
        """The frames of the sample's clip. Raises DecodeError where the rule needs what there is not."""
        from merstore.extract.video import FrameRequest

        sample = reading.material.name
        return FrameRequest(Choice(self.rule, sample, self._au_info(reading)), self._size)

    def prepare(self, reading: "Reading") -> Pixels:
        """uint8 [n, h, w, 3]. Raises DecodeError."""
        return self.encoder.prepare(reading.frames(self.request(reading)).pixels)

    def _au_info(self, reading: "Reading") -> dict[str, Any] | None:
        if not self.rule.looks_at_analysis:
            return None
        try:
            return reading.analysis().au_info()
        except DecodeError as error:
            if self.rule.variant == "strict" or error.kind not in _NO_ANALYSIS:
                raise
            return None


def level_rule(encoder: VisionEncoder) -> Rule:
    """The frames that an encoder is shown at the levels UTT and FRA: see `PictureFeatures`."""
    mertools = encoder.profile == "mertools"
    if encoder.window > 1 and mertools and encoder.name.startswith(_SUNLICAI):
        return Rule("two_clips")
    if encoder.window > 1:
        return Rule("uniform", encoder.window)
    if mertools and encoder.kind == "dinov2":
        return Rule("uniform", _DINOV2_FRAMES)
    return Rule("all")

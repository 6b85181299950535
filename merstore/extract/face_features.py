"""Features of the faces that were cut out of a clip: which faces, how large, through which encoder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract import rules
from merstore.extract.frame_features import PictureFeatures, level_rule
from merstore.extract.pictures import Pixels
from merstore.extract.vision import VisionEncoder

if TYPE_CHECKING:
    from merstore.extract.face_detection import FaceDetector
    from merstore.extract.faces import Faces
    from merstore.extract.reading import Reading

_ENLARGED = (224, 224)  # height, width
_ZEROS = "zeros"
_TO_DO = 'run OpenFace on its clip, or have faces looked for there (detector="centerface")'


class FaceFeatures(PictureFeatures):
    """What makes a view of face features: faces of each sample's OpenFace track, encoded.

    ``sampling``: ``8frms``, or another number, is `sampling.uniform` over the track; ``UTT`` and
    ``FRA`` are as in `PictureFeatures`, over the track.

    In the profile affectgpt a face is resized to 224x224 by OpenCV's bilinear rule and stays in BGR,
    which the model takes for RGB, as AffectGPT does; in the others it is turned to RGB and goes to
    the model's own preprocessing as it is.

    ``detector``: what looks for faces in the clip of a sample that has no track (`face_detection`),
    ``"centerface"`` for the default one. Its squares are not OpenFace's aligned faces, and give
    other features; without a detector such a sample fails.

    A sample without a face fails with ``no_face``. ``missing="zeros"`` gives it zeros instead, as
    MERTools means to: one row at the level FRA, whatever the others have.

    Picklable, and safe to use from many threads. Raises InvalidKey for a sampling that is not
    there.
    """

    modality = "face"
    reads = "face"

    def __init__(
        self,
        encoder: VisionEncoder,
        sampling: str = "8frms",
        *,
        detector: "FaceDetector | str | None" = None,
        missing: str | None = None,
    ) -> None:
        if missing not in (None, _ZEROS):
            raise EncoderError(f"missing faces give a failure, or {_ZEROS!r}, not {missing!r}")
        if sampling in rules.LEVELS:
            rule = level_rule(encoder)
        elif re.fullmatch(r"[0-9]+frms", sampling):
            rule = rules.named(f"uniform_{sampling}")
        else:
            raise InvalidKey(f"no sampling {sampling!r} of faces; there is {{n}}frms, UTT, FRA")
        super().__init__(encoder, sampling, rule)
        self.detector = _detector(detector)
        self.missing = missing

    @classmethod
    def create(
        cls,
        name: str,
        sampling: str,
        *,
        profile: str,
        weights: str | Path,
        device: str = "auto",
        detector: "FaceDetector | str | None" = None,
        missing: str | None = None,
        **options: Any,
    ) -> "FaceFeatures":
        """As the registry makes it: `name` is the encoder's in the view's path, `weights` its folder
        or hub id; `options` are those of VisionEncoder.
        """
        encoder = VisionEncoder(weights, device, profile, name=name, **options)
        return cls(encoder, sampling, detector=detector, missing=missing)

    @property
    def shape(self) -> tuple[int | None, ...]:
        if self.missing and self.sampling == "FRA":
            return None, self.encoder.dim
        return super().shape

    @property
    def _order(self) -> str:
        """Of the colours, as the model gets them."""
        return "BGR" if self.encoder.profile == "affectgpt" else "RGB"

    @property
    def _pictures(self) -> dict[str, Any]:
        told: dict[str, Any] = {"fit": "as they are"}
        if self.encoder.profile == "affectgpt":
            told = {"fit": "squash, OpenCV bilinear", "size": list(_ENLARGED)}
        told["channels"] = self._order
        if self.detector is not None:
            from merstore.extract.face_detection import detection_spec

            told["without_track"] = detection_spec(self.detector)
        return {"faces": told, "missing": self.missing or "failure"}

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""

    def prepare(self, reading: "Reading") -> Pixels:
        """uint8 [n, h, w, 3]; n is 0 where zeros stand for missing faces. Raises DecodeError."""
        material = reading.material
        try:
            faces = reading.faces(self.detector)
        except DecodeError as error:
            if error.kind == "no_face" and self.missing:
                return np.empty((0, 0, 0, 3), np.uint8)
            if material.face is None and material.video is not None and self.detector is None:
                _, why = material.lacks.get("face", ("", "there is no face track of it"))
                raise DecodeError(material.name, error.kind, f"{why}; {_TO_DO}") from None
            raise
        return self.encoder.prepare(self._chosen(faces, material.name))

    def encode(self, batch: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        found = iter(super().encode([pixels for pixels in batch if len(pixels)]))
        return [next(found) if len(pixels) else self._zeros() for pixels in batch]

    def _chosen(self, faces: "Faces", sample: str) -> Pixels:
        from merstore.extract.faces import resize_bilinear

        pixels = faces.take(self.rule.choose(len(faces.pixels), sample, None))
        if self.encoder.profile == "affectgpt":
            pixels = resize_bilinear(pixels, _ENLARGED)
        return pixels if faces.order == self._order else pixels[..., ::-1]

    def _zeros(self) -> npt.NDArray[np.float32]:
        return np.zeros([length or 1 for length in self.shape], np.float32)


def _detector(detector: "FaceDetector | str | None") -> "FaceDetector | None":
    from merstore.extract.face_detection import CenterFace

    if not isinstance(detector, str):
        return detector
    if detector != CenterFace.name:
        raise EncoderError(f"no face detector {detector!r}; there is {CenterFace.name}")
    return CenterFace()

"""Features of facial actions: MER-Factory's descriptions of a face, through CLIP's text tower.

One row per described frame, in the frames' order, of length 1. Profiles:

``affectgpt``
    What the file has for each frame is encoded, be it with the conversation that led to it, after
    OpenAI's package has cleaned it.
``clean``
    The description alone, as it is.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merstore.errors import EncoderError, InvalidKey
from merstore.extract.text_encoders import Array, ClipTextEncoder

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

_VERSIONS = {"affectgpt": 1, "clean": 1}  # of what a profile does
_OPTIONS: dict[str, dict[str, Any]] = {
    "affectgpt": {"text": "as in the file", "cleaning": "OpenAI's, but for wrong encodings"},
    "clean": {"text": "the description alone", "cleaning": None},
}

_ESCAPES = re.compile(r"\x1b\[[\d;]*[A-Za-z]")  # a terminal's
_C1 = re.compile("[\x80\x82-\x8c\x8e\x91-\x9c\x9e\x9f]")  # were meant as Windows-1252
_LINE_ENDS = re.compile(r"\r\n|[\r\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
# Digraphs, ligatures, and letters of the width of Chinese ones (or half of that).
_COMPATIBLE = re.compile(
    "[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb04\ufb06\u3000\uff01-\uffef]"
)
_STRAIGHT = str.maketrans(
    "\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f", "'" * 5 + '"' * 4
)
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
            "options": {**_OPTIONS[self.profile], "normalise": "rows to length 1"},
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""
        return

    def prepare(self, reading: "Reading") -> list[str]:
        """The descriptions, in order; at least one. Raises DecodeError."""
        described = reading.analysis().descriptions()
        if self.profile == "affectgpt":
            return [cleaned(each.raw) for each in described]
        return [each.text for each in described]

    def size(self, prepared: list[str]) -> int:
        """Descriptions."""
        return len(prepared)

    def encode(self, batch: Sequence[list[str]]) -> list[Array]:
        """The entries, [N, D] of `dtype`. Raises EncoderError."""
        return [rows.astype(self.dtype, copy=False) for rows in self.encoder.encode(batch)]


def cleaned(text: str) -> str:
    """What OpenAI's CLIP package encodes of a text, but that it does not guess at text that was once
    decoded by a wrong encoding: HTML entities resolved, quotes straight, ligatures and wide letters
    plain, no control characters (by ftfy's rules, https://ftfy.readthedocs.io).

    Lower case and single blanks are the tokenizer's business.
    """
    mark = text.find("<")  # from its line on, ftfy takes entities for a document's own
    plain = text.rfind("\n", 0, mark) + 1 if mark >= 0 else len(text)
    text = html.unescape(text[:plain]) + text[plain:]
    text = _C1.sub(lambda c1: c1[0].encode("latin-1").decode("cp1252"), _ESCAPES.sub("", text))
    text = text.replace("\ufb05", "\u017ft")
    text = _COMPATIBLE.sub(lambda letter: unicodedata.normalize("NFKC", letter[0]), text)
    text = _LINE_ENDS.sub("\n", text.translate(_STRAIGHT))
    text = unicodedata.normalize("NFC", _CONTROLS.sub("", text))
    return html.unescape(html.unescape(text)).strip()

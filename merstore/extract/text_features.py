"""Text features: a sample's transcript, by a profile's rules, through a frozen model of text.

Profiles, both with the samplings ``UTT`` [D] and ``FRA`` [T, D], a row per token:

``mertools``
    The sum of the last four hidden states; special tokens are cut as its probe of the tokenizer
    says, which must therefore know Chinese; nothing is truncated. Large language models are run in
    float16 on a GPU and stored in float16.
``clean``
    The mean of the last four hidden states; special tokens are those that the tokenizer marks; what
    is longer than the model takes is truncated; a transcript without words is a failure.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract.text_encoders import LARGE, LAYERS, Array, Cut, Layers, TextEncoder
from merstore.extract.transcript import is_failed

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

Missing = Literal["record", "zeros"]
Failed = Literal["record", "encode"]


class Profile(NamedTuple):
    """What a profile chooses where nothing is said, and its version: to be raised with any change
    that alters its values.
    """

    version: int
    layers: Layers
    cut: Cut
    truncate: bool
    failed: Failed
    half: bool  # of large language models


PROFILES = {
    "clean": Profile(1, "mean of the last four", "by special tokens mask", True, "record", False),
    "mertools": Profile(1, "sum of the last four", "by probe sentence", False, "encode", True),
}

# Names whose tokenizer MERTools does not leave to the model's configs.
_TOKENIZERS = {
    "deberta-chinese-large": "BertTokenizer",
    "albert_chinese_tiny": "BertTokenizer",
    "albert_chinese_small": "BertTokenizer",
}

# Reasons for there being no text that both mean: nothing was said.
_SILENT = ("empty_text", "nan_text")


class TextFeatures:
    """What makes a view of text features (a Recipe).

    ``name``: the encoder's in the view's path. ``weights``: its folder or hub id. The options, each
    by default as the profile has it, and all in the spec:

    - ``layers``: what is made of the hidden states, one of `LAYERS`;
    - ``cut``, ``truncate``, ``tokenizer``: see `TextEncoder`;
    - ``half``: run in float16 on a GPU, and store float16;
    - ``missing``: where the transcript is empty, or all of it special tokens, ``"record"`` a
      failure, or ``"zeros"``: MERTools' vector of zeros, one row of them at ``FRA``;
    - ``failed``: where it is a failed recognition (`transcript.is_failed`), ``"record"`` a failure,
      or ``"encode"`` what stands there.

    Picklable, and safe to use from many threads. On a CPU an entry is the same to the bit whatever
    is encoded beside it, on a GPU within rounding. Raises InvalidKey for a sampling that is not
    there, EncoderError for a model that cannot be had or an option that is none.
    """

    modality = "text"
    reads = "text"

    def __init__(
        self,
        name: str,
        sampling: str,
        *,
        profile: str = "clean",
        weights: str | Path,
        device: str = "auto",
        layers: Layers | None = None,
        cut: Cut | None = None,
        truncate: bool | None = None,
        tokenizer: str | None = None,
        half: bool | None = None,
        missing: Missing = "record",
        failed: Failed | None = None,
    ) -> None:
        if sampling not in ("UTT", "FRA"):
            raise InvalidKey(f"no sampling {sampling!r} of text; there is UTT, FRA")
        if profile not in PROFILES:
            known = ", ".join(PROFILES)
            raise EncoderError(f"no profile {profile!r} of text features; there is {known}")
        chosen = PROFILES[profile]
        self.encoder_name = name
        self.sampling = sampling
        self.profile = profile
        self.layers = layers or chosen.layers
        self.missing = missing
        self.failed = failed or chosen.failed
        for option, value, known_values in (
            ("layers", self.layers, LAYERS),
            ("missing", missing, ("record", "zeros")),
            ("failed", self.failed, ("record", "encode")),
        ):
            if value not in known_values:
                raise EncoderError(f"{option}={value!r}: it is one of {', '.join(known_values)}")
        if profile == "mertools":
            tokenizer = tokenizer or _TOKENIZERS.get(name)
        self.encoder = TextEncoder(
            weights,
            device,
            cut=cut or chosen.cut,
            truncate=chosen.truncate if truncate is None else truncate,
            tokenizer=tokenizer,
        )
        large = chosen.half and self.encoder.kind in LARGE
        self.encoder.half = large if half is None else half

    @classmethod
    def create(cls, name: str, sampling: str, **options: Any) -> "TextFeatures":
        """As the registry makes it."""
        return cls(name, sampling, **options)

    @property
    def dtype(self) -> str:
        return "float16" if self.encoder.half else "float32"

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (self.encoder.dim,) if self.sampling == "UTT" else (None, self.encoder.dim)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        return {
            "modality": self.modality,
            "encoder": {"name": self.encoder_name, **self.encoder.spec()},
            "profile": {"name": self.profile, "version": PROFILES[self.profile].version},
            "sampling": self.sampling,
            "options": {
                "layers": self.layers,
                "pool": "mean over tokens" if self.sampling == "UTT" else None,
                "missing": self.missing,
                "failed": self.failed,
            },
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""
        return

    def prepare(self, reading: "Reading") -> str:
        """The transcript; empty only where zeros stand for that. Raises DecodeError."""
        name = reading.material.name
        try:
            text = reading.text()
        except DecodeError as error:
            if error.kind in _SILENT and self.missing == "zeros":
                return ""
            raise
        if not text.strip():
            if self.missing == "zeros":
                return ""
            raise DecodeError(name, "empty_text", "its transcript is empty")
        if self.failed == "record" and is_failed(text):
            raise DecodeError(name, "failed_text", f"no words in its transcript: {text[:40]!r}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DecodeError(name, "undecodable", "its transcript is no Unicode text") from None
        return text

    def size(self, prepared: str) -> int:
        """Characters: about as many as there are tokens, or a few times as many."""
        return max(1, len(prepared))

    def encode(self, batch: Sequence[str]) -> list[Array]:
        """The entries, of `shape` and `dtype`. Raises EncoderError."""
        texts = [text for text in batch if text]
        found = iter(self.encoder.states(texts, self.layers))
        return [self._entry(text, next(found)) if text else self._zeros() for text in batch]

    def _entry(self, text: str, states: Array) -> Array:
        if not len(states) and self.missing == "zeros":
            return self._zeros()
        if not len(states):
            raise EncoderError(f"{self.encoder.name} has no token for the text {text[:20]!r}")
        made = states.mean(axis=0) if self.sampling == "UTT" else states
        return made.astype(self.dtype, copy=False)

    def _zeros(self) -> Array:
        return np.zeros([1 if size is None else size for size in self.shape], self.dtype)

"""The names that sampling rules have in a view's path, and what each chooses of a sample."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merstore.errors import DecodeError, InvalidKey
from merstore.extract import sampling
from merstore.extract.sampling import Variant

PATTERNS = (
    "uniform_{n}frms",
    "headtail_{n}frms",
    "emotion_peak_{n}frms",
    "segments_{n}frms",
    "random_{n}frms",
    "UTT",
    "FRA",
)
"""Samplings of frames: a rule and a number, or a level."""

LEVELS = ("UTT", "FRA")

_NAME = re.compile(r"(uniform|headtail|emotion_peak|segments|random)_([1-9][0-9]{0,3})frms")
_PEAK_FRAMES = 8
_TWO_CLIPS = 32  # frames of sampling.two_clips
_LONGEST = 10_000  # frames; up to here it is checked that `uniform` gives n of them


@dataclass(frozen=True)
class Rule:
    """A sampling rule with its numbers.

    ``rule``: ``"uniform"``, ``"headtail"``, ``"emotion_peak"``, ``"segments"``, ``"random"``,
    ``"all"`` or ``"two_clips"``. ``n``: frames asked for. ``variant``: of emotion_peak (`sampling.emotion_peak`).

    Raises InvalidKey where the rule would not give as many frames as its name says.
    """

    rule: str
    n: int | None = None
    variant: Variant = "strict"

    def __post_init__(self) -> None:
        n = self.n or 0
        if self.rule == "uniform":
            counts = (
                frames for frames in range(n, _LONGEST) if math.ceil(frames / (frames / n)) > n
            )
            if odd := next(counts, None):
                raise InvalidKey(
                    f"uniform does not give {n} of {odd} frames; take another number, such as 8"
                )
        if self.rule == "headtail" and n < 2:
            raise InvalidKey("headtail takes frames of both halves of a clip: two or more")
        if self.rule == "emotion_peak" and self.frames != n:
            raise InvalidKey(f"emotion_peak ({self.variant}) gives {self.frames} frames, not {n}")

    @property
    def frames(self) -> int | None:
        """How many numbers it gives; None: as many as there are frames."""
        if self.rule == "two_clips":
            return _TWO_CLIPS
        if self.rule == "emotion_peak" and self.variant == "extractor":
            return _PEAK_FRAMES
        if self.rule == "emotion_peak" and self.variant != "middle":
            return max(_PEAK_FRAMES, self.n or 0)
        return self.n

    @property
    def looks_at_analysis(self) -> bool:
        """Whether it goes by what MER-Factory says of the clip."""
        return self.rule == "emotion_peak" and self.variant != "middle"

    @property
    def spec(self) -> dict[str, Any]:
        """What it is, as JSON."""
        told: dict[str, Any] = {"rule": self.rule}
        if self.n is not None:
            told["n"] = self.n
        if self.rule in ("headtail", "random"):
            told["seed"] = "first 8 bytes of the SHA-256 of the sample's name"
        if self.rule == "emotion_peak":
            told["variant"] = self.variant
        return told

    def choose(self, n_frames: int, sample: str, au_info: Mapping[str, Any] | None) -> list[int]:
        """The numbers of the frames that stand for a sample with `n_frames`.

        Raises DecodeError: ``too_short``, where there are too few frames to choose from;
        ``no_au_info``, where emotion_peak cannot go by what `au_info` says.
        """
        n = self.n or 0
        if self.rule == "all":
            return list(range(n_frames))
        if self.rule == "two_clips":
            return [number for clip in sampling.two_clips(n_frames) for number in clip]
        if self.rule == "uniform":
            return sampling.uniform(n_frames, n)
        if self.rule == "segments":
            return sampling.segments(n_frames, n)
        if self.rule == "random":
            return sampling.drawn(n_frames, n, seed_of(sample))
        if self.rule == "headtail":
            if n_frames < 2:
                reason = "has a single frame, and headtail takes some of both halves"
                raise DecodeError(sample, "too_short", reason)
            return sampling.headtail(n_frames, n, seed_of(sample))
        try:
            return sampling.emotion_peak(au_info, n_frames, n, self.variant)
        except ValueError as error:
            raise DecodeError(sample, "no_au_info", str(error)) from error


@dataclass(frozen=True)
class Choice:
    """A rule applied to one sample: number of frames -> numbers of frames. Equal where it chooses the
    same, so that it can be asked for twice.
    """

    rule: Rule
    sample: str
    au_info: Mapping[str, Any] | None = None

    def __call__(self, n_frames: int) -> list[int]:
        return self.rule.choose(n_frames, self.sample, self.au_info)


def seed_of(sample: str) -> int:
    """The seed of a sample's random choices: the same wherever and whenever it is computed."""
    return int.from_bytes(hashlib.sha256(sample.encode()).digest()[:8], "big")


def named(name: str, variant: Variant = "strict") -> Rule:
    """The rule of a sampling's name, such as ``emotion_peak_8frms``.

    Raises InvalidKey for a name or a number that is not there.
    """
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise InvalidKey(f"no sampling {name!r}; there is {', '.join(PATTERNS)}")
    rule = matched[1]
    return Rule(rule, int(matched[2]), variant if rule == "emotion_peak" else "strict")

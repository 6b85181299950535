"""Which frames of a clip zero-shot models are shown: the rules of the published ones, by name.

Pure functions, exact as published. A clip with fewer frames than a rule takes is shown some of them
again, or, where the rule says "up to", all of them once.
"""

import math
import re
from collections.abc import Callable

import numpy as np

from merstore.errors import DecodeError, InvalidKey
from merstore.extract import sampling

POLICIES = (
    "even_{n}frms",
    "segments_{n}frms",
    "strided_{n}frms",
    "middles_{n}frms",
    "seconds_{n}frms",
    "seconds",
)
"""The names of policies; ``{n}`` is any number from 1 on. See the function of each name."""

_NAME = re.compile(r"(even|segments|strided|middles|seconds)_([1-9][0-9]{0,3})frms|seconds")


def indices(policy: str, n_frames: int, fps: float | None = None) -> list[int]:
    """The numbers, from 0 on, of the frames that `policy` takes of a clip; they never decrease.

    ``fps``: frames per second, which only the policies of ``seconds`` look at.

    Raises InvalidKey for an unknown policy, DecodeError for a clip without frames, and for one
    without a known frame rate where the policy goes by it.
    """
    check(policy)
    if n_frames < 1:
        raise DecodeError("clip", "no_video", "has no frames")
    rule, _, number = policy.removesuffix("frms").partition("_")
    if rule == "seconds":
        return seconds(n_frames, fps, int(number) if number else None)
    return _BY_NAME[rule](n_frames, int(number))


def check(policy: str) -> None:
    """Raise InvalidKey for an unknown policy."""
    if _NAME.fullmatch(policy) is None:
        raise InvalidKey(f"no frame policy {policy!r}; there is {', '.join(POLICIES)}")


def even(n_frames: int, n: int) -> list[int]:
    """n frames evenly from the first to the last: the whole parts of n numbers from 0 to
    n_frames - 1, both included; the first frame for n = 1. Video-LLaVA's.
    """
    return [int(number) for number in np.linspace(0, n_frames - 1, n)]


def strided(n_frames: int, n: int) -> list[int]:
    """0, s, 2s, … with s = n_frames // n: Otter's, for n = 16. So the end of a clip is not seen, and
    of one with fewer than n frames only the first is.
    """
    return [number * (n_frames // n) for number in range(n)]


def middles(n_frames: int, n: int) -> list[int]:
    """The middles of k = min(n, n_frames) equal stretches: Video-ChatGPT's, for n = 100.

    With s = (n_frames - 1) / k: (round(i * s) + round((i + 1) * s)) // 2 for i in 0 … k - 1, halves
    rounded to even.
    """
    count = min(n, n_frames)
    size = (n_frames - 1) / count
    return [(round(i * size) + round((i + 1) * size)) // 2 for i in range(count)]


def seconds(n_frames: int, fps: float | None, most: int | None = None) -> list[int]:
    """A frame of each second: every r-th from the first on, where r is `fps` rounded to a whole
    number (halves to even), 1 at least. LLaMA-VID's; with `most` = 100, Chat-UniVi's: of more
    frames than that, those whose places are the whole parts of `most` numbers evenly from first to
    last.

    Raises DecodeError for a frame rate that is unknown, 0 or no number.
    """
    if fps is None or not (math.isfinite(fps) and fps > 0):
        raise DecodeError(
            "clip", "decode_error", f"its frame rate is {fps or 'unknown'}, and a frame is taken of "
            "each second: write the clip anew with a frame rate"
        )  # fmt: skip
    chosen = list(range(0, n_frames, max(1, round(fps))))
    if most is not None and len(chosen) > most:
        return [chosen[place] for place in even(len(chosen), most)]
    return chosen


_BY_NAME: dict[str, Callable[[int, int], list[int]]] = {
    "even": even,
    "segments": sampling.segments,
    "strided": strided,
    "middles": middles,
}

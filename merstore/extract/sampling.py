"""Sampling rules: which frames, or which seconds, of a clip stand for it.

Pure functions: the same arguments give the same numbers on every machine. What the published code
leaves to an unseeded generator takes a seed here, and gives what that code gives right after its
generator was seeded so. Frames are counted from 0; every rule raises ValueError for a clip without
frames and for an impossible choice.

From AffectGPT: `uniform`, `headtail`, `emotion_peak`, `drawn`. From MERTools: `uniform`, `continuous`,
`continuous_polish`, `two_clips`, `windows`. From the zero-shot video models: `segments`. From
PyTorchVideo, for audio: `constant_clips`.
"""

import math
import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Variant = Literal["strict", "reader", "extractor", "middle"]

_PEAK_FRAMES = 8  # emotion_peak's choice, whatever is asked for
_NEAR = 2  # frames that emotion_peak takes on each side of the peak
_EDGE = 25  # frames that continuous_polish leaves out at each end: a second
_STRIDE = 4  # between the frames of two_clips; also how far continuous_polish spreads them
_WINDOW = 16  # frames that VideoMAE sees at a time


def uniform(n_frames: int, n: int) -> list[int]:
    """Frame numbers spread evenly from the first frame on: AffectGPT's `uniform` rule, exactly.

    With k = min(n, n_frames), they are the whole parts of 0, s, 2s, … below `n_frames`, where
    s = n_frames / k, and the last one again until there are n. So the last frame of a longer clip
    is never taken, and of a clip with fewer than n frames every frame is, in order.

    The published rule counts in floating point, and so does this one: where rounding makes the
    last multiple fall just below `n_frames`, there is one number more than asked for (n = 7 with
    17, 34, 41, 61, … frames). No n that is in use (1, 2, 4, 5, 6, 8, 9, 10, 12, 16, 32, 64) does that.
    MERTools' `uniform` (n = 8, 16, 64) is this rule, the first n of its numbers.

    Raises ValueError for a clip without frames and for n < 1.
    """
    _check("uniform", n_frames, n)
    step = n_frames / min(n, n_frames)
    # How many values a float range with this end and step has: one too many where n_frames / step
    # rounds up past a whole number. The multiples must be products, a running sum would drift.
    count = math.ceil(n_frames / step)
    numbers = [int(i * step) for i in range(count)]
    return _filled(numbers, n)


def headtail(n_frames: int, n: int, seed: int) -> list[int]:
    """Frames drawn at random, half of them from each half of the clip: AffectGPT's `headtail`.

    With k = min(n, n_frames): k // 2 different frames of the first n_frames // 2, in order, then
    k // 2 of the rest, in order, and the last one again until there are n (so of an odd k one
    frame fewer is drawn). Published with an unseeded generator; these are its numbers after
    ``random.seed(seed)``.

    Raises ValueError for a single frame, of which the published rule takes none, for n < 2 and for
    a negative seed.
    """
    _check("headtail", n_frames, n, least=2)
    half = min(n, n_frames) // 2
    middle = n_frames // 2
    draw = random.Random(_seed(seed))
    head = sorted(draw.sample(range(middle), half))
    tail = sorted(draw.sample(range(middle, n_frames), half))
    return _filled(head + tail, n)


def drawn(n_frames: int, n: int, seed: int) -> list[int]:
    """Frames drawn at random, in order: min(n, n_frames) different ones, and the last one again until
    there are n. AffectGPT shows one such frame as a picture of the clip, by an unseeded generator.

    Raises ValueError for a clip without frames, for n < 1 and for a negative seed.
    """
    _check("drawn", n_frames, n)
    draw = random.Random(_seed(seed))
    return _filled(sorted(draw.sample(range(n_frames), min(n, n_frames))), n)


def emotion_peak(
    au_info: Mapping[str, Any] | None, n_frames: int, n: int = 8, variant: Variant = "strict"
) -> list[int]:
    """Eight frames around the clip's strongest expression: AffectGPT's `emotion_peak`.

    `au_info` is MER-Factory's, as its file has it: ``total_frames`` N and ``peak_frames``, of which
    the first counts: ``peak_index`` p (from 0), ``frames_before_peak`` B and ``frames_after_peak``
    A. Taken are p and up to two neighbours on each side, as far as B, A and N allow; where B is 0
    two after p, else where A is 0 two before it. The rest is spread over the frames left,
    l = [0, N) without those: the i-th of r missing is l[int(i * len(l) / r)]. Of fewer than 8
    frames every frame is taken, and again from the first on until there are 8. The numbers are in
    order; for n > 8 the last is repeated. Without a peak they are the whole parts of 8 numbers
    evenly from 0 to n_frames - 1, both included.

    The published code has this rule twice and an older one, and they differ in what they do when
    it does not apply. `variant` says which to follow:

    =============== ========================== =========================== ====================
    variant         without `au_info`          a number beyond the clip    n
    =============== ========================== =========================== ====================
    ``"strict"``    ValueError                 ValueError                  >= 8, or ValueError
    ``"reader"``    the middle frame, n times  given, as if it existed     below 8: gives 8
    ``"extractor"`` as without a peak          the clip's last frame       ignored: gives 8
    ``"middle"``    the middle frame, n times  (the middle frame always)   any
    =============== ========================== =========================== ====================

    ``"reader"`` is the current video loader and the nine-set batch script, ``"extractor"`` the
    general extractor, ``"middle"`` the first version. ``"strict"`` is the rule where all agree on
    it, and puts nothing else in its place. An `au_info` that cannot be followed (a peak without
    its counts, say) is a ValueError too; ``"extractor"`` then gives `uniform`'s 8.
    """
    _check("emotion_peak", n_frames, n)
    if variant not in get_args(Variant):
        known = ", ".join(get_args(Variant))
        raise ValueError(f"emotion_peak has no variant {variant!r}; there is {known}")
    if variant == "middle" or (variant == "reader" and not au_info):
        return [n_frames // 2] * n
    if variant == "extractor":
        try:
            numbers = _eight(_first_peak(au_info or {}), n_frames)
        except ValueError:
            numbers = uniform(n_frames, _PEAK_FRAMES)
        return [min(number, n_frames - 1) for number in numbers]
    if not au_info:
        raise ValueError(
            "emotion_peak needs MER-Factory's au_info, and there is none: record no_au_info, or "
            "name the variant whose way out is meant"
        )
    peak = _first_peak(au_info)
    numbers = _eight(peak, n_frames)
    if variant == "strict":
        _check_strict(peak, numbers, n_frames, n)
    return _filled(numbers, n)


def segments(n_frames: int, n: int) -> list[int]:
    """A frame of each of n equal stretches: the rule of mPLUG-Owl, VideoChat and VideoChat2.

    With s = (n_frames - 1) / n: int(s / 2) + round(i * s) for i in 0 … n - 1, halves rounded to
    even. A clip with fewer than n frames repeats some.

    Raises ValueError for a clip without frames and for n < 1.
    """
    _check("segments", n_frames, n)
    size = (n_frames - 1) / n
    return [int(size / 2) + round(i * size) for i in range(n)]


def continuous(n_frames: int, n: int, seed: int) -> list[int]:
    """n frames in a row from a random one on: MERTools' `continuous`.

    The first is any below max(1, n_frames - n), so that the last frame of a longer clip is never
    taken; of a clip with no more than n frames all are, and the last one again until there are n.
    Published with NumPy's global generator; these are its numbers after ``numpy.random.seed(seed)``.

    Raises ValueError for a clip without frames, for n < 1, and for a seed outside [0, 2**32).
    """
    _check("continuous", n_frames, n)
    first = _draw(seed, 0, n_frames - n)
    return _filled(list(range(first, min(n_frames, first + n))), n)


def continuous_polish(n_frames: int, n: int, seed: int) -> list[int]:
    """n frames spread over 4n from a random one on, without the clip's ends: MERTools' rule.

    With end = n_frames - 25: the first is any from 25 on and below max(26, end - 4n); the numbers
    are the whole parts of n numbers evenly from it to min(end, first + 4n), both included. As
    published, a clip of 26 to 49 frames is run through backwards, and one of 50 gives frame 25 n
    times. The generator is that of `continuous`.

    Raises ValueError for a clip with fewer than 26 frames, where the published code fails too, for
    n < 1, and for a seed outside [0, 2**32).
    """
    _check("continuous_polish", n_frames, n, least_frames=_EDGE + 1)
    end = n_frames - _EDGE
    first = _draw(seed, _EDGE, end - _STRIDE * n)
    return _spread(first, min(end, first + _STRIDE * n), n)


def two_clips(n_frames: int) -> list[list[int]]:
    """The first and the last 16 of every fourth frame: MERTools' rule for sunlicai's VideoMAE.

    [2][16] frame numbers. Of fewer than 16 such frames the last is repeated, and both are equal.

    Raises ValueError for a clip without frames.
    """
    _check("two_clips", n_frames)
    numbers = _filled(list(range(0, n_frames, _STRIDE)), _WINDOW)
    return [numbers[:_WINDOW], numbers[-_WINDOW:]]


def windows(n_frames: int) -> list[list[int]]:
    """16 frames about each frame: MERTools' windows for sun's VideoMAE at FRAME level.

    [n_frames][16] frame numbers. For frame f of N: f - 8 … f + 7; where f < 10 it is 0 … 15
    instead, else where f > N - 10 it is N - 17 … N - 2. As published, a number beyond the clip is
    its last frame, and a negative one counts from the clip's end (N = 11 … 16).

    Raises ValueError for a clip without frames.
    """
    _check("windows", n_frames)
    return [_window(n_frames, frame) for frame in range(n_frames)]


def constant_clips(
    duration: Fraction | float, n: int, seconds: Fraction | float
) -> list[tuple[Fraction, Fraction]]:
    """Start and end of n clips of equal length, evenly over a recording; in seconds, exact.

    Clip i starts at i * max(duration - seconds, 0) / n, so the last one ends before the recording
    does, and clips of a recording that is no longer than one are all the same and may reach beyond
    its end. This is PyTorchVideo's constant-clips rule, of which AffectGPT takes 8 of 2 seconds
    after padding to 2 seconds; its samples are ``int(start * rate)`` up to ``int(end * rate)``.

    Each number counts for exactly what it is. AffectGPT divides in floating point, so its starts
    come from ``samples / rate``; with ``Fraction(samples, rate)`` some lie one sample later.

    Raises ValueError for n < 1, and for times that are not finite or not positive.
    """
    if n < 1:
        raise ValueError(f"constant_clips takes n >= 1, not {n}")
    for what, time in (("a recording", duration), ("clips", seconds)):
        if not (math.isfinite(time) and time > 0):
            raise ValueError(f"constant_clips takes {what} of more than 0 seconds, not {time}")
    length = Fraction(seconds)
    step = max(Fraction(duration) - length, Fraction(0)) / n
    return [(i * step, i * step + length) for i in range(n)]


class _Peak(NamedTuple):
    at: int
    before: int
    after: int
    total: int


def _eight(peak: _Peak | None, n_frames: int) -> list[int]:
    if peak is None:
        return _spread(0, n_frames - 1, _PEAK_FRAMES)
    if peak.before == 0:
        below, above = 0, _NEAR
    elif peak.after == 0:
        below, above = _NEAR, 0
    else:
        below, above = min(peak.before, _NEAR), min(peak.after, _NEAR)
    chosen = {peak.at, *range(max(peak.at - below, 0), peak.at)}
    chosen.update(range(peak.at + 1, min(peak.at + above + 1, peak.total)))
    left = peak.total - sum(number < peak.total for number in chosen)
    missing = _PEAK_FRAMES - len(chosen)
    if left > missing:
        places = [int(i * (left / missing)) for i in range(missing)]
    else:
        places = list(range(left))
    numbers = sorted([*chosen, *(_unchosen(place, chosen) for place in places)])
    rounds = math.ceil(_PEAK_FRAMES / len(numbers))
    return sorted((numbers * rounds)[:_PEAK_FRAMES])


def _unchosen(place: int, chosen: set[int]) -> int:
    """The number at `place` among those from 0 on that are not chosen."""
    for number in sorted(chosen):
        place += place >= number
    return place


def _check_strict(peak: _Peak | None, numbers: list[int], n_frames: int, n: int) -> None:
    if n < _PEAK_FRAMES:
        raise ValueError(f"emotion_peak gives {_PEAK_FRAMES} frames or more, not {n}")
    if peak and peak.at >= peak.total:
        raise ValueError(f"au_info's peak_index {peak.at} is not among its {peak.total} frames")
    if numbers[-1] >= n_frames:
        raise ValueError(
            f"emotion_peak asks for frame {numbers[-1]} of a clip that has {n_frames}: its au_info "
            f"is of another version of the clip, or wrong; analyse the clip anew"
        )


def _first_peak(au_info: Mapping[str, Any]) -> _Peak | None:
    if not isinstance(au_info, Mapping):
        raise ValueError(f"au_info must be an object, not {type(au_info).__name__}")
    peaks = au_info.get("peak_frames")
    if not peaks:
        return None
    if not isinstance(peaks, list) or not isinstance(peaks[0], Mapping):
        raise ValueError("au_info's peak_frames is no list of objects")
    return _Peak(
        at=_count(peaks[0], "peak_index"),
        before=_count(peaks[0], "frames_before_peak"),
        after=_count(peaks[0], "frames_after_peak"),
        total=_count(au_info, "total_frames"),
    )


def _count(source: Mapping[str, Any], key: str) -> int:
    value = source.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        found = "missing" if key not in source else repr(value)
        raise ValueError(f"au_info's {key} must be a number of frames, and is {found}")
    return value


def _window(n_frames: int, frame: int) -> list[int]:
    if frame < 10:
        first = 0
    elif frame > n_frames - 10:
        first = n_frames - 17
    else:
        first = frame - 8
    numbers = range(first, first + _WINDOW)
    return [min(number, n_frames - 1) if number >= 0 else number + n_frames for number in numbers]


def _spread(first: int, last: int, n: int) -> list[int]:
    """The whole parts of n numbers evenly from `first` to `last`, rounded as NumPy's linspace."""
    return [int(number) for number in np.linspace(first, last, n)]


def _filled(numbers: list[int], n: int) -> list[int]:
    """The last one again until there are n."""
    return numbers + numbers[-1:] * (n - len(numbers))


def _draw(seed: int, low: int, high: int) -> int:
    """A whole number in [low, max(low + 1, high)) from NumPy's old generator, which never changes."""
    generator = np.random.RandomState(_seed(seed, 2**32))
    return int(generator.randint(low, max(low + 1, high)))


def _seed(seed: int, end: int | None = None) -> int:
    if seed < 0 or (end is not None and seed >= end):
        raise ValueError(f"a seed is 0 or more{f' and below {end}' if end else ''}, not {seed}")
    return seed


def _check(rule: str, n_frames: int, n: int = 1, least: int = 1, least_frames: int = 1) -> None:
    least_frames = max(least, least_frames)
    if n_frames < least_frames or n < least:
        raise ValueError(
            f"{rule} takes n >= {least} of n_frames >= {least_frames}, not {n} of {n_frames}"
        )

"""Sampling rules: which frames of a clip stand for it."""

import math


def uniform(n_frames: int, n: int) -> list[int]:
    """Frame numbers spread evenly from the first frame on: AffectGPT's `uniform` rule, exactly.

    With k = min(n, n_frames), they are the whole parts of 0, s, 2s, … below `n_frames`, where
    s = n_frames / k, and the last one again until there are n. So the last frame of a longer clip
    is never taken, and of a clip with fewer than n frames every frame is, in order.

    The published rule counts in floating point, and so does this one: where rounding makes the
    last multiple fall just below `n_frames`, there is one number more than asked for (n = 7 with
    17, 34, 41, 61, … frames). No n that is in use (1, 2, 4, 5, 6, 8, 9, 10, 12, 16, 32) does that.

    Raises ValueError for a clip without frames and for n < 1.
    """
    if n_frames < 1 or n < 1:
        raise ValueError(f"uniform takes n >= 1 of n_frames >= 1, not {n} of {n_frames}")
    step = n_frames / min(n, n_frames)
    # How many values a float range with this end and step has: one too many where n_frames / step
    # rounds up past a whole number. The multiples must be products, a running sum would drift.
    count = math.ceil(n_frames / step)
    numbers = [int(i * step) for i in range(count)]
    return numbers + numbers[-1:] * (n - count)

"""Mixing noise into speech at a signal-to-noise ratio.

Source: the mixing of MER2023's and MER2024's noise track (MER-NOISE), as MERTools does it.
"""

import math
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

RATE = 16_000  # Hz, of all that is mixed
LOW, HIGH = -32768, 32767


class Mixed(NamedTuple):
    """``samples``: int16 [T]. ``gain``: by which the noise was multiplied before it was added;
    ``scale``: by which the sum was afterwards, 1 where it fitted into 16 bits.
    """

    samples: Samples
    gain: float
    scale: float


def rms(samples: Samples) -> float:
    """Root of the mean square of int16 samples.

    The squares are added as integers, so that the order in which a machine adds does not matter.
    (Up to 2^53, nine minutes of full scale, adding floats gives the same.)
    """
    wide = samples.astype(np.int64)
    return math.sqrt(int(np.dot(wide, wide)) / len(samples))


def mix(clean: Samples, noise: Samples, snr: float) -> Mixed:
    """Both int16 [T]; `snr` in dB.

    The noise gets the gain by which its rms is that of the clean sound / 10^(snr/20), and is added
    in float64. Where the sum leaves the range of 16 bits, all of it is scaled so that its larger
    side just touches the end. Samples are cut to integers, towards zero.

    Raises ValueError for sounds that differ in length, are empty or silent, or are not int16.
    """
    for what, sound in (("clean sound", clean), ("noise", noise)):
        if sound.dtype != np.int16 or sound.ndim != 1:
            raise ValueError(f"the {what} is {sound.dtype} {list(sound.shape)}, not int16 [T]")
        if not sound.any():
            raise ValueError(f"the {what} is silent: it has no signal-to-noise ratio")
    if len(clean) != len(noise):
        raise ValueError(f"{len(clean)} samples of clean sound and {len(noise)} of noise")
    gain = rms(clean) / amplitude(snr) / rms(noise)
    mixed = clean.astype(np.float64) + noise.astype(np.float64) * gain
    low, high = float(mixed.min()), float(mixed.max())
    scale = 1.0
    if high > HIGH or low < LOW:
        scale = HIGH / high if high >= abs(low) else LOW / low
        mixed *= scale
    return Mixed(mixed.astype(np.int16), gain, scale)


def amplitude(snr: float) -> float:
    """10^(snr/20), the nearest float64 on every machine, which a C library need not give."""
    return float(Decimal(10) ** (Decimal(snr) / 20))

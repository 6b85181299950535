"""Blur as MER-NOISE makes it: an image is made smaller by a Gaussian pyramid, and large again.

Source: the pyramid of Burt and Adelson (1983), in the integer arithmetic of OpenCV's ``pyrDown`` and
``pyrUp`` for 8-bit images, bit for bit. Both weigh with 1, 4, 6, 4, 1 down and across.
"""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_Sums = npt.NDArray[np.uint16]

RATES = (1, 2, 4)


def blurred(image: Pixels, rate: int) -> Pixels:
    """uint8 [H, W, C], by log2(`rate`) steps down and as many up; `rate` 1 leaves it as it is.

    The result is as large as the image where `rate` divides its sides; else a side is what it is
    when it is rounded up to a multiple of `rate`. Raises ValueError for a rate not in `RATES`.
    """
    if rate not in RATES:
        raise ValueError(f"blur {rate!r}: choose of {', '.join(map(str, RATES))}")
    steps = rate.bit_length() - 1
    for _ in range(steps):
        image = pyr_down(image)
    for _ in range(steps):
        image = pyr_up(image)
    return image


def pyr_down(image: Pixels) -> Pixels:
    """uint8 [H, W, C] to [(H + 1) // 2, (W + 1) // 2, C]: ``cv2.pyrDown`` with its defaults.

    Beyond an edge the image goes on mirrored, the edge not repeated.
    """
    rows = _down(image.astype(np.uint16))
    sums = _down(rows.swapaxes(0, 1)).swapaxes(0, 1)
    return np.ascontiguousarray((sums + 128) >> 8, np.uint8)


def pyr_up(image: Pixels) -> Pixels:
    """uint8 [H, W, C] to [2 H, 2 W, C]: ``cv2.pyrUp`` with its defaults.

    Before the first row or column the image goes on mirrored, after the last that one is repeated.
    """
    columns = _up(image.astype(np.uint16).swapaxes(0, 1)).swapaxes(0, 1)
    return np.ascontiguousarray((_up(columns) + 32) >> 6, np.uint8)


def _down(values: _Sums) -> _Sums:
    """16 times every second row, smoothed. The largest sum of both directions, 255 * 256, fits."""
    length = len(values)
    padded = values[_mirrored(length)]
    before, left, middle, right, after = (
        padded[shift : shift + 2 * ((length + 1) // 2) - 1 : 2] for shift in range(5)
    )
    sums: _Sums = before + after + (left + right) * np.uint16(4) + middle * np.uint16(6)
    return sums


def _up(values: _Sums) -> _Sums:
    """8 times the rows, and between them as many more."""
    last = len(values) - 1
    before = np.concatenate([values[min(1, last)][None], values[:-1]])
    after = np.concatenate([values[1:], values[last:]])
    sums: _Sums = np.empty((2 * len(values), *values.shape[1:]), np.uint16)
    sums[0::2] = before + values * np.uint16(6) + after
    sums[1::2] = (values + after) * np.uint16(4)
    return sums


def _mirrored(length: int) -> npt.NDArray[np.intp]:
    """Which rows stand for those from -2 to length + 1."""
    places = np.abs(np.arange(-2, length + 2))
    period = max(2 * (length - 1), 1)
    places %= period
    return np.minimum(places, period - places) if length > 1 else np.zeros_like(places)

"""Blur by an image pyramid."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merstore.noise.blur import RATES, Pixels, blurred, pyr_down, pyr_up

SIDE = st.integers(1, 24)
IMAGES = st.tuples(SIDE, SIDE).flatmap(
    lambda size: arrays.arrays(
        np.uint8, (*size, 3), elements=st.sampled_from([0, 1, 127, 254, 255]) | st.integers(0, 255)
    )
)


@given(IMAGES)
def test_the_pyramid_is_opencvs_bit_for_bit(image: Pixels) -> None:
    assert np.array_equal(pyr_down(image), cv2.pyrDown(image))
    assert np.array_equal(pyr_up(image), cv2.pyrUp(image))


@pytest.mark.parametrize("size", [(120, 160), (181, 321), (37, 64), (2, 3), (1, 1)])
@pytest.mark.parametrize("rate", RATES)
def test_blur_is_so_many_steps_down_and_up(size: tuple[int, int], rate: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = image
    for step in (cv2.pyrDown, cv2.pyrUp):
        for _ in range({1: 0, 2: 1, 4: 2}[rate]):
            expected = step(expected)
    assert np.array_equal(blurred(image, rate), expected)


@given(SIDE, SIDE, st.sampled_from(RATES))
def test_sides_are_rounded_up_to_a_multiple_of_the_rate(height: int, width: int, rate: int) -> None:
    result = blurred(np.zeros((height, width, 3), np.uint8), rate)
    assert result.shape == (-(-height // rate) * rate, -(-width // rate) * rate, 3)


def test_the_image_stays_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    before = image.copy()
    blurred(image, 4)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("rate", [0, 3, 8, -1])
def test_other_rates_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="choose of 1, 2, 4"):
        blurred(np.zeros((4, 4, 3), np.uint8), rate)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.extract.sampling import uniform

IN_USE = [1, 2, 4, 5, 6, 8, 9, 10, 12, 16, 32]


def published(n_frames: int, n: int) -> list[int]:
    """The published rule, with NumPy's range."""
    k = min(n, n_frames)
    numbers = np.arange(0, n_frames, n_frames / k).astype(int).tolist()
    return numbers + [numbers[-1]] * (n - len(numbers))


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (1, [0, 0, 0, 0, 0, 0, 0, 0]),
        (3, [0, 1, 2, 2, 2, 2, 2, 2]),
        (7, [0, 1, 2, 3, 4, 5, 6, 6]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7]),
        (49, [0, 6, 12, 18, 24, 30, 36, 42]),
        (100, [0, 12, 25, 37, 50, 62, 75, 87]),
    ],
)
def test_published_vectors(n_frames: int, expected: list[int]) -> None:
    assert uniform(n_frames, 8) == expected


@given(n_frames=st.integers(1, 100_000), n=st.integers(1, 300))
def test_is_the_published_rule_for_every_clip(n_frames: int, n: int) -> None:
    assert uniform(n_frames, n) == published(n_frames, n)


@given(n_frames=st.integers(1, 100_000), n=st.sampled_from(IN_USE))
def test_gives_n_frames_that_exist_in_order_from_the_first_on(n_frames: int, n: int) -> None:
    numbers = uniform(n_frames, n)
    assert len(numbers) == n
    assert numbers[0] == 0
    assert numbers == sorted(numbers)
    assert numbers[-1] < n_frames


@given(n_frames=st.integers(2, 100_000), n=st.sampled_from(IN_USE))
def test_takes_the_last_frame_only_of_a_clip_no_longer_than_n(n_frames: int, n: int) -> None:
    assert (n_frames - 1 in uniform(n_frames, n)) == (n_frames <= n)


@pytest.mark.parametrize("n_frames", [17, 34, 41, 61])
def test_seven_frames_are_sometimes_eight_as_published(n_frames: int) -> None:
    assert len(uniform(n_frames, 7)) == 8
    assert len(uniform(n_frames + 1, 7)) == 7


@pytest.mark.parametrize(("n_frames", "n"), [(0, 8), (-1, 8), (10, 0), (10, -8)])
def test_refuses_a_clip_without_frames_and_an_empty_choice(n_frames: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
        uniform(n_frames, n)

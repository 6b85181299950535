"""Frame policies, against the published rules told once more, plainly."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import DecodeError, InvalidKey, MerstoreError
from merstore.run.zeroshot.policies import POLICIES, check, indices

lengths = st.integers(1, 20_000)
rates = st.floats(0.01, 1000, exclude_min=True)
PUBLISHED = [
    "even_8frms",
    "segments_4frms",
    "segments_8frms",
    "strided_16frms",
    "middles_100frms",
    "seconds",
    "seconds_100frms",
]


def half_even(value: float) -> int:
    whole = int(value)
    if value - whole == 0.5:
        return whole + whole % 2
    return int(value + 0.5)


def evenly(last: int, n: int) -> list[int]:
    step = last / (n - 1)
    return [int(i * step) for i in range(n - 1)] + [last]


@given(lengths)
def test_eight_frames_from_the_first_to_the_last(total: int) -> None:
    assert indices("even_8frms", total) == [i * (total - 1) // 7 for i in range(8)]


@given(lengths, st.sampled_from([4, 8]))
def test_a_frame_of_each_of_n_stretches(total: int, n: int) -> None:
    size = (total - 1) / n
    expected = [int(size / 2) + half_even(size * i) for i in range(n)]
    assert indices(f"segments_{n}frms", total) == expected


@given(lengths)
def test_sixteen_frames_in_whole_strides(total: int) -> None:
    assert indices("strided_16frms", total) == [i * (total // 16) for i in range(16)]


@given(lengths)
def test_the_middles_of_up_to_100_equal_stretches(total: int) -> None:
    count = total if total < 100 else 100
    size = (total - 1) / count
    edges = [half_even(size * i) for i in range(count + 1)]
    expected = [(edges[i] + edges[i + 1]) // 2 for i in range(count)]
    assert indices("middles_100frms", total) == expected


@given(lengths, rates)
def test_a_frame_of_each_second(total: int, fps: float) -> None:
    stride = half_even(fps) or 1
    assert indices("seconds", total, fps) == [f for f in range(total) if f % stride == 0]


@given(lengths, rates)
def test_no_more_than_100_of_them_the_first_and_the_last_among_them(total: int, fps: float) -> None:
    every = indices("seconds", total, fps)
    thinned = indices("seconds_100frms", total, fps)
    if len(every) <= 100:
        assert thinned == every
    else:
        assert thinned == [every[place] for place in evenly(len(every) - 1, 100)]


@pytest.mark.parametrize(
    ("policy", "n_frames", "fps", "expected"),
    [
        ("even_8frms", 75, None, [0, 10, 21, 31, 42, 52, 63, 74]),
        ("segments_4frms", 75, None, [9, 27, 46, 65]),  # 18.5: to 18, and 55.5 to 56
        ("segments_8frms", 75, None, [4, 13, 22, 32, 41, 50, 60, 69]),
        ("strided_16frms", 75, None, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60]),
        ("seconds", 75, 25.0, [0, 25, 50]),
        ("seconds", 76, 25.0, [0, 25, 50, 75]),
        ("seconds", 76, 29.97, [0, 30, 60]),
        ("middles_100frms", 5, None, [0, 1, 2, 2, 3]),
    ],
)
def test_by_hand(policy: str, n_frames: int, fps: float | None, expected: list[int]) -> None:
    assert indices(policy, n_frames, fps) == expected


@given(st.sampled_from(PUBLISHED), st.integers(1, 3000), rates)
def test_frames_exist_and_come_in_order(policy: str, total: int, fps: float) -> None:
    chosen = indices(policy, total, fps)
    assert chosen
    assert 0 <= chosen[0] <= chosen[-1] < total
    assert chosen == sorted(chosen)
    assert all(type(number) is int for number in chosen)


@pytest.mark.parametrize("policy", PUBLISHED)
def test_a_single_frame_is_all_there_is_to_see(policy: str) -> None:
    times = {"even_8frms": 8, "segments_4frms": 4, "segments_8frms": 8, "strided_16frms": 16}
    assert indices(policy, 1, 25.0) == [0] * times.get(policy, 1)


@pytest.mark.parametrize(
    ("policy", "n_frames", "expected"),
    [
        ("even_8frms", 3, [0, 0, 0, 0, 1, 1, 1, 2]),
        ("segments_8frms", 3, [0, 0, 0, 1, 1, 1, 2, 2]),
        ("strided_16frms", 15, [0] * 16),
        ("middles_100frms", 3, [0, 1, 1]),
    ],
)
def test_clips_shorter_than_the_policy(policy: str, n_frames: int, expected: list[int]) -> None:
    assert indices(policy, n_frames) == expected


@pytest.mark.parametrize("policy", PUBLISHED)
def test_a_clip_without_frames_is_refused(policy: str) -> None:
    with pytest.raises(DecodeError, match="no frames"):
        indices(policy, 0, 25.0)


@pytest.mark.parametrize("fps", [None, 0, 0.0, -25.0, float("nan"), float("inf")])
def test_only_policies_of_seconds_need_the_frame_rate(fps: float | None) -> None:
    for policy in PUBLISHED:
        if not policy.startswith("seconds"):
            assert indices(policy, 50, fps) == indices(policy, 50, 25.0)
            continue
        with pytest.raises(DecodeError, match="frame rate") as caught:
            indices(policy, 50, fps)
        assert caught.value.kind == "decode_error"


@pytest.mark.parametrize(
    "policy", ["", "even", "even_0frms", "even_8", "uniform_8frms", "seconds_"]
)
@pytest.mark.parametrize(
    "call", [check, lambda policy: indices(policy, 10, 25.0)], ids=["check", "indices"]
)
def test_an_unknown_policy_is_refused_with_those_there_are(
    policy: str, call: Callable[[str], object]
) -> None:
    with pytest.raises(InvalidKey) as caught:
        call(policy)
    assert isinstance(caught.value, MerstoreError)
    assert all(known in str(caught.value) for known in POLICIES)

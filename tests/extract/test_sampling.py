"""Sampling rules, against the published vectors and against the rules told once more, plainly."""

import math
import random
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from merstore.extract.sampling import (
    constant_clips,
    continuous,
    continuous_polish,
    drawn,
    emotion_peak,
    headtail,
    segments,
    two_clips,
    uniform,
    windows,
)

IN_USE = [1, 2, 4, 5, 6, 8, 9, 10, 12, 16, 32, 64]

lengths = st.integers(1, 5000)
counts = st.integers(1, 80)
seeds = st.integers(0, 2**32 - 1)


def is_plain(numbers: list[int]) -> bool:
    """Whether it is a list of Python's own whole numbers, as JSON and indexing want them."""
    return type(numbers) is list and all(type(number) is int for number in numbers)


class TestUniform:
    def published(self, n_frames: int, n: int) -> list[int]:
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
    def test_vectors_of_affectgpt(self, n_frames: int, expected: list[int]) -> None:
        assert uniform(n_frames, 8) == expected

    @pytest.mark.parametrize(
        ("n_frames", "expected"),
        [
            (1, [0] * 16),
            (5, [0, 1, 2, 3] + [4] * 12),
            (20, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]),
            (85, [0, 5, 10, 15, 21, 26, 31, 37, 42, 47, 53, 58, 63, 69, 74, 79]),
        ],
    )
    def test_vectors_of_mertools(self, n_frames: int, expected: list[int]) -> None:
        assert uniform(n_frames, 16) == expected

    @given(n_frames=st.integers(1, 100_000), n=st.integers(1, 300))
    def test_is_the_published_rule_for_every_clip(self, n_frames: int, n: int) -> None:
        assert uniform(n_frames, n) == self.published(n_frames, n)

    @given(n_frames=st.integers(1, 100_000), n=st.sampled_from([8, 16, 64]))
    def test_is_mertools_rule_in_whole_numbers(self, n_frames: int, n: int) -> None:
        k = min(n, n_frames)
        assert uniform(n_frames, n) == [min(i, k - 1) * n_frames // k for i in range(n)]

    @given(n_frames=st.integers(1, 100_000), n=st.sampled_from(IN_USE))
    def test_gives_n_frames_that_exist_in_order_from_the_first_on(
        self, n_frames: int, n: int
    ) -> None:
        numbers = uniform(n_frames, n)
        assert is_plain(numbers)
        assert len(numbers) == n
        assert numbers[0] == 0
        assert numbers == sorted(numbers)
        assert numbers[-1] < n_frames

    @given(n_frames=st.integers(2, 100_000), n=st.sampled_from(IN_USE))
    def test_takes_the_last_frame_only_of_a_clip_no_longer_than_n(
        self, n_frames: int, n: int
    ) -> None:
        assert (n_frames - 1 in uniform(n_frames, n)) == (n_frames <= n)

    @pytest.mark.parametrize("n_frames", [17, 34, 41, 61])
    def test_seven_frames_are_sometimes_eight_as_published(self, n_frames: int) -> None:
        assert len(uniform(n_frames, 7)) == 8
        assert len(uniform(n_frames + 1, 7)) == 7

    @pytest.mark.parametrize(("n_frames", "n"), [(0, 8), (-1, 8), (10, 0), (10, -8)])
    def test_refuses_a_clip_without_frames_and_an_empty_choice(self, n_frames: int, n: int) -> None:
        with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
            uniform(n_frames, n)


class TestHeadtail:
    def published(self, n_frames: int, n: int, seed: int) -> list[int]:
        """The published rule with Python's own generator, whose state is left as it was."""
        state = random.getstate()
        random.seed(seed)
        half = min(n, n_frames) // 2
        numbers = sorted(random.sample(range(n_frames // 2), half))
        numbers += sorted(random.sample(range(n_frames // 2, n_frames), half))
        random.setstate(state)
        return numbers + [numbers[-1]] * (n - len(numbers))

    @pytest.mark.parametrize(
        ("n_frames", "n", "seed", "expected"),
        [
            (2, 2, 0, [0, 1]),
            (2, 6, 0, [0, 1, 1, 1, 1, 1]),
            (8, 8, 0, [0, 1, 2, 3, 4, 5, 6, 7]),
            (100, 6, 0, [24, 26, 48, 52, 66, 82]),
            (101, 6, 1, [8, 36, 48, 54, 57, 66]),
            (49, 8, 42, [0, 3, 20, 23, 28, 31, 32, 47]),
            (5, 5, 3, [0, 1, 3, 4, 4]),
            (3000, 12, 123, [107, 178, 220, 545, 548, 834, 1578, 2180, 2197, 2276, 2598, 2651]),
        ],
    )
    def test_vectors(self, n_frames: int, n: int, seed: int, expected: list[int]) -> None:
        assert headtail(n_frames, n, seed) == expected

    @given(n_frames=st.integers(2, 5000), n=st.integers(2, 80), seed=seeds)
    def test_is_the_published_rule_after_seeding(self, n_frames: int, n: int, seed: int) -> None:
        assert headtail(n_frames, n, seed) == self.published(n_frames, n, seed)

    @given(n_frames=st.integers(2, 5000), n=st.integers(2, 80), seed=seeds)
    def test_gives_n_in_order_as_many_different_ones_of_each_half(
        self, n_frames: int, n: int, seed: int
    ) -> None:
        numbers = headtail(n_frames, n, seed)
        assert is_plain(numbers)
        assert len(numbers) == n
        assert numbers == sorted(numbers)
        assert 0 <= numbers[0] <= numbers[-1] < n_frames
        half = min(n, n_frames) // 2
        assert sum(number < n_frames // 2 for number in set(numbers)) == half
        assert sum(number >= n_frames // 2 for number in set(numbers)) == half

    def test_leaves_pythons_generator_alone_and_does_not_read_it(self) -> None:
        random.seed(1)
        before = random.getstate()
        first = headtail(1000, 6, 7)
        assert random.getstate() == before
        random.seed(2)
        assert headtail(1000, 6, 7) == first
        assert headtail(1000, 6, 8) != first

    @pytest.mark.parametrize(
        ("n_frames", "n", "seed", "why"),
        [
            (1, 6, 0, "6 of 1"),
            (10, 1, 0, "1 of 10"),
            (0, 6, 0, "6 of 0"),
            (10, 6, -1, "seed .* -1"),
        ],
    )
    def test_refuses_what_the_published_code_dies_of(
        self, n_frames: int, n: int, seed: int, why: str
    ) -> None:
        with pytest.raises(ValueError, match=why):
            headtail(n_frames, n, seed)


def au_info(total: int, at: int, before: int, after: int) -> dict[str, Any]:
    peak = {"peak_index": at, "frames_before_peak": before, "frames_after_peak": after}
    return {"total_frames": total, "peak_frames": [peak]}


def smart8(info: dict[str, Any], n_frames: int) -> list[int]:
    """The eight-frame rule as told in prose, case by case, slowly."""
    if not info.get("peak_frames"):
        return np.linspace(0, n_frames - 1, 8).astype(int).tolist()
    first = info["peak_frames"][0]
    p, total = first["peak_index"], info["total_frames"]
    before, after = first["frames_before_peak"], first["frames_after_peak"]
    if before == 0:
        wanted = [1, 2]
    elif after == 0:
        wanted = [-1, -2]
    elif before >= 2 and after >= 2:
        wanted = [-1, -2, 1, 2]
    elif before == 1 and after >= 2:
        wanted = [-1, 1, 2]
    elif before >= 2 and after == 1:
        wanted = [1, -1, -2]
    else:
        wanted = [-1, 1]
    chosen = {p}
    for offset in wanted:
        if (offset < 0 and p >= -offset) or (offset > 0 and p + offset < total):
            chosen.add(p + offset)
    missing = 8 - len(chosen)
    rest = [i for i in range(total) if i not in chosen]
    if len(rest) <= missing:
        chosen.update(rest)
    else:
        step = len(rest) / missing
        chosen.update(rest[int(i * step)] for i in range(missing))
    for i in range(total):
        if len(chosen) < min(8, total):
            chosen.add(i)
    numbers = sorted(chosen)
    again = 0
    while len(numbers) < 8:
        numbers.append(sorted(chosen)[again % len(chosen)])
        again += 1
    return sorted(numbers)[:8]


consistent = st.integers(1, 2000).flatmap(
    lambda total: st.integers(0, total - 1).map(
        lambda at: au_info(total, at, at, total - 1 - at),
    )
)
anything = st.builds(
    au_info,
    st.integers(0, 60),
    st.integers(0, 70),
    st.integers(0, 4),
    st.integers(0, 4),
)


class TestEmotionPeak:
    @pytest.mark.parametrize(
        ("peak", "expected"),
        [
            ((45, 10, 10, 34), [0, 8, 9, 10, 11, 12, 18, 31]),
            ((44, 42, 42, 1), [0, 10, 20, 30, 40, 41, 42, 43]),
            ((44, 1, 1, 42), [0, 1, 2, 3, 4, 14, 24, 34]),
            ((44, 0, 0, 43), [0, 1, 2, 3, 11, 19, 27, 35]),
            ((44, 43, 43, 0), [0, 8, 16, 24, 32, 41, 42, 43]),
            ((44, 20, 0, 0), [0, 8, 16, 20, 21, 22, 27, 35]),
            ((3, 1, 1, 1), [0, 0, 0, 1, 1, 1, 2, 2]),
            ((1, 0, 0, 0), [0, 0, 0, 0, 0, 0, 0, 0]),
            ((5, 2, 2, 2), [0, 0, 1, 1, 2, 2, 3, 4]),
            ((9, 4, 4, 4), [0, 1, 2, 3, 4, 5, 6, 7]),
            ((45, 0, 0, 44), [0, 1, 2, 3, 11, 19, 28, 36]),
            ((45, 44, 44, 0), [0, 8, 16, 25, 33, 42, 43, 44]),
            ((45, 1, 1, 43), [0, 1, 2, 3, 4, 14, 24, 34]),
            ((45, 43, 43, 1), [0, 10, 20, 30, 41, 42, 43, 44]),
            ((88, 87, 87, 0), [0, 17, 34, 51, 68, 85, 86, 87]),
            ((8, 3, 3, 4), [0, 1, 2, 3, 4, 5, 6, 7]),
        ],
    )
    def test_vectors_with_a_peak(
        self, peak: tuple[int, int, int, int], expected: list[int]
    ) -> None:
        info = au_info(*peak)
        assert emotion_peak(info, peak[0]) == expected
        assert emotion_peak(info, peak[0], variant="reader") == expected
        assert emotion_peak(info, peak[0], variant="extractor") == expected

    @pytest.mark.parametrize(
        ("n_frames", "expected"),
        [
            (100, [0, 14, 28, 42, 56, 70, 84, 99]),
            (5, [0, 0, 1, 1, 2, 2, 3, 4]),
            (60, [0, 8, 16, 25, 33, 42, 50, 59]),
            (45, [0, 6, 12, 18, 25, 31, 37, 44]),
        ],
    )
    def test_vectors_without_a_peak(self, n_frames: int, expected: list[int]) -> None:
        info = {"total_frames": n_frames, "peak_frames": []}
        assert emotion_peak(info, n_frames) == expected
        assert emotion_peak({"total_frames": n_frames}, n_frames) == expected
        assert emotion_peak(info, n_frames, variant="reader") == expected
        assert emotion_peak(None, n_frames, variant="extractor") == expected
        assert emotion_peak({}, n_frames, variant="extractor") == expected

    def test_vectors_of_a_peak_that_belongs_to_a_longer_clip(self) -> None:
        info = au_info(88, 80, 80, 7)
        assert emotion_peak(info, 44, variant="reader") == [0, 27, 55, 78, 79, 80, 81, 82]
        assert emotion_peak(info, 44, variant="extractor") == [0, 27, 43, 43, 43, 43, 43, 43]
        with pytest.raises(ValueError, match="frame 82 of a clip that has 44"):
            emotion_peak(info, 44)

    @given(info=consistent)
    def test_is_the_published_rule(self, info: dict[str, Any]) -> None:
        total = info["total_frames"]
        assert emotion_peak(info, total) == smart8(info, total)

    @given(info=anything, n_frames=st.integers(1, 80))
    def test_is_the_published_rule_where_the_counts_contradict_each_other(
        self, info: dict[str, Any], n_frames: int
    ) -> None:
        expected = smart8(info, n_frames)
        assert emotion_peak(info, n_frames, variant="reader") == expected
        clamped = [min(number, n_frames - 1) for number in expected]
        assert emotion_peak(info, n_frames, variant="extractor") == clamped
        fits = expected[-1] < n_frames
        if fits and info["peak_frames"][0]["peak_index"] < info["total_frames"]:
            assert emotion_peak(info, n_frames) == expected
        else:
            with pytest.raises(ValueError):
                emotion_peak(info, n_frames)

    @given(n_frames=st.integers(1, 100_000))
    def test_without_a_peak_it_is_numpys_linspace(self, n_frames: int) -> None:
        expected = np.linspace(0, n_frames - 1, 8).astype(int).tolist()
        assert emotion_peak({"peak_frames": []}, n_frames) == expected

    @given(info=consistent, n=st.integers(8, 40))
    def test_gives_n_frames_that_exist_in_order_with_the_peak_and_its_neighbours(
        self, info: dict[str, Any], n: int
    ) -> None:
        total, at = info["total_frames"], info["peak_frames"][0]["peak_index"]
        numbers = emotion_peak(info, total, n)
        assert is_plain(numbers)
        assert len(numbers) == n
        assert numbers == sorted(numbers)
        assert 0 <= numbers[0] <= numbers[-1] < total
        assert len(set(numbers)) == min(8, total)
        assert {i for i in (at - 1, at, at + 1) if 0 <= i < total} <= set(numbers)
        assert numbers[8:] == [numbers[7]] * (n - 8)

    def test_only_the_first_peak_counts(self) -> None:
        one = au_info(45, 10, 10, 34)
        two = au_info(45, 30, 30, 14)
        both = one | {"peak_frames": one["peak_frames"] + two["peak_frames"]}
        assert emotion_peak(both, 45) == emotion_peak(one, 45) != emotion_peak(two, 45)

    @given(n_frames=lengths, n=counts)
    def test_the_middle_frame_is_taken_only_where_it_is_asked_for_by_name(
        self, n_frames: int, n: int
    ) -> None:
        middle = [n_frames // 2] * n
        info = au_info(n_frames, 0, 0, n_frames - 1)
        assert emotion_peak(None, n_frames, n, variant="reader") == middle
        assert emotion_peak({}, n_frames, n, variant="reader") == middle
        assert emotion_peak(info, n_frames, n, variant="middle") == middle
        for nothing in (None, {}):
            with pytest.raises(ValueError, match="no_au_info"):
                emotion_peak(nothing, n_frames, max(n, 8))

    def test_fewer_than_eight_are_refused_or_ignored_by_name(self) -> None:
        info = au_info(45, 10, 10, 34)
        eight = [0, 8, 9, 10, 11, 12, 18, 31]
        with pytest.raises(ValueError, match="8 frames or more, not 1"):
            emotion_peak(info, 45, 1)
        assert emotion_peak(info, 45, 1, variant="reader") == eight
        assert emotion_peak(info, 45, 1, variant="extractor") == eight
        assert emotion_peak(info, 45, 10) == eight + [31, 31]
        assert emotion_peak(info, 45, 10, variant="reader") == eight + [31, 31]
        assert emotion_peak(info, 45, 10, variant="extractor") == eight

    @pytest.mark.parametrize(
        ("info", "why"),
        [
            ({"total_frames": 45, "peak_frames": [{"peak_index": 10}]}, "before_peak .* missing"),
            ({"peak_frames": au_info(9, 4, 4, 4)["peak_frames"]}, "total_frames .* missing"),
            (au_info(45, "10", 10, 34), "peak_index .* '10'"),  # type: ignore[arg-type]
            (au_info(45, True, 10, 34), "peak_index .* True"),
            (au_info(45, 10.0, 10, 34), r"peak_index .* 10\.0"),  # type: ignore[arg-type]
            (au_info(45, -1, 10, 34), "peak_index .* -1"),
            (au_info(45, 10, 10, -1), "frames_after_peak .* -1"),
            (au_info(None, 10, 10, 34), "total_frames .* None"),  # type: ignore[arg-type]
            ({"total_frames": 45, "peak_frames": [10]}, "no list of objects"),
            ({"total_frames": 45, "peak_frames": {"peak_index": 10}}, "no list of objects"),
            ([1], "must be an object, not list"),
        ],
    )
    def test_an_au_info_that_cannot_be_followed_is_named(self, info: Any, why: str) -> None:
        for variant in ("strict", "reader"):
            with pytest.raises(ValueError, match=why):
                emotion_peak(info, 45, variant=variant)  # type: ignore[arg-type]
        assert emotion_peak(info, 45, variant="extractor") == uniform(45, 8)

    def test_a_peak_beyond_its_own_clip_is_named(self) -> None:
        with pytest.raises(ValueError, match="peak_index 50 is not among its 44 frames"):
            emotion_peak(au_info(44, 50, 50, 0), 100)

    def test_an_absurd_number_of_frames_costs_nothing(self) -> None:
        info = au_info(10**15, 10, 10, 10**15 - 11)
        with pytest.raises(ValueError, match="of a clip that has 45"):
            emotion_peak(info, 45)
        assert emotion_peak(info, 45, variant="extractor") == [0, 8, 9, 10, 11, 12, 44, 44]

    def test_a_variant_that_is_none_is_named(self) -> None:
        with pytest.raises(ValueError, match="'range'; there is strict, reader, extractor, middle"):
            emotion_peak(au_info(9, 4, 4, 4), 9, variant="range")  # type: ignore[arg-type]

    @pytest.mark.parametrize("variant", ["strict", "reader", "extractor", "middle"])
    @pytest.mark.parametrize(("n_frames", "n"), [(0, 8), (10, 0)])
    def test_refuses_a_clip_without_frames(self, n_frames: int, n: int, variant: Any) -> None:
        with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
            emotion_peak(au_info(9, 4, 4, 4), n_frames, n, variant)


class TestDrawn:
    @given(n_frames=lengths, n=counts, seed=seeds)
    def test_frames_that_exist_in_order_each_once_while_there_are_others(
        self, n_frames: int, n: int, seed: int
    ) -> None:
        numbers = drawn(n_frames, n, seed)
        known = min(n, n_frames)
        assert is_plain(numbers)
        assert len(numbers) == n
        assert len(set(numbers)) == known
        assert numbers == sorted(numbers)
        assert 0 <= numbers[0] <= numbers[-1] < n_frames
        assert numbers[known:] == numbers[-1:] * (n - known)
        assert drawn(n_frames, n, seed) == numbers

    def test_every_frame_is_drawn_as_often_as_any_other(self) -> None:
        times = np.bincount([drawn(10, 1, seed)[0] for seed in range(5000)], minlength=10)
        assert 400 < times.min() <= times.max() < 600

    @pytest.mark.parametrize(("n_frames", "n"), [(0, 1), (10, 0)])
    def test_refuses_a_clip_without_frames_and_an_empty_choice(self, n_frames: int, n: int) -> None:
        with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
            drawn(n_frames, n, 1)


class TestSegments:
    @pytest.mark.parametrize(
        ("n_frames", "n", "expected"),
        [
            (1, 4, [0, 0, 0, 0]),
            (3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),  # halves to even: 0.5 -> 0, 1.5 -> 2
            (9, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
            (17, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
            (100, 4, [12, 37, 62, 86]),  # 24.75 apart, from int(12.375) on; 49.5 -> 50, 74.25 -> 74
            (101, 4, [12, 37, 62, 87]),
        ],
    )
    def test_vectors(self, n_frames: int, n: int, expected: list[int]) -> None:
        assert segments(n_frames, n) == expected

    @given(n_frames=st.integers(1, 100_000), n=counts)
    def test_is_the_published_rule_and_gives_n_frames_that_exist_in_order(
        self, n_frames: int, n: int
    ) -> None:
        numbers = segments(n_frames, n)
        size = (n_frames - 1) / n
        assert numbers == (int(size / 2) + np.rint(size * np.arange(n)).astype(int)).tolist()
        assert is_plain(numbers)
        assert len(numbers) == n
        assert numbers == sorted(numbers)
        assert 0 <= numbers[0] <= numbers[-1] < n_frames

    @pytest.mark.parametrize(("n_frames", "n"), [(0, 8), (10, 0)])
    def test_refuses_a_clip_without_frames_and_an_empty_choice(self, n_frames: int, n: int) -> None:
        with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
            segments(n_frames, n)


class TestContinuous:
    def published(self, n_frames: int, n: int, seed: int) -> list[int]:
        state = np.random.get_state()
        np.random.seed(seed)
        first = np.random.randint(0, max(1, n_frames - n))
        np.random.set_state(state)
        numbers = np.arange(first, min(n_frames, first + n)).tolist()
        while len(numbers) < n:
            numbers.append(numbers[-1])
        return numbers

    @pytest.mark.parametrize(
        ("n_frames", "n", "seed", "expected"),
        [
            (1, 4, 0, [0, 0, 0, 0]),
            (4, 4, 0, [0, 1, 2, 3]),
            (5, 4, 9, [0, 1, 2, 3]),  # never the last frame
            (100, 8, 0, [44, 45, 46, 47, 48, 49, 50, 51]),
            (85, 16, 1, [37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52]),
            (3000, 4, 2**32 - 1, [2467, 2468, 2469, 2470]),
        ],
    )
    def test_vectors(self, n_frames: int, n: int, seed: int, expected: list[int]) -> None:
        assert continuous(n_frames, n, seed) == expected

    @given(n_frames=lengths, n=counts, seed=seeds)
    def test_is_the_published_rule_after_seeding(self, n_frames: int, n: int, seed: int) -> None:
        assert continuous(n_frames, n, seed) == self.published(n_frames, n, seed)

    @given(n_frames=lengths, n=counts, seed=seeds)
    def test_gives_n_frames_in_a_row(self, n_frames: int, n: int, seed: int) -> None:
        numbers = continuous(n_frames, n, seed)
        k = min(n, n_frames)
        assert is_plain(numbers)
        assert numbers[:k] == list(range(numbers[0], numbers[0] + k))
        assert numbers[k:] == [numbers[k - 1]] * (n - k)
        assert 0 <= numbers[0] <= numbers[-1] < n_frames

    def test_every_first_frame_is_drawn(self) -> None:
        assert {continuous(20, 16, seed)[0] for seed in range(200)} == {0, 1, 2, 3}


class TestContinuousPolish:
    def published(self, n_frames: int, n: int, seed: int) -> list[int]:
        start, end = 25, n_frames - 25
        state = np.random.get_state()
        np.random.seed(seed)
        first = np.random.randint(start, max(start + 1, end - 4 * n))
        np.random.set_state(state)
        return np.linspace(first, min(end, first + 4 * n), n).astype(int).tolist()

    @pytest.mark.parametrize(
        ("n_frames", "n", "seed", "expected"),
        [
            (26, 4, 0, [25, 17, 9, 1]),  # shorter than what is left out: backwards, as published
            (50, 4, 0, [25, 25, 25, 25]),
            (53, 4, 0, [25, 26, 27, 28]),
            (82, 8, 5, [25, 29, 34, 38, 43, 47, 52, 57]),
            (200, 8, 0, [69, 73, 78, 82, 87, 91, 96, 101]),
            (500, 16, 1, [62, 66, 70, 74, 79, 83, 87, 91, 96, 100, 104, 108, 113, 117, 121, 126]),
        ],
    )
    def test_vectors(self, n_frames: int, n: int, seed: int, expected: list[int]) -> None:
        assert continuous_polish(n_frames, n, seed) == expected

    @given(n_frames=st.integers(26, 5000), n=counts, seed=seeds)
    def test_is_the_published_rule_after_seeding(self, n_frames: int, n: int, seed: int) -> None:
        assert continuous_polish(n_frames, n, seed) == self.published(n_frames, n, seed)

    @given(n_frames=st.integers(26, 5000), n=counts, seed=seeds)
    def test_gives_n_frames_that_exist(self, n_frames: int, n: int, seed: int) -> None:
        numbers = continuous_polish(n_frames, n, seed)
        assert is_plain(numbers)
        assert len(numbers) == n
        assert min(numbers) >= 0
        assert max(numbers) < n_frames
        if n_frames >= 50:
            assert numbers == sorted(numbers)
            assert 25 <= numbers[0] <= numbers[-1] <= n_frames - 25
            assert numbers[-1] - numbers[0] <= 4 * n

    def test_a_clip_of_a_second_is_refused_as_the_published_code_dies_of_it(self) -> None:
        with pytest.raises(ValueError, match="n_frames >= 26, not 8 of 25"):
            continuous_polish(25, 8, 0)


@pytest.mark.parametrize("rule", [continuous, continuous_polish])
class TestNumPysGenerator:
    def test_is_left_alone_and_not_read(self, rule: Callable[[int, int, int], list[int]]) -> None:
        np.random.seed(1)
        before = np.random.get_state()
        first = rule(10_000, 8, 7)
        assert str(np.random.get_state()) == str(before)
        np.random.seed(2)
        assert rule(10_000, 8, 7) == first
        assert rule(10_000, 8, 8) != first

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_a_seed_that_it_does_not_take_is_named(
        self, rule: Callable[[int, int, int], list[int]], seed: int
    ) -> None:
        with pytest.raises(ValueError, match=f"seed .* {seed}"):
            rule(100, 8, seed)

    @pytest.mark.parametrize(("n_frames", "n"), [(0, 8), (100, 0)])
    def test_refuses_a_clip_without_frames_and_an_empty_choice(
        self, rule: Callable[[int, int, int], list[int]], n_frames: int, n: int
    ) -> None:
        with pytest.raises(ValueError, match=f"{n} of {n_frames}"):
            rule(n_frames, n, 0)


class TestTwoClips:
    @pytest.mark.parametrize(
        ("n_frames", "first", "second"),
        [
            (1, [0] * 16, [0] * 16),
            (10, [0, 4] + [8] * 14, [0, 4] + [8] * 14),
            (64, range(0, 64, 4), range(0, 64, 4)),
            (65, range(0, 64, 4), range(4, 68, 4)),
            (85, range(0, 61, 4), range(24, 85, 4)),
            (200, range(0, 61, 4), range(136, 197, 4)),
        ],
    )
    def test_vectors(self, n_frames: int, first: list[int], second: list[int]) -> None:
        assert two_clips(n_frames) == [list(first), list(second)]

    @given(n_frames=lengths)
    def test_is_the_published_rule(self, n_frames: int) -> None:
        numbers = np.arange(0, n_frames, 4).tolist()
        while len(numbers) < 16:
            numbers.append(numbers[-1])
        start = len(numbers) - 16
        clips = two_clips(n_frames)
        assert clips == [numbers[0:16], numbers[start : start + 16]]
        assert all(is_plain(clip) and max(clip) < n_frames for clip in clips)

    def test_refuses_a_clip_without_frames(self) -> None:
        with pytest.raises(ValueError, match=r"two_clips takes .* of 0"):
            two_clips(0)


class TestWindows:
    @pytest.mark.parametrize(
        ("n_frames", "frame", "expected"),
        [
            (1, 0, [0] * 16),
            (9, 8, [0, 1, 2, 3, 4, 5, 6, 7, 8] + [8] * 7),
            (12, 9, [*range(12), 11, 11, 11, 11]),
            (12, 10, [7, 8, 9, 10, 11, *range(11)]),  # from -5 on, which counts from the end
            (16, 15, [15, *range(15)]),
            (17, 16, range(16)),  # the last frame is never in the last window
            (100, 0, range(16)),
            (100, 9, range(16)),
            (100, 10, range(2, 18)),
            (100, 90, range(82, 98)),
            (100, 91, range(83, 99)),
            (100, 99, range(83, 99)),
        ],
    )
    def test_vectors(self, n_frames: int, frame: int, expected: list[int]) -> None:
        assert windows(n_frames)[frame] == list(expected)

    @given(n_frames=st.integers(1, 300))
    def test_is_the_published_rule_on_a_clip_of_numbered_frames(self, n_frames: int) -> None:
        clip = np.arange(n_frames)
        told = windows(n_frames)
        assert len(told) == n_frames
        for frame, numbers in enumerate(told):
            if frame < 10:
                wanted = np.arange(0, 16)
            elif frame > n_frames - 10:
                wanted = np.arange(n_frames - 17, n_frames - 1)
            else:
                wanted = np.arange(frame - 8, frame + 8)
            wanted[wanted > n_frames - 1] = n_frames - 1
            assert numbers == clip[wanted].tolist()
            assert is_plain(numbers)
            assert min(numbers) >= 0
            assert max(numbers) < n_frames

    @given(n_frames=st.integers(20, 300), data=st.data())
    def test_away_from_the_ends_the_frame_is_the_ninth_of_its_window(
        self, n_frames: int, data: st.DataObject
    ) -> None:
        frame = data.draw(st.integers(10, n_frames - 10))
        assert windows(n_frames)[frame] == list(range(frame - 8, frame + 8))

    def test_refuses_a_clip_without_frames(self) -> None:
        with pytest.raises(ValueError, match=r"windows takes .* of 0"):
            windows(0)


class TestConstantClips:
    RATE = 16_000

    def starts(self, clips: list[tuple[Fraction, Fraction]]) -> list[int]:
        return [int(start * self.RATE) for start, _ in clips]

    def test_vectors_of_affectgpts_demo_recording(self) -> None:
        clips = constant_clips(55_357 / self.RATE, 8, 2)
        assert self.starts(clips) == [0, 2919, 5839, 8758, 11678, 14598, 17517, 20437]
        assert clips == constant_clips(55_357 / self.RATE, 8, 2.0)

    def test_vectors_of_a_short_recording(self) -> None:
        assert constant_clips(2, 8, 2) == [(Fraction(0), Fraction(2))] * 8
        assert constant_clips(Fraction(1, 3), 2, 2) == [(Fraction(0), Fraction(2))] * 2

    def test_a_tenth_is_a_tenth_only_as_a_fraction(self) -> None:
        tenth = Fraction(1, 10)
        assert constant_clips(Fraction(1), 3, tenth)[1] == (Fraction(3, 10), Fraction(4, 10))
        assert constant_clips(1.0, 3, 0.1)[1][1] == (1 + 2 * Fraction(0.1)) / 3

    def test_the_length_in_floating_point_makes_some_starts_a_sample_early(self) -> None:
        published = constant_clips(32_016 / self.RATE, 8, 2)
        exact = constant_clips(Fraction(32_016, self.RATE), 8, 2)
        assert self.starts(published) == [0, 1, 3, 5, 7, 9, 11, 13]
        assert self.starts(exact) == [0, 2, 4, 6, 8, 10, 12, 14]

    @given(samples=st.integers(32_000, 10_000_000))
    def test_is_the_published_rule(self, samples: int) -> None:
        duration = samples / self.RATE
        latest = Fraction(max(duration - Fraction(2), 0))
        expected = [latest / 8 * i for i in range(8)]
        clips = constant_clips(duration, 8, 2)
        assert [start for start, _ in clips] == expected
        for start, end in clips:
            first, last = int(start * self.RATE), int(end * self.RATE)
            assert last - first == 2 * self.RATE
            assert 0 <= first < last <= samples

    @given(
        duration=st.fractions(Fraction(1, 1000), 4000),
        n=st.integers(1, 64),
        seconds=st.fractions(Fraction(1, 1000), 30),
    )
    def test_clips_are_equally_long_equally_far_apart_and_leave_out_the_end(
        self, duration: Fraction, n: int, seconds: Fraction
    ) -> None:
        clips = constant_clips(duration, n, seconds)
        assert len(clips) == n
        assert clips[0][0] == 0
        assert {end - start for start, end in clips} == {seconds}
        apart = {after[0] - before[0] for before, after in pairwise(clips)}
        room = max(duration - seconds, Fraction(0))
        assert apart <= {room / n}
        assert clips[-1][0] == room - room / n

    @given(duration=st.floats(1e-3, 1e6), seconds=st.floats(1e-3, 100))
    def test_a_float_counts_for_what_it_is(self, duration: float, seconds: float) -> None:
        assume(math.isfinite(duration))
        exact = constant_clips(Fraction(duration), 8, Fraction(seconds))
        assert constant_clips(duration, 8, seconds) == exact

    @pytest.mark.parametrize(
        ("duration", "n", "seconds", "why"),
        [
            (0, 8, 2, "a recording .* not 0"),
            (-1.0, 8, 2, "a recording .* not -1"),
            (math.nan, 8, 2, "a recording .* not nan"),
            (math.inf, 8, 2, "a recording .* not inf"),
            (3, 8, 0, "clips .* not 0"),
            (3, 8, math.nan, "clips .* not nan"),
            (3, 0, 2, "n >= 1, not 0"),
        ],
    )
    def test_refuses_times_that_are_none(
        self, duration: float, n: int, seconds: float, why: str
    ) -> None:
        with pytest.raises(ValueError, match=why):
            constant_clips(duration, n, seconds)

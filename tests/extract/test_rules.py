import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import DecodeError, InvalidKey
from merstore.extract import sampling
from merstore.extract.rules import Choice, Rule, named, seed_of

AU_INFO = {
    "total_frames": 45,
    "peak_frames": [{"peak_index": 10, "frames_before_peak": 10, "frames_after_peak": 34}],
}
PEAK = [0, 8, 9, 10, 11, 12, 18, 31]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "rule"),
        [
            ("uniform_8frms", Rule("uniform", 8)),
            ("headtail_6frms", Rule("headtail", 6)),
            ("emotion_peak_8frms", Rule("emotion_peak", 8)),
            ("segments_12frms", Rule("segments", 12)),
            ("random_1frms", Rule("random", 1)),
        ],
    )
    def test_say_the_rule_and_its_number(self, name: str, rule: Rule) -> None:
        assert named(name) == rule
        assert named(name).frames == rule.n

    @pytest.mark.parametrize(
        "name",
        ["", "8frms", "uniform", "uniform_0frms", "uniform_08frms", "uniform_8", "middle_8frms"],
    )
    def test_that_are_not_there_are_refused(self, name: str) -> None:
        with pytest.raises(InvalidKey, match=f"no sampling '{name}'; there is uniform_{{n}}frms, "):
            named(name)

    @pytest.mark.parametrize("n", [7, 11, 13])
    def test_with_a_number_that_uniform_does_not_keep_are_refused(self, n: int) -> None:
        with pytest.raises(InvalidKey, match=f"uniform does not give {n} of .* such as 8"):
            named(f"uniform_{n}frms")

    def test_of_a_number_that_headtail_does_not_keep_are_refused(self) -> None:
        with pytest.raises(InvalidKey, match="both halves of a clip: two or more"):
            named("headtail_1frms")

    @pytest.mark.parametrize(
        ("variant", "n", "gives"), [("strict", 4, 8), ("reader", 6, 8), ("extractor", 10, 8)]
    )
    def test_of_a_number_that_emotion_peak_does_not_keep_are_refused(
        self, variant: sampling.Variant, n: int, gives: int
    ) -> None:
        with pytest.raises(InvalidKey, match=rf"\({variant}\) gives {gives} frames, not {n}"):
            named(f"emotion_peak_{n}frms", variant)


class TestChoices:
    @given(
        st.sampled_from(
            [
                "uniform_8frms",
                "uniform_16frms",
                "headtail_5frms",
                "headtail_6frms",
                "segments_7frms",
                "random_1frms",
                "random_3frms",
            ]
        ),
        st.integers(2, 500),
    )
    def test_are_as_many_as_the_name_says(self, name: str, n_frames: int) -> None:
        rule = named(name)
        chosen = rule.choose(n_frames, "s", None)
        assert len(chosen) == rule.frames
        assert all(0 <= number < n_frames for number in chosen)

    def test_are_those_of_the_pure_functions(self) -> None:
        assert named("uniform_8frms").choose(49, "s", None) == sampling.uniform(49, 8)
        assert named("segments_8frms").choose(49, "s", None) == sampling.segments(49, 8)
        assert named("emotion_peak_8frms").choose(45, "s", AU_INFO) == PEAK
        assert Rule("all").choose(3, "s", None) == [0, 1, 2]
        first, last = sampling.two_clips(85)
        assert Rule("two_clips").choose(85, "s", None) == first + last

    def test_at_random_follow_from_the_samples_name(self) -> None:
        rule = named("headtail_6frms")
        assert seed_of("sample_00000001") == 5748741354714942244
        expected = sampling.headtail(100, 6, 5748741354714942244)
        assert rule.choose(100, "sample_00000001", None) == expected
        assert rule.choose(100, "sample_00000002", None) != expected
        (frame,) = named("random_1frms").choose(100, "sample_00000001", None)
        assert [frame] == sampling.drawn(100, 1, 5748741354714942244) == [2]
        assert named("random_3frms").choose(1, "s", None) == [0, 0, 0]

    def test_of_both_halves_of_one_frame_there_are_none(self) -> None:
        with pytest.raises(DecodeError, match="a single frame") as raised:
            named("headtail_6frms").choose(1, "s", None)
        assert raised.value.kind == "too_short"

    @pytest.mark.parametrize(
        ("n_frames", "au_info", "message"),
        [
            (45, None, "needs MER-Factory's au_info"),
            (20, AU_INFO, "asks for frame 31 of a clip that has 20"),
            (45, {"peak_frames": [{}]}, "peak_index must be a number of frames"),
        ],
    )
    def test_around_a_peak_need_an_analysis_of_this_clip(
        self, n_frames: int, au_info: dict[str, object] | None, message: str
    ) -> None:
        with pytest.raises(DecodeError, match=message) as raised:
            named("emotion_peak_8frms").choose(n_frames, "s", au_info)
        assert raised.value.kind == "no_au_info"

    @pytest.mark.parametrize("variant", ["reader", "extractor", "middle"])
    def test_around_a_peak_have_the_published_ways_out_where_asked(
        self, variant: sampling.Variant
    ) -> None:
        rule = named("emotion_peak_8frms", variant)
        assert rule.choose(45, "s", None) == sampling.emotion_peak(None, 45, 8, variant)
        assert rule.spec == {"rule": "emotion_peak", "n": 8, "variant": variant}


def test_two_rules_never_share_a_spec() -> None:
    rules = [
        named(f"{rule}_{n}frms")
        for rule in ("uniform", "headtail", "segments", "random")
        for n in (4, 8)
    ]
    rules += [named("emotion_peak_8frms", v) for v in ("strict", "reader", "extractor", "middle")]
    rules += [Rule("all"), Rule("two_clips")]
    assert len({str(rule.spec) for rule in rules}) == len(rules)


@pytest.mark.parametrize("name", ["headtail_6frms", "random_1frms"])
def test_the_seed_is_told(name: str) -> None:
    assert "SHA-256 of the sample's name" in named(name).spec["seed"]


def test_a_choice_can_be_asked_for_again() -> None:
    choice = Choice(named("emotion_peak_8frms"), "s", AU_INFO)
    assert choice(45) == PEAK
    assert pickle.loads(pickle.dumps(choice)) == choice
    assert choice != Choice(named("emotion_peak_8frms"), "t", AU_INFO)

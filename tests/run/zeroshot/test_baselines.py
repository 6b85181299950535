"""The baselines that are known by name: the published ones, as published."""

import dataclasses

import pytest

from merstore.errors import InvalidKey
from merstore.run.decoding import Decoding
from merstore.run.zeroshot import policies
from merstore.run.zeroshot.baselines import Baseline, Sound, find, names

PUBLISHED = [
    "qwen-audio",
    "salmonn",
    "video-chatgpt",
    "chat-univi",
    "mplug-owl",
    "otter",
    "videochat",
    "videochat2",
    "llama-vid",
    "video-llava",
]
NATIVE = {
    "qwen2-audio": "qwen2_audio",
    "audio-flamingo-3": "audioflamingo3",
    "qwen2.5-omni": "qwen2_5_omni",
    "video-llava-hf": "video_llava",
    "llava-next-video": "llava_next_video",
    "llava-onevision": "llava_onevision",
    "qwen2.5-vl": "qwen2_5_vl",
    "internvl": "internvl",
    "smolvlm": "smolvlm",
}


def test_the_published_ten_come_first() -> None:
    assert names() == [*PUBLISHED, *NATIVE]
    assert [find(name).published for name in names()] == [True] * 10 + [False] * 9
    assert {name: find(name).family for name in names()} == dict.fromkeys(PUBLISHED) | NATIVE


# needs, frames, what of its options says how words are chosen, and what is cut: notes on the
# metrics, 7.
@pytest.mark.parametrize(
    ("name", "needs", "frames", "options", "cut"),
    [
        ("Qwen-Audio", "audio", None, {"seed": 1234}, ()),
        (
            "SALMONN",
            "audio",
            None,
            {
                "max_length": 300,
                "num_beams": 4,
                "do_sample": True,
                "top_p": 0.9,
                "temperature": 1.0,
            },
            (),
        ),
        (
            "Video-ChatGPT",
            "video",
            "middles_100frms",
            {"do_sample": True, "temperature": 0.2, "max_new_tokens": 512},
            (),
        ),
        (
            "Chat-UniVi",
            "video",
            "seconds_100frms",
            {"do_sample": True, "temperature": 0.2, "max_new_tokens": 1024, "dtype": "float16"},
            (),
        ),
        (
            "mPLUG-Owl",
            "video",
            "segments_4frms",
            {"do_sample": True, "top_k": 5, "max_length": 512, "dtype": "bfloat16"},
            (),
        ),
        (
            "Otter",
            "video",
            "strided_16frms",
            {
                "num_beams": 3,
                "no_repeat_ngram_size": 3,
                "max_new_tokens": 512,
                "bad_words": ["User:", "GPT1:", "GFT:", "GPT:"],
                "dtype": "float32",
            },
            (),
        ),
        (
            "VideoChat",
            "video",
            "segments_8frms",
            {
                "do_sample": True,
                "top_p": 0.9,
                "temperature": 1.0,
                "max_new_tokens": 1000,
                "dtype": "float32",
            },
            (),
        ),
        (
            "VideoChat2",
            "video",
            "segments_8frms",
            {
                "do_sample": True,
                "top_p": 0.9,
                "temperature": 1.0,
                "max_new_tokens": 1000,
                "dtype": "float32",
                "stretch_positions_from": 4,
                "lora_r": 16,
                "lora_alpha": 32,
            },
            (),
        ),
        (
            "LLaMA-VID",
            "video",
            "seconds",
            {"do_sample": True, "temperature": 0.5, "top_p": 0.7, "max_new_tokens": 512},
            ("</s>",),
        ),
        (
            "Video-LLaVA",
            "video",
            "even_8frms",
            {"do_sample": True, "temperature": 0.1, "max_new_tokens": 1024, "dtype": "float16"},
            ("</s>",),
        ),
    ],
)
def test_published_settings(
    name: str, needs: str, frames: str | None, options: dict[str, object], cut: tuple[str, ...]
) -> None:
    found = find(name)
    assert found.title == name
    assert (found.needs, found.frames, found.cut) == (needs, frames, cut)
    assert dict(found.options) == options


def test_salmonn_hears_the_first_channel_of_30_seconds_and_qwen_audio_the_file() -> None:
    assert find("salmonn").sound == Sound(16_000, 30, "first")
    assert find("qwen-audio").sound is None


def test_environments() -> None:
    usual = {"python": "3.10", "torch": "2.4.0", "transformers": "4.49.0"}
    older = {"torch": "2.1.0", "transformers": "4.28.1"}
    for name in PUBLISHED:
        expected = older if name in ("llama-vid", "video-llava") else usual
        assert dict(find(name).environment) == expected


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        ("otter", Decoding(max_tokens=512)),  # beams draw nothing
        ("salmonn", Decoding(temperature=1.0, top_p=0.9, max_tokens=300)),
        ("mplug-owl", Decoding(temperature=1.0, max_tokens=512)),
        ("llama-vid", Decoding(temperature=0.5, top_p=0.7, max_tokens=512)),
        ("video-llava-hf", Decoding(temperature=0.1, max_tokens=1024)),
        ("qwen-audio", Decoding(seed=1234)),
        ("smolvlm", Decoding(max_tokens=512)),
    ],
)
def test_what_of_the_options_is_applied_here(name: str, decoding: Decoding) -> None:
    assert find(name).decoding == decoding


@pytest.mark.parametrize("baseline", [find(name) for name in names()], ids=lambda each: each.name)
def test_each_is_whole(baseline: Baseline) -> None:
    assert baseline.weights
    if baseline.frames is not None:
        policies.check(baseline.frames)
    assert (baseline.frames is None) == (baseline.needs == "audio")
    if baseline.family is not None:
        assert baseline.frames or baseline.sound
    else:
        assert baseline.environment


def test_the_families_are_model_types_of_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(NATIVE.values()) <= set(CONFIG_MAPPING_NAMES)


def test_nothing_of_one_can_be_changed() -> None:
    salmonn = find("salmonn")
    with pytest.raises(dataclasses.FrozenInstanceError):
        salmonn.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        salmonn.options["num_beams"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("SALMONN", "salmonn"),
        ("VideoChatGPT", "video-chatgpt"),
        ("video_chat2", "videochat2"),
        ("LLAMA-VID", "llama-vid"),
        ("mPLUG_Owl", "mplug-owl"),
        ("Qwen2.5-VL", "qwen2.5-vl"),
        ("Qwen2-Audio", "qwen2-audio"),
        ("Video LLaVA", "video-llava"),
        ("Audio Flamingo 3", "audio-flamingo-3"),
    ],
)
def test_any_spelling_will_do(spelling: str, name: str) -> None:
    assert find(spelling).name == name


def test_an_unknown_one_is_refused_with_the_nearest_and_all() -> None:
    with pytest.raises(InvalidKey) as caught:
        find("video-chat-gtp")
    assert "(near: video-chatgpt)" in str(caught.value)
    assert all(name in str(caught.value) for name in names())


@pytest.mark.parametrize(
    ("name", "answer", "clean"),
    [
        ("video-llava", " happy,\n\tand sad </s>\n", "happy,  and sad"),
        ("llama-vid", "</s>", ""),
        ("otter", "happy</s>", "happy</s>"),
        ("video-llava", "</s> happy", "</s> happy"),
        ("otter", "\n a\tb \n", "a b"),
    ],
)
def test_answers_are_kept_on_a_line_without_their_endings(
    name: str, answer: str, clean: str
) -> None:
    assert find(name).clean(answer) == clean

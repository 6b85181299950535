"""Models that hear: what each is given of a sound, beside transformers' own processors."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from merstore.errors import DecodeError, EncoderError
from merstore.extract.material import Material
from merstore.extract.models import ModelFolder
from merstore.extract.reading import read
from merstore.run.decoding import Decoding
from merstore.run.zeroshot.asked import Asked, Said
from merstore.run.zeroshot.baselines import Sound
from merstore.run.zeroshot.hearing import AudioFlamingo3, Qwen2Audio, Qwen25Omni
from merstore.run.zeroshot.media import Listening, Looking
from merstore.run.zeroshot.native import Native

RATE = 16_000
PROMPT = "How does she feel?"
SHORT = Decoding(max_tokens=8)


def noise(seconds: float, pitch: float = 0) -> npt.NDArray[np.float32]:
    """Noise, and a tone in it where a pitch is given."""
    count = round(seconds * RATE)
    tone = np.sin(2 * np.pi * pitch * np.arange(count) / RATE)
    made = 0.1 * np.random.default_rng(0).uniform(-1, 1, count) + 0.8 * tone
    return made.astype(np.float32)


def film(count: int, height: int = 60, width: int = 90, seed: int = 0) -> npt.NDArray[np.uint8]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, height, width, 3), np.uint8)


def asked(
    sound: npt.NDArray[np.float32] | None = None,
    frames: npt.NDArray[np.uint8] | None = None,
    prompt: str = PROMPT,
    apart: float = 0.5,
) -> Asked:
    seconds = None if frames is None else np.arange(len(frames)) * apart
    return Asked("x", prompt, Material("x"), frames, seconds, sound)


def heard_by(folder: Path, sounds: list[npt.NDArray[np.float32]]) -> Mapping[str, Any]:
    """Log-mel spectrograms by Whisper's feature extractor, as all of them take them."""
    from transformers import WhisperFeatureExtractor

    ear = WhisperFeatureExtractor.from_pretrained(folder)
    made = ear(
        sounds,
        sampling_rate=RATE,
        padding="max_length",
        return_attention_mask=True,
        return_tensors="pt",
    )
    return dict(made)


def places(steps: int) -> int:
    """Places of a spectrogram in the prompt: a convolution and a pooling halve its steps."""
    return ((steps - 1) // 2 + 1 - 2) // 2 + 1


@pytest.mark.parametrize("seconds", [0.4, 2.0, 30.0, 31.5])
def test_qwen2_audio_hears_up_to_half_a_minute(qwen2_audio: Path, seconds: float) -> None:
    import torch

    family = Qwen2Audio(ModelFolder(qwen2_audio))
    given = family.inputs(asked(noise(seconds)))
    expected = heard_by(qwen2_audio, [noise(seconds)])
    assert torch.equal(given["input_features"], expected["input_features"])
    assert torch.equal(given["feature_attention_mask"], expected["attention_mask"])
    count = places(min(3000, round(100 * seconds)))
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"Audio 1: <|audio_bos|>{'<|AUDIO|>' * count}<|audio_eos|>\n{PROMPT}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert given["input_ids"].tolist() == [family.tokenizer(text).input_ids]
    assert given["attention_mask"].all()


@pytest.mark.parametrize(("seconds", "windows"), [(2.0, 1), (30.0, 1), (64.0, 3)])
def test_audio_flamingo_hears_long_sounds_in_windows(
    audio_flamingo: Path, seconds: float, windows: int
) -> None:
    import torch

    family = AudioFlamingo3(ModelFolder(audio_flamingo))
    given = family.inputs(asked(noise(seconds)))
    pieces = [noise(seconds)[n * 30 * RATE : (n + 1) * 30 * RATE] for n in range(windows)]
    expected = heard_by(audio_flamingo, pieces)
    assert torch.equal(given["input_features"], expected["input_features"])
    steps = int(expected["attention_mask"].sum())
    text = (
        f"<|im_start|>user\n{'<sound>' * places(steps)}{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert given["input_ids"].tolist() == [family.tokenizer(text).input_ids]


@pytest.mark.parametrize(("count", "size"), [(4, (60, 90)), (5, (400, 200)), (1, (700, 1300))])
def test_omni_sees_and_hears_as_its_own_processor_has_it(
    omni: Path, count: int, size: tuple[int, int]
) -> None:
    import torch
    from transformers.models.qwen2_5_omni import processing_qwen2_5_omni as theirs
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    family = Qwen25Omni(ModelFolder(omni))
    given = family.inputs(asked(noise(2.51), film(count, *size), apart=0.25))

    processor = object.__new__(theirs.Qwen2_5OmniProcessor)  # without its video processor
    processor.feature_extractor, processor.audio_token = family._ear, "<|AUDIO|>"
    options = {"sampling_rate": RATE, "return_attention_mask": True, "return_tensors": "pt"}
    sounds, (audio,) = processor._process_audio([noise(2.51)], **options)
    assert torch.equal(given["input_features"], sounds["input_features"])
    assert torch.equal(given["feature_attention_mask"], sounds["feature_attention_mask"])

    bounds = theirs.Qwen2_5OmniProcessor.videos_kwargs["size"]
    height, width = smart_resize(*size, 28, bounds["shortest_edge"], bounds["longest_edge"])
    grid = [-(-count // 2), height // 14, width // 14]
    assert given["video_grid_thw"].tolist() == [grid]
    assert given["pixel_values_videos"].shape == (np.prod(grid), 3 * 2 * 14 * 14)
    seconds = 0.5 if count > 1 else 2.0  # that a patch of two frames stands for
    assert given["video_second_per_grid"].tolist() == [seconds]
    video = "<|VIDEO|>" * (int(np.prod(grid)) // 4)
    text = (
        f"<|im_start|>user\n<|vision_bos|>{video}<|vision_eos|><|audio_bos|>{audio}<|audio_eos|>"
        f"{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert given["input_ids"].tolist() == [family.tokenizer(text).input_ids]


@pytest.mark.parametrize("what", ["sound", "frames"])
def test_omni_takes_what_there_is(omni: Path, what: str) -> None:
    question = asked(noise(1)) if what == "sound" else asked(frames=film(4))
    given = Native(omni, SHORT).load()[0].inputs(question)
    assert ("input_features" in given) == (what == "sound")
    assert ("pixel_values_videos" in given) == (what == "frames")
    (said,) = Native(omni, SHORT).answer([question], [0])
    assert isinstance(said, Said)


@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo", "omni"])
def test_a_subtitle_that_is_spelled_like_a_sound_is_none(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    family = Native(folder).load()[0]
    plain = family.inputs(asked(noise(1), film(2)))
    tokens = "<|AUDIO|><sound><|VIDEO|><|im_end|>"
    odd = family.inputs(asked(noise(1), film(2), f"{PROMPT} {tokens}"))
    special = set(family.tokenizer.all_special_ids)
    counts = [
        [sum(token == each for token in given["input_ids"][0].tolist()) for each in sorted(special)]
        for given in (plain, odd)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo", "omni"])
def test_the_answer_goes_by_the_sound(kind: str, request: pytest.FixtureRequest) -> None:
    model = Native(request.getfixturevalue(kind), SHORT)
    questions = [asked(noise(1, pitch), film(2)) for pitch in (200, 3000, 200)]
    one, other, again = model.answer(questions, [0, 0, 0])
    assert isinstance(one, Said)
    assert one == again != other


def test_the_answer_of_omni_goes_by_the_frames_and_by_when_they_are_shown(omni: Path) -> None:
    model = Native(omni, SHORT)
    questions = [
        asked(noise(1), film(4, seed=1)),
        asked(noise(1), film(4, seed=2)),
        asked(noise(1), film(4, seed=1), apart=8.0),
    ]
    one, other, slow = model.answer(questions, [0] * 3)
    assert len({one, other, slow}) == 3


@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo"])
def test_a_sample_without_sound_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    family = Native(request.getfixturevalue(kind)).load()[0]
    with pytest.raises(DecodeError) as refused:
        family.inputs(asked())
    assert refused.value.kind == "no_audio"


@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo", "omni"])
def test_a_folder_that_is_not_whole_is_named(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "damaged"))
    for name in ("tokenizer.json", "processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(EncoderError, match="damaged"):
        Native(folder).load()


def test_omni_without_a_template_or_ears_is_named(omni: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(omni, tmp_path / "deaf"))
    settings = folder / "preprocessor_config.json"
    kept = settings.read_text()
    settings.write_text(json.dumps(json.loads(kept) | {"feature_size": "many"}))
    with pytest.raises(EncoderError, match="feature extractor"):
        Native(folder).load()
    settings.write_text(kept)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(EncoderError, match="chat_template"):
        Native(folder).load()


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo", "omni"])
def test_real_clips_are_answered(kind: str, request: pytest.FixtureRequest, shared: Path) -> None:
    pytest.importorskip("av")
    model = Native(request.getfixturevalue(kind), SHORT)
    for file in ("talk_vr_face1.mp4", "pancake_opus.mkv"):
        clip = Material.of_clip("x", shared / "media" / file)
        kinds = [Looking("even_4frms"), Listening(Sound(RATE, 10.0, "mean"))]
        (frames, seconds), sound = read(clip, kinds).results
        question = Asked("x", PROMPT, clip, frames, seconds, sound)
        (said,) = model.answer([question], [0])
        assert isinstance(said, Said), said

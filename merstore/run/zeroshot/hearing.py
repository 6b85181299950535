"""Models that hear, and Qwen2.5-Omni, which sees too."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError
from merstore.extract.models import ModelFolder, first_line
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.chat import harmless, load_tokenizer, rendered, template_of, tokens
from merstore.run.zeroshot.families import Family
from merstore.run.zeroshot.pixels import CLIP, PatchedFrames


class _Hearing(Family):
    """Through the processor that transformers has for it, which finds the place of a sound in a text."""

    takes = ("sound",)
    processor: ClassVar[str]  # the class in transformers

    def __init__(self, folder: ModelFolder) -> None:
        import transformers

        try:
            self._processor = getattr(transformers, self.processor).from_pretrained(folder.path)
        except Exception as error:  # whatever a damaged file makes transformers raise
            raise EncoderError(
                f"{folder.path}: its processor cannot be loaded: {first_line(error)}: take the whole "
                "folder of the model"
            ) from error
        self.tokenizer = self._processor.tokenizer

    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        prompt = harmless(asked.prompt, self.tokenizer, self._processor.audio_token)
        content = [{"type": "audio"}, {"type": "text", "text": prompt}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        rate = self._processor.feature_extractor.sampling_rate
        return dict(
            self._processor(
                text=[text], audio=[_sound(asked)], sampling_rate=rate, return_tensors="pt"
            )
        )


class Qwen2Audio(_Hearing):
    """Hears half a minute; what is longer is cut by its processor."""

    types = ("qwen2_audio",)
    kind = "Qwen2AudioForConditionalGeneration"
    processor = "Qwen2AudioProcessor"


class AudioFlamingo3(_Hearing):
    """Hears ten minutes, in pieces of half a minute."""

    types = ("audioflamingo3",)
    kind = "AudioFlamingo3ForConditionalGeneration"
    processor = "AudioFlamingo3Processor"


class Qwen25Omni(Family):
    """Sees and hears: the frames, and behind them the sound. Only its thinker is loaded, which
    answers in text. Its processor needs torchvision: what it does is done here.
    """

    types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    kind = "Qwen2_5OmniThinkerForConditionalGeneration"
    takes = ("frames", "sound")

    def __init__(self, folder: ModelFolder) -> None:
        from transformers import WhisperFeatureExtractor

        self._name = folder.name
        self.tokenizer = load_tokenizer(folder)
        template = template_of(folder, self.tokenizer)
        if template is None:
            raise EncoderError(f"{folder.path}: not a whole model, chat_template.json missing")
        self._template = template
        self._frames = _OmniFrames(folder, CLIP | _OMNI)
        try:
            self._ear = WhisperFeatureExtractor.from_pretrained(folder.path)
        except Exception as error:  # whatever a damaged file makes transformers raise
            raise EncoderError(
                f"{folder.path}: its feature extractor cannot be loaded: {first_line(error)}"
            ) from error

    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        made: dict[str, Any] = {}
        parts, counts = [], {}
        if asked.frames is not None:
            parts.append({"type": "video"})
            counts[_VIDEO] = self._see(asked.frames, asked.seconds, made)
        if asked.sound is not None:
            parts.append({"type": "audio"})
            counts[_AUDIO] = self._hear(asked.sound, made)
        prompt = harmless(asked.prompt, self.tokenizer, _AUDIO, _VIDEO)
        text = rendered(self.tokenizer, self._template, prompt, parts, self._name)
        for token, count in counts.items():
            text = text.replace(token, token * count)
        return tokens(self.tokenizer, text) | made

    def _see(
        self,
        frames: npt.NDArray[np.uint8],
        seconds: npt.NDArray[np.float64] | None,
        made: dict[str, Any],
    ) -> int:
        """How many tokens stand for the frames."""
        import torch

        patches, grid = self._frames.patches(frames)
        step = 1.0 if seconds is None or len(seconds) < 2 else float(np.diff(seconds).mean())
        made["pixel_values_videos"] = patches
        made["video_grid_thw"] = torch.tensor([grid])
        made["video_second_per_grid"] = torch.tensor(
            [self._frames.number("temporal_patch_size") * step]
        )
        return int(np.prod(grid)) // self._frames.number("merge_size") ** 2

    def _hear(self, sound: npt.NDArray[np.float32], made: dict[str, Any]) -> int:
        """How many tokens stand for the sound."""
        heard = self._ear(
            sound,
            sampling_rate=self._ear.sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        made["input_features"] = heard["input_features"]
        made["feature_attention_mask"] = heard["attention_mask"]
        steps = int(heard["attention_mask"].sum())  # halved by a convolution, and by pooling
        return ((steps - 1) // 2 - 1) // 2 + 1


_AUDIO, _VIDEO = "<|AUDIO|>", "<|VIDEO|>"
_OMNI = {
    "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}


class _OmniFrames(PatchedFrames):
    """The bounds of area that its processor has for frames, whatever its file says of pictures."""

    def modern(self, told: dict[str, Any]) -> dict[str, Any]:
        bounds = {"size", "min_pixels", "max_pixels"}
        return super().modern({key: value for key, value in told.items() if key not in bounds})


def _sound(asked: Asked) -> npt.NDArray[np.float32]:
    if asked.sound is None:
        raise DecodeError(asked.name, "no_audio", "the model hears, and is given no sound")
    return asked.sound

"""Models that see a clip's frames as one video. transformers' own video processors need torchvision:
`pixels` and the texts here stand in for them and for the processors around them.
"""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError
from merstore.extract.models import ModelFolder, first_line, quiet
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.chat import harmless, load_tokenizer, rendered, template_of, tokens
from merstore.run.zeroshot.families import Family
from merstore.run.zeroshot.pixels import (
    CLIP,
    HALF,
    LANCZOS,
    Frames,
    SquareFrames,
)

if TYPE_CHECKING:
    import torch

Seconds = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

_SHORTEST = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    **CLIP,
}
_SQUARE = {"size": {"height": 384, "width": 384}, **CLIP}
_VICUNA = "USER: <video>\n{prompt} ASSISTANT:"


class Seeing(Family):
    """What they have in common.

    ``shown``: what stands for the clip in a prompt; None: the token at whose places the model puts
    pixels. ``plain``: the published form of a prompt, with ``{prompt}`` for the question;
    ``templated``: whether the folder's chat template comes before that. ``steps``: what is done to
    frames; ``defaults``: how, where the folder says nothing.
    """

    shown: ClassVar[str | None] = None
    plain: ClassVar[str | None] = None
    templated: ClassVar[bool] = True
    steps: ClassVar[type[Frames]] = Frames
    defaults: ClassVar[Mapping[str, Any]]

    def __init__(self, folder: ModelFolder) -> None:
        self.name = folder.name
        self.config = _config(folder)
        self.frames = self.steps(folder, self.defaults)
        self.tokenizer = load_tokenizer(folder)
        self.template = template_of(folder, self.tokenizer) if self.templated else None
        if self.template is None and self.plain is None:
            raise EncoderError(f"{folder.path}: not a whole model, chat_template.jinja missing")
        if self.place >= len(self.tokenizer):
            raise EncoderError(
                f"{folder.path}: config.json puts pixels at token {self.place}, and its tokenizer "
                f"has {len(self.tokenizer):,}: take all files of one version"
            )
        self.token: str = self.tokenizer.convert_ids_to_tokens(self.place)

    @property
    def place(self) -> int:
        """The number of the token at whose places the model puts pixels."""
        return int(self.config.video_token_id)

    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        if asked.frames is None or asked.seconds is None:
            raise DecodeError(asked.name, "no_video", "the model sees, and is given no frames")
        given, places = self.video(asked.frames, asked.seconds)
        shown = self.shown or self.token
        prompt = harmless(asked.prompt, self.tokenizer, shown, self.token)
        text = self._text(prompt)
        if text.count(shown) != 1:
            raise EncoderError(f"{self.name}: its chat template has not one {shown} for a video")
        return {**tokens(self.tokenizer, text.replace(shown, places)), **given}

    def _text(self, prompt: str) -> str:
        if self.template is None:
            return str(self.plain).replace("{prompt}", prompt)
        return rendered(self.tokenizer, self.template, prompt, [{"type": "video"}], self.name)

    @abstractmethod
    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        """What the model takes of frames, and what stands in the prompt for them."""


class VideoLlava(Seeing):
    """All patches of all frames, and the token before them that CLIP sums a frame up in."""

    types = ("video_llava",)
    kind = "VideoLlavaForConditionalGeneration"
    plain = _VICUNA
    defaults = _SHORTEST

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        pixels = self.frames(frames)
        tall, wide = _grid(pixels, self.config.vision_config.patch_size)
        places = len(pixels) * (tall * wide + 1)
        return {"pixel_values_videos": pixels[None]}, self.token * places


class LlavaNextVideo(Seeing):
    """Patches pooled by squares of 2 x 2."""

    types = ("llava_next_video",)
    kind = "LlavaNextVideoForConditionalGeneration"
    plain = _VICUNA
    defaults = _SHORTEST

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        pixels = self.frames(frames)
        stride = self.config.spatial_pool_stride
        tall, wide = _grid(pixels, self.config.vision_config.patch_size * stride)
        return {"pixel_values_videos": pixels[None]}, self.token * (len(pixels) * tall * wide)


class LlavaOnevision(Seeing):
    """The same, an odd row or column counted whole; one more place ends the clip."""

    types = ("llava_onevision",)
    kind = "LlavaOnevisionForConditionalGeneration"
    plain = "<|im_start|>user <video>\n{prompt}<|im_end|><|im_start|>assistant\n"
    defaults = _SQUARE

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        pixels = self.frames(frames)
        tall, wide = _grid(pixels, self.config.vision_config.patch_size)
        places = len(pixels) * (-(-tall // 2)) * (-(-wide // 2)) + 1
        return {"pixel_values_videos": pixels[None]}, self.token * places


class InternVL(Seeing):
    """Each frame as a picture of its own, numbered from 1 on."""

    types = ("internvl",)
    kind = "InternVLForConditionalGeneration"
    shown = "<video>"
    defaults = _SQUARE

    @property
    def place(self) -> int:
        return int(self.config.image_token_id)

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        pixels = self.frames(frames)
        side = self.config.vision_config.patch_size  # both sides of a patch
        tall, wide = _grid(pixels, side if isinstance(side, int) else side[0])
        one = self.token * int(tall * wide * self.config.downsample_ratio**2)
        begin = getattr(self.tokenizer, "start_image_token", "<img>")
        end = getattr(self.tokenizer, "end_image_token", "</img>")
        lines = [f"Frame{number}: {begin}{one}{end}" for number in range(1, len(pixels) + 1)]
        return {"pixel_values": pixels}, "\n".join(lines)


class SmolVLM(Seeing):
    """Each frame as a picture behind its time, after a sentence on them all. How long the clip is
    is taken from its last frame.
    """

    types = ("smolvlm",)
    kind = "SmolVLMForConditionalGeneration"
    shown = "<video>"
    plain = "<|im_start|>User: <video>{prompt}<end_of_utterance>\nAssistant:"
    templated = False  # folders have templates for pictures only
    steps = SquareFrames
    defaults: ClassVar = {
        "size": {"longest_edge": 4 * 364},
        "max_image_size": {"longest_edge": 364},
        "resample": LANCZOS,
        **HALF,
    }

    @property
    def place(self) -> int:
        return int(self.config.image_token_id)

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        pixels = self.frames(frames)
        tall, wide = _grid(pixels, self.config.vision_config.patch_size)
        fake = getattr(self.tokenizer, "fake_image_token", "<fake_token_around_image>")
        whole = getattr(self.tokenizer, "global_image_token", "<global-img>")
        one = fake + whole + self.token * (tall * wide // self.config.scale_factor**2) + fake
        length = timedelta(seconds=int(seconds[-1]))
        text = (
            f"You are provided the following series of {_in_words(len(pixels))} frames "
            f"from a {length} [H:MM:SS] video.\n"
        )
        for second in seconds:
            text += f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:{one}"
        return {"pixel_values": pixels[None]}, text + "\n\n"


def _config(folder: ModelFolder) -> Any:
    """A model's config, with what config.json leaves out."""
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(folder.path)
    except Exception as error:  # whatever a damaged file makes transformers raise
        where = folder.path / "config.json"
        raise EncoderError(f"{where} cannot be loaded: {first_line(error)}") from error


def _grid(pixels: "torch.Tensor", side: int) -> tuple[int, int]:
    """How many squares of this side fit into the height and the width of pixels."""
    return pixels.shape[2] // side, pixels.shape[3] // side


# fmt: off
_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on


def _in_words(number: int) -> str:
    """A number below 1,000 in English words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred" + (f" and {_in_words(rest)}" if rest else "")

"""Models that know pictures only: they are shown a clip's frames one after the other, through their
processors in transformers. Those that run without torchvision resize by Pillow.
"""

from collections.abc import Mapping
from typing import Any

from merstore.errors import DecodeError, EncoderError
from merstore.extract.models import ModelFolder, first_line, quiet
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.chat import begun, harmless, rendered, template_of
from merstore.run.zeroshot.families import Family


class Pictures(Family):
    """How much of a prompt a picture takes is the model's affair: LLaVA-NeXT has room for few."""

    types = ("aya_vision", "gemma3", "idefics3", "llava", "llava_next")
    kind = "AutoModelForImageTextToText"

    def __init__(self, folder: ModelFolder) -> None:
        from transformers import AutoProcessor

        self.name = folder.name
        try:
            with quiet():
                self.processor = AutoProcessor.from_pretrained(folder.path)
            self.tokenizer = self.processor.tokenizer
            self.token: str = self.processor.image_token
        except Exception as error:  # whatever a damaged file makes transformers raise
            reason = first_line(error)
            raise EncoderError(
                f"{folder.path}: its processor cannot be loaded: {reason}: take the whole folder of "
                "the model"
            ) from error
        template = template_of(folder, self.tokenizer)
        if template is None:
            raise EncoderError(f"{folder.path}: not a whole model, chat_template.jinja missing")
        self.template = template

    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        from PIL import Image

        if asked.frames is None:
            raise DecodeError(asked.name, "no_video", "the model sees, and is given no frames")
        pictures = [Image.fromarray(frame) for frame in asked.frames]
        prompt = harmless(asked.prompt, self.tokenizer, self.token)
        parts = [{"type": "image"}] * len(pictures)
        text = rendered(self.tokenizer, self.template, prompt, parts, self.name)
        if text.count(self.token) != len(pictures):
            raise EncoderError(f"{self.name}: its chat template has not one {self.token} a picture")
        made = self.processor(
            text=[text],
            images=[pictures],
            add_special_tokens=not begun(self.tokenizer, text),
            return_tensors="pt",
        )
        return dict(made)

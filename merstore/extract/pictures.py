"""What a model's image processor makes of pictures, without it, and in two halves.

The first half, resizing and cropping, is done where clips are read: it leaves uint8, a quarter of
what a processor gives. The second, rescaling and normalising, maps each of a channel's 256 values
to a float32, so it is a table, looked up on the device that the model runs on. Both give the bits
of transformers' PIL and NumPy processors (``backend="pil"``), which the published code used.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError
from merstore.extract.models import ModelFolder

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float32]

FILE = "preprocessor_config.json"
_WHOLE_FILE = "processor_config.json"  # newer: that of the texts and the pictures in one

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_HALF = [0.5, 0.5, 0.5]
_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers
_SQUARE = {"height": 224, "width": 224}
_SHORTEST = {"shortest_edge": 224}

_STEPS: dict[str, Any] = {
    "do_resize": True,
    "size": _SQUARE,
    "resample": _BICUBIC,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _HALF,
    "image_std": _HALF,
    "default_to_square": False,
}
_CROPPED = {"size": _SHORTEST, "do_center_crop": True, "crop_size": _SQUARE}
_OF_CLIP = _STEPS | _CROPPED | {"image_mean": _CLIP_MEAN, "image_std": _CLIP_STD}

# What a processor does where its file says nothing.
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _OF_CLIP,
    "BitImageProcessor": _OF_CLIP,
    "SiglipImageProcessor": _STEPS,
    "BeitImageProcessor": _STEPS | {"crop_size": _SQUARE, "default_to_square": True},
    "ViTImageProcessor": _STEPS | {"resample": _BILINEAR, "default_to_square": True},
    "VideoMAEImageProcessor": _STEPS | _CROPPED | {"resample": _BILINEAR},
}
_OF_MODEL = {
    "clip": "CLIPImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "dinov2": "BitImageProcessor",
    "siglip": "SiglipImageProcessor",
    "videomae": "VideoMAEImageProcessor",
}
_UNKNOWN_STEPS = ("do_pad", "use_square_size")  # steps of no processor above but by its file


class Preprocessing:
    """The steps of one image processor. Picklable.

    ``settings``: all that decides about its values, as JSON, under the names that they have in
    ``preprocessor_config.json``.
    """

    def __init__(self, settings: Mapping[str, Any], where: str) -> None:
        kind = str(settings.get("image_processor_type")).removesuffix("Fast")
        if kind not in DEFAULTS:
            known = ", ".join(DEFAULTS)
            raise EncoderError(f"{where}: no code for image processor {kind}; there is {known}")
        given = {key: value for key, value in settings.items() if value is not None}
        for step in _UNKNOWN_STEPS:
            if given.get(step):
                raise EncoderError(
                    f"{where}: {kind} is asked for {step}, which there is no code for"
                )
        steps = {key: given.get(key, default) for key, default in DEFAULTS[kind].items()}
        to_square = steps.pop("default_to_square")
        steps["size"] = _sizes(steps["size"], to_square, where)
        if steps["crop_size"] is not None:
            steps["crop_size"] = _sizes(steps["crop_size"], True, where)
        for key in ("image_mean", "image_std"):
            value = steps[key]
            steps[key] = list(value) if isinstance(value, list | tuple) else [value] * 3
        if steps["do_center_crop"] and set(steps["crop_size"] or ()) != set(_SQUARE):
            raise EncoderError(f"{where}: crop_size {steps['crop_size']} is no height and width")
        self.settings: dict[str, Any] = {"image_processor_type": kind, **steps}

    @classmethod
    def of(cls, folder: ModelFolder) -> "Preprocessing":
        """Those of a model's folder. Raises EncoderError."""
        settings = folder.json(_WHOLE_FILE).get("image_processor") or folder.json(FILE)
        if not settings:
            raise EncoderError(f"{folder.path}: not a whole model, {FILE} missing")
        kind = settings.get("image_processor_type")
        if kind is None and "feature_extractor_type" in settings:  # the processors' older name
            older = str(settings["feature_extractor_type"])
            kind = older.replace("FeatureExtractor", "ImageProcessor")
        if kind is None:
            kind = folder.config.get("image_processor_type") or _OF_MODEL.get(folder.kind)
        return cls({**settings, "image_processor_type": kind}, folder.name)

    @property
    def short_side(self) -> int | None:
        """Pixels of a picture's shorter side that suffice: it is made no larger. None: all of it."""
        if not self.settings["do_resize"]:
            return None
        return int(max(self.settings["size"].values()))

    def prepare(self, pictures: Pixels) -> Pixels:
        """Resized and cropped: uint8 [n, H, W, 3] to uint8 [n, h, w, 3]."""
        if not len(pictures):
            return np.empty((0, *self.shape(*pictures.shape[1:3]), 3), np.uint8)
        size = self._resized(*pictures.shape[1:3])
        if size != pictures.shape[1:3]:
            pictures = np.stack([self._resize(picture, size) for picture in pictures])
        if self.settings["do_center_crop"]:
            crop = self.settings["crop_size"]
            pictures = _centre(pictures, crop["height"], crop["width"])
        return np.ascontiguousarray(pictures)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture of this height and width gets."""
        if self.settings["do_center_crop"]:
            crop = self.settings["crop_size"]
            return crop["height"], crop["width"]
        return self._resized(height, width)

    @cached_property
    def table(self) -> Table:
        """float32 [3, 256]: what each value of each channel becomes."""
        values = np.arange(256, dtype=np.uint8)
        scaled = values.astype(np.float32)
        if self.settings["do_rescale"]:  # in float64, and then rounded
            product = values.astype(np.float64) * self.settings["rescale_factor"]
            scaled = product.astype(np.float32)
        if not self.settings["do_normalize"]:
            return np.stack([scaled] * 3)
        mean = np.array(self.settings["image_mean"], np.float32)[:, None]
        std = np.array(self.settings["image_std"], np.float32)[:, None]
        table: Table = (scaled - mean) / std
        return table

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        size = self.settings["size"]
        if not self.settings["do_resize"]:
            return height, width
        if "shortest_edge" not in size:
            return size["height"], size["width"]
        edge = size["shortest_edge"]
        if width <= height:
            return int(edge * height / width), edge
        return edge, int(edge * width / height)

    def _resize(self, picture: Pixels, size: tuple[int, int]) -> Pixels:
        from PIL import Image

        height, width = size
        resized = Image.fromarray(picture).resize((width, height), self.settings["resample"])
        return np.asarray(resized)


def normalise(pictures: "torch.Tensor", table: "torch.Tensor") -> "torch.Tensor":
    """uint8 [n, H, W, 3] to float32 [n, 3, H, W] by a table [3, 256], all on one device."""
    import torch

    n, height, width, channels = pictures.shape
    out = torch.empty((n, channels, height, width), device=pictures.device)
    for channel in range(channels):
        places = pictures[..., channel].reshape(-1).int()
        out[:, channel] = table[channel].index_select(0, places).view(n, height, width)
    return out


def _sizes(size: Any, to_square: bool, where: str) -> dict[str, int]:
    """A size as older files write it (one number, or two), or newer ones (by name)."""
    if isinstance(size, int):
        size = {"height": size, "width": size} if to_square else {"shortest_edge": size}
    elif isinstance(size, list | tuple) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    sizes = {key: value for key, value in size.items() if value} if isinstance(size, dict) else {}
    if set(sizes) not in ({"height", "width"}, {"shortest_edge"}):
        raise EncoderError(f"{where}: no code for an image processor's size {size}")
    return {key: int(value) for key, value in sizes.items()}


def _centre(pictures: Pixels, height: int, width: int) -> Pixels:
    """The middle of pictures, in black where they are smaller; an odd pixel is cut off below and
    right, and filled in above and left.
    """
    n, tall, wide, channels = pictures.shape
    top, left = (tall - height) // 2, (wide - width) // 2
    if top >= 0 and left >= 0:
        return pictures[:, top : top + height, left : left + width]
    larger = np.zeros((n, max(height, tall), max(width, wide), channels), np.uint8)
    above, before = -(-(larger.shape[1] - tall) // 2), -(-(larger.shape[2] - wide) // 2)
    larger[:, above : above + tall, before : before + wide] = pictures
    top, left = top + above, left + before
    return larger[:, top : top + height, left : left + width]

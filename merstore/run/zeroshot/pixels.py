"""What a model's video processor makes of frames, without it: those of transformers need torchvision.

How near this is to them (transformers 5.23): sizes, crops, patches and the fused rescaling are
theirs, to the last bit. Bilinear and bicubic resizing is torch's own antialiased interpolation of
uint8, which is what torchvision runs on a CPU with AVX2; on others it runs the bilinear one in
float32, where a value may differ by 1 of 255. (Pillow's differs from both by 1 or 2 in few places:
0.004 on average from 1280 x 720 to 398 x 224.) Lanczos is Pillow's; transformers
takes torchvision's, or bicubic where that is older than 0.27 and has none.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError
from merstore.extract.models import ModelFolder

if TYPE_CHECKING:
    import torch

CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3  # Pillow's numbers

_MODES = {BILINEAR: "bilinear", BICUBIC: "bicubic"}
_STEPS: dict[str, Any] = {
    "do_resize": True,
    "resample": BICUBIC,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}


class Frames:
    """The steps from frames to a model's pixels.

    ``settings``: what decides about them, under the names of the folder's file; what that does not
    say is in `defaults`, as the family's video processor has it. ``where``: the file.

    Raises EncoderError where the folder has no such file, or one that makes no sense.
    """

    known_sizes: ClassVar[tuple[set[str], ...]] = ({"height", "width"}, {"shortest_edge"})

    def __init__(self, folder: ModelFolder, defaults: Mapping[str, Any]) -> None:
        given, self.where = _given(folder)
        told = {key: value for key, value in given.items() if value is not None}
        self.settings = {**_STEPS, **defaults, **self.modern(told)}
        self.check()

    def modern(self, told: dict[str, Any]) -> dict[str, Any]:
        """Settings under the names that they have today."""
        size, crop = told.get("size"), told.get("crop_size")
        if isinstance(size, int):
            told = told | {"size": {"shortest_edge": size}}
        if isinstance(crop, int):
            told = told | {"crop_size": {"height": crop, "width": crop}}
        return told

    def check(self) -> None:
        """Raises EncoderError for a setting that makes no sense."""
        told = self.settings
        if told["do_resize"]:
            told["size"] = self.edges("size", *self.known_sizes)
        if told["do_center_crop"]:
            told["crop_size"] = self.edges("crop_size", {"height", "width"})
        if told["resample"] not in (LANCZOS, *_MODES):
            self.refuse("resample")
        if not isinstance(told["rescale_factor"], int | float) or told["rescale_factor"] <= 0:
            self.refuse("rescale_factor")
        for key in ("image_mean", "image_std"):
            values = told[key]
            if not isinstance(values, list) or len(values) != 3:
                self.refuse(key)
            if not all(isinstance(value, int | float) for value in values):
                self.refuse(key)
        if not all(told["image_std"]):
            self.refuse("image_std")

    def sizes(self, count: int, height: int, width: int) -> list[tuple[int, int]]:
        """The heights and widths that `count` frames of this one are brought to, one after the
        other.
        """
        size = self.settings["size"]
        if "height" in size:
            return [(size["height"], size["width"])]
        edge = size["shortest_edge"]
        if width <= height:
            return [(int(edge * height / width), edge)]
        return [(edge, int(edge * width / height))]

    def __call__(self, frames: npt.NDArray[np.uint8]) -> "torch.Tensor":
        """RGB uint8 [T, H, W, 3] to float32 [T, 3, h, w]."""
        import torch

        told = self.settings
        pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        if told["do_resize"]:
            for size in self.sizes(*frames.shape[:3]):
                pixels = _resized(pixels, size, told["resample"])
        if told["do_center_crop"]:
            pixels = _centre(pixels, told["crop_size"]["height"], told["crop_size"]["width"])
        return self._scaled(pixels)

    def _scaled(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Rescaled and normalised in one step, whose last bits are not those of two."""
        import torch

        told = self.settings
        factor = told["rescale_factor"] if told["do_rescale"] else 1.0
        if not told["do_normalize"]:
            return pixels * factor
        mean, std = torch.tensor([told["image_mean"], told["image_std"]]) * (1.0 / factor)
        return pixels.float().sub_(mean[:, None, None]).div_(std[:, None, None])

    def number(self, key: str) -> int:
        """A setting that is a whole number from 1 on. Raises EncoderError."""
        value: Any = self.settings.get(key)
        return int(value) if _natural(value) else self.refuse(key)

    def edges(self, key: str, *known: set[str]) -> dict[str, int]:
        """A setting that is a size, by one of the `known` sets of names. Raises EncoderError."""
        size = self.settings.get(key)
        if not isinstance(size, dict):
            self.refuse(key)
        size = {name: edge for name, edge in size.items() if edge is not None}
        if set(size) not in known or not all(_natural(edge) for edge in size.values()):
            self.refuse(key)
        return size

    def refuse(self, key: str) -> NoReturn:
        raise EncoderError(f"{self.where}: no code for {key} {self.settings.get(key)!r}")


class PatchedFrames(Frames):
    """Those of Qwen2-VL and its successors: frames keep their shape, within bounds of area, and are
    cut into patches that are several frames deep.
    """

    known_sizes = ({"shortest_edge", "longest_edge"},)  # areas, whatever they are called

    def modern(self, told: dict[str, Any]) -> dict[str, Any]:
        size = told.get("size", {})
        for name, older in (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels")):
            if older in told and isinstance(size, dict):
                size = {**size, name: told[older]}
        return told | ({"size": size} if size else {})

    def check(self) -> None:
        super().check()
        for key in ("patch_size", "temporal_patch_size", "merge_size"):
            self.number(key)

    def sizes(self, count: int, height: int, width: int) -> list[tuple[int, int]]:
        least, most = self.settings["size"]["shortest_edge"], self.settings["size"]["longest_edge"]
        unit = self.number("patch_size") * self.number("merge_size")
        if self.settings.get("cap_pixels_per_frame"):
            budget = int(self.number("max_video_tokens") * unit * unit * 0.9)
            share = budget * self.number("temporal_patch_size") // count
            most = max(min(most, share), int(least * 1.05))
        return [_within(height, width, unit, least, most)]

    def patches(self, frames: npt.NDArray[np.uint8]) -> tuple["torch.Tensor", tuple[int, int, int]]:
        """RGB uint8 [T, H, W, 3] to float32 [t * h * w, values of a patch], and t, h, w.

        The last frame is repeated where T is no multiple of a patch's depth. Patches that the model
        merges, of neighbouring places, follow each other.
        """
        import torch

        deep, side = self.number("temporal_patch_size"), self.number("patch_size")
        merged = self.number("merge_size")
        pixels = self(frames)
        if missing := -len(pixels) % deep:
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        count, channels, height, width = pixels.shape
        t, h, w = count // deep, height // side, width // side
        parts = pixels.reshape(
            t, deep, channels, h // merged, merged, side, w // merged, merged, side
        )
        return parts.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1), (t, h, w)


class ClipFrames(PatchedFrames):
    """Those of Qwen3-VL: the bounds are of the volume of all frames together."""

    def sizes(self, count: int, height: int, width: int) -> list[tuple[int, int]]:
        least, most = self.settings["size"]["shortest_edge"], self.settings["size"]["longest_edge"]
        unit = self.number("patch_size") * self.number("merge_size")
        if self.settings.get("cap_pixels_per_frame"):
            share = min(self.number("max_video_tokens") * unit * unit, most // count)
            most = max(share, int(least * 1.05)) * count
        deep = self.number("temporal_patch_size")
        count = max(count, deep)  # a single frame is repeated; transformers refuses it
        if min(height, width) < unit:
            grow = max(unit / height, unit / width)
            height, width = int(height * grow), int(width * grow)
        return [_within(height, width, unit, least, most, count, round(count / deep) * deep)]


class SquareFrames(Frames):
    """SmolVLM's: the longer side is resized first, and then both to a square, whatever the shape."""

    known_sizes = ({"longest_edge"},)

    def modern(self, told: dict[str, Any]) -> dict[str, Any]:
        sampling = told.get("video_sampling")
        if "size" not in told and isinstance(sampling, dict) and "video_size" in sampling:
            return told | {"size": sampling["video_size"]}
        return told

    def check(self) -> None:
        super().check()
        self.settings["max_image_size"] = self.edges("max_image_size", {"longest_edge"})

    def sizes(self, count: int, height: int, width: int) -> list[tuple[int, int]]:
        longest = min(4096, self.settings["size"]["longest_edge"])
        ratio = width / height
        if width >= height:
            first = _even(longest / ratio), longest
        else:
            first = longest, _even(longest * ratio)
        side = self.settings["max_image_size"]["longest_edge"]
        return [first, (side, side)]


def _given(folder: ModelFolder) -> tuple[dict[str, Any], str]:
    """What a folder says of frames, and where: the newest of the files that may."""
    whole = folder.path / "processor_config.json"
    told = folder.json(whole.name).get("video_processor")
    if told is not None:
        if not isinstance(told, dict):
            raise EncoderError(f"{whole}: its video_processor is no JSON object")
        return told, str(whole)
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (folder.path / file).is_file():
            return folder.json(file), str(folder.path / file)
    raise EncoderError(f"{folder.path}: not a whole model, video_preprocessor_config.json missing")


def _resized(pixels: "torch.Tensor", size: tuple[int, int], resample: int) -> "torch.Tensor":
    import torch

    if size == tuple(pixels.shape[2:]):
        return pixels
    if resample in _MODES:
        return torch.nn.functional.interpolate(
            pixels, size=size, mode=_MODES[resample], align_corners=False, antialias=True
        )
    from PIL import Image

    height, width = size
    pictures = [Image.fromarray(one) for one in pixels.permute(0, 2, 3, 1).numpy()]
    small = [np.asarray(picture.resize((width, height), resample)) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()


def _centre(pixels: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
    """The middle of frames, in black where they are smaller; an odd pixel is cut off below and
    right, and filled in there too.
    """
    import torch

    short, narrow = max(0, height - pixels.shape[2]), max(0, width - pixels.shape[3])
    if short or narrow:
        around = (narrow // 2, narrow - narrow // 2, short // 2, short - short // 2)
        pixels = torch.nn.functional.pad(pixels, around)
    top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]


def _within(
    height: int, width: int, unit: int, least: int, most: int, count: int = 1, counted: int = 1
) -> tuple[int, int]:
    """The size nearest to this one in multiples of `unit` at which `count` frames, `counted` as so
    many, have pixels within bounds.
    """
    if max(height, width) > 200 * min(height, width):
        raise EncoderError(f"frames of {width} x {height} pixels are too long for Qwen-VL")
    tall, wide = round(height / unit) * unit, round(width / unit) * unit
    if counted * tall * wide > most:
        shrink = math.sqrt(count * height * width / most)
        tall = max(unit, math.floor(height / shrink / unit) * unit)
        wide = max(unit, math.floor(width / shrink / unit) * unit)
    elif counted * tall * wide < least:
        grow = math.sqrt(least / (count * height * width))
        tall = math.ceil(height * grow / unit) * unit
        wide = math.ceil(width * grow / unit) * unit
    return tall, wide


def _even(length: float) -> int:
    whole = int(length)
    return max(1, whole + whole % 2)


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

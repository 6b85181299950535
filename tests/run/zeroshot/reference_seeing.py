"""transformers' own processors, run whole: only the few functions that they call of torchvision are
replaced, by the same in torch.
"""

import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class InterpolationMode(Enum):
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


def _functions() -> ModuleType:
    import torch
    from torch.nn.functional import interpolate
    from torch.nn.functional import pad as torch_pad

    made = ModuleType("torchvision.transforms.v2.functional")
    made.InterpolationMode = InterpolationMode
    made.grayscale_to_rgb = lambda video: video

    def resize(image: Any, size: Any, interpolation: InterpolationMode, antialias: bool) -> Any:
        flat = image.reshape(-1, *image.shape[-3:])
        mode = interpolation.value
        small = interpolate(flat, tuple(size), mode=mode, align_corners=False, antialias=antialias)
        return small.reshape(*image.shape[:-2], *size)

    def normalize(image: Any, mean: Any, std: Any, inplace: bool) -> Any:
        mean, std = (torch.as_tensor(each).reshape(-1, 1, 1) for each in (mean, std))
        return (image - mean) / std

    def pad(image: Any, around: list[int], fill: int) -> Any:
        left, top, right, bottom = around
        return torch_pad(image, (left, right, top, bottom), value=fill)

    def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
        return image[..., top : top + height, left : left + width]

    for function in (resize, normalize, pad, crop):
        setattr(made, function.__name__, function)
    return made


def processor(family: str, folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """A processor of transformers as it would be loaded from a folder with torchvision."""
    import importlib

    from transformers import (
        AutoConfig,
        AutoTokenizer,
        image_processing_backends,
        video_processing_utils,
    )
    from transformers.processing_utils import ProcessorMixin

    functions = _functions()
    parents = ["torchvision", "torchvision.transforms", "torchvision.transforms.v2"]
    for name in parents:
        patch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[parents[-1]].functional = functions
    patch.setitem(sys.modules, f"{parents[-1]}.functional", functions)
    patch.setattr(image_processing_backends, "tvF", functions, raising=False)
    patch.setattr(video_processing_utils, "tvF", functions, raising=False)
    numbers = {1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC"}
    mapping = {number: InterpolationMode[name] for number, name in numbers.items()}
    patch.setattr(image_processing_backends, "pil_torch_interpolation_mapping", mapping)
    patch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)

    kind = "qwen2_vl" if family == "qwen2_5_vl" else family
    videos = importlib.import_module(f"transformers.models.{kind}.video_processing_{kind}")
    texts = importlib.import_module(f"transformers.models.{family}.processing_{family}")
    if hasattr(texts, "num2words"):
        patch.setattr(texts, "num2words", {1: "one", 2: "two", 3: "three", 5: "five"}.get)
    told, _ = getattr(videos, videos.__all__[0]).get_video_processor_dict(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    vision = config.vision_config
    arguments: dict[str, Any] = {}
    if family == "internvl":
        arguments["image_seq_length"] = config.image_seq_length
        for name, token in (("start_image", "<img>"), ("end_image", "</img>")):
            setattr(tokenizer, f"{name}_token", token)
            setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(token))
        tokenizer.context_image_token = "<IMG_CONTEXT>"
        tokenizer.context_image_token_id = config.image_token_id
        tokenizer.video_token = "<video>"
    elif family == "smolvlm":
        arguments["image_seq_len"] = (56 // 14) ** 2 // config.scale_factor**2
    elif family == "llava_onevision":
        arguments["num_image_tokens"] = (vision.image_size // vision.patch_size) ** 2
    elif "llava" in family:
        arguments["patch_size"] = vision.patch_size
        arguments["vision_feature_select_strategy"] = "default"
    return getattr(texts, texts.__all__[0])(
        image_processor=object(),
        tokenizer=tokenizer,
        video_processor=getattr(videos, videos.__all__[0])(**told),
        **arguments,
    )


def inputs(processor: Any, text: str, frames: np.ndarray, seconds: np.ndarray) -> dict[str, Any]:
    """What it makes of a prompt with one video in it."""
    from transformers.video_utils import VideoMetadata

    apart = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1) or 1.0
    facts = VideoMetadata(
        total_num_frames=len(frames),
        fps=1 / apart,
        frames_indices=[second / apart for second in seconds],
    )
    made = processor(
        text=[text],
        videos=[frames],
        video_metadata=[facts],
        do_sample_frames=False,
        add_special_tokens=not text.startswith("<s>"),
        return_tensors="pt",
    )
    return dict(made)

"""Qwen2-VL and its successors, which see a clip as patches of space and time."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.pixels import CLIP, HALF, ClipFrames, PatchedFrames
from merstore.run.zeroshot.seeing import Pixels, Seconds, Seeing


class Qwen2VL(Seeing):
    """Patches two frames deep, merged by squares of 2 x 2."""

    types = ("qwen2_vl",)
    kind = "Qwen2VLForConditionalGeneration"
    steps = PatchedFrames
    frames: PatchedFrames
    defaults: ClassVar = {
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "max_video_tokens": 128_000,
        **CLIP,
    }

    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        import transformers

        given = super().inputs(asked)
        taken = inspect.signature(getattr(transformers, self.kind).forward).parameters
        if "mm_token_type_ids" not in taken:  # older ones look for the places themselves
            return given
        return {**given, "mm_token_type_ids": 2 * (given["input_ids"] == self.place).int()}

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        import torch

        patches, grid = self.frames.patches(frames)
        places = len(patches) // self.frames.number("merge_size") ** 2
        given = {"pixel_values_videos": patches, "video_grid_thw": torch.tensor([grid])}
        return given, self.token * places


class Qwen25VL(Qwen2VL):
    """The same with places in time by seconds. The time between frames is the mean of theirs;
    transformers' processor has the length of the clip divided by their number.
    """

    types = ("qwen2_5_vl",)
    kind = "Qwen2_5_VLForConditionalGeneration"

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        given, text = super().video(frames, seconds)
        apart = float(seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
        # No tensor, which would be brought to the dtype of the model.
        deep = self.frames.number("temporal_patch_size")
        return {**given, "second_per_grid_ts": [apart * deep]}, text


class Qwen3VL(Qwen2VL):
    """The same in a group for each depth of patches, behind the time in the middle of it. As in
    transformers from 5.12 on, the marks of the chat template stay around all of them.
    """

    types = ("qwen3_vl",)
    kind = "Qwen3VLForConditionalGeneration"
    steps = ClipFrames
    defaults: ClassVar = {
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "max_video_tokens": 768,
        **HALF,
    }

    def video(self, frames: Pixels, seconds: Seconds) -> tuple[dict[str, Any], str]:
        given, places = super().video(frames, seconds)
        deep = self.frames.number("temporal_patch_size")
        groups = int(given["video_grid_thw"][0, 0])
        one = places[: len(places) // groups]
        text = ""
        for group in range(groups):
            first = seconds[group * deep]
            last = seconds[min(len(seconds), (group + 1) * deep) - 1]
            middle = (first + last) / 2
            text += f"<{middle:.1f} seconds><|vision_start|>{one}<|vision_end|>"
        return given, text

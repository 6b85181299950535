"""Frames as a model's pixels, against Pillow and against what each step means."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("PIL")

from merstore.errors import EncoderError
from merstore.extract.models import ModelFolder
from merstore.run.zeroshot.pixels import CLIP, HALF, ClipFrames, Frames, PatchedFrames, SquareFrames

PLAIN = {"do_rescale": False, "do_normalize": False}  # the bytes themselves


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")

    def told(**settings: Any) -> ModelFolder:
        (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(settings))
        return ModelFolder(tmp_path)

    return told


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(37, 61), (224, 101), (5, 300)], ids=str)
@pytest.mark.parametrize(("resample", "apart"), [(1, 0), (2, 2), (3, 2)])
def test_resizing_is_pillows_but_for_the_last_bits(
    resample: int, apart: int, size: tuple[int, int], folder: Any
) -> None:
    from PIL import Image

    size_told = {"height": size[0], "width": size[1]}
    steps = Frames(folder(size=size_told, resample=resample, **PLAIN), CLIP)
    frames = noise(2, 90, 120)
    found = steps(frames).permute(0, 2, 3, 1).numpy()
    expected = [Image.fromarray(each).resize(size[::-1], resample) for each in frames]
    differences = np.abs(found - np.stack([np.asarray(each, np.float32) for each in expected]))
    assert found.shape == (2, *size, 3)
    assert differences.max() <= apart
    assert differences.mean() < 0.3


def test_frames_of_the_right_size_stay_as_they_are(folder: Any) -> None:
    frames = noise(3, 32, 32)
    steps = Frames(folder(size={"height": 32, "width": 32}, **PLAIN), CLIP)
    assert (steps(frames).permute(0, 2, 3, 1).numpy() == frames).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((90, 120), (30, 40)), ((121, 90), (40, 30)), ((7, 300), (30, 1285))]
)
def test_the_shorter_side_is_what_is_asked_for(
    shape: tuple[int, int], size: tuple[int, int], folder: Any
) -> None:
    for told in ({"shortest_edge": 30}, 30, {"shortest_edge": 30, "height": None, "width": None}):
        steps = Frames(folder(size=told), CLIP)
        assert steps.sizes(1, *shape) == [size]


def test_the_middle_is_cut_out_and_what_is_missing_is_black(folder: Any) -> None:
    frames = noise(1, 11, 4)
    told = PLAIN | {"do_resize": False, "do_center_crop": True}
    steps = Frames(folder(crop_size={"height": 6, "width": 9}, **told), CLIP)
    found = steps(frames).permute(0, 2, 3, 1).numpy()
    expected = np.zeros((1, 6, 9, 3))
    expected[:, :, 2:6] = frames[
        :, 2:8
    ]  # of 5 rows 2 are cut off above, of 5 columns 2 come before
    assert (found == expected).all()
    assert Frames(folder(crop_size=3, **told), CLIP)(frames).shape == (1, 3, 3, 3)


def test_values_are_rescaled_and_normalised_by_channel(folder: Any) -> None:
    frames = noise(2, 8, 8)
    found = Frames(folder(do_resize=False), CLIP)(frames).permute(0, 2, 3, 1).numpy()
    expected = (frames / 255 - np.array(CLIP["image_mean"])) / np.array(CLIP["image_std"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    rescaled = Frames(folder(do_resize=False, do_normalize=False), CLIP)(frames)
    np.testing.assert_allclose(rescaled.permute(0, 2, 3, 1).numpy(), frames / 255, rtol=1e-6)


PATCHED = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, **HALF}


def test_patches_follow_each_other_by_merged_squares(folder: Any) -> None:
    size = {"shortest_edge": 64, "longest_edge": 10_000}
    steps = PatchedFrames(folder(size=size, **PLAIN), PATCHED)
    frames = noise(3, 16, 24)
    patches, grid = steps.patches(frames)
    assert grid == (2, 4, 6)
    shown = np.concatenate([frames, frames[-1:]])  # the last one again, to make them pairs
    expected = [
        shown[2 * t : 2 * t + 2, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        for t in range(2)
        for down in (0, 2)
        for right in (0, 2, 4)
        for row in (down, down + 1)
        for column in (right, right + 1)
    ]
    flat = np.stack([patch.transpose(3, 0, 1, 2).ravel() for patch in expected])
    assert (patches.numpy() == flat).all()


SIDES = st.integers(1, 700)


@given(height=SIDES, width=SIDES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_of_qwen_get_the_size_that_transformers_gives_them(
    height: int, width: int, folder: Any
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    assume(max(height, width) <= 200 * min(height, width))
    size = {"shortest_edge": 4096, "longest_edge": 50_000}
    found = PatchedFrames(folder(size=size), PATCHED).sizes(4, height, width)
    assert found == [smart_resize(height, width, 8, 4096, 50_000)]


@given(count=st.integers(2, 9), height=SIDES, width=SIDES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_of_qwen3_get_the_size_that_transformers_gives_them(
    count: int, height: int, width: int, folder: Any
) -> None:
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    assume(max(height, width) <= 200 * min(height, width))
    size = {"shortest_edge": 16_384, "longest_edge": 200_000}
    found = ClipFrames(folder(size=size), PATCHED).sizes(count, height, width)
    assert found == [smart_resize(count, height, width, 2, 8, 16_384, 200_000)]


def test_a_share_of_the_tokens_of_a_clip_bounds_a_frame(folder: Any) -> None:
    size = {"shortest_edge": 1000, "longest_edge": 100_000}
    for tokens, expected in ((1, 32), (1000, 168)):
        # 1: five hundredths above the least; 1000: 0.9 of them for pairs of 4 frames, of 64 pixels
        told = folder(size=size, cap_pixels_per_frame=True, max_video_tokens=tokens)
        assert PatchedFrames(told, PATCHED).sizes(4, 400, 400) == [(expected, expected)]


def test_the_frames_of_qwen3_share_their_bounds(folder: Any) -> None:
    told = folder(size={"shortest_edge": 64, "longest_edge": 40_000})
    ((height, width),) = PatchedFrames(told, PATCHED).sizes(8, 400, 400)
    assert height * width > 35_000
    ((height, width),) = ClipFrames(told, PATCHED).sizes(8, 400, 400)
    assert 4_000 < height * width <= 5_000


@pytest.mark.parametrize(
    ("shape", "first"), [((90, 120), (84, 112)), ((3, 300), (2, 112)), ((201, 77), (112, 42))]
)
def test_frames_of_smolvlm_become_squares_by_way_of_their_own_shape(
    shape: tuple[int, int], first: tuple[int, int], folder: Any
) -> None:
    told = folder(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    assert SquareFrames(told, {"resample": 1, **HALF}).sizes(1, *shape) == [first, (56, 56)]
    sampling = {"video_size": {"longest_edge": 300}}  # of a file without a size of its own
    told = folder(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}, video_sampling=sampling
    )
    assert SquareFrames(told, {"resample": 1, **HALF}).sizes(1, *shape) == [first, (56, 56)]


def test_the_newest_file_that_tells_of_frames_is_named(folder: Any, tmp_path: Path) -> None:
    made = folder(size={"height": 8, "width": 8})
    assert Frames(made, CLIP).where == str(tmp_path / "video_preprocessor_config.json")
    (tmp_path / "processor_config.json").write_text('{"video_processor": 7}')
    with pytest.raises(EncoderError, match=r"processor_config\.json: its video_processor is no"):
        Frames(made, CLIP)
    (tmp_path / "processor_config.json").write_text("{}")
    (tmp_path / "video_preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match=r"video_preprocessor_config\.json missing"):
        Frames(made, CLIP)

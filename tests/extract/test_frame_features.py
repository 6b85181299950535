import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import DecodeError
from merstore.extract.video import read_frames
from merstore.extract.video_features import VideoFeatures
from merstore.extract.vision import VisionEncoder

from .conftest import number_shown


@pytest.fixture(params=["clip", "dinov2"])
def features(request: pytest.FixtureRequest, clip_model: Path, dinov2_model: Path) -> VideoFeatures:
    model = {"clip": clip_model, "dinov2": dinov2_model}[request.param]
    return VideoFeatures(VisionEncoder(model, device="cpu"))


def test_name_and_declare_a_view(clip_model: Path) -> None:
    features = VideoFeatures(VisionEncoder(clip_model), n=4)
    assert features.modality == "frame"
    assert features.encoder_name == "tiny-clip"
    assert features.sampling == "uniform_4frms"
    assert features.dtype == "float32"
    assert features.shape == (4, 64)
    assert json.loads(json.dumps(features.spec)) == features.spec


def test_decode_gives_the_frames_of_the_rule(
    features: VideoFeatures, make_clip: Callable[..., Path]
) -> None:
    pixels = features.decode(make_clip("x.mp4", 100))
    assert pixels.shape == (8, 224, 224, 3)
    assert pixels.dtype == np.uint8
    assert [number_shown(image) for image in pixels] == [0, 12, 25, 37, 50, 62, 75, 87]


def test_decode_raises_what_is_wrong_with_a_clip(features: VideoFeatures, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no such file"):
        features.decode(tmp_path / "x.mp4")


def test_clips_encoded_together_are_the_same_bits_as_alone(
    features: VideoFeatures, make_clip: Callable[..., Path]
) -> None:
    clips = [features.decode(make_clip(f"{n}.mp4", n)) for n in (1, 5, 30)]
    together = features.encode(clips)
    assert len(together) == 3
    for pixels, encoded in zip(clips, together, strict=True):
        assert encoded.shape == (8, 64)
        assert encoded.dtype == np.float32
        (alone,) = features.encode([pixels])
        np.testing.assert_array_equal(encoded, alone)
    assert features.encode([]) == []


@pytest.mark.parametrize("n", [1, 5, 6])
def test_any_number_of_frames_is_the_same_within_rounding(clip_model: Path, n: int) -> None:
    features = VideoFeatures(VisionEncoder(clip_model, device="cpu", batch=4), n=n)
    clips = list(np.random.default_rng(0).integers(0, 256, (3, n, 224, 224, 3), np.uint8))
    for pixels, encoded in zip(clips, features.encode(clips), strict=True):
        np.testing.assert_allclose(encoded, features.encode([pixels])[0], atol=1e-5)


def test_two_settings_never_share_a_spec(clip_model: Path, dinov2_model: Path) -> None:
    clip, dinov2 = VisionEncoder(clip_model), VisionEncoder(dinov2_model)
    made = [VideoFeatures(clip), VideoFeatures(clip, n=4), VideoFeatures(dinov2)]
    specs = {json.dumps(features.spec, sort_keys=True) for features in made}
    assert len(specs) == 3
    assert VideoFeatures(clip).spec == VideoFeatures(clip).spec


@pytest.mark.parametrize("n", [7, 11, 13])
def test_a_number_that_the_rule_does_not_keep_is_refused(clip_model: Path, n: int) -> None:
    with pytest.raises(ValueError, match=f"uniform does not give {n} of .* such as 8"):
        VideoFeatures(VisionEncoder(clip_model), n=n)


def test_another_rule_is_refused(clip_model: Path) -> None:
    with pytest.raises(ValueError, match="no sampling rule 'headtail'; there is uniform"):
        VideoFeatures(VisionEncoder(clip_model), rule="headtail")


def test_go_through_pickle(features: VideoFeatures) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)
    (expected,) = features.encode([clip])
    copy = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(copy.encode([clip])[0], expected)
    assert copy.spec == features.spec


@pytest.mark.shared
def test_real_clips_and_weights(shared: Path) -> None:
    """A clip of one frame gets it eight times; another beside it gets what it gets alone."""
    encoder = VisionEncoder(shared / "models" / "dinov2-small", device="cpu")
    features = VideoFeatures(encoder)
    assert features.shape == (8, 384)
    names = ["odd_one_frame.mp4", "talk_vr_face1.mp4"]
    clips = [features.decode(shared / "media" / name) for name in names]
    one, talk = features.encode(clips)
    assert (one == one[0]).all()
    np.testing.assert_array_equal(talk, features.encode([clips[1]])[0])
    again = read_frames(shared / "media" / names[1], lambda n: [0], (224, 224)).pixels
    np.testing.assert_allclose(encoder.encode(again)[0], talk[0], atol=1e-4)

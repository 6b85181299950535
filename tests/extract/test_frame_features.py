import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import EncoderError, InvalidKey
from merstore.extract import sampling
from merstore.extract.frame_features import FrameFeatures
from merstore.extract.material import Material
from merstore.extract.reading import Refusal, read
from merstore.extract.rules import seed_of
from merstore.extract.video import read_frames

from . import reference_vision
from .conftest import number_shown

AU_INFO = {
    "total_frames": 45,
    "peak_frames": [{"peak_index": 10, "frames_before_peak": 10, "frames_after_peak": 34}],
}
MakeClip = Callable[..., Path]


def made(model: Path, sampling: str, profile: str = "clean", **options: Any) -> FrameFeatures:
    return FrameFeatures.create(
        model.name, sampling, profile=profile, weights=model, device="cpu", **options
    )


def prepared(features: FrameFeatures, clip: Path, **material: Any) -> Any:
    """The frames, or why there are none."""
    (result,) = read(Material(clip.stem, video=clip, **material), [features]).results
    return result


def analysis(folder: Path, au_info: dict[str, Any] | None = None) -> Path:
    path = folder / "au.json"
    path.write_text(json.dumps({"au_info": au_info, "per_frame_au_descriptions": []}))
    return path


class TestView:
    def test_is_named_and_declared(self, tiny_models: Mapping[str, Path]) -> None:
        features = FrameFeatures.create(
            "CLIP_VIT_LARGE",
            "uniform_4frms",
            profile="affectgpt",
            weights=tiny_models["clip"],
            device="cpu",
        )
        assert (features.modality, features.reads) == ("frame", "video")
        assert features.encoder_name == "CLIP_VIT_LARGE"
        assert features.sampling == "uniform_4frms"
        assert features.dtype == "float32"
        assert features.shape == (4, 40)
        spec = features.spec
        assert json.loads(json.dumps(spec)) == spec
        assert spec["encoder"]["profile"]["name"] == "affectgpt"
        assert spec["sampling"] == {"rule": "uniform", "n": 4}
        assert spec["frames"] == {
            "fit": "squash",
            "size": [224, 224],
            "channels": "RGB",
            "version": 1,
        }

    @pytest.mark.parametrize(
        ("kind", "profile", "sampling", "shape", "rule"),
        [
            ("clip", "clean", "FRA", (None, 40), {"rule": "all"}),
            ("clip", "clean", "UTT", (40,), {"rule": "all"}),
            ("dinov2", "clean", "FRA", (None, 48), {"rule": "all"}),
            ("dinov2", "mertools", "FRA", (64, 48), {"rule": "uniform", "n": 64}),
            ("dinov2", "mertools", "UTT", (48,), {"rule": "uniform", "n": 64}),
            ("data2vec-vision", "mertools", "FRA", (None, 48), {"rule": "all"}),
            ("videomae", "mertools", "FRA", (8, 48), {"rule": "uniform", "n": 16}),
            ("videomae", "clean", "UTT", (48,), {"rule": "uniform", "n": 16}),
            ("videomae", "clean", "uniform_32frms", (16, 48), {"rule": "uniform", "n": 32}),
        ],
    )
    def test_has_the_rows_of_its_level(
        self,
        kind: str,
        profile: str,
        sampling: str,
        shape: tuple[int | None, ...],
        rule: dict[str, object],
        tiny_models: Mapping[str, Path],
    ) -> None:
        features = made(tiny_models[kind], sampling, profile)
        assert features.shape == shape
        assert features.spec["sampling"] == rule
        assert features.spec["pooling"] == ("mean over time" if sampling == "UTT" else None)

    def test_of_sunlicais_videomae_is_of_two_clips(self, tiny_models: Mapping[str, Path]) -> None:
        features = FrameFeatures.create(
            "sunlicai-videomae-base", "FRA", profile="mertools", weights=tiny_models["videomae"]
        )
        assert features.shape == (16, 48)
        assert features.spec["sampling"] == {"rule": "two_clips"}

    def test_never_shares_a_spec_with_another(self, tiny_models: Mapping[str, Path]) -> None:
        clip, dinov2 = tiny_models["clip"], tiny_models["dinov2"]
        views = [
            made(clip, "uniform_8frms"),
            made(clip, "uniform_4frms"),
            made(clip, "headtail_8frms"),
            made(clip, "segments_8frms"),
            made(clip, "emotion_peak_8frms"),
            made(clip, "emotion_peak_8frms", variant="reader"),
            made(clip, "UTT"),
            made(clip, "FRA"),
            made(dinov2, "uniform_8frms"),
            made(dinov2, "uniform_8frms", tokens="cls"),
            made(dinov2, "uniform_8frms", "affectgpt"),
            made(dinov2, "uniform_8frms", "mertools"),
        ]
        assert len({json.dumps(view.spec, sort_keys=True) for view in views}) == len(views)
        assert made(clip, "UTT").spec == made(clip, "UTT").spec

    def test_of_a_sampling_that_is_not_there_is_refused(
        self, tiny_models: Mapping[str, Path]
    ) -> None:
        with pytest.raises(InvalidKey, match="no sampling 'middle_8frms'; there is uniform"):
            made(tiny_models["clip"], "middle_8frms")
        with pytest.raises(
            InvalidKey, match="sees 16 frames at a time: uniform_8frms is not a mul"
        ):
            made(tiny_models["videomae"], "uniform_8frms")


class TestFrames:
    @pytest.mark.parametrize("profile", ["affectgpt", "clean"])
    def test_are_those_of_the_rule(
        self, profile: str, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        pixels = prepared(
            made(tiny_models["clip"], "uniform_8frms", profile), make_clip("x.mp4", 100)
        )
        assert pixels.shape == (8, 224, 224, 3)
        assert pixels.dtype == np.uint8
        if profile == "affectgpt":  # the other cuts off the numbers' sides
            assert [number_shown(image) for image in pixels] == [0, 12, 25, 37, 50, 62, 75, 87]

    def test_of_the_profile_affectgpt_are_squashed(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        clip = make_clip("x.mp4", 3)
        pixels = prepared(made(tiny_models["clip"], "FRA", "affectgpt"), clip)
        expected = read_frames(clip, range, (224, 224)).pixels
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize("kind", ["dinov2", "siglip"])
    def test_of_the_others_keep_their_aspect_ratio_until_the_models_own_preprocessing(
        self, kind: str, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        clip = make_clip("x.mp4", 3)  # 160 x 120
        features = made(tiny_models[kind], "FRA")
        side = {"dinov2": 256, "siglip": 96}[kind]
        assert features.spec["frames"]["short_side"] == side
        size = (96, 128) if kind == "siglip" else None  # never enlarged
        expected = features.encoder.prepare(read_frames(clip, range, size).pixels)
        np.testing.assert_array_equal(prepared(features, clip), expected)

    def test_at_random_follow_from_the_samples_name(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        features = made(tiny_models["clip"], "headtail_6frms", "affectgpt")
        for name in ("a", "b"):
            pixels = prepared(features, make_clip(f"{name}.mp4", 60))
            expected = sampling.headtail(60, 6, seed_of(name))
            assert [number_shown(image) for image in pixels] == expected

    def test_of_both_halves_of_one_frame_there_are_none(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        refused = prepared(made(tiny_models["clip"], "headtail_6frms"), make_clip("x.mp4", 1))
        assert refused == Refusal(
            "too_short", "has a single frame, and headtail takes some of both halves"
        )

    def test_around_the_peak(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip, tmp_path: Path
    ) -> None:
        features = made(tiny_models["clip"], "emotion_peak_8frms", "affectgpt")
        clip = make_clip("x.mp4", 45)
        pixels = prepared(features, clip, au=analysis(tmp_path, AU_INFO))
        assert [number_shown(image) for image in pixels] == [0, 8, 9, 10, 11, 12, 18, 31]
        refused = prepared(features, clip, au=analysis(tmp_path))
        assert refused.kind == "no_au_info"
        refused = prepared(features, clip)
        assert refused == Refusal("no_au_info", "there is no MER-Factory analysis of it")

    def test_around_a_peak_beyond_the_clips_end_are_refused_by_number(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip, tmp_path: Path
    ) -> None:
        features = made(tiny_models["clip"], "emotion_peak_8frms")
        refused = prepared(features, make_clip("x.mp4", 20), au=analysis(tmp_path, AU_INFO))
        assert refused.kind == "no_au_info"
        assert refused.message.startswith("emotion_peak asks for frame 31 of a clip that has 20")

    @pytest.mark.parametrize("variant", ["reader", "extractor", "middle"])
    def test_without_a_peak_are_a_variants_where_that_is_asked_for(
        self,
        variant: sampling.Variant,
        tiny_models: Mapping[str, Path],
        make_clip: MakeClip,
        tmp_path: Path,
    ) -> None:
        features = made(tiny_models["clip"], "emotion_peak_8frms", "affectgpt", variant=variant)
        expected = sampling.emotion_peak(None, 45, 8, variant)
        clip = make_clip("x.mp4", 45)
        for given in ({}, {"au": analysis(tmp_path)}, {"au": tmp_path / "none.json"}):
            pixels = prepared(features, clip, **given)
            assert [number_shown(image) for image in pixels] == expected

    def test_of_several_views_are_decoded_once(
        self,
        tiny_models: Mapping[str, Path],
        make_clip: MakeClip,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from merstore.extract import video

        decodes = []
        decode = video._decode
        monkeypatch.setattr(
            video, "_decode", lambda *given: decodes.append(given) or decode(*given)
        )
        views = [
            made(tiny_models["clip"], "uniform_8frms", "affectgpt"),
            made(tiny_models["clip"], "headtail_6frms"),
            made(tiny_models["dinov2"], "FRA"),
        ]
        clip = make_clip("x.mp4", 30)
        results = read(Material("x", video=clip), views).results
        assert [len(pixels) for pixels in results] == [8, 6, 30]
        assert len(decodes) == 1

    def test_of_a_clip_that_is_not_there_are_refused(
        self, tiny_models: Mapping[str, Path], tmp_path: Path
    ) -> None:
        features = made(tiny_models["clip"], "UTT")
        assert prepared(features, tmp_path / "x.mp4").kind == "missing_file"
        (refused,) = read(Material("x"), [features]).results
        assert refused == Refusal("no_video", "there is no clip of it")


class TestEntries:
    @pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip"])
    def test_are_affectgpts(
        self, kind: str, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        features = made(tiny_models[kind], "uniform_8frms", "affectgpt")
        clips = [make_clip(f"{n}.mp4", n) for n in (1, 5, 30)]
        entries = features.encode([prepared(features, clip) for clip in clips])
        for clip, entry in zip(clips, entries, strict=True):
            frames = read_frames(clip, range, (224, 224)).pixels
            frames = frames[reference_vision.uniform(len(frames), 8)]
            expected = reference_vision.affectgpt(tiny_models[kind], frames)
            assert (entry.shape, entry.dtype) == (features.shape, np.float32)
            np.testing.assert_allclose(entry, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip", "data2vec-vision"])
    def test_of_the_profile_clean_are_the_models_own_of_the_decoded_frames(
        self, kind: str, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        clip = make_clip("x.mp4", 5)
        frames = read_frames(clip, range, (96, 128) if kind == "siglip" else None).pixels
        expected = reference_vision.clean(tiny_models[kind], frames)
        for level, rows in {"FRA": expected, "UTT": expected.mean(axis=0)}.items():
            features = made(tiny_models[kind], level)
            (entry,) = features.encode([prepared(features, clip)])
            np.testing.assert_allclose(entry, rows, rtol=1e-5, atol=1e-5)

    def test_have_the_bits_that_each_has_alone(
        self, tiny_models: Mapping[str, Path], make_clip: MakeClip
    ) -> None:
        for sampling_ in ("uniform_5frms", "UTT", "FRA"):
            features = made(tiny_models["dinov2"], sampling_)
            clips = [prepared(features, make_clip(f"{n}.mp4", n)) for n in (1, 13, 5, 22)]
            assert features.encode([]) == []
            for pixels, entry in zip(clips, features.encode(clips), strict=True):
                np.testing.assert_array_equal(features.encode([pixels])[0], entry)
                assert features.size(pixels) == len(pixels)

    def test_go_through_pickle(self, tiny_models: Mapping[str, Path], make_clip: MakeClip) -> None:
        features = made(tiny_models["clip"], "headtail_6frms")
        pixels = prepared(features, make_clip("x.mp4", 30))
        (expected,) = features.encode([pixels])
        copy = pickle.loads(pickle.dumps(features))
        np.testing.assert_array_equal(copy.encode([pixels])[0], expected)
        assert copy.spec == features.spec

    def test_of_another_models_pictures_are_an_error_of_ours(
        self, tiny_models: Mapping[str, Path]
    ) -> None:
        with pytest.raises(EncoderError, match="clip cannot encode"):
            made(tiny_models["clip"], "UTT").encode([np.zeros((1, 96, 96, 3), np.uint8)])


@pytest.mark.shared
class TestRealClipsAndWeights:
    CLIPS = (
        "odd_one_frame.mp4",
        "short_36frames.mp4",
        "odd_rotated90_face.mp4",
        "h265_10frames.mp4",
    )

    def test_have_the_bits_that_each_has_alone_in_any_order(self, shared: Path) -> None:
        """Of 3, 2, 5 and 1 frames."""
        weights = shared / "models" / "dinov2-small"
        clips = []
        for name, n in zip(self.CLIPS, (3, 2, 5, 1), strict=True):
            clips.append(prepared(made(weights, f"segments_{n}frms"), shared / "media" / name))
        features = made(weights, "FRA")
        together = features.encode(clips)
        backwards = features.encode(clips[:0:-1])
        np.testing.assert_array_equal(together[0], features.encode(clips[:1])[0])
        for one, other in zip(together[:0:-1], backwards, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (together[0] == together[0][0]).all()

    def test_are_affectgpts(self, shared: Path) -> None:
        weights = shared / "models" / "dinov2-small"
        features = made(weights, "uniform_2frms", "affectgpt")
        for name in self.CLIPS[1:3]:
            clip = shared / "media" / name
            (entry,) = features.encode([prepared(features, clip)])
            frames = read_frames(clip, range, (224, 224)).pixels
            frames = frames[reference_vision.uniform(len(frames), 2)]
            expected = reference_vision.affectgpt(weights, frames)
            np.testing.assert_allclose(entry, expected, rtol=1e-4, atol=1e-4)

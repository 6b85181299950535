import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import EncoderError, InvalidKey
from merstore.extract.face_detection import CenterFace, Detection, Pixels, detect_faces
from merstore.extract.face_features import FaceFeatures
from merstore.extract.faces import resize_bilinear
from merstore.extract.material import Material
from merstore.extract.reading import Refusal, read

from . import reference_vision

MakeTrack = Callable[[int], Path]


class Everywhere:
    """Finds a face in the middle of each frame that is not black."""

    name = "everywhere"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "version": 1, "weights": None}

    def detect(self, frames: Pixels) -> list[list[Detection]]:
        return [[Detection((60, 40, 100, 80), 1.0)] if frame.any() else [] for frame in frames]


@pytest.fixture
def make_track(tmp_path: Path) -> MakeTrack:
    """A track of so many faces."""

    def make(n: int) -> Path:
        rng = np.random.default_rng(n)
        coarse = rng.integers(0, 256, (n, 14, 14, 3), np.uint8)
        path = tmp_path / f"{n}.npy"
        np.save(path, coarse.repeat(8, axis=1).repeat(8, axis=2))
        return path

    return make


def made(model: Path, sampling: str, profile: str = "clean", **options: Any) -> FaceFeatures:
    name = options.pop("name", model.name)
    return FaceFeatures.create(
        name, sampling, profile=profile, weights=model, device="cpu", **options
    )


def prepared(features: FaceFeatures, **material: Any) -> Any:
    """The faces, or why there are none."""
    (result,) = read(Material("s", **material), [features]).results
    return result


class TestView:
    def test_is_named_and_declared(self, tiny_models: Mapping[str, Path]) -> None:
        features = made(tiny_models["clip"], "8frms", "affectgpt", name="CLIP_VIT_LARGE")
        assert (features.modality, features.reads) == ("face", "face")
        assert f"{features.encoder_name}/{features.sampling}" == "CLIP_VIT_LARGE/8frms"
        assert (features.dtype, features.shape) == ("float32", (8, 40))
        spec = features.spec
        assert json.loads(json.dumps(spec)) == spec
        assert spec["sampling"] == {"rule": "uniform", "n": 8}
        assert spec["faces"] == {
            "fit": "squash, OpenCV bilinear",
            "size": [224, 224],
            "channels": "BGR",
        }
        assert spec["missing"] == "failure"
        rgb = made(tiny_models["clip"], "8frms", "mertools").spec["faces"]
        assert rgb == {"fit": "as they are", "channels": "RGB"}

    def test_never_shares_a_spec_with_another(self, tiny_models: Mapping[str, Path]) -> None:
        clip = tiny_models["clip"]
        views = [
            made(clip, "8frms"),
            made(clip, "8frms", "affectgpt"),
            made(clip, "8frms", "mertools"),
            made(clip, "FRA"),
            made(clip, "UTT"),
            made(clip, "UTT", missing="zeros"),
            made(clip, "UTT", detector=Everywhere()),
        ]
        assert len({json.dumps(view.spec, sort_keys=True) for view in views}) == len(views)

    @pytest.mark.parametrize(
        "sampling", ["uniform_8frms", "emotion_peak_8frms", "8", "frms", "0frms"]
    )
    def test_of_a_sampling_that_is_not_there_is_refused(
        self, sampling: str, tiny_models: Mapping[str, Path]
    ) -> None:
        with pytest.raises(InvalidKey, match="no sampling"):
            made(tiny_models["clip"], sampling)

    def test_of_an_option_that_is_not_there_is_refused(
        self, tiny_models: Mapping[str, Path]
    ) -> None:
        with pytest.raises(EncoderError, match="a failure, or 'zeros', not 'mean'"):
            made(tiny_models["clip"], "UTT", missing="mean")
        with pytest.raises(EncoderError, match="no face detector 'mtcnn'; there is centerface"):
            made(tiny_models["clip"], "UTT", detector="mtcnn")


class TestEntries:
    @pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip"])
    @pytest.mark.parametrize("n", [3, 20])
    def test_are_affectgpts(
        self, kind: str, n: int, tiny_models: Mapping[str, Path], make_track: MakeTrack
    ) -> None:
        """Every face is resized, then 8 are taken, in BGR."""
        track = make_track(n)
        features = made(tiny_models[kind], "8frms", "affectgpt")
        (entry,) = features.encode([prepared(features, face=track)])
        faces = resize_bilinear(np.load(track), (224, 224))[reference_vision.uniform(n, 8)]
        expected = reference_vision.affectgpt(tiny_models[kind], faces)
        assert (entry.shape, entry.dtype) == ((8, features.encoder.dim), np.float32)
        np.testing.assert_allclose(entry, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("clip-vit-base-patch32", "clip"),
            ("data2vec-vision-base-ft1k", "data2vec-vision"),
            ("dinov2-large", "dinov2"),
            ("videomae-base", "videomae"),
            ("sunlicai-videomae-base", "videomae"),
        ],
    )
    @pytest.mark.parametrize("n", [1, 40, 100])
    def test_are_mertools(
        self,
        name: str,
        kind: str,
        n: int,
        tiny_models: Mapping[str, Path],
        make_track: MakeTrack,
    ) -> None:
        track = make_track(n)
        expected = reference_vision.mertools(
            tiny_models[kind], np.load(track), sunlicai=name.startswith("sunlicai")
        )
        frame = made(tiny_models[kind], "FRA", "mertools", name=name)
        (entry,) = frame.encode([prepared(frame, face=track)])
        assert entry.dtype == np.float32
        assert all(
            size in (None, given) for given, size in zip(entry.shape, frame.shape, strict=True)
        )
        np.testing.assert_allclose(entry, expected, rtol=1e-5, atol=1e-4)
        utterance = made(tiny_models[kind], "UTT", "mertools", name=name)
        (entry,) = utterance.encode([prepared(utterance, face=track)])
        assert (entry.shape, entry.dtype) == (utterance.shape, np.float32)
        np.testing.assert_allclose(entry, np.mean(expected, axis=0), rtol=1e-5, atol=1e-4)

    def test_of_the_profile_clean_are_the_models_own(
        self, tiny_models: Mapping[str, Path], make_track: MakeTrack
    ) -> None:
        track = make_track(5)
        features = made(tiny_models["dinov2"], "FRA")
        (entry,) = features.encode([prepared(features, face=track)])
        expected = reference_vision.clean(tiny_models["dinov2"], np.load(track)[..., ::-1])
        np.testing.assert_allclose(entry, expected, rtol=1e-5, atol=1e-5)

    def test_have_the_bits_that_each_has_alone(
        self, tiny_models: Mapping[str, Path], make_track: MakeTrack
    ) -> None:
        features = made(tiny_models["data2vec-vision"], "FRA", "mertools")
        tracks = [prepared(features, face=make_track(n)) for n in (1, 13, 5, 40)]
        for pixels, entry in zip(tracks, features.encode(tracks), strict=True):
            np.testing.assert_array_equal(features.encode([pixels])[0], entry)

    def test_go_through_pickle(
        self, tiny_models: Mapping[str, Path], make_track: MakeTrack
    ) -> None:
        features = made(tiny_models["clip"], "UTT", detector=CenterFace(), missing="zeros")
        copy = pickle.loads(pickle.dumps(features))
        pixels = prepared(copy, face=make_track(3))
        np.testing.assert_array_equal(copy.encode([pixels])[0], features.encode([pixels])[0])


class TestWithoutAFace:
    def empty(self, folder: Path) -> Path:
        np.save(folder / "none.npy", np.empty((0, 112, 112, 3), np.uint8))
        return folder / "none.npy"

    def test_an_entry_fails(self, tiny_models: Mapping[str, Path], tmp_path: Path) -> None:
        features = made(tiny_models["clip"], "UTT", "mertools")
        assert prepared(features, face=self.empty(tmp_path)).kind == "no_face"
        assert prepared(features, face=tmp_path / "x.npy").kind == "missing_file"
        assert prepared(features).kind == "no_face"

    def test_but_with_a_clip_it_says_what_to_do(
        self, tiny_models: Mapping[str, Path], make_clip: Callable[..., Path]
    ) -> None:
        refused = prepared(made(tiny_models["clip"], "UTT"), video=make_clip("x.mp4", 3))
        assert refused == Refusal(
            "no_face",
            "there is no face track of it; run OpenFace on its clip, or have faces looked for there "
            '(detector="centerface")',
        )

    @pytest.mark.parametrize(
        ("kind", "sampling", "shape", "declared"),
        [
            ("clip", "UTT", (40,), (40,)),
            ("clip", "FRA", (1, 40), (None, 40)),
            ("dinov2", "FRA", (1, 48), (None, 48)),
            ("clip", "8frms", (8, 40), (8, 40)),
        ],
    )
    def test_zeros_stand_for_it_where_they_are_asked_for(
        self,
        kind: str,
        sampling: str,
        shape: tuple[int, ...],
        declared: tuple[int | None, ...],
        tiny_models: Mapping[str, Path],
        tmp_path: Path,
        make_track: MakeTrack,
    ) -> None:
        features = made(tiny_models[kind], sampling, "mertools", missing="zeros")
        assert features.shape == declared
        assert features.spec["missing"] == "zeros"
        batch = [
            prepared(features, face=make_track(3)),
            prepared(features, face=self.empty(tmp_path)),
            prepared(features),
        ]
        found, *zeros = features.encode(batch)
        assert found.any()
        for entry in zeros:
            assert (entry.shape, entry.dtype) == (shape, np.float32)
            assert not entry.any()
        assert prepared(features, face=tmp_path / "x.npy").kind == "missing_file"


class TestDetector:
    def test_makes_the_track_that_a_sample_does_not_have(
        self,
        tiny_models: Mapping[str, Path],
        make_clip: Callable[..., Path],
        make_track: MakeTrack,
    ) -> None:
        clip, track = make_clip("x.mp4", 5), make_track(3)
        features = made(tiny_models["clip"], "FRA", detector=Everywhere())
        assert features.spec["faces"]["without_track"]["detector"]["name"] == "everywhere"
        found = detect_faces(clip, Everywhere())
        expected = features.encoder.prepare(found.pixels[..., ::-1])
        np.testing.assert_array_equal(prepared(features, video=clip), expected)
        assert len(prepared(features, video=clip, face=track)) == 3

    def test_looks_once_for_several_views(
        self,
        tiny_models: Mapping[str, Path],
        make_clip: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        looked = []
        detect = Everywhere.detect
        monkeypatch.setattr(
            Everywhere, "detect", lambda *given: looked.append(given) or detect(*given)
        )
        views = [
            made(tiny_models["clip"], "FRA", detector=Everywhere()),
            made(tiny_models["dinov2"], "8frms", "affectgpt", detector=Everywhere()),
        ]
        result = read(Material("x", video=make_clip("x.mp4", 5)), views)
        assert [len(pixels) for pixels in result.results] == [5, 8]
        assert len(looked) == 1
        assert result.quality["face"].facts["detector"] == "everywhere"

    @pytest.mark.shared
    def test_centerface_on_real_clips(self, shared: Path, tiny_models: Mapping[str, Path]) -> None:
        pytest.importorskip("onnxruntime")
        features = made(tiny_models["clip"], "8frms", detector="centerface")
        assert prepared(features, video=shared / "media" / "odd_two_frames.mp4").shape[0] == 8
        refused = prepared(features, video=shared / "media" / "h265_10frames.mp4")
        assert refused.kind == "no_face"

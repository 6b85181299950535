import hashlib
import json
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from merstore.errors import EncoderError
from merstore.extract.demo_encoder import make_random_encoder
from merstore.extract.pictures import normalise
from merstore.extract.vision import FAMILIES, VisionEncoder

from . import reference, reference_vision

Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Images:
    """16 frames: of noise, of one colour each, of dark noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 224, 224, 3), np.uint8)
    noise[4:10] = noise[4:10, :1, :1]
    noise[10:] //= 4
    return noise


@pytest.fixture(params=["clip", "dinov2"])
def model(request: pytest.FixtureRequest, clip_model: Path, dinov2_model: Path) -> Path:
    return {"clip": clip_model, "dinov2": dinov2_model}[request.param]


def edited(model: Path, folder: Path, file: str = "config.json", **changes: object) -> Path:
    """A copy of a model with other values in one of its JSON files."""
    shutil.copytree(model, folder)
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(values | changes))
    return folder


def encoded(encoder: VisionEncoder, frames: Images) -> npt.NDArray[np.float32]:
    """The features of one clip's frames."""
    (features,) = encoder.encode([encoder.prepare(frames)])
    return features


class TestFeatures:
    @pytest.mark.parametrize("profile", ["affectgpt", "clean"])
    def test_are_those_of_an_independent_reference(
        self, model: Path, frames: Images, profile: str
    ) -> None:
        features = encoded(VisionEncoder(model, profile=profile), frames[:12])
        assert features.shape == (12, 64)
        assert features.dtype == np.float32
        expected = reference.features(model, frames[:12], clean=profile == "clean")
        np.testing.assert_allclose(features, expected, atol=1e-5)

    def test_of_frames_of_another_size_too(self, model: Path) -> None:
        large = np.random.default_rng(1).integers(0, 256, (2, 300, 448, 3), np.uint8)
        features = encoded(VisionEncoder(model, profile="affectgpt"), large)
        np.testing.assert_allclose(features, reference.features(model, large), atol=1e-5)

    def test_are_not_normalised(self, clip_model: Path, frames: Images) -> None:
        lengths = np.linalg.norm(encoded(VisionEncoder(clip_model), frames), axis=1)
        assert abs(lengths - 1).min() > 0.1

    def test_are_float32_whatever_the_weights_are(
        self, model: Path, frames: Images, tmp_path: Path
    ) -> None:
        half = edited(model, tmp_path / "half", dtype="float16", torch_dtype="float16")
        weights = load_file(half / "model.safetensors")
        save_file(
            {key: weight.astype(np.float16) for key, weight in weights.items()},
            half / "model.safetensors",
            {"format": "pt"},
        )
        features = encoded(VisionEncoder(half, profile="affectgpt"), frames[:4])
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, reference.features(half, frames[:4]), atol=1e-5)

    def test_are_computed_in_full_float32_whatever_torch_is_set_to(
        self, model: Path, frames: Images
    ) -> None:
        import torch

        encoder = VisionEncoder(model)
        expected = encoded(encoder, frames[:8])
        torch.set_float32_matmul_precision("medium")
        try:
            np.testing.assert_array_equal(encoded(encoder, frames[:8]), expected)
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")

    @pytest.mark.gpu
    def test_on_a_gpu_are_those_of_the_cpu_up_to_rounding(
        self, model: Path, frames: Images
    ) -> None:
        on_gpu = encoded(VisionEncoder(model, device="cuda"), frames)
        np.testing.assert_allclose(
            on_gpu, encoded(VisionEncoder(model, device="cpu"), frames), atol=1e-4
        )

    def test_of_no_frames_are_none(self, model: Path) -> None:
        encoder = VisionEncoder(model)
        assert encoded(encoder, np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 64)
        assert encoder.encode([]) == []

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((2, 224, 224, 3), np.float32),
            np.zeros((224, 224, 3), np.uint8),
            np.zeros((2, 3, 224, 224), np.uint8),
        ],
    )
    def test_of_something_else_than_frames_there_are_none(
        self, clip_model: Path, pixels: Images
    ) -> None:
        encoder = VisionEncoder(clip_model)
        shape = re.escape(f"{pixels.dtype} {list(pixels.shape)}")
        for take in (encoder.prepare, lambda each: encoder.encode([each])):
            with pytest.raises(EncoderError, match=rf"uint8 \[N, H, W, 3\], not {shape}"):
                take(pixels)

    def test_of_frames_that_were_not_prepared_are_an_error_of_ours(self, clip_model: Path) -> None:
        raw = np.zeros((2, 300, 400, 3), np.uint8)
        with pytest.raises(EncoderError, match=r"tiny-clip cannot encode: .*300"):
            VisionEncoder(clip_model, device="cpu").encode([raw])


class TestClipsTogether:
    """Clips of any number of frames, of every architecture."""

    COUNTS = (1, 5, 8, 7, 13, 2, 16, 9, 21)

    @pytest.fixture(scope="class")
    @staticmethod
    def clips() -> list[Images]:
        rng = np.random.default_rng(2)
        return [
            rng.integers(0, 256, (n, 120, 160, 3), np.uint8) // (1 + n % 3)
            for n in TestClipsTogether.COUNTS
        ]

    @pytest.mark.parametrize("kind", reference_vision.KINDS)
    def test_have_the_bits_that_each_has_alone(
        self, kind: str, tiny_models: Mapping[str, Path], clips: list[Images]
    ) -> None:
        encoder = VisionEncoder(tiny_models[kind], device="cpu")
        if encoder.window > 1:
            clips = [
                np.resize(clip, (16 * (1 + len(clip) % 2), *clip.shape[1:])) for clip in clips[:4]
            ]
        prepared = [encoder.prepare(clip) for clip in clips]
        together = encoder.encode(prepared)
        for pixels, features in zip(prepared, together, strict=True):
            (alone,) = VisionEncoder(tiny_models[kind], device="cpu").encode([pixels])
            np.testing.assert_array_equal(features, alone)
        order = np.random.default_rng(3).permutation(len(prepared))
        shuffled = encoder.encode([prepared[place] for place in order])
        for place, features in zip(order, shuffled, strict=True):
            np.testing.assert_array_equal(features, together[place])

    @pytest.mark.parametrize("kind", ["dinov2", "videomae"])
    def test_passes_of_frames_of_several_clips_differ_by_rounding(
        self, kind: str, tiny_models: Mapping[str, Path]
    ) -> None:
        """What a GPU does, on a CPU: pictures of two sizes, in passes that end within clips."""
        alone = VisionEncoder(tiny_models[kind], device="cpu")
        together = VisionEncoder(tiny_models[kind], device="cpu", batch=3 * alone.window)
        rng = np.random.default_rng(4)
        sizes = [(2, 224), (5, 224), (1, 252), (4, 224)]
        if kind == "videomae":
            sizes = [(2, 224), (5, 224), (4, 224)]
        clips = [
            rng.integers(0, 256, (n * alone.window, side, side, 3), np.uint8) for n, side in sizes
        ]
        features = together._by_size(clips)
        for one, expected in zip(features, alone.encode(clips), strict=True):
            np.testing.assert_allclose(one, expected, atol=1e-5)

    def test_of_too_few_frames_for_a_window_are_refused(
        self, tiny_models: Mapping[str, Path]
    ) -> None:
        encoder = VisionEncoder(tiny_models["videomae"])
        with pytest.raises(EncoderError, match="videomae takes 16 frames at a time"):
            encoder.encode([np.zeros((8, 224, 224, 3), np.uint8)])

    @pytest.mark.gpu
    @pytest.mark.parametrize("kind", reference_vision.KINDS)
    def test_on_a_gpu_are_those_of_the_cpu_up_to_rounding(
        self, kind: str, tiny_models: Mapping[str, Path]
    ) -> None:
        cpu = VisionEncoder(tiny_models[kind], device="cpu")
        gpu = VisionEncoder(tiny_models[kind], device="cuda")
        rng = np.random.default_rng(5)
        clips = [
            cpu.prepare(rng.integers(0, 256, (n * cpu.window, 224, 300, 3), np.uint8))
            for n in (1, 5, 8)
        ]
        for on_gpu, on_cpu in zip(gpu.encode(clips), cpu.encode(clips), strict=True):
            np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


class TestProfiles:
    """Against straight lines of transformers calls, as the two code bases make them."""

    @pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip"])
    def test_affectgpt(self, kind: str, tiny_models: Mapping[str, Path], frames: Images) -> None:
        expected = reference_vision.affectgpt(tiny_models[kind], frames[:5])
        features = encoded(VisionEncoder(tiny_models[kind], profile="affectgpt"), frames[:5])
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip", "data2vec-vision"])
    def test_clean(self, kind: str, tiny_models: Mapping[str, Path]) -> None:
        pictures = np.random.default_rng(6).integers(0, 256, (3, 200, 300, 3), np.uint8)
        features = encoded(VisionEncoder(tiny_models[kind]), pictures)
        expected = reference_vision.clean(tiny_models[kind], pictures)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("kind", "profile"),
        [("data2vec-vision", "affectgpt"), ("videomae", "affectgpt"), ("siglip", "mertools")],
    )
    def test_a_model_that_a_code_base_does_not_have_is_refused(
        self, kind: str, profile: str, tiny_models: Mapping[str, Path]
    ) -> None:
        with pytest.raises(EncoderError, match=f"{profile} has no {kind} model; take the profile"):
            VisionEncoder(tiny_models[kind], profile=profile)

    def test_the_tokens_can_be_chosen(
        self, tiny_models: Mapping[str, Path], frames: Images
    ) -> None:
        made = {
            tokens: encoded(VisionEncoder(tiny_models["dinov2"], tokens=tokens), frames[:2])
            for tokens in FAMILIES["dinov2"].tokens
        }
        whole = made["mean over all"]
        np.testing.assert_allclose(made["sum over all"], 65 * whole, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            (64 * made["mean over patches"] + made["cls"]) / 65, whole, atol=1e-5
        )
        with pytest.raises(EncoderError, match="no tokens 'cls' of clip; there is projected, not"):
            VisionEncoder(tiny_models["clip"], tokens="cls")


class TestSpec:
    def test_says_what_the_features_are(self, clip_model: Path, dinov2_model: Path) -> None:
        spec = VisionEncoder(clip_model, profile="affectgpt").spec()
        assert spec["name"] == "tiny-clip"
        assert spec["architecture"] == "clip"
        assert spec["tokens"] == "projected, not normalised"
        assert spec["profile"] == {"name": "affectgpt", "version": 1}
        assert spec["compute"] == {"dtype": "float32"}
        assert spec["dim"] == VisionEncoder(clip_model).dim == 64
        assert spec["preprocessing"]["size"] == {"shortest_edge": 224}
        assert spec["preprocessing"]["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
        weights = hashlib.sha256((clip_model / "model.safetensors").read_bytes()).hexdigest()
        assert spec["weights"] == f"sha256:{weights}"
        assert VisionEncoder(dinov2_model).spec()["tokens"] == "mean over patches"
        mertools = VisionEncoder(dinov2_model, profile="mertools")
        assert mertools.spec()["tokens"] == "sum over all"

    def test_is_json_without_a_path_and_the_same_wherever_the_model_lies(
        self, model: Path, tmp_path: Path
    ) -> None:
        elsewhere = shutil.copytree(model, tmp_path / "elsewhere" / model.name)
        spec = VisionEncoder(model).spec()
        assert json.loads(json.dumps(spec)) == spec == VisionEncoder(elsewhere).spec()
        assert str(model.parent) not in json.dumps(spec)

    @pytest.mark.parametrize(
        ("file", "changes"),
        [
            ("config.json", {"num_attention_heads": 2}),
            ("config.json", {"layer_norm_eps": 1e-3}),
            ("config.json", {"hidden_act": "relu"}),
            ("preprocessor_config.json", {"image_mean": [0, 0, 0]}),
            ("preprocessor_config.json", {"resample": 2}),
            ("preprocessor_config.json", {"do_center_crop": False}),
        ],
    )
    def test_differs_with_all_that_changes_the_features(
        self, dinov2_model: Path, tmp_path: Path, file: str, changes: dict[str, object]
    ) -> None:
        other = edited(dinov2_model, tmp_path / dinov2_model.name, file, **changes)
        assert VisionEncoder(other).spec() != VisionEncoder(dinov2_model).spec()

    def test_differs_with_the_weights(self, clip_model: Path, tmp_path: Path) -> None:
        other = make_random_encoder(tmp_path / clip_model.name, seed=1)
        one, two = VisionEncoder(clip_model).spec(), VisionEncoder(other).spec()
        assert one.pop("weights") != two.pop("weights")
        assert one == two

    def test_loads_no_weights(self, model: Path) -> None:
        encoder = VisionEncoder(model)
        encoder.spec()
        assert "model" not in vars(encoder)

    def test_of_an_encoder_by_another_name_bears_that(self, clip_model: Path) -> None:
        encoder = VisionEncoder(clip_model, name="CLIP_VIT_LARGE")
        assert encoder.name == encoder.spec()["name"] == "CLIP_VIT_LARGE"

    def test_fills_in_what_transformers_does_where_a_config_says_nothing(self) -> None:
        from transformers import AutoConfig

        for kind, family in FAMILIES.items():
            config = AutoConfig.for_model(kind)
            config = config.vision_config if family.nested else config
            assert {key: getattr(config, key) for key in family.shape} == family.shape

    def test_imports_neither_torch_nor_transformers(self, clip_model: Path) -> None:
        code = f"""
import sys
from merstore.extract.face_features import FaceFeatures
from merstore.extract.frame_features import FrameFeatures
for kind in (FaceFeatures, FrameFeatures):
    made = kind.create("x", "UTT", profile="clean", weights={str(clip_model)!r})
    made.spec, made.shape
print({{"torch", "transformers", "PIL", "av"}} & set(sys.modules))
"""
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert out.stdout == "set()\n"


class TestLoading:
    def test_a_copy_through_pickle_encodes_the_same(self, model: Path, frames: Images) -> None:
        encoder = VisionEncoder(model)
        expected = encoded(encoder, frames[:8])
        data = pickle.dumps(encoder)
        assert len(data) < 50_000
        np.testing.assert_array_equal(encoded(pickle.loads(data), frames[:8]), expected)
        assert pickle.loads(data).spec() == encoder.spec()

    def test_many_threads_load_one_model(self, model: Path, frames: Images) -> None:
        expected = encoded(VisionEncoder(model), frames[:8])
        encoder = VisionEncoder(model)
        clips = [encoder.prepare(frames[:8])]
        with ThreadPoolExecutor(4) as pool:
            for (features,) in pool.map(encoder.encode, [clips] * 8):
                np.testing.assert_array_equal(features, expected)

    def test_a_local_folder_needs_no_network(
        self, model: Path, frames: Images, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_network(*_: object) -> None:
            raise AssertionError("the network was touched")

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(socket, "getaddrinfo", no_network)
        monkeypatch.setattr(socket.socket, "connect", no_network)
        encoder = VisionEncoder(str(model))
        encoder.spec()
        encoded(encoder, frames[:1])

    def test_a_hub_id_is_read_from_the_hubs_cache(
        self, clip_model: Path, frames: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cached = tmp_path / "models--openai--clip-tiny"
        shutil.copytree(clip_model, cached / "snapshots" / "0123abcd")
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("0123abcd")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        encoder = VisionEncoder("openai/clip-tiny")
        assert encoder.name == "clip-tiny"
        assert encoder.spec()["weights"] == VisionEncoder(clip_model).spec()["weights"]
        local = encoded(VisionEncoder(clip_model), frames[:4])
        np.testing.assert_array_equal(encoded(encoder, frames[:4]), local)

    def test_weights_in_several_files(
        self, clip_model: Path, frames: Images, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(clip_model, tmp_path / "shards")
        (folder / "model.safetensors").unlink()
        weights = load_file(clip_model / "model.safetensors")
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        places = {key: names["encoder" in key] for key in weights}
        for name in names:
            part = {key: weight for key, weight in weights.items() if places[key] == name}
            save_file(part, folder / name, {"format": "pt"})
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        encoder = VisionEncoder(folder)
        expected = encoded(VisionEncoder(clip_model), frames[:4])
        np.testing.assert_array_equal(encoded(encoder, frames[:4]), expected)
        digest = encoder.spec()["weights"]
        (folder / names[1]).unlink()
        with pytest.raises(EncoderError, match=f"{names[1]} missing"):
            VisionEncoder(folder)
        save_file({}, folder / names[1], {"format": "pt"})
        assert VisionEncoder(folder).spec()["weights"] != digest

    @pytest.mark.parametrize(
        "absent", ["config.json", "preprocessor_config.json", "model.safetensors"]
    )
    def test_what_a_folder_lacks_is_named(
        self, clip_model: Path, tmp_path: Path, absent: str
    ) -> None:
        folder = shutil.copytree(clip_model, tmp_path / "model")
        (folder / absent).unlink()
        with pytest.raises(EncoderError, match=f"model: not a whole model, {absent} missing$"):
            VisionEncoder(folder)

    @pytest.mark.parametrize("model", ["none/such", "none", "/none/such", "a/b/c", "-x"])
    def test_a_model_that_is_nowhere_is_named(self, model: str) -> None:
        with pytest.raises(EncoderError, match=rf"^{model}: (neither a folder|no such folder)"):
            VisionEncoder(model)

    def test_another_architecture_is_refused_with_those_supported(
        self, clip_model: Path, tmp_path: Path
    ) -> None:
        other = edited(clip_model, tmp_path / "m", model_type="sam")
        with pytest.raises(
            EncoderError, match="m is a sam model; supported are clip, siglip, dinov"
        ):
            VisionEncoder(other)

    def test_an_unknown_profile_is_refused(self, clip_model: Path) -> None:
        with pytest.raises(
            EncoderError, match="no profile 'such'; there is clean, affectgpt, mert"
        ):
            VisionEncoder(clip_model, profile="such")

    def test_weights_that_are_not_there_are_not_made_up(
        self, model: Path, frames: Images, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(model, tmp_path / "model")
        weights = load_file(folder / "model.safetensors")
        lost = next(
            key for key in weights if key.endswith("1.mlp.fc1.weight") and "text" not in key
        )
        del weights[lost]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(
            EncoderError, match=r"1 weights are not in its files: .*mlp\.fc1\.weight"
        ):
            encoded(VisionEncoder(folder), frames[:1])

    @pytest.mark.parametrize("damage", [lambda data: data[:-1000], lambda data: b"x" * 100])
    def test_damaged_weights_are_an_error_of_ours(
        self, model: Path, frames: Images, tmp_path: Path, damage: "object"
    ) -> None:
        folder = shutil.copytree(model, tmp_path / "model")
        file = folder / "model.safetensors"
        file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
        with pytest.raises(EncoderError, match="model: its weights cannot be loaded"):
            encoded(VisionEncoder(folder), frames[:1])

    @pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
    def test_damaged_configs_are_an_error_of_ours(
        self, clip_model: Path, tmp_path: Path, file: str
    ) -> None:
        folder = shutil.copytree(clip_model, tmp_path / "model")
        (folder / file).write_text("{")
        with pytest.raises(EncoderError, match=rf"{re.escape(file)} cannot be read: "):
            VisionEncoder(folder)

    def test_nothing_is_printed(
        self, model: Path, frames: Images, capfd: pytest.CaptureFixture[str]
    ) -> None:
        encoded(VisionEncoder(model), frames[:1])
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("folder", "name"),
        [("clip-vit", "clip-vit"), ("my model é", "my-model--"), ("_x.1", "x.1")],
    )
    def test_the_name_is_the_folders_as_a_view_path_takes_it(
        self, clip_model: Path, tmp_path: Path, folder: str, name: str
    ) -> None:
        assert VisionEncoder(shutil.copytree(clip_model, tmp_path / folder)).name == name


def test_where_memory_does_not_suffice_the_batch_is_halved(dinov2_model: Path) -> None:
    """In a process of its own that is allowed 200 MB beyond what it has; 256 frames need 300."""
    code = f"""
import resource, sys
import numpy as np
from merstore.extract.vision import VisionEncoder

frames = np.random.default_rng(0).integers(0, 256, (256, 224, 224, 3), np.uint8)
encoder = VisionEncoder({str(dinov2_model)!r}, device="cpu", batch=256)
(expected,) = VisionEncoder({str(dinov2_model)!r}, device="cpu").encode([frames[:16]])
encoder.encode([frames[:1]])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
(features,) = encoder.encode([frames])
print(encoder.passes.size, features.shape, np.allclose(features[:16], expected, atol=1e-5))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    batch, rest = out.stdout.split(maxsplit=1)
    assert 1 <= int(batch) < 256
    assert rest.strip() == "(256, 64) True"


class TestRandomEncoder:
    def test_says_that_it_is_random(self, clip_model: Path) -> None:
        assert "randomly initialised" in (clip_model / "README.md").read_text()

    def test_follows_from_its_seed(self, tmp_path: Path) -> None:
        digests = [
            VisionEncoder(make_random_encoder(tmp_path / str(i), seed)).spec()["weights"]
            for i, seed in enumerate([5, 5, 6])
        ]
        assert digests[0] == digests[1] != digests[2]

    def test_leaves_torchs_random_numbers_alone(self, tmp_path: Path) -> None:
        import torch

        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        make_random_encoder(tmp_path)
        assert torch.equal(torch.rand(3), expected)

    def test_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="clip or dinov2, not siglip"):
            make_random_encoder(tmp_path, kind="siglip")


@pytest.mark.shared
class TestRealWeights:
    """dinov2-small, against the numbers in its ORIGIN.md."""

    PHOTOS = ("obama", "biden", "obama_and_biden", "no_faces")
    NORMS = (39.6518, 37.0597, 41.4333, 39.9972)
    MEAN_PIXELS = (-0.655157, -1.528552, -0.442074, 0.196162)
    FIRST = (
        (-3.9520, -0.1013, 2.1447, -0.6878),
        (-1.3321, -0.8911, 0.3600, -1.8181),
        (-3.1204, -0.5163, 2.0410, -1.8460),
        (-1.3575, 0.1382, 1.1583, -1.5664),
    )
    COSINES = (
        (1, 0.81495, 0.86922, 0.83932),
        (0.81495, 1, 0.70786, 0.77435),
        (0.86922, 0.70786, 1, 0.83277),
        (0.83932, 0.77435, 0.83277, 1),
    )

    @pytest.fixture(scope="class")
    @staticmethod
    def encoder(shared: Path) -> VisionEncoder:
        return VisionEncoder(shared / "models" / "dinov2-small", device="cpu", tokens="cls")

    @pytest.fixture(scope="class")
    @staticmethod
    def photos(shared: Path) -> list[Images]:
        from PIL import Image

        paths = [shared / "media" / f"{name}.jpg" for name in TestRealWeights.PHOTOS]
        return [np.asarray(Image.open(path).convert("RGB"))[None] for path in paths]

    def test_pixels_and_hidden_states(self, encoder: VisionEncoder, photos: list[Images]) -> None:
        import torch

        spec = encoder.spec()
        assert spec["weights"].startswith("sha256:c1325d0c23f021d27b826262bbb6440c")
        assert spec["dim"] == 384
        table = torch.from_numpy(encoder.preprocessing.table)
        prepared = [encoder.prepare(photo) for photo in photos]
        pixels = normalise(torch.from_numpy(np.concatenate(prepared)), table)
        means = pixels.mean(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(means, self.MEAN_PIXELS, atol=1e-6)
        cls = np.concatenate(encoder.encode(prepared))
        np.testing.assert_allclose(np.linalg.norm(cls, axis=1), self.NORMS, atol=1e-3)
        np.testing.assert_allclose(cls[:, :4], self.FIRST, atol=1e-3)
        unit = cls / np.linalg.norm(cls, axis=1, keepdims=True)
        np.testing.assert_allclose(unit @ unit.T, self.COSINES, atol=1e-4)

    @pytest.mark.parametrize("profile", ["affectgpt", "mertools", "clean"])
    def test_profiles(self, shared: Path, photos: list[Images], profile: str) -> None:
        folder = shared / "models" / "dinov2-small"
        features = encoded(VisionEncoder(folder, "cpu", profile), photos[0])
        if profile == "affectgpt":
            expected = reference_vision.affectgpt(folder, photos[0])
        elif profile == "mertools":
            expected = 257 * reference_vision.affectgpt(folder, photos[0])
        else:
            expected = reference_vision.clean(folder, photos[0])
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-3)

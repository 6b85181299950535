"""Against transformers' own processors, which are what the published code ran."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import EncoderError
from merstore.extract.models import ModelFolder
from merstore.extract.pictures import DEFAULTS, Pixels, Preprocessing, normalise

# As they stand in well-known models' folders, or stood there for years.
KNOWN: dict[str, dict[str, Any]] = {
    "clip": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "rescale_factor": 0.00392156862745098,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 384, "width": 384},
        "resample": 3,
        "processor_class": "SiglipProcessor",
    },
    "data2vec": {
        "crop_size": 224,
        "do_center_crop": False,
        "feature_extractor_type": "BeitFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": 224,
    },
    "vit": {"image_processor_type": "ViTImageProcessorFast", "size": [192, 240]},
    "videomae": {
        "do_center_crop": True,
        "feature_extractor_type": "VideoMAEFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "size": 224,
    },
}
SIZES = [(224, 224), (112, 112), (256, 256), (144, 176), (360, 640), (481, 270), (223, 225)]
SIZES += [(224, 1000), (17, 19), (1, 1), (64, 48)]


def both(settings: dict[str, Any], pictures: Pixels, folder: Path) -> tuple[Any, Any]:
    """What transformers makes of pictures, and what we do."""
    import torch
    from transformers import AutoImageProcessor

    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    given = processor(list(pictures), input_data_format="channels_last")["pixel_values"]
    theirs = np.stack(given[0] if isinstance(given[0], list) else given)
    ours = preprocessing(settings)
    table = torch.from_numpy(ours.table)
    mine = normalise(torch.from_numpy(ours.prepare(pictures)), table).numpy()
    return theirs, mine


def preprocessing(settings: dict[str, Any]) -> Preprocessing:
    older = settings.get("feature_extractor_type", "").replace("Feature", "Image")
    kind = settings.get("image_processor_type") or older.replace("Extractor", "Processor")
    return Preprocessing(settings | {"image_processor_type": kind}, "m")


def noise(height: int, width: int, n: int = 2) -> Pixels:
    rng = np.random.default_rng(height * 10_000 + width)
    coarse = rng.integers(0, 256, (n, -(-height // 3), -(-width // 3), 3), np.uint8)
    return coarse.repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("known", KNOWN)
def test_the_bits_are_those_of_the_processor(
    known: str, size: tuple[int, int], tmp_path: Path
) -> None:
    theirs, mine = both(KNOWN[known], noise(*size), tmp_path)
    assert mine.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_a_file_does_not_say_is_the_processors_default(kind: str, tmp_path: Path) -> None:
    theirs, mine = both({"image_processor_type": kind}, noise(300, 200), tmp_path)
    np.testing.assert_array_equal(mine, theirs)


def test_every_value_of_every_channel(tmp_path: Path) -> None:
    """No resizing between, so that all 256 are there."""
    values = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 224, 224, 3)
    for known in KNOWN.values():
        theirs, mine = both(known | {"do_resize": False}, values, tmp_path)
        np.testing.assert_array_equal(mine, theirs)


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    side = st.integers(1, 40)
    square = st.fixed_dictionaries({"height": side, "width": side})
    edge = st.fixed_dictionaries({"shortest_edge": side})
    three = st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3)
    made: dict[str, Any] = {
        "image_processor_type": draw(st.sampled_from(sorted(DEFAULTS))),
        "do_resize": draw(st.booleans()),
        "size": draw(square | edge | side),
        "resample": draw(st.sampled_from([0, 1, 2, 3, 4, 5])),
        "do_center_crop": draw(st.booleans()),
        "crop_size": draw(square | side),
        "do_rescale": True,
        "rescale_factor": draw(st.sampled_from([1 / 255, 0.00392156862745098, 1 / 127.5])),
        "do_normalize": draw(st.booleans()),
        "image_mean": draw(three),
        "image_std": draw(three),
    }
    kept = {"image_processor_type", "crop_size"}  # without the latter, some have nothing to crop to
    left_out = draw(st.sets(st.sampled_from(sorted(set(made) - kept))))
    return {key: value for key, value in made.items() if key not in left_out}


@given(settings(), st.integers(1, 50), st.integers(1, 50))
def test_any_settings_give_the_processors_bits(
    tmp_path_factory: pytest.TempPathFactory, made: dict[str, Any], height: int, width: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "processor"
    theirs, mine = both(made, noise(height, width), folder)
    np.testing.assert_array_equal(mine, theirs)


class TestFolder:
    """Where the settings are found in a model's folder."""

    @staticmethod
    def folder(path: Path, **files: dict[str, Any]) -> ModelFolder:
        (path / "model.safetensors").write_bytes(b"")
        for name, content in {"config": {"model_type": "dinov2"}, **files}.items():
            (path / f"{name}.json").write_text(json.dumps(content))
        return ModelFolder(path)

    def test_the_older_name_of_a_processor_is_known(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, preprocessor_config=KNOWN["clip"])
        assert Preprocessing.of(folder).settings == {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": 224},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        }

    def test_without_a_name_the_model_type_decides(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, preprocessor_config={"size": 200})
        kind = Preprocessing.of(folder).settings["image_processor_type"]
        assert kind == "BitImageProcessor"

    def test_the_newer_file_of_texts_and_pictures_comes_first(self, tmp_path: Path) -> None:
        folder = self.folder(
            tmp_path,
            preprocessor_config=KNOWN["clip"],
            processor_config={"image_processor": KNOWN["siglip"]},
        )
        kind = Preprocessing.of(folder).settings["image_processor_type"]
        assert kind == "SiglipImageProcessor"

    def test_no_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(EncoderError, match=r"whole model, preprocessor_config\.json missing"):
            Preprocessing.of(self.folder(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "SamImageProcessor"}, "processor SamImageProcessor; there is CL"),
        ({"do_pad": True}, "asked for do_pad, which there is no code for"),
        ({"size": {"longest_edge": 8}}, "no code for an image processor's size"),
        ({"size": {"shortest_edge": 8, "longest_edge": 9}}, "no code for an image processor's siz"),
        ({"size": "large"}, "no code for an image processor's size large"),
        ({"crop_size": {"shortest_edge": 9}}, "is no height and width"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EncoderError, match=f"^m: .*{message}"):
        Preprocessing({"image_processor_type": "CLIPImageProcessor"} | changes, "m")


def test_a_fast_processor_counts_as_the_other() -> None:
    fast, other = (
        preprocessing({"image_processor_type": f"CLIPImageProcessor{end}"}) for end in ("Fast", "")
    )
    assert fast.settings == other.settings


def test_no_pictures_are_none() -> None:
    none = preprocessing(KNOWN["clip"]).prepare(np.empty((0, 300, 400, 3), np.uint8))
    assert none.shape == (0, 224, 224, 3)


@pytest.mark.parametrize(
    ("known", "side"), [("clip", 224), ("dinov2", 256), ("siglip", 384), ("vit", 240)]
)
def test_the_short_side_that_suffices(known: str, side: int) -> None:
    assert preprocessing(KNOWN[known]).short_side == side
    assert preprocessing(KNOWN[known] | {"do_resize": False}).short_side is None


def test_what_crosses_to_the_encoder_is_a_quarter_and_picklable() -> None:
    made = pickle.loads(pickle.dumps(preprocessing(KNOWN["clip"])))
    small = made.prepare(noise(360, 640, n=8))
    assert small.nbytes == 8 * 224 * 224 * 3
    assert small.flags.c_contiguous


def test_reading_processes_need_no_torch() -> None:
    code = """
import sys
import numpy as np
from merstore.extract.pictures import Preprocessing
made = Preprocessing({"image_processor_type": "CLIPImageProcessor"}, "m")
made.prepare(np.zeros((1, 300, 400, 3), np.uint8))
print({"torch", "transformers"} & set(sys.modules))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"

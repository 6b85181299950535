"""Templates: those of ours, and what a file of one's own may say."""

from pathlib import Path

import pytest

from merstore.errors import InvalidKey, MerstoreError
from merstore.interop.affectgpt_config import MODES
from merstore.run.inference.templates import NAMES, Wanted, read_template


@pytest.mark.parametrize("name", NAMES)
def test_ours_serve_every_mode(name: str) -> None:
    template = read_template(name)
    for mode, needed in MODES.items():
        assert set(template.needed(mode)) == set(needed)
    assert template.mode in MODES


def test_what_ours_are_for() -> None:
    assert NAMES == ("full", "hybrid", "realtime")
    sources = {
        name: {modality: each.source for modality, each in read_template(name).features.items()}
        for name in NAMES
    }
    modalities = ["frame", "face", "audio", "image"]
    assert sources["full"] == dict.fromkeys(modalities, "store")
    assert sources["realtime"] == dict.fromkeys(modalities, "media")
    assert sources["hybrid"] == dict.fromkeys(modalities, "media") | {"frame": "store"}


def test_an_image_is_a_frame_or_a_picture_of_ones_own() -> None:
    template = read_template("full")
    assert template.needed("image") == {
        "image": Wanted("frame@CLIP_VIT_LARGE/random_1frms", "store")
    }
    own = template.changed({"image": "image@CLIP_VIT_LARGE/poster"})
    assert own.features["image"] == Wanted("image@CLIP_VIT_LARGE/poster", "store")
    with pytest.raises(InvalidKey, match="no view of the modality image"):
        template.changed({"image": "face@CLIP_VIT_LARGE/8frms"})


def test_views_may_be_others_and_have_options() -> None:
    template = read_template("hybrid").changed(
        {
            "frame": "frame_EVA_CLIP_G_uniform_16frms",
            "face": "face@CLIP_VIT_LARGE/8frms?detector=centerface",
            "au": "au_CLIP_VITB32_8frms",
        }
    )
    assert template.features["frame"] == Wanted("frame@EVA_CLIP_G/uniform_16frms", "store")
    face = template.features["face"]
    assert (face.view, face.source) == ("face@CLIP_VIT_LARGE/8frms", "media")
    assert face.asked == "face@CLIP_VIT_LARGE/8frms?detector=centerface"
    assert template.features["au"].source == "store"
    with pytest.raises(InvalidKey, match="no view of the modality face"):
        template.changed({"face": "audio@HUBERT_LARGE/8clips"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: x", "no such key; there are mode, profile, features"),
        ("features: [frame]", "a view and where it is from"),
        ("features: {frame: {view: frame@A/uniform_8frms, from: disk}}", "from: store or media"),
        ("features: {frame: {view: frame@A/uniform_8frms}}", "from: store or media"),
        ("features: {frame: {view: audio@A/8clips, from: store}}", "no view of the modality frame"),
    ],
)
def test_a_template_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(MerstoreError, match=told):
        read_template(path)


def test_a_name_that_is_none() -> None:
    with pytest.raises(MerstoreError, match="full, hybrid, realtime"):
        read_template("fast")

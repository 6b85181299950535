"""Every way to fuse features, against straight-line formulas."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merstore.errors import MerstoreError
from merstore.models.affectgpt import Config, Fusion

from . import reference
from .made import rows

WIDTH = 40
NAMED = ["face", "multi", "image"]
TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}


def fusion(seed: int = 0, **fields: object) -> Fusion:
    torch.manual_seed(seed)
    return Fusion(Config(**fields), WIDTH).eval()  # type: ignore[arg-type]


def features(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(rows(seed, *shape))


def same(found: Tensor, expected: Tensor) -> None:
    """Equal within 1e-6 of the size of the numbers."""
    torch.testing.assert_close(
        found / expected.abs().max(), expected / expected.abs().max(), **TOLERANCE
    )


@pytest.mark.parametrize("kind", ["attention", "mean", "qformer"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("steps", [1, 5, 8])
def test_video_audio_and_action_units(kind: str, queries: int, steps: int) -> None:
    counts = {f"{name}_queries": queries for name in ("video", "audio", "au")}
    kinds = {f"{name}_fusion": kind for name in ("video", "audio", "au")}
    model = fusion(**counts, **kinds)
    state = model.state_dict()
    given = {
        "face": features(1, 2, steps, 768),
        "frame": features(2, 2, steps, 768),
        "audio": features(3, 2, steps, 1024),
        "au": features(4, 2, steps, 512),
    }
    found = model(given, list(given))
    for name, rows_ in given.items():
        branch = "video" if name in {"face", "frame"} else name
        expected = reference.temporal(state, branch, kind, rows_, queries)
        assert found[name].shape == (2, queries, WIDTH)
        same(found[name], expected)


@pytest.mark.parametrize("kind", ["attention", "qformer"])
@pytest.mark.parametrize("source", ["face", "frame"])
@pytest.mark.parametrize("queries", [1, 2])
def test_audio_and_video_are_fused_before_the_language_model(
    kind: str, source: str, queries: int
) -> None:
    model = fusion(multi_fusion=kind, multi_queries=queries)
    given = {
        "face": features(1, 3, 8, 768),
        "frame": features(2, 3, 6, 768),
        "audio": features(3, 3, 7, 1024),
    }
    found = model(given, ["multi"], source)
    expected = reference.multi(model.state_dict(), kind, given[source], given["audio"], queries)
    assert list(found) == ["multi"]
    assert found["multi"].shape == (3, queries, WIDTH)
    same(found["multi"], expected)


@pytest.mark.parametrize(
    ("kind", "queries"), [("mean", 1), ("mean", 4), ("token", 1), ("token", 4)]
)
def test_an_image(kind: str, queries: int) -> None:
    model = fusion(image_fusion=kind, image_queries=queries)
    given = features(1, 2, queries if kind == "token" else 1, 768)
    found = model({"image": given}, ["image"])["image"]
    assert found.shape == (2, queries, WIDTH)
    same(found, reference.image(model.state_dict(), kind, given, queries))


@pytest.mark.parametrize("kind", ["attention", "mean", "qformer"])
def test_several_vectors_of_each_picture(kind: str) -> None:
    """As EVA_CLIP_G gives: all for the Q-Former, with their picture's position, else their mean."""
    model = fusion(video_fusion=kind, image_fusion="token", image_queries=4)
    state = model.state_dict()
    face, audio = features(1, 2, 3, 4, 768), features(2, 2, 8, 1024)
    found = model({"face": face, "audio": audio, "image": face[:, :1]}, NAMED, "face")
    mean = face.mean(2)
    if kind == "qformer":
        table = state["video_frame_position_embedding.weight"]
        placed = torch.stack([face[:, t, p] + table[t] for t in range(3) for p in range(4)], 1)
        queried = reference.qformer(state, "video", placed)
        same(found["face"], reference.linear(state, "affectgpt_proj", queried))
    else:
        same(found["face"], reference.temporal(state, "video", kind, mean, 1))
    same(found["multi"], reference.multi(state, "attention", mean, audio, 1))
    same(found["image"], reference.linear(state, "image_llama_proj", face[:, 0]))
    pooled = fusion(image_queries=2)
    expected = reference.image(pooled.state_dict(), "mean", mean[:, :1], 2)
    same(pooled({"image": face[:, :1]}, ["image"])["image"], expected)


def test_other_encoders_widths() -> None:
    model = fusion(visual_dim=1152, acoustic_dim=768)
    face, audio = features(1, 2, 8, 1152), features(2, 2, 8, 768)
    found = model({"face": face, "audio": audio}, ["face", "multi"], "face")
    assert model.multi_audio_embs.weight.shape == (1152, 768)
    same(found["face"], reference.temporal(model.state_dict(), "video", "attention", face, 1))
    same(found["multi"], reference.multi(model.state_dict(), "attention", face, audio, 1))


@settings(max_examples=20, deadline=None)
@given(
    steps=st.integers(1, 12),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
    factor=st.floats(0.25, 4.0),
)
def test_weights_are_raw_scores_not_shares(
    steps: int, batch: int, seed: int, factor: float
) -> None:
    """Scores that are as many times as large give as many times as much: no softmax does that."""
    model = fusion(seed)
    given = features(seed, batch, steps, 768)
    torch.nn.init.zeros_(model.affectgpt_proj.bias)
    before = model.video(given)
    with torch.no_grad():
        model.video_attention_mlp.weight *= factor
        model.video_attention_mlp.bias *= factor
    same(model.video(given), before * factor)


class TestOneRow:
    """A stored and a live feature enter alike, with one row too."""

    def test_it_is_weighted(self) -> None:
        model = fusion()
        given = features(1, 2, 1, 768)
        state = model.state_dict()
        same(model.video(given), reference.temporal(state, "video", "attention", given, 1))

    def test_unless_asked_for_as_affectgpt_does_with_stored_ones(self) -> None:
        model = fusion(single_frame_bypass=True)
        video, audio = features(1, 2, 1, 768), features(2, 2, 1, 1024)
        state = model.state_dict()
        same(model.video(video), reference.temporal(state, "video", "attention", video, 1, True))
        same(model.audio(audio), reference.temporal(state, "audio", "attention", audio, 1, True))
        two = features(3, 2, 2, 768)
        same(model.video(two), reference.temporal(state, "video", "attention", two, 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_float_are_computed_in_the_models(dtype: type) -> None:
    model = fusion()
    stored = torch.from_numpy(rows(1, 2, 8, 768).astype(dtype))
    assert torch.equal(model.video(stored), model.video(stored.float()))


def test_the_qformer_drops_out_in_training_only() -> None:
    model = fusion(video_fusion="qformer")
    given = features(1, 2, 8, 768)
    assert torch.equal(model.video(given), model.video(given))
    model.train()
    assert not torch.equal(model.video(given), model.video(given))


BAD: list[tuple[dict[str, object], Mapping[str, tuple[int, ...]], list[str], str | None, str]] = [
    ({}, {"face": (2, 8, 512)}, ["face"], None, r"face: .*\[2, 8, 512\].*\[B, T, 768\]"),
    ({}, {"audio": (2, 8, 768)}, ["audio"], None, r"audio: .*\[B, T, 1024\]"),
    ({}, {"face": (8, 768)}, ["face"], None, r"face: .*\[8, 768\]"),
    ({}, {"face": (2, 8, 0, 768)}, ["face"], None, "at least one row"),
    ({}, {"audio": (2, 8, 4, 1024)}, ["audio"], None, r"audio: .*\[B, T, 1024\]"),
    ({}, {"face": (2, 0, 768)}, ["face"], None, "at least one row"),
    ({}, {"audio": (2, 8, 1024)}, ["face"], None, "face: the prompt needs its features"),
    ({}, {"face": (2, 8, 768)}, ["multi"], "face", "audio: the prompt needs its features"),
    ({}, {"face": (2, 8, 768)}, ["multi"], None, "not of None"),
    ({}, {"au": (2, 8, 512)}, ["au"], None, "no action unit modality"),
    ({}, {}, ["smell"], None, "'smell': no modality; there are frame, face"),
    ({}, {"image": (2, 2, 768)}, ["image"], None, "image: 2 rows"),
    ({"video_fusion": "qformer"}, {"face": (1, 33, 768)}, ["face"], None, "33 rows.* 32 positions"),
    ({"audio_fusion": "qformer"}, {"audio": (1, 9, 1024)}, ["audio"], None, "9 rows.* 8 positions"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "shapes", "names", "multi", "message"), BAD)
def test_features_that_do_not_fit_are_refused(
    fields: dict[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    names: list[str],
    multi: str | None,
    message: str,
) -> None:
    given = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(MerstoreError, match=message):
        fusion(**fields)(given, names, multi)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"video_fusion": "softmax"},
            "video_fusion is 'softmax'; there are attention, mean, qformer",
        ),
        ({"multi_fusion": "mean"}, "multi_fusion is 'mean'; there are attention, qformer"),
        ({"audio_queries": 0}, "audio_queries is 0"),
        ({"visual_dim": "768"}, "visual_dim is '768'"),
        ({"frozen": frozenset({"frozen_face"})}, "frozen_face: no such flag"),
    ],
)
def test_a_configuration_that_there_is_not_is_refused(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(MerstoreError, match=message):
        Config(**fields)  # type: ignore[arg-type]


YAML = {
    "arch": "affectgpt",
    "visual_encoder": "CLIP_VIT_LARGE",
    "acoustic_encoder": "HUBERT_LARGE",
    "video_fusion_type": "attention",
    "audio_fusion_type": "attention",
    "multi_fusion_type": "attention",
    "image_fusion_type": "mean",
    "num_video_query_token": 1,
    "num_audio_query_token": 1,
    "num_multi_query_token": 1,
    "num_image_query_token": 1,
}


class TestYaml:
    def test_the_released_one_is_the_default(self) -> None:
        assert Config.from_yaml(YAML) == Config(au_queries=8)

    def test_what_it_leaves_out_is_as_in_affectgpt(self) -> None:
        bare = {key: value for key, value in YAML.items() if key.startswith("num_")}
        config = Config.from_yaml(bare, au=True)
        assert (config.video_fusion, config.audio_fusion) == ("qformer", "qformer")
        assert (config.image_fusion, config.multi_fusion) == ("token", "attention")
        assert (config.au_fusion, config.au_queries, config.lora_rank) == ("mean", 8, 16)

    def test_encoders_give_the_widths_unless_they_are_left_out(self) -> None:
        other = {**YAML, "visual_encoder": "DINO2_LARGE", "acoustic_encoder": "DATA2VEC_BASE"}
        assert (Config.from_yaml(other).visual_dim, Config.from_yaml(other).acoustic_dim) == (
            1024,
            768,
        )
        skipped = Config.from_yaml({**other, "skip_encoders": True})
        assert (skipped.visual_dim, skipped.acoustic_dim) == (768, 1024)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_image_query_token": None}, "image_queries is None"),
            ({"visual_encoder": "RESNET"}, "model.visual_encoder is 'RESNET'; there are CLIP_VIT"),
            ({"au_fusion_type": "max"}, "au_fusion is 'max'"),
        ],
    )
    def test_bad_values_are_refused(self, change: dict[str, object], message: str) -> None:
        with pytest.raises(MerstoreError, match=message):
            Config.from_yaml({**YAML, **change}, au=True)

    def test_a_number_left_out_is_named(self) -> None:
        without = {key: value for key, value in YAML.items() if key != "num_image_query_token"}
        with pytest.raises(MerstoreError, match=r"model\.num_image_query_token is missing"):
            Config.from_yaml(without)

    @pytest.mark.parametrize(
        "config",
        [
            Config(),
            Config(video_fusion="qformer", audio_fusion="mean", au_fusion="attention", lora_rank=4),
            Config(visual_dim=1024, acoustic_dim=768, frozen=frozenset({"frozen_llm"})),
        ],
    )
    def test_it_comes_back(self, config: Config) -> None:
        assert Config.from_yaml(config.to_yaml(), au=config.au_fusion is not None) == config

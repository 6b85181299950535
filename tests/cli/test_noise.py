"""noise: noisy copies from the command line, and the features of them."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips

from .conftest import Merstore

NAMES = [f"sample_{n:08d}" for n in range(3)]
BROKEN, BLIND = TRUNCATED.removesuffix(".mp4"), NO_VIDEO.removesuffix(".mp4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips, one that is cut off, and one without pictures."""
    made = make_clips(tmp_path_factory.mktemp("media") / "video")
    for path in made[3:-2]:
        path.unlink()
    return made[0].parent


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    for seed in range(2):
        hiss = np.random.default_rng(seed).normal(0, 3000, 20_000 + seed).astype(np.int16)
        with wave.open(str(folder / f"hiss{seed}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(hiss.tobytes())
    return folder


@pytest.fixture
def audio(clips: Path, noise: Path, tmp_path: Path) -> list[object]:
    end = ["--noise", noise, "--snr", "5", "--jobs", "0"]
    return ["noise", "audio", clips, tmp_path / "audio_snr5", *end]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_sample_ends_as_a_copy_or_a_failure(
    cli: Merstore, audio: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "audio_snr5"
    first = cli(*audio)
    assert first.code == 1, first.err
    assert f"{out}: 4 made, 1 failed" in first.out
    assert "decode_error (1):" in first.out
    assert BROKEN in first.out
    assert sorted(path.stem for path in out.iterdir()) == sorted([*NAMES, BLIND])
    head, *samples = lines(tmp_path / "audio_snr5.recipe.jsonl")
    assert head["noise"]["seed"] == 0  # type: ignore[index]
    assert [line["sample"] for line in samples] == sorted([*NAMES, BLIND, BROKEN])

    again = cli(*audio, "--json")
    assert again.code == 1
    told = again.json
    assert [told[key] for key in ("samples", "made", "present", "failures")] == [5, 0, 4, 1]
    assert list(told["failed"]["decode_error"]) == [BROKEN]


@pytest.mark.parametrize(("snr", "name"), [("15", "audio_snr15"), ("mix", "audio_snrmix")])
def test_the_folder_is_by_default_the_one_mertools_looks_for(
    cli: Merstore, audio: list[object], tmp_path: Path, snr: str, name: str
) -> None:
    cli(*audio)
    clean = (tmp_path / "audio_snr5").rename(tmp_path / "audio")
    noise = audio[audio.index("--noise") + 1]
    again = cli("noise", "audio", f"{clean}/", "--noise", noise, "--snr", snr, "--jobs", "0")
    assert again.code == 0, again.err
    made = {path.name for path in (tmp_path / name).iterdir()}
    assert made == {path.name for path in clean.iterdir()}


def test_a_list_chooses_and_a_store_keeps_the_recipes(
    cli: Merstore, audio: list[object], tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text(f"{NAMES[1]}\nabsent\n")
    store = ["--store", tmp_path / "s.mer", "--dataset", "toy"]
    told = cli(*audio, "--list", tmp_path / "names.txt", *store, "--json")
    assert told.code == 1
    assert told.json["failed"]["missing_file"].keys() == {"absent"}
    with merstore.open(tmp_path / "s.mer") as opened:
        view = opened["toy/noise/snr5"]
        (name,) = view
        recipe = json.loads(view[name].tobytes())
        assert [name, recipe["snr"]] == [NAMES[1], 5]
        assert {each["file"] for each in recipe["noise"]} <= {"hiss0.wav", "hiss1.wav"}
    assert "absent" in cli("failures", tmp_path / "s.mer", "toy/noise/snr5").out


def test_clips_are_made_with_blur(cli: Merstore, clips: Path, noise: Path, tmp_path: Path) -> None:
    out = tmp_path / "noisy"
    command = ["noise", "video", clips, out, "--noise", noise, "--jobs", "0", "--seed", "2"]
    told = cli(*command, "--snr", "6,8", "--blur", "2,4", "--json")
    assert told.code == 1, told.err
    failed = {kind: list(names) for kind, names in told.json["failed"].items()}
    assert failed == {"decode_error": [BROKEN], "no_video": [BLIND]}
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.mp4" for name in NAMES]
    _, *samples = lines(tmp_path / "noisy.recipe.jsonl")
    recipes = [line for line in samples if "failure" not in line]
    assert {line["snr"] for line in recipes} <= {6, 8}
    assert {line["blur"] for line in recipes} <= {2, 4}

    other = cli(*command)  # the published 5..10 and 1,2,4
    assert other.code == 1
    assert "snr: [6, 8] against [5, 6, 7, 8, 9, 10]" in other.err


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("audio", ["--snr", "7"], "is not one of '5', '10', '15', 'mix'"),
        ("video", ["--snr", "10..5"], "write 5..10 or 5,7,9"),
        ("video", ["--blur", "x"], "write 5..10 or 5,7,9"),
        ("video", ["--blur", "3"], "some of 1, 2, 4"),
        ("video", ["--dataset", "toy"], "go together"),
    ],
)
def test_wrong_usage_is_told(
    cli: Merstore,
    clips: Path,
    noise: Path,
    tmp_path: Path,
    kind: str,
    options: list[str],
    told: str,
) -> None:
    result = cli("noise", kind, clips, tmp_path / "out", "--noise", noise, *options)
    assert result.code in (1, 2)
    assert told in result.err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_noise_is_told(cli: Merstore, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = cli(
        "noise", "audio", clips, tmp_path / "o", "--noise", tmp_path / "empty", "--snr", "5"
    )
    assert result.code == 1
    assert "no noise in it; put sound files there" in result.err


def test_features_of_noisy_sound_are_a_variant_of_the_view(
    cli: Merstore, clips: Path, audio: list[object], tmp_path: Path
) -> None:
    """MERTools' name of it is in the view's path and spec, and finds the view."""
    make_hubert(tmp_path / "models" / "chinese-hubert-base")
    cli(*audio)
    options = [
        "--dataset",
        "toy",
        "--models",
        tmp_path / "models",
        "--device",
        "cpu",
        "--jobs",
        "0",
    ]
    for media, encoder in (
        (clips, "chinese-hubert-base"),
        (tmp_path / "audio_snr5", "chinese-hubert-base-noisesnr5"),
    ):
        view = ["--view", f"{encoder}-UTT", "--profile", "mertools"]
        told = cli("prewarm", tmp_path / "s.mer", media, *options, *view, "--json")
        assert told.json["views"][0]["computed"] == 4, told.err
    with merstore.open(tmp_path / "s.mer") as store:
        clean = store["toy/audio@chinese-hubert-base/UTT"]
        noisy = store["toy/audio@chinese-hubert-base-noisesnr5/UTT"]
        assert store.resolve("chinese-hubert-base-noisesnr5-UTT", "toy") == noisy.path
        assert noisy.spec["encoder"]["name"] == "chinese-hubert-base-noisesnr5"
        assert noisy.spec["encoder"] | {"name": clean.encoder} == clean.spec["encoder"]
        assert noisy.spec["material"]["noise"]["seed"] == 0
        assert "material" not in clean.spec
        assert list(noisy) == list(clean)
        assert all(not np.allclose(noisy[name], clean[name]) for name in clean)


def make_hubert(folder: Path) -> None:
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from merstore.extract.models import quiet

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    with quiet():
        HubertModel(config).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)

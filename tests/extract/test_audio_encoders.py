"""Frozen models of sound: small random ones of the real architectures, and whisper-tiny.en."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extract.audio_models import FAMILIES, make_model, model_maker, noise
from extract.reference_audio import hidden_states

from merstore.errors import EncoderError
from merstore.extract.audio_encoders import WaveEncoder, WhisperEncoder, audio_encoder


@pytest.fixture(scope="session")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return model_maker(tmp_path_factory.mktemp("audio-models"))


def mixed_by_ffmpeg(path: Path) -> np.ndarray:
    """Mono at 16 kHz in floating point: both channels' sum, divided by the root of 2."""
    import av
    from av.audio.resampler import AudioResampler

    mixer = AudioResampler("flt", "mono", 16_000)
    with av.open(path) as file:
        mixed = [out for frame in file.decode(audio=0) for out in mixer.resample(frame)]
    return np.concatenate([out.to_ndarray()[0] for out in [*mixed, *mixer.resample(None)]])


def rows(_: int, states: list[np.ndarray]) -> list[np.ndarray]:
    return states


class TestWaves:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_states_are_those_gathered_layer_by_layer(self, audio_model, family) -> None:
        """The last one after the final norm, as transformers 4 had it; version 5 gives another."""
        import transformers

        encoder = audio_encoder(audio_model(family), "cpu")
        model = getattr(transformers, f"{FAMILIES[family][0]}Model").from_pretrained(
            audio_model(family)
        )
        # Frozen as AffectGPT's: torch multiplies by frozen weights in another order (WavLM's).
        model.eval().requires_grad_(False)
        values = noise(2, 8_000)
        states = torch.stack(hidden_states(model, torch.from_numpy(values)))
        expected = {
            "mean of the last four": states[[-4, -3, -2, -1]].mean(dim=0),
            "sum of the last four": states[[-4, -3, -2, -1]].sum(dim=0),
            "last": states[-1],
        }
        for layers, value in expected.items():
            [found] = encoder.states([values], layers, rows)
            np.testing.assert_array_equal(np.stack(found), value.numpy())
        [found] = encoder.states([values], "last", rows, over_time=True)
        np.testing.assert_array_equal(np.stack(found), expected["last"].mean(dim=1).numpy())

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_unit_is_the_same_to_the_bit_whatever_is_beside_it(self, audio_model, family) -> None:
        encoder = audio_encoder(audio_model(family), "cpu")
        units = [noise(n, t, seed=n) for n, t in [(1, 400), (3, 4_000), (1, 4_000), (2, 5_001)]]
        alone = [encoder.states([unit], "mean of the last four", rows)[0] for unit in units]
        together = encoder.states(units, "mean of the last four", rows)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("family", ["hubert-large", "data2vec-audio"])
    def test_units_on_a_gpu_go_together_by_their_length(self, audio_model, family) -> None:
        encoder = audio_encoder(audio_model(family), "cpu")
        units = [noise(n, t, seed=n) for n, t in [(1, 400), (3, 4_000), (1, 4_000), (2, 5_001)]]
        expected = encoder.states(units, "sum of the last four", rows)
        passes = []
        forward = encoder._forward

        def counted(rows: np.ndarray, *args: Any) -> np.ndarray:
            passes.append(rows.shape)
            return forward(rows, *args)

        encoder._forward = counted
        encoder._together = lambda units: [[0], [1, 2], [3]]  # as where it is not `on_cpu`
        found = encoder.states(units, "sum of the last four", rows)
        assert passes == [(1, 400), (4, 4_000), (2, 5_001)]
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)

    @pytest.mark.gpu
    @pytest.mark.parametrize("family", [*FAMILIES, "whisper"])
    def test_a_gpu_differs_by_rounding(self, audio_model, family) -> None:
        units = [noise(n, t, seed=n) for n, t in [(1, 400), (3, 4_000), (1, 4_000), (2, 5_001)]]
        here = audio_encoder(audio_model(family), "cpu")
        there = audio_encoder(audio_model(family), "cuda")
        if isinstance(here, WhisperEncoder):
            units = [here.features(unit[0]) for unit in units]
        for one, other in zip(
            here.states(units, "mean of the last four", rows),
            there.states(units, "mean of the last four", rows),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, atol=1e-4)

    def test_steps(self, audio_model) -> None:
        """MERTools' golden vectors, where there is one chunk, and what is too short."""
        encoder = audio_encoder(audio_model("hubert-base"), "cpu")
        assert (encoder.field, encoder.stride) == (400, 320)
        counts = {399: 0, 400: 1, 8_000: 24, 16_000: 49, 32_000: 99, 48_000: 149, 80_000: 249}
        assert {n: encoder.steps(n) for n in counts} == counts
        assert encoder.steps(160_000) == 499
        [[states]] = encoder.states([noise(1, 8_123)], "last", rows)
        assert states.shape == (encoder.steps(8_123), encoder.dim)

    @pytest.mark.parametrize("do_normalize", [True, False])
    def test_normalisation_is_the_feature_extractors(self, tmp_path, do_normalize) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        folder = make_model(tmp_path, "hubert-base", do_normalize=do_normalize)
        encoder = audio_encoder(folder, "cpu")
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
        wave, clips = 0.1 + noise(12_345), 0.1 + noise(8, 3_200)
        for value, given in [(wave, wave.astype(np.float64)), (clips, torch.from_numpy(clips))]:
            expected = extractor(given, sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_array_equal(encoder.normalised(value), expected)

    def test_checkpoints_of_before_and_with_a_head(self, tmp_path) -> None:
        """Weights in the old spelling of weight norm and in a pickled file, as chinese-hubert-large."""
        from transformers import HubertForCTC

        folder = make_model(tmp_path / "plain", "hubert-large")
        expected = audio_encoder(folder, "cpu").states([noise(1, 4_000)], "last", rows)

        old = make_model(tmp_path / "old", "hubert-large")
        from safetensors.torch import load_file

        weights = load_file(old / "model.safetensors")
        spelled = {}
        for key, value in weights.items():
            key = key.replace("parametrizations.weight.original0", "weight_g")
            key = key.replace("parametrizations.weight.original1", "weight_v")
            if key != "masked_spec_embed":
                spelled[key] = value
        assert sum("weight_g" in key for key in spelled) == 1
        (old / "model.safetensors").unlink()
        torch.save(spelled, old / "pytorch_model.bin")
        found = audio_encoder(old, "cpu").states([noise(1, 4_000)], "last", rows)
        np.testing.assert_array_equal(found, expected)

        head = make_model(tmp_path / "head", "hubert-large")
        model = HubertForCTC.from_pretrained(folder)
        (head / "model.safetensors").unlink()
        model.save_pretrained(head)
        assert json.loads((head / "config.json").read_text())["architectures"] == ["HubertForCTC"]
        found = audio_encoder(head, "cpu").states([noise(1, 4_000)], "last", rows)
        np.testing.assert_array_equal(found, expected)


class TestWhisper:
    def test_the_encoders_states(self, audio_model) -> None:
        from transformers import WhisperFeatureExtractor, WhisperModel

        encoder = audio_encoder(audio_model("whisper"), "cpu")
        model = WhisperModel.from_pretrained(audio_model("whisper")).eval()
        extractor = WhisperFeatureExtractor.from_pretrained(audio_model("whisper"))
        wave = 0.1 * noise(50_000)
        features = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        np.testing.assert_array_equal(encoder.features(wave), features.numpy())
        with torch.no_grad():
            expected = model.get_encoder()(features).last_hidden_state
        [found] = encoder.states([encoder.features(wave)], "last", rows)
        np.testing.assert_array_equal(np.stack(found), expected.numpy())
        assert encoder.stride == 320
        assert encoder.window == 480_000

    def test_the_decoders_two_states(self, audio_model) -> None:
        from transformers import WhisperModel

        encoder = audio_encoder(audio_model("whisper"), "cpu", part="decoder")
        model = WhisperModel.from_pretrained(audio_model("whisper")).eval()
        features = encoder.features(0.1 * noise(50_000))
        with torch.no_grad():
            start = torch.tensor([[3, 3]])
            expected = model(torch.from_numpy(features), decoder_input_ids=start).last_hidden_state
        [found] = encoder.states([features], "last", rows)
        np.testing.assert_array_equal(np.stack(found), expected.numpy())

    def test_a_unit_is_the_same_to_the_bit_whatever_is_beside_it(self, audio_model) -> None:
        for part in ("encoder", "decoder"):
            encoder = audio_encoder(audio_model("whisper"), "cpu", part=part)
            units = [encoder.features(noise(n)) for n in (400, 30_000)]
            alone = [encoder.states([unit], "last", rows)[0] for unit in units]
            np.testing.assert_array_equal(alone, encoder.states(units, "last", rows))

    @pytest.mark.shared
    def test_whisper_tiny_against_its_origin(self, shared) -> None:
        encoder = audio_encoder(shared / "models/whisper-tiny.en", "cpu")
        wave = mixed_by_ffmpeg(shared / "media/jfk.flac")
        assert len(wave) == 176_000
        features = encoder.features(wave)
        assert features.shape == (1, 80, 3_000)
        assert features.mean() == pytest.approx(-0.21977, abs=1e-5)
        [[states]] = encoder.states([features], "last", rows)
        assert states.shape == (1500, 384)
        np.testing.assert_allclose(
            states[0, :4], [-0.89776, -0.03881, 0.57749, -0.04751], atol=1e-4
        )
        np.testing.assert_allclose(
            states[549, :4], [0.50963, 0.91562, -0.83653, -0.05748], atol=1e-4
        )
        assert states.mean() == pytest.approx(-0.02694, abs=1e-5)
        assert states.std() == pytest.approx(1.11133, abs=1e-5)

    @pytest.mark.shared
    def test_a_decoder_that_is_not_there_is_never_made_up(self, shared) -> None:
        encoder = audio_encoder(shared / "models/whisper-tiny.en", "cpu", part="decoder")
        with pytest.raises(EncoderError, match="weights are not in its files: decoder"):
            encoder.load()


def test_spec_says_what_the_model_is(audio_model) -> None:
    spec = audio_encoder(audio_model("hubert-large"), "cpu").spec()
    assert spec["architecture"] == "hubert"
    assert spec["shape"]["do_stable_layer_norm"] is True
    assert spec["preprocessing"] == {"do_normalize": True}
    assert spec["weights"].startswith("sha256:")
    assert spec["compute"] == {"dtype": "float32"}
    assert json.loads(json.dumps(spec)) == spec
    assert str(audio_model("hubert-large")) not in json.dumps(spec)


def test_spec_needs_neither_torch_nor_transformers(audio_model) -> None:
    program = (
        "import sys; from merstore.extract.audio_encoders import audio_encoder\n"
        "for folder in sys.argv[1:]: audio_encoder(folder).spec()\n"
        "print(sorted({'torch', 'transformers', 'av', 'soundfile'} & set(sys.modules)))"
    )
    folders = [str(audio_model(family)) for family in ("hubert-large", "whisper")]
    done = subprocess.run(
        [sys.executable, "-c", program, *folders], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_encoder_is_pickled_without_its_model(audio_model) -> None:
    encoder = audio_encoder(audio_model("hubert-base"), "cpu")
    expected = encoder.states([noise(1, 4_000)], "last", rows)
    sent = pickle.dumps(encoder)
    assert len(sent) < 10_000
    found = pickle.loads(sent).states([noise(1, 4_000)], "last", rows)
    np.testing.assert_array_equal(found, expected)


def test_what_is_no_model_of_sound(tmp_path, clip_model, audio_model) -> None:
    with pytest.raises(EncoderError, match="is a clip model; taken are hubert, wav2vec2"):
        audio_encoder(clip_model)
    with pytest.raises(EncoderError, match="no such folder"):
        audio_encoder(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(EncoderError, match=r"preprocessor_config.json, model.safetensors missing"):
        audio_encoder(tmp_path)


def test_weights_that_are_missing_are_an_error(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_model(tmp_path, "wavlm-base")
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer_norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    encoder = audio_encoder(folder, "cpu")
    assert isinstance(encoder, WaveEncoder)
    with pytest.raises(EncoderError, match=r"1 weights are not in its files: encoder.layer_norm"):
        encoder.states([noise(1, 400)], "last", rows)

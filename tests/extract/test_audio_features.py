"""Audio features by the profiles, against the code bases' own steps."""

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from extract import reference_audio
from extract.audio_models import FAMILIES, make_model, model_maker, noise

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract.audio_features import AudioFeatures
from merstore.extract.material import Material
from merstore.extract.reading import Reading

create = AudioFeatures.create


@pytest.fixture(scope="session")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return model_maker(tmp_path_factory.mktemp("audio-models"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes samples, [T] or [T, channels], as a sound file and gives its path."""

    def write(name: str, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> Path:
        soundfile.write(tmp_path / name, samples, rate, subtype)
        return tmp_path / name

    return write


def prepared(recipe: AudioFeatures, path: Path) -> Any:
    return recipe.prepare(Reading(Material("sample", audio=path)))


def entry(recipe: AudioFeatures, path: Path) -> np.ndarray:
    [found] = recipe.encode([prepared(recipe, path)])
    assert found.dtype == np.float32
    assert len(found.shape) == len(recipe.shape)
    assert all(n in (None, m) for n, m in zip(recipe.shape, found.shape, strict=True))
    return found


def plain(folder: Path, family: str) -> tuple[Any, Any]:
    """The model and its feature extractor as the code bases load them, frozen as AffectGPT does."""
    import transformers

    model = getattr(transformers, f"{FAMILIES[family][0]}Model").from_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    return model.eval().requires_grad_(False), extractor


class TestAffectGPT:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_is_the_code_bases_to_the_bit(self, audio_model, write, family) -> None:
        path = write("a.wav", 0.05 + 0.1 * noise(55_357))
        folder = audio_model(family)
        recipe = create("HUBERT_LARGE", "8clips", profile="affectgpt", weights=folder, device="cpu")
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T)
        expected = reference_audio.affectgpt(*plain(folder, family), waveform.contiguous(), 16_000)
        np.testing.assert_array_equal(entry(recipe, path), expected)

    @pytest.mark.parametrize(
        ("rate", "channels", "seconds"),
        [(16_000, 1, 0.5), (44_100, 2, 3.3), (48_000, 6, 2.5), (8_000, 3, 21.0), (16_000, 2, 2.0)],
    )
    def test_any_rate_and_channels(self, audio_model, write, rate, channels, seconds) -> None:
        samples = 0.1 * noise(int(rate * seconds), channels) + np.linspace(0, 0.3, channels)
        path = write("a.wav", samples.astype(np.float32), rate)
        folder = audio_model("hubert-large")
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T)
        expected = reference_audio.affectgpt(
            *plain(folder, "hubert-large"), waveform.contiguous(), rate
        )
        recipe = create("H", "8clips", profile="affectgpt", weights=folder, device="cpu")
        np.testing.assert_array_equal(entry(recipe, path), expected)

    def test_clips_of_a_known_sound(self, audio_model, write) -> None:
        """The starts that the facts print for 55,357 samples."""
        samples = np.arange(55_357, dtype=np.int16)
        recipe = create(
            "H", "8clips", profile="affectgpt", weights=audio_model("hubert-base"), device="cpu"
        )
        clips = prepared(recipe, write("a.wav", samples))
        assert clips.shape == (8, 1, 32_000)
        starts = [0, 2919, 5839, 8758, 11678, 14598, 17517, 20437]
        assert [round(float(clip[0, 0]) * 32768) for clip in clips] == starts
        assert recipe.size(clips) == 8 * 32_000

    def test_without_sound(self, audio_model, tmp_path, write) -> None:
        options = {"profile": "affectgpt", "weights": audio_model("hubert-base"), "device": "cpu"}
        record, zeros = (
            create("H", "8clips", **options),
            create("H", "8clips", missing="zeros", **options),
        )
        with pytest.raises(DecodeError) as caught:
            prepared(record, tmp_path / "none.wav")
        assert caught.value.kind == "missing_file"
        nothing = prepared(zeros, tmp_path / "none.wav")
        assert zeros.size(nothing) == 0
        heard = prepared(zeros, write("a.wav", 0.1 * noise(40_000)))
        first, second, third = zeros.encode([nothing, heard, nothing])
        assert first.shape == third.shape == (8, 32)
        assert not first.any()
        assert not third.any()
        np.testing.assert_array_equal(second, zeros.encode([heard])[0])
        assert record.spec != zeros.spec

    def test_whisper_is_refused(self, audio_model) -> None:
        with pytest.raises(EncoderError, match="take clean for a whisper model"):
            create("w", "8clips", profile="affectgpt", weights=audio_model("whisper"))


class TestMERTools:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("samples", [400, 48_000, 160_000, 160_160])
    def test_is_the_code_bases_to_the_bit(self, audio_model, write, family, samples) -> None:
        path = write("a.wav", 0.05 + 0.1 * noise(samples))
        folder = audio_model(family)
        expected = reference_audio.mertools(*plain(folder, family), path)
        options = {"profile": "mertools", "weights": folder, "device": "cpu"}
        np.testing.assert_array_equal(entry(create("h", "FRA", **options), path), expected)
        utterance = entry(create("h", "UTT", **options), path)
        np.testing.assert_array_equal(utterance, np.mean(expected, axis=0))

    def test_rows(self, audio_model, write) -> None:
        """MERTools' golden vectors: samples -> rows, with the real chain of convolutions."""
        counts = {400: 1, 8_000: 24, 16_000: 49, 32_000: 99, 48_000: 149, 80_000: 249}
        counts |= {160_000: 499, 160_160: 998, 528_000: 1996}
        recipe = create(
            *("h", "FRA"),
            profile="mertools",
            weights=audio_model("hubert-base"),
            device="cpu",
        )
        found = {n: len(entry(recipe, write("a.wav", 0.1 * noise(n)))) for n in counts}
        assert found == counts

    def test_more_than_eight_chunks_go_by_eights(self, audio_model, write) -> None:
        """Which touches the last bits only."""
        path = write("a.wav", 0.1 * noise(1_500_000))
        folder = audio_model("hubert-base")
        expected = reference_audio.mertools(*plain(folder, "hubert-base"), path)
        found = entry(create("h", "FRA", profile="mertools", weights=folder, device="cpu"), path)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_padding_enters_the_mean(self, audio_model, write) -> None:
        path = write("a.wav", 0.1 * noise(160_160))
        folder = audio_model("hubert-large")
        mertools, clean = (
            create("h", "UTT", profile=profile, weights=folder, device="cpu", layers="last")
            for profile in ("mertools", "clean")
        )
        assert mertools.spec["options"]["chunks"]["padding"] == "zeros, kept"
        assert np.abs(entry(mertools, path) - entry(clean, path)).max() > 0.01

    def test_too_short(self, audio_model, write) -> None:
        path = write("a.wav", 0.1 * noise(399))
        for profile in ("mertools", "clean"):
            recipe = create("h", "UTT", profile=profile, weights=audio_model("hubert-base"))
            with pytest.raises(DecodeError, match="399 samples") as caught:
                prepared(recipe, path)
            assert caught.value.kind == "too_short"

    @pytest.mark.parametrize(("rate", "channels"), [(12_000, 1), (44_100, 2), (16_000, 2)])
    def test_other_sound_goes_through_ffmpeg(self, audio_model, write, rate, channels) -> None:
        from merstore.extract.sound import read_sound

        path = write("a.wav", 0.1 * noise(2 * rate, channels), rate)
        recipe = create("h", "UTT", profile="mertools", weights=audio_model("hubert-base"))
        converted = read_sound(path, "ffmpeg_s16_16k_mono").samples[0]
        reading = Reading(Material("sample", audio=path))
        wave = recipe.prepare(reading)
        np.testing.assert_array_equal(wave, recipe.encoder.normalised(converted))
        flags = reading.quality["audio"].flags
        assert ("low_rate" in flags, "several_channels" in flags) == (rate < 16_000, channels > 1)

    def test_a_wav_at_16_khz_is_taken_as_it_is(self, audio_model, write) -> None:
        """Not rounded to 16 bits on the way."""
        samples = 0.1 * noise(16_000)
        recipe = create("h", "UTT", profile="mertools", weights=audio_model("hubert-base"))
        wave = prepared(recipe, write("a.wav", samples, subtype="FLOAT"))
        np.testing.assert_array_equal(wave, recipe.encoder.normalised(samples))

    def test_whisper_is_the_decoders_two_states(self, audio_model, write) -> None:
        from transformers import WhisperFeatureExtractor, WhisperModel

        folder = audio_model("whisper")
        model = WhisperModel.from_pretrained(folder).eval()
        extractor = WhisperFeatureExtractor.from_pretrained(folder)
        options = {"profile": "mertools", "weights": folder, "device": "cpu"}
        for samples in (300, 40_000, 500_000):
            path = write("a.wav", 0.1 * noise(samples))
            expected = reference_audio.mertools_whisper(model, extractor, path)
            frames, mean = create("w", "FRA", **options), create("w", "UTT", **options)
            np.testing.assert_array_equal(entry(frames, path), expected)
            np.testing.assert_array_equal(entry(mean, path), np.mean(expected, axis=0))
            assert frames.shape == (2, 32)
            assert len(prepared(frames, path)) == min(samples, 480_000)


class TestClean:
    @pytest.mark.parametrize("family", ["hubert-base", "hubert-large", "wavlm-large"])
    def test_up_to_30_seconds_the_whole_at_once(self, audio_model, write, family) -> None:
        path = write("a.wav", 0.1 * noise(161_000))
        model, _ = plain(audio_model(family), family)
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        values = (samples - samples.mean()) / samples.std(correction=0)
        states = torch.stack(reference_audio.hidden_states(model, values[None]))[-4:, 0]
        options = {"weights": audio_model(family), "device": "cpu"}
        found = entry(create("h", "FRA", **options), path)
        np.testing.assert_allclose(found, states.mean(dim=0).numpy(), atol=1e-4)
        utterance = entry(create("h", "UTT", **options), path)
        np.testing.assert_allclose(utterance, found.mean(axis=0), atol=1e-5)

    @pytest.mark.parametrize("samples", [480_400, 481_000, 801_234, 1_120_080])
    def test_longer_sound_has_the_rows_of_the_whole(self, audio_model, write, samples) -> None:
        """Each as if the model had seen all, where a layer's norm does not run over time."""
        path = write("a.wav", 0.1 * noise(samples))
        recipe = create("h", "FRA", weights=audio_model("hubert-large"), device="cpu")
        wave = prepared(recipe, path)
        found = entry(recipe, path)
        assert len(found) == recipe.encoder.steps(samples)
        windows = recipe._windows(samples)
        assert len(windows) == -(-len(found) // 1000)
        assert sum(rows.stop - rows.start for _, rows in windows) == len(found)
        assert max(part.stop - part.start for part, _ in windows) <= 30 * 16_000 + 400
        assert windows[-1][0].stop <= samples
        # The convolutions, before any attention, see no border of a window.
        with torch.inference_mode():
            model = recipe.encoder.model
            whole = model.feature_extractor(torch.from_numpy(wave[None]))[0].T
            parts = [
                model.feature_extractor(torch.from_numpy(wave[None, part]))[0].T[rows]
                for part, rows in windows
            ]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
        utterance = entry(
            create("h", "UTT", weights=audio_model("hubert-large"), device="cpu"), path
        )
        np.testing.assert_allclose(utterance, found.mean(axis=0, dtype=np.float64), atol=1e-4)

    def test_resampling_and_channels(self, audio_model, write) -> None:
        from torchaudio.functional import resample

        samples = 0.1 * noise(44_100, 3)
        path = write("a.wav", samples, 44_100, "FLOAT")
        recipe = create("h", "FRA", weights=audio_model("hubert-base"), device="cpu")
        mono = resample(torch.from_numpy(samples.T).mean(dim=0), 44_100, 16_000).numpy()
        np.testing.assert_allclose(
            prepared(recipe, path), recipe.encoder.normalised(mono), atol=1e-5
        )

    def test_whispers_rows_are_those_of_the_sound(self, audio_model, write) -> None:
        from transformers import WhisperModel

        folder = audio_model("whisper")
        recipe = create("w", "FRA", weights=folder, device="cpu")
        path = write("a.wav", 0.1 * noise(480_000 + 1_601))
        found = entry(recipe, path)
        assert len(found) == 1500 + 6
        model = WhisperModel.from_pretrained(folder).eval()
        samples = soundfile.read(path, dtype="float32")[0]
        with torch.no_grad():
            for part, rows in [
                (samples[:480_000], found[:1500]),
                (samples[480_000:], found[1500:]),
            ]:
                features = torch.from_numpy(recipe.encoder.features(part))
                states = model.get_encoder()(features).last_hidden_state[0, : len(rows)]
                np.testing.assert_array_equal(rows, states.numpy())


ALL = [
    *[("affectgpt", family, "8clips") for family in FAMILIES],
    *[("mertools", family, level) for family in [*FAMILIES, "whisper"] for level in ("UTT", "FRA")],
    *[("clean", family, level) for family in [*FAMILIES, "whisper"] for level in ("UTT", "FRA")],
]


@pytest.mark.parametrize(("profile", "family", "sampling"), ALL)
def test_alone_or_among_others_to_the_bit(audio_model, write, profile, family, sampling) -> None:
    """On a CPU. Two of equal length are among them, and a long one where it is cut."""
    recipe = create("e", sampling, profile=profile, weights=audio_model(family), device="cpu")
    lengths = [16_000, 16_000, 4_321, 170_000]
    paths = [write(f"{i}.wav", 0.1 * noise(n, seed=i)) for i, n in enumerate(lengths)]
    waves = [prepared(recipe, path) for path in paths]
    together = recipe.encode(waves)
    for wave, found in zip(waves, together, strict=True):
        np.testing.assert_array_equal(found, recipe.encode([wave])[0])
    assert recipe.encode([]) == []


def test_spec_tells_profiles_samplings_layers_and_models_apart(audio_model) -> None:
    folder = audio_model("hubert-base")
    recipes = [
        create("h", "8clips", profile="affectgpt", weights=folder),
        create("h", "4clips", profile="affectgpt", weights=folder),
        create("h", "8clips", profile="affectgpt", weights=folder, missing="zeros"),
        *[
            create("h", s, profile=p, weights=folder)
            for p in ("mertools", "clean")
            for s in ("UTT", "FRA")
        ],
        create("h", "UTT", weights=folder, layers="last"),
        create("h", "UTT", weights=audio_model("hubert-large")),
        create("h", "UTT", weights=folder, compute="bfloat16"),
    ]
    specs = [json.dumps(recipe.spec, sort_keys=True) for recipe in recipes]
    assert len(set(specs)) == len(specs)
    for recipe, spec in zip(recipes, specs, strict=True):
        assert json.loads(spec) == recipe.spec
        assert str(folder.parent) not in spec
        assert recipe.request(None) is None
        assert recipe.reads == recipe.modality == "audio"


def test_recipes_are_picklable(audio_model, write) -> None:
    path = write("a.wav", 0.1 * noise(16_000))
    for profile, sampling in [("affectgpt", "8clips"), ("mertools", "UTT"), ("clean", "FRA")]:
        recipe = create("h", sampling, profile=profile, weights=audio_model("hubert-base"))
        sent = pickle.loads(pickle.dumps(recipe))
        np.testing.assert_array_equal(entry(sent, path), entry(recipe, path))


def test_reading_16_khz_needs_no_torch(audio_model, write) -> None:
    """A reading process then starts in a fraction of a second."""
    path = write("a.wav", 0.1 * noise(16_000))
    program = (
        "import sys\n"
        "from merstore.extract.audio_features import AudioFeatures\n"
        "from merstore.extract.material import Material\n"
        "from merstore.extract.reading import Reading\n"
        "for p, s in [('affectgpt', '8clips'), ('mertools', 'UTT'), ('clean', 'UTT')]:\n"
        "    recipe = AudioFeatures.create('h', s, profile=p, weights=sys.argv[1])\n"
        "    recipe.prepare(Reading(Material('s', audio=__import__('pathlib').Path(sys.argv[2]))))\n"
        "    recipe.spec\n"
        "print(sorted({'torch', 'torchaudio', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(audio_model("hubert-base")), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_does_not_go_together(audio_model, tmp_path) -> None:
    folder = audio_model("hubert-base")
    with pytest.raises(EncoderError, match="no profile 'lab' for audio"):
        create("h", "UTT", profile="lab", weights=folder)
    with pytest.raises(InvalidKey, match="the clean profile has no audio sampling '8clips'"):
        create("h", "8clips", weights=folder)
    with pytest.raises(InvalidKey, match="the affectgpt profile has no audio sampling 'UTT'"):
        create("h", "UTT", profile="affectgpt", weights=folder)
    with pytest.raises(EncoderError, match="layers='first': choose one of"):
        create("h", "UTT", weights=folder, layers="first")
    with pytest.raises(EncoderError, match="belongs to the affectgpt profile"):
        create("h", "UTT", weights=folder, missing="zeros")
    with pytest.raises(EncoderError, match="it is 'record' or 'zeros'"):
        create("h", "8clips", profile="affectgpt", weights=folder, missing="noise")
    with pytest.raises(EncoderError, match="audio has no option beam"):
        create("h", "UTT", weights=folder, beam=4)
    other = make_model(tmp_path / "m", "hubert-base", sampling_rate=24_000)
    with pytest.raises(EncoderError, match="at 16 kHz"):
        create("h", "UTT", profile="mertools", weights=other)


def test_memory_that_does_not_suffice(audio_model, write) -> None:
    """Fewer at a time; where one is too many, an error that names the model."""
    path = write("a.wav", 0.1 * noise(50_000))
    folder = audio_model("wav2vec2-base")
    recipe = create("H", "8clips", profile="affectgpt", weights=folder, device="cpu")
    expected = entry(recipe, path)
    forward, most = recipe.encoder._forward, 3

    def short(rows: np.ndarray, *args: Any) -> np.ndarray:
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(rows, *args)

    recipe.encoder._forward = short
    np.testing.assert_allclose(entry(recipe, path), expected, atol=1e-4)
    most = 0
    with pytest.raises(EncoderError, match="wav2vec2-base: not enough memory for one at a time"):
        entry(recipe, path)


def test_threads_take_turns(audio_model, write) -> None:
    from concurrent.futures import ThreadPoolExecutor

    recipe = create("h", "FRA", weights=audio_model("hubert-base"), device="cpu")
    waves = [prepared(recipe, write(f"{i}.wav", 0.1 * noise(4_000 + i, seed=i))) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda wave: recipe.encode([wave])[0], waves))
    for one, other in zip(found, recipe.encode(waves), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.shared
def test_whisper_tiny_gives_a_row_for_each_20_ms_of_speech(shared) -> None:
    weights = shared / "models/whisper-tiny.en"
    rows = entry(create("whisper-tiny.en", "FRA", weights=weights), shared / "media/jfk.flac")
    assert rows.shape == (550, 384)
    mean = entry(create("whisper-tiny.en", "UTT", weights=weights), shared / "media/jfk.flac")
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)


@pytest.mark.shared
def test_every_real_file_gives_an_entry_or_the_right_failure(shared, audio_model) -> None:
    from merstore.extract.sound import read_sound

    folder = audio_model("hubert-large")
    recipes = [
        create("h", "8clips", profile="affectgpt", weights=folder, device="cpu"),
        create("h", "UTT", profile="mertools", weights=folder, device="cpu"),
        create("h", "UTT", weights=folder, device="cpu"),
        whisper := create("w", "UTT", weights=shared / "models/whisper-tiny.en", device="cpu"),
    ]
    with (shared / "media/manifest.tsv").open(encoding="utf-8", newline="") as file:
        described = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    encoded = 0
    for path in sorted((shared / "media").iterdir()):
        reading = Reading(Material(path.name, audio=path))
        try:
            read_sound(path)
            kind = None
        except DecodeError as error:
            kind = error.kind
        told = described.get(path.name)
        if told is not None and kind is None:
            assert told["has_audio"] == "yes" or path.suffix in (".wav", ".flac")
        for recipe in recipes:
            if kind is not None:
                with pytest.raises(DecodeError) as caught:
                    recipe.prepare(reading)
                assert caught.value.kind == kind
                continue
            ready = recipe.prepare(reading)
            if path.stat().st_size > 100_000 or (recipe is whisper and encoded > 20):
                continue  # prepared; encoding all would take minutes
            [found] = recipe.encode([ready])
            assert found.shape == recipe.shape
            assert np.isfinite(found).all()
            encoded += 1
    assert encoded >= 30

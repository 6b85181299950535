"""Handcrafted sound features: librosa's to within rounding of float32, and openSMILE's."""

import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract.handcrafted import Handcrafted, at_librosas_rate, mel_spectrogram, mfcc
from merstore.extract.material import Material
from merstore.extract.reading import Reading
from merstore.extract.sound import read_sound

create = Handcrafted.create

# What librosa 0.11.0 (pad_mode="reflect", as its 0.8.0) and resampy 0.2.2 gave for `signal`: samples at
# 22,050 Hz, rows, and of rows 0, 41 and the last: mel bands 2, 9, 30, 60, and values 0, 1, 17, 39, 40,
# 57, 80, 119 of [MFCC, delta, delta of delta]; of the latter's mean over time values 0, 5, 45, 100.
GOLDEN = {
    ("chirp", 16_000): {
        "mel": [
            [36.14227, 1.16371, 0.03490211, 0.03139678],
            [0.002437903, 231.4607, 2.572512e-06, 1.32041e-07],
            [3.819746, 12.16185, 0.9055873, 0.001130351],
        ],
        "mfcc": [
            [-234.3934, 163.1047, 10.17418, 1.191417, -23.08557, 0.2010661, 3.788344, 0.02963962],
            [-496.4878, 145.2849, 2.331382, 2.074872, -0.0266027, 0.7616219, -0.0118387, 0.0364642],
            [-248.3364, 243.866, 12.99331, 1.013666, 16.34996, -1.381175, 2.692071, -0.03459059],
        ],
        "mean": [-490.6577, 74.19653, -0.8091311, 0.03073719],
    },
    ("noise", 16_000): {
        "mel": [
            [0.1218877, 0.1920587, 0.04747237, 0.1278217],
            [0.8831931, 0.2509565, 0.07303768, 0.1706301],
            [0.03578298, 0.06955012, 0.1730322, 0.3227959],
        ],
        "mfcc": [
            [-141.203, 19.14687, -5.081608, -0.2932041, -3.351577, -1.169905, 0.5023784, 0.0835924],
            [-174.5847, 99.30615, -15.1457, -4.061161, 1.45832, -0.0810357, 0.2820822, -0.1311301],
            [-129.0585, 22.98995, 3.436457, 0.207654, 2.333726, 1.27161, 0.2986403, 0.1669858],
        ],
        "mean": [-167.7247, 69.92546, 0.2323516, -0.002744699],
    },
    ("noise", 44_100): {
        "mel": [
            [0.00264423, 0.1041622, 0.2813463, 0.09546961],
            [0.03210037, 0.05706655, 0.009655594, 0.03820302],
            [0.002429738, 0.01656675, 0.06681178, 0.03490484],
        ],
        "mfcc": [
            [-158.6724, -7.30862, 1.362503, 4.081208, 0.6575282, 0.2360382, 0.2154804, -0.032948],
            [-146.7533, -8.541678, 4.46981, 2.65069, 0.3104268, 0.7544379, -0.2201633, -0.1350026],
            [
                -156.7864,
                -9.455328,
                -7.460077,
                11.29139,
                -0.4867479,
                -1.091109,
                0.0507798,
                0.1148599,
            ],
        ],
        "mean": [-147.6726, 1.855668, -0.07840107, -0.03024954],
    },
    ("chirp", 22_050): {
        "mel": [
            [36.15026, 1.161537, 0.03523711, 0.0310263],
            [0.002436746, 231.4596, 2.546969e-06, 1.210159e-07],
            [3.823938, 12.17016, 0.9033291, 0.001215766],
        ],
        "mfcc": [
            [-229.8931, 156.0173, 11.68142, 1.0056, -23.33966, 0.09001142, 3.831629, 0.02747359],
            [-496.4796, 145.2953, 2.341817, 2.077392, -0.027012, 0.7607716, -0.0122063, 0.0362127],
            [-285.5765, 290.4865, 12.20312, 1.084122, 13.86885, -1.435206, 2.278575, -0.0348686],
        ],
        "mean": [-491.0722, 74.20795, -0.7415831, 0.02953613],
    },
}


def signal(kind: str, rate: int, seconds: float = 0.8) -> np.ndarray:
    """The same 16-bit samples on every machine."""
    count = int(rate * seconds)
    if kind == "chirp":
        t = np.arange(count) / rate
        tone = 0.1 * np.sin(2 * np.pi * 1234.5 * t)
        values = 0.4 * np.sin(2 * np.pi * (80 * t + 200 * t**2)) + tone
    else:
        states = np.empty(count, np.int64)
        state = 12345
        for i in range(count):
            states[i] = state = (1103515245 * state + 12345) % 2**31
        values = (states / 2**31 - 0.5) * 0.3
    return np.round(values * 32767).astype(np.int16)


def entry(recipe: Handcrafted, path: Path) -> np.ndarray:
    ready = recipe.prepare(Reading(Material("sample", audio=path)))
    [found] = recipe.encode([ready])
    assert found.dtype == recipe.dtype
    assert len(found.shape) == len(recipe.shape)
    assert all(n in (None, m) for n, m in zip(recipe.shape, found.shape, strict=True))
    assert recipe.size(ready) == (len(found) if recipe.sampling == "FRA" else 1)
    return found


class TestLibrosa:
    @pytest.mark.parametrize(("kind", "rate"), GOLDEN)
    def test_is_librosas(self, kind, rate) -> None:
        expected = GOLDEN[kind, rate]
        wave = at_librosas_rate(signal(kind, rate) / np.float32(32768), rate)
        assert wave.shape == (17_640,)
        mel = mel_spectrogram(wave)
        assert mel.shape == (81, 128)
        # Where a band is a millionth of the loudest, it is rounding of float32, theirs and ours.
        np.testing.assert_allclose(
            mel[[0, 41, -1]][:, [2, 9, 30, 60]], expected["mel"], rtol=1e-4, atol=1e-6 * mel.max()
        )
        features = mfcc(mel)
        assert features.shape == (81, 120)
        shown = features[[0, 41, -1]][:, [0, 1, 17, 39, 40, 57, 80, 119]]
        np.testing.assert_allclose(shown, expected["mfcc"], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(
            features.mean(axis=0)[[0, 5, 45, 100]], expected["mean"], rtol=1e-4, atol=1e-3
        )

    @pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
    def test_resampling_keeps_a_tone(self, rate) -> None:
        """Its length is librosa's; of a tone below both limits the middle is the tone."""
        wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        found = at_librosas_rate(wave, rate)
        assert len(found) == 22_050
        expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
        np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=2e-3)

    @pytest.mark.parametrize("samples", [1, 7, 319, 320, 321, 1_000])
    def test_resampling_rounds_lengths_up_and_ends_with_a_zero_there(self, samples) -> None:
        found = at_librosas_rate(np.ones(samples, np.float32), 16_000)
        exact = samples * 22_050 / 16_000
        assert len(found) == int(np.ceil(exact))
        assert (found[-1] == 0) == (exact != int(exact))

    def test_blocks_do_not_show(self, monkeypatch) -> None:
        from merstore.extract import handcrafted

        wave = signal("noise", 44_100) / np.float32(32768)
        once = mel_spectrogram(at_librosas_rate(wave, 44_100))
        monkeypatch.setattr(handcrafted, "_BLOCK", 17)
        by_parts = mel_spectrogram(at_librosas_rate(wave, 44_100))
        np.testing.assert_allclose(by_parts, once, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(("name", "dim"), [("mel_spec", 128), ("mfcc", 120)])
    def test_views(self, tmp_path, name, dim) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 16_000), 16_000)
        rows = entry(create(name, "FRA", profile="mertools"), path)
        assert rows.shape == (81, dim)
        utterance = entry(create(name, "UTT", profile="mertools"), path)
        np.testing.assert_array_equal(utterance, rows.mean(axis=0))
        np.testing.assert_array_equal(rows, entry(create(name, "FRA"), path))

    def test_other_sound(self, tmp_path) -> None:
        """mertools: through ffmpeg to 16 kHz; clean: the channels' mean at its own rate."""
        path = tmp_path / "a.wav"
        stereo = np.stack([signal("noise", 44_100), signal("chirp", 44_100)], axis=1)
        soundfile.write(path, stereo, 44_100)
        converted = read_sound(path, "ffmpeg_s16_16k_mono").samples[0]
        np.testing.assert_array_equal(
            entry(create("mel_spec", "FRA", profile="mertools"), path),
            mel_spectrogram(at_librosas_rate(converted, 16_000)),
        )
        mono = read_sound(path).samples.mean(axis=0)
        np.testing.assert_array_equal(
            entry(create("mel_spec", "FRA"), path),
            mel_spectrogram(at_librosas_rate(mono, 44_100)),
        )

    def test_too_short_for_deltas(self, tmp_path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 16_000, 0.07), 16_000)
        assert entry(create("mel_spec", "FRA"), path).shape == (8, 128)
        with pytest.raises(DecodeError, match="too short for mfcc") as caught:
            entry(create("mfcc", "FRA"), path)
        assert caught.value.kind == "too_short"

    def test_reading_needs_no_torch(self, tmp_path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 44_100), 44_100)
        program = (
            "import sys, pathlib\n"
            "from merstore.extract.handcrafted import Handcrafted\n"
            "from merstore.extract.material import Material\n"
            "from merstore.extract.reading import Reading\n"
            "for profile in ('mertools', 'clean'):\n"
            "    recipe = Handcrafted.create('mfcc', 'UTT', profile=profile)\n"
            "    recipe.prepare(Reading(Material('s', audio=pathlib.Path(sys.argv[1]))))\n"
            "print(sorted({'torch', 'scipy', 'librosa', 'opensmile'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"


SETS = {  # UTT and FRA: MERTools' widths, and those of newer sets
    "eGeMAPS": (88, 23),
    "IS09": (384, 32),
    "IS10": (1582, 76),
    "IS13": (6373, 130),
    "eGeMAPSv02": (88, 25),
    "ComParE_2016": (6373, 130),
}


class TestOpenSmile:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("opensmile", reason="the extra opensmile is not installed")

    @pytest.mark.filterwarnings("ignore:Feature set:UserWarning")  # that there are newer ones
    @pytest.mark.parametrize("name", SETS)
    def test_is_the_packages(self, tmp_path, name) -> None:
        import opensmile

        path = tmp_path / "a.wav"
        soundfile.write(path, signal("chirp", 16_000, 1.0), 16_000)
        whole, frame = SETS[name]
        utterance = entry(create(name, "UTT", profile="mertools"), path)
        rows = entry(create(name, "FRA", profile="mertools"), path)
        assert utterance.shape == (whole,)
        assert rows.shape[1] == frame
        assert 90 < len(rows) < 100
        assert utterance.dtype == rows.dtype == np.float64
        level = opensmile.FeatureLevel
        for sampling, kind in [(utterance, level.Functionals), (rows, level.LowLevelDescriptors)]:
            smile = opensmile.Smile(opensmile.FeatureSet[name], kind)
            table = smile.process_file(str(path)).to_numpy()
            np.testing.assert_array_equal(np.atleast_2d(sampling)[:, : table.shape[1]], table)
        clean = entry(create(name, "UTT"), path)
        assert clean.dtype == np.float32
        np.testing.assert_array_equal(clean, utterance.astype(np.float32))

    def test_deltas_follow(self, tmp_path) -> None:
        import opensmile

        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 16_000, 1.0), 16_000)
        rows = entry(create("IS09", "FRA"), path)
        smile = opensmile.Smile(
            opensmile.FeatureSet.IS09, opensmile.FeatureLevel.LowLevelDescriptors_Deltas
        )
        deltas = smile.process_file(str(path)).to_numpy()
        np.testing.assert_array_equal(rows[:, 16:], deltas[: len(rows)])

    def test_full_scale_is_not_turned_round(self, tmp_path) -> None:
        """1.0 is no 16-bit sample; unguarded it becomes -1."""
        soundfile.write(tmp_path / "a.wav", np.ones(16_000, np.float32), 16_000, "FLOAT")
        most = np.full(16_000, 32767, np.int16)
        soundfile.write(tmp_path / "b.wav", most, 16_000)
        recipe = create("IS09", "FRA", profile="mertools")
        np.testing.assert_array_equal(
            entry(recipe, tmp_path / "a.wav"), entry(recipe, tmp_path / "b.wav")
        )

    @pytest.mark.parametrize("name", SETS)
    @pytest.mark.parametrize("sampling", ["UTT", "FRA"])
    def test_too_short(self, tmp_path, name, sampling) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 16_000, 0.01), 16_000)
        with pytest.raises(DecodeError, match=r"0\.010 seconds") as caught:
            entry(create(name, sampling), path)
        assert caught.value.kind == "too_short"

    def test_is_picklable_after_use(self, tmp_path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, signal("noise", 16_000), 16_000)
        recipe = create("eGeMAPS", "UTT")
        expected = entry(recipe, path)
        np.testing.assert_array_equal(entry(pickle.loads(pickle.dumps(recipe)), path), expected)

    def test_a_variants_name_is_of_the_same_set(self) -> None:
        recipe = create("eGeMAPS-noisesnrmix", "UTT", profile="mertools")
        assert recipe.encoder_name == "eGeMAPS-noisesnrmix"
        assert recipe.shape == (88,)

    @pytest.mark.shared
    def test_every_real_file_gives_an_entry_or_the_right_failure(self, shared) -> None:
        recipes = [create("eGeMAPS", "UTT", profile="mertools"), create("mfcc", "UTT")]
        made = 0
        for path in sorted((shared / "media").iterdir()):
            reading = Reading(Material(path.name, audio=path))
            try:
                read_sound(path)
                kind = None
            except DecodeError as error:
                kind = error.kind
            for recipe in recipes:
                if kind is None:
                    found = recipe.prepare(reading)
                    assert found.shape == recipe.shape
                    assert np.isfinite(found).all()
                    made += 1
                else:
                    with pytest.raises(DecodeError) as caught:
                        recipe.prepare(reading)
                    assert caught.value.kind == kind
        assert made >= 40


def test_specs_differ_and_hold_no_path() -> None:
    recipes = [
        create(name, sampling, profile=profile)
        for name in ("mel_spec", "mfcc")
        for sampling in ("UTT", "FRA")
        for profile in ("mertools", "clean")
    ]
    if importlib.util.find_spec("opensmile"):
        recipes += [create("eGeMAPS", "UTT"), create("IS09", "FRA"), create("IS09", "UTT")]
    specs = [json.dumps(recipe.spec, sort_keys=True) for recipe in recipes]
    assert len(set(specs)) == len(specs)
    assert all(json.loads(spec) == recipe.spec for spec, recipe in zip(specs, recipes, strict=True))
    assert all(recipe.request(None) is None for recipe in recipes)


def test_an_absent_library_names_its_extra(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"pip install 'merstore\[opensmile\]'"):
        create("eGeMAPS", "UTT")


def test_what_is_refused() -> None:
    with pytest.raises(InvalidKey, match="no handcrafted features 'prosody'; there are mel_spec"):
        create("prosody", "UTT")
    with pytest.raises(InvalidKey, match="mfcc has no sampling '8clips'"):
        create("mfcc", "8clips")
    with pytest.raises(EncoderError, match="the affectgpt profile has no handcrafted features"):
        create("mfcc", "UTT", profile="affectgpt")
    with pytest.raises(EncoderError, match="takes no weights, layers"):
        create("mfcc", "UTT", weights="a/b", layers="last")

"""Mixing noise into speech at a signal-to-noise ratio."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merstore.noise.mixing import HIGH, LOW, Samples, amplitude, mix, rms

SOUNDS = st.integers(1, 400).flatmap(
    lambda length: st.tuples(
        *[arrays.arrays(np.int16, length, elements=st.integers(LOW, HIGH)).filter(np.any)] * 2
    )
)
SNRS = st.sampled_from([5, 6, 7, 8, 9, 10, 15]) | st.floats(-40, 60)


def reference(clean: Samples, noise: Samples, snr: float) -> np.ndarray:
    """MERTools' mixing, step by step."""
    clean, noise = clean.astype(np.float64), noise.astype(np.float64)
    clean_rms = np.sqrt(np.mean(clean**2))
    noise_rms = np.sqrt(np.mean(noise**2))
    target = clean_rms / 10 ** (snr / 20)
    mixed = clean + noise * (target / noise_rms)
    low, high = mixed.min(), mixed.max()
    if high > 32767 or low < -32768:
        mixed = mixed * (32767 / high if high >= -low else -32768 / low)
    return mixed.astype(np.int16)


@given(SOUNDS, st.sampled_from([5, 6, 7, 8, 9, 10, 15]))
def test_the_mix_is_mertools_bit_for_bit(sounds: tuple[Samples, Samples], snr: int) -> None:
    clean, noise = sounds
    assert np.array_equal(mix(clean, noise, snr).samples, reference(clean, noise, snr))


@given(SOUNDS, SNRS)
def test_before_clipping_the_ratio_is_the_one_asked_for(
    sounds: tuple[Samples, Samples], snr: float
) -> None:
    clean, noise = (sound.astype(np.float64) for sound in sounds)
    added = noise * mix(*sounds, snr).gain
    measured = 10 * np.log10(np.mean(clean**2) / np.mean(added**2))
    assert abs(measured - snr) < 0.01


@given(SOUNDS, SNRS)
def test_what_is_too_loud_is_made_quieter_as_a_whole(
    sounds: tuple[Samples, Samples], snr: float
) -> None:
    clean, noise = sounds
    mixed = mix(clean, noise, snr)
    whole = clean + noise * mixed.gain
    if whole.min() >= LOW and whole.max() <= HIGH:
        assert mixed.scale == 1
    else:
        loudest = np.argmax(np.abs(whole))
        end = HIGH if whole[loudest] > 0 else LOW
        assert abs(int(mixed.samples[loudest]) - end) <= 1  # a rounding below, cut towards zero
    assert np.abs(mixed.samples - whole * mixed.scale).max() < 1.001
    assert mixed.samples.dtype == np.int16


def test_samples_are_cut_towards_zero() -> None:
    clean, noise = np.array([100, -100], np.int16), np.array([1, -1], np.int16)
    mixed = mix(clean, noise, 40.2)  # the noise gets an amplitude of 0.977
    assert mixed.samples.tolist() == [100, -100]


def test_in_the_recording_itself_the_ratio_is_that_too() -> None:
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(0, 2000, (2, 16_000)).astype(np.int16)
    for snr in (5, 10, 15):
        added = mix(clean, noise, snr).samples.astype(np.float64) - clean
        measured = 20 * np.log10(rms(clean) / np.sqrt(np.mean(added**2)))
        assert abs(measured - snr) < 0.01


def test_a_loudness_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(0)
    sound = rng.integers(LOW, HIGH + 1, 100_001).astype(np.int16)
    assert rms(sound) == rms(np.sort(sound)) == rms(sound[::-1])
    assert rms(np.full(1000, LOW, np.int16)) == 32768


@pytest.mark.parametrize("snr", [5, 6, 7, 8, 9, 10, 15])
def test_amplitudes_are_those_that_python_computes(snr: int) -> None:
    assert amplitude(snr) == 10 ** (snr / 20)


@pytest.mark.parametrize(
    ("clean", "noise", "told"),
    [
        ([0, 0], [1, 2], "the clean sound is silent"),
        ([1, 2], [0, 0], "the noise is silent"),
        ([], [], "silent"),
        ([1, 2, 3], [1, 2], "3 samples of clean sound and 2 of noise"),
    ],
)
def test_what_has_no_ratio_is_refused(clean: list[int], noise: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mix(np.array(clean, np.int16), np.array(noise, np.int16), 5)


def test_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="the noise is float64"):
        mix(np.ones(3, np.int16), np.ones(3), 5)  # type: ignore[arg-type]

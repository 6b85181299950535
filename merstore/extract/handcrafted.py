"""Handcrafted audio features: openSMILE's sets, and librosa's mel spectrogram and MFCCs.

They are computed where the sound is read, in the reading processes, and need no model and no torch.
"""

import importlib.metadata
import importlib.util
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract import sound
from merstore.extract.audio_features import CLEAN_SOUND, MERTOOLS_SOUND, mertools_sound

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

Array = npt.NDArray[Any]

_VERSIONS = {"mertools": 1, "clean": 1}  # of what a profile does


class Handcrafted(ABC):
    """What makes a view of handcrafted audio features (a Recipe); `create` makes one.

    Sound is got as the profile gets it for its models: ``mertools`` a mono WAV file at 16 kHz as it is
    and anything else as ``ffmpeg -ar 16000 -ac 1`` makes it; ``clean`` the mean of the channels.
    """

    modality = "audio"
    reads = "audio"
    dtype = "float32"

    def __init__(self, name: str, sampling: str, profile: str) -> None:
        if profile not in _VERSIONS:
            raise EncoderError(f"{name}: the {profile} profile has no handcrafted features")
        if sampling not in ("UTT", "FRA"):
            raise InvalidKey(f"{name} has no sampling {sampling!r}; it has UTT, FRA")
        self.encoder_name = name
        self.sampling = sampling
        self.profile = profile

    @staticmethod
    def create(
        name: str,
        sampling: str,
        *,
        profile: str = "clean",
        weights: str | Path | None = None,
        device: str = "auto",
        **options: Any,
    ) -> "Handcrafted":
        """The recipe of a view ``audio@name/sampling``: ``UTT`` [D] or ``FRA`` [T, D].

        name: ``mel_spec``, ``mfcc`` or one of openSMILE's sets (`OpenSmile`); what follows a hyphen
        in it, such as MERTools' ``-noisesnr5``, says of what sound it is. There are no weights and
        no options, and the device is the CPU.

        Raises InvalidKey for another name or sampling, and EncoderError for a profile that has none
        of these and where openSMILE is not installed.
        """
        if weights is not None or options:
            given = ", ".join(["weights"] * (weights is not None) + sorted(options))
            raise EncoderError(f"{name} is computed without a model and takes no {given}")
        kind = name.partition("-")[0]
        if kind in _SETS:
            return OpenSmile(name, sampling, profile)
        if kind in ("mel_spec", "mfcc"):
            return _Spectrum(name, sampling, profile)
        known = ", ".join(["mel_spec", "mfcc", *_SETS])
        raise InvalidKey(f"no handcrafted features {name!r}; there are {known}")

    @property
    def kind(self) -> str:
        return self.encoder_name.partition("-")[0]

    @property
    @abstractmethod
    def dim(self) -> int:
        """Values per row."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (self.dim,) if self.sampling == "UTT" else (None, self.dim)

    @property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        got = MERTOOLS_SOUND if self.profile == "mertools" else CLEAN_SOUND
        return {
            "modality": self.modality,
            "encoder": {"name": self.encoder_name, **self._encoder()},
            "profile": {"name": self.profile, "version": _VERSIONS[self.profile]},
            "sampling": self.sampling,
            "sound": {"version": sound.VERSION, **got, **self._sound()},
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    @abstractmethod
    def _encoder(self) -> dict[str, Any]: ...

    @abstractmethod
    def _sound(self) -> dict[str, Any]: ...

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""
        return

    @abstractmethod
    def prepare(self, reading: "Reading") -> Array:
        """The entry. Raises DecodeError."""

    def size(self, prepared: Array) -> int:
        """Rows."""
        return len(prepared) if prepared.ndim == 2 else 1

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        """The entries as they are: all has been done."""
        return list(batch)

    def _too_short(self, reading: "Reading", seconds: float) -> DecodeError:
        reason = f"{seconds:.3f} seconds of sound are too short for {self.kind}"
        return DecodeError(reading.material.name, "too_short", reason)


class _Set(NamedTuple):
    """``name``: of the opensmile package's FeatureSet; ``deltas``: whether FRA has them too."""

    name: str
    frame: int
    whole: int
    deltas: bool = False


_SETS = {
    "eGeMAPS": _Set("eGeMAPS", 23, 88),  # eGeMAPSv01a, as MERTools has it
    "eGeMAPSv01b": _Set("eGeMAPSv01b", 23, 88),
    "eGeMAPSv02": _Set("eGeMAPSv02", 25, 88),
    "IS09": _Set("IS09", 32, 384, deltas=True),
    "IS10": _Set("IS10", 76, 1582, deltas=True),
    "IS13": _Set("IS13", 130, 6373, deltas=True),
    "ComParE_2016": _Set("ComParE_2016", 130, 6373, deltas=True),
}


class OpenSmile(Handcrafted):
    """openSMILE's sets: ``UTT`` are the functionals, ``FRA`` the low-level descriptors, followed by their
    deltas in the sets that have them.

    By the opensmile package (the extra ``opensmile``; its licence is for research), which holds
    openSMILE 3 and the configurations eGeMAPSv01a, IS09_emotion, IS10_paraling_compat and
    IS13_ComParE of MERTools' openSMILE 2.3.0. MERTools' own numbers, which have passed through a text
    file, need that program.

    Sound is at 16 kHz with 16 bits. dtype: float64 in the mertools profile, else float32.
    """

    rate = 16_000

    def __init__(self, name: str, sampling: str, profile: str) -> None:
        super().__init__(name, sampling, profile)
        if importlib.util.find_spec("opensmile") is None:
            raise EncoderError(
                f"{name} needs the opensmile package: pip install 'merstore[opensmile]'"
            )
        self.set = _SETS[self.kind]
        self.dtype = "float64" if profile == "mertools" else "float32"

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_smiles"}

    @property
    def dim(self) -> int:
        return self.set.whole if self.sampling == "UTT" else self.set.frame

    def _encoder(self) -> dict[str, Any]:
        return {
            "library": f"opensmile {importlib.metadata.version('opensmile')}",
            "set": self.set.name,
            "level": "functionals" if self.sampling == "UTT" else "low-level descriptors",
        }

    def _sound(self) -> dict[str, Any]:
        return {"rate": self.rate, "bits": 16}

    def prepare(self, reading: "Reading") -> Array:
        """float64 or float32 [D], or [T, D]."""
        if self.profile == "mertools":
            wave = mertools_sound(reading)
        else:
            heard = reading.sound()
            mono = heard._replace(samples=sound.mono_mean(heard.samples)[None])
            wave = mono.resampled(self.rate).samples[0]
        # To 16 bits, where full scale itself has no place.
        wave = np.clip(wave, -1, 32767 / 32768).astype(np.float32)
        with warnings.catch_warnings():  # of too little sound: that is found below
            warnings.simplefilter("ignore", UserWarning)
            levels = [smile(wave, self.rate)[0].T for smile in self._smiles]
        length = min(map(len, levels))  # deltas go on for two rows more
        rows = np.concatenate([level[:length] for level in levels], axis=1)
        if not np.isfinite(rows).all():
            raise self._too_short(reading, len(wave) / self.rate)
        values = rows[0] if self.sampling == "UTT" else rows
        return values.astype(self.dtype)

    @cached_property
    def _smiles(self) -> list[Any]:
        import opensmile

        level = opensmile.FeatureLevel
        levels = [level.Functionals]
        if self.sampling == "FRA":
            levels = [level.LowLevelDescriptors]
            levels += [level.LowLevelDescriptors_Deltas] if self.set.deltas else []
        with warnings.catch_warnings():  # that there are newer sets
            warnings.simplefilter("ignore", UserWarning)
            return [opensmile.Smile(opensmile.FeatureSet[self.set.name], each) for each in levels]


class _Spectrum(Handcrafted):
    """``mel_spec`` [128]: the power in 128 mel bands; ``mfcc`` [120]: 40 MFCCs, their deltas, and the
    deltas of these. As librosa 0.8.0 computes them for MERTools: sound at 22,050 Hz (`at_librosas_rate`),
    frames of 25 ms every 10 ms in an FFT of 2048 samples. ``UTT`` is the mean over time.

    Source: librosa's definitions of `feature.melspectrogram` (Slaney's mel scale and norm, reflected
    ends), `power_to_db` (80 dB), `feature.mfcc` and `feature.delta` (nine frames).
    """

    rate: ClassVar[int] = 22_050

    @property
    def dim(self) -> int:
        return _MELS if self.kind == "mel_spec" else 3 * _COEFFICIENTS

    def _encoder(self) -> dict[str, Any]:
        made: dict[str, Any] = {"as": "librosa 0.8.0", "version": 1}
        made |= {"n_fft": _FFT, "win_length": _WINDOW, "hop_length": _HOP, "n_mels": _MELS}
        made |= {
            "ends": "reflected",
            "pool": "mean over time" if self.sampling == "UTT" else "none",
        }
        if self.kind == "mfcc":
            made |= {
                "n_mfcc": _COEFFICIENTS,
                "top_db": _TOP_DB,
                "deltas": "first, and first of these",
            }
        return made

    def _sound(self) -> dict[str, Any]:
        return {"rate": self.rate, "resample": "resampy 0.2.2, kaiser_best"}

    def prepare(self, reading: "Reading") -> Array:
        """float32 [D], or [T, D]."""
        if self.profile == "mertools":
            wave, rate = mertools_sound(reading), 16_000
        else:
            heard = reading.sound()
            wave, rate = sound.mono_mean(heard.samples), heard.rate
        wave = at_librosas_rate(wave, rate)
        if not len(wave):
            raise self._too_short(reading, 0.0)
        rows = mel_spectrogram(wave)
        if self.kind == "mfcc":
            if len(rows) < _DELTA_FRAMES:
                raise self._too_short(reading, len(wave) / self.rate)
            rows = mfcc(rows)
        return np.asarray(rows.mean(axis=0)) if self.sampling == "UTT" else rows


_FFT, _WINDOW, _HOP = 2048, 551, 220  # samples: 25 ms and 10 ms at 22,050 Hz, rounded down
_MELS, _COEFFICIENTS = 128, 40
_TOP_DB = 80.0
_DELTA_FRAMES = 9
_BLOCK = 2048  # frames at a time: so much memory, however long the sound


def mel_spectrogram(wave: Array) -> Array:
    """float32 [1 + samples // 220, 128] of a waveform at 22,050 Hz."""
    padded = np.pad(wave.astype(np.float32), _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    filters = _mel_filters().T
    rows = np.empty((len(frames), _MELS), np.float32)
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK] * _hann_window()
        power = np.square(np.abs(np.fft.rfft(block)))
        rows[start : start + len(block)] = power @ filters
    return rows


def mfcc(mel: Array) -> Array:
    """float32 [T, 120] of a mel spectrogram [T, 128] of at least nine frames."""
    decibels = 10 * np.log10(np.maximum(mel.astype(np.float64), 1e-10))
    decibels = np.maximum(decibels, decibels.max() - _TOP_DB)
    first = decibels @ _cosines().T
    second = _delta(first)
    return np.concatenate([first, second, _delta(second)], axis=1).astype(np.float32)


def at_librosas_rate(wave: Array, rate: int) -> Array:
    """A waveform at 22,050 Hz as `librosa.load` of librosa 0.8.0 gives it: float32 [T].

    By resampy 0.2.2's ``kaiser_best``: band-limited interpolation from a table of a windowed sinc (64
    zero crossings, 512 entries each, linearly interpolated), after J. O. Smith, Digital Audio
    Resampling. It makes the whole part of T * 22050 / rate samples, and librosa adds a zero where
    that was rounded.
    """
    if rate == _Spectrum.rate:
        return wave.astype(np.float32)
    common = math.gcd(rate, _Spectrum.rate)
    up, down = _Spectrum.rate // common, rate // common
    ratio = _Spectrum.rate / rate
    resampled = np.zeros(math.ceil(len(wave) * ratio), np.float32)
    count = int(len(wave) * ratio)
    # Output t lies at input t * down / up: whole parts advance by `down` every `up` outputs, and the
    # fractions, and so the weights, repeat.
    weights, left = _resampling_weights(up, down)
    taps = weights.shape[1]
    padded = np.pad(wave.astype(np.float64), (left, taps))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    for phase in range(min(up, count)):
        places = windows[phase * down // up :: down][: -(-(count - phase) // up)]
        for start in range(0, len(places), _BLOCK):
            part = places[start : start + _BLOCK] @ weights[phase]
            first = phase + start * up
            resampled[first : first + len(part) * up : up] = part
    return resampled


@cache
def _resampling_weights(up: int, down: int) -> tuple[Array, int]:
    """float64 [phases, taps], and how many taps come before an output's whole part."""
    zeros, per_zero, rolloff, beta = 64, 512, 0.9475937167399596, 14.769656459379492
    size = zeros * per_zero + 1
    table = rolloff * np.sinc(rolloff * np.linspace(0, zeros, size))
    table *= np.kaiser(2 * size - 1, beta)[size - 1 :]
    scale = min(1.0, up / down)
    table *= scale
    slope = np.append(np.diff(table), 0.0)
    step = int(scale * per_zero)
    reach = size // step + 1
    weights = np.zeros((up, 2 * reach))
    for phase in range(up):
        fraction = scale * ((phase * down % up) / up)
        # To the left from the whole part on, to the right from the sample after it on.
        for part, toward in ((fraction, -1), (scale - fraction, 1)):
            offset, between = divmod(part * per_zero, 1)
            at = int(offset) + step * np.arange((size - int(offset)) // step)
            values = table[at] + between * slope[at]
            if toward < 0:
                weights[phase, reach - len(at) : reach] = values[::-1]
            else:
                weights[phase, reach : reach + len(at)] = values
    return weights, reach - 1


@cache
def _hann_window() -> Array:
    """float32 [2048]: 551 samples of Hann's window, as of a period, in the middle."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    before = (_FFT - _WINDOW) // 2
    return np.pad(window, (before, _FFT - _WINDOW - before)).astype(np.float32)


@cache
def _mel_filters() -> Array:
    """float32 [128, 1025]: triangles on Slaney's mel scale, each of the same area."""
    edges = _hertz(np.linspace(0, _mel(_Spectrum.rate / 2), _MELS + 2))
    bins = np.fft.rfftfreq(_FFT, 1 / _Spectrum.rate)
    ramps = edges[:, None] - bins[None]
    width = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / width[:-1], ramps[2:] / width[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: Array = triangles * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


# Slaney's scale: 15 mels to 1000 Hz, then 27 for each factor of 6.4.
_LINEAR, _KNEE, _LOG = 200 / 3, 1000.0, math.log(6.4) / 27


def _mel(hertz: float) -> float:
    return _KNEE / _LINEAR + math.log(hertz / _KNEE) / _LOG if hertz >= _KNEE else hertz / _LINEAR


def _hertz(mels: Array) -> Array:
    knee = _KNEE / _LINEAR
    high = _KNEE * np.exp(_LOG * (np.maximum(mels, knee) - knee))
    return np.asarray(np.where(mels >= knee, high, _LINEAR * mels))


@cache
def _cosines() -> Array:
    """float64 [40, 128]: the first rows of the orthonormal cosine transform."""
    waves = np.cos(np.pi * np.arange(_COEFFICIENTS)[:, None] * (np.arange(_MELS) + 0.5) / _MELS)
    waves *= math.sqrt(2 / _MELS)
    waves[0] /= math.sqrt(2)
    return waves


def _delta(rows: Array) -> Array:
    """The slope of a line fitted to nine frames about each; at the ends, of the nearest nine."""
    half, inner = _DELTA_FRAMES // 2, len(rows) - _DELTA_FRAMES + 1
    slopes = np.zeros((inner, rows.shape[1]))
    for offset in range(1, half + 1):
        after, before = half + offset, half - offset
        slopes += offset * (rows[after : after + inner] - rows[before : before + inner])
    slopes /= 2 * sum(offset**2 for offset in range(1, half + 1))
    ends: Array = np.pad(slopes, ((half, half), (0, 0)), mode="edge")
    return ends

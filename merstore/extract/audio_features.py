"""Audio features: a sample's sound, by a profile's rules, through a frozen model of sound.

Profiles and their samplings:

``affectgpt``
    ``8clips`` (any number): [8, D]. Eight clips of two seconds, normalised jointly.
``mertools``
    ``UTT`` [D] and ``FRA`` [T, D]. The whole sound in chunks of ten seconds, padding and all.
``clean``
    ``UTT`` [D] and ``FRA`` [T, D]. The whole sound, however long, and nothing else.

What each does, step by step, stands in its class and, as named options, in a view's spec.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract import sound
from merstore.extract.audio_encoders import (
    LAYERS,
    AudioEncoder,
    Layers,
    WaveEncoder,
    WhisperEncoder,
    audio_encoder,
)
from merstore.extract.sampling import constant_clips

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

Array = npt.NDArray[np.float32]

_VERSIONS = {"affectgpt": 1, "mertools": 1, "clean": 1}  # of what a profile does
_CLIPS = re.compile(r"([1-9]\d{0,3})clips")
_RATE = 16_000  # Hz, both code bases'


class AudioFeatures(ABC):
    """What makes a view of audio features (a Recipe); `create` makes one.

    Picklable, and safe to call from many threads. On a CPU an entry is the same to the bit whatever
    is encoded beside it, on a GPU within rounding.
    """

    modality = "audio"
    dtype = "float32"
    reads = "audio"
    profile: ClassVar[str]

    def __init__(self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers) -> None:
        self.encoder_name = name
        self.sampling = sampling
        self.encoder = encoder
        self.layers = layers

    @staticmethod
    def create(
        name: str,
        sampling: str,
        *,
        profile: str = "clean",
        weights: str | Path | None = None,
        device: str = "auto",
        layers: Layers | None = None,
        missing: Literal["record", "zeros"] | None = None,
        **running: Any,
    ) -> "AudioFeatures":
        """The recipe of a view ``audio@name/sampling``.

        weights: a model's folder, or its hub id (by default `name`): HuBERT, wav2vec 2.0, WavLM,
        data2vec-audio or Whisper, as its config.json says. layers: one of `LAYERS`, in place of the
        profile's. missing: of the affectgpt profile. running: ``compute``, ``autocast`` and
        ``compiled`` of `models.FrozenModel`.

        Raises InvalidKey for a sampling that the profile does not have, and EncoderError for a
        model, a profile or options that cannot be had or do not go together.
        """
        if profile not in _VERSIONS:
            raise EncoderError(f"no profile {profile!r} for audio; there is {', '.join(_VERSIONS)}")
        if layers is not None and layers not in LAYERS:
            raise EncoderError(f"layers={layers!r}: choose one of {', '.join(map(repr, LAYERS))}")
        if unknown := sorted(set(running) - {"compute", "autocast", "compiled"}):
            raise EncoderError(f"{name}: audio has no option {', '.join(unknown)}")
        part = "decoder" if profile == "mertools" else "encoder"
        encoder = audio_encoder(weights or name, device, part=part, **running)
        if profile == "affectgpt":
            return _Clips(name, sampling, encoder, layers, missing or "record")
        if missing is not None:
            raise EncoderError(f"missing={missing!r} belongs to the affectgpt profile")
        kinds: dict[tuple[str, bool], Callable[..., AudioFeatures]] = {
            ("mertools", False): _MERTools,
            ("mertools", True): _MERToolsWhisper,
            ("clean", False): _Clean,
            ("clean", True): _CleanWhisper,
        }
        return kinds[profile, isinstance(encoder, WhisperEncoder)](name, sampling, encoder, layers)

    @property
    @abstractmethod
    def shape(self) -> tuple[int | None, ...]:
        """Of an entry; None where it varies."""

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that decides about the values, as JSON."""
        return {
            "modality": self.modality,
            "encoder": {"name": self.encoder_name, **self.encoder.spec()},
            "profile": {"name": self.profile, "version": _VERSIONS[self.profile]},
            "sampling": self.sampling,
            "sound": {"version": sound.VERSION, **self._sound()},
            "options": {"layers": self.layers, **self._options()},
            "dtype": self.dtype,
            "shape": list(self.shape),
        }

    @abstractmethod
    def _sound(self) -> dict[str, Any]:
        """How the waveform is got."""

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """What becomes of it."""

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames."""
        return

    @abstractmethod
    def prepare(self, reading: "Reading") -> Any:
        """The waveform for `encode`, float32. Raises DecodeError."""

    def size(self, prepared: Any) -> int:
        """Samples of sound."""
        return int(prepared.size)

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> list[Array]:
        """The entries: float32, of `shape`. Raises EncoderError."""

    def _too_short(self, reading: "Reading", samples: int, least: int) -> DecodeError:
        name = reading.material.name
        rate = self.encoder.rate
        reason = f"{samples} samples at {rate} Hz are fewer than the {least} that the model needs"
        return DecodeError(name, "too_short", reason)


class _Clips(AudioFeatures):
    """AffectGPT's HUBERT_LARGE, WAVLM_LARGE and DATA2VEC_BASE.

    1. Every channel at 16 kHz by torchaudio's resampling with its defaults; of exactly two channels
       the mean, else all stay for now; less than two seconds are filled up with zeros.
    2. Clips of two seconds (`sampling.constant_clips`; the last ends before the sound does).
    3. The mean over all channels is subtracted from each clip: what the mel spectrogram, which the
       encoder never sees, does to its input in place.
    4. The first channel; zero mean and unit variance over all clips together, as the model's
       feature extractor does with what it takes for one recording.
    5. The mean of the last four hidden states, then over time.

    missing: ``"record"``, or ``"zeros"`` for the zeros that AffectGPT writes where there is no sound
    or none that decodes (it has 1024 columns of them whatever the model; here there are D).
    """

    profile = "affectgpt"

    def __init__(
        self,
        name: str,
        sampling: str,
        encoder: AudioEncoder,
        layers: Layers | None = None,
        missing: Literal["record", "zeros"] = "record",
    ) -> None:
        super().__init__(name, sampling, encoder, layers or "mean of the last four")
        match = _CLIPS.fullmatch(sampling)
        if not match:
            raise _no_sampling(self.profile, sampling, "8clips, or another number of them")
        if not isinstance(encoder, WaveEncoder) or encoder.rate != _RATE:
            raise EncoderError(
                f"{name}: the affectgpt profile is for HuBERT, wav2vec 2.0, WavLM and data2vec at "
                f"16 kHz; take clean for a {encoder.kind} model"
            )
        if missing not in ("record", "zeros"):
            raise EncoderError(f"missing={missing!r}: it is 'record' or 'zeros'")
        self.wave_encoder = encoder
        self.n = int(match[1])
        self.missing = missing

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.encoder.dim

    def _sound(self) -> dict[str, Any]:
        return {
            "source": "native",
            "resample": "torchaudio, defaults",
            "channels": "mean of two, else the first",
        }

    def _options(self) -> dict[str, Any]:
        normalise = "jointly over the clips" if self.wave_encoder.normalises else "not"
        return {
            "clips": {"n": self.n, "seconds": 2, "rule": "constant", "short": "zeros at the end"},
            "centre": "each clip, over all channels",
            "normalise": normalise,
            "pool": "mean over time",
            "missing": self.missing,
        }

    def prepare(self, reading: "Reading") -> Array:
        """float32 [n, channels, 32000]; of no clips where there is no sound and zeros are wanted."""
        try:
            heard = reading.sound().resampled(_RATE)
        except DecodeError:
            if self.missing == "record":
                raise
            return np.zeros((0, 1, 2 * _RATE), np.float32)
        wave = heard.samples
        if len(wave) == 2:
            wave = sound.mono_affectgpt(wave)[None]
        if (lacking := 2 * _RATE - wave.shape[1]) > 0:
            wave = np.pad(wave, ((0, 0), (0, lacking)))
        spans = constant_clips(wave.shape[1] / _RATE, self.n, 2)
        return np.stack([wave[:, int(s * _RATE) : int(e * _RATE)] for s, e in spans])

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        import torch

        units = []
        for clips in batch:
            if not len(clips):
                continue
            # By torch, whose mean differs from NumPy's in the last bits.
            centred = torch.from_numpy(clips.copy())
            for clip in centred:
                clip -= clip.mean()
            units.append(self.wave_encoder.normalised(centred[:, 0].numpy()))
        found = iter(
            self.encoder.states(units, self.layers, lambda _, rows: np.stack(rows), over_time=True)
        )
        return [next(found) if len(clips) else np.zeros(self.shape, np.float32) for clips in batch]


class _Whole(AudioFeatures):
    """What has the samplings UTT and FRA."""

    def __init__(self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers) -> None:
        super().__init__(name, sampling, encoder, layers)
        if sampling not in ("UTT", "FRA"):
            raise _no_sampling(self.profile, sampling, "UTT, FRA")

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (self.encoder.dim,) if self.sampling == "UTT" else (None, self.encoder.dim)


class _MERTools(_Whole):
    """MERTools' transformers audio features, but for Whisper.

    1. A mono WAV file at 16 kHz as it is; anything else as its preprocessing makes one of a clip, with
       ``ffmpeg -ar 16000 -ac 1``. (Its extractor refuses other rates; a view's quality has them.)
    2. Zero mean and unit variance over the whole sound, where the model wants that.
    3. Sound of more than ten seconds is filled up with zeros to whole chunks of ten, which go through
       the model by themselves; the rows of what was filled up are kept.
    4. The sum of the last four hidden states.
    5. UTT: NumPy's mean over all rows. FRA: all rows, one row too (MERTools saves that as [D]).

    More than eight chunks of a sample go through the model by eights, not all at once: that touches
    the last bits only.
    """

    profile = "mertools"
    chunk = 10 * _RATE

    def __init__(
        self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers | None = None
    ) -> None:
        super().__init__(name, sampling, encoder, layers or "sum of the last four")
        if not isinstance(encoder, WaveEncoder) or encoder.rate != _RATE:
            raise EncoderError(f"{name}: the mertools profile is for models at 16 kHz")
        self.wave_encoder = encoder

    def _sound(self) -> dict[str, Any]:
        return MERTOOLS_SOUND

    def _options(self) -> dict[str, Any]:
        return {
            "normalise": "over the whole sound" if self.wave_encoder.normalises else "not",
            "chunks": {"seconds": 10, "overlap": 0, "padding": "zeros, kept"},
            "pool": "mean over time" if self.sampling == "UTT" else "none",
        }

    def prepare(self, reading: "Reading") -> Array:
        """float32 [T], normalised."""
        wave = mertools_sound(reading)
        if len(wave) < self.wave_encoder.field:
            raise self._too_short(reading, len(wave), self.wave_encoder.field)
        return self.wave_encoder.normalised(wave)

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        return self.encoder.states([self._chunks(wave) for wave in batch], self.layers, self._entry)

    def _chunks(self, wave: Array) -> Array:
        """[chunks, samples]"""
        if len(wave) <= self.chunk:
            return wave[None]
        count = math.ceil(len(wave) / self.chunk)
        chunks = np.zeros(count * self.chunk, np.float32)
        chunks[: len(wave)] = wave
        return chunks.reshape(count, self.chunk)

    def _entry(self, _: int, chunks: list[Array]) -> Array:
        rows = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        if self.sampling == "FRA":
            return rows
        return np.asarray(rows.mean(axis=0))


class _MERToolsWhisper(_Whole):
    """MERTools' Whisper features: the decoder's last hidden state, [2, D], after two start tokens.

    Of the first 30 seconds, got as `_MERTools` gets its sound. UTT is the mean of the two.
    """

    profile = "mertools"

    def __init__(
        self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers | None = None
    ) -> None:
        super().__init__(name, sampling, encoder, "last")
        if layers not in (None, "last"):
            raise EncoderError(
                f"{name}: of Whisper's decoder the mertools profile takes the last layer"
            )
        assert isinstance(encoder, WhisperEncoder)
        self.whisper = encoder

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (self.encoder.dim,) if self.sampling == "UTT" else (2, self.encoder.dim)

    def _sound(self) -> dict[str, Any]:
        return MERTOOLS_SOUND

    def _options(self) -> dict[str, Any]:
        return {
            "decoder": "two start tokens",
            "longest": {"seconds": 30, "rest": "left out"},
            "pool": "mean of the two" if self.sampling == "UTT" else "none",
        }

    def prepare(self, reading: "Reading") -> Array:
        """float32 [T], the first 30 seconds."""
        return mertools_sound(reading)[: self.whisper.window].copy()

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        units = [self.whisper.features(wave) for wave in batch]
        return self.encoder.states(units, self.layers, self._entry)

    def _entry(self, _: int, rows: list[Array]) -> Array:
        return rows[0] if self.sampling == "FRA" else np.asarray(rows[0].mean(axis=0))


class _Clean(_Whole):
    """The profile for new work: the whole sound and nothing but it.

    1. The mean of all channels, at the model's rate by torchaudio's resampling.
    2. Zero mean and unit variance over the whole sound, where the model wants that.
    3. Sound of up to 30 seconds goes through the model whole. Longer sound goes by stretches of 20
       seconds, each with up to 5 seconds before and after it, whose rows are then left out: the rows
       are those of the whole, no more and no fewer, and memory is bounded.
    4. The mean of the last four hidden states.
    5. UTT: the mean over all rows, in float64. FRA: all rows.

    (Models whose first layer is normalised over time, ``feat_extract_norm`` "group", see a stretch
    for the whole there.)
    """

    profile = "clean"
    whole, stretch, context = 30, 20, 5  # seconds

    def __init__(
        self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers | None = None
    ) -> None:
        super().__init__(name, sampling, encoder, layers or "mean of the last four")
        assert isinstance(encoder, WaveEncoder)
        self.wave_encoder = encoder

    def _sound(self) -> dict[str, Any]:
        return CLEAN_SOUND

    def _options(self) -> dict[str, Any]:
        return {
            "normalise": "over the whole sound" if self.wave_encoder.normalises else "not",
            "windows": {
                "whole_seconds": self.whole,
                "stretch_seconds": self.stretch,
                "context_seconds": self.context,
                "padding": "none",
            },
            "pool": "mean over time" if self.sampling == "UTT" else "none",
        }

    def prepare(self, reading: "Reading") -> Array:
        """float32 [T], normalised."""
        wave = _clean_sound(reading, self.encoder.rate)
        if len(wave) < self.wave_encoder.field:
            raise self._too_short(reading, len(wave), self.wave_encoder.field)
        return self.wave_encoder.normalised(wave)

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        windows, units = [], []
        for place, wave in enumerate(batch):
            for samples, rows in self._windows(len(wave)):
                units.append(wave[None, samples])
                windows.append((place, rows))
        return _joined(self, len(batch), windows, units)

    def _windows(self, n_samples: int) -> list[tuple[slice, slice]]:
        """Stretches of samples, and which of their rows are taken."""
        model = self.wave_encoder
        steps = model.steps(n_samples)
        second = model.rate // model.stride
        if steps <= self.whole * second:
            return [(slice(0, n_samples), slice(0, steps))]
        windows = []
        for start in range(0, steps, self.stretch * second):
            end = min(start + self.stretch * second, steps)
            first = max(start - self.context * second, 0)
            last = min(end + self.context * second, steps)
            samples = slice(first * model.stride, (last - 1) * model.stride + model.field)
            windows.append((samples, slice(start - first, end - first)))
        return windows


class _CleanWhisper(_Whole):
    """The clean profile with Whisper: its encoder's states of the sound, not of the silence after it.

    The sound of `_Clean`, in windows of 30 seconds, the last filled up with silence, whose rows are
    left out: one row for each 20 ms begun. The last hidden state: the ones before it are not
    normalised and are ruled by a few large values.
    """

    profile = "clean"

    def __init__(
        self, name: str, sampling: str, encoder: AudioEncoder, layers: Layers | None = None
    ) -> None:
        super().__init__(name, sampling, encoder, layers or "last")
        assert isinstance(encoder, WhisperEncoder)
        self.whisper = encoder

    def _sound(self) -> dict[str, Any]:
        return CLEAN_SOUND

    def _options(self) -> dict[str, Any]:
        return {
            "windows": {"seconds": 30, "overlap": 0, "padding": "silence, left out"},
            "pool": "mean over time" if self.sampling == "UTT" else "none",
        }

    def prepare(self, reading: "Reading") -> Array:
        """float32 [T]"""
        return _clean_sound(reading, self.encoder.rate)

    def encode(self, batch: Sequence[Array]) -> list[Array]:
        windows, units = [], []
        for place, wave in enumerate(batch):
            for start in range(0, len(wave), self.whisper.window):
                part = wave[start : start + self.whisper.window]
                units.append(self.whisper.features(part))
                windows.append((place, slice(0, math.ceil(len(part) / self.whisper.stride))))
        return _joined(self, len(batch), windows, units)


MERTOOLS_SOUND = {
    "mono WAV at 16 kHz": "as it is",
    "anything else": "ffmpeg -ar 16000 -ac 1, 16 bits",
}
CLEAN_SOUND = {
    "source": "native",
    "channels": "mean",
    "resample": "torchaudio, defaults",
}


def mertools_sound(reading: "Reading") -> Array:
    """float32 [T] at 16 kHz."""
    ready = _is_mono_16k(reading.material.file("audio"))
    samples = reading.sound("native" if ready else "ffmpeg_s16_16k_mono").samples
    return np.ascontiguousarray(samples[0])


def _is_mono_16k(path: Path) -> bool:
    """Whether it is a WAV file as MERTools makes them."""
    import soundfile

    try:
        with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
            known: tuple[str, int, int] = file.format, file.samplerate, file.channels
    except (OSError, soundfile.LibsndfileError):
        return False  # whoever reads it says what is wrong
    return known in {("WAV", _RATE, 1), ("WAVEX", _RATE, 1)}


def _clean_sound(reading: "Reading", rate: int) -> Array:
    """float32 [T]"""
    heard = reading.sound()
    mono = heard._replace(samples=sound.mono_mean(heard.samples)[None])
    return np.ascontiguousarray(mono.resampled(rate).samples[0])


def _joined(
    recipe: _Whole, count: int, windows: list[tuple[int, slice]], units: list[Array]
) -> list[Array]:
    """The entries of `count` samples, whose windows (the sample's place, rows taken) are `units`."""
    pool = recipe.sampling == "UTT"

    def finish(window: int, states: list[Array]) -> tuple[npt.NDArray[Any], int]:
        rows = states[0][windows[window][1]]
        return (rows.sum(axis=0, dtype=np.float64) if pool else rows), len(rows)

    parts: list[list[tuple[npt.NDArray[Any], int]]] = [[] for _ in range(count)]
    found = recipe.encoder.states(units, recipe.layers, finish)
    for (place, _), part in zip(windows, found, strict=True):
        parts[place].append(part)
    if pool:
        sums = [np.sum([values for values, _ in mine], axis=0) for mine in parts]
        rows = [sum(count for _, count in mine) for mine in parts]
        return [(total / n).astype(np.float32) for total, n in zip(sums, rows, strict=True)]
    return [np.concatenate([values for values, _ in mine]) for mine in parts]


def _no_sampling(profile: str, sampling: str, known: str) -> InvalidKey:
    return InvalidKey(f"the {profile} profile has no audio sampling {sampling!r}; it has {known}")

"""Reads the sound of a sound file or of a clip: all of it, or a DecodeError that says why not.

Sound files are read by libsndfile (soundfile); everything else, and what it does not know, by FFmpeg
(PyAV). What a header says of the length is never believed: a WAV file says 0 or 4 GB where it was
written as a stream, or its full length where it was cut. What decodes is the sound, and
``quality`` has the difference. Refused is what a decoder stumbles over, and a container that lacks
some of the bytes that it announces.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError
from merstore.extract.containers import movie_seconds
from merstore.extract.files import check_file, content_digest, open_media
from merstore.quality import Quality

if TYPE_CHECKING:
    from av.audio import AudioFrame, AudioStream
    from av.audio.resampler import AudioResampler
    from av.container import InputContainer

Samples = npt.NDArray[np.float32]

# The version of what the sound of a file is: to be raised with any change that alters samples.
VERSION = 1

SOURCES = ("native", "ffmpeg_s16_16k_mono")

SILENT_PEAK = 1e-4
"""Sound that stays below this (-80 dB of full scale, three steps of 16 bits) is silent."""

FULL_SCALE = 32767 / 32768
"""The largest positive sample of 16 bits; a sample at or beyond it, either way, is at full scale."""

CLIPPED_SHARE = 1e-3
"""Sound with more than this share of its samples at full scale is clipped."""

LOW_RATE = 16_000  # Hz

# A header may differ from the sound by this much, in seconds or as a share of it, whichever is
# more: codecs pad the first and the last of their frames, of which none is longer.
_SECONDS, _SHARE = 0.1, 0.01

_ABSURD = 10  # times as long, or as short

# What FFmpeg says of the length of these it reckons from the last packets.
_WITHOUT_HEADER = {"mpegts", "mpeg"}

# What FFmpeg takes a number of channels to be.
_GUESSED = {
    f"{number} channels": layout
    for number, layout in enumerate(
        ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), start=1
    )
}


class Sound(NamedTuple):
    """What was read. ``samples``: float32 [channels, T], in [-1, 1]; ``rate``: per second, in Hz.

    ``quality``: flags and facts of the sound as it is in the file, whatever ``samples`` were made
    of it: seconds, header_seconds (what headers announce, the
    farthest off where they say several things; None where they say nothing), rate (Hz), channels, codec,
    reader (and its version), content, peak, rms and clipped_share (of all samples, full scale = 1).
    """

    samples: Samples
    rate: int
    quality: Quality

    @property
    def seconds(self) -> float:
        return int(self.samples.shape[1]) / self.rate

    def resampled(self, rate: int) -> "Sound":
        """At another rate, by ``torchaudio.functional.resample`` with its defaults, as AffectGPT
        does; the sound itself where it has that rate.
        """
        if rate == self.rate:
            return self
        import torch
        from torchaudio.functional import resample

        samples = resample(torch.from_numpy(self.samples), self.rate, rate).numpy()
        return self._replace(samples=samples, rate=rate)


def mono_affectgpt(samples: Samples) -> Samples:
    """One channel, float32 [T], by AffectGPT's rule: the mean of exactly two, else the first.

    Source: its audio transform averages stereo only; its encoder then takes channel 0.
    """
    return mono_mean(samples) if len(samples) == 2 else samples[0]


def mono_mean(samples: Samples) -> Samples:
    """One channel, float32 [T]: the mean of all."""
    return np.asarray(samples.mean(axis=0), np.float32)


def read_sound(path: str | os.PathLike[str], source: str = "native") -> Sound:
    """The sound of the file at `path`, a sound file or a clip.

    source: ``"native"``: as it is, every channel at its own rate. A 16-bit sample is exactly its
    integer / 32768; what a float format holds beyond [-1, 1] is clipped, after ``quality`` was
    taken. ``"ffmpeg_s16_16k_mono"``: the WAV file that MERTools makes of a clip with ``ffmpeg -ar
    16000 -ac 1``: float32 [1, T] at 16 kHz, each sample an integer / 32768, by libswresample.

    Of several sound tracks that one is read which the ffmpeg command chooses: a default one before
    the others, then the one with most channels, then the first.

    Safe to call from many threads at once.

    Raises DecodeError with the kind ``missing_file`` (no such file), ``no_audio`` (a readable file
    without a sound track) or ``decode_error`` (empty, cut short, damaged, not a media file, not one
    sample, samples that are not numbers); ValueError for an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"source={source!r}: choose one of {', '.join(SOURCES)}")
    path = Path(path)
    check_file(path)
    try:
        decoded = _read_sound_file(path) if source == "native" else None
        if decoded is None:
            decoded = _read_media(path, source)
    except OSError as error:
        raise DecodeError(path, "decode_error", f"cannot be read: {error.strerror}") from error
    quality = _quality(path, decoded)
    samples = decoded.samples if decoded.converted is None else decoded.converted
    rate = decoded.rate if decoded.converted is None else 16_000
    return Sound(np.clip(samples, -1, 1), rate, quality)


class _Decoded(NamedTuple):
    """``samples``: as they are in the file; ``converted``: [1, T] at 16 kHz, where it was asked for."""

    samples: Samples
    rate: int
    announced: list[float]
    codec: str
    reader: str
    converted: Samples | None = None


def _quality(path: Path, decoded: _Decoded) -> Quality:
    samples, rate = decoded.samples, decoded.rate
    channels, length = samples.shape
    size = np.abs(samples)
    peak = float(size.max())
    if not np.isfinite(peak):
        raise DecodeError(
            path, "decode_error", "has samples that are not numbers (NaN or infinity)"
        )
    clipped_share = float(np.mean(size >= FULL_SCALE))
    seconds = length / rate
    header = max(decoded.announced, key=lambda said: abs(said - seconds), default=None)
    flags = {
        "silent": peak < SILENT_PEAK,
        "clipped": clipped_share > CLIPPED_SHARE,
        "low_rate": rate < LOW_RATE,
        "several_channels": channels > 1,
    }
    if header is not None:
        allowed = max(_SECONDS, _SHARE * seconds)
        flags["wrong_duration"] = abs(header - seconds) > allowed
        flags["absurd_duration"] = flags["wrong_duration"] and not (
            seconds / _ABSURD <= header <= seconds * _ABSURD
        )
    facts = {
        "seconds": seconds,
        "header_seconds": header,
        "rate": rate,
        "channels": channels,
        "codec": decoded.codec,
        "reader": decoded.reader,
        "content": content_digest(path),
        "peak": peak,
        "rms": float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))),
        "clipped_share": clipped_share,
    }
    return Quality(tuple(sorted(flag for flag, up in flags.items() if up)), facts)


def _read_sound_file(path: Path) -> _Decoded | None:
    """By libsndfile; None where it does not know the format, finds no sound, or stumbles."""
    import soundfile

    try:
        # Without its name, by whose ending soundfile would take a file for headerless samples.
        with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
            samples = file.read(dtype="float32", always_2d=True).T
            rate, kind, codec = file.samplerate, file.format, file.subtype.lower()
            announced = [file.frames / rate]
    except soundfile.LibsndfileError:
        return None
    if not samples.size:
        return None
    if kind in {"WAV", "WAVEX", "RF64"}:
        announced = _wav_seconds(path)
    elif kind == "MP3":
        with open_media(path) as container:
            announced = _announced(path, container, _sound_track(path, container))
    reader = f"libsndfile {soundfile.__libsndfile_version__}"
    return _Decoded(np.ascontiguousarray(samples), rate, announced, codec, reader)


def _wav_seconds(path: Path) -> list[float]:
    """How long a WAV file says it is, by its chunks; nothing where it was streamed."""
    bytes_per_second = 0
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = head[:4], int.from_bytes(head[4:], "little")
            if kind == b"data":
                streamed = size in (0, 0xFFFFFFFF) or not bytes_per_second
                return [] if streamed else [size / bytes_per_second]
            start = file.tell()
            if kind == b"fmt ":
                bytes_per_second = int.from_bytes(file.read(12)[8:], "little")
            file.seek(start + size + size % 2)
    return []


def _read_media(path: Path, source: str) -> _Decoded:
    """By FFmpeg."""
    import av
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    mono = AudioResampler("s16", "mono", 16_000) if source == "ffmpeg_s16_16k_mono" else None
    pieces: list[Samples] = []
    converted: list[npt.NDArray[np.int16]] = []
    form: tuple[object, ...] | None = None
    try:
        with open_media(path) as container:
            stream = _sound_track(path, container)
            announced, codec = _announced(path, container, stream), stream.codec_context.name
            for frame in _frames(path, container, stream):
                if form is None:
                    form = _form(frame)
                elif form != _form(frame):
                    reason = f"changes from {form} to {_form(frame)} in the middle"
                    raise DecodeError(path, "decode_error", reason)
                pieces.append(_floats(frame))
                converted += _convert(mono, frame)
            converted += _convert(mono, None) if form else []
    except FFmpegError as error:
        seconds = sum(piece.shape[1] for piece in pieces) / (frame.sample_rate if pieces else 1)
        reason = f"the sound decoder stops after {seconds:.2f} seconds: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if not pieces or not (samples := np.concatenate(pieces, axis=1)).size:
        raise DecodeError(path, "decode_error", "has a sound track without a single sample")
    reader = f"ffmpeg {av.ffmpeg_version_info}"
    result = _Decoded(samples, frame.sample_rate, announced, codec, reader)
    if mono is None:
        return result
    whole = np.concatenate(converted, axis=1).astype(np.float32)
    return result._replace(converted=whole / np.float32(32768))


def _sound_track(path: Path, container: "InputContainer") -> "AudioStream":
    from av.stream import Disposition

    if not container.streams.audio:
        held = sorted({stream.type for stream in container.streams})
        what = f"it holds {' and '.join(held)} only" if held else "it holds nothing to be played"
        raise DecodeError(path, "no_audio", f"has no sound track: {what}")

    def rank(stream: "AudioStream") -> tuple[bool, int]:
        return bool(stream.disposition & Disposition.default), stream.codec_context.channels

    readable = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not readable:
        raise DecodeError(path, "decode_error", "there is no decoder for its sound")
    return max(readable, key=rank)  # the first of equals


def _announced(path: Path, container: "InputContainer", stream: "AudioStream") -> list[float]:
    """What headers say of the length of a sound track, in seconds."""
    if container.format.name == "wav":  # which FFmpeg corrects by the file's size
        return _wav_seconds(path)
    if container.format.name in _WITHOUT_HEADER:
        return []
    if announced := movie_seconds(path, stream.id):
        return [float(seconds) for seconds in announced]
    if stream.duration and stream.time_base:
        return [float(stream.duration * stream.time_base)]
    return [container.duration / 1e6] if container.duration else []


def _frames(
    path: Path, container: "InputContainer", stream: "AudioStream"
) -> "Iterator[AudioFrame]":
    context = stream.codec_context
    context.thread_count = 1
    if context.layout.name in _GUESSED:  # plain formats say how many channels, and not which
        context.layout = _GUESSED[context.layout.name]
    for number, packet in enumerate(container.demux(stream)):
        if packet.is_corrupt and not context.name.startswith("pcm_"):  # of these one is short
            raise DecodeError(path, "decode_error", f"its sound is damaged at packet {number}")
        for frame in packet.decode():
            if frame.is_corrupt:
                reason = f"its sound is damaged at packet {number}"
                raise DecodeError(path, "decode_error", reason)
            yield frame


def _form(frame: "AudioFrame") -> tuple[Any, ...]:
    return frame.sample_rate, frame.format.name, frame.layout.name


def _floats(frame: "AudioFrame") -> Samples:
    """float32 [channels, T] of a decoded frame of any sample format."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / np.float32(128)
    if values.dtype.kind == "i":
        scale = 2.0 ** (8 * values.dtype.itemsize - 1)
        return (values.astype(np.float64) / scale).astype(np.float32)
    return values.astype(np.float32)


def _convert(
    resampler: "AudioResampler | None", frame: "AudioFrame | None"
) -> list[npt.NDArray[np.int16]]:
    if resampler is None:
        return []
    return [np.asarray(out.to_ndarray(), np.int16) for out in resampler.resample(frame)]

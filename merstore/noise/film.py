"""Writes a clip again, blurred and with other sound.

One pass, to MP4: pictures as MPEG-4 Part 2 (what MERTools' DIVX is, and every FFmpeg can) at a
constant quantizer of 2, without B-frames; sound as AAC, mono at 16 kHz, 64 kbit/s. One thread, so
that the same FFmpeg gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore.errors import DecodeError
from merstore.extract.video import play_clip
from merstore.noise.blur import blurred
from merstore.noise.mixing import RATE, Samples
from merstore.quality import Quality

if TYPE_CHECKING:
    from av.audio import AudioStream
    from av.container import OutputContainer

_QUANTIZER = 2 * 118  # in FFmpeg's units
_FASTEST = 65535  # the finest division of a second that MPEG-4 Part 2 has
_AAC_FRAME = 1024


def write_film(path: Path, clip: Path, sound: Samples, rate: int) -> dict[str, Any]:
    """Writes the frames of `clip`, blurred by `rate` (`blur.blurred` says how large that makes
    them), and int16 `sound` at 16 kHz; their number, height and width.

    Frames are upright. A clip of constant rate keeps it; frames of another keep their times, to the
    millisecond. Pictures and sound both begin at zero, as when they are taken apart by the
    ffmpeg command.

    Raises DecodeError where the clip cannot be read or its pictures change size, OSError where the
    file cannot be written.
    """
    import av

    played = play_clip(clip)
    base, ticks = _clock(played.quality, played.times)
    count = 0
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"}) as out:
        options = {"flags": "+qscale", "global_quality": str(_QUANTIZER)}
        video = out.add_stream("mpeg4", rate=1 / base, options=options)
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        audio.codec_context.bit_rate = 64_000
        speech = _sound(out, audio, sound)
        for count, picture in enumerate(played.pictures, start=1):
            image = blurred(picture, rate)
            if count == 1:
                size = image.shape
                video.height, video.width = image.shape[:2]
                video.pix_fmt = "yuv420p"
                video.codec_context.time_base = base
                video.codec_context.thread_count = 1
            elif image.shape != size:
                reason = f"its pictures change size at frame {count - 1}"
                raise DecodeError(clip, "decode_error", reason)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = base, ticks[count - 1]
            for packet in video.encode(frame):  # its own: nothing is reordered or held back
                packet.duration = ticks[count] - ticks[count - 1]
                out.mux(packet)
            _until(speech, ticks[count] * base)
        out.mux(video.encode(None))
        _until(speech, None)
    return {"frames": count, "height": size[0], "width": size[1]}


def _clock(quality: Quality, times: list[Fraction] | None) -> tuple[Fraction, Sequence[int]]:
    """The unit of time that a clip is to have, and in it when each frame is shown, and the end."""
    if times is None or "variable_rate" not in quality.flags:
        fps = Fraction(quality.facts["fps"] or 25)
        fps = fps.limit_denominator(max(1, min(1001, int(_FASTEST / fps))))
        return 1 / fps, range(quality.facts["frames"] + 1)
    ticks: list[int] = []
    for time in [*times, Fraction(quality.facts["seconds"])]:
        tick = round(time * 1000)
        ticks.append(tick if not ticks else max(tick, ticks[-1] + 1))
    return Fraction(1, 1000), ticks


def _sound(out: "OutputContainer", audio: "AudioStream", sound: Samples) -> Iterator[Fraction]:
    """Writes the sound bit by bit; after each, how far it is, in seconds."""
    import av

    for start in range(0, len(sound), _AAC_FRAME):
        part = sound[start : start + _AAC_FRAME]
        floats = (part / np.float32(32768)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(floats, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
        out.mux(audio.encode(frame))
        yield Fraction(start + len(part), RATE)
    out.mux(audio.encode(None))


def _until(speech: Iterator[Fraction], seconds: Fraction | None) -> None:
    """Sound up to there, or all that is left: a player finds it beside its pictures."""
    for time in speech:
        if seconds is not None and time >= seconds:
            return

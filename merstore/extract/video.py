"""Reads the frames of a clip: decodes and checks all of it once, keeps those that rules choose.

PyAV decodes, and not decord, with which AffectGPT's features were made. The pixels are the same:
PyAV and the scaler below equal decord bit for bit wherever decord returns the right frame, which
the tests hold on to. But decord jumps to the frames asked for, and so returns other frames or
broken ones, without an error, for healthy clips: H.264 with intra refresh, in AVI and in MPEG-TS,
MPEG-4 and MPEG-2 with B-frames, HEVC with open GOPs. It repeats a frame for each that an edit list
leaves out, reads no AV1, and hides damage. Neither headers nor packets tell those clips from the
others; decoding all of a clip does, and by then its frames are there. On clips of a few seconds
that takes about as long as decord's jumps.
"""

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError
from merstore.extract.containers import movie_seconds
from merstore.extract.files import check_file, content_digest, open_media
from merstore.quality import Quality

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video import VideoFrame, VideoStream

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int] | int | None

# The version of what the frames of a clip are: to be raised with any change that alters pixels.
VERSION = 1

# What turns a frame upright in FFmpeg, by the degrees (counterclockwise) that its clip asks for.
_UPRIGHT: dict[int, list[tuple[str, str]]] = {
    90: [("transpose", "cclock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "clock")],
}

# Formats of FFmpeg's, and brands of MP4, that are one picture.
_STILL = {"image2", "ico", "avif", "heic", "heix", "mif1"}

# How Matroska's statistics tag a stream's duration: 00:00:02.400000000.
_STATISTICS = re.compile(r"([0-9]{2,6}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")

# What FFmpeg says of these it reckons from the last packets, no header announces it.
_WITHOUT_HEADER = {"mpegts", "mpeg"}

# The HEVC decoder does not mark the frames whose damage it conceals; it can be told to stop.
_DECODER_OPTIONS = {"hevc": {"err_detect": "explode"}}


class FrameRequest(NamedTuple):
    """Frames to be read of a clip: those whose numbers are `rule(number of frames)`.

    ``size``: (height, width) to which they are squashed whatever their aspect ratio, as AffectGPT
    does; a number is that of pixels which their shorter side has at most, in their aspect ratio;
    None leaves them as large as they are. Picklable where its rule is.
    """

    rule: Callable[[int], Sequence[int]]
    size: Size = (224, 224)


class Frames(NamedTuple):
    """What was read for a request.

    ``pixels``: uint8 [T, H, W, 3], RGB, upright, in the order of the rule. ``indices``: their T
    frame numbers, from 0. ``n_frames``: how many frames the clip decodes to.
    """

    pixels: Pixels
    indices: list[int]
    n_frames: int


class Clip(NamedTuple):
    """What was read of a clip: for each request its frames, or why it alone has none.

    The facts of ``quality``: ``frames`` that decode and how many of them the header announces
    (``header_frames``); ``seconds`` from the first one's time to the last one's end, and what the
    header announces (``header_seconds``: the announcement that is farthest off, where it makes
    several); ``fps``, the average of what decodes; ``width`` and ``height``, upright; ``rotation``,
    the degrees counterclockwise by which the pictures were turned; ``codec``; ``streams`` of
    moving pictures, and the ``stream`` that was read; ``decoder``; ``content``, the XXH3-128 of the
    file. What is not known is None.
    """

    frames: list[Frames | DecodeError]
    quality: Quality


class Played(NamedTuple):
    """All of a clip. ``quality``: as in Clip. ``times``: of each frame, in seconds from the first one,
    or None where frames have no times. ``pictures``: uint8 [H, W, 3] RGB, upright, at full size, each
    good until the next is asked for.
    """

    quality: Quality
    times: list[Fraction] | None
    pictures: Iterator[Pixels]


def read_clip(path: str | Path, requests: Iterable[FrameRequest]) -> Clip:
    """The frames of all `requests` of the clip at `path`, and its quality, by one decode of it.

    A clip stored on its side is turned upright. Of several video streams, FFmpeg's choice is read
    (in short: the default one, of these the one with most bits), which is also decord's.

    The number of frames that a rule gets is that of what really decodes, not what a header says. It
    is first taken to be that of the packets; where that proves wrong (the clip was cut between key
    frames), and rules choose otherwise for it, the clip is decoded once more. A clip that is not
    whole is refused: it would be another, shorter clip, or one with smeared frames.

    A request fails alone, with a DecodeError in the place of its frames: where its rule raises, or
    chooses no frame or one that the clip does not have; where the pictures of the clip change size
    and none was asked for; where the frames are more than memory can hold. The kind is
    ``decode_error``, the message says what the rule chose; a DecodeError that the rule raises
    itself is kept as it is.

    Held are each request's frames at their size, which are what is returned, and one frame at a
    time at full size. Safe to call from many threads at once, and the same bytes in whichever:
    each clip is decoded by the thread that asks for it.

    Raises DecodeError with the kind ``missing_file`` (no such file), ``no_video`` (a readable file
    without moving pictures: sound only, a still picture) or ``decode_error`` (empty, cut short,
    damaged, not a media file, not one frame).
    """
    path = Path(path)
    requests = list(requests)
    check_file(path)
    header = _survey(path)
    takers = [_Taker(path, request, header.packets) for request in requests]
    film = _decode(path, takers, header.packets)
    if film.n_frames != header.packets:
        others = [_Taker(path, request, film.n_frames) for request in requests]
        pairs = zip(takers, others, strict=True)
        if not all(old.indices == new.indices != [] for old, new in pairs):
            film = _decode(path, others, film.n_frames)
            takers = others
    frames = [taker.frames(film.n_frames) for taker in takers]
    return Clip(frames, _quality(content_digest(path), header, film))


def read_frames(
    path: str | Path,
    rule: Callable[[int], Sequence[int]],
    size: Size = (224, 224),
) -> Frames:
    """The frames of one request: see FrameRequest and `read_clip`. Raises DecodeError."""
    (frames,) = read_clip(path, [FrameRequest(rule, size)]).frames
    if isinstance(frames, DecodeError):
        raise frames
    return frames


def play_clip(path: str | Path) -> Played:
    """All frames of a clip, one after another: for clips that memory need not hold.

    The clip is decoded once to check it, and once more while ``pictures`` are taken. Raises what
    `read_clip` raises.
    """
    path = Path(path)
    check_file(path)
    header = _survey(path)
    film = _decode(path, [], header.packets)
    times = [(time - film.times[0]) * film.time_base for time in film.times]
    known = times if len(times) == film.n_frames else None
    return Played(_quality(content_digest(path), header, film), known, _pictures(path))


def _pictures(path: Path) -> Iterator[Pixels]:
    """The frames of a clip that `_decode` has found whole."""
    scaler = None
    with open_media(path) as container:
        stream, _ = _moving_pictures(path, container)
        codec = stream.codec_context
        codec.thread_count = 1
        codec.options = _DECODER_OPTIONS.get(codec.name, {})
        for frame in container.decode(stream):
            if scaler is None or not scaler.fits(frame):
                scaler = _Scaler(frame, None)
            yield scaler(frame)


def _moving_pictures(path: Path, container: "InputContainer") -> "tuple[VideoStream, int]":
    """The video stream to be read, and how many there are."""
    from av.stream import Disposition

    kind, brand = container.format.name, container.metadata.get("major_brand")
    if kind in _STILL or kind.endswith("_pipe") or brand in _STILL:
        raise DecodeError(path, "no_video", "is a still picture, not a clip")
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    moving = [stream for stream in container.streams.video if not stream.disposition & still]
    if not moving:
        held = sorted({"stills" if s.type == "video" else s.type for s in container.streams})
        only = f"{' and '.join(held)} only" if held else "nothing that can be played"
        raise DecodeError(path, "no_video", f"has no moving pictures: it holds {only}")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise DecodeError(path, "decode_error", "there is no decoder for its video")
    return stream, len(moving)


class _Header(NamedTuple):
    """What a clip says of itself: `packets` are those whose frames are to be shown."""

    packets: int
    left_out: int
    frames: int
    seconds: list[Fraction]
    codec: str
    streams: int
    stream: int


def _survey(path: Path) -> _Header:
    """Headers and packets; nothing is decoded."""
    from av.error import FFmpegError

    shown = left_out = 0
    try:
        with open_media(path) as container:
            stream, streams = _moving_pictures(path, container)
            seconds = _announced(path, container, stream)
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise DecodeError(path, "decode_error", f"is damaged at packet {shown}")
                if packet.size:
                    shown += not packet.is_discard
                    left_out += packet.is_discard
            codec = stream.codec_context.codec.canonical_name
            header = _Header(shown, left_out, stream.frames, seconds, codec, streams, stream.index)
    except (FFmpegError, OSError) as error:
        reason = f"cannot be read as a media file: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if not shown:
        raise DecodeError(path, "decode_error", "has a video track without a single frame")
    return header


def _announced(path: Path, container: "InputContainer", stream: "VideoStream") -> list[Fraction]:
    """The durations in seconds that the file announces for a video stream."""
    if container.format.name in _WITHOUT_HEADER:
        return []
    if announced := movie_seconds(path, stream.id):
        return announced
    lengths = {other.index: _length(other) for other in container.streams}
    whole = Fraction(container.duration or 0, 1_000_000)
    others = (length for index, length in lengths.items() if index != stream.index)
    if any(length and _agree(whole, length) for length in others):
        whole = Fraction(0)  # it is another stream that is so long
    return [length for length in (lengths[stream.index], whole) if length]


def _length(stream: "Stream") -> Fraction:
    """The stream's own duration in seconds; 0 where it is not stated."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    stated = _STATISTICS.fullmatch(stream.metadata.get("DURATION", ""))
    if stated is None:
        return Fraction(0)
    hours, minutes, seconds = stated.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def _agree(one: Fraction, other: Fraction) -> bool:
    """Whether two durations are the same but for how they were reckoned."""
    return abs(one - other) <= max(min(one, other) / 10, Fraction(1, 2))


def _chosen(path: Path, rule: Callable[[int], Sequence[int]], n_frames: int) -> list[int]:
    try:
        chosen = [int(index) for index in rule(n_frames)]
    except DecodeError:
        raise
    except Exception as error:
        why = error if isinstance(error, ValueError) else repr(error)
        reason = f"the sampling rule fails on {n_frames} frames: {why}"
        raise DecodeError(path, "decode_error", reason) from error
    outside = [index for index in chosen if not 0 <= index < n_frames]
    if outside or not chosen:
        reason = f"the sampling rule chose {reprlib.repr(chosen)} of {n_frames} frames"
        if outside:
            reason += f", which have no frame {outside[0]}"
        raise DecodeError(path, "decode_error", reason)
    return chosen


class _Taker:
    """The frames of one request: chosen of as many as there should be, taken as they decode."""

    def __init__(self, path: Path, request: FrameRequest, n_frames: int) -> None:
        self.size = request.size
        self.indices: list[int] = []
        self._path = path
        self._pixels: Pixels | None = None
        self._error: DecodeError | None = None
        try:
            self.indices = _chosen(path, request.rule, n_frames)
        except DecodeError as error:
            self._error = error
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(self.indices):
            self._places.setdefault(index, []).append(place)

    def wants(self, index: int) -> bool:
        return index in self._places

    def take(self, index: int, image: Pixels) -> None:
        if self._pixels is None:
            shape = (len(self.indices), *image.shape)
            try:
                self._pixels = np.empty(shape, np.uint8)
            except MemoryError:
                self._fail(f"no memory for uint8 {list(shape)}: ask for fewer or smaller frames")
                return
        if image.shape != self._pixels.shape[1:]:
            self._fail(f"its pictures change size at frame {index}: ask for frames of one size")
            return
        self._pixels[self._places[index]] = image

    def frames(self, n_frames: int) -> Frames | DecodeError:
        if self._error is not None:
            return self._error
        assert self._pixels is not None
        return Frames(self._pixels, self.indices, n_frames)

    def _fail(self, message: str) -> None:
        self._error = DecodeError(self._path, "decode_error", message)
        self._pixels = None
        self._places = {}


class _Film(NamedTuple):
    """What decoded. `times` and `last`, how long the last frame is shown, in units of `time_base`."""

    n_frames: int
    times: list[int]
    last: int
    time_base: Fraction
    width: int
    height: int
    rotation: int


def _decode(path: Path, takers: Sequence[_Taker], expected: int) -> _Film:
    """Decodes and checks the clip, and hands the takers the frames that they want."""
    from av.error import FFmpegError

    scalers: dict[Size, _Scaler] = {}
    damaged = []
    n_frames = 0
    times: list[int] = []
    last, time_base = 0, Fraction(0)
    width = height = rotation = 0
    try:
        with open_media(path) as container:
            stream, _ = _moving_pictures(path, container)
            codec = stream.codec_context
            # One thread per clip: with more, FFmpeg loses errors in a clip's last frames.
            codec.thread_count = 1
            codec.options = _DECODER_OPTIONS.get(codec.name, {})
            for packet in container.demux(stream):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        damaged.append(n_frames)
                    images: dict[Size, Pixels] = {}
                    for taker in takers:
                        if not taker.wants(n_frames):
                            continue
                        if (size := taker.size) not in images:
                            if size not in scalers or not scalers[size].fits(frame):
                                scalers[size] = _Scaler(frame, size)
                            images[size] = scalers[size](frame)
                        taker.take(n_frames, images[size])
                    if frame.pts is not None:
                        times.append(frame.pts)
                    if not n_frames:
                        width, height, rotation = frame.width, frame.height, frame.rotation % 360
                        time_base = frame.time_base or Fraction(0)
                    last = frame.duration or 0
                    n_frames += 1
    except FFmpegError as error:
        reason = f"the decoder stops after {n_frames} of {expected} frames: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if not n_frames:
        raise DecodeError(path, "decode_error", f"not one of its {expected} frames decodes")
    if damaged:
        reason = f"{len(damaged)} of {n_frames} frames are damaged, the first is frame {damaged[0]}"
        raise DecodeError(path, "decode_error", reason)
    if rotation % 180:
        width, height = height, width
    return _Film(n_frames, times, last, time_base, width, height, rotation)


def _quality(content: str, header: _Header, film: _Film) -> Quality:
    steps = [later - earlier for earlier, later in pairwise(film.times)]
    seconds = _seconds(film, steps)
    announced = max(header.seconds, key=lambda said: abs(said - (seconds or 0)), default=None)
    both = None if seconds is None or announced is None else (seconds, announced)
    wrong = both is not None and not _agree(*both)
    facts = {
        "frames": film.n_frames,
        "header_frames": header.frames or None,
        "seconds": _rounded(seconds),
        "header_seconds": _rounded(announced),
        "fps": _rounded(film.n_frames / seconds) if seconds else None,
        "width": film.width,
        "height": film.height,
        "rotation": film.rotation,
        "codec": header.codec,
        "streams": header.streams,
        "stream": header.stream,
        "decoder": "pyav",
        "content": content,
    }
    flags = {
        "absurd_duration": wrong and both is not None and max(both) > 10 * min(both),
        "edit_list": header.left_out > 0,
        "rotated": film.rotation != 0,
        "several_streams": header.streams > 1,
        "variable_rate": _varies(steps),
        "very_short": film.n_frames < 2 or (seconds is not None and seconds <= Fraction(1, 10)),
        "wrong_duration": wrong,
        "wrong_frame_count": header.frames not in (0, film.n_frames),
    }
    return Quality(tuple(sorted(flag for flag, holds in flags.items() if holds)), facts)


def _seconds(film: _Film, steps: Sequence[int]) -> Fraction | None:
    """From the first frame's time to the end of the last, which counts for as long as the longest of
    the others at most: that is where a header can announce half an hour of nothing.
    """
    if not film.times:
        return None
    last = min(film.last or median_low(steps), max(steps)) if steps else film.last
    return (max(film.times) - min(film.times) + last) * film.time_base


def _varies(steps: Sequence[int]) -> bool:
    """Whether some frame is shown longer than another, by more than a tenth and than rounding."""
    usual = median_low(steps) if steps else 0
    return any(abs(step - usual) > min(max(usual / 10, 1), usual / 2) for step in steps)


def _rounded(value: Fraction | None) -> float | None:
    return None if value is None else round(float(value), 6)


def _within(frame: "VideoFrame", side: int) -> tuple[int, int]:
    """Height and width, upright, of a frame whose shorter side has no more than `side` pixels."""
    sides = (frame.height, frame.width)
    height, width = sides[::-1] if frame.rotation % 180 else sides
    scale = min(1, side / min(sides))
    return round(height * scale), round(width * scale)


class _Scaler:
    """Frames of one size and format to upright RGB of another size, as decord's filters do it."""

    def __init__(self, frame: "VideoFrame", size: Size) -> None:
        from av.filter import Graph

        self._input = self._properties(frame)
        if isinstance(size, int):
            size = _within(frame, size)
        height, width = size or ("ih", "iw")
        steps = [
            *_UPRIGHT.get(frame.rotation % 360, []),
            ("scale", f"{width}:{height}:flags=bilinear"),
            ("format", "rgb24"),
            ("buffersink", ""),
        ]
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        self._graph.link_nodes(source, *(self._graph.add(*step) for step in steps)).configure()

    @staticmethod
    def _properties(frame: "VideoFrame") -> tuple[object, ...]:
        return frame.width, frame.height, frame.format.name, frame.rotation, frame.colorspace

    def fits(self, frame: "VideoFrame") -> bool:
        return self._input == self._properties(frame)

    def __call__(self, frame: "VideoFrame") -> Pixels:
        """uint8 [H, W, 3]: a view of FFmpeg's memory, as fresh memory costs half of the scaling."""
        self._graph.vpush(frame)
        scaled = self._graph.vpull()
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(scaled.height, plane.line_size)
        pixels: Pixels = rows[:, : 3 * scaled.width].reshape(scaled.height, scaled.width, 3)
        return pixels

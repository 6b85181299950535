"""Reads the frames of a clip: decodes and checks all of it, keeps those that a rule chooses.

PyAV decodes, and not decord, with which AffectGPT's features were made. The pixels are the same:
PyAV and the scaler below equal decord bit for bit wherever decord returns the right frame, which
the tests hold on to. But decord jumps to the frames asked for, and so returns other frames or
broken ones, without an error, for healthy clips: H.264 with intra refresh, in AVI and in MPEG-TS,
MPEG-4 and MPEG-2 with B-frames, HEVC with open GOPs. It repeats a frame for each that an edit list
leaves out, reads no AV1, and hides damage. Neither headers nor packets tell those clips from the
others; decoding all of a clip does, and by then its frames are there. On clips of a few seconds
that takes about as long as decord's jumps.
"""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError
from merstore.extract.containers import declared_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video import VideoFrame, VideoStream

Pixels = npt.NDArray[np.uint8]

# The version of what the frames of a clip are: to be raised with any change that alters pixels.
VERSION = 1

# What turns a frame upright in FFmpeg, by the degrees (counterclockwise) that its clip asks for.
_UPRIGHT = {
    90: [("transpose", "cclock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "clock")],
}

# Formats of FFmpeg's, and brands of MP4, that are one picture; and those that are text: drawn as a
# film, or a list of other files.
_STILL = {"image2", "ico", "avif", "heic", "heix", "mif1"}
_TEXT = {"tty", "bin", "adf", "idf", "xbin", "concat", "hls", "dash"}

# The HEVC decoder does not mark the frames whose damage it conceals; it can be told to stop.
_DECODER_OPTIONS = {"hevc": {"err_detect": "explode"}}


class Frames(NamedTuple):
    """What was read from a clip.

    ``pixels``: uint8 [T, H, W, 3], RGB, upright. ``indices``: their T frame numbers, from 0.
    ``n_frames``: how many frames the clip decodes to. ``decoder``: ``"pyav"``. ``notes``: what is
    odd about a clip that is nevertheless whole, in words.
    """

    pixels: Pixels
    indices: list[int]
    n_frames: int
    decoder: str
    notes: tuple[str, ...]


def read_frames(
    path: str | Path,
    rule: Callable[[int], Sequence[int]],
    size: tuple[int, int] | None = (224, 224),
) -> Frames:
    """The frames of the clip at `path` whose numbers are `rule(number of frames)`, in that order.

    They are squashed to `size` (height, width) whatever their aspect ratio, as AffectGPT does; None
    leaves them as large as they are. A clip stored on its side is turned upright first.

    The number of frames is what really decodes, not what a header says; where the two differ in a
    clip that is whole (an edit list leaves frames out, the clip was cut between key frames), the
    former counts and ``notes`` says so. A clip that is not whole is refused: it would be another,
    shorter clip, or one with smeared frames. Of several video streams, FFmpeg's choice is read (in
    short: the default one, of these the one with most bits), which is also decord's.

    One frame at a time is held at full size. Safe to call from many threads at once, and the same
    bytes in whichever: each clip is decoded by the thread that asks for it.

    Raises DecodeError with the kind ``missing_file`` (no such file), ``no_video`` (a readable file
    without moving pictures: sound only, a still picture) or ``decode_error`` (empty, cut short,
    damaged, not a media file, not one frame); ValueError where `rule` chooses no frame or one that
    the clip does not have.
    """
    path = Path(path)
    _check_file(path)
    expected, notes = _survey(path)
    wanted = _chosen(rule, expected)
    kept, n_frames, header = _decode(path, wanted, expected, size)
    if n_frames != expected:
        wanted = _chosen(rule, n_frames)
        if not kept.keys() >= set(wanted):
            kept, _, _ = _decode(path, wanted, n_frames, size)
    if header not in (0, n_frames):
        notes.append(f"the header says {header} frames, {n_frames} decode")
    elif n_frames != expected:
        notes.append(f"{expected} packets, {n_frames} frames decode")
    pixels = np.stack([kept[index] for index in wanted])
    return Frames(pixels, wanted, n_frames, "pyav", tuple(notes))


def _check_file(path: Path) -> None:
    """Refuses what needs no decoder to be refused."""
    try:
        if not os.path.isfile(path):  # False, where Path.is_file raises, for too long a name
            what = "is not a file" if os.path.exists(path) else "no such file"
            raise DecodeError(path, "missing_file", what)
        size, declared = path.stat().st_size, declared_size(path)
        with path.open("rb") as file:
            pointer = file.read(20) == b"version https://git-"
    except OSError as error:
        raise DecodeError(path, "decode_error", f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise DecodeError(path, "decode_error", "is empty (0 bytes)")
    if pointer:
        raise DecodeError(path, "decode_error", "is a git-lfs pointer: run `git lfs pull`")
    if declared is not None and declared > size:
        message = f"is cut short: {size:,} of the {declared:,} bytes that its header announces"
        raise DecodeError(path, "decode_error", message)


def _open(path: Path) -> "InputContainer":
    """Opens as a local file and nothing else: no other protocol, no other file that it may name."""
    import av

    options = {"protocol_whitelist": "file"}
    return av.open(f"file:{path}", options=options, metadata_errors="ignore")


def _moving_pictures(path: Path, container: "InputContainer") -> "VideoStream":
    from av.stream import Disposition

    kind, brand = container.format.name, container.metadata.get("major_brand")
    if kind in _TEXT:
        raise DecodeError(path, "decode_error", "is text, not a media file")
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
    return stream


def _survey(path: Path) -> tuple[int, list[str]]:
    """Number of frames that the clip's packets announce, and notes; nothing is decoded."""
    from av.error import FFmpegError

    shown = left_out = 0
    notes = []
    try:
        with _open(path) as container:
            stream = _moving_pictures(path, container)
            if (streams := len(container.streams.video)) > 1:
                chosen = f"{stream.width}x{stream.height} (stream {stream.index})"
                notes.append(f"{streams} video streams: {chosen} is read")
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise DecodeError(path, "decode_error", f"is damaged at packet {shown}")
                if packet.size:
                    shown += not packet.is_discard
                    left_out += packet.is_discard
    except FFmpegError as error:
        reason = f"cannot be read as a media file: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if not shown:
        raise DecodeError(path, "decode_error", "has a video track without a single frame")
    if left_out:
        notes.append(f"its edit list leaves out {left_out} frames")
    return shown, notes


def _chosen(rule: Callable[[int], Sequence[int]], n_frames: int) -> list[int]:
    chosen = [int(index) for index in rule(n_frames)]
    if not chosen or not 0 <= min(chosen) <= max(chosen) < n_frames:
        raise ValueError(f"the sampling rule chose {chosen} of {n_frames} frames")
    return chosen


def _decode(
    path: Path, wanted: Collection[int], expected: int, size: tuple[int, int] | None
) -> tuple[dict[int, Pixels], int, int]:
    """The wanted frames, how many frames decode, and how many the header says there are."""
    from av.error import FFmpegError

    wanted = set(wanted)
    kept: dict[int, Pixels] = {}
    damaged = []
    scaler = None
    n_frames = 0
    try:
        with _open(path) as container:
            stream = _moving_pictures(path, container)
            codec = stream.codec_context
            # One thread per clip: with more, FFmpeg loses errors in a clip's last frames.
            codec.thread_count = 1
            codec.options = _DECODER_OPTIONS.get(codec.name, {})
            for packet in container.demux(stream):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        damaged.append(n_frames)
                    if n_frames in wanted:
                        if scaler is None or not scaler.fits(frame):
                            scaler = _Scaler(frame, size)
                        kept[n_frames] = scaler(frame)
                    n_frames += 1
            header = stream.frames
    except FFmpegError as error:
        reason = f"the decoder stops after {n_frames} of {expected} frames: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if not n_frames:
        raise DecodeError(path, "decode_error", f"not one of its {expected} frames decodes")
    if damaged:
        reason = f"{len(damaged)} of {n_frames} frames are damaged, the first is frame {damaged[0]}"
        raise DecodeError(path, "decode_error", reason)
    return kept, n_frames, header


class _Scaler:
    """Frames of one size and format to upright RGB of another size, as decord's filters do it."""

    def __init__(self, frame: "VideoFrame", size: tuple[int, int] | None) -> None:
        from av.filter import Graph

        self._input = self._properties(frame)
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
        self._graph.vpush(frame)
        return np.asarray(self._graph.vpull().to_ndarray(), np.uint8)

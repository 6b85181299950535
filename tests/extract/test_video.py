"""Reading frames, on clips made here: every frame shows its number, so that none can be mistaken."""

import functools
import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from merstore.errors import DecodeError
from merstore.extract.sampling import headtail, segments, uniform
from merstore.extract.video import (
    Clip,
    FrameRequest,
    Frames,
    play_clip,
    read_clip,
    read_frames,
)
from merstore.quality import FLAGS, Quality

from .conftest import HEIGHT, WIDTH, draw, number_shown, write_clip

MakeClip = Callable[..., Path]


def every(n_frames: int) -> list[int]:
    return list(range(n_frames))


def eight(n_frames: int) -> list[int]:
    return uniform(n_frames, 8)


def shown(frames: Frames) -> list[int]:
    return [number_shown(image) for image in frames.pixels]


def got(clip: Clip) -> list[Frames]:
    """The frames of all requests, none of which failed."""
    frames = [outcome for outcome in clip.frames if isinstance(outcome, Frames)]
    assert len(frames) == len(clip.frames)
    return frames


def quality(path: Path) -> Quality:
    return read_clip(path, []).quality


def refusal(path: Path) -> tuple[str, str]:
    """Kind and message of the error that reading it raises."""
    with pytest.raises(DecodeError) as caught:
        read_frames(path, eight)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    return caught.value.kind, caught.value.message


def remux(source: Path, target: Path, first: int = 0) -> Path:
    """Copies the packets from number `first` on, as tools that cut without encoding do."""
    import av

    with av.open(source) as clip, av.open(target, "w") as out:
        video = clip.streams.video[0]
        copied = out.add_stream_from_template(video)
        packets = [packet for packet in clip.demux(video) if packet.dts is not None][first:]
        start = packets[0].dts
        for packet in packets:
            packet.pts -= start
            packet.dts -= start
            packet.stream = copied
            out.mux(packet)
    return target


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Writes the turn into an MP4's track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


class TestHealthyClips:
    @pytest.mark.parametrize(
        ("name", "codec", "options"),
        [
            ("mpeg4.mp4", "mpeg4", {}),
            ("mpeg4.avi", "mpeg4", {}),
            ("b_frames.avi", "mpeg4", {"bf": "2", "g": "12"}),
            ("b_frames.mpg", "mpeg2video", {"bf": "2", "g": "12"}),
            ("mjpeg.avi", "mjpeg", {"strict": "-1"}),
            ("h264.mp4", "libx264", {}),
            ("h264.mov", "libx264", {"x264-params": "keyint=12:bframes=3"}),
            ("h264.avi", "libx264", {"x264-params": "keyint=12:bframes=0"}),
            ("h264.ts", "libx264", {"x264-params": "keyint=12:bframes=3"}),
            ("h264.flv", "libx264", {"x264-params": "keyint=12:bframes=3"}),
            ("open_gop.mkv", "libx264", {"x264-params": "keyint=12:bframes=5:open-gop=1"}),
            ("refresh.mp4", "libx264", {"x264-params": "keyint=20:intra-refresh=1"}),
            ("hevc.mp4", "libx265", {"x265-params": "keyint=12:log-level=none"}),
            ("vp8.webm", "libvpx", {"g": "12", "b": "1M"}),
            ("vp9.webm", "libvpx-vp9", {"g": "12", "b": "1M"}),
            ("lossless.mkv", "ffv1", {}),
        ],
    )
    def test_all_frames_are_there_in_the_order_of_the_film(
        self, make_clip: MakeClip, name: str, codec: str, options: dict[str, str]
    ) -> None:
        frames = read_frames(make_clip(name, 60, codec, options), every)
        assert frames.n_frames == 60
        assert frames.indices == shown(frames) == list(range(60))
        assert frames.pixels.shape == (60, 224, 224, 3)
        assert frames.pixels.dtype == np.uint8

    def test_the_rule_chooses(self, make_clip: MakeClip) -> None:
        frames = read_frames(make_clip("x.mp4", 100), eight)
        assert frames.indices == shown(frames) == [0, 12, 25, 37, 50, 62, 75, 87]

    def test_frames_come_in_the_order_of_the_rule_as_often_as_it_says(
        self, make_clip: MakeClip
    ) -> None:
        frames = read_frames(make_clip("x.mp4", 10), lambda n: [n - 1, 0, 3, 3])
        assert shown(frames) == [9, 0, 3, 3]

    @pytest.mark.parametrize("n_frames", [1, 2, 3])
    def test_a_clip_shorter_than_the_rule_repeats_its_last_frame(
        self, make_clip: MakeClip, n_frames: int
    ) -> None:
        frames = read_frames(make_clip("x.mp4", n_frames), eight)
        assert frames.n_frames == n_frames
        assert shown(frames) == [min(i, n_frames - 1) for i in range(8)]

    def test_a_variable_frame_rate_changes_nothing(self, make_clip: MakeClip) -> None:
        frames = read_frames(make_clip("x.mp4", 60, steps=(1, 9, 2, 40)), every)
        assert shown(frames) == list(range(60))

    @pytest.mark.parametrize("size", [(224, 224), (48, 64), (120, 160), (301, 77)])
    def test_frames_are_squashed_to_the_size(
        self, make_clip: MakeClip, size: tuple[int, int]
    ) -> None:
        frames = read_frames(make_clip("x.mp4", 20), every, size)
        assert frames.pixels.shape == (20, *size, 3)
        assert shown(frames) == list(range(20))

    @pytest.mark.parametrize(
        ("side", "shape"), [(60, (60, 80)), (90, (90, 120)), (1, (1, 1)), (120, None), (500, None)]
    )
    def test_a_number_bounds_the_shorter_side(
        self, make_clip: MakeClip, side: int, shape: tuple[int, int] | None
    ) -> None:
        """In the frame's aspect ratio, and never larger than it is."""
        clip = make_clip("x.mp4", 3)
        bounded = read_frames(clip, every, side).pixels
        np.testing.assert_array_equal(bounded, read_frames(clip, every, shape).pixels)
        set_display_matrix(clip, 0, 1, -1, 0)
        turned = read_frames(clip, every, side).pixels
        assert turned.shape == (3, *bounded.shape[2:0:-1], 3)

    def test_without_a_size_frames_stay_as_they_are(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mkv", 5, "ffv1")
        pixels = read_frames(clip, every, None).pixels.astype(int)
        assert pixels.shape == (5, HEIGHT, WIDTH, 3)
        # 4:2:0 keeps a quarter of the colour: the box's edges blur, its inside does not.
        assert abs(pixels[0] - draw(0))[12:28, 2:18].max() <= 4
        assert abs(pixels[0] - draw(0)).mean() < 1

    @pytest.mark.parametrize(
        ("matrix", "shape", "box_at"),
        [
            ((1, 0, 0, 1), (HEIGHT, WIDTH), (0.17, 0.06)),
            ((0, 1, -1, 0), (WIDTH, HEIGHT), (0.06, 0.83)),  # shown turned by 90 degrees clockwise
            ((-1, 0, 0, -1), (HEIGHT, WIDTH), (0.83, 0.94)),
            ((0, -1, 1, 0), (WIDTH, HEIGHT), (0.94, 0.17)),
        ],
    )
    def test_a_clip_stored_on_its_side_comes_out_upright(
        self,
        make_clip: MakeClip,
        matrix: tuple[int, int, int, int],
        shape: tuple[int, int],
        box_at: tuple[float, float],
    ) -> None:
        clip = make_clip("x.mp4", 1)
        set_display_matrix(clip, *matrix)
        for size in (None, (224, 224)):
            (image,) = read_frames(clip, every, size).pixels
            assert image.shape[:2] == (size or shape)
            red, _, blue = image[int(box_at[0] * len(image)), int(box_at[1] * len(image[0]))]
            assert red > 200 > 100 > blue

    def test_of_several_video_streams_the_one_with_most_bits_is_read(self, tmp_path: Path) -> None:
        import av
        from av.stream import Disposition

        with av.open(tmp_path / "x.mp4", "w") as out:
            small, large = (out.add_stream("mpeg4", rate=25) for _ in range(2))
            small.width, small.height, small.pix_fmt = 80, 60, "yuv420p"
            large.width, large.height, large.pix_fmt = 160, 120, "yuv420p"
            small.disposition = large.disposition = Disposition.default
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                out.mux(large.encode(frame))
                out.mux(small.encode(frame.reformat(80, 60)))
            for stream in (small, large):
                out.mux(stream.encode(None))
        frames = read_frames(tmp_path / "x.mp4", every, None)
        assert frames.pixels.shape == (10, 120, 160, 3)
        flags, facts = quality(tmp_path / "x.mp4")
        assert flags == ("several_streams",)
        assert (facts["streams"], facts["stream"]) == (2, 1)
        assert (facts["width"], facts["height"]) == (160, 120)

    @pytest.mark.parametrize(
        "name", ["情感 clip.mp4", "-x.mp4", "%03d.mp4", "a:b#c?d&e.mp4", "no_suffix", "x.txt"]
    )
    def test_the_name_of_a_file_says_nothing(
        self, make_clip: MakeClip, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_clip("x.mkv", 3).rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert read_frames(name, every).n_frames == 3

    def test_metadata_in_another_encoding_does_no_harm(self, tmp_path: Path) -> None:
        import av

        with av.open(tmp_path / "x.mkv", "w") as out:
            out.metadata["title"] = "TITLE"
            video = out.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            out.mux(video.encode(av.VideoFrame.from_ndarray(draw(0), format="rgb24")))
            out.mux(video.encode(None))
        data = (tmp_path / "x.mkv").read_bytes()
        (tmp_path / "x.mkv").write_bytes(data.replace(b"TITLE", "情感".encode("gbk") + b"\xff"))
        assert read_frames(tmp_path / "x.mkv", every).n_frames == 1

    def test_what_decodes_counts_and_not_what_the_header_says(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        """A clip cut between two key frames: the frames before the first key frame are not there."""
        options = {"x264-params": "keyint=12:scenecut=0:bframes=0"}
        whole = make_clip("whole.mp4", 48, "libx264", options)
        cut = remux(whole, tmp_path / "cut.mp4", first=5)
        frames = read_frames(cut, every)
        assert shown(frames) == list(range(12, 48))
        assert frames.n_frames == 36
        flags, facts = quality(cut)
        assert flags == ("wrong_frame_count",)
        assert (facts["header_frames"], facts["frames"]) == (43, 36)
        assert read_frames(cut, eight).indices == uniform(36, 8)


def broken(n_frames: int) -> list[int]:
    raise ZeroDivisionError("by nothing")


def refused(n_frames: int) -> list[int]:
    raise DecodeError("a.json", "no_au_info", "names no peak")


RULES = {
    "all": every,
    "uniform": functools.partial(uniform, n=8),
    "headtail": functools.partial(headtail, n=6, seed=3),
    "segments": functools.partial(segments, n=8),
    "backwards": lambda n: list(range(n))[::-1],
    "first, twice": lambda n: [0, 0],
}


class TestManyRequests:
    @settings(max_examples=25)
    @given(
        asked=st.lists(
            st.tuples(
                st.sampled_from(sorted(RULES)),
                st.sampled_from([(224, 224), (48, 64), (120, 160), None]),
            ),
            max_size=6,
        ),
        name=st.sampled_from(["b_frames.mp4", "cut.mp4"]),
    )
    def test_each_gets_what_it_gets_alone(
        self, asked: list[tuple[str, tuple[int, int] | None]], name: str, two_clips: Path
    ) -> None:
        requests = [FrameRequest(RULES[rule], size) for rule, size in asked]
        together = got(read_clip(two_clips / name, requests))
        for request, frames in zip(requests, together, strict=True):
            alone = read_frames(two_clips / name, *request)
            np.testing.assert_array_equal(frames.pixels, alone.pixels)
            assert frames[1:] == alone[1:]

    def test_a_clip_is_decoded_once_for_all(
        self, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each opening reads the whole of the clip: one for its packets, one for its pictures."""
        import av

        clip = make_clip("x.mp4", 30)
        opened = []
        monkeypatch.setattr(
            av, "open", lambda *a, _open=av.open, **k: opened.append(a) or _open(*a, **k)
        )
        for requests in ([], [eight], [eight, every, eight]):
            opened.clear()
            read_clip(clip, [FrameRequest(rule) for rule in requests])
            assert len(opened) == 2

    def test_no_more_is_held_than_is_returned(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mp4", 100)
        requests = [FrameRequest(every), FrameRequest(every, (48, 64)), FrameRequest(every, None)]
        read_clip(clip, requests)
        tracemalloc.start()
        try:
            together = got(read_clip(clip, requests))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        returned = sum(frames.pixels.nbytes for frames in together)
        assert returned <= peak < returned + (2 << 20)

    def test_they_may_come_from_anywhere(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mp4", 10)
        (frames,) = got(read_clip(str(clip), (FrameRequest(rule) for rule in [every])))
        assert shown(frames) == list(range(10))

    def test_a_request_can_be_sent_to_another_process(self) -> None:
        request = FrameRequest(functools.partial(uniform, n=8), (48, 64))
        rule, size = pickle.loads(pickle.dumps(request))
        assert (rule(20), size) == (request.rule(20), (48, 64))

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (lambda _: [], "the sampling rule chose [] of 30 frames"),
            (lambda _: [-1], "chose [-1] of 30 frames, which have no frame -1"),
            (lambda _: [30], "chose [30] of 30 frames, which have no frame 30"),
            (lambda _: [0, 31], "chose [0, 31] of 30 frames, which have no frame 31"),
            (lambda _: range(1000), "1, 2, 3, 4, 5, ...] of 30 frames, which have no frame 30"),
            (lambda n: uniform(n, 0), "the sampling rule fails on 30 frames: "),
            (broken, "on 30 frames: ZeroDivisionError('by nothing')"),
        ],
    )
    def test_one_that_cannot_be_met_fails_alone(
        self, make_clip: MakeClip, rule: Callable[[int], list[int]], message: str
    ) -> None:
        clip = make_clip("x.mp4", 30)
        requests = [FrameRequest(each) for each in (eight, rule, every)]
        before, error, after = read_clip(clip, requests).frames
        assert isinstance(before, Frames)
        assert isinstance(after, Frames)
        assert (before.indices, after.indices) == (eight(30), every(30))
        assert isinstance(error, DecodeError)
        assert (error.path, error.kind) == (str(clip), "decode_error")
        assert message in error.message
        with pytest.raises(DecodeError) as caught:
            read_frames(clip, rule)
        assert caught.value.args == error.args

    def test_a_rule_may_say_itself_what_is_wrong(self, make_clip: MakeClip) -> None:
        with pytest.raises(DecodeError) as caught:
            read_frames(make_clip("x.mp4", 3), refused)
        assert caught.value.args == ("a.json", "no_au_info", "names no peak")

    def test_a_rule_that_fails_on_what_the_packets_promise_is_asked_again(
        self, two_clips: Path
    ) -> None:
        asked = []

        def rule(n_frames: int) -> list[int]:
            asked.append(n_frames)
            return [n_frames - 1] if n_frames == 36 else []

        (frames,) = got(read_clip(two_clips / "cut.mp4", [FrameRequest(rule)]))
        assert asked == [43, 36]
        assert shown(frames) == [47]

    def test_the_message_counts_what_decodes(self, two_clips: Path) -> None:
        for rule in (lambda n: [n], lambda n: [n - 1, 99]):
            (error,) = read_clip(two_clips / "cut.mp4", [FrameRequest(rule)]).frames
            assert isinstance(error, DecodeError)
            assert "of 36 frames" in error.message

    def test_pictures_that_change_size_need_a_size(self, tmp_path: Path) -> None:
        import av

        clip = tmp_path / "x.mjpeg"
        for width in (160, 176):
            with av.open(tmp_path / "part.mjpeg", "w") as out:
                video = out.add_stream("mjpeg", rate=25)
                video.width, video.height, video.pix_fmt = width, HEIGHT, "yuvj420p"
                for number in range(5):
                    frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                    out.mux(video.encode(frame.reformat(width, HEIGHT)))
                out.mux(video.encode(None))
            with clip.open("ab") as file:
                file.write((tmp_path / "part.mjpeg").read_bytes())
        requests = [
            FrameRequest(every, None),
            FrameRequest(every),
            FrameRequest(lambda n: [1], None),
        ]
        large, small, one = read_clip(clip, requests).frames
        assert isinstance(large, DecodeError)
        assert large.message == "its pictures change size at frame 5: ask for frames of one size"
        assert isinstance(small, Frames)
        assert shown(small) == [*range(5), *range(5)]
        assert isinstance(one, Frames)
        assert one.pixels.shape == (1, HEIGHT, WIDTH, 3)

    def test_more_than_memory_holds_is_a_failure_of_that_request(self, make_clip: MakeClip) -> None:
        too_large = FrameRequest(lambda n: [0] * 2_000_000, (2000, 2000))
        small, large = read_clip(make_clip("x.mp4", 3), [FrameRequest(every), too_large]).frames
        assert isinstance(small, Frames)
        assert isinstance(large, DecodeError)
        assert "no memory for uint8 [2000000, 2000, 2000, 3]" in large.message


def write_with_sound(path: Path, n_frames: int, seconds: int) -> Path:
    """A clip of 25 frames per second, and so much silence."""
    import av

    with av.open(path, "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = out.add_stream("aac", rate=16_000, layout="mono") if seconds else None
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio:
            silence = np.zeros((1, 16_000 * seconds), np.float32)
            tone = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            tone.sample_rate = 16_000
            out.mux(audio.encode(tone))
            out.mux(audio.encode(None))
    return path


def lie_in_mp4(path: Path, box: bytes, factor: int) -> None:
    """Multiplies the duration in the first header of that kind (ISO/IEC 14496-12, 8.2 to 8.4)."""
    data = bytearray(path.read_bytes())
    at = data.index(box) + 4 + 4 + 4 + 4 + 4 + 4 * (box == b"tkhd")
    (duration,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, duration * factor)
    path.write_bytes(data)


def lie_in_matroska(path: Path, factor: int) -> None:
    """Multiplies the segment's Duration (RFC 9559, 5.1.2.10)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    struct.pack_into(">d", data, at, struct.unpack_from(">d", data, at)[0] * factor)
    path.write_bytes(data)


class TestQuality:
    def test_of_a_healthy_clip(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mp4", 60, "libx264")
        assert quality(clip) == (
            (),
            {
                "frames": 60,
                "header_frames": 60,
                "seconds": 2.4,
                "header_seconds": 2.4,
                "fps": 25.0,
                "width": WIDTH,
                "height": HEIGHT,
                "rotation": 0,
                "codec": "h264",
                "streams": 1,
                "stream": 0,
                "decoder": "pyav",
                "content": xxh3_128_hexdigest(clip.read_bytes()),
            },
        )

    @pytest.mark.parametrize(
        ("name", "codec"),
        [("x.mkv", "ffv1"), ("x.webm", "vp8"), ("x.ts", "h264"), ("x.flv", "flv1")],
    )
    def test_where_the_container_counts_no_frames(
        self, make_clip: MakeClip, name: str, codec: str
    ) -> None:
        encoder = {"vp8": "libvpx", "h264": "libx264"}.get(codec, codec)
        flags, facts = quality(make_clip(name, 60, encoder))
        assert flags == ()
        assert (facts["codec"], facts["header_frames"]) == (codec, None)
        assert facts["seconds"] == pytest.approx(2.4, abs=0.04)

    @pytest.mark.parametrize("factor", [2, 9, 11, 800])
    @pytest.mark.parametrize("where", ["mvhd", "mdhd", "tkhd", "matroska"])
    @pytest.mark.parametrize("seconds", [0, 3])
    def test_a_header_that_announces_too_much(
        self, tmp_path: Path, where: str, factor: int, seconds: int
    ) -> None:
        """A clip of three seconds that announces 40 minutes: what decodes is what is read."""
        name = "x.mkv" if where == "matroska" else "x.mp4"
        clip = write_with_sound(tmp_path / name, 75, seconds)
        truth = read_frames(clip, eight)
        if where == "matroska":
            lie_in_matroska(clip, factor)
        else:
            lie_in_mp4(clip, where.encode(), factor)
        (frames,), (flags, facts) = read_clip(clip, [FrameRequest(eight)])
        assert isinstance(frames, Frames)
        np.testing.assert_array_equal(frames.pixels, truth.pixels)
        assert frames.indices == shown(frames) == eight(75)
        assert flags == ("absurd_duration",) * (factor > 10) + ("wrong_duration",)
        assert facts["seconds"] == 3.0
        assert facts["header_seconds"] == pytest.approx(3.0 * factor, rel=0.06)
        assert (facts["frames"], facts["fps"]) == (75, 25.0)

    def test_a_last_picture_that_stands_for_half_an_hour(self, make_clip: MakeClip) -> None:
        """The other way to announce it: all headers agree, and nothing is there to be seen."""
        clip = make_clip("x.mp4", 75, steps=(4,))
        data = bytearray(clip.read_bytes())
        at = data.index(b"stts") + 8
        assert struct.unpack_from(">3I", data, at) == (1, 75, 512)
        # The sample table stays as long as it was, so the free space that follows it is not needed:
        # 74 samples of one length, and the last one takes its own from an entry of its own.
        entry = struct.pack(">I", 2) + struct.pack(">4I", 74, 512, 1, 12_800 * 2000)
        grown = data[:at] + entry + data[at + 12 :]
        for box in (b"stts", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
            start = grown.index(box) - 4
            struct.pack_into(">I", grown, start, struct.unpack_from(">I", grown, start)[0] + 8)
        where = grown.index(b"stco") + 12
        struct.pack_into(">I", grown, where, struct.unpack_from(">I", grown, where)[0] + 8)
        clip.write_bytes(grown)
        for box in (b"mvhd", b"mdhd", b"tkhd"):
            lie_in_mp4(clip, box, 660)
        flags, facts = quality(clip)
        assert flags == ("absurd_duration", "wrong_duration")
        assert facts["seconds"] == 3.0
        assert facts["header_seconds"] == pytest.approx(1980, rel=0.02)

    @pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
    def test_sound_that_goes_on_is_no_lie(self, tmp_path: Path, name: str) -> None:
        write_with_sound(tmp_path / name, 50, seconds=9)
        flags, facts = quality(tmp_path / name)
        assert flags == ()
        assert (facts["seconds"], facts["header_seconds"]) == (2.0, 2.0)

    @pytest.mark.parametrize(
        ("steps", "varies"),
        [((4,), False), ((3, 4), True), ((4, 4, 4, 8), True), ((20, 21), False), ((20, 23), True)],
    )
    @pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
    def test_a_variable_rate(
        self, make_clip: MakeClip, name: str, steps: tuple[int, ...], varies: bool
    ) -> None:
        flags, facts = quality(make_clip(name, 60, steps=steps))
        assert flags == ("variable_rate",) * varies
        length = 15 * (sum(steps) if len(steps) == 4 else 4 * sum(steps) / len(steps)) / 100
        assert facts["seconds"] == pytest.approx(length, abs=0.2)
        assert facts["fps"] == pytest.approx(60 / length, rel=0.02)

    @pytest.mark.parametrize("rate", [24, 25, Fraction(30_000, 1001), 50, 60, 120, 240])
    @pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi", "x.flv"])
    def test_rounded_times_are_no_variable_rate(
        self, tmp_path: Path, name: str, rate: int | Fraction
    ) -> None:
        import av

        with av.open(tmp_path / name, "w") as out:
            video = out.add_stream("flv1" if name == "x.flv" else "mpeg4", rate=rate)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(100):
                frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        flags, facts = quality(tmp_path / name)
        assert flags == ()
        assert facts["fps"] == pytest.approx(float(rate), rel=0.01)

    @pytest.mark.parametrize(
        ("matrix", "degrees"),
        [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 270), ((-1, 0, 0, -1), 180), ((0, -1, 1, 0), 90)],
    )
    def test_a_turned_clip(
        self, make_clip: MakeClip, matrix: tuple[int, int, int, int], degrees: int
    ) -> None:
        clip = make_clip("x.mp4", 10)
        set_display_matrix(clip, *matrix)
        flags, facts = quality(clip)
        assert flags == ("rotated",) * (degrees != 0)
        assert facts["rotation"] == degrees
        upright = (WIDTH, HEIGHT) if degrees in (0, 180) else (HEIGHT, WIDTH)
        assert (facts["width"], facts["height"]) == upright

    def test_an_edit_list_that_leaves_frames_out(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mp4", 60, "libx264", {"x264-params": "keyint=60:bframes=0"})
        data = bytearray(clip.read_bytes())
        at = data.index(b"elst") + 12  # version and flags, one entry: its duration, its media time
        duration, start = struct.unpack_from(">Ii", data, at)
        struct.pack_into(">Ii", data, at, duration - 400, start + 10 * 512)
        clip.write_bytes(data)
        (frames,), (flags, facts) = read_clip(clip, [FrameRequest(every)])
        assert isinstance(frames, Frames)
        assert shown(frames) == list(range(10, 60))
        assert flags == ("edit_list", "wrong_frame_count")
        assert (facts["header_frames"], facts["frames"]) == (60, 50)
        assert facts["seconds"] == 2.0

    @pytest.mark.parametrize(("n_frames", "short"), [(1, True), (2, True), (3, False), (25, False)])
    def test_a_very_short_clip(self, make_clip: MakeClip, n_frames: int, short: bool) -> None:
        assert quality(make_clip("x.mp4", n_frames)).flags == ("very_short",) * short
        assert quality(make_clip("y.mp4", 1, steps=(100,))).flags == ("very_short",)

    @pytest.mark.parametrize("tag", ["", "3", "1:2:3", "00:00:1/0", "00:00:1e99999999", "情:00:01"])
    def test_statistics_that_make_no_sense_say_nothing(self, tmp_path: Path, tag: str) -> None:
        import av

        with av.open(tmp_path / "x.mkv", "w") as out:
            video = out.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            video.metadata["XURATION"] = tag.ljust(16)
            for number in range(50):
                frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        data = (tmp_path / "x.mkv").read_bytes()
        data = data.replace(b"DURATION", b"MURATION").replace(b"XURATION", b"DURATION")
        (tmp_path / "x.mkv").write_bytes(data)
        flags, facts = quality(tmp_path / "x.mkv")
        assert flags == ()
        assert facts["header_seconds"] == 2.0

    def test_without_times_the_duration_is_not_known(self, make_clip: MakeClip) -> None:
        clip = make_clip("x.mkv", 30, "libx264", {"x264-params": "bframes=0"})
        raw = remux(clip, clip.with_name("x.h264"))
        flags, facts = quality(raw)
        assert flags == ()
        assert (facts["frames"], facts["seconds"], facts["fps"]) == (30, None, None)

    def test_flags_are_known_and_facts_are_json(self, make_clip: MakeClip) -> None:
        for name in ("x.mp4", "x.mkv", "x.avi", "x.mpg", "x.ts"):
            codec = "mpeg2video" if name in ("x.mpg", "x.ts") else "mpeg4"
            flags, facts = quality(make_clip(name, 20, codec, steps=(1, 9, 2, 40)))
            assert set(flags) <= FLAGS.keys()
            assert list(flags) == sorted(set(flags))
            assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.fixture(scope="module")
def two_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two clips: of one, fewer frames decode than there are packets."""
    folder = tmp_path_factory.mktemp("two")
    write_clip(folder / "b_frames.mp4", 25, "mpeg4", {"bf": "2", "g": "12"})
    options = {"x264-params": "keyint=12:scenecut=0:bframes=0"}
    remux(write_clip(folder / "whole.mp4", 48, "libx264", options), folder / "cut.mp4", first=5)
    return folder


class TestWhatIsNoClip:
    def test_no_such_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "x.mp4") == ("missing_file", "no such file")
        assert refusal(tmp_path / ("x" * 300)) == ("missing_file", "no such file")
        assert refusal(tmp_path) == ("missing_file", "is not a file")

    def test_sound_only(self, make_clip: MakeClip) -> None:
        kind, message = refusal(make_clip("x.mp4", 0))
        assert kind == "no_video"
        assert "audio only" in message

    @pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.mp4", "x.webp", "x.ico", "x.avif"])
    def test_a_still_picture_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        from PIL import Image

        kind = Path(name).suffix[1:].replace("mp4", "jpg").replace("jpg", "jpeg")
        Image.fromarray(draw(1)).save(tmp_path / name, format=kind)
        assert refusal(tmp_path / name) == ("no_video", "is a still picture, not a clip")

    def test_sound_with_a_cover_picture(self, tmp_path: Path) -> None:
        import av
        from av.stream import Disposition

        with av.open(tmp_path / "x.mp3", "w") as out:
            sound = out.add_stream("mp3", rate=44_100, layout="mono")
            cover = out.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(draw(0), format="rgb24")
            out.mux(cover.encode(frame))
            out.mux(cover.encode(None))
            silence = np.zeros((1, 44_100), np.float32)
            tone = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            tone.sample_rate = 44_100
            out.mux(sound.encode(tone))
            out.mux(sound.encode(None))
        kind, message = refusal(tmp_path / "x.mp3")
        assert kind == "no_video"
        assert "audio and stills only" in message

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty (0 bytes)"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pointer"),
            (np.random.default_rng(0).bytes(20_000), "cannot be read as a media file"),
            (b"name,emotion\na,happy\n", "cannot be read as a media file"),
            (b"hello\n" * 100, "cannot be read as a media file"),
        ],
    )
    @pytest.mark.parametrize("name", ["x.mp4", "x.csv"])
    def test_what_is_no_media_file(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        kind, got = refusal(tmp_path / name)
        assert kind == "decode_error"
        assert message in got

    @pytest.mark.parametrize("name", ["x.txt", "x.nfo"])
    def test_text_is_not_drawn_as_a_film(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("hello\n" * 100)
        assert refusal(tmp_path / name) == ("decode_error", "is text, not a media file")

    @pytest.mark.parametrize(
        "text", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXTINF:1,\n{}\n"]
    )
    def test_a_playlist_opens_no_other_file(
        self, make_clip: MakeClip, tmp_path: Path, text: str
    ) -> None:
        clip = make_clip("real.mp4")
        for target in (clip, clip.name):
            (tmp_path / "x.mp4").write_text(text.format(target))
            assert refusal(tmp_path / "x.mp4")[0] == "decode_error"

    def test_a_video_track_without_a_frame(self, tmp_path: Path) -> None:
        import av

        options = {"movflags": "empty_moov+frag_keyframe"}
        with av.open(tmp_path / "x.mp4", "w", options=options) as out:
            video = out.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            out.mux(video.encode(av.VideoFrame.from_ndarray(draw(0), format="rgb24")))
            out.mux(video.encode(None))
        data = (tmp_path / "x.mp4").read_bytes()
        (tmp_path / "x.mp4").write_bytes(data[: data.index(b"moof") - 4])
        kind, message = refusal(tmp_path / "x.mp4")
        assert kind == "decode_error"
        assert message == "has a video track without a single frame"


@pytest.fixture(scope="module")
def whole_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small clips whose container states its length."""
    folder = tmp_path_factory.mktemp("whole")
    for name in WHOLE:
        write_clip(folder / name, 24, "libx264" if "h264" in name else "mpeg4", {"g": "6"})
    return folder


WHOLE = ["mpeg4.mp4", "h264.mov", "h264.mkv", "mpeg4.avi"]


class TestDamage:
    @settings(max_examples=150)
    @given(name=st.sampled_from(WHOLE), data=st.data())
    def test_a_file_cut_short_is_never_read_as_a_shorter_clip(
        self, name: str, data: st.DataObject, whole_clips: Path
    ) -> None:
        whole = (whole_clips / name).read_bytes()
        cut = whole_clips / f"cut_{name}"
        cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert refusal(cut)[0] == "decode_error"

    def test_a_cut_between_two_frames_is_seen_too(self, whole_clips: Path, tmp_path: Path) -> None:
        import av

        for name in WHOLE:
            path = tmp_path / name
            whole = (whole_clips / name).read_bytes()
            with av.open(whole_clips / name) as clip:
                starts = sorted(packet.pos for packet in clip.demux(video=0) if packet.size)
            for start in starts[1:]:
                path.write_bytes(whole[:start])
                kind, message = refusal(path)
                assert kind == "decode_error"
                assert f"is cut short: {start:,} of the {len(whole):,} bytes" in message

    @pytest.mark.parametrize("options", [{}, {"x264-params": "keyint=12:bframes=3"}])
    def test_a_hole_in_a_clip_is_a_failure_that_says_where(
        self, make_clip: MakeClip, options: dict[str, str]
    ) -> None:
        clip = make_clip("x.mp4", 60, "libx264", options)
        data = bytearray(clip.read_bytes())
        middle = (data.index(b"mdat") + len(data)) // 2
        data[middle : middle + 600] = bytes(600)
        clip.write_bytes(data)
        kind, message = refusal(clip)
        assert kind == "decode_error"
        assert "the decoder stops after" in message
        assert "of 60 frames: Invalid data" in message

    @pytest.mark.parametrize(("codec", "options"), [("mpeg4", {}), ("libx264", {})])
    def test_frames_that_a_decoder_would_patch_up_are_a_failure(
        self, make_clip: MakeClip, codec: str, options: dict[str, str]
    ) -> None:
        """Flipped bits: players show a smeared picture, and so would decord."""
        clip = make_clip("x.mp4", 60, codec, options)
        data = bytearray(clip.read_bytes())
        start = data.index(b"mdat") + 8
        for place in np.random.default_rng(1).integers(start + 200, len(data), 12):
            data[place] ^= 0x10
        clip.write_bytes(data)
        kind, message = refusal(clip)
        assert kind == "decode_error"
        assert "frames" in message
        assert {refusal(clip) for _ in range(3)} == {(kind, message)}

    @settings(max_examples=200)
    @given(name=st.sampled_from(WHOLE), data=st.data())
    def test_whatever_the_bytes_are_it_is_frames_or_a_decode_error(
        self, name: str, data: st.DataObject, whole_clips: Path
    ) -> None:
        damaged = bytearray((whole_clips / name).read_bytes())
        places = st.integers(0, len(damaged) - 1)
        for place, byte in data.draw(st.dictionaries(places, st.integers(0, 255))).items():
            damaged[place] = byte
        path = whole_clips / f"damaged_{name}"
        path.write_bytes(damaged)
        try:
            (frames,), (flags, facts) = read_clip(path, [FrameRequest(eight)])
            assert isinstance(frames, Frames)
            outcome = frames.pixels.shape
            assert set(flags) <= FLAGS.keys()
            json.dumps(facts, allow_nan=False)
        except DecodeError as error:
            outcome = error.kind
        assert outcome in {(8, 224, 224, 3), "decode_error", "no_video"}


class TestManyAtOnce:
    def test_the_same_bytes_in_whichever_thread(self, make_clip: MakeClip) -> None:
        clips = [
            make_clip(f"{i}.mp4", 20 + i, codec, steps=(4, 2))
            for i, codec in enumerate(["mpeg4", "libx264"] * 4)
        ]
        alone = [read_frames(clip, eight) for clip in clips]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda clip: read_frames(clip, eight), clips * 4))
        for frames, expected in zip(together, alone * 4, strict=True):
            np.testing.assert_array_equal(frames.pixels, expected.pixels)
            assert frames[1:] == expected[1:]

    def test_nothing_is_printed_about_broken_clips(
        self, make_clip: MakeClip, capfd: pytest.CaptureFixture[str]
    ) -> None:
        clip = make_clip("x.mp4", 60, "libx264")
        capfd.readouterr()
        data = clip.read_bytes()
        for broken in (data[:-500], data[: len(data) // 2] + bytes(len(data) - len(data) // 2)):
            clip.write_bytes(broken)
            refusal(clip)
        assert capfd.readouterr() == ("", "")


class TestDecord:
    """decord made AffectGPT's features. Where it returns the right frame, the pixels are the same."""

    @pytest.fixture(scope="class")
    @staticmethod
    def decord() -> object:
        return pytest.importorskip("decord", exc_type=ImportError)

    @pytest.mark.parametrize("size", [(224, 224), (90, 301), None])
    @pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
    def test_pixels_are_decords_bit_for_bit(
        self,
        make_clip: MakeClip,
        decord: object,
        size: tuple[int, int] | None,
        matrix: tuple[int, int, int, int],
    ) -> None:
        clip = make_clip("x.mp4", 30, "libx264")
        set_display_matrix(clip, *matrix)
        height, width = size or (-1, -1)
        reader = decord.VideoReader(str(clip), width=width, height=height)  # type: ignore[attr-defined]
        theirs = reader.get_batch(eight(len(reader))).asnumpy()
        np.testing.assert_array_equal(read_frames(clip, eight, size).pixels, theirs)

    @pytest.mark.parametrize(
        ("name", "codec", "options"),
        [
            ("refresh.mp4", "libx264", {"x264-params": "keyint=20:intra-refresh=1"}),
            ("h264.avi", "libx264", {"x264-params": "keyint=12:bframes=0"}),
            ("b_frames.mp4", "mpeg4", {"bf": "2", "g": "12"}),
            ("open_gop.mp4", "libx265", {"x265-params": "keyint=12:log-level=none"}),
        ],
    )
    def test_why_decord_does_not_read_the_clips(
        self, make_clip: MakeClip, decord: object, name: str, codec: str, options: dict[str, str]
    ) -> None:
        """On these healthy clips it counts right, raises nothing, and returns other frames."""
        clip = make_clip(name, 75, codec, options)
        reader = decord.VideoReader(str(clip), width=224, height=224)  # type: ignore[attr-defined]
        theirs = reader.get_batch(eight(75)).asnumpy()
        ours = read_frames(clip, eight)
        assert len(reader) == ours.n_frames == 75
        assert shown(ours) == eight(75)
        assert not np.array_equal(theirs, ours.pixels)


def test_time_runs_as_the_clip_was_made(make_clip: MakeClip) -> None:
    """The helper's own check: the clips made here do have the uneven times that they claim."""
    import av

    with av.open(make_clip("x.mkv", 6, "ffv1", steps=(1, 9))) as clip:
        times = [Fraction(frame.pts) * frame.time_base for frame in clip.decode(video=0)]
    steps = [round(100 * (later - earlier)) for earlier, later in pairwise(times)]
    assert steps == [1, 9, 1, 9, 1]


@pytest.mark.parametrize("steps", [(4,), (4, 9)])
def test_a_clip_is_played_frame_by_frame(make_clip: MakeClip, steps: tuple[int]) -> None:
    path = make_clip("a.mp4", 20, steps=steps)
    played = play_clip(path)
    whole = read_clip(path, [FrameRequest(range, None)])
    (frames,) = whole.frames
    assert isinstance(frames, Frames)
    pairs = zip(played.pictures, frames.pixels, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert played.quality == whole.quality
    assert played.times is not None
    gaps = [later - earlier for earlier, later in pairwise([*played.times])]
    assert played.times[0] == 0
    assert gaps == [Fraction(steps[n % len(steps)], 100) for n in range(19)]


def test_a_broken_clip_is_refused_before_it_is_played(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", 20)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DecodeError):
        play_clip(path)

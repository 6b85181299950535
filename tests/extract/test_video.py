"""Reading frames, on clips made here: every frame shows its number, so that none can be mistaken."""

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merstore.errors import DecodeError
from merstore.extract.sampling import uniform
from merstore.extract.video import Frames, read_frames

from .conftest import HEIGHT, WIDTH, draw, number_shown, write_clip

MakeClip = Callable[..., Path]


def every(n_frames: int) -> list[int]:
    return list(range(n_frames))


def eight(n_frames: int) -> list[int]:
    return uniform(n_frames, 8)


def shown(frames: Frames) -> list[int]:
    return [number_shown(image) for image in frames.pixels]


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
        assert frames.decoder == "pyav"

    def test_the_rule_chooses(self, make_clip: MakeClip) -> None:
        frames = read_frames(make_clip("x.mp4", 100), eight)
        assert frames.indices == shown(frames) == [0, 12, 25, 37, 50, 62, 75, 87]
        assert frames.notes == ()

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
        assert frames.notes == ("2 video streams: 160x120 (stream 1) is read",)

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

    def test_what_decodes_counts_and_the_header_only_makes_a_note(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        """A clip cut between two key frames: the frames before the first key frame are not there."""
        options = {"x264-params": "keyint=12:scenecut=0:bframes=0"}
        whole = make_clip("whole.mp4", 48, "libx264", options)
        cut = remux(whole, tmp_path / "cut.mp4", first=5)
        frames = read_frames(cut, every)
        assert shown(frames) == list(range(12, 48))
        assert frames.n_frames == 36
        assert "the header says 43 frames, 36 decode" in frames.notes
        assert read_frames(cut, eight).indices == uniform(36, 8)

    @pytest.mark.parametrize("chosen", [[], [-1], [30], [0, 31]])
    def test_a_rule_that_chooses_what_is_not_there_is_an_error(
        self, make_clip: MakeClip, chosen: list[int]
    ) -> None:
        with pytest.raises(ValueError, match="of 30 frames"):
            read_frames(make_clip("x.mp4", 30), lambda _: chosen)


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
            outcome = read_frames(path, eight).pixels.shape
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

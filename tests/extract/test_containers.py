import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.extract.containers import declared_size, movie_seconds


def holding(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv", "x.webm", "x.avi"])
def test_a_whole_clip_declares_its_own_size(make_clip: Callable[..., Path], name: str) -> None:
    clip = make_clip(name, 10, "libvpx" if name == "x.webm" else "mpeg4")
    size = clip.stat().st_size
    assert declared_size(clip) == size
    clip.write_bytes(clip.read_bytes()[: size // 2])
    assert declared_size(clip) == size


@pytest.mark.parametrize("name", ["x.ts", "x.flv", "x.mpg"])
def test_a_stream_declares_none(make_clip: Callable[..., Path], name: str) -> None:
    codec = {"x.ts": "mpeg2video", "x.flv": "flv1", "x.mpg": "mpeg2video"}[name]
    assert declared_size(make_clip(name, 10, codec)) is None


def test_a_box_of_more_than_four_gigabytes(tmp_path: Path) -> None:
    ftyp = b"\0\0\0\x08ftyp"
    mdat = b"\0\0\0\x01mdat" + (1 << 33).to_bytes(8) + b"some of it"
    assert declared_size(holding(tmp_path / "x", ftyp + mdat)) == 8 + (1 << 33)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (b"\0\0\0\x08ftyp\0\0\0\0mdat up to the end", 8),
        (b"\0\0\0\x08ftyp\x7f\xff\xff\xffno box", 8),
        (b"\0\0\0\x08ftyp\0\0\0\x04mdat", 8),
        (b"\x1aE\xdf\xa3\x80\x18S\x80g\x8a", 4 + 1 + 4 + 1 + 10),
        (b"\x1aE\xdf\xa3\x81.\x18S\x80g\x40\x81", 4 + 2 + 4 + 2 + 129),
        (b"\x1aE\xdf\xa3\x80\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff", None),  # a live stream
        (b"\x1aE\xdf\xa3\x80\x18S\x80g\xff", None),
        (b"\x1aE\xdf\xa3\x80something else", None),
        (b"\x1aE\xdf\xa3", None),
        (b"RIFF\x10\0\0\0AVI ", 24),
        (b"RIFF\x10\0\0\0WAVE", None),
        (b"", None),
    ],
)
def test_headers(tmp_path: Path, content: bytes, size: int | None) -> None:
    assert declared_size(holding(tmp_path / "x", content)) == size


STARTS = [b"", b"\x1aE\xdf\xa3", b"RIFF", b"\0\0\0\x08ftyp", b"\0\0\0\x01mdat"]


@given(start=st.sampled_from(STARTS), rest=st.binary())
def test_any_bytes_give_a_size_or_none(
    start: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    size = declared_size(holding(tmp_path_factory.getbasetemp() / "x", start + rest))
    assert size is None or size >= 0


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I", 8 + len(joined)) + kind + joined


def times(kind: bytes, number: int, duration: int, wide: bool = False) -> bytes:
    """A header (ISO/IEC 14496-12, 8.2.2, 8.3.2, 8.4.2) with its time scale, or track id."""
    reserved = bytes(4) if kind == b"tkhd" else b""
    start = b"\1\0\0\0" + bytes(16) if wide else bytes(12)
    length = struct.pack(">Q" if wide else ">I", duration)
    return box(kind, start, struct.pack(">I", number), reserved, length, bytes(60))


def track(number: int, duration: int, media: bytes = b"") -> bytes:
    return box(b"trak", times(b"tkhd", number, duration), media)


def media(scale: int, duration: int, *samples: tuple[int, int]) -> bytes:
    entries = [struct.pack(">II", *entry) for entry in samples]
    table = box(b"stts", bytes(4), struct.pack(">I", len(samples)), *entries)
    return box(b"mdia", times(b"mdhd", scale, duration), box(b"minf", box(b"stbl", table)))


OPEN = 0xFFFFFFFF


class TestMovieSeconds:
    @pytest.mark.parametrize(
        ("boxes", "seconds"),
        [
            ([times(b"mvhd", 1000, 3000), track(1, 3000)], [3, 3]),
            ([times(b"mvhd", 1000, 3000, wide=True), track(1, 2999)], ["2.999", 3]),
            ([times(b"mvhd", 600, 600 * 1980), track(1, 1800)], [3, 1980]),
            ([times(b"mvhd", 600, 1800), track(1, 600 * 1980)], [1980, 3]),
            ([times(b"mvhd", 1000, 1 << 40, wide=True), track(1, 3000)], [3, "1099511627.776"]),
            # Another track is as long as the movie, or is not.
            ([times(b"mvhd", 10, 90), track(1, 30), track(2, 90)], [3]),
            ([times(b"mvhd", 10, 90), track(2, 91), track(1, 30)], [3]),
            ([times(b"mvhd", 10, 90), track(1, 30), track(2, 60)], [3, 9]),
            ([times(b"mvhd", 10, 90), track(2, 90)], []),
            # The samples add up to the media's duration, or do not, or are not listed here.
            ([times(b"mvhd", 10, 30), track(1, 30, media(25, 75, (75, 1)))], [3, 3]),
            ([times(b"mvhd", 10, 30), track(1, 30, media(25, 250, (240, 1), (1, 10)))], [3, 3]),
            ([times(b"mvhd", 10, 30), track(1, 30, media(25, 750, (75, 1)))], [3, 30, 3]),
            ([times(b"mvhd", 10, 30), track(1, 30, media(25, 750))], [3, 3]),
            ([times(b"mvhd", 10, 30), track(1, 30, media(0, 750, (75, 1)))], [3, 3]),
            # Left open.
            ([times(b"mvhd", 1000, 0), track(1, 0)], []),
            ([times(b"mvhd", 1000, OPEN), track(1, OPEN, media(25, OPEN, (75, 1)))], []),
            ([times(b"mvhd", 1000, (1 << 64) - 1, wide=True), track(1, 3000)], [3]),
            ([], []),
        ],
    )
    def test_headers(self, tmp_path: Path, boxes: list[bytes], seconds: list[int | str]) -> None:
        content = box(b"ftyp") + box(b"mdat", bytes(100)) + box(b"moov", *boxes)
        path = holding(tmp_path / "x", content)
        assert declared_size(path) == len(content)
        assert movie_seconds(path, 1) == [Fraction(each) for each in seconds]

    @pytest.mark.parametrize(("name", "codec"), [("x.mp4", "mpeg4"), ("x.mov", "libx264")])
    def test_of_a_clip(self, make_clip: Callable[..., Path], name: str, codec: str) -> None:
        assert movie_seconds(make_clip(name, 50, codec), 1) == [2, 2]
        assert movie_seconds(make_clip(name, 50, codec), 2) == []

    @pytest.mark.parametrize("name", ["x.mkv", "x.avi", "x.ts"])
    def test_other_containers_have_none(self, make_clip: Callable[..., Path], name: str) -> None:
        codec = "mpeg2video" if name == "x.ts" else "mpeg4"
        assert movie_seconds(make_clip(name, 10, codec), 1) == []

    @given(data=st.data(), size=st.integers(0, 400))
    def test_any_bytes_give_durations(
        self, data: st.DataObject, size: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        parts = times(b"mvhd", 10, 30), track(1, 30, media(25, 750, (75, 1)))
        content = bytearray(box(b"moov", *parts))[:size]
        places = st.integers(0, max(0, len(content) - 1))
        if content:
            for place, byte in data.draw(st.dictionaries(places, st.integers(0, 255))).items():
                content[place] = byte
        seconds = movie_seconds(holding(tmp_path_factory.getbasetemp() / "x", bytes(content)), 1)
        assert all(each > 0 for each in seconds)

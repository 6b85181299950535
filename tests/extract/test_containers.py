from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.extract.containers import declared_size


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

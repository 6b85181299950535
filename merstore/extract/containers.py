"""How long a media file says it is, in bytes and in seconds, in its own words.

Bytes are the exact way to see that a file was cut short: decoders play what there is of half a
file, and where the cut falls between two pictures nothing in what they return differs from a
shorter clip. Seconds are read here because FFmpeg puts right, without a word, what an MP4
announces; other programs believe it.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

# The boxes at the top level of an MP4 or QuickTime file (ISO/IEC 14496-12; QuickTime File Format).
_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"mdat", b"sidx", b"ssix", b"meta", b"udta"}
_BOXES |= {b"free", b"skip", b"wide", b"pnot", b"uuid", b"emsg", b"prft"}


def declared_size(path: Path) -> int | None:
    """Bytes that the file must have by its own account; None where its container does not say.

    Known are MP4 and QuickTime (sizes of the top-level boxes), Matroska and WebM (size of the
    segment) and AVI (size of the RIFF chunk). MPEG-TS, FLV and what was recorded as a live stream
    state none.

    Raises OSError.
    """
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"\x1aE\xdf\xa3":
            return _matroska(file)
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            return 8 + int.from_bytes(start[4:8], "little")
        return max((end for _, _, end in _boxes(file)), default=None)


def movie_seconds(path: Path, track: int) -> list[Fraction]:
    """What the header of an MP4 or QuickTime file announces for the track of that id, in seconds.

    That is the track's own duration (tkhd); the movie's (mvhd), unless another track is that long;
    the media's (mdhd), which also counts what an edit list leaves out, unless the samples add up to
    it. Nothing for other files and where the header leaves it open, as in fragmented files.

    Raises OSError.
    """
    with path.open("rb") as file:
        movie = _movie(file)
    scale, whole = _times(_find(movie, b"mvhd"))
    ids, lengths, announced = [], [], []
    for kind, trak in _children(movie):
        if kind == b"trak":
            number, length = _times(_find(trak, b"tkhd"), gap=4)
            ids.append(number)
            lengths.append(length)
            if number == track:
                announced += [Fraction(length, scale or 1), _unexplained_media(trak)]
    others = [length for number, length in zip(ids, lengths, strict=True) if number != track]
    if track in ids and not any(_near(whole, length) for length in others):
        announced.append(Fraction(whole, scale or 1))
    return [seconds for seconds in announced if seconds]


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The boxes at the top level: their kind, where their content starts and where they end."""
    end, file_size = 0, file.seek(0, 2)
    while end < file_size:
        file.seek(end)
        head = file.read(16)
        size, kind, start = int.from_bytes(head[:4]), head[4:8], end + 8
        if size == 1:
            size, start = int.from_bytes(head[8:]), end + 16
        if kind not in _BOXES or size < 8:  # something else, or a box that goes on to the end
            return
        end += size
        yield kind, start, end


def _movie(file: BinaryIO) -> bytes:
    """The content of the box that describes the tracks; empty where there is none."""
    for kind, start, end in _boxes(file):
        if kind == b"moov":
            file.seek(start)
            return file.read(max(0, end - start))
    return b""


def _children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that a box is made of: kind and content."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4])
        if size < 8:
            return
        yield content[at + 4 : at + 8], content[at + 8 : at + size]
        at += size


def _find(content: bytes, *kinds: bytes) -> bytes:
    """The content of a box within boxes; empty where there is none."""
    for kind in kinds:
        content = dict(_children(content)).get(kind, b"")
    return content


def _times(box: bytes, gap: int = 0) -> tuple[int, int]:
    """The number before a header's duration (time scale or track id), and the duration: 0 if open.

    `gap`: the bytes between them. Version 1 of these boxes has 8 bytes where version 0 has 4.
    """
    wide = 8 if box[:1] == b"\1" else 4
    at = 4 + 2 * wide  # version and flags, time of creation, time of the last change
    end = at + 4 + gap
    length = box[end : end + wide]
    known = len(length) == wide and length != b"\xff" * wide
    return int.from_bytes(box[at : at + 4]), int.from_bytes(length) if known else 0


def _unexplained_media(trak: bytes) -> Fraction:
    """The duration of a track's media in seconds; 0 where its samples add up to that."""
    scale, length = _times(_find(trak, b"mdia", b"mdhd"))
    table = _find(trak, b"mdia", b"minf", b"stbl", b"stts")[8:]
    steps = struct.iter_unpack(">II", table[: len(table) // 8 * 8])
    samples = sum(count * step for count, step in steps)
    explained = not samples or _near(length, samples)
    return Fraction(0) if explained or not scale else Fraction(length, scale)


def _near(one: int, other: int) -> bool:
    return 10 * abs(one - other) <= max(one, other)


def _matroska(file: BinaryIO) -> int | None:
    file.seek(4)
    header = _element_size(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != b"\x18S\x80g":
        return None
    segment = _element_size(file)
    return None if segment is None else file.tell() + segment


def _element_size(file: BinaryIO) -> int | None:
    """An EBML size (RFC 8794): the first byte's leading zeros count the bytes that follow it."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    marker = 1 << 7 * length
    value = int.from_bytes(first + rest) - marker
    return None if len(rest) < length - 1 or value == marker - 1 else value  # all ones: unknown

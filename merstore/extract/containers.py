"""How long a media file says it is: the exact way to see that it was cut short.

Decoders play what there is of half a file, and where the cut falls between two pictures nothing
in what they return differs from a shorter clip. The containers below state their own length.
"""

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
        return _boxes(file)


def _boxes(file: BinaryIO) -> int | None:
    end, file_size = 0, file.seek(0, 2)
    while end < file_size:
        file.seek(end)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4]), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:])
        if kind not in _BOXES or size < 8:  # something else, or a box that goes on to the end
            break
        end += size
    return end or None


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

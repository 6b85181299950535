"""What the readers of every medium ask of a file before they decode it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from merstore.errors import DecodeError
from merstore.extract.containers import declared_size

if TYPE_CHECKING:
    from av.container import InputContainer

# FFmpeg's formats that are text: drawn as a film, or a list of other files.
_TEXT = {"tty", "bin", "adf", "idf", "xbin", "concat", "hls", "dash"}


def check_file(path: Path) -> None:
    """Refuses what needs no decoder to be refused.

    Raises DecodeError with the kind ``missing_file``, or ``decode_error`` for a file that cannot be
    read, is empty, a git-lfs pointer, or shorter than its container announces.
    """
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


def open_media(path: Path) -> "InputContainer":
    """Opens as a local file and nothing else: no other protocol, no other file that it may name.

    Raises DecodeError with the kind ``decode_error`` for what is no media file.
    """
    import av
    from av.error import FFmpegError

    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="ignore")
    except (FFmpegError, OSError) as error:
        reason = f"cannot be read as a media file: {error.strerror}"
        raise DecodeError(path, "decode_error", reason) from error
    if container.format.name in _TEXT:
        container.close()
        raise DecodeError(path, "decode_error", "is text, not a media file")
    return container


def content_digest(path: Path) -> str:
    """XXH3-128 of the file's bytes, in hex: files that share it are duplicates.

    Raises DecodeError with the kind ``decode_error`` where it cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DecodeError(path, "decode_error", f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()

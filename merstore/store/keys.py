"""The key: ``dataset/modality[@encoder]/sampling/sample``. Its rules are part of the on-disk
format.
"""

import re
import unicodedata
from typing import NamedTuple

from merstore.errors import InvalidKey

MAX_BYTES = 400

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")
# What most names are made of: for these nothing else needs to be looked at.
_PLAIN = re.compile(r"[A-Za-z0-9._+ -]{1,400}\Z")


class ViewPath(NamedTuple):
    """The parts of a view's path. ``encoder`` is None where the modality stands alone."""

    dataset: str
    modality: str
    encoder: str | None
    sampling: str

    def __str__(self) -> str:
        encoder = f"@{self.encoder}" if self.encoder else ""
        return f"{self.dataset}/{self.modality}{encoder}/{self.sampling}"


def parse_view(path: str) -> ViewPath:
    """Take a view's path apart.

    Raises InvalidKey where it is not ``dataset/modality[@encoder]/sampling`` with segments of
    letters, digits and ``._+-``, each beginning with a letter or digit.
    """
    parts = path.split("/") if isinstance(path, str) else []
    if len(parts) == 3:
        modality, at, encoder = parts[1].partition("@")
        segments = [parts[0], modality, parts[2], *([encoder] if at else [])]
        if all(_SEGMENT.match(segment) for segment in segments) and len(path) <= MAX_BYTES:
            return ViewPath(parts[0], modality, encoder if at else None, parts[2])
    raise InvalidKey(
        f"{path!r} is no view path: write dataset/modality[@encoder]/sampling, for example "
        "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms (letters, digits and . _ + -, at most 400 bytes)"
    )


def check_alias(alias: str) -> None:
    """Raise InvalidKey where a view's alias is not text that a folder could be called by."""
    try:
        good = isinstance(alias, str) and bool(alias) and len(alias.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        good = False
    if not good:
        raise InvalidKey(f"alias {alias!r}: a folder's name in Unicode, at most {MAX_BYTES} bytes")


def sample_key(name: str) -> bytes:
    """A sample's name as the bytes that are stored.

    Raises InvalidKey for an empty name, one of more than 400 bytes of UTF-8, one with ``/`` or a
    control character, and for text that is not Unicode (lone surrogates from undecodable file
    names).
    """
    if not isinstance(name, str):
        raise InvalidKey(f"a sample's name is text, not {type(name).__name__}: {name!r}")
    if _PLAIN.match(name):
        return name.encode()
    try:
        key = name.encode()
    except UnicodeEncodeError:
        raise InvalidKey(
            f"sample {name!r} is not valid Unicode: rename the file it comes from"
        ) from None
    if not key:
        raise InvalidKey("a sample's name is empty")
    if len(key) > MAX_BYTES:
        raise InvalidKey(
            f"sample {name[:40]!r}... is {len(key)} bytes long: at most {MAX_BYTES} are allowed"
        )
    if "/" in name:
        raise InvalidKey(
            f"sample {name!r} contains '/': the last part of a path is the sample's name"
        )
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidKey(f"sample {name!r} contains a control character")
    return key

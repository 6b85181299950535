"""The folder of noise files, and which of them a sample gets."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from merstore.errors import DecodeError, MerstoreError
from merstore.extract.clips import AUDIO
from merstore.extract.files import content_digest
from merstore.extract.sound import read_sound
from merstore.noise.mixing import Samples
from merstore.noise.sound import integers, source_of


def draw(seed: int, name: str, what: str, count: int) -> int:
    """A number from 0 to count - 1 that follows from the arguments and nothing else: SHA-256 of their
    JSON, modulo `count`. So neither order nor number of processes, nor any library's version matters.
    """
    told = json.dumps([seed, name, what]).encode()
    return int.from_bytes(hashlib.sha256(told).digest()) % count


@dataclass(frozen=True)
class Noises:
    """Noise files: their names below `folder`, in byte order, and the XXH3-128 of each."""

    folder: Path
    files: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, folder: Path) -> "Noises":
        """All sound files in `folder` and below it that are not hidden.

        Raises MerstoreError where there are none or one cannot be read.
        """
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "no such folder"
            raise MerstoreError(f"{folder}: {what}; name the folder that holds the noise")
        found = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.suffix.lower() in AUDIO and path.is_file()
        }
        names = [name for name in found if not any(p.startswith(".") for p in name.split("/"))]
        if not names:
            known = ", ".join(suffix.removeprefix(".") for suffix in AUDIO)
            raise MerstoreError(f"{folder}: no noise in it; put sound files there ({known})")
        names.sort(key=lambda name: name.encode(errors="surrogateescape"))
        try:
            return cls(folder, tuple((name, content_digest(found[name])) for name in names))
        except DecodeError as error:
            raise MerstoreError(f"the noise {error}") from error

    def spec(self) -> dict[str, object]:
        """What decides about the noise, as JSON: names and contents, not where the folder is."""
        digest = xxhash.xxh3_128_hexdigest(json.dumps(self.files).encode())
        return {"files": len(self.files), "content": digest}

    def cut(self, seed: int, name: str, length: int) -> "Cut":
        """As much noise as a sample of this name and length needs: files drawn with replacement, one
        after another until they are longer than that, from a random start.

        Raises DecodeError with the kind ``bad_noise`` for a file that cannot be read, ``silent_noise``
        where that stretch is silent.
        """
        files: list[tuple[str, str]] = []
        parts: list[Samples] = []
        total = 0
        while total <= length:
            file, content = self.files[draw(seed, name, f"noise {len(files)}", len(self.files))]
            files.append((file, content))
            try:
                parts.append(_noise(self.folder / file, content))
            except DecodeError as error:
                reason = f"noise that cannot be read: {error}"
                raise DecodeError(name, "bad_noise", reason) from error
            total += len(parts[-1])
        start = draw(seed, name, "start", total - length + 1)
        samples = np.concatenate(parts)[start : start + length]
        if not samples.any():
            told = " + ".join(file for file, _ in files)
            reason = f"the noise drawn is silent: {told} from sample {start}; try another seed"
            raise DecodeError(name, "silent_noise", reason)
        return Cut(samples, files, start)


@dataclass(frozen=True)
class Cut:
    """``samples``: int16 [T], from ``start`` on of ``files`` (name, digest), one after another."""

    samples: Samples
    files: list[tuple[str, str]]
    start: int


@lru_cache(maxsize=8)
def _noise(path: Path, content: str) -> Samples:
    sound = read_sound(path, source_of(path))
    if sound.quality.facts["content"] != content:
        reason = "has changed since the run began: start it again"
        raise DecodeError(path, "decode_error", reason)
    return integers(sound)

"""Making one noisy copy: what is drawn for a sample, and the file that becomes of it."""

import errno
import os
import wave
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import xxhash

from merstore.errors import DecodeError, MerstoreError
from merstore.extract import sound, video
from merstore.extract.files import content_digest
from merstore.noise import blur
from merstore.noise.mixing import RATE, Samples, mix
from merstore.noise.noises import Noises, draw
from merstore.noise.sound import SOURCE, integers, source_of

if TYPE_CHECKING:
    from merstore.extract.reading import Reading

VERSION = 1  # of what a noisy copy is: to be raised with any change that alters files

_SUFFIX = {"audio": ".wav", "video": ".mp4"}

# Which are the fault of the disk that is written to, and not of the sample.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@dataclass(frozen=True)
class Settings:
    """What is asked for. ``what``: ``"audio"`` makes WAV files of the sound alone, ``"video"`` clips.

    ``snrs`` in dB and, for video, ``blurs``: of each one is drawn for a sample, all alike likely.
    What is drawn follows from ``seed`` and the sample's name only. Raises MerstoreError.
    """

    what: Literal["audio", "video"]
    noises: Noises
    snrs: tuple[float, ...]
    blurs: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.snrs or not all(abs(snr) <= 200 for snr in self.snrs):
            raise MerstoreError(f"SNRs {list(self.snrs)}: give at least one, of -200 to 200 dB")
        if bool(self.blurs) != (self.what == "video") or set(self.blurs) - set(blur.RATES):
            raise MerstoreError(f"blurs {list(self.blurs)}: some of 1, 2, 4 for video, else none")

    def spec(self) -> dict[str, Any]:
        """All that decides about the copies, beside the clips, as JSON."""
        told: dict[str, Any] = {
            "kind": "noise",
            "version": VERSION,
            "encoding": "JSON, UTF-8",
            "what": self.what,
            "seed": self.seed,
            "snr": list(self.snrs),
            "noise": self.noises.spec(),
            "sound": {"version": sound.VERSION, "source": SOURCE},
        }
        if self.what == "video":
            told |= {"blur": list(self.blurs), "video": {"version": video.VERSION}}
        return told

    def snr(self, name: str) -> float:
        return self.snrs[draw(self.seed, name, "snr", len(self.snrs))]

    def blur(self, name: str) -> int:
        return self.blurs[draw(self.seed, name, "blur", len(self.blurs))]

    def file(self, name: str) -> str:
        """What a sample's copy is called."""
        return name + _SUFFIX[self.what]


class Unwritable(NamedTuple):
    """The copy cannot be written, nor could another: why."""

    message: str


@dataclass(frozen=True)
class Copier:
    """Makes copies into `folder`, in a reading process: `prepare` is called there as a recipe's is."""

    settings: Settings
    folder: Path

    def request(self, reading: "Reading") -> None:
        """None: it takes no frames from a reading, but all that the clip has, one at a time."""

    def prepare(self, reading: "Reading") -> dict[str, Any] | Unwritable:
        """Writes a sample's copy, whole or not at all; its recipe. Raises DecodeError."""
        settings, name = self.settings, reading.material.name
        read = reading.sound(source_of(reading.material.file("audio")))
        clean = integers(read)
        if not clean.any():
            reason = "its sound is silent: there is no signal-to-noise ratio"
            raise DecodeError(name, "silent", reason)
        noise = settings.noises.cut(settings.seed, name, len(clean))
        snr = settings.snr(name)
        mixed = mix(clean, noise.samples, snr)
        recipe: dict[str, Any] = {
            "clean": {
                "file": reading.material.file("audio").name,
                "content": read.quality.facts["content"],
                "samples": len(clean),
            },
            "snr": snr,
            "noise": [{"file": file, "content": content} for file, content in noise.files],
            "start": noise.start,
            "gain": mixed.gain,
            "scale": mixed.scale,
            "seed": settings.seed,
        }
        if settings.what == "audio":
            facts: dict[str, Any] = {}
            done = self._write(name, lambda path: write_wav(path, mixed.samples))
        else:
            from merstore.noise.film import write_film

            rate = settings.blur(name)
            source = reading.material.file("video")
            facts = {"blur": rate}
            done = self._write(
                name, lambda path: facts.update(write_film(path, source, mixed.samples, rate))
            )
        return done or recipe | facts | {"output": self._output(name)}

    def _output(self, name: str) -> dict[str, Any]:
        file = self.settings.file(name)
        return {"file": file, "content": content_digest(self.folder / file)}

    def _write(self, name: str, write: Callable[[Path], None]) -> Unwritable | None:
        final = self.folder / self.settings.file(name)
        part = self.folder / f".{xxhash.xxh3_64_hexdigest(name.encode())}{PART}"
        try:
            write(part)
            part.replace(final)
        except OSError as error:
            if error.errno in _UNWRITABLE:
                return Unwritable(f"{final} cannot be written: {error.strerror}")
            raise
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return None


PART = ".noise-part"
"""How a file ends, hidden, that is being written."""


def write_wav(path: Path, samples: Samples) -> None:
    """16 bits, mono, 16 kHz: a header of 44 bytes, and the samples."""
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def is_whole(recipe: Mapping[str, Any], clip: "str | os.PathLike[str]", folder: Path) -> bool:
    """Whether a copy is there as its recipe says, and its clip is still the one it was made of."""
    try:
        output, clean = recipe["output"], recipe["clean"]
        pairs = (folder / output["file"], output), (Path(clip), clean)
        return all(content_digest(path) == known["content"] for path, known in pairs)
    except (DecodeError, KeyError, TypeError):
        return False

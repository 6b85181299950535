"""Recipes without models, to fill views with. A module, so that reading processes can import it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merstore.errors import DecodeError, EncoderError
from merstore.extract.reading import Reading
from merstore.quality import Quality
from merstore.store.store import Store

SAMPLES = 40


def write_clips(folder: Path, count: int = SAMPLES) -> dict[str, Path]:
    """Clips for `Bytes`: the n-th is eight times n + 1."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"clip_{i:03d}": folder / f"clip_{i:03d}.bin" for i in range(count)}
    for i, path in enumerate(files.values()):
        path.write_bytes(bytes([i + 1] * 8))
    return files


def content(store: Store) -> dict[str, dict[str, Any]]:
    """All that a store holds: bytes of entries and kinds of failures, by view and sample."""
    held: dict[str, dict[str, Any]] = {}
    for path in store.views():
        view = store[path]
        held[path] = {name: (view[name].shape, view[name].tobytes()) for name in view}
        held[path] |= {failure.name: failure.kind for failure in view.failures()}
    return held


class Bytes:
    """A clip's eight bytes as a vector. Its log shows what was really computed, across processes.

    A clip of 255s is refused by the encoder, one of 254s gives NaN, one of 253s ends the process
    that reads it, one of 252s never ends.
    """

    modality = "frame"
    encoder_name = "bytes"
    dtype = "float32"
    shape = (8,)
    reads = "video"

    def __init__(self, log: Path, version: int = 1, sampling: str = "all") -> None:
        self.log = log
        self.version = version
        self.sampling = sampling

    @property
    def spec(self) -> dict[str, Any]:
        return {"what": "bytes", "version": self.version}

    def request(self, reading: Reading) -> None:
        return None

    def prepare(self, reading: Reading) -> np.ndarray:
        path = reading.material.file("video")
        if not path.exists():
            raise DecodeError(path, "missing_file", "no such file")
        data = path.read_bytes()
        if not data:
            raise DecodeError(path, "decode_error", "is empty")
        if data[0] == 253:
            os._exit(9)
        if data[0] == 252:
            time.sleep(600)
        self._note("read", [data])
        flags = ("silent",) if data[0] % 2 else ()
        reading.quality["video"] = Quality(flags, {"content": data.hex()})
        return np.frombuffer(data, np.uint8)

    def size(self, prepared: np.ndarray) -> int:
        return len(prepared)

    def encode(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if any(clip[0] == 255 for clip in batch):
            raise EncoderError("cannot encode 255")
        self._note("computed", [clip.tobytes() for clip in batch])
        features = [clip.astype(np.float32) for clip in batch]
        for clip in features:
            if clip[0] == 254:
                clip[0] = np.nan
        return features

    def computed(self) -> list[str]:
        return self._noted("computed")

    def read(self) -> list[str]:
        return self._noted("read")

    def _note(self, what: str, clips: Sequence[bytes]) -> None:
        with self.log.open("a") as log:  # one write: whole lines, also from several processes
            log.write("".join(f"{self.sampling} {what} {clip.hex()}\n" for clip in clips))

    def _noted(self, what: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        head = f"{self.sampling} {what} "
        return [line.removeprefix(head) for line in lines if line.startswith(head)]


class Ragged(Bytes):
    """As many rows as the clip's first byte says."""

    shape = (None, 2)  # type: ignore[assignment]
    modality = "audio"

    def encode(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.full((int(clip[0]), 2), clip[0], np.float32) for clip in batch]


class Large(Bytes):
    """Half a megabyte of each clip."""

    shape = (1 << 17,)

    def encode(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.full(1 << 17, clip[0], np.float32) for clip in batch]

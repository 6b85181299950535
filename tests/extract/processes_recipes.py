"""Recipes that do to a reading process whatever a decoder may do to it."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from merstore.errors import DecodeError
from merstore.extract.material import Material
from merstore.extract.reading import Reading, Refusal
from merstore.quality import Quality

FOREVER = 3600


@dataclass(frozen=True)
class Plain:
    """Prepares pixels that follow from the sample's name."""

    side: int = 8
    modality: str = "frame"
    dtype: str = "uint8"
    reads: str = "text"
    encoder_name: str = "test"
    sampling: str = "UTT"
    shape: tuple[int | None, ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        return {}

    def request(self, reading: Reading) -> None:
        return None

    def prepare(self, reading: Reading) -> Any:
        seed = sum(reading.material.name.encode())
        pixels = np.random.default_rng(seed).integers(
            0, 256, (8, self.side, self.side, 3), np.uint8
        )
        reading.quality["text"] = Quality((), {"seed": seed})
        return {"pixels": pixels, "n": seed}

    def size(self, prepared: Any) -> int:
        return 8

    def encode(self, batch: Sequence[Any]) -> list[np.ndarray]:
        return [one["pixels"] for one in batch]


class Odd(Plain):
    """Arrays of every sort, some of which go through the pipe in a way of their own."""

    def prepare(self, reading: Reading) -> Any:
        grid = np.arange(60_000, dtype=np.float32).reshape(3, 200, 100)
        return [
            grid,
            grid[:, ::2],
            np.asfortranarray(grid),
            np.zeros((0, 4), np.int16),
            np.array(7.5),
            np.array(["a", "bcd"]),
            [np.full(n % 3, n, ">i2") for n in range(1500)],
            ("text", b"bytes" * 2000, None),
        ]


class Misbehaving(Plain):
    """Does what the sample's transcript says, and otherwise what Plain does."""

    def prepare(self, reading: Reading) -> Any:
        do = getattr(self, f"do_{reading.material.text}", None)
        return do(reading) if do else super().prepare(reading)

    def do_hang(self, reading: Reading) -> NoReturn:
        while True:
            time.sleep(FOREVER)

    def do_hang_with_the_lock(self, reading: Reading) -> None:
        """As a decoder that loops and lets no other thread of Python run."""
        ctypes.PyDLL(None).sleep(FOREVER)

    def do_segfault(self, reading: Reading) -> None:
        print("[h264 @ 0x55] top block unavailable\n\x1b[1mmalloc(): invalid size", file=sys.stderr)
        ctypes.string_at(0)

    def do_leave(self, reading: Reading) -> None:
        os._exit(3)

    def do_exit(self, reading: Reading) -> None:
        sys.exit("a library that gives up")

    def do_end(self, reading: Reading) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_raise(self, reading: Reading) -> None:
        raise ZeroDivisionError("a bug")

    def do_refuse(self, reading: Reading) -> None:
        raise DecodeError("a clip", "no_video", "has no moving pictures")

    def do_return_what_does_not_pickle(self, reading: Reading) -> Any:
        return threading.Lock()

    def do_return_what_does_not_unpickle(self, reading: Reading) -> Any:
        return Fragile()

    def do_print(self, reading: Reading) -> Any:
        for _ in range(3000):
            os.write(1, b"frame " * 100 + b"\n") if _ < 1000 else print("more", file=sys.stderr)
        return super().prepare(reading)

    def do_print_without_end(self, reading: Reading) -> NoReturn:
        libc = ctypes.CDLL(None)
        line = b"[h264] error while decoding MB 22 10, bytestream -7\n" * 1000
        while True:
            libc.write(2, line, len(line))

    def do_pid(self, reading: Reading) -> int:
        return os.getpid()

    def do_wait(self, reading: Reading) -> int:
        """Says that it is there, and waits until the file of that name is gone."""
        path = reading.material.file("video")
        (path.parent / f"{path.name}-{os.getpid()}").touch()
        while path.exists():
            time.sleep(0.001)
        return os.getpid()

    def do_modules(self, reading: Reading) -> list[str]:
        return sorted(sys.modules)

    def do_descriptors(self, reading: Reading) -> int:
        return len(os.listdir("/proc/self/fd"))

    def do_threads(self, reading: Reading) -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    def do_memory(self, reading: Reading) -> int:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
        return np.ones(1 << 36, np.uint8).size


class Fragile:
    def __reduce__(self) -> Any:
        return _break, ()


def _break() -> NoReturn:
    raise RuntimeError("in unpickling")


class CountsCopies(Plain):
    """Says how often it was unpickled in the process that it is in."""

    copies = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        CountsCopies.copies += 1
        self.__dict__.update(state)

    def prepare(self, reading: Reading) -> int:
        return CountsCopies.copies


class DiesWhenImported(Plain):
    """Ends each process that it is handed to; but only `times` times, by the files it leaves."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__()
        self.__dict__.update(folder=folder, times=times)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if len(list(state["folder"].iterdir())) < state["times"]:
            (state["folder"] / str(os.getpid())).touch()
            os._exit(9)


def sample(name: str = "a", do: str | None = None, video: Path | None = None) -> Material:
    return Material(name, text=do, video=video)


def kinds(read: Any) -> list[str | None]:
    return [one.kind if isinstance(one, Refusal) else None for one in read.results]

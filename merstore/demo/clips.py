"""Makes short clips to try things on: moving shapes and a tone, of many sizes, rates and lengths."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

GOOD = 28
SIZES = [
    (160, 120),
    (240, 136),
    (96, 96),
    (120, 160),
    (320, 180),
    (176, 144),
    (65, 49),
]  # width, height
RATES = [25, 30, 15, 24, 12]  # frames per second
SECONDS = [1.0, 0.6, 2.0, 1.4, 0.3, 2.5]
SOUND_RATE = 16_000  # Hz

TRUNCATED = "broken_truncated.mp4"
NO_VIDEO = "broken_audio_only.mp4"


def make_clips(folder: Path) -> list[Path]:
    """Writes 28 good clips and two broken ones into `folder`, or finds them there; the same ones every time.

    Of the broken ones, one is cut off in the middle of the file (its index is lost) and one has sound
    but no picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    good = [folder / f"sample_{number:08d}.mp4" for number in range(GOOD)]
    for number, path in enumerate(good):
        _once(path, partial(_write_clip, number=number))
    _once(folder / TRUNCATED, _write_truncated)
    _once(folder / NO_VIDEO, partial(_write_clip, number=GOOD, picture=False))
    return [*good, folder / TRUNCATED, folder / NO_VIDEO]


def _once(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside and renames, so that an interrupted run leaves no half clip behind."""
    if not path.exists():
        half = path.with_name(f".{path.name}")
        write(half)
        half.rename(path)


def _write_truncated(path: Path) -> None:
    _write_clip(path, GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])


def _write_clip(path: Path, number: int, picture: bool = True) -> None:
    import av

    width, height = SIZES[number % len(SIZES)]
    rate = RATES[number % len(RATES)]
    seconds = SECONDS[number % len(SECONDS)]
    # MPEG-4 part 2: the one good encoder that every build of FFmpeg has. It wants even sizes.
    with av.open(str(path), "w", format="mp4") as out:
        if picture:
            video = out.add_stream("mpeg4", rate=rate)
            video.width, video.height, video.pix_fmt = width & ~1, height & ~1, "yuv420p"
            video.bit_rate = 400_000
        audio = out.add_stream("aac", rate=SOUND_RATE, layout="mono")
        if picture:
            for index in range(max(1, round(seconds * rate))):
                pixels = _draw(number, index / rate, video.width, video.height)
                out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(video.encode(None))
        tone = av.AudioFrame.from_ndarray(_tone(number, seconds), format="flt", layout="mono")
        tone.sample_rate = SOUND_RATE
        out.mux(audio.encode(tone))
        out.mux(audio.encode(None))


def _draw(number: int, t: float, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A disc and a box that wander over a tinted ramp, each clip in its own way: uint8 [height, width, 3] RGB."""
    draw = np.random.default_rng(number)
    ground, disc, box = draw.integers(0, 256, (3, 3))
    speed, phase = draw.uniform(0.5, 3.0, 4), draw.uniform(0, 6.28, 4)
    x, y, u, v = 0.5 + 0.35 * np.sin(speed * t + phase)

    rows = np.arange(height, dtype=np.float32)[:, None] / height
    columns = np.arange(width, dtype=np.float32)[None] / width
    ramp = (ground * (0.3 + 0.7 * columns[..., None])).astype(np.uint8)  # [1, width, 3]
    pixels = np.repeat(ramp, height, axis=0)
    pixels[(rows - y) ** 2 + (columns - x) ** 2 < 0.18**2] = disc
    pixels[(abs(rows - v) < 0.12) & (abs(columns - u) < 0.12)] = box
    return pixels


def _tone(number: int, seconds: float) -> npt.NDArray[np.float32]:
    """One note of a scale, fading out: float32 [1, samples]."""
    t = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = 220.0 * 2 ** (number % 24 / 12)
    return (0.3 * np.sin(2 * np.pi * pitch * t) * np.exp(-t)).astype(np.float32)[None]

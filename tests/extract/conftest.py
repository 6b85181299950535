"""Clips that the tests make themselves, each frame showing its own number, and small encoders."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from merstore.extract.demo_encoder import make_random_encoder

from . import reference_vision

WIDTH, HEIGHT = 160, 120
BITS = 8  # of a frame's number, shown as dark and light stripes from left to right

Image = npt.NDArray[np.uint8]


def draw(number: int) -> Image:
    """A frame that shows its number and, above it, a box that moves: uint8 [120, 160, 3] RGB."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[10:30, number * 7 % 140 : number * 7 % 140 + 20] = (250, 80, 30)
    for bit in range(BITS):
        image[HEIGHT // 2 :, bit * 20 : bit * 20 + 20] = 230 if number >> bit & 1 else 20
    return image


def number_shown(image: Image) -> int:
    """The number that a decoded frame shows, whatever its size."""
    height, width = image.shape[:2]
    middles = [image[height * 3 // 4, (2 * bit + 1) * width // (2 * BITS)] for bit in range(BITS)]
    return sum((int(middle.mean()) > 128) << bit for bit, middle in enumerate(middles))


def write_clip(
    path: Path,
    n_frames: int = 30,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
    steps: tuple[int, ...] = (4,),
    sound: bool = False,
    **settings: object,
) -> Path:
    """Writes a clip of `n_frames` numbered frames, at 25 per second unless `steps` (1/100 s) say else.

    `settings` are those of the codec context. No frames: only sound.
    """
    import av

    with av.open(path, "w", options={"movflags": "faststart"}) as out:
        if n_frames:
            video = out.add_stream(codec, rate=25, options=options or {})
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            video.codec_context.time_base = Fraction(1, 100)
            for name, value in settings.items():
                setattr(video.codec_context, name, value)
            time = 0
            for number in range(n_frames):
                frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 100)
                time += steps[number % len(steps)]
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        if sound or not n_frames:
            audio = out.add_stream("aac", rate=16_000, layout="mono")
            silence = np.zeros((1, 16_000), np.float32)
            tone = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            tone.sample_rate = 16_000
            out.mux(audio.encode(tone))
            out.mux(audio.encode(None))
    return path


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Makes a clip of that file name in the test's folder; see `write_clip`."""
    return lambda name, *args, **settings: write_clip(tmp_path / name, *args, **settings)


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP."""
    return make_random_encoder(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def dinov2_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random DINOv2."""
    return make_random_encoder(tmp_path_factory.mktemp("models") / "tiny-dinov2", kind="dinov2")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A small random model of each kind of vision model, in a folder of its name."""
    folder = tmp_path_factory.mktemp("vision")
    return {
        kind: reference_vision.make_model(folder / kind, kind) for kind in reference_vision.KINDS
    }

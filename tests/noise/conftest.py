"""Sound and clips that the tests make themselves."""

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from merstore.noise import Noises

Samples = npt.NDArray[np.int16]


def hum(seconds: float, seed: int, loud: int = 3000, rate: int = 16_000) -> Samples:
    """int16 [T]: a tone with some rustle on it, another for each seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * rng.uniform(150, 900) * time)
    return (loud * (tone + rng.normal(0, 0.2, len(time)))).astype(np.int16)


def write_sound(path: Path, samples: Samples, rate: int = 16_000) -> Path:
    """int16 [T], or [T, channels], to a WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(samples).tobytes())
    return path


def read_wav(path: Path) -> Samples:
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def picture(number: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3]: a colour ramp with a box that moves."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=2)
    left = number * 5 % max(width - 16, 1)
    image[height // 3 : height // 2, left : left + 16] = (250, 80, 30)
    return image.astype(np.uint8)


def write_clip(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (120, 160),
    steps: tuple[int, ...] = (4,),
    sound: Samples | None = None,
) -> Path:
    """A clip of so many pictures, `steps` hundredths of a second apart; `size`: height and width."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        video.bit_rate = 4_000_000
        video.codec_context.time_base = Fraction(1, 100)
        audio = None if sound is None else out.add_stream("aac", rate=16_000, layout="mono")
        time = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            time += steps[number % len(steps)]
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            tone = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            tone.sample_rate = 16_000
            out.mux(audio.encode(tone))
            out.mux(audio.encode(None))
    return path


@pytest.fixture
def noises(tmp_path: Path) -> Noises:
    """Three files of noise, of half a second to a second, one of them at another rate in stereo."""
    folder = tmp_path / "noise"
    write_sound(folder / "fan.wav", hum(1.0, seed=101))
    write_sound(folder / "more" / "rain.wav", hum(0.5, seed=102))
    both = np.stack([hum(0.7, 103, rate=44_100), hum(0.7, 104, rate=44_100)], axis=1)
    write_sound(folder / "street.wav", both, rate=44_100)
    (folder / "LICENSE").write_text("none of it is sound")
    return Noises.of(folder)

"""Writing a clip again, blurred and with other sound."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from merstore.errors import DecodeError
from merstore.extract.sound import read_sound
from merstore.extract.video import FrameRequest, play_clip, read_clip
from merstore.noise.film import write_film

from .conftest import hum, write_clip


def pictures(path: Path) -> np.ndarray:
    frames = read_clip(path, [FrameRequest(range, None)]).frames[0]
    assert not isinstance(frames, DecodeError)
    return frames.pixels


@pytest.mark.parametrize(("rate", "size"), [(1, (49, 65)), (2, (50, 66)), (4, (52, 68))])
def test_frames_are_those_that_opencv_would_blur(
    tmp_path: Path, rate: int, size: tuple[int, int]
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=5, size=(49, 65))
    facts = write_film(tmp_path / "b.mp4", clip, hum(0.2, 1), rate)
    assert facts == {"frames": 5, "height": size[0], "width": size[1]}
    for before, after in zip(pictures(clip), pictures(tmp_path / "b.mp4"), strict=True):
        steps = rate.bit_length() - 1
        for step in [cv2.pyrDown] * steps + [cv2.pyrUp] * steps:
            before = step(before)
        assert after.shape == before.shape
        assert np.abs(after.astype(int) - before).mean() < 6  # what encoding costs


@pytest.mark.parametrize("steps", [(4,), (4, 4, 12), (1, 30)])
def test_every_frame_keeps_its_time(tmp_path: Path, steps: tuple[int, ...]) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=12, steps=steps)
    write_film(tmp_path / "b.mp4", clip, hum(0.5, 1), 1)
    before, after = play_clip(clip), play_clip(tmp_path / "b.mp4")
    assert before.times is not None
    assert after.times is not None
    pairs = zip(before.times, after.times, strict=True)
    assert all(abs(one - other) <= 1 / 1000 for one, other in pairs)
    assert after.quality.facts["seconds"] == pytest.approx(
        before.quality.facts["seconds"], abs=0.002
    )
    assert ("variable_rate" in after.quality.flags) == (len(steps) > 1)


def test_the_sound_is_the_one_given_from_the_beginning(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=25)
    sound = hum(1.0, 5)
    write_film(tmp_path / "b.mp4", clip, sound, 2)
    heard = read_sound(tmp_path / "b.mp4", "ffmpeg_s16_16k_mono").samples[0] * 32768
    assert 0 <= len(heard) - len(sound) < 1024  # AAC's frames
    shifts = range(-50, 51)
    inner = sound[2000:14_000].astype(float)
    fits = [np.corrcoef(inner, heard[2000 + shift : 14_000 + shift])[0, 1] for shift in shifts]
    assert shifts[int(np.argmax(fits))] == 0
    assert max(fits) > 0.95


@pytest.mark.parametrize("seconds", [0.05, 3.0])
def test_sound_may_be_shorter_or_longer_than_the_pictures(tmp_path: Path, seconds: float) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=25)
    write_film(tmp_path / "b.mp4", clip, hum(seconds, 5), 1)
    assert len(pictures(tmp_path / "b.mp4")) == 25
    sound = read_sound(tmp_path / "b.mp4")
    assert seconds <= sound.seconds < seconds + 0.07
    assert "wrong_duration" not in sound.quality.flags


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    for name in ("b", "c"):
        write_film(tmp_path / name, clip, hum(0.4, 5), 4)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_clip_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    clip.write_bytes(clip.read_bytes()[:-500])
    with pytest.raises(DecodeError):
        write_film(tmp_path / "b.mp4", clip, hum(0.4, 5), 4)
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "size", "flags"),
    [
        ("odd_rotated90_face.mp4", (640, 360), ()),  # turned upright
        ("odd_vfr_face.mp4", (360, 640), ("variable_rate",)),
        ("face_then_noface_vfr_hevc.mov", (540, 960), ("variable_rate",)),
        ("odd_silent_audio_odd_dims.mp4", (181, 321), ()),
        ("edit_list_66x50.mov", (50, 66), ()),
        ("one_pixel_5frames.mp4", (1, 1), ()),
        ("unordered_4frames.mov", (50, 50), ()),
    ],
)
def test_real_clips_come_out_whole_and_plain(
    shared: Path, tmp_path: Path, name: str, size: tuple[int, int], flags: tuple[str, ...]
) -> None:
    clip = shared / "media" / name
    facts = write_film(tmp_path / "b.mp4", clip, hum(1.0, 5), 1)
    assert (facts["height"], facts["width"]) == size
    before, after = play_clip(clip), play_clip(tmp_path / "b.mp4")
    assert after.quality.facts["frames"] == before.quality.facts["frames"]
    assert after.quality.flags == flags
    assert after.quality.facts["fps"] == pytest.approx(before.quality.facts["fps"], rel=0.01)
    assert list(map(np.shape, each(before.pictures))) == list(map(np.shape, each(after.pictures)))


def each(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    return (picture.copy() for picture in pictures)


@pytest.mark.shared
def test_decord_reads_the_same_frames(shared: Path, tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    write_film(tmp_path / "b.mp4", shared / "media" / "short_36frames.mp4", hum(1.0, 5), 2)
    reader = decord.VideoReader(str(tmp_path / "b.mp4"))
    frames = reader.get_batch(range(len(reader))).asnumpy()
    assert np.array_equal(frames, pictures(tmp_path / "b.mp4"))

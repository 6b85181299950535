"""Sound as what is mixed."""

from pathlib import Path

import numpy as np
import pytest

from merstore.extract.sound import read_sound
from merstore.noise.mixing import HIGH, LOW
from merstore.noise.sound import SOURCE, integers, source_of

from .conftest import write_clip, write_sound


def test_what_is_in_that_form_is_read_as_it_is(tmp_path: Path) -> None:
    samples = np.arange(LOW, HIGH + 1).astype(np.int16)
    path = write_sound(tmp_path / "a.wav", samples)
    assert source_of(path) == "native"
    for source in ("native", SOURCE):
        assert np.array_equal(integers(read_sound(path, source)), samples)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 1), (16_000, 2)])
def test_everything_else_goes_through_ffmpeg(tmp_path: Path, rate: int, channels: int) -> None:
    path = write_sound(tmp_path / "a.wav", np.ones((100, channels), np.int16), rate=rate)
    assert source_of(path) == SOURCE


def test_a_clip_and_what_is_no_sound_too(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    clip = write_clip(tmp_path / "a.mp4", frames=2)
    assert {source_of(path) for path in (clip, tmp_path / "a.wav", tmp_path / "absent")} == {SOURCE}

"""Which noise a sample gets."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import DecodeError, MerstoreError
from merstore.extract.sound import read_sound
from merstore.noise.noises import Noises, draw
from merstore.noise.sound import integers

from .conftest import hum, write_sound


def test_a_draw_is_the_same_everywhere_and_for_ever() -> None:
    assert [draw(0, "sample_1", "snr", 1000), draw(0, "样本", "start", 1000)] == [39, 339]


def test_draws_are_all_alike_likely() -> None:
    counts = Counter(draw(1, f"sample_{n}", "snr", 6) for n in range(6000))
    assert sorted(counts) == list(range(6))
    assert all(900 < count < 1100 for count in counts.values())


def test_draws_have_nothing_to_do_with_each_other() -> None:
    several = {draw(seed, name, what, 1 << 60) for seed in (0, 1) for name in "ab" for what in "xy"}
    assert len(several) == 8


def test_the_files_are_all_sounds_in_the_folder_and_below(noises: Noises) -> None:
    (noises.folder / ".hidden.wav").write_bytes(b"x")
    again = Noises.of(noises.folder)
    assert again == noises
    assert [name for name, _ in again.files] == ["fan.wav", "more/rain.wav", "street.wav"]


def test_files_are_known_by_name_and_content_not_by_place(noises: Noises, tmp_path: Path) -> None:
    moved = noises.folder.rename(tmp_path / "elsewhere")
    assert Noises.of(moved).spec() == noises.spec()
    write_sound(moved / "fan.wav", hum(1.0, seed=7))
    assert Noises.of(moved).spec() != noises.spec()


@pytest.mark.parametrize("length", [1, 7_999, 8_000, 50_000])
def test_files_follow_one_another_until_they_are_longer_than_the_sample(
    noises: Noises, length: int
) -> None:
    cut = noises.cut(0, "a", length)
    parts = [
        integers(read_sound(noises.folder / name, "ffmpeg_s16_16k_mono")) for name, _ in cut.files
    ]
    assert len(cut.samples) == length
    assert sum(map(len, parts[:-1])) <= length < sum(map(len, parts))
    assert np.array_equal(np.concatenate(parts)[cut.start : cut.start + length], cut.samples)


def test_the_start_is_anywhere(noises: Noises) -> None:
    room = 16_000
    starts = [noises.cut(seed, "a", 100).start for seed in range(60)]
    assert len(set(starts)) > 50
    assert max(starts) > room / 2 > min(starts) + room / 4


def test_noise_at_another_rate_is_brought_to_ours(tmp_path: Path) -> None:
    write_sound(tmp_path / "n" / "fast.wav", hum(1.0, 1, rate=48_000), rate=48_000)
    cut = Noises.of(tmp_path / "n").cut(0, "a", 20_000)
    assert len(cut.files) == 2  # each is 16,000 samples at 16 kHz


def test_noise_that_cannot_be_read_is_that_samples_failure(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "n" / "fan.wav", hum(0.1, 1))
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DecodeError, match=r"fan\.wav") as raised:
        Noises.of(tmp_path / "n").cut(0, "a", 100)
    assert raised.value.kind == "bad_noise"


def test_noise_that_changes_meanwhile_is_not_taken_for_what_it_was(noises: Noises) -> None:
    for name, _ in noises.files:
        write_sound(noises.folder / name, hum(0.2, 9))
    with pytest.raises(DecodeError, match="has changed since") as raised:
        noises.cut(0, "a", 50_000)
    assert raised.value.kind == "bad_noise"
    Noises.of(noises.folder).cut(0, "a", 50_000)


def test_silent_noise_is_that_samples_failure(tmp_path: Path) -> None:
    write_sound(tmp_path / "n" / "hush.wav", np.zeros(4000, np.int16))
    with pytest.raises(DecodeError, match=r"silent: hush\.wav \+ hush\.wav from sample") as raised:
        Noises.of(tmp_path / "n").cut(0, "a", 6000)
    assert raised.value.kind == "silent_noise"


def test_a_folder_without_noise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(MerstoreError, match="no noise in it; put sound files there"):
        Noises.of(tmp_path)
    with pytest.raises(MerstoreError, match="no such folder"):
        Noises.of(tmp_path / "absent")
    with pytest.raises(MerstoreError, match="is not a folder"):
        Noises.of(tmp_path / "README.md")

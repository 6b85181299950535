"""Noisy copies of many samples."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import MerstoreError, SpecMismatch
from merstore.extract.sound import read_sound
from merstore.extract.video import read_clip
from merstore.noise import Made, Noises, Settings, make_noisy, read_journal, view_path
from merstore.noise import copies as copying
from merstore.noise.mixing import rms
from merstore.noise.sound import integers
from merstore.store.store import Store

from .conftest import hum, read_wav, write_clip, write_sound
from .test_mixing import reference

Clips = dict[str, Path]


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    """Five recordings of different lengths and kinds."""
    folder = tmp_path / "clips"
    return {
        "short": write_sound(folder / "short.wav", hum(0.3, 1)),
        "long": write_sound(folder / "long.wav", hum(2.5, 2)),
        "loud": write_sound(folder / "loud.wav", hum(0.5, 3, loud=30_000)),
        "样本": write_sound(folder / "样本.wav", hum(0.4, 4, rate=8000), rate=8000),
        "clip": write_clip(folder / "clip.mp4", sound=hum(0.5, 5)),
    }


@pytest.fixture
def mixed(noises: Noises) -> Settings:
    return Settings("audio", noises, (5, 10, 15), seed=3)


def make(clips: Clips, out: Path, settings: Settings, **how: object) -> Made:
    return make_noisy(clips, out, settings, **{"jobs": 0} | how)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_copy_follows_from_its_recipe(clips: Clips, tmp_path: Path, mixed: Settings) -> None:
    made = make(clips, tmp_path / "out", mixed)
    assert [made.made, made.present, made.failed] == [5, 0, {}]
    recipes = read_journal(tmp_path / "out").recipes
    assert set(contents(tmp_path / "out")) == {f"{name}.wav" for name in clips}
    scales = set()
    for name, path in clips.items():
        told = recipes[name]
        clean = integers(read_sound(path, "ffmpeg_s16_16k_mono"))
        parts = [
            integers(read_sound(mixed.noises.folder / noise["file"], "ffmpeg_s16_16k_mono"))
            for noise in told["noise"]
        ]
        noise = np.concatenate(parts)[told["start"] : told["start"] + len(clean)]
        copy = read_wav(tmp_path / "out" / f"{name}.wav")
        assert np.array_equal(copy, reference(clean, noise, told["snr"]))
        assert [told["clean"]["file"], told["clean"]["samples"]] == [path.name, len(clean)]
        assert 20 * np.log10(rms(clean) / rms(noise) / told["gain"]) == pytest.approx(
            told["snr"], abs=0.01
        )
        scales.add(told["scale"] < 1)
    assert scales == {True, False}
    assert {told["snr"] for told in recipes.values()} <= {5, 10, 15}


def test_order_number_of_processes_and_company_do_not_matter(
    clips: Clips, tmp_path: Path, mixed: Settings
) -> None:
    make(clips, tmp_path / "one", mixed)
    make(dict(reversed(clips.items())), tmp_path / "two", mixed, jobs=2)
    make({"long": clips["long"]}, tmp_path / "three", mixed)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "three").items() <= contents(tmp_path / "one").items()
    first, second = (tmp_path / f"{name}.recipe.jsonl" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_another_seed_gives_other_noise(clips: Clips, tmp_path: Path, mixed: Settings) -> None:
    make(clips, tmp_path / "one", mixed)
    make(clips, tmp_path / "two", replace(mixed, seed=4))
    one, other = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert all(one[name] != other[name] for name in one)


def test_the_noise_does_not_depend_on_the_ratio(
    clips: Clips, tmp_path: Path, mixed: Settings
) -> None:
    make(clips, tmp_path / "one", replace(mixed, snrs=(5,)))
    make(clips, tmp_path / "two", replace(mixed, snrs=(15,)))
    one, other = (read_journal(tmp_path / name).recipes for name in ("one", "two"))
    for name in clips:
        assert [one[name]["snr"], other[name]["snr"]] == [5, 15]
        assert all(one[name][key] == other[name][key] for key in ("noise", "start"))


def test_what_is_whole_is_not_made_again(clips: Clips, tmp_path: Path, mixed: Settings) -> None:
    out = tmp_path / "out"
    make(clips, out, mixed)
    before = contents(out)
    again = make(clips, out, mixed)
    assert [again.made, again.present] == [0, 5]

    (out / "long.wav").unlink()
    (out / "short.wav").write_bytes(before["short.wav"][:-2])
    repaired = make(clips, out, mixed)
    assert [repaired.made, repaired.present] == [2, 3]
    assert contents(out) == before

    write_sound(clips["loud"], hum(0.6, 9))
    assert make(clips, out, mixed).made == 1
    assert len(read_wav(out / "loud.wav")) == 9600


def test_an_interrupted_run_goes_on_where_it_was(
    clips: Clips, tmp_path: Path, mixed: Settings, store: Store
) -> None:
    def stop(done: int, total: int, failed: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    where = {"store": store, "dataset": "toy"}
    with pytest.raises(KeyboardInterrupt):
        make(clips, tmp_path / "out", mixed, tell=stop, **where)
    (tmp_path / "out" / ".0123456789abcdef.noise-part").write_bytes(b"half")
    rest = make(clips, tmp_path / "out", mixed, **where)
    assert [rest.made, rest.present] == [3, 2]
    make(clips, tmp_path / "whole", mixed)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(store["toy/noise/snrmix"]) == 5


def test_what_fails_fails_alone(tmp_path: Path, mixed: Settings, store: Store) -> None:
    folder = tmp_path / "clips"
    clips = {
        "good": write_sound(folder / "good.wav", hum(0.3, 1)),
        "mute": write_clip(folder / "mute.mp4"),
        "hush": write_sound(folder / "hush.wav", np.zeros(4000, np.int16)),
        "junk": folder / "junk.mp4",
        "gone": folder / "gone.wav",
    }
    clips["junk"].write_bytes(b"no clip at all" * 99)
    made = make(clips, tmp_path / "out", mixed, jobs=2, store=store, dataset="toy")
    kinds = {name: kind for kind, names in made.failed.items() for name in names}
    expected = {
        "mute": "no_audio",
        "hush": "silent",
        "junk": "decode_error",
        "gone": "missing_file",
    }
    assert kinds == expected
    assert [made.made, made.failures] == [1, 4]
    assert list(contents(tmp_path / "out")) == ["good.wav"]
    journal = read_journal(tmp_path / "out")
    assert {name: kind for name, (kind, _) in journal.failures.items()} == expected
    view = store["toy/noise/snrmix"]
    assert {failure.name: failure.kind for failure in view.failures()} == expected

    clips["gone"] = write_sound(folder / "gone.wav", hum(0.3, 2))  # tried again
    again = make(clips, tmp_path / "out", mixed, store=store, dataset="toy")
    assert [again.made, again.present, again.failures] == [1, 1, 3]
    assert view.failure("gone") is None


def test_a_copy_stays_where_its_clip_fails_later(
    clips: Clips, tmp_path: Path, mixed: Settings
) -> None:
    make(clips, tmp_path / "out", mixed)
    before = contents(tmp_path / "out")
    clips["long"].write_bytes(b"")
    later = make(clips, tmp_path / "out", mixed)
    assert later.failed == {"decode_error": {"long": "is empty (0 bytes)"}}
    assert contents(tmp_path / "out") == before
    assert "long" in read_journal(tmp_path / "out").recipes


def test_a_store_has_the_recipes_under_the_names_of_the_samples(
    clips: Clips, tmp_path: Path, mixed: Settings, store: Store
) -> None:
    five = replace(mixed, snrs=(5,))
    make(clips, tmp_path / "before", five)
    for settings, out in ((five, "before"), (mixed, "out")):
        made = make(clips, tmp_path / out, settings, store=store, dataset="toy")
        assert made.view == view_path("toy", settings)
        view = store[made.view]
        assert view.spec == settings.spec()
        kept = {name: json.loads(view[name].tobytes()) for name in view}
        assert kept == read_journal(tmp_path / out).recipes
        assert set(kept) == set(clips)
    assert store.views() == ["toy/noise/snr5", "toy/noise/snrmix"]
    with pytest.raises(SpecMismatch, match="seed: 3 against 9"):
        make(clips, tmp_path / "new", replace(five, seed=9), store=store, dataset="toy")
    assert not (tmp_path / "new").exists()


def test_clips_get_blur_and_noise(tmp_path: Path, noises: Noises, store: Store) -> None:
    folder = tmp_path / "clips"
    clips = {f"c{n}": write_clip(folder / f"c{n}.mp4", sound=hum(0.5, n)) for n in range(6)}
    clips["mute"] = write_clip(folder / "mute.mp4")
    clips["blind"] = write_sound(folder / "blind.wav", hum(0.3, 1))
    settings = Settings("video", noises, tuple(range(5, 11)), (1, 2, 4), seed=1)
    one = make(clips, tmp_path / "one", settings, jobs=2, store=store, dataset="toy")
    make(clips, tmp_path / "two", settings)
    assert one.view == "toy/noise/video"
    assert {kind: list(names) for kind, names in one.failed.items()} == {
        "no_audio": ["mute"],
        "no_video": ["blind"],
    }
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    recipes = read_journal(tmp_path / "one").recipes
    for name, told in recipes.items():
        assert read_clip(tmp_path / "one" / f"{name}.mp4", []).quality.facts["frames"] == 12
        assert [told["frames"], told["height"], told["width"]] == [12, 120, 160]
        assert told["output"]["file"] == f"{name}.mp4"
    assert {told["blur"] for told in recipes.values()} == {1, 2, 4}
    assert len({told["snr"] for told in recipes.values()}) > 2


def test_a_sample_that_takes_too_long_is_given_up(
    clips: Clips, tmp_path: Path, mixed: Settings
) -> None:
    made = make({"long": clips["long"]}, tmp_path / "out", mixed, jobs=1, seconds=1e-4)
    assert list(made.failed) == ["timeout"]


def test_a_full_disk_is_no_fault_of_the_sample(
    clips: Clips, tmp_path: Path, mixed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, samples: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(copying, "write_wav", full)
        with pytest.raises(MerstoreError, match="cannot be written: No space left"):
            make(clips, tmp_path / "out", mixed)
    assert contents(tmp_path / "out") == {}
    assert make(clips, tmp_path / "out", mixed).made == 5


def test_neither_clips_nor_noise_are_written_over(
    clips: Clips, tmp_path: Path, mixed: Settings
) -> None:
    before = contents(tmp_path / "clips")
    with pytest.raises(MerstoreError, match="is where the clips are"):
        make(clips, tmp_path / "clips", mixed)
    for folder in (mixed.noises.folder, mixed.noises.folder / "out"):
        with pytest.raises(MerstoreError, match="is where the noise is"):
            make(clips, folder, mixed)
    assert contents(tmp_path / "clips") == before
    with pytest.raises(MerstoreError, match="no samples"):
        make({}, tmp_path / "out", mixed)


@pytest.mark.parametrize(
    ("what", "snrs", "blurs"),
    [
        ("audio", (), ()),
        ("audio", (float("nan"),), ()),
        ("audio", (5,), (2,)),
        ("video", (5,), ()),
        ("video", (5,), (3,)),
    ],
)
def test_settings_without_sense_are_refused(
    noises: Noises, what: str, snrs: tuple[float, ...], blurs: tuple[int, ...]
) -> None:
    with pytest.raises(MerstoreError, match=r"SNRs|blurs"):
        Settings(what, noises, snrs, blurs)  # type: ignore[arg-type]


@pytest.mark.shared
def test_real_speech_gets_real_noise(shared: Path, tmp_path: Path) -> None:
    media, folder = shared / "media", tmp_path / "noise"
    folder.mkdir()
    for name in ("radio31_en.wav", "nonspeech_44100.wav", "chinese_poem1.wav"):
        (folder / name).symlink_to(media / name)
    names = ["jfk.flac", "emodb_03a01Fa.wav", "talk_vr_face2.mp4", "bbb_6ch_audio.mp4"]
    clips = {Path(name).stem: media / name for name in names}
    for snr in (5, 10, 15):
        out = tmp_path / f"snr{snr}"
        settings = Settings("audio", Noises.of(folder), (snr,))
        assert make(clips, out, settings).made == 4
        recipes = read_journal(out).recipes
        for name, path in clips.items():
            clean = integers(read_sound(path, "ffmpeg_s16_16k_mono"))
            noise = settings.noises.cut(0, name, len(clean)).samples
            added = noise * recipes[name]["gain"]
            assert ratio(clean, added) == pytest.approx(snr, abs=0.01)
            copy = read_wav(out / f"{name}.wav") / recipes[name]["scale"]
            # of quiet sound, cutting to integers takes a little
            assert ratio(clean, copy - clean) == pytest.approx(snr, abs=0.05)


def ratio(clean: np.ndarray, noise: np.ndarray) -> float:
    """In dB."""
    power, other = (np.mean(np.square(sound, dtype=np.float64)) for sound in (clean, noise))
    return float(10 * np.log10(power / other))

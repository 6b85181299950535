"""Reading sound: made here, with every way a header can lie, and over every file of ../shared/media."""

import csv
import pickle
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merstore.errors import DecodeError
from merstore.extract.sound import (
    SILENT_PEAK,
    Sound,
    mono_affectgpt,
    mono_mean,
    read_sound,
)
from merstore.quality import FLAGS

sf = pytest.importorskip("soundfile")

FFMPEG = "ffmpeg_s16_16k_mono"

Int16 = npt.NDArray[np.int16]


def speech(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> Int16:
    """Something loud enough that is no silence: int16 [T, channels], every channel another."""
    rng = np.random.default_rng(7)
    return rng.integers(-9000, 9000, (round(seconds * rate), channels), dtype=np.int16)


def write_wav(path: Path, samples: Int16, rate: int = 16_000) -> Path:
    sf.write(path, samples, rate, format="WAV", subtype="PCM_16")
    return path


def announce(path: Path, size: int) -> Path:
    """Writes another size of the samples into a WAV file's header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def refusal(path: Path, source: str = "native") -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_sound(path, source)
    assert caught.value.path == str(path)
    return caught.value.kind, caught.value.message


class TestSamples:
    @pytest.mark.parametrize("channels", [1, 2, 5])
    @pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
    def test_16_bits_are_exactly_integers_over_32768(
        self, tmp_path: Path, form: str, channels: int
    ) -> None:
        written = speech(0.5, 22_050, channels)
        written[:2] = [[-32768], [32767]]
        sf.write(tmp_path / "a", written, 22_050, format=form, subtype="PCM_16")
        sound = read_sound(tmp_path / "a")
        assert (sound.rate, sound.seconds) == (22_050, 0.5)
        assert (sound.samples.dtype, sound.samples.flags.c_contiguous) == (np.float32, True)
        np.testing.assert_array_equal(sound.samples, written.T / np.float32(32768))

    @pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "pcm_s32le", "pcm_f32le"])
    def test_a_clips_sound_track_is_what_was_put_in(self, tmp_path: Path, codec: str) -> None:
        import av

        written = speech(0.3, channels=2)
        if codec == "pcm_u8":
            written &= ~np.int16(255)  # what fits in 8 bits
        path = tmp_path / "clip.mkv"
        with av.open(path, "w") as out:
            track = out.add_stream(codec, rate=16_000, layout="stereo")
            frame = av.AudioFrame.from_ndarray(written.reshape(1, -1), "s16", "stereo")
            frame.sample_rate = 16_000
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
        sound = read_sound(path)
        np.testing.assert_array_equal(sound.samples, written.T / np.float32(32768))
        assert sound.quality.facts["codec"] == codec

    @pytest.mark.parametrize(("form", "rate"), [("MP3", 44_100), ("OGG", 24_000)])
    def test_lossy_sound_files_have_their_length(
        self, tmp_path: Path, form: str, rate: int
    ) -> None:
        time = np.arange(rate) / rate
        tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        sf.write(tmp_path / "a.x", tone, rate, format=form)
        sound = read_sound(tmp_path / "a.x")
        assert (sound.rate, sound.samples.shape) == (rate, (1, rate))
        assert np.corrcoef(sound.samples[0], tone)[0, 1] > 0.99
        assert sound.quality.facts["header_seconds"] == pytest.approx(1)
        assert sound.quality.flags == ()

    def test_what_lies_beyond_full_scale_is_clipped_and_said(self, tmp_path: Path) -> None:
        wild = np.array([0.5, -3, 2, 0.25] * 100, np.float32)
        sf.write(tmp_path / "a.wav", wild, 16_000, subtype="FLOAT")
        sound = read_sound(tmp_path / "a.wav")
        np.testing.assert_array_equal(sound.samples[0], np.clip(wild, -1, 1))
        assert sound.quality.facts["peak"] == 3
        assert sound.quality.facts["clipped_share"] == 0.5
        assert "clipped" in sound.quality.flags

    def test_a_name_says_nothing(self, tmp_path: Path) -> None:
        """libsndfile takes ``.raw``, ``.vox`` and ``.gsm`` for samples without a header."""
        for name in ("a.raw", "a.vox", "a.gsm", "a.mp4", "a"):
            written = speech(0.1)
            assert read_sound(write_wav(tmp_path / name, written)).samples.shape == (1, 1600)

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        sound = read_sound(write_wav(tmp_path / "a.wav", speech()))
        sent = pickle.loads(pickle.dumps(sound))
        np.testing.assert_array_equal(sent.samples, sound.samples)
        assert sent[1:] == sound[1:]

    def test_an_unknown_source_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="choose one of native, ffmpeg_s16_16k_mono"):
            read_sound(tmp_path / "a.wav", "mp3")


class TestHeadersThatLie:
    @pytest.mark.parametrize("source", ["native", FFMPEG])
    @pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
    def test_a_streamed_wav_is_all_there(self, tmp_path: Path, size: int, source: str) -> None:
        written = speech(2)
        path = announce(write_wav(tmp_path / "a.wav", written), size)
        sound = read_sound(path, source)
        np.testing.assert_array_equal(sound.samples, written.T / np.float32(32768))
        assert sound.quality.flags == ()

    @pytest.mark.parametrize("source", ["native", FFMPEG])
    def test_of_a_cut_wav_there_is_what_there_is(self, tmp_path: Path, source: str) -> None:
        written = speech(2)
        path = write_wav(tmp_path / "a.wav", written)
        path.write_bytes(path.read_bytes()[: 44 + 16_000 * 2])
        sound = read_sound(path, source)
        np.testing.assert_array_equal(sound.samples, written[:16_000].T / np.float32(32768))
        assert sound.quality.facts["seconds"] == 1
        assert sound.quality.facts["header_seconds"] == 2
        assert sound.quality.flags == ("wrong_duration",)

    def test_half_an_hour_announced_for_two_seconds(self, tmp_path: Path) -> None:
        path = announce(write_wav(tmp_path / "a.wav", speech(2)), 33 * 60 * 32_000)
        sound = read_sound(path)
        assert sound.seconds == 2
        assert sound.quality.facts["header_seconds"] == 33 * 60
        assert sound.quality.flags == ("absurd_duration", "wrong_duration")

    @pytest.mark.parametrize("source", ["native", FFMPEG])
    def test_a_cut_mp3(self, tmp_path: Path, source: str) -> None:
        path = tmp_path / "a.mp3"
        sf.write(path, speech(4), 16_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        sound = read_sound(path, source)
        assert 1 < sound.seconds < 3
        assert sound.quality.facts["header_seconds"] == pytest.approx(4, abs=0.1)
        assert sound.quality.flags == ("wrong_duration",)

    def test_a_mp4_that_announces_another_duration(self, tmp_path: Path) -> None:
        path = aac(tmp_path / "a.mp4", 2)
        data = bytearray(path.read_bytes())
        at = data.index(b"mdhd") + 4 + 16  # the duration, after two times and the time scale
        data[at : at + 4] = (1980 * 16_000).to_bytes(4)
        path.write_bytes(data)
        sound = read_sound(path)
        assert sound.seconds == pytest.approx(2, abs=0.15)
        assert sound.quality.facts["header_seconds"] == 1980
        assert sound.quality.flags == ("absurd_duration", "wrong_duration")


def aac(path: Path, seconds: float) -> Path:
    """An MP4 with a sound track and nothing else."""
    import av

    samples = speech(seconds).T.astype(np.float32) / 32768
    with av.open(path, "w", options={"movflags": "faststart"}) as out:
        track = out.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        frame.sample_rate = 16_000
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


class TestQuality:
    def test_facts(self, tmp_path: Path) -> None:
        written = speech(0.5, 48_000, 2)
        path = write_wav(tmp_path / "a.wav", written, 48_000)
        facts = read_sound(path).quality.facts
        assert facts.pop("reader").startswith("libsndfile ")
        assert facts.pop("rms") == pytest.approx(np.sqrt((written / 32768.0) ** 2).mean(), rel=0.2)
        assert facts == {
            "seconds": 0.5,
            "header_seconds": 0.5,
            "rate": 48_000,
            "channels": 2,
            "codec": "pcm_16",
            "content": xxhash.xxh3_128_hexdigest(path.read_bytes()),
            "peak": np.abs(written.astype(int)).max() / 32768,
            "clipped_share": 0,
        }

    def test_the_root_mean_square(self, tmp_path: Path) -> None:
        square = np.full((1000, 1), 16384, np.int16)
        square[::2] *= -1
        assert read_sound(write_wav(tmp_path / "a.wav", square)).quality.facts["rms"] == 0.5

    @pytest.mark.parametrize(
        ("samples", "rate", "flags"),
        [
            (speech(), 16_000, ()),
            (speech(), 15_999, ("low_rate",)),
            (speech(channels=2), 16_000, ("several_channels",)),
            (np.zeros((100, 1), np.int16), 16_000, ("silent",)),
            (np.full((100, 1), int(SILENT_PEAK * 32768), np.int16), 16_000, ("silent",)),
            (np.full((100, 1), int(SILENT_PEAK * 32768) + 1, np.int16), 16_000, ()),
            (np.full((100, 1), -32767, np.int16), 16_000, ("clipped",)),
            (np.full((100, 1), 32766, np.int16), 16_000, ()),
        ],
    )
    def test_flags(self, tmp_path: Path, samples: Int16, rate: int, flags: tuple[str, ...]) -> None:
        quality = read_sound(write_wav(tmp_path / "a.wav", samples, rate)).quality
        assert quality.flags == flags
        assert set(flags) <= FLAGS.keys()

    def test_a_few_peaks_at_full_scale_are_not_clipping(self, tmp_path: Path) -> None:
        samples = speech()
        samples[:16] = 32767
        assert read_sound(write_wav(tmp_path / "a.wav", samples)).quality.flags == ()
        samples[:17] = 32767
        assert read_sound(write_wav(tmp_path / "a.wav", samples)).quality.flags == ("clipped",)

    def test_it_is_of_the_file_whatever_the_samples_are_made_into(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", speech(1, 48_000, 2), 48_000)
        native, converted = read_sound(path).quality, read_sound(path, FFMPEG).quality
        assert native.flags == converted.flags == ("several_channels",)
        readers = {"codec", "reader"}
        assert {k: v for k, v in native.facts.items() if k not in readers} == {
            k: v for k, v in converted.facts.items() if k not in readers
        }


class TestRefused:
    def test_gone(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "a.wav") == ("missing_file", "no such file")
        assert refusal(tmp_path) == ("missing_file", "is not a file")

    @pytest.mark.parametrize("source", ["native", FFMPEG])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty (0 bytes)"),
            (bytes(1000), "cannot be read as a media file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
            (b"ffconcat version 1.0\nfile a.wav\n", "is text, not a media file"),
        ],
    )
    def test_what_is_no_sound(
        self, tmp_path: Path, content: bytes, message: str, source: str
    ) -> None:
        write_wav(tmp_path / "a.wav", speech())  # which a playlist names
        (tmp_path / "b.wav").write_bytes(content)
        kind, said = refusal(tmp_path / "b.wav", source)
        assert kind == "decode_error"
        assert message in said

    def test_a_header_without_a_sample(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", speech(0))
        assert refusal(path) == ("decode_error", "has a sound track without a single sample")

    def test_a_clip_without_sound(self, make_clip: Callable[..., Path]) -> None:
        kind, message = refusal(make_clip("a.mp4", 5))
        assert (kind, message) == ("no_audio", "has no sound track: it holds video only")

    def test_a_cut_flac(self, tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        sf.write(path, speech(4), 16_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        kind, message = refusal(path)
        assert kind == "decode_error"
        assert "the sound decoder stops after" in message

    def test_a_cut_mp4(self, tmp_path: Path) -> None:
        path = aac(tmp_path / "a.mp4", 2)
        path.write_bytes(path.read_bytes()[:-100])
        kind, message = refusal(path)
        assert kind == "decode_error"
        assert "is cut short" in message

    def test_a_damaged_mp4(self, tmp_path: Path) -> None:
        path = aac(tmp_path / "a.mp4", 2)
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 4
        middle = (start + len(data)) // 2
        data[middle : middle + 2000] = b"\xff" * 2000
        path.write_bytes(data)
        kind, message = refusal(path)
        assert kind == "decode_error"
        assert "the sound decoder stops after" in message

    def test_samples_that_are_not_numbers(self, tmp_path: Path) -> None:
        sf.write(tmp_path / "a.wav", np.array([0.1, np.nan]), 16_000, subtype="FLOAT")
        kind, message = refusal(tmp_path / "a.wav")
        assert kind == "decode_error"
        assert "not numbers" in message


class TestMono:
    @given(arrays.arrays(np.float32, (2, 30), elements=st.floats(-1, 1, width=32)))
    def test_of_two_channels_both_rules_take_the_mean(self, samples: npt.NDArray) -> None:
        import torch

        expected = torch.from_numpy(samples).mean(dim=0).numpy()
        np.testing.assert_array_equal(mono_affectgpt(samples), expected)
        np.testing.assert_array_equal(mono_mean(samples), expected)

    @pytest.mark.parametrize("channels", [1, 3, 6])
    def test_of_more_affectgpt_takes_the_first(self, channels: int) -> None:
        samples = speech(channels=channels).T / np.float32(32768)
        np.testing.assert_array_equal(mono_affectgpt(samples), samples[0])
        np.testing.assert_allclose(mono_mean(samples), samples.mean(axis=0), atol=1e-7)
        assert mono_mean(samples).dtype == mono_affectgpt(samples).dtype == np.float32


class TestResampling:
    def test_is_torchaudios(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchaudio.functional")
        written = speech(1, 44_100, 2)
        sound = read_sound(write_wav(tmp_path / "a.wav", written, 44_100))
        resampled = sound.resampled(16_000)
        expected = functional.resample(
            torch.from_numpy(written.T / np.float32(32768)), 44_100, 16_000
        )
        np.testing.assert_array_equal(resampled.samples, expected.numpy())
        assert (resampled.rate, resampled.quality) == (16_000, sound.quality)

    def test_each_channel_is_resampled_alone(self, tmp_path: Path) -> None:
        pytest.importorskip("torchaudio")
        written = speech(1, 44_100, 2)
        both = read_sound(write_wav(tmp_path / "a.wav", written, 44_100)).resampled(16_000)
        for channel in (0, 1):
            path = write_wav(tmp_path / "b.wav", written[:, channel : channel + 1], 44_100)
            alone = read_sound(path).resampled(16_000)
            np.testing.assert_array_equal(alone.samples[0], both.samples[channel])

    def test_to_its_own_rate_it_is_itself(self, tmp_path: Path) -> None:
        sound = read_sound(write_wav(tmp_path / "a.wav", speech()))
        assert sound.resampled(16_000) is sound


class TestAsFFmpegConvertsIt:
    def test_what_is_16_bits_16_khz_and_mono_stays(self, tmp_path: Path) -> None:
        written = speech()
        sound = read_sound(write_wav(tmp_path / "a.wav", written), FFMPEG)
        assert sound.rate == 16_000
        np.testing.assert_array_equal(sound.samples, written.T / np.float32(32768))

    def test_every_sample_is_an_integer_of_16_bits(self, tmp_path: Path) -> None:
        sound = read_sound(write_wav(tmp_path / "a.wav", speech(1, 44_100, 2), 44_100), FFMPEG)
        scaled = sound.samples * 32768
        assert sound.samples.shape == (1, 16_000)
        np.testing.assert_array_equal(scaled, np.round(scaled))

    def test_of_several_tracks_the_one_that_ffmpeg_takes(self, tmp_path: Path) -> None:
        """A default one before the others, then most channels, then the first."""
        import av
        from av.stream import Disposition

        def clip(*tracks: tuple[str, bool]) -> Path:
            path = tmp_path / "clip.mkv"
            with av.open(path, "w") as out:
                streams = []
                for layout, default in tracks:
                    stream = out.add_stream("pcm_s16le", rate=16_000, layout=layout)
                    stream.disposition = Disposition.default if default else Disposition(0)
                    streams.append(stream)
                for number, stream in enumerate(streams, 1):
                    samples = np.full((1, 800 * stream.layout.nb_channels), number, np.int16)
                    frame = av.AudioFrame.from_ndarray(samples, "s16", stream.layout.name)
                    frame.sample_rate = 16_000
                    out.mux(stream.encode(frame))
            return path

        def read(*tracks: tuple[str, bool]) -> int:
            return round(float(read_sound(clip(*tracks)).samples[0, 0]) * 32768)

        assert read(("mono", False), ("mono", False)) == 1
        assert read(("mono", False), ("stereo", False)) == 2
        assert read(("stereo", False), ("mono", True)) == 2
        assert read(("mono", True), ("stereo", True), ("stereo", True)) == 2

    @pytest.mark.parametrize("channels", range(1, 9))
    def test_it_is_the_commands(self, tmp_path: Path, channels: int) -> None:
        path = write_wav(tmp_path / "a.wav", speech(1, 22_050, channels), 22_050)
        np.testing.assert_array_equal(read_sound(path, FFMPEG).samples[0], command(path))


def command(path: Path) -> npt.NDArray[np.float32]:
    """What MERTools' command makes of it. Skips without ffmpeg of 7 or later: an older one rounds
    otherwise, by up to 4 of 32768 (4.2.2 was tried).
    """
    binary = shutil.which("ffmpeg")
    if binary is None:
        pytest.skip("no ffmpeg command on this machine")
    said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    version = said.split()[2].lstrip("n").split(".")[0]
    if version.isdigit() and int(version) < 7:
        pytest.skip(f"ffmpeg {version} rounds otherwise")
    out = path.with_name(f"{path.stem} converted.wav")
    options = ["-loglevel", "quiet", "-y", "-i", str(path), "-ar", "16000", "-ac", "1", str(out)]
    subprocess.run([binary, *options], check=True)
    return sf.read(out, dtype="float32")[0]


NO_SOUND = {
    "av1_video.mkv",
    "broken_corrupted.mp4",
    "edit_list_66x50.mov",
    "face_carphone_qcif.mp4",
    "h265_10frames.mp4",
    "noaudio_armwrestling.mp4",
    "odd_jpeg_named_mp4.mp4",
    "odd_no_audio.mp4",
    "odd_one_frame.mp4",
    "odd_two_frames.mp4",
    "one_pixel_5frames.mp4",
    "rot0_3frames.mov",
    "rot180_3frames.mov",
    "rot90_3frames.mov",
    "unordered_4frames.mov",
}
BROKEN = {
    "manifest.tsv": "cannot be read as a media file",
    "odd_git_lfs_pointer.mp4": "git-lfs pointer",
    "odd_random_bytes.mp4": "cannot be read as a media file",
    "odd_truncated_no_moov.mp4": "cut short: 125,085 of the 204,871 bytes",
    "odd_zero_bytes.mp4": "is empty (0 bytes)",
    "odd_zero_frames_init_only.mp4": "without a single sample",
    "openface_real_100frames.csv": "cannot be read as a media file",
    "zero_bytes.webm": "is empty (0 bytes)",
}


@pytest.fixture(scope="module")
def media(shared: Path) -> Path:
    return shared / "media"


@pytest.fixture(scope="module", params=["native", FFMPEG])
def outcomes(media: Path, request: pytest.FixtureRequest) -> dict[str, Sound | DecodeError]:
    def outcome(path: Path) -> Sound | DecodeError:
        try:
            return read_sound(path, request.param)
        except DecodeError as error:
            return error

    files = sorted(media.iterdir())
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((path.name for path in files), pool.map(outcome, files), strict=True))


@pytest.mark.shared
class TestSharedMedia:
    def test_every_file_is_a_sound_or_a_failure_of_the_right_kind(
        self, outcomes: dict[str, Sound | DecodeError]
    ) -> None:
        for name, outcome in outcomes.items():
            if isinstance(outcome, Sound):
                assert name not in NO_SOUND | BROKEN.keys(), name
                assert np.isfinite(outcome.samples).all(), name
            elif name in BROKEN:
                assert outcome.kind == "decode_error", name
                assert BROKEN[name] in outcome.message, name
            else:
                assert outcome.kind == "no_audio", name
                assert name in NO_SOUND or name.endswith(".jpg"), name
        assert NO_SOUND | BROKEN.keys() <= outcomes.keys()

    def test_the_manifest_agrees(
        self, media: Path, outcomes: dict[str, Sound | DecodeError]
    ) -> None:
        with (media / "manifest.tsv").open(encoding="utf-8", newline="") as file:
            rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
        for name, row in rows.items():
            outcome = outcomes[name]
            if not isinstance(outcome, Sound):
                assert "Hz" not in row["audio"] or " 0.000000 s" in row["audio"], name
                continue
            rate, _, channels, _, seconds, *_ = row["audio"].split()
            facts = outcome.quality.facts
            if name == "radio31_en.wav":  # the manifest's words, not the file's
                channels = str(facts["channels"])
            assert (facts["rate"], facts["channels"]) == (int(rate), int(channels)), name
            if seconds != "?":
                assert facts["seconds"] == pytest.approx(float(seconds), abs=0.03), name
            assert ("silent" in outcome.quality.flags) == ("SILENT" in row["audio"]), name
            # The one track that starts late: its header counts the gap before it.
            late = name == "face_then_noface_vfr_hevc.mov"
            assert ("wrong_duration" in outcome.quality.flags) == late, name
            assert not {"absurd_duration", "clipped"} & set(outcome.quality.flags), name

    def test_it_is_the_commands(self, media: Path, tmp_path: Path) -> None:
        """Sound files; of clips the decoders, and what is cut off the last frame of AAC and MP3,
        vary with FFmpeg's version.
        """
        for source in sorted([*media.glob("*.wav"), *media.glob("*.flac")]):
            copy = tmp_path / source.name
            copy.write_bytes(source.read_bytes())
            np.testing.assert_array_equal(
                read_sound(copy, FFMPEG).samples[0], command(copy), source.name
            )

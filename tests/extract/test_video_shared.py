"""Reading the real clips of ../shared/media: every file, and pixel for pixel against decord."""

import csv
import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import DecodeError
from merstore.extract.sampling import headtail, segments, uniform
from merstore.extract.video import Clip, FrameRequest, Frames, read_clip, read_frames

pytestmark = pytest.mark.shared

# Frames that decode, by hand; test_the_table_is_the_manifests holds it against the manifest.
N_FRAMES = {
    "av1_video.mkv": 125,
    "bbb_6ch_audio.mp4": 132,
    "bbb_vp8_1s.webm": 24,
    "edit_list_66x50.mov": 82,
    "face_carphone_qcif.mp4": 120,
    "face_chaplin_bw.mp4": 241,
    "face_single_pyfeat.mp4": 72,
    "face_then_noface_vfr_hevc.mov": 169,
    "face_wolfganglanger_pexels.mp4": 472,
    "h265_10frames.mp4": 10,
    "multi_stream_nasa.mp4": 390,
    "multiface_hamilton.mp4": 275,
    "noaudio_armwrestling.mp4": 280,
    "noface_caminandes_vfr.mp4": 95,
    "noface_cockatoo_silent.mp4": 280,
    "noface_then_face_vfr_hevc.mov": 169,
    "odd_no_audio.mp4": 72,
    "odd_one_frame.mp4": 1,
    "odd_rotated90_face.mp4": 72,
    "odd_silent_audio_odd_dims.mp4": 72,
    "odd_two_frames.mp4": 2,
    "odd_vfr_face.mp4": 37,
    "one_pixel_5frames.mp4": 5,
    "pancake_opus.mkv": 310,
    "rot0_3frames.mov": 3,
    "rot180_3frames.mov": 3,
    "rot90_3frames.mov": 3,
    "short_36frames.mp4": 36,
    "speech_noface_weightlifting.mp4": 355,
    "talk_WDA_AOC.mp4": 200,
    "talk_WDA_KatieHill.mp4": 200,
    "talk_vr_face1.mp4": 135,
    "talk_vr_face2.mp4": 125,
    "talk_vr_face3.mp4": 125,
    "unordered_4frames.mov": 4,
}

# What is odd about clips that are nevertheless whole; the others have no flag.
FLAGGED = {
    "edit_list_66x50.mov": {"edit_list", "wrong_frame_count"},
    "face_then_noface_vfr_hevc.mov": {"variable_rate"},
    "multi_stream_nasa.mp4": {"several_streams"},
    "noface_caminandes_vfr.mp4": {"edit_list", "wrong_frame_count"},
    "noface_then_face_vfr_hevc.mov": {"variable_rate"},
    "odd_one_frame.mp4": {"very_short"},
    "odd_rotated90_face.mp4": {"rotated"},
    "odd_two_frames.mp4": {"very_short"},
    "odd_vfr_face.mp4": {"variable_rate"},
    "rot0_3frames.mov": {"very_short"},
    "rot180_3frames.mov": {"rotated", "very_short"},
    "rot90_3frames.mov": {"rotated", "very_short"},
    "talk_vr_face1.mp4": {"variable_rate"},
}

# Kind and a part of the message.
REFUSED = {
    "broken_corrupted.mp4": ("decode_error", "stops after 28 of 50 frames: Invalid data"),
    "manifest.tsv": ("decode_error", "cannot be read as a media file"),
    "odd_audio_only_no_video_stream.mp4": ("no_video", "audio only"),
    "odd_git_lfs_pointer.mp4": ("decode_error", "git-lfs pointer"),
    "odd_jpeg_named_mp4.mp4": ("no_video", "a still picture"),
    "odd_random_bytes.mp4": ("decode_error", "cannot be read as a media file"),
    "odd_truncated_no_moov.mp4": ("decode_error", "cut short: 125,085 of the 204,871 bytes"),
    "odd_zero_bytes.mp4": ("decode_error", "is empty (0 bytes)"),
    "odd_zero_frames_init_only.mp4": ("decode_error", "without a single frame"),
    "openface_real_100frames.csv": ("decode_error", "cannot be read as a media file"),
    "zero_bytes.webm": ("decode_error", "is empty (0 bytes)"),
}
BY_SUFFIX = {
    ".jpg": ("no_video", "a still picture"),
    ".wav": ("no_video", "audio only"),
    ".flac": ("no_video", "audio only"),
}

# What decord 0.6 cannot open (AV1), or returns other frames of without an error: it jumps to a
# wrong place (HEVC with few frames), and repeats frames for those that an edit list leaves out.
DECORD_FAILS = {"av1_video.mkv"}
DECORD_ERRS = {"h265_10frames.mp4", "edit_list_66x50.mov"}
DECORD_COUNTS = {"edit_list_66x50.mov": 87, "noface_caminandes_vfr.mp4": 98}


def eight(n_frames: int) -> list[int]:
    return uniform(n_frames, 8)


@pytest.fixture(scope="module")
def media(shared: Path) -> Path:
    return shared / "media"


REQUESTS = [
    FrameRequest(eight),
    FrameRequest(functools.partial(headtail, n=6, seed=0)),  # raises for a single frame
    FrameRequest(functools.partial(segments, n=8)),
    FrameRequest(eight, (112, 112)),
]


@pytest.fixture(scope="module")
def clips(media: Path) -> dict[str, Clip | DecodeError]:
    """What four requests get of every file, or why they get nothing; read by two threads."""

    def outcome(path: Path) -> Clip | DecodeError:
        try:
            return read_clip(path, REQUESTS)
        except DecodeError as error:
            return error

    files = sorted(media.iterdir())
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((path.name for path in files), pool.map(outcome, files), strict=True))


def test_every_file_is_frames_or_a_failure_of_the_right_kind(
    clips: dict[str, Clip | DecodeError],
) -> None:
    for name, outcome in clips.items():
        if isinstance(outcome, Clip):
            n_frames = N_FRAMES[name]
            for request, frames in zip(REQUESTS, outcome.frames, strict=True):
                if n_frames == 1 and request == REQUESTS[1]:
                    assert isinstance(frames, DecodeError), name
                    assert "the sampling rule fails on 1 frames" in frames.message
                    continue
                assert isinstance(frames, Frames), name
                assert frames.n_frames == n_frames, name
                assert frames.indices == request.rule(n_frames), name
                assert frames.pixels.shape == (len(frames.indices), *request.size, 3), name
        else:
            kind, message = REFUSED.get(name) or BY_SUFFIX[Path(name).suffix]
            assert outcome.kind == kind, name
            assert message in outcome.message, name
    assert {*N_FRAMES, *REFUSED} <= clips.keys()


def test_many_requests_get_what_each_gets_alone(
    media: Path, clips: dict[str, Clip | DecodeError]
) -> None:
    for name in ("edit_list_66x50.mov", "odd_vfr_face.mp4", "rot90_3frames.mov", "bbb_vp8_1s.webm"):
        clip = clips[name]
        assert isinstance(clip, Clip)
        for request, frames in zip(REQUESTS, clip.frames, strict=True):
            assert isinstance(frames, Frames)
            alone = read_frames(media / name, *request)
            np.testing.assert_array_equal(frames.pixels, alone.pixels, name)


def test_what_is_odd_about_a_clip_is_flagged(clips: dict[str, Clip | DecodeError]) -> None:
    found = {
        name: set(clip.quality.flags) for name, clip in clips.items() if isinstance(clip, Clip)
    }
    assert {name: flags for name, flags in found.items() if flags} == FLAGGED


def test_the_facts_are_the_manifests(media: Path, clips: dict[str, Clip | DecodeError]) -> None:
    with (media / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    for name, clip in clips.items():
        if isinstance(clip, DecodeError) or name == "multi_stream_nasa.mp4":
            continue  # of the latter, the manifest describes the other video stream
        row, facts = rows[name], clip.quality.facts
        stored = [facts["width"], facts["height"]][:: -1 if facts["rotation"] % 180 else 1]
        assert "x".join(map(str, stored)) == row["resolution"], name
        assert facts["codec"] == row["codecs"].partition("+")[0], name
        assert facts["header_frames"] == (
            None if row["frames_header"] == "none" else int(row["frames_header"])
        ), name
        assert facts["fps"] == pytest.approx(float(row["fps"]), rel=0.02), name
        assert facts["header_seconds"] == pytest.approx(facts["seconds"], rel=0.02, abs=0.01), name
        if "+" not in row["codecs"]:
            assert facts["seconds"] == pytest.approx(
                float(row["duration_s"]), rel=0.01, abs=0.001
            ), name


def test_no_clip_is_there_twice(clips: dict[str, Clip | DecodeError]) -> None:
    found = [clip for clip in clips.values() if isinstance(clip, Clip)]
    assert len({clip.quality.facts["content"] for clip in found}) == len(found) == len(N_FRAMES)


def test_the_table_is_the_manifests(media: Path) -> None:
    with (media / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rows.keys() | {"manifest.tsv"} == {path.name for path in media.iterdir()}
    for name, row in rows.items():
        decoded = row["frames_decoded"]
        if (
            name == "multi_stream_nasa.mp4"
        ):  # the manifest counts its first stream, we read the best
            assert (decoded, N_FRAMES[name]) == ("325", 390)
        elif name == "odd_jpeg_named_mp4.mp4":  # FFmpeg's one frame of it is a still picture
            assert decoded == "1"
        elif decoded.isdigit() and decoded != "0":
            assert N_FRAMES[name] == int(decoded), name
        else:
            assert name not in N_FRAMES, name


def test_a_turned_clip_shows_the_same_scene_upright(media: Path) -> None:
    """The face in odd_rotated90_face.mp4 is that of face_single_pyfeat.mp4, laid on its side."""
    upright = read_frames(media / "face_single_pyfeat.mp4", eight, None).pixels
    turned = read_frames(media / "odd_rotated90_face.mp4", eight, None).pixels
    assert upright.shape == (8, 360, 640, 3)
    assert turned.shape == (8, 640, 360, 3)
    np.testing.assert_array_equal(np.rot90(upright, 1, axes=(1, 2)), turned)


def test_pixels_are_decords_bit_for_bit_wherever_decord_is_right(
    media: Path, clips: dict[str, Clip | DecodeError]
) -> None:
    decord = pytest.importorskip("decord", exc_type=ImportError)
    wrong = set()
    for name, n_frames in N_FRAMES.items():
        if name in DECORD_FAILS:
            with pytest.raises(decord.DECORDError):
                decord.VideoReader(str(media / name))
            continue
        reader = decord.VideoReader(str(media / name), width=224, height=224, num_threads=1)
        assert len(reader) == DECORD_COUNTS.get(name, n_frames), name
        clip = clips[name]
        assert isinstance(clip, Clip)
        ours = clip.frames[0]
        assert isinstance(ours, Frames)
        if not np.array_equal(reader.get_batch(ours.indices).asnumpy(), ours.pixels):
            wrong.add(name)
    assert wrong == DECORD_ERRS

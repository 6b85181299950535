"""What a baseline is shown: frames by a policy, sound at a rate, decoded or kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("soundfile")

from merstore.errors import CorruptEntry, StaleView
from merstore.extract.material import Material
from merstore.extract.processes import Readers
from merstore.extract.reading import Refusal, read
from merstore.run.zeroshot.baselines import Sound
from merstore.run.zeroshot.media import Given, Kind, Listening, Looking, Media, Shown
from merstore.store.store import Store

from ...extract.conftest import number_shown, write_clip

LOOK = Looking("even_4frms")
LISTEN = Listening(Sound(16_000, 0.5, "mean"))
FRAMES, WAVE = "toy/frame@rgb/even_4frms", "toy/audio@wave16k/mean_0.5s"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Material]:
    """Of 50 and 3 numbered frames at 25 per second, with sound; one without sound; one cut short."""
    import soundfile

    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 12_000)
    soundfile.write(folder / "noise.wav", noise, 16_000)
    counts = {"long": 50, "short": 3, "mute": 5}
    files = {name: write_clip(folder / f"{name}.mp4", count) for name, count in counts.items()}
    whole = files["long"].read_bytes()
    files["cut"] = folder / "cut.mp4"
    files["cut"].write_bytes(whole[: len(whole) * 6 // 10])
    sounds = {"mute": files["mute"]}
    return {
        name: Material(name, video=file, audio=sounds.get(name, folder / "noise.wav"))
        for name, file in files.items()
    }


@contextmanager
def media_of(
    store: Store, materials: Mapping[str, Any] | None, *kinds: Kind, **options: Any
) -> Iterator[Media]:
    made = Media(store, "toy", kinds or (LOOK, LISTEN), materials, readers=Readers(0), **options)
    try:
        yield made
    finally:
        made.close()


def shown(clip: Material, policy: str) -> Shown:
    (result,) = read(clip, [Looking(policy)]).results
    assert isinstance(result, Shown), result
    return result


def heard(file: Path, part: Sound) -> Any:
    (result,) = read(Material("x", audio=file), [Listening(part)]).results
    assert isinstance(result, np.ndarray), result
    return result


def same(one: Given, other: Given) -> bool:
    assert one.found.keys() == other.found.keys()
    pairs = [(one.found["audio"], other.found["audio"])]
    pairs += list(zip(one.found["frame"], other.found["frame"], strict=True))
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("clip", "policy", "numbers"),
    [
        ("long", "even_4frms", [0, 16, 32, 49]),
        ("long", "strided_16frms", list(range(0, 48, 3))),
        ("long", "seconds", [0, 25]),  # of 25 frames each
        ("short", "strided_16frms", [0] * 16),
        ("short", "even_8frms", [0, 0, 0, 0, 1, 1, 1, 2]),
    ],
)
def test_frames_are_those_that_the_policy_takes_with_their_times(
    clips: dict[str, Material], clip: str, policy: str, numbers: list[int]
) -> None:
    frames, seconds = shown(clips[clip], policy)
    assert [number_shown(frame) for frame in frames] == numbers
    assert frames.shape == (len(numbers), 120, 160, 3)
    np.testing.assert_allclose(seconds, np.array(numbers) / 25, atol=1e-9)


def test_sound_is_one_channel_at_the_rate_and_no_longer_than_asked(tmp_path: Path) -> None:
    import soundfile

    left = np.arange(8000, dtype=np.float32) / 16000
    file = tmp_path / "stereo.wav"
    soundfile.write(file, np.stack([left, left / 2 - 0.25], 1), 16000, subtype="FLOAT")
    np.testing.assert_array_equal(heard(file, Sound(16_000, None, "first")), left)
    mean = (left + (left / 2 - 0.25)) / 2
    np.testing.assert_allclose(heard(file, Sound(16_000, 0.2, "mean")), mean[:3200], atol=1e-7)
    assert heard(file, Sound(16_000, 30, "mean")).shape == (8000,)
    assert heard(file, Sound(8_000, None, "mean")).shape == (4000,)


def test_kept_media_are_read_again_bit_for_bit_without_the_clips(
    store: Store, clips: dict[str, Material]
) -> None:
    with media_of(store, clips) as media:
        decoded = media.begin("long")()
        assert decoded.refused is None
        assert [media.decoded, media.read] == [1, 0]
        assert FRAMES not in store
    with media_of(store, clips, keep=True) as media:
        assert same(media.begin("long")(), decoded)
        assert same(media.begin("long")(), decoded)
        assert [media.decoded, media.read] == [1, 1]
    assert list(store[FRAMES]) == list(store[WAVE]) == ["long"]
    with media_of(store, None) as media:
        assert same(media.begin("long")(), decoded)
        assert media.begin("short")() == Given({}, lacking="frame")


def test_what_one_baseline_kept_serves_another_as_far_as_it_goes(
    store: Store, clips: dict[str, Material]
) -> None:
    with media_of(store, clips, LISTEN, keep=True) as media:
        media.begin("long")()
    with media_of(store, clips) as media:
        assert media.begin("long")().found.keys() == {"frame", "audio"}
        assert media.decoded == 1
    with media_of(store, clips, Listening(Sound(16_000, 0.5, "first"))) as media:
        media.begin("long")()
        assert [media.decoded, media.read] == [1, 0]


def test_a_view_that_was_made_otherwise_is_not_served(
    store: Store, clips: dict[str, Material]
) -> None:
    store.create_view(FRAMES, dtype="uint8", shape=(None,), spec={"kind": "something else"})
    with pytest.raises(StaleView, match="even_4frms"), media_of(store, clips):
        pass


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mute", "no_audio"),
        ("cut", "decode_error"),
        ("gone", "missing_file"),
        ("?", "missing_file"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_reason_kept(
    store: Store, clips: dict[str, Material], name: str, kind: str
) -> None:
    materials = {**clips, "gone": Path("gone.mp4")}
    with media_of(store, materials, keep=True) as media:
        given = media.begin(name)()
    assert given.refused is not None
    assert given.refused.kind == kind
    if name != "?":
        with media_of(store, None) as media:  # nothing is opened again
            assert media.begin(name)() == Given({}, given.refused)
            assert media.decoded == 0


def test_a_kept_failure_is_tried_again_when_asked(store: Store, clips: dict[str, Material]) -> None:
    with media_of(store, {"x": clips["cut"]}, keep=True) as media:
        media.begin("x")()
    with media_of(store, {"x": clips["long"]}, keep=True) as media:
        assert isinstance(media.begin("x")().refused, Refusal)
    with media_of(store, {"x": clips["long"]}, keep=True, retry=["decode_error"]) as media:
        assert media.begin("x")().refused is None
    assert list(store[FRAMES]) == ["x"]


def test_an_entry_that_is_no_file_of_frames_is_named(store: Store) -> None:
    view = store.create_view(FRAMES, dtype="uint8", shape=(None,), spec=LOOK.spec)
    view["x"] = np.frombuffer(b"no safetensors here", np.uint8)
    with media_of(store, None) as media, pytest.raises(CorruptEntry, match=f"{FRAMES}/x"):
        media.begin("x")


def test_clips_are_read_in_other_processes_while_the_caller_goes_on(
    store: Store, clips: dict[str, Material]
) -> None:
    made = Media(store, "toy", [LOOK, LISTEN], clips, readers=Readers(1))
    try:
        waits = [made.begin(name) for name in ("long", "cut", "short")]
        one, two, three = (wait() for wait in waits)
    finally:
        made.close()
    assert two.refused is not None
    assert two.refused.kind == "decode_error"
    with media_of(store, clips) as media:
        assert same(one, media.begin("long")())
        assert same(three, media.begin("short")())


@pytest.mark.shared
def test_real_clips_are_shown_heard_and_kept(store: Store, shared: Path) -> None:
    names = [
        "talk_vr_face1",
        "face_then_noface_vfr_hevc",
        "odd_rotated90_face",
        "one_pixel_5frames",
    ]
    files = {path.stem: path for path in (shared / "media").iterdir()}
    with media_of(store, {name: files[name] for name in names}, keep=True) as media:
        decoded = {name: media.begin(name)() for name in names}
        for name, given in decoded.items():
            if given.refused is None:
                assert given.found["frame"].frames.shape[0] == 4
                assert same(media.begin(name)(), given)
    kinds = {name: given.refused and given.refused.kind for name, given in decoded.items()}
    assert kinds == {
        "talk_vr_face1": None,
        "face_then_noface_vfr_hevc": None,
        "odd_rotated90_face": None,
        "one_pixel_5frames": "no_audio",
    }

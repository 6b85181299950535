"""One clip: from a file to an answer, with real encoders of random weights."""

from pathlib import Path

import pytest

pytest.importorskip("av")

from answering import SHORT, World, make_encoders, make_media

from merstore.errors import MerstoreError
from merstore.run.inference import ask


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_media(tmp_path_factory.mktemp("media"), 2)


def test_from_a_clip_to_an_answer(world: World, encoders: Path, media: Path) -> None:
    clip = media / "clips" / "sample_00000000.mp4"
    given = {"models": encoders, "device": "cpu", "settings": SHORT}
    face = media / "faces" / "sample_00000000.npy"
    one, other = (
        ask(clip, world.checkpoints[0], world.llm, subtitle="Why?", face=face, template=t, **given)
        for t in ("realtime", "full")
    )
    assert one.text
    assert one.text == other.text
    silent = ask(clip, world.checkpoints[0], world.llm, face=face, **given)
    assert silent.prompt != one.prompt


def test_what_a_clip_lacks_is_said(
    world: World, encoders: Path, media: Path, tmp_path: Path
) -> None:
    given = {"models": encoders, "device": "cpu", "settings": SHORT}
    clip = media / "clips" / "sample_00000001.mp4"
    with pytest.raises(MerstoreError, match=r"nothing\.mp4: no such file"):
        ask(tmp_path / "nothing.mp4", world.checkpoints[0], world.llm, **given)
    with pytest.raises(MerstoreError, match="missing_text"):
        ask(clip, world.checkpoints[0], world.llm, mode="audio_text", subtitle=None, **given)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:500])
    with pytest.raises(MerstoreError, match=r"broken\.mp4: .*frame: "):
        ask(broken, world.checkpoints[0], world.llm, mode="frameonly", **given)


@pytest.mark.shared
def test_real_clips(world: World, encoders: Path, shared: Path) -> None:
    given = {"models": encoders, "device": "cpu", "settings": SHORT, "subtitle": "So."}
    clip = shared / "media" / "talk_vr_face1.mp4"
    answer = ask(clip, world.checkpoints[0], world.llm, mode="frame", **given)
    assert answer.tokens
    silent = shared / "media" / "odd_no_audio.mp4"
    with pytest.raises(MerstoreError, match="no_audio: audio: "):
        ask(silent, world.checkpoints[0], world.llm, mode="frame", **given)

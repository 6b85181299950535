"""Answers about datasets: what they depend on, what is computed for them, and what becomes of samples
that cannot be answered about.
"""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from answering import (
    SHORT,
    VIEWS,
    World,
    counts,
    make_checkpoint,
    make_llm,
    names_of,
    recipes,
    runner,
    store_features,
    subtitles_of,
    write_samples,
)

from merstore.errors import MerstoreError, StaleView, UnknownView
from merstore.extract.mer_factory import Nonverbal
from merstore.extract.reading import Refusal
from merstore.models.affectgpt import AffectGPT, Settings
from merstore.run.answers import Stored, digest, read, seed_of
from merstore.run.inference import Report
from merstore.run.prompts import prompt, question
from merstore.run.tasks import Task
from merstore.store.store import Store

NAMES = names_of(10)
SUBTITLES = subtitles_of(NAMES)
TOY = Task("toy", NAMES, SUBTITLES)
DRAWN = Settings(max_new_tokens=12, max_length=412, sample=True)


def answered(store: Store, report: Report) -> dict[str, Stored]:
    return read(store[report.view])


def texts(store: Store, report: Report) -> dict[str, str]:
    return {name: answer.text for name, answer in answered(store, report).items()}


def forget(store: Store, report: Report) -> None:
    store.drop_view(report.view)


# --- what cannot be asked ------------------------------------------------------------------------


def contents(store: Store) -> dict[str, tuple[int, int]]:
    """Entries and failures of every view."""
    return {path: (len(store[path]), len(store[path].failures())) for path in store.views()}


def test_what_no_sample_can_be_asked_is_an_error_before_anything_is_written(
    store: Store, world: World, tmp_path: Path
) -> None:
    """And before the language model, of which there is only the description here."""
    store_features(store, NAMES[1:])
    store["toy/" + VIEWS["face"]].fail(NAMES[0], "no_face", "nobody there")
    before = contents(store)
    other = tmp_path / "other"
    make_llm(other, hidden_size=64)
    (other / "model.safetensors").write_bytes(b"")
    sized = Settings(max_new_tokens=12, max_length=60)
    asked = [
        (runner(store, world._replace(llm=other)), r"model that is 32 wide, and this one is 64"),
        (runner(store, world, settings=sized), "48 are left for it: shorten the question"),
        (runner(store, world, question="<AudioHere>?"), "<AudioHere> stands more than once"),
    ]
    for run, told in asked:
        with pytest.raises(MerstoreError, match=told):
            run.run([TOY])
    assert contents(store) == before


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(store: Store, world: World, device: str) -> None:
    with pytest.raises(MerstoreError, match=device):
        runner(store, world, device=device)


# --- what an answer depends on -------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SHORT, DRAWN], ids=["greedy", "drawn"])
def test_neither_batch_nor_order_changes_an_answer(
    store: Store, world: World, settings: Settings
) -> None:
    store_features(store, NAMES)
    found = []
    for batch, names in ((1, NAMES), (4, random.Random(1).sample(NAMES, 10)), (16, NAMES[::-1])):
        asked = runner(store, world, batch=batch, settings=settings)
        (report,) = asked.run([Task("toy", names, SUBTITLES)])
        assert counts(report) == {"answered": 10}
        found.append(texts(store, report))
        forget(store, report)
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].values())) > 5  # the features decide


def test_a_drawn_answer_has_its_seed_beside_it(store: Store, world: World) -> None:
    store_features(store, NAMES)
    found = []
    for seed in (0, 1):
        (report,) = runner(store, world, settings=DRAWN, seed=seed).run([TOY])
        found.append(texts(store, report))
        for name, answer in answered(store, report).items():
            assert answer.seed == seed_of(seed, "toy", name)
    assert found[0] != found[1]


def test_what_is_kept_of_an_answer(store: Store, world: World) -> None:
    store_features(store, NAMES)
    (report,) = runner(store, world, batch=4).run([TOY])
    name = NAMES[3]
    answer = answered(store, report)[name]
    given = prompt("multiface_audio_face_text", question("ovlabel"), SUBTITLES[name])
    assert answer.prompt == digest(given)
    assert answer.seed is None
    assert answer.cut == ""
    assert 1 <= answer.tokens <= 12
    spec = store[report.view].spec
    assert spec["mode"] == "multiface_audio_face_text"  # as the checkpoint was trained
    assert spec["question"] == question("ovlabel")
    assert spec["features"]["face"]["fingerprint"] == store[f"toy/{VIEWS['face']}"].fingerprint


def test_another_question_checkpoint_or_setting_has_answers_of_its_own(
    store: Store, world: World
) -> None:
    store_features(store, NAMES)
    asked = [
        {},
        {"question": "Why?"},
        {"checkpoints": world.checkpoints[1:]},
        {"settings": Settings(max_new_tokens=11, max_length=412)},
        {"mode": "audio_text"},
    ]
    views = {runner(store, world, **options).run([TOY])[0].view for options in asked}
    assert len(views) == len(asked)


# --- what is computed ----------------------------------------------------------------------------


def test_missing_features_are_computed_once_for_all_checkpoints_and_kept(
    store: Store, world: World, tmp_path: Path
) -> None:
    store_features(store, NAMES[:4])
    log = tmp_path / "log"
    clips = write_samples(tmp_path / "clips", NAMES)
    task = Task("toy", NAMES, SUBTITLES, materials=clips)
    options = {"checkpoints": world.checkpoints, "recipes": recipes(log), "batch": 2}
    first, second = runner(store, world, **options).run([task])
    assert first.computed == {"face": 6, "audio": 6}
    assert second.computed == {}
    assert sorted(log.read_text().split()[1::2]) == sorted([str(n) for n in range(4, 10)] * 2)
    assert len(store[f"toy/{VIEWS['face']}"]) == 10
    assert texts(store, first) != texts(store, second)

    log.unlink()
    for report in runner(store, world, **options).run([task]):
        assert counts(report) == {"present": 10}
        assert report.computed == {}
    assert not log.exists()  # no encoder was called


def test_a_complete_run_needs_no_language_model(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_features(store, NAMES)
    runner(store, world).run([TOY])
    monkeypatch.setattr("merstore.run.inference.runner.open_model", None)
    (report,) = runner(store, world).run([TOY])
    assert counts(report) == {"present": 10}


def test_all_templates_give_the_same_answers_of_the_same_features(
    store: Store, world: World, tmp_path: Path
) -> None:
    clips = write_samples(tmp_path / "clips", NAMES)
    task = Task("toy", NAMES, SUBTITLES, materials=clips)
    mode = "multiface_audio_face_frame_text"
    found = {}
    for template in ("realtime", "hybrid", "full"):
        asked = runner(store, world, template, mode=mode, recipes=recipes(tmp_path / "log"))
        (report,) = asked.run([task])
        found[template] = texts(store, report)
        kept = {path.split("/")[1].split("@")[0] for path in store.views()} - {"answer"}
        # What is computed for the run alone leaves nothing in the store.
        assert ("frame" in kept) == (template != "realtime")
        assert ("face" in kept) == (template == "full")
    assert found["realtime"] == found["hybrid"] == found["full"]


def test_features_that_were_made_otherwise_are_not_mixed_with_ours(
    store: Store, world: World, tmp_path: Path
) -> None:
    store_features(store, NAMES, ["audio"])
    faces = store.create_view(f"toy/{VIEWS['face']}", shape=(8, 768), spec={"imported": True})
    faces[NAMES[0]] = np.ones((8, 768), np.float32)
    clips = write_samples(tmp_path / "clips", NAMES)
    task = Task("toy", NAMES, SUBTITLES, materials=clips)
    with pytest.raises(StaleView):
        runner(store, world, recipes=recipes(tmp_path / "log")).run([task])
    (report,) = runner(store, world).run([Task("toy", NAMES[:1], SUBTITLES)])
    assert counts(report) == {"answered": 1}


# --- samples that cannot be answered about -------------------------------------------------------


def test_a_sample_without_a_modality_fails_with_the_reason_and_is_tried_again_when_asked(
    store: Store, world: World, tmp_path: Path
) -> None:
    odd = {NAMES[2]: "refused", NAMES[5]: "impossible"}
    clips = write_samples(tmp_path / "clips", NAMES, **odd)
    task = Task("toy", NAMES, SUBTITLES, materials=clips)
    options = {"recipes": recipes(tmp_path / "log")}
    (report,) = runner(store, world, **options).run([task])
    assert counts(report) == {"answered": 8, "failures": 2}
    assert report.failed == {"no_face": [NAMES[2]], "encoder_error": [NAMES[5]]}
    failure = store[report.view].failure(NAMES[2])
    assert failure is not None
    assert failure.message.startswith("face: ")
    assert report.computed == {"face": 8, "audio": 8}  # nothing more of the two that failed

    write_samples(tmp_path / "clips", NAMES)
    (report,) = runner(store, world, **options).run([task])
    assert counts(report) == {"present": 8, "known_failures": 2}
    (report,) = runner(store, world, retry=["no_face", "no_audio"], **options).run([task])
    assert counts(report) == {"present": 8, "known_failures": 1, "answered": 1}
    (report,) = runner(store, world, retry="all", **options).run([task])
    assert counts(report) == {"present": 9, "answered": 1}


def test_without_media_a_missing_feature_is_no_failure_of_the_sample(
    store: Store, world: World
) -> None:
    store_features(store, NAMES, ["audio"])
    store_features(store, NAMES[:7], ["face"])
    (report,) = runner(store, world).run([TOY])
    assert counts(report) == {"answered": 7, "without": 3}
    assert report.lacking == {"face": NAMES[7:]}
    store_features(store, NAMES[7:], ["face"])
    (report,) = runner(store, world).run([TOY])
    assert counts(report) == {"present": 7, "answered": 3}


def test_a_view_that_is_not_there_is_an_error_that_says_what_to_do(
    store: Store, world: World
) -> None:
    store_features(store, NAMES, ["audio"])
    with pytest.raises(UnknownView, match=r"toy/face@CLIP_VIT_LARGE/8frms.*merstore prewarm"):
        runner(store, world).run([TOY])
    with pytest.raises(
        MerstoreError, match="face is computed in the run, and nothing says of what"
    ):
        runner(store, world, "realtime").run([TOY])


def test_subtitles_that_are_none_nan_or_empty(store: Store, world: World) -> None:
    store_features(store, NAMES[:6])
    told = {
        NAMES[0]: "",
        NAMES[1]: float("nan"),
        NAMES[2]: None,
        NAMES[3]: Refusal("empty_text", "nothing under english"),
        NAMES[4]: Refusal("shifted_row", "row 7 has five cells"),
    }
    (report,) = runner(store, world).run([Task("toy", NAMES[:6], told)])
    found = answered(store, report)
    assert sorted(found) == [NAMES[0], NAMES[1], NAMES[3]]  # nothing said is a subtitle
    assert len({answer.prompt for answer in found.values()}) == 1
    assert report.failed == {"missing_text": [NAMES[2], NAMES[5]], "shifted_row": [NAMES[4]]}
    (silent,) = runner(store, world, mode="audioonly").run([Task("toy", NAMES[:6])])
    assert counts(silent) == {"answered": 6}  # a mode without a subtitle


def test_of_what_cannot_be_asked_no_features_are_computed(
    store: Store, world: World, tmp_path: Path
) -> None:
    names = NAMES[:2]
    media = write_samples(tmp_path / "clips", names)
    task = Task("toy", names, {names[0]: "Oh."}, materials=media)
    (report,) = runner(store, world, recipes=recipes(tmp_path / "log")).run([task])
    assert counts(report) == {"answered": 1, "failures": 1}
    assert report.computed == {"face": 1, "audio": 1}
    assert list(store[f"toy/{VIEWS['face']}"]) == names[:1]


def test_other_subtitles_than_those_of_the_answers_that_are_there(
    store: Store, world: World
) -> None:
    store_features(store, NAMES)
    runner(store, world).run([TOY])
    with pytest.raises(StaleView, match=f"1 answers, such as that to {NAMES[4]}"):
        runner(store, world).run([Task("toy", NAMES, {**SUBTITLES, NAMES[4]: "else"})])


def test_nonverbal_clues_go_into_the_prompt_and_are_not_left_out_unsaid(
    store: Store, world: World, tmp_path: Path
) -> None:
    store_features(store, NAMES[:3])
    clues = {"TOY": {name: {"caption": "Brows go up."} for name in NAMES[:2]}}
    file = tmp_path / "clues.json"
    file.write_text(json.dumps(clues))
    told = dict.fromkeys(NAMES[:3], "So.")
    mode = "multiface_audio_face_au_text"
    task = Task("toy", NAMES[:3], told, nonverbal=Nonverbal(file, "toy").caption)
    (report,) = runner(store, world, mode=mode).run([task])
    assert counts(report) == {"answered": 2, "failures": 1}
    assert report.failed == {"no_nonverbal_text": [NAMES[2]]}
    given = prompt(mode, question("ovlabel"), "So.", "Brows go up.")
    assert answered(store, report)[NAMES[0]].prompt == digest(given)
    # Answers without clues are others, beside them.
    (without,) = runner(store, world, mode=mode).run([Task("toy", NAMES[:3], told)])
    assert counts(without) == {"answered": 3}
    (report,) = runner(store, world, mode=mode).run([task])
    assert counts(report) == {"present": 2, "known_failures": 1}
    (plain,) = runner(store, world).run([task])  # a mode without the clause
    (same,) = runner(store, world).run([Task("toy", NAMES[:3], told)])
    assert plain.view == same.view


def test_features_of_action_units_where_the_checkpoint_takes_them(
    store: Store, world: World, tmp_path: Path
) -> None:
    mode = "multiface_audio_face_frame_au_text"
    fields = {"au_fusion": "mean", "mode": mode}
    path = make_checkpoint(tmp_path / "checkpoint_000040_loss_1.000.pth", world.llm, **fields)
    store_features(store, NAMES[:3], ["frame", "face", "audio"])
    units = store.create_view("toy/au@CLIP_VITB32/8frms", shape=(None, 512), spec={"made": True})
    rows = np.random.default_rng(0).standard_normal((6, 512), np.float32)
    units.update({NAMES[0]: rows[:2], NAMES[1]: rows[2:3], NAMES[2]: rows[3:]})
    asked = runner(store, world, checkpoints=[path])
    asked.template = asked.template.changed({"au": "au_CLIP_VITB32_8frms"})
    (report,) = asked.run([Task("toy", NAMES[:3], dict.fromkeys(NAMES, "So."))])
    assert counts(report) == {"answered": 3}
    given = prompt(mode, question("ovlabel"), "So.", au_features=True)
    assert {each.prompt for each in answered(store, report).values()} == {digest(given)}
    # Without a view of them, the same checkpoint has the prompt with the nonverbal clause's place.
    (plain,) = runner(store, world, checkpoints=[path]).run(
        [Task("toy", NAMES[:3], dict.fromkeys(NAMES, "So."))]
    )
    assert plain.view != report.view


def test_a_mode_that_is_none_or_needs_what_the_template_lacks(store: Store, world: World) -> None:
    store_features(store, NAMES)
    with pytest.raises(MerstoreError, match=r"unknown mode 'face_frame_audio'.*multiface_text"):
        runner(store, world, mode="face_frame_audio").run([TOY])
    with pytest.raises(UnknownView, match="toy/frame@CLIP_VIT_LARGE/random_1frms, which the mode"):
        runner(store, world, mode="image").run([TOY])
    asked = runner(store, world, mode="image")
    asked.template = replace(asked.template, features={})
    with pytest.raises(MerstoreError, match="needs features of image"):
        asked.run([TOY])
    with pytest.raises(MerstoreError, match="no checkpoint"):
        runner(store, world, checkpoints=[])


def test_a_prompt_that_is_too_long_keeps_its_places_and_says_what_was_cut(
    store: Store, world: World
) -> None:
    store_features(store, NAMES[:3])
    long = "word after word " * 200
    told = dict.fromkeys(NAMES[:3], "short") | {NAMES[1]: long}
    (report,) = runner(store, world).run([Task("toy", NAMES[:3], told)])
    assert counts(report) == {"answered": 3}
    assert report.cut == [NAMES[1]]
    cut = answered(store, report)[NAMES[1]].cut
    assert cut
    assert long.startswith(cut)


def test_a_subtitle_that_names_a_place_fails_alone(store: Store, world: World) -> None:
    store_features(store, NAMES[:3])
    told = dict.fromkeys(NAMES[:3], "short") | {NAMES[1]: "<FaceHere>"}
    (report,) = runner(store, world).run([Task("toy", NAMES[:3], told)])
    assert counts(report) == {"answered": 2, "failures": 1}
    assert report.failed == {"model_error": [NAMES[1]]}
    failure = store[report.view].failure(NAMES[1])
    assert failure is not None
    assert "is it in the subtitle?" in failure.message


def test_an_answer_that_does_not_end_is_told_of(store: Store, world: World) -> None:
    store_features(store, NAMES)
    (report,) = runner(store, world).run([TOY])
    found = answered(store, report)
    assert sorted(report.endless) == [name for name in NAMES if not found[name].ended]
    assert report.endless
    assert all(found[name].tokens == 12 for name in report.endless)


def test_too_little_memory_halves_the_batch_and_loses_nothing(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_features(store, NAMES)
    (whole,) = runner(store, world, batch=8).run([TOY])
    expected = texts(store, whole)
    forget(store, whole)
    embed = AffectGPT.embed

    def scarce(self: AffectGPT, ids: torch.Tensor, *rest: object) -> torch.Tensor:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return embed(self, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(AffectGPT, "embed", scarce)
    (report,) = runner(store, world, batch=8).run([TOY])
    assert counts(report) == {"answered": 10}
    assert report.batch == 2
    assert texts(store, report) == expected

    def none(self: AffectGPT, ids: torch.Tensor, *rest: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(AffectGPT, "embed", none)
    (report,) = runner(store, world, batch=8, question="Else?").run([TOY])
    assert list(report.failed) == ["out_of_memory"]
    assert counts(report) == {"failures": 10}

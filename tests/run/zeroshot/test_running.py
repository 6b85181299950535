"""Runs of a baseline over a dataset: what is asked, what is kept, and what a kill may cost."""

import dataclasses
import multiprocessing as mp
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")

from asking import TOY, Scripted, answer_toy, scripted

import merstore
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.errors import EncoderError, MerstoreError, StaleView
from merstore.extract.material import Material
from merstore.extract.reading import Refusal, read
from merstore.run import answers
from merstore.run.tasks import Task
from merstore.run.zeroshot import prompts
from merstore.run.zeroshot.asked import Asked, Said
from merstore.run.zeroshot.media import Listening, Looking
from merstore.run.zeroshot.running import Report, Runner
from merstore.store.store import Store

COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_clips(folder)
    return folder


@pytest.fixture(scope="module")
def clips(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("sample_*"))[:COUNT]}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path / "log"


def run(
    store: Store,
    log: Path,
    clips: Mapping[str, Path] | None,
    names: list[str] | None = None,
    odd: Mapping[str, Any] | None = None,
    subtitles: Mapping[str, Any] | None = None,
    **options: Any,
) -> Report:
    baseline = options.pop("baseline", TOY)
    answerer = options.pop("answerer", None) or Scripted(log, odd)
    runner = Runner(store, baseline, answerer, **{"jobs": 0, **options})
    listed = list(clips or {}) if names is None else names
    return runner.run(Task("toy", listed, subtitles or {}, materials=clips))


def texts(store: Store, report: Report) -> dict[str, str]:
    return {name: each.text for name, each in answers.read(store[report.view]).items()}


def expected(clips: Mapping[str, Path], prompt: str, seed: int = 0) -> dict[str, str]:
    """What the script answers, from media that are read here."""
    found = {}
    for name, clip in clips.items():
        kinds = [Looking(str(TOY.frames)), Listening(TOY.sound)]  # type: ignore[arg-type]
        (frames, seconds), sound = read(Material.of_clip(name, clip), kinds).results
        asked = Asked(name, prompt, Material(name), frames, seconds, sound)
        found[name] = scripted(asked, answers.seed_of(seed, "toy", name))
    return found


def counts(report: Report) -> dict[str, int]:
    keys = ("present", "known_failures", "answered", "elsewhere", "failures", "without")
    told = {key: getattr(report, key) for key in keys if getattr(report, key)}
    assert sum(told.values()) == report.samples
    return told


def test_each_sample_is_answered_once_from_its_media(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    report = run(store, log, clips)
    assert counts(report) == {"answered": COUNT}
    assert report.view.startswith("toy/answer@scripted/nosubtitle-")
    assert texts(store, report) == expected(clips, prompts.prompt(TOY))
    assert log.read_text().split() == list(clips)
    again = run(store, log, clips)
    assert counts(again) == {"present": COUNT}
    assert again.view == report.view
    assert len(log.read_text().split()) == COUNT
    stored = answers.read(store[report.view])["sample_00000003"]
    assert stored.seed == answers.seed_of(0, "toy", "sample_00000003")
    assert stored.prompt == answers.digest(prompts.prompt(TOY))


def test_reading_processes_give_what_reading_here_gives(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    report = run(store, log, clips, jobs=2)
    assert texts(store, report) == expected(clips, prompts.prompt(TOY))


def test_what_fails_is_recorded_by_kind_and_tried_again_only_when_asked(
    store: Store, folder: Path, clips: dict[str, Path], log: Path
) -> None:
    names = ["sample_00000000", "sample_00000001", "sample_00000002"]
    media = {name: clips[name] for name in names}
    media |= {"cut": folder / TRUNCATED, "unseen": folder / NO_VIDEO, "gone": folder / "gone.mp4"}
    odd = {
        "sample_00000000": Refusal("out_of_memory", "far too long"),
        "sample_00000001": Said(" \n</s>", 3, True),
    }
    report = run(store, log, media, [*media, "unknown"], odd)
    assert report.failed == {
        "out_of_memory": ["sample_00000000"],
        "no_answer": ["sample_00000001"],
        "decode_error": ["cut"],
        "no_video": ["unseen"],
        "missing_file": ["gone", "unknown"],
    }
    assert counts(report) == {"answered": 1, "failures": 6}
    failure = store[report.view].failure("sample_00000000")
    assert failure is not None
    assert failure.message == "far too long"

    again = run(store, log, media, [*media, "unknown"])
    assert counts(again) == {"present": 1, "known_failures": 6}
    retried = run(store, log, media, [*media, "unknown"], retry=["out_of_memory", "no_answer"])
    assert counts(retried) == {"present": 1, "known_failures": 4, "answered": 2}
    every = run(store, log, media, [*media, "unknown"], retry="all")
    assert counts(every) == {"present": 3, "failures": 4}


def test_answers_are_kept_on_one_line_and_cut(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    names = list(clips)[:2]
    odd = {names[0]: " a\nb\tc </s>\n", names[1]: Said("endless", 512, False)}
    report = run(store, log, clips, names, odd)
    assert texts(store, report) == dict(zip(names, ["a b c", "endless"], strict=True))
    assert report.endless == [names[1]]
    stored = answers.read(store[report.view])
    assert [stored[name].tokens for name in names] == [0, 512]
    assert [stored[name].ended for name in names] == [True, False]


def test_subtitles_stand_in_the_prompt_where_they_are_asked_for(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    names = list(clips)[:5]
    subtitles = {
        names[0]: "Oh no!",
        names[1]: float("nan"),
        names[2]: Refusal("empty_text", "there is no text"),
        names[3]: Refusal("failed_text", "nothing was recognised"),
    }
    report = run(store, log, clips, names, subtitles=subtitles, subtitle=True)
    assert report.view.startswith("toy/answer@scripted/subtitle-")
    assert report.failed == {"failed_text": [names[3]], "missing_text": [names[4]]}
    found = texts(store, report)
    assert "Oh no!;" in found[names[0]]
    spoken, silent = prompts.prompt(TOY, "Oh no!"), prompts.prompt(TOY)
    assert found[names[0]] == expected({names[0]: clips[names[0]]}, spoken)[names[0]]
    assert [found[name].endswith(silent) for name in names[:3]] == [False, True, True]

    without = run(store, log, clips, names, subtitles=subtitles)
    assert without.view != report.view
    assert all(text.endswith(silent) for text in texts(store, without).values())


def test_another_question_is_another_run(store: Store, clips: dict[str, Path], log: Path) -> None:
    names = list(clips)[:1]
    usual = run(store, log, clips, names)
    other = run(store, log, clips, names, question="Is she angry?")
    (text,) = texts(store, other).values()
    assert text.endswith(" Is she angry?")
    assert other.view != usual.view
    seeded = run(store, log, clips, names, seed=7)
    assert len({usual.view, other.view, seeded.view}) == 3
    assert texts(store, seeded) == expected(
        {name: clips[name] for name in names}, prompts.prompt(TOY), seed=7
    )


def test_a_seed_is_no_other_run_where_nothing_is_drawn(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    class Sure(Scripted):
        draws = False  # type: ignore[assignment]

    reports = [
        run(store, log, clips, list(clips)[:1], answerer=Sure(log), seed=seed) for seed in (0, 7)
    ]
    assert reports[0].view == reports[1].view
    (stored,) = answers.read(store[reports[0].view]).values()
    assert stored.seed is None


def test_answers_to_other_subtitles_are_not_mixed_with_these(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    names = list(clips)[:2]
    run(store, log, clips, names, subtitles=dict.fromkeys(names, "Oh."), subtitle=True)
    changed = {names[0]: "Oh.", names[1]: "Ah."}
    with pytest.raises(StaleView, match=names[1]):
        run(store, log, clips, names, subtitles=changed, subtitle=True)


def test_media_that_are_kept_are_enough_for_another_run(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    report = run(store, log, clips, keep=True)
    assert [report.decoded, report.read] == [COUNT, 0]
    kept = run(store, log, None, [*clips, "new"], seed=7)
    assert counts(kept) == {"answered": COUNT, "without": 1}
    assert kept.lacking == {"frame": ["new"]}
    assert [kept.decoded, kept.read] == [0, COUNT]
    assert texts(store, kept) == expected(clips, prompts.prompt(TOY), seed=7)
    assert store[kept.view].failure("new") is None


@pytest.mark.parametrize("wanted", ["frames", "sound", "paths"])
def test_an_adapter_is_shown_what_it_needs_and_told_where_the_rest_is(
    store: Store, clips: dict[str, Path], log: Path, wanted: str
) -> None:
    asked: list[Asked] = []

    class Adapter(Scripted):
        needs = frozenset({wanted} - {"paths"})  # type: ignore[assignment]

        def answer(self, some: Any, seeds: Any) -> Any:
            asked.extend(some)
            return super().answer(some, seeds)

    media = dict(list(clips.items())[:1]) | {"gone": Path("gone.mp4")}
    report = run(store, log, media, answerer=Adapter(log))
    assert report.failed == {"missing_file": ["gone"]}
    (one,) = asked
    assert (one.frames is not None) == (one.seconds is not None) == (wanted == "frames")
    assert (one.sound is not None) == (wanted == "sound")
    assert one.material.video == clips[one.name]
    if wanted == "paths":
        with pytest.raises(MerstoreError, match="opens files itself"):
            run(store, log, None, ["x"], answerer=Adapter(log))


def test_what_would_fail_for_every_sample_is_said_at_once(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    with pytest.raises(MerstoreError, match="no toy/frame@rgb/even_2frms: give the media"):
        run(store, log, None, ["x"])
    with pytest.raises(MerstoreError, match="no subtitles"):
        run(store, log, clips, subtitle=True)
    silent = dataclasses.replace(TOY, subtitle="none")
    with pytest.raises(MerstoreError, match="without subtitles"):
        run(store, log, clips, baseline=silent, subtitle=True)
    assert log.read_text() == ""


@pytest.mark.parametrize("raised", [EncoderError("no weights"), KeyboardInterrupt()])
def test_a_run_that_ends_early_keeps_what_was_answered_and_no_lease(
    store: Store, clips: dict[str, Path], log: Path, raised: BaseException
) -> None:
    names = list(clips)
    with pytest.raises(type(raised)):
        run(store, log, clips, odd={names[4]: raised})
    (path,) = [path for path in store.views() if "/answer@" in path]
    assert list(store[path]) == names[:4]
    report = run(store, log, clips)  # another owner, in the same living process
    assert counts(report) == {"present": 4, "answered": COUNT - 4}


def test_answers_are_committed_as_they_come(
    store: Store, clips: dict[str, Path], log: Path
) -> None:
    seen: list[int] = []

    def look(name: str) -> None:
        store.refresh()
        (path,) = [path for path in store.views() if "/answer@" in path]
        seen.append(len(store[path]))

    run(store, log, clips, answerer=Scripted(log, told=look))
    assert seen == list(range(COUNT))


def test_progress_counts_every_sample(store: Store, clips: dict[str, Path], log: Path) -> None:
    told: list[tuple[int, int]] = []
    media = clips | {"gone": Path("gone.mp4")}
    run(store, log, clips, list(clips)[:3])
    run(store, log, media, tell=lambda each: told.append((each.done, each.total)))
    assert told == [(done, COUNT + 1) for done in range(3, COUNT + 2)]


# --- several processes, and kills -----------------------------------------------------------------


@pytest.fixture(scope="module")
def context() -> Any:
    """Processes that have imported everything and run nothing yet, so that they start at once."""
    made = mp.get_context("forkserver")
    made.set_forkserver_preload(["asking", "av", "soundfile", "merstore.extract.video"])
    return made


def started(context: Any, *args: Any) -> tuple[Any, Any]:
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=answer_toy, args=(*args, tell))
    process.start()
    tell.close()
    return process, told


@pytest.mark.parametrize("kills", [[1], [4, 2]])
def test_killed_and_started_again_the_answers_are_those_of_an_undisturbed_run(
    tmp_path: Path, clips: dict[str, Path], log: Path, context: Any, kills: list[int]
) -> None:
    path = tmp_path / "killed.mer"
    merstore.open(path, "a").close()
    for answered in kills:
        process, told = started(context, path, clips, log)
        for _ in range(answered):
            told.recv()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        told.close()
    with merstore.open(path, "a") as store:
        (view,) = [path for path in store.views() if "/answer@" in path]
        kept = len(store[view])
        assert kept > 0
        report = run(store, log, clips)
        assert counts(report).get("answered", 0) == COUNT - kept
        assert texts(store, report) == expected(clips, prompts.prompt(TOY))
        assert store.verify() == []
    asked = log.read_text().split()
    assert len(asked) <= COUNT + len(kills)  # one that was under way, of each that was killed


def test_two_runs_at_once_share_the_samples(
    tmp_path: Path, clips: dict[str, Path], log: Path, context: Any
) -> None:
    path = tmp_path / "shared.mer"
    merstore.open(path, "a").close()
    backwards = dict(reversed(clips.items()))
    running = [started(context, path, media, log) for media in (clips, backwards)]
    reports = []
    for process, told in running:
        while not isinstance(last := told.recv(), Report):
            pass
        reports.append(last)
        process.join()
        told.close()
        assert process.exitcode == 0
    assert sum(report.answered for report in reports) == COUNT
    assert sorted(log.read_text().split()) == sorted(clips)
    for report in reports:
        counts(report)
    with merstore.open(path) as store:
        assert texts(store, reports[0]) == expected(clips, prompts.prompt(TOY))


# --- a model -------------------------------------------------------------------------------------


def test_a_tiny_model_answers_about_clips(
    store: Store, clips: dict[str, Path], qwen2_audio: Path
) -> None:
    pytest.importorskip("transformers")
    from merstore.run.decoding import Decoding
    from merstore.run.zeroshot.baselines import find
    from merstore.run.zeroshot.native import open_native

    baseline = find("qwen2-audio")
    model = open_native(baseline, qwen2_audio, Decoding(max_tokens=8), device="cpu")
    report = Runner(store, baseline, model, jobs=0).run(
        Task("toy", list(clips)[:3], materials=clips)
    )
    assert counts(report) == {"answered": 3}
    for name, text in texts(store, report).items():
        sound = Listening(baseline.sound)  # type: ignore[arg-type]
        (heard,) = read(Material.of_clip(name, clips[name]), [sound]).results
        assert isinstance(heard, np.ndarray)
        asked = Asked(name, prompts.prompt(baseline), Material(name), sound=heard)
        (said,) = model.answer([asked], [0])
        assert isinstance(said, Said)
        assert baseline.clean(said.text) == text

"""What zero-shot models are asked."""

from dataclasses import replace

import pytest

from merstore.errors import MerstoreError
from merstore.run.zeroshot.baselines import Baseline, find, names
from merstore.run.zeroshot.prompts import PURPOSES, prompt

ALL = [find(name) for name in names()]
SAID = "It is {fine}; really"


@pytest.mark.parametrize("baseline", ALL, ids=lambda each: each.name)
def test_the_subtitle_stands_in_front_or_behind(baseline: Baseline) -> None:
    text = prompt(baseline, SAID)
    said = f"{SAID}{baseline.separator}"
    assert said in text
    assert "{subtitle}" not in text
    before, _, behind = text.partition(said)
    if baseline.name == "video-chatgpt":
        assert (baseline.subtitle, behind) == ("behind", "")
        assert "emotion" in before
    else:
        assert baseline.subtitle == "before"
        assert "emotion" not in before
        assert behind.startswith(" ")


@pytest.mark.parametrize("baseline", ALL, ids=lambda each: each.name)
def test_a_semicolon_follows_but_for_three(baseline: Baseline) -> None:
    without = {"salmonn", "videochat2", "video-chatgpt"}
    assert (f"{SAID};" in prompt(baseline, SAID)) == (baseline.name not in without)


@pytest.mark.parametrize("baseline", ALL, ids=lambda each: each.name)
@pytest.mark.parametrize("nothing", [None, "", " \n", float("nan")], ids=repr)
def test_without_a_subtitle_nothing_points_to_one(
    baseline: Baseline, nothing: str | float | None
) -> None:
    text = prompt(baseline, nothing)
    assert text == prompt(baseline)
    assert "subtitle" not in text
    assert text == text.strip()


def test_a_baseline_that_takes_no_subtitle_is_shown_none() -> None:
    silent = replace(find("otter"), subtitle="none")
    assert prompt(silent, SAID) == prompt(silent)


def test_what_is_asked_for() -> None:
    asked = {each.name: prompt(each) for each in ALL}
    assert asked["salmonn"] == "Which emotional state is the person who speaks in?"
    for name, text in asked.items():
        if name == "salmonn":
            continue
        assert "expert" in text
        assert "Describe in detail" in text
        assert ("list in the end all emotional states" in text) == (name == "chat-univi")
        hears = name in ("qwen-audio", "qwen2-audio", "audio-flamingo-3", "qwen2.5-omni")
        assert ("voice" in text) == hears
        assert ("face" in text) == (find(name).needs == "video")
    assert {each.purpose for each in ALL} == set(PURPOSES)


def test_another_question_stands_where_the_baselines_does() -> None:
    otter = find("otter")
    assert prompt(otter, None, "How is she?") == "How is she?"
    assert prompt(otter, SAID, "How is she?").endswith(f"{SAID}; How is she?")


@pytest.mark.parametrize("bad", [3, 1.5, b"said", ["said"]])
def test_a_subtitle_that_is_no_text_is_refused(bad: object) -> None:
    with pytest.raises(MerstoreError, match="is no text"):
        prompt(find("otter"), bad)  # type: ignore[arg-type]

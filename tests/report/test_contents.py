"""The page of a store: what it tells, and that it is a good page."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import browser, dumped
from html_page import Page

import merstore
from merstore import Store
from merstore.errors import UnknownView
from merstore.machine import describe
from merstore.profile import Profile, declared, keep
from merstore.report.contents import contents_of, html
from merstore.run.answers import Stored, put
from merstore.store.quality import pack, quality_view

FRAMES, SOUND = "mer2023/frame@E/uniform_8frms", "mer2023/audio@E/FRA"
ANSWERS = "mer2023/answer@checkpoint/full-0123"
HOSTILE = "<script>alert(1)</script>'\"&中"


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Store]:
    """Five entries and a failure of six samples, two entries of the same; a run, a rate, flags."""
    with merstore.open(tmp_path / "s.mer", "a") as store:
        frames = store.create_view(FRAMES, shape=(4,), spec={"profile": HOSTILE})
        frames.update({f"s{i}": np.ones(4, np.float32) for i in range(5)})
        frames.fail(HOSTILE.replace("/", "∕"), "no_face", f"message {HOSTILE}")
        sound = store.create_view(SOUND, shape=(None, 4), dtype="float16")
        sound.update({f"s{i}": np.ones((i, 4), np.float16) for i in (1, 3)})
        spec = {"mode": "full", "question": f"What {HOSTILE}?"}
        view = store.create_view(ANSWERS, dtype="uint8", shape=(None,), spec=spec)
        with store.writer() as writer:
            for i in range(45):
                ended, cut = i > 2, "subtitle" if i == 9 else ""
                text = f"He is {i} {HOSTILE}"
                put(writer, view, f"a{i:02}", Stored(text, "00", i, ended, cut, None, 2.0, 4))
        view.fail("b", "no_features", "nothing to answer about")
        quality_view(store, "mer2023", "audio")["s1"] = pack(["silent"], {})
        rate = {"cpu": "fast", "cores": 2, "gpus": [], "encoding": 0.0123, "rest": 0.5}
        store.note("rate", frames.fingerprint, json.dumps(rate))
        store.note("rate", "0" * 16, "damaged")
        yield store


def test_features_are_counted_apart_from_what_runs_keep(filled: Store) -> None:
    found = contents_of(filled)
    assert {v.view: (v.samples, v.entries, v.failures, v.missing) for v in found.views} == {
        FRAMES: (6, 5, 1, 0),
        SOUND: (6, 2, 0, 4),
    }
    assert {v.view: (v.entries, v.failures) for v in found.others} == {
        ANSWERS: (45, 1),
        "mer2023/quality/audio": (1, 0),
    }
    assert [(group.where, group.kind, group.count) for group in found.failed] == [
        (FRAMES, "no_face", 1),
        (ANSWERS, "no_features", 1),
    ]
    assert [(group.kind, group.shown[0].name) for group in found.flags] == [("silent", "s1")]
    assert list(found.rates) == [FRAMES]


def test_a_run_of_inference_is_summed_up(filled: Store) -> None:
    (run,) = contents_of(filled, [ANSWERS]).answered
    assert (run.answers, run.failures, run.endless, run.cut) == (45, 1, 3, 1)
    assert run.tokens == sum(range(45)) / 45
    assert run.seconds == 45 * 2 / 4
    assert [name for name, _ in run.shown] == [f"a{i:02}" for i in range(0, 45, 3)]


def test_profiles_say_whether_they_hold(filled: Store) -> None:
    views = {SOUND: declared(filled, SOUND)}
    here = describe(filled.path)
    profile = Profile(views, {"threads": 2}, 64, None, 1e4, 1e6, here, "2026-01-01T00:00:00+00:00")
    keep(filled.path, profile)
    filled.refresh()
    ((found, stale),) = contents_of(filled).profiles
    assert (found, stale) == (profile, [])
    assert contents_of(filled, [FRAMES]).profiles == []
    filled.drop_view(SOUND)
    text = html(contents_of(filled))
    assert f"no: {SOUND} is no longer there" in text
    Page(text).check()


def test_the_page_is_a_good_one(filled: Store) -> None:
    text = html(contents_of(filled))
    page = Page(text)
    page.check()
    assert page.tags.count("svg") == 2
    assert f"{FRAMES}: 5 entries, 1 failures, 0 missing" in page.alternatives[0]
    assert page.tags.count("script") == 1  # its own
    assert "What &lt;script&gt;alert(1)" in text
    assert "12.3</td>" in text


def test_a_run_that_is_damaged_is_named(filled: Store) -> None:
    with filled.writer() as writer:
        writer.put(filled[ANSWERS], "c", np.frombuffer(b"{}", np.uint8))
    found = contents_of(filled)
    assert found.answered == []
    assert f"{ANSWERS}/c is no answer" in found.damaged[0]
    assert "Cannot be read:" in html(found)


def test_results_that_are_not_of_training_are_only_counted(filled: Store) -> None:
    filled.create_view("mer2023/result@mine/run", shape=(2,), spec={"kind": "mine"})
    found = contents_of(filled)
    assert (found.trained, found.damaged) == ([], [])
    assert "mer2023/result@mine/run" in [view.view for view in found.others]


def test_an_empty_store(store: Store) -> None:
    text = html(contents_of(store))
    page = Page(text)
    page.check()
    assert page.tags.count("svg") == 0
    assert "No views." in text


def test_an_unknown_view(filled: Store) -> None:
    with pytest.raises(UnknownView, match="no view a/b/c"):
        contents_of(filled, ["a/b/c"])


@pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
def test_a_browser_opens_it(filled: Store, tmp_path: Path) -> None:
    count = "document.title = [...document.querySelectorAll('th button')].length"
    text = html(contents_of(filled))
    assert int(dumped(tmp_path, text, count)) == text.count('<th scope="col"') + text.count(
        '<th class="n" scope="col"'
    )

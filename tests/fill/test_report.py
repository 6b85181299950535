"""The report of a prewarm: what the store holds and the log tells, on one page that needs nothing else."""

import builtins
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page

import merstore
from merstore import MerstoreError, Store, UnknownView
from merstore.fill import report as reporting
from merstore.fill.log import Log
from merstore.fill.report import Coverage, Group, RunFacts, facts_of, html, write_report
from merstore.store.quality import pack, quality_view

FRAMES, SOUND = "mer2023/frame@E/uniform_8frms", "mer2023/audio@E/FRA"
HOSTILE = "<script>alert(1)</script>'\"&中"


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Store]:
    """Two views of ten samples: six entries and two failures; four entries."""
    with merstore.open(tmp_path / "features.mer", "a") as store:
        frames = store.create_view(FRAMES, shape=(2, 4), spec={"profile": "mertools"})
        frames.update({f"s{i}": np.ones((2, 4), np.float32) for i in range(5)})
        frames["zero"] = np.zeros((2, 4), np.float32)
        frames.fail("f0", "no_face", "no frame has a face")
        frames.fail(HOSTILE.replace("/", "∕"), "decode_error", f"message {HOSTILE}")
        sound = store.create_view(SOUND, shape=(None, 4), dtype="float16", nonfinite="flag")
        sound.update(
            {f"s{i}": np.full((1 + i, 4), np.nan if i == 3 else 1, "f2") for i in range(4)}
        )
        yield store


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of the same log: the first of 100 seconds and killed, the second of 10."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "run.jsonl"
    for length, done in ((100, False), (10, True)):
        with Log(path) as log:
            views = {FRAMES: {"samples": 12, "missing": 4}, SOUND: {"samples": 10, "missing": 6}}
            log.write("plan", views=views, shard="1/2", settings={"profile": HOSTILE}, machine={})
            for second in range(length):
                now += 1
                share = {"encode": second / length, "decode": None}
                log.write(
                    "progress", done=8 * (second + 1), elsewhere=3, failed=1, total=800, **share
                )
            if done:
                log.write("done", computed=1)
    return path


def coverage(facts: RunFacts) -> dict[str, tuple[int, ...]]:
    return {v.view: (v.samples, v.entries, v.failures, v.missing, v.bytes) for v in facts.views}


# -- facts


def test_coverage_is_counted_in_the_store(filled: Store) -> None:
    facts = facts_of(filled, [FRAMES, SOUND])
    assert coverage(facts) == {FRAMES: (8, 6, 2, 0, 6 * 32), SOUND: (8, 4, 0, 4, 10 * 8)}
    names = ["s0", "s1", "f0", "new", "other"]
    assert coverage(facts_of(filled, [FRAMES], names=names))[FRAMES][:4] == (5, 6, 2, 2)
    with pytest.raises(UnknownView, match="no view a/b/c"):
        facts_of(filled, ["a/b/c"])


def test_the_log_knows_what_was_wanted(filled: Store, log: Path) -> None:
    """The plan counted what was missing before; what came since is no longer."""
    facts = facts_of(filled, [FRAMES, SOUND], log)
    assert coverage(facts)[FRAMES][:4] == (12, 6, 2, 4)
    filled[FRAMES]["s9"] = np.ones((2, 4), np.float32)
    filled[FRAMES].fail("f9", "no_face", "")
    facts = facts_of(filled, [FRAMES, SOUND], log)
    assert coverage(facts)[FRAMES][:4] == (12, 7, 3, 2)
    assert coverage(facts)[SOUND][:4] == (10, 4, 0, 6)


def test_failures_are_grouped_by_kind_with_the_first_names(filled: Store) -> None:
    view = filled[FRAMES]
    with filled.writer() as writer:
        for i in range(60):
            writer.fail(view, f"m{i:02}", "missing_file", "no such file")
    groups = facts_of(filled, [FRAMES]).failed
    assert [(group.kind, group.count) for group in groups] == [
        ("missing_file", 60),
        ("decode_error", 1),
        ("no_face", 1),
    ]
    assert [name for name, _ in groups[0].shown] == [f"m{i:02}" for i in range(50)]
    assert "and 10 more" in html(facts_of(filled, [FRAMES]))
    assert groups[2].shown == [("f0", "no frame has a face")]


def test_flags_of_entries_and_of_quality_are_counted(filled: Store) -> None:
    video = quality_view(filled, "mer2023", "video")
    video.update({name: pack(["rotated"], {"content": "1"}) for name in ("s0", "s1")})
    quality_view(filled, "mer2023", "audio")["s0"] = pack(["silent"], {})
    flags = facts_of(filled, [FRAMES, SOUND]).flags
    assert {(group.where, group.kind): group.count for group in flags} == {
        (FRAMES, "zero_row"): 1,
        (SOUND, "nonfinite"): 1,
        ("mer2023", "rotated"): 2,
        ("mer2023", "silent"): 1,
        ("mer2023", "duplicate"): 1,
    }
    assert all(group.meaning for group in flags)
    assert [group.shown[0].name for group in flags] == ["zero", "s3", "s0", "s1", "s0"]


def test_rates_are_taken_from_the_log(filled: Store, log: Path) -> None:
    first, second = facts_of(filled, [FRAMES], log).runs
    assert (first.seconds, first.done, first.failed, first.ended, first.shard) == (
        100,
        797,
        1,
        False,
        "1/2",
    )
    assert (second.seconds, second.done, second.ended) == (10, 77, True)
    assert [rate.entries for rate in second.rates] == [5] + [8] * 9
    assert [rate.encode for rate in second.rates] == pytest.approx([i / 10 for i in range(10)])
    assert second.rates[0].decode is None
    assert second.rate == 7.7


def test_a_long_run_is_thinned_and_keeps_its_sum(
    filled: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "POINTS", 7)
    first, _ = facts_of(filled, [FRAMES], log).runs
    assert len(first.rates) == 7
    ends = np.array([0.0, *(rate.seconds for rate in first.rates)])
    assert np.dot(np.diff(ends), [rate.entries for rate in first.rates]) == pytest.approx(797)
    shares = [rate.encode for rate in first.rates if rate.encode is not None]
    assert np.dot(np.diff(ends), shares) / 100 == pytest.approx(0.495)


def test_a_log_of_anything_is_no_reason_to_fail(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    with Log(path) as log:
        log.write("plan", views=[1], settings=3, machine="x")
        log.write("plan", views={FRAMES: {"samples": "many", "missing": None}})
        log.write("progress", done="x", encode="y", decode=[])
        log.write("progress", done=-5, elsewhere=None)
        log.write("later", what="an event of a later version")
    facts = facts_of(filled, [FRAMES], path)
    assert coverage(facts)[FRAMES][:4] == (8, 6, 2, 0)
    Page(html(facts)).check()


# -- the page


def test_the_page_tells_it_all_and_needs_nothing_else(
    filled: Store, log: Path, tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", facts_of(filled, [FRAMES, SOUND], log))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    page.check()
    assert page.tags.count("svg") == 2
    for told in (FRAMES, SOUND, "float16 T × 4", "no_face", "zero_row", "no frame has a face", "did not end by itself",
                 "cores", "&#34;profile&#34;: &#34;mertools&#34;"):  # fmt: skip
        assert told in text
    assert len(text) < 200_000


def test_what_comes_from_outside_is_text(filled: Store, log: Path) -> None:
    text = html(facts_of(filled, [FRAMES, SOUND], log))
    assert text.count("&lt;script&gt;alert(1)") == 3  # a name, its message, a setting
    Page(text).check()  # one script, the page's own
    assert "中" in text


def test_a_store_with_nothing_in_it_and_no_log(filled: Store, tmp_path: Path) -> None:
    filled.create_view("a/b/c")
    text = html(facts_of(filled, ["a/b/c"]))
    assert Page(text).tags.count("svg") == 0
    assert "No log was kept" in text
    assert "<p>None.</p>" in text
    Page(html(facts_of(filled, []))).check()


def test_facts_may_come_from_elsewhere(tmp_path: Path) -> None:
    spec = {"path": "a\udcff"}
    view = Coverage(
        FRAMES, "float32", (8,), 3, 2, 1, 0, 64, spec, [Group(FRAMES, "no_face", "", 1)]
    )
    write_report(tmp_path / "r.html", RunFacts("s.mer", "today", [view]))
    assert r"a\udcff" in (tmp_path / "r.html").read_text()


def test_a_report_that_cannot_be_written_leaves_the_old_one(filled: Store, tmp_path: Path) -> None:
    facts = facts_of(filled, [FRAMES])
    with pytest.raises(MerstoreError, match=r"nowhere/r\.html cannot be written"):
        write_report(tmp_path / "nowhere" / "r.html", facts)
    (tmp_path / "folder").mkdir()
    with pytest.raises(MerstoreError, match="folder cannot be written"):
        write_report(tmp_path / "folder", facts)
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("absent", ["jinja2", "matplotlib"])
def test_without_the_extra_it_says_which(
    absent: str, filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **how: Any) -> Any:
        if name.split(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=absent)
        return real(name, *args, **how)

    facts = facts_of(filled, [FRAMES])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MerstoreError, match=rf"{absent} is not installed: pip install 'merstore\[tune\]'"
    ):
        html(facts)

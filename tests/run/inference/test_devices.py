"""Processes that share a run: their progress and their reports as one."""

from pathlib import Path

import pytest
from answering import (
    World,
    names_of,
    recipes,
    runner,
    store_features,
    subtitles_of,
    write_samples,
)

from merstore.fill.shards import Shard
from merstore.run.answering import Samples
from merstore.run.inference import devices
from merstore.run.inference.devices import telling
from merstore.run.inference.report import Progress, Report, together
from merstore.run.tasks import Task
from merstore.store.store import Store


class TestProgress:
    @pytest.fixture
    def processes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[devices.Tell]:
        told = []
        for number in range(2):
            monkeypatch.setattr(devices.os, "getpid", lambda number=number: number)
            told.append(telling(tmp_path))
        return told

    def test_nobody_has_told_yet(self, tmp_path: Path) -> None:
        assert devices._all(tmp_path) is None

    def test_what_one_did_is_not_counted_again_where_another_finds_it(
        self, processes: list[devices.Tell], tmp_path: Path
    ) -> None:
        first, second = processes
        first(Progress(4, 20, "a", "c", 4, 0))
        first(Progress(7, 20, "a", "c", 4, 3))
        assert devices._all(tmp_path) == Progress(7, 20, "a", "c", 4, 3)
        second(Progress(7, 20, "a", "c", 7, 0))  # begins when three are answered
        second(Progress(9, 20, "a", "c", 7, 2))
        found = devices._all(tmp_path)
        assert found is not None
        assert (found.done, found.total) == (4 + 3 + 2, 20)
        first(Progress(10, 20, "b", "c", 0, 0))  # goes on to the next
        first(Progress(11, 20, "b", "c", 0, 1))
        found = devices._all(tmp_path)
        assert found is not None
        assert (found.done, found.dataset) == (4 + 3 + 2 + 1, "b")


def test_reports_are_added_up() -> None:
    one = Report("a", "a/answer@c/m-1", 20, checkpoint="c", present=4, answered=6, elsewhere=7)
    one.failed, one.lacking = {"no_face": ["s3"]}, {"audio": ["s9", "s7"]}
    one.fetched, one.computed, one.cut = {"face": 6, "audio": 6}, {"face": 2}, ["s2"]
    one.seconds, one.generating, one.waiting, one.batch = 10.0, 8.0, 1.0, 8
    other = Report("a", "a/answer@c/m-1", 20, checkpoint="c", present=5, answered=5, elsewhere=6)
    other.failed = {"no_face": ["s1"], "decode_error": ["s4"]}
    other.lacking = {"audio": ["s7"]}
    other.fetched, other.computed, other.cut = {"face": 5}, {"audio": 1}, ["s0"]
    other.seconds, other.generating, other.waiting, other.batch = 8.0, 4.0, 3.0, 16
    found = together([one, other])
    assert vars(found) == vars(
        Report(
            "a", "a/answer@c/m-1", 20, checkpoint="c", present=4, answered=11,
            failed={"no_face": ["s1", "s3"], "decode_error": ["s4"]},
            lacking={"audio": ["s7", "s9"]},
            fetched={"face": 11, "audio": 6}, computed={"face": 2, "audio": 1},
            cut=["s0", "s2"], batch=16, seconds=10.0, generating=6.0, waiting=2.0,
        )
    )  # fmt: skip


def test_each_begins_with_its_own_samples_and_then_helps_the_others(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own in large windows; theirs as many as are answered at once, from the end on which they
    come to last.
    """
    names = names_of(11)
    store_features(store, names)
    claimed: list[list[str]] = []
    whole = Samples.claim

    def claim(self: Samples, some: list[str], busy: list[str]) -> dict[str, str]:
        claimed.append(some)
        return whole(self, some, busy)

    monkeypatch.setattr(Samples, "claim", claim)
    asked = runner(store, world, batch=2, part=Shard(1, 3))
    (report,) = asked.run([Task("toy", names, subtitles_of(names))])
    rest = [name for name in reversed(names) if name not in names[1::3]]
    assert claimed == [names[1::3], rest[:2], rest[2:4], rest[4:6], rest[6:]]
    assert report.answered == 11


def test_what_is_computed_for_the_run_alone_is_there_for_all(
    store: Store, world: World, tmp_path: Path
) -> None:
    """One process answers with the first checkpoint, another with the second, of the same clips."""
    names = names_of(3)
    clips = write_samples(tmp_path / "clips", names)
    task = Task("toy", names, subtitles_of(names), materials=clips)
    computed = []
    for checkpoint in world.checkpoints:
        asked = runner(
            store,
            world,
            "realtime",
            checkpoints=[checkpoint],
            mode="multiface_audio_face_text",
            recipes=recipes(tmp_path / "log"),
            scratch=tmp_path,
        )
        (report,) = asked.run([task])
        assert report.answered == 3
        computed.append(report.computed)
    assert computed == [{"face": 3, "audio": 3}, {}]
    assert not any("face@" in path for path in store.views())


def test_samples_that_nobody_here_accounts_for_were_done_elsewhere() -> None:
    parts = [
        Report("a", "v", 20, checkpoint="c", answered=6),
        Report("a", "v", 20, checkpoint="c", answered=5),
    ]
    assert together(parts).elsewhere == 9

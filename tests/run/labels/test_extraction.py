"""Texts to answers, and the cache that keeps anything from being asked twice."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merstore
from merstore.errors import InvalidKey, MerstoreError, ReadOnlyStore
from merstore.run.labels import GREEDY, PUBLISHED, Endpoint, Refusal, Rule, extract
from merstore.score.wheels import WheelTables
from merstore.store.leases import Claim, Owner
from merstore.store.store import Store

from .conftest import Counting
from .server import Server

TEXTS = {"a": "so happy", "b": "jealous and sad", "c": "nothing", "d": "so happy"}
LABELS = {"a": "[happy]", "b": "[jealous, sad]", "c": "[]", "d": "[happy]"}


class TestTexts:
    def test_answers_come_in_the_order_of_the_texts(self, rule: Counting) -> None:
        found = extract(TEXTS, rule)
        assert list(found.answers.items()) == list(LABELS.items())
        assert (found.failed, found.empty, found.view) == ({}, [], None)

    def test_the_same_text_is_asked_about_once(self, rule: Counting) -> None:
        assert extract(TEXTS, rule).asked == 3
        assert rule.asked == [["so happy", "jealous and sad", "nothing"]]

    @pytest.mark.parametrize("nothing", ["", " \n", b"", None, float("nan"), np.float32("nan")])
    @pytest.mark.parametrize(("task", "answer"), [("openset", "[]"), ("sentiment", "neutral")])
    def test_nothing_is_asked_about_an_empty_text(
        self, rule: Counting, nothing: object, task: str, answer: str
    ) -> None:
        found = extract({"a": nothing}, rule, task)
        assert found.answers == {"a": answer}
        assert found.empty == ["a"]
        assert rule.asked == []

    def test_bytes_arrays_and_lists_of_labels_are_texts_too(self, rule: Counting) -> None:
        texts = {"a": b"happy", "b": np.array("happy"), "c": ["happy", "sad"], "d": np.str_("sad")}
        assert extract(texts, rule).answers == {
            "a": "[happy]",
            "b": "[happy]",
            "c": "[happy, sad]",
            "d": "[sad]",
        }
        assert rule.asked == [["happy", "[happy, sad]", "sad"]]

    @pytest.mark.parametrize("wrong", [b"\xff\xfe", "half of \ud83d", 3, {"text": "happy"}])
    def test_what_is_no_text_is_refused_by_name(self, rule: Counting, wrong: object) -> None:
        with pytest.raises(MerstoreError, match=r"sample clip_7: .* no "):
            extract({"clip_7": wrong}, rule)

    def test_there_are_two_tasks(self, rule: Counting) -> None:
        with pytest.raises(InvalidKey, match="openset, sentiment"):
            extract(TEXTS, rule, "colour")


class TestCache:
    def test_a_second_run_asks_nothing(self, rule: Counting, store: Store) -> None:
        first = extract(TEXTS, rule, store=store)
        second = extract(TEXTS, rule, store=store)
        assert first.answers == second.answers == LABELS
        assert (first.asked, second.asked) == (3, 0)

    def test_a_new_text_alone_is_asked_about(self, rule: Counting, store: Store) -> None:
        extract(TEXTS, rule, store=store)
        extract({**TEXTS, "e": "sadly"}, rule, store=store)
        assert rule.asked[1:] == [["sadly"]]

    def test_a_full_cache_is_read_through_a_read_only_store(
        self, rule: Counting, store: Store
    ) -> None:
        extract(TEXTS, rule, store=store)
        with merstore.open(store.path) as reading:
            assert extract(TEXTS, rule, store=reading).answers == LABELS
            with pytest.raises(ReadOnlyStore):
                extract({"e": "sadly"}, rule, store=reading)

    def test_answers_are_kept_by_task_model_settings_and_prompt(
        self, rule: Counting, store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from merstore.run.labels import prompts

        paths = [
            extract(TEXTS, rule, store=store).view,
            extract(TEXTS, rule, "sentiment", store=store).view,
            extract(TEXTS, Endpoint(server.url, "one"), store=store).view,
            extract(TEXTS, Endpoint(server.url, "two"), store=store).view,
            extract(TEXTS, Endpoint(server.url, "two", PUBLISHED), store=store).view,
        ]
        monkeypatch.setitem(prompts.PROMPTS, "openset", {"text": "Which feelings? {text}"})
        other = extract(TEXTS, Endpoint(server.url, "two"), store=store)
        assert len({*paths, other.view}) == 6
        assert other.asked == 3
        spec = store[str(other.view)].spec
        assert spec["prompts"] == {"text": "Which feelings? {text}"}
        assert spec["decoding"]["temperature"] == GREEDY.temperature

    def test_the_answer_is_kept_as_it_was_given(self, store: Store, server: Server) -> None:
        from .server import says

        server.always = lambda message: says("Output: [happy]\n")
        found = extract({"a": "text"}, Endpoint(server.url, "m"), store=store)
        assert found.answers == {"a": "[happy]"}
        view = store[str(found.view)]
        assert [view[name].tobytes() for name in view] == [b"Output: [happy]\n"]

    def test_progress_counts_different_messages(self, rule: Counting, store: Store) -> None:
        rule.batch = 2
        told: list[tuple[int, int]] = []
        extract({"a": "so happy"}, rule, store=store)
        extract(TEXTS, rule, store=store, progress=lambda *now: told.append(now))
        assert told == [(3, 3)]
        told.clear()
        extract(TEXTS, rule, progress=lambda *now: told.append(now))
        assert told == [(2, 3), (3, 3)]


class Moody(Rule):
    """Refuses to answer what it is told to."""

    batch = 2

    def __init__(self, tables: WheelTables, refused: set[str]) -> None:
        super().__init__(tables)
        self.refused = refused
        self.asked: list[str] = []

    def answer(self, task: str, messages: Sequence[str]) -> Iterable[str | Refusal]:
        self.asked += messages
        for message, answer in zip(messages, super().answer(task, messages), strict=True):
            yield Refusal("timeout", "no answer in time") if message in self.refused else answer


class TestFailures:
    def test_one_is_recorded_and_the_others_are_answered(
        self, tables: WheelTables, store: Store
    ) -> None:
        found = extract(TEXTS, Moody(tables, {"so happy"}), store=store)
        assert found.answers == {"b": LABELS["b"], "c": LABELS["c"]}
        assert found.failed == dict.fromkeys("ad", Refusal("timeout", "no answer in time"))
        (failure,) = store[str(found.view)].failures()
        assert (failure.kind, failure.attempts) == ("timeout", 1)

    def test_it_is_tried_again_only_when_that_is_asked_for(
        self, tables: WheelTables, store: Store
    ) -> None:
        moody = Moody(tables, {"so happy"})
        extract(TEXTS, moody, store=store)
        moody.asked.clear()
        assert extract(TEXTS, moody, store=store).failed.keys() == {"a", "d"}
        assert moody.asked == []
        assert extract(TEXTS, moody, store=store, retry_failed=True).failed.keys() == {"a", "d"}
        assert moody.asked == ["so happy"]
        moody.refused.clear()
        found = extract(TEXTS, moody, store=store, retry_failed=True)
        assert found.answers == LABELS
        assert store[str(found.view)].failures() == []

    @pytest.mark.parametrize("nothing", ["", " ", "\n\n", "Output:", "输出："])
    @pytest.mark.parametrize("kept", [True, False])
    def test_a_model_that_says_nothing_has_failed(
        self, tables: WheelTables, store: Store, nothing: str, kept: bool
    ) -> None:
        class Mute(Rule):
            def answer(self, task: str, messages: Sequence[str]) -> list[str]:
                return [nothing] * len(messages)

        found = extract({"a": "text"}, Mute(tables), store=store if kept else None)
        assert found.answers == {}
        assert found.failed["a"].kind == "no_answer"


class Deadly(Rule):
    """Kills its own process at the third batch."""

    batch = 4
    batches = 0

    def answer(self, task: str, messages: Sequence[str]) -> Any:
        self.batches += 1
        if self.batches == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(task, messages)


MANY = {f"s{n}": f"sad {n % 20}" for n in range(40)}  # 20 different ones
HERE = Path(__file__).resolve().parent


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process, with what this file defines."""
    path = [str(HERE.parent.parent), *sys.path]
    head = f"import sys; sys.path[:0] = {path!r}\nfrom run.labels.test_extraction import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    def test_a_killed_run_is_gone_on_with(
        self, rule: Counting, tables: WheelTables, store: Store
    ) -> None:
        killed = python(
            "extract(MANY, Deadly(WheelTables.load(sys.argv[2])), store=merstore.open(sys.argv[1], 'a'))",
            store.path,
            tables.folder,
        )
        _, error = killed.communicate()
        assert killed.returncode == -signal.SIGKILL, error
        store.refresh()
        found = extract(MANY, rule, store=store)
        assert (
            found.asked == 12
        )  # two batches of four were committed; the third one's leases are void
        assert found.answers == dict.fromkeys(MANY, "[sad]")

    def test_several_at_once_share_the_work(self, tables: WheelTables, store: Store) -> None:
        code = (
            "Rule.batch = 3\n"
            "print(extract(MANY, Rule(WheelTables.load(sys.argv[2])), "
            "store=merstore.open(sys.argv[1], 'a')).asked)"
        )
        running = [python(code, store.path, tables.folder) for _ in range(3)]
        told = [process.communicate() for process in running]
        assert [process.returncode for process in running] == [0, 0, 0], told
        assert sum(int(out) for out, _ in told) == 20

    def test_what_another_answers_just_before_us_is_seen(
        self, rule: Counting, tables: WheelTables, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = Owner.claim

        def late(*asked: Any) -> Claim:
            monkeypatch.undo()
            extract(MANY, Rule(tables), store=store)
            return claim(*asked)

        with merstore.open(store.path, "a") as other:
            monkeypatch.setattr(Owner, "claim", late)
            found = extract(MANY, rule, store=other)
        assert (found.answers, found.asked) == (dict.fromkeys(MANY, "[sad]"), 0)

    def test_who_comes_second_waits_for_the_answer(
        self, rule: Counting, tables: WheelTables, store: Store
    ) -> None:
        asked, go_on = threading.Event(), threading.Event()

        class Slow(Rule):
            def answer(self, task: str, messages: Sequence[str]) -> Any:
                asked.set()
                go_on.wait()
                return super().answer(task, messages)

        def first() -> None:
            with merstore.open(store.path, "a") as own:
                extract(TEXTS, Slow(tables), store=own)

        thread = threading.Thread(target=first)
        thread.start()
        asked.wait()
        told: list[int] = []

        def tell(done: int, total: int) -> None:
            told.append(done)
            go_on.set()  # when we have seen that all is taken

        found = extract(TEXTS, rule, store=store, progress=tell)
        thread.join()
        assert found.answers == LABELS
        assert rule.asked == []
        assert told[0] == 0

    def test_what_stops_a_run_gives_its_claims_back(
        self, rule: Counting, tables: WheelTables, store: Store
    ) -> None:
        class Broken(Rule):
            def answer(self, task: str, messages: Sequence[str]) -> Any:
                raise MerstoreError("nothing answers there")

        with pytest.raises(MerstoreError, match="nothing answers"):
            extract(TEXTS, Broken(tables), store=store)
        assert extract(TEXTS, rule, store=store).asked == 3

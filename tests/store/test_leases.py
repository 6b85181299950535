"""Leases: who computes what, for how long, and what ends a claim early."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reference import Reference

from merstore import InvalidKey, ReadOnlyStore, Store, View
from merstore.store import leases
from merstore.store.leases import SECONDS, Claim, Owner

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Vector = Callable[[float], np.ndarray]
Look = Callable[[], Reference]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time as leases see it."""
    clock = SimpleNamespace(time=lambda: clock.now, now=1_700_000_000.0)
    monkeypatch.setattr(leases, "time", clock)
    return clock


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def other() -> Owner:
    """Another filler of this process."""
    return Owner()


def test_the_first_to_ask_gets_it(view: View, owner: Owner, other: Owner) -> None:
    assert owner.claim(view, ["a", "b"]) == Claim(["a", "b"], [], [])
    assert other.claim(view, ["b", "c"]) == Claim(["c"], [], ["b"])


def test_what_is_there_is_done(view: View, owner: Owner, vector: Vector) -> None:
    view["a"] = vector(1)
    view.fail("f", "no_face", "")
    assert owner.claim(view, ["a", "f", "x"]) == Claim(["x"], ["a", "f"], [])


def test_also_what_was_written_since_our_snapshot(
    store: Store, view: View, owner: Owner, vector: Vector
) -> None:
    with Store(store.path, "a") as late:
        seen = late[PATH]
        assert "a" not in seen
        view["a"] = vector(1)
        assert owner.claim(seen, ["a"]).done == ["a"]


def test_failures_may_be_tried_again(view: View, owner: Owner, vector: Vector) -> None:
    view["a"] = vector(1)
    view.fail("f", "no_face", "")
    view.fail("g", "no_audio", "")
    assert owner.claim(view, "afg", retry=["no_face"]) == Claim(["f"], ["a", "g"], [])
    assert owner.claim(view, "afg", retry=["all"]) == Claim(["f", "g"], ["a"], [])


def test_a_name_twice_is_claimed_once(view: View, owner: Owner) -> None:
    assert owner.claim(view, ["a", "b", "a"]).mine == ["a", "b"]


def test_names_that_cannot_be_claim_nothing(view: View, owner: Owner, other: Owner) -> None:
    with pytest.raises(InvalidKey):
        owner.claim(view, ["a", "b/c"])
    assert other.claim(view, ["a"]).mine == ["a"]


def test_views_have_leases_of_their_own(
    view: View, ragged: View, owner: Owner, other: Owner
) -> None:
    owner.claim(view, ["a"])
    assert other.claim(ragged, ["a"]).mine == ["a"]


class TestTime:
    def test_a_lease_ends(self, view: View, owner: Owner, other: Owner, clock: Any) -> None:
        owner.claim(view, ["a"])
        clock.now += SECONDS - 1
        assert other.claim(view, ["a"]).busy == ["a"]
        clock.now += 1
        assert other.claim(view, ["a"]).mine == ["a"]
        assert owner.claim(view, ["a"]).busy == ["a"]

    def test_a_lease_of_ours_is_renewed(
        self, view: View, owner: Owner, other: Owner, clock: Any
    ) -> None:
        owner.claim(view, ["a"])
        clock.now += SECONDS - 1
        assert owner.claim(view, ["a"]).mine == ["a"]
        clock.now += SECONDS - 1
        assert other.claim(view, ["a"]).busy == ["a"]

    def test_for_as_long_as_asked(self, view: View, owner: Owner, other: Owner, clock: Any) -> None:
        owner.claim(view, ["long"], seconds=10 * SECONDS)
        owner.claim(view, ["short"], seconds=1)
        assert other.claim(view, ["long", "short"]).busy == ["long", "short"]
        clock.now += 9 * SECONDS
        assert other.claim(view, ["long", "short"]) == Claim(["short"], [], ["long"])

    def test_a_clock_that_was_set_back_makes_no_lease_endless(
        self, view: View, owner: Owner, other: Owner, clock: Any
    ) -> None:
        owner.claim(view, ["a"])
        clock.now -= SECONDS / 2  # two machines' clocks may differ a little
        assert other.claim(view, ["a"]).busy == ["a"]
        clock.now -= 3600
        assert other.claim(view, ["a"]).mine == ["a"]


class TestOwners:
    def finished(self) -> int:
        """The number of a process that has ended."""
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        return process.pid

    def test_a_lease_ends_with_its_process(self, view: View, owner: Owner, other: Owner) -> None:
        owner.fields |= {"pid": self.finished(), "started": "12345"}
        owner.claim(view, ["a"])
        assert other.claim(view, ["a"]).mine == ["a"]

    def test_a_later_process_of_the_same_number_is_another(
        self, view: View, owner: Owner, other: Owner
    ) -> None:
        owner.fields |= {"pid": os.getpid(), "started": "1"}
        owner.claim(view, ["a"])
        assert other.claim(view, ["a"]).mine == ["a"]

    @pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"boot": "an earlier one"}])
    def test_of_processes_elsewhere_only_the_time_is_known(
        self, view: View, owner: Owner, other: Owner, clock: Any, elsewhere: dict[str, str]
    ) -> None:
        owner.fields |= elsewhere | {"pid": 1, "started": "1"}
        owner.claim(view, ["a"])
        assert other.claim(view, ["a"]).busy == ["a"]
        clock.now += SECONDS
        assert other.claim(view, ["a"]).mine == ["a"]

    def test_who_they_are(self, view: View, owner: Owner, reference: Look) -> None:
        owner.claim(view, ["a"])
        (lease,) = reference().leases(PATH).values()
        assert lease["pid"] == os.getpid()
        assert lease["owner"] == owner.fields["owner"]
        assert lease.keys() == {"owner", "host", "boot", "pid", "started", "seconds", "deadline"}
        assert Owner().fields["owner"] != owner.fields["owner"]


class TestEnds:
    def test_released(self, view: View, owner: Owner, other: Owner) -> None:
        owner.claim(view, ["a", "b"])
        owner.release(view, ["a", "never claimed"])
        assert other.claim(view, ["a", "b"]) == Claim(["a"], [], ["b"])

    def test_nobody_releases_anothers(self, view: View, owner: Owner, other: Owner) -> None:
        owner.claim(view, ["a"])
        other.release(view, ["a"])
        assert other.claim(view, ["a"]).busy == ["a"]

    @pytest.mark.parametrize("what", ["put", "fail", "delete"])
    def test_whatever_is_written_ends_the_lease(
        self, store: Store, view: View, owner: Owner, vector: Vector, what: str, reference: Look
    ) -> None:
        owner.claim(view, ["a", "b"])
        assert reference().leases(PATH).keys() == {"a", "b"}
        with store.writer() as writer:
            if what == "put":
                writer.put(view, "a", vector(1))
            elif what == "fail":
                writer.fail(view, "a", "no_face", "")
            else:
                writer.delete(view, "a")
        assert reference().leases(PATH).keys() == {"b"}

    def test_a_dropped_view_has_none(
        self, store: Store, view: View, owner: Owner, reference: Look
    ) -> None:
        owner.claim(view, ["a"])
        store.drop_view(PATH)
        reference()

    def test_compaction_ends_them_all(
        self, store: Store, view: View, owner: Owner, other: Owner
    ) -> None:
        """Nobody else has the store open then: whoever claimed something is gone."""
        owner.claim(view, ["a"])
        store.compact()
        assert other.claim(view, ["a"]).mine == ["a"]

    @pytest.mark.parametrize(
        "value",
        [b"", b"{", b"[]", b"{}", b'{"owner": 1}', b"\xff", b'{"owner": 1, "deadline": "x"}'],
    )
    def test_a_damaged_lease_holds_nobody_up(
        self, store: Store, view: View, owner: Owner, value: bytes
    ) -> None:
        env = store.environment
        with env.transaction() as txn:
            txn.put(view.record.prefix + b"a", value, db=env.databases[b"leases"])
        assert owner.claim(view, ["a"]).mine == ["a"]
        with env.transaction() as txn:
            txn.put(view.record.prefix + b"a", value, db=env.databases[b"leases"])
        owner.release(view, ["a"])


def test_a_store_open_for_reading_claims_nothing(store: Store, view: View, owner: Owner) -> None:
    with Store(store.path) as reader, pytest.raises(ReadOnlyStore):
        owner.claim(reader[PATH], ["a"])

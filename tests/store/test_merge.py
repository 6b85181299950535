"""merge: several stores become one, entry by entry as they are; what differs is said and never mixed."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Reference
from store.processes_child import start

import merstore
from merstore import (
    CorruptStore,
    MergeConflict,
    MerstoreError,
    NotAStore,
    SpecMismatch,
    Store,
    StoreFull,
)
from merstore.store import merge as merging
from merstore.store.merge import Damaged, merge

FIXED = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
RAGGED = "mer2023/audio@chinese-hubert-large/FRA"

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A store with a view of vectors of four: values by name; a text is a failure of that kind."""

    def made(
        name: str, values: dict[str, float | str], path: str = FIXED, **declared: object
    ) -> Path:
        where = tmp_path / f"{name}.mer"
        with merstore.open(where, "a") as store:
            view = store.create_view(
                path, exist_ok=True, **({"shape": (4,), "spec": {"n": 8}} | declared)
            )
            with store.writer() as writer:
                for sample, value in values.items():
                    if isinstance(value, str):
                        writer.fail(view, sample, value, f"{value} in {name}")
                    else:
                        writer.put(view, sample, np.full(4, value, np.float32))
        return where

    return made


def held(store: Store, path: str = FIXED) -> dict[str, float | str]:
    view = store[path]
    return {name: float(view[name][0]) for name in view} | {f.name: f.kind for f in view.failures()}


def damage(path: Path, view: str, name: str) -> None:
    """Turn one bit of an entry's payload."""
    with Reference.copy(path) as reader:
        entry = reader.index(view)[name]
    with (path / "data.mdb").open("r+b") as file:
        file.seek(entry.page * 4096 + 16 + entry.offset)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def test_shards_become_one_store(
    store: Store, make: Make, reference: Callable[[], Reference]
) -> None:
    parts = [make(f"{n}", {f"s{i:02}": i for i in range(n, 30, 3)}) for n in range(3)]
    report = merge(store, parts)
    assert held(store) == {f"s{i:02}": i for i in range(30)}
    assert (report.added, report.failures, report.bytes, report.conflicts) == (30, 0, 480, [])
    assert store.verify() == []
    assert reference().arrays(FIXED).keys() == {f"s{i:02}" for i in range(30)}


def test_entries_are_copied_as_they_are(store: Store, tmp_path: Path) -> None:
    """Dtype, shape, flags, checksum, time and who wrote them, of every kind of entry; and failures."""
    with merstore.open(tmp_path / "a.mer", "a") as source:
        view = source.create_view(
            RAGGED, shape=(None, 16), nonfinite="flag", spec={"n": 8}, alias="old"
        )
        view.update({f"{i:03}": np.full((200 + i, 16), i, "f4") for i in range(60)})
        view.update(
            {"large": np.full((30_000, 16), 5, "f4"), "nan": np.full((2, 16), np.nan, "f4")}
        )
        with source.writer() as writer:
            writer.put(view, "vector", np.arange(16, dtype="f8"), as_stored=True)
            writer.put(view, "zeros", np.zeros((3, 16), "f4"))
            writer.delete(view, "007")
        for _ in range(3):
            view.fail("mute", "no_audio", "has no sound: 静音")
        source.create_view("a/b/c", shape=(3,), dtype="bool")
        source.create_view("a/text/T", shape=(None,), dtype="uint8")["é"] = np.frombuffer(
            b"hm", "u1"
        )
    merge(store, [tmp_path / "a.mer"])
    with Reference.copy(tmp_path / "a.mer") as before, Reference.copy(store.path) as after:
        after.check()
        for path, record in before.views().items():
            for field in ("dtype", "shape", "spec", "fingerprint", "alias", "nonfinite", "zeros", "entries",
                          "failures", "bytes"):  # fmt: skip
                assert after.views()[path][field] == record[field]
            there = after.index(path)
            assert there.keys() == before.index(path).keys()
            for name, entry in before.index(path).items():
                for field in (
                    "status",
                    "dtype",
                    "shape",
                    "flags",
                    "time",
                    "checksum",
                    "nbytes",
                    "failure",
                ):
                    assert getattr(there[name], field) == getattr(entry, field)
                assert after.runs()[there[name].run] == before.runs()[entry.run]
            arrays = after.arrays(path)
            assert all(arrays[n].tobytes() == a.tobytes() for n, a in before.arrays(path).items())
    assert store.verify() == []


def test_merged_again_nothing_is_written(store: Store, make: Make) -> None:
    parts = [make("a", {"x": 1, "y": "no_face"}), make("b", {"z": 2, "y": "no_audio"})]
    with merstore.open(parts[0], "a") as first:
        first.note("profile", "p", "{}")
    merge(store, parts)
    before = store.stats()
    again = merge(store, parts)
    assert (again.added, again.failures, again.bytes, again.notes) == (0, 0, 0, 0)
    assert again.views[0].present == 3
    assert store.stats()["last_transaction"] == before["last_transaction"]


def test_what_several_hold_alike_is_one_entry(store: Store, make: Make) -> None:
    report = merge(store, [make("a", {"x": 1, "y": 2}), make("b", {"y": 2, "z": 3})])
    assert (report.added, report.conflicts) == (3, [])
    assert held(store) == {"x": 1, "y": 2, "z": 3}


def test_different_entries_are_refused_before_anything_is_written(store: Store, make: Make) -> None:
    parts = [make("a", {"x": 1, "y": 2}), make("b", {"x": 1, "y": 3}), make("c", {"w": 0}, "a/b/c")]
    store.note("mine", "n", "")
    before = store.stats()["last_transaction"]
    with pytest.raises(MergeConflict, match=f"{FIXED}/y") as refused:
        merge(store, parts)
    (conflict,) = refused.value.conflicts
    assert conflict.name == "y"
    with Reference.copy(parts[0]) as a, Reference.copy(parts[1]) as b:
        sums = [f"{reader.index(FIXED)['y'].checksum:016x}" for reader in (a, b)]
    assert conflict.found == tuple(
        (str(p), f"float32 4 {s}") for p, s in zip(parts[:2], sums, strict=True)
    )
    assert all(text in str(refused.value) for text in sums)
    assert store.stats()["last_transaction"] == before
    assert store.views() == []


def test_keep_keeps_the_targets_else_the_firsts(store: Store, make: Make) -> None:
    merge(store, [make("t", {"y": 9})])
    report = merge(
        store, [make("a", {"x": 1, "y": 2}), make("b", {"x": 4, "y": 3, "z": 5})], "keep"
    )
    assert held(store) == {"x": 1, "y": 9, "z": 5}
    assert [each.name for each in report.conflicts] == ["x", "y"]
    assert report.conflicts[1].found[0][0] == str(store.path)
    assert store.verify() == []


def test_an_entry_wins_over_a_failure_and_of_failures_the_latest(store: Store, make: Make) -> None:
    merge(store, [make("t", {"p": "no_face", "q": 1, "r": "no_face", "s": "timeout"})])
    late = make("late", {"p": 2, "q": "no_face", "r": "timeout"})
    with merstore.open(late, "a") as opened:
        opened[FIXED].fail("r", "timeout", "again")
    report = merge(store, [make("a", {"u": "no_video"}), late, make("b", {"u": 3})])
    assert held(store) == {"p": 2, "q": 1, "r": "timeout", "s": "timeout", "u": 3}
    failure = store[FIXED].failure("r")
    assert failure is not None
    assert (failure.message, failure.attempts) == ("again", 2)
    assert (report.added, report.failures) == (2, 1)
    assert [len(store[FIXED]), len(store[FIXED].failures())] == [3, 2]
    assert store.verify() == []


@pytest.mark.parametrize(
    ("declared", "difference"),
    [
        ({"spec": {"n": 16}}, "n: 8 against 16"),
        ({"shape": (5,)}, "shape: (4,) against (5,)"),
        ({"dtype": "float16"}, "dtype: float32 against float16"),
        ({"nonfinite": "flag"}, "nonfinite: refuse against flag"),
    ],
)
def test_a_view_declared_otherwise_is_refused(
    store: Store, make: Make, declared: dict[str, object], difference: str
) -> None:
    a, b = make("a", {"x": 1}), make("b", {}, **declared)
    other = make("c", {"x": 1}, "a/b/c")
    with pytest.raises(SpecMismatch) as refused:
        merge(store, [a, b, other])
    for told in (FIXED, "a.mer", "b.mer", difference):
        assert told in str(refused.value)
    assert store.views() == []
    merge(store, [a])
    with pytest.raises(SpecMismatch, match=r"store\.mer"):
        merge(store, [b])


def test_damaged_entries_are_listed_and_left_out(store: Store, make: Make) -> None:
    a, b = make("a", {"x": 1, "y": 2}), make("b", {"y": 2, "z": 3})
    damage(a, FIXED, "x")
    damage(a, FIXED, "y")
    report = merge(store, [a, b])
    assert [(each.store, each.name) for each in report.damaged] == [(str(a), "x"), (str(a), "y")]
    assert isinstance(report.damaged[0], Damaged)
    assert "checksum" in report.damaged[0].message
    assert held(store) == {"y": 2, "z": 3}  # y is b's
    assert report.added == 2
    assert store.verify() == []


def test_notes_come_too_and_the_targets_stay(store: Store, make: Make) -> None:
    a, b = make("a", {"x": 1}), make("b", {"y": 1})
    for path, text in ((a, "a"), (b, "b")):
        with merstore.open(path, "a") as opened:
            opened.note("profile", "both", text)
            opened.note("profile", text, text)
            opened.note("profile", "mine", text)
    store.note("profile", "mine", "t")
    uuid = store.uuid
    assert merge(store, [a, b]).notes == 3
    assert store.notes("profile") == {"both": "a", "a": "a", "b": "b", "mine": "t"}
    assert store.uuid == uuid


def test_a_source_may_be_an_open_store_and_is_not_changed(store: Store, make: Make) -> None:
    path = make("a", {"x": 1})
    with merstore.open(path, "a") as source:
        before = (path / "data.mdb").read_bytes()
        merge(store, [source])
        assert (path / "data.mdb").read_bytes() == before
        source[FIXED]["y"] = np.ones(4, np.float32)
        merge(store, [source])
    assert held(store) == {"x": 1, "y": 1}


def test_what_cannot_be_merged_is_refused(store: Store, make: Make, tmp_path: Path) -> None:
    good = make("good", {"x": 1})
    cut = make("cut", {f"{i}": i for i in range(2000)})
    with (cut / "data.mdb").open("r+b") as file:
        file.truncate(40_000)
    (tmp_path / "text").write_text("no store")
    refused: list[tuple[list[object], type[Exception], str]] = [
        ([good, store.path], MerstoreError, "the target itself"),
        ([good, store], MerstoreError, "the target itself"),
        ([good, tmp_path / "nowhere.mer"], NotAStore, "nowhere.mer"),
        ([good, tmp_path / "text"], NotAStore, "text"),
        ([good, cut], CorruptStore, "cut.mer"),
        ([], MerstoreError, "name the stores"),
    ]
    for sources, error, told in refused:
        with pytest.raises(error, match=told):
            merge(store, sources)  # type: ignore[arg-type]
    with pytest.raises(MerstoreError, match="on_conflict"):
        merge(store, [good], "first")
    assert store.views() == []
    with merstore.open(store.path) as reading, pytest.raises(merstore.ReadOnlyStore):
        merge(reading, [good])


def test_a_source_whose_pages_are_damaged_is_refused(store: Store, make: Make) -> None:
    """LMDB would follow such pages out of the file."""
    good, bad = make("good", {"x": 1}), make("bad", {f"{i:04}": i for i in range(2000)})
    data = bytearray((bad / "data.mdb").read_bytes())
    leaves = [
        at
        for at in range(2 * 4096, len(data), 4096)
        if int.from_bytes(data[at + 10 : at + 12], "little") == 2
        and b"0100" in data[at : at + 4096]
    ]
    assert leaves
    for at in leaves:
        data[at + 12 : at + 16] = b"\xff" * 4  # where its free space begins and ends
    (bad / "data.mdb").write_bytes(data)
    with pytest.raises(CorruptStore, match=r"bad\.mer.*Nothing was merged"):
        merge(store, [good, bad])
    assert store.views() == []


def test_it_tells_how_far_it_is(store: Store, make: Make) -> None:
    told: list[tuple[int, int]] = []
    report = merge(
        store,
        [make("a", {f"{i}": i for i in range(9)}), make("b", {"f": "no_face", "1": 1})],
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1] == (report.bytes, report.bytes) == (9 * 16, 9 * 16)


def test_failures_come_in_several_transactions(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "FAILURES", 3)
    failed: dict[str, float | str] = {f"{i:02}": "no_face" for i in range(10)}
    assert merge(store, [make("a", failed)]).failures == 10
    assert held(store) == failed
    assert store.verify() == []


def hasty(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    """Have every store commit so many bytes at a time."""
    original = Store.writer

    def writer(self: Store, max_bytes: int = 0, max_seconds: float = 0) -> merstore.Writer:
        return original(self, nbytes, max_seconds)

    monkeypatch.setattr(Store, "writer", writer)


def test_a_full_store_keeps_what_it_has_and_goes_on_with_more_room(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make("a", {})
    with merstore.open(part, "a") as source:
        view = source.create_view("a/b/c", shape=(1024,))
        view.update({f"{i:04}": np.full(1024, i + 1, np.float32) for i in range(2000)})
    target = tmp_path / "target.mer"
    hasty(monkeypatch, 1 << 20)
    with (
        merstore.open(target, "a", map_size=6 << 20) as store,
        pytest.raises(StoreFull, match=r"target\.mer"),
    ):
        merge(store, [part])
    with merstore.open(target, "a") as store:
        assert store.verify() == []
        there = len(store["a/b/c"])
        assert 0 < there < 2000
        assert merge(store, [part]).added == 2000 - there
        assert store["a/b/c"].gather(["0000", "1999"])[:, 0].tolist() == [1, 2000]


def test_an_entry_whose_run_is_unknown_becomes_the_mergers(store: Store, make: Make) -> None:
    path = make("a", {"x": 1, "y": "no_face"})
    with merstore.open(path, "a") as source, source.environment.transaction() as txn:
        txn.delete((1).to_bytes(4, "big"), db=source.environment.databases[b"runs"])
    merge(store, [path])
    assert held(store) == {"x": 1, "y": "no_face"}
    assert store.verify() == []


def merge_step_by_step(link: Connection, target: Path, sources: list[Path]) -> None:
    """Merge with a commit for every few entries, an entry at a time as the link says, until killed."""
    hasty(pytest.MonkeyPatch(), 2000)

    def step(done: int, total: int) -> None:
        link.send(done)
        link.recv()

    with merstore.open(target, "a") as store:
        merge(store, sources, progress=step)
    link.send("end")


def test_killed_at_any_moment_it_goes_on_when_it_is_started_again(
    make: Make, tmp_path: Path
) -> None:
    sources = [
        make(f"{n}", {f"s{i:03}": i if i % 7 else "no_face" for i in range(n, 300, 2)})
        for n in range(2)
    ]
    whole, target = tmp_path / "whole.mer", tmp_path / "target.mer"
    with merstore.open(whole, "a") as store:
        merge(store, sources)
        expected = held(store)
        runs = len(list(store.snapshot().scan(b"runs")))
    with merstore.open(target, "a"):
        pass
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(8):
        with start(merge_step_by_step, target, sources) as child:
            for _ in range(int(rng.integers(15, 60))):
                if child.receive() == "end":
                    break
                child.send(None)
            child.kill()
        with merstore.open(target, checksum=True) as store:
            assert store.verify() == []
            there = held(store) if FIXED in store else {}
        assert there.items() <= expected.items()
        seen.append(len(there))
    assert seen == sorted(seen)
    assert 0 < seen[1] < len(expected)
    with merstore.open(target, "a") as store:
        merge(store, sources)
        assert held(store) == expected
        assert store.verify() == []
        # the sources' runs are there once, whatever was killed; besides one for each merger
        assert len(list(store.snapshot().scan(b"runs"))) <= runs + 9


values = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 2) | st.just("no_face"))


@settings(max_examples=50)
@given(st.lists(values, min_size=2, max_size=4), st.booleans())
def test_any_stores_against_a_plain_dictionary(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, int | str]], keep: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for number, content in enumerate(contents):
        with (
            merstore.open(folder / f"{number}", "a", durability="fast") as store,
            store.writer() as writer,
        ):
            view = store.create_view(FIXED, shape=(2,))
            for name, value in content.items():
                if isinstance(value, str):
                    writer.fail(view, name, value, f"{number}")
                else:
                    writer.put(view, name, np.full(2, value, np.float32))
    expected: dict[str, float | str] = {}
    for content in contents:  # the first has the word, except that any entry beats a failure
        for name, value in content.items():
            if isinstance(expected.get(name, ""), str):
                expected[name] = value
    different = {
        name
        for name in "abcdefg"
        if len({c[name] for c in contents if isinstance(c.get(name), int)}) > 1
    }
    sources = [folder / f"{number}" for number in range(1, len(contents))]
    with merstore.open(folder / "0", "a", durability="fast") as target:
        before = held(target)
        if different and not keep:
            with pytest.raises(MergeConflict) as refused:
                merge(target, sources)
            assert {each.name for each in refused.value.conflicts} == different
            assert held(target) == before
            return
        report = merge(target, sources, "keep" if keep else "raise")
        assert {each.name for each in report.conflicts} == different
        assert held(target) == expected
        assert target.verify() == []
        assert merge(target, sources, "keep").added == 0
        latest = {n: i for i, c in enumerate(contents) for n in c if c[n] == "no_face"}
        for failure in target[FIXED].failures():
            assert failure.message == f"{latest[failure.name]}"

"""compact: the store written anew. It shrinks, and nothing else is seen of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference import Entry, Reference

import merstore
from merstore import Store, StoreBusy, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Vector = Callable[[float], np.ndarray]
Look = Callable[[], Reference]


def worn(store: Store) -> None:
    """Views with much that is dead, failures, entries of other dtypes and one larger than a block."""
    view = store.create_view(PATH, shape=(None, 16), nonfinite="flag", spec={"n": 8}, alias="worn")
    for value in range(1, 8):
        view.update({f"{i:03}": np.full((200 + i, 16), value, "f4") for i in range(60)})
    view.update({"large": np.full((30_000, 16), 5, "f4"), "nan": np.full((2, 16), np.nan, "f4")})
    with store.writer() as writer:
        writer.put(view, "vector", np.arange(16, dtype="f8"), as_stored=True)
        for i in range(0, 60, 2):
            writer.delete(view, f"{i:03}")
        for i in range(5):
            writer.fail(view, f"f{i}", "no_face", f"message {i}")
    view.fail("f0", "decode_error", "again")
    store.create_view("a/b/c", shape=(3,), dtype="bool")
    store.create_view("x/y/z", shape=(), dtype="int64").update({"a": np.int64(7)})
    store.drop_view("x/y/z")


def test_everything_is_there_and_the_file_is_smaller(store: Store, reference: Look) -> None:
    worn(store)
    before = reference()
    contents = before.index(PATH), before.arrays(PATH), before.failures(PATH)
    size = store.stats()["file_bytes"]
    store.compact()
    after = reference()
    assert after.views().keys() == before.views().keys()

    def without_place(entries: dict[str, Entry]) -> dict[str, Entry]:
        return {name: replace(e, block=0, page=0, offset=0) for name, e in entries.items()}

    # checksum, dtype, shape, flags, run and time of every entry, and every failure with its attempts
    assert without_place(after.index(PATH)) == without_place(contents[0])
    assert after.failures(PATH) == contents[2]
    assert after.failures(PATH)["f0"]["attempts"] == 2
    arrays = after.arrays(PATH)
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in contents[1].items())
    assert store.verify() == []
    stats = store.stats()
    assert stats["dead_bytes"] == 0
    assert stats["file_bytes"] < 0.6 * size
    assert stats["file_bytes"] < 1.02 * stats["payload_bytes"] + 40 * 4096


def test_declarations_and_identity_stay(store: Store, reference: Look) -> None:
    worn(store)
    before = reference()
    store.compact()
    after = reference()
    for key in ("uuid", "creator", "created", "next_view"):
        assert after.meta()[key] == before.meta()[key]
    for path, record in before.views().items():
        for field in ("number", "dtype", "shape", "spec", "fingerprint", "alias", "nonfinite", "zeros", "created",
                      "entries", "failures", "bytes"):  # fmt: skip
            assert after.views()[path][field] == record[field]
        assert after.views()[path]["moves"] > record["moves"]
    assert before.runs().items() <= after.runs().items()


def test_once_more_changes_nothing(store: Store) -> None:
    worn(store)
    store.compact()
    size = store.stats()["file_bytes"]
    store.compact()
    assert store.stats()["file_bytes"] <= size + 4096


def test_views_and_selections_go_on(store: Store, view: View, vector: Vector) -> None:
    view.update({name: vector(i) for i, name in enumerate("abcdef", 1)})
    rows = view.select()
    assert rows.gather(range(6))[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    for name in "bdf":
        del view[name]
    store.compact()
    assert rows.gather(range(6), on_miss="mask").mask.tolist() == [True, False] * 3
    assert rows.gather([0, 2, 4])[:, 0].tolist() == [1, 3, 5]
    view["b"] = vector(9)
    assert view.gather(["b", "a"])[:, 0].tolist() == [9, 1]
    assert list(view) == ["a", "b", "c", "e"]


def test_writers_go_on(store: Store, view: View, vector: Vector, reference: Look) -> None:
    view["a"] = vector(1)
    writer = store.writer()
    writer.put(view, "b", vector(2))
    store.compact()
    writer.put(view, "c", vector(3))
    writer.commit()
    assert view.gather(["a", "b", "c"])[:, 0].tolist() == [1, 2, 3]
    reference()


def test_it_tells_how_far_it_is(store: Store) -> None:
    worn(store)
    seen: list[tuple[int, int]] = []
    store.compact(lambda done, total: seen.append((done, total)))
    payload = store.stats()["payload_bytes"]
    assert seen == sorted(seen)
    assert seen[-1] == (payload, payload)


def test_an_empty_store(store: Store, reference: Look) -> None:
    store.compact()
    assert store.views() == []
    reference()


def test_nothing_is_left_of_it(store: Store) -> None:
    worn(store)
    store.compact()
    assert {path.name for path in Path(store.path).iterdir()} == {"data.mdb", "lock.mdb"}


def test_it_needs_the_store_alone(store: Store, view: View, vector: Vector) -> None:
    view["a"] = vector(1)
    with merstore.open(store.path) as other:
        seen = other[PATH]
        assert len(seen) == 1
        view["b"] = vector(1)
        with pytest.raises(StoreBusy, match="close its other stores"):
            store.compact()
        assert len(seen) == 1  # the refusal did not move the other's snapshot
        assert len(view) == 2
    store.compact()


def test_an_error_on_the_way_leaves_the_store_as_it_was(store: Store, reference: Look) -> None:
    worn(store)
    before = reference().arrays(PATH)

    def interrupted(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.compact(interrupted)
    assert {path.name for path in Path(store.path).iterdir()} == {"data.mdb", "lock.mdb"}
    after = reference().arrays(PATH)
    assert after.keys() == before.keys()
    assert store.verify() == []
    store.compact()

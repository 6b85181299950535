"""Commits that a writer leaves to a thread, and `update`, which writes the same as `put` does."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import Reference

import merstore
from merstore import InvalidTensor, Store, StoreFull, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
MIB = np.full(1 << 20, 7, np.uint8)


def committing() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "merstore-commit"]


class TestBehind:
    def test_all_of_it_is_there_in_the_end_and_no_thread_is(self, store: Store) -> None:
        view = store.create_view(PATH, shape=(1 << 20,), dtype="uint8")
        with store.writer(max_bytes=4 << 20) as writer:
            for i in range(30):
                writer.put(view, f"{i:02}", MIB)
        assert [len(view), committing()] == [30, []]
        assert store.verify() == []

    def test_commit_waits_for_what_is_under_way(self, store: Store) -> None:
        view = store.create_view(PATH, shape=(1 << 20,), dtype="uint8")
        writer = store.writer(max_bytes=2 << 20)
        for i in range(5):
            writer.put(view, f"{i}", MIB)
        writer.commit()
        assert [len(view), committing()] == [5, []]

    def test_an_exception_keeps_what_is_under_way(self, store: Store) -> None:
        view = store.create_view(PATH, shape=(1 << 20,), dtype="uint8")
        writer = store.writer(max_bytes=2 << 20)

        def write() -> None:
            with writer:
                for i in range(3):
                    writer.put(view, f"{i}", MIB)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write()
        assert [list(view), committing()] == [["0", "1"], []]

    def test_its_error_is_raised_and_what_came_after_is_dropped(self, tmp_path: Path) -> None:
        with merstore.open(tmp_path / "s", "a", map_size=6 << 20) as store:
            view = store.create_view(PATH, shape=(1 << 20,), dtype="uint8")
            writer = store.writer(max_bytes=3 << 20)
            writer.put(view, "before", MIB)
            writer.commit()
            for i in range(3):
                writer.put(view, f"{i}", MIB)  # commits
            for i in range(3):
                writer.put(view, f"lost{i}", MIB)  # commits, which fails
            writer.put(view, "after", MIB)
            with pytest.raises(StoreFull):
                writer.commit()
            writer.commit()
            assert list(view) == ["0", "1", "2", "before"]
            writer.delete(view, "0")  # and the writer goes on
            writer.commit()
            assert list(view) == ["1", "2", "before"]
            assert store.verify() == []


class TestUpdate:
    def test_it_writes_what_put_writes(
        self, store: Store, reference: Callable[[], Reference]
    ) -> None:
        """Plain pairs, which C takes by itself, among others that it leaves to `put`."""
        rows = np.random.default_rng(0).random((600, 4, 96), np.float32)
        rows[100, 2] = 0  # flagged
        pairs: list[Any] = [(f"s{i}", row) for i, row in enumerate(rows)]
        pairs[7] = ["a list", rows[7]]
        pairs[8] = ("ümlaut", rows[8])
        pairs[9] = ("with space", rows[9])
        pairs[10] = ("x" * 400, rows[10])
        pairs[11] = ("in another order", np.asfortranarray(rows[11]))
        pairs[12] = ("strided", rows[12:14].reshape(8, 96)[::2])
        pairs[13] = ("s0", rows[13])  # a name once more
        pairs[14] = ("big-endian", rows[14].astype(">f4"))
        one = store.create_view("d/frame@a/x", shape=(4, 96))
        two = store.create_view("d/frame@b/x", shape=(4, 96))
        with store.writer(max_bytes=200_000) as writer:
            writer.update(one, iter(pairs))
        with store.writer(max_bytes=200_000) as writer:
            for name, array in pairs:
                writer.put(two, name, array)
        assert list(one) == list(two)
        assert len(one) == 599
        for name, array in dict(pairs[1:]).items():
            assert np.array_equal(one[name], array)
            assert np.array_equal(two[name], array)
        assert np.array_equal(one["s0"], rows[13])
        assert store.verify() == []
        reference()  # checks every MUST of the format

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((4, 95), np.float32),
            np.zeros((4, 96), np.float64),
            np.full((4, 96), np.nan, np.float32),
            "text",
        ],
    )
    def test_a_wrong_array_among_many(self, store: Store, wrong: Any) -> None:
        view = store.create_view(PATH, shape=(4, 96))
        row = np.ones((4, 96), np.float32)
        pairs = [(f"{i}", row if i != 50 else wrong) for i in range(100)]
        writer = store.writer()
        with pytest.raises(InvalidTensor, match=f"{PATH}/50"):
            writer.update(view, pairs)
        writer.commit()
        assert len(view) == 50

    def test_bits_of_bfloat16_are_no_bfloat16(self, store: Store) -> None:
        view = store.create_view(PATH, shape=(4,), dtype="bfloat16")
        with pytest.raises(InvalidTensor, match="uint16"):
            view.update({"a": np.ones(4, np.uint16)})

    def test_an_iterator_that_fails_keeps_what_it_gave(self, store: Store, view: View) -> None:
        def pairs() -> Iterator[tuple[str, np.ndarray]]:
            yield "a", np.ones(4, np.float32)
            yield "b", np.ones(4, np.float32)
            raise ZeroDivisionError

        writer = store.writer()
        with pytest.raises(ZeroDivisionError):
            writer.update(view, pairs())
        writer.commit()
        assert list(view) == ["a", "b"]

    def test_none_is_no_pair(self, view: View) -> None:
        row = np.ones(4, np.float32)
        with pytest.raises(TypeError):
            view.update([("a", row), None, ("b", row)])  # type: ignore[list-item]
        assert len(view) == 0

"""Writing: transactions and their bounds, what is refused, what is recorded."""

import os
import socket
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from reference import Reference

import merstore
from merstore import (
    InvalidKey,
    InvalidTensor,
    MerstoreError,
    ReadOnlyStore,
    Store,
    UnknownView,
    View,
    Writer,
)
from merstore.store import writer as writing

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Vector = Callable[[float], np.ndarray]
Look = Callable[[], Reference]


def transactions(store: Store) -> int:
    store.refresh()
    number: int = store.stats()["last_transaction"]
    return number


class TestTransactions:
    def test_leaving_the_block_commits(self, store: Store, view: View, vector: Vector) -> None:
        with store.writer() as writer:
            writer.put(view, "a", vector(1))
            writer.put(view, "b", vector(2))
            assert "a" not in view
        assert list(view) == ["a", "b"]

    def test_an_exception_drops_what_is_pending(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        def write() -> None:
            with store.writer() as writer:
                writer.put(view, "a", vector(1))
                writer.commit()
                writer.put(view, "b", vector(2))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write()
        assert list(view) == ["a"]

    def test_commit_may_be_called_any_time(self, store: Store, view: View, vector: Vector) -> None:
        writer = store.writer()
        writer.commit()
        writer.put(view, "a", vector(1))
        writer.commit()
        writer.commit()
        assert list(view) == ["a"]
        writer.put(view, "b", vector(1))
        writer.commit()
        assert list(view) == ["a", "b"]

    def test_nothing_to_write_is_no_transaction(self, store: Store, view: View) -> None:
        before = transactions(store)
        with store.writer():
            pass
        view.update({})
        assert transactions(store) == before

    def test_one_update_is_one_transaction(self, store: Store, view: View, vector: Vector) -> None:
        before = transactions(store)
        view.update({f"{i}": vector(i + 1) for i in range(500)})
        assert transactions(store) == before + 1

    def test_bounded_in_bytes(self, store: Store, vector: Vector) -> None:
        view = store.create_view(PATH, shape=(1 << 18,), dtype="uint8")
        before = transactions(store)
        with store.writer(max_bytes=1 << 20) as writer:
            for i in range(10):
                writer.put(view, f"{i}", np.full(1 << 18, 1, "u1"))
        assert transactions(store) == before + 3  # four of them are a mebibyte
        assert len(view) == 10

    def test_bounded_in_bytes_however_small_the_entries(self, store: Store) -> None:
        """Names and bookkeeping count, too: tiny entries and failures do not pile up."""
        view = store.create_view(PATH, shape=(), dtype="uint8")
        before = transactions(store)
        with store.writer(max_bytes=100_000) as writer:
            for i in range(1000):
                writer.put(view, f"{i}", np.uint8(i % 256))
                writer.fail(view, f"f{i}", "no_face", "x" * 100)
        assert transactions(store) > before + 3

    def test_bounded_in_seconds(
        self, store: Store, view: View, vector: Vector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
        monkeypatch.setattr(writing, "time", clock)
        before = transactions(store)
        writer = store.writer(max_seconds=5)
        writer.put(view, "a", vector(1))
        clock.now += 4.9
        writer.put(view, "b", vector(1))
        clock.now += 0.1  # five seconds after the first
        writer.put(view, "c", vector(1))
        clock.now += 60  # nothing is pending: time begins with the next
        writer.put(view, "d", vector(1))
        clock.now += 4.9
        writer.put(view, "e", vector(1))
        with pytest.raises(ZeroDivisionError):
            self.leave_by_an_exception(writer)
        assert transactions(store) == before + 1
        assert list(view) == ["a", "b", "c"]

    def leave_by_an_exception(self, writer: Writer) -> None:
        with writer:
            raise ZeroDivisionError

    def drop_elsewhere(self, view: View) -> None:
        """While our snapshot still has it."""
        assert len(view) == 0
        with merstore.open(view.store.path, "a") as other:
            other.drop_view(PATH)

    def test_a_commit_that_fails_by_itself_is_told_at_the_next(
        self, store: Store, view: View, ragged: View, vector: Vector
    ) -> None:
        """What was put meanwhile goes with it; then the writer goes on."""
        self.drop_elsewhere(view)
        writer = store.writer(max_bytes=200)
        writer.put(
            view, "abcdefghijklmnopqrstuvwxyz", vector(1)
        )  # over the bound: committed by itself
        writer.put(ragged, "a", np.ones((1, 3), "f2"))
        with pytest.raises(UnknownView, match="dropped"):
            writer.commit()
        writer.commit()
        assert len(ragged) == 0
        writer.put(ragged, "b", np.ones((1, 3), "f2"))
        writer.commit()
        assert list(ragged) == ["b"]
        assert store.verify() == []

    def test_update_may_follow_a_failure(self, store: Store, vector: Vector) -> None:
        """Of a view that has nothing in a block yet."""
        large = store.create_view("d/audio@large/UTT", shape=(100,))
        with store.writer() as writer:
            writer.fail(large, "a", "no_audio", "silent")
            writer.update(large, [("b", np.ones(100, np.float32)), ("c", np.ones(100, np.float32))])
        assert list(large) == ["b", "c"]
        assert [failure.kind for failure in large.failures()] == ["no_audio"]

    def test_the_end_of_the_block_tells_it_too(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        self.drop_elsewhere(view)

        def write() -> None:
            with store.writer(max_bytes=1) as writer:
                writer.put(view, "a", vector(1))

        with pytest.raises(UnknownView, match="dropped"):
            write()

    def test_an_error_in_the_block_comes_first(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        self.drop_elsewhere(view)

        def write() -> None:
            with store.writer(max_bytes=1) as writer:
                writer.put(view, "a", vector(1))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write()

    def test_what_commits_by_itself_is_there_after_the_next_commit(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        names = [f"{i:03}" for i in range(100)]
        with store.writer(max_bytes=1000) as writer:
            for i, name in enumerate(names):
                writer.put(view, name, vector(i))
                writer.put(view, "again", vector(i))
        assert view.gather(names)[:, 0].tolist() == list(range(100))
        assert view["again"][0] == 99
        reference()

    def test_arrays_are_copied_when_they_are_put(self, store: Store, view: View) -> None:
        array = np.full(4, 1, np.float32)
        with store.writer() as writer:
            for i in range(3):
                array[:] = i + 1
                writer.put(view, f"{i}", array)
            array[:] = 9
        assert [view[f"{i}"][0] for i in range(3)] == [1, 2, 3]

    def test_several_views_in_one_transaction(
        self, store: Store, view: View, ragged: View, vector: Vector
    ) -> None:
        before = transactions(store)
        with store.writer() as writer:
            writer.put(view, "a", vector(1))
            writer.put(ragged, "a", np.ones((2, 3), "f2"))
        assert transactions(store) == before + 1
        assert view["a"].shape == (4,)
        assert ragged["a"].shape == (2, 3)

    def test_a_view_of_another_store_is_refused(
        self, store: Store, view: View, vector: Vector, tmp_path: object
    ) -> None:
        with merstore.open(f"{tmp_path}/other.mer", "a") as other:
            twin = other.create_view(PATH, shape=(4,))
            with store.writer() as writer:
                for write in (
                    lambda: writer.put(twin, "a", vector(1)),
                    lambda: writer.fail(twin, "a", "no_face", ""),
                    lambda: writer.delete(twin, "a"),
                ):
                    with pytest.raises(MerstoreError, match="belongs to"):
                        write()
        assert len(view) == 0

    def test_a_view_by_another_store_object_on_the_same_path(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        with Store(store.path) as other, store.writer() as writer:
            writer.put(other[PATH], "a", vector(1))
        assert "a" in view

    def test_a_view_that_was_dropped_meanwhile(
        self, store: Store, view: View, ragged: View, vector: Vector
    ) -> None:
        writer = store.writer()
        writer.put(ragged, "a", np.ones((2, 3), "f2"))
        writer.put(view, "a", vector(1))
        store.drop_view(PATH)
        with pytest.raises(UnknownView, match="dropped"):
            writer.commit()
        assert len(ragged) == 0  # the whole transaction is gone

    def test_a_view_that_was_made_anew_meanwhile(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        writer = store.writer()
        writer.put(view, "a", vector(1))
        store.drop_view(PATH)
        store.create_view(PATH, shape=(7,))
        with pytest.raises(UnknownView, match="dropped"):
            writer.commit()
        assert len(store[PATH]) == 0

    def test_a_store_open_for_reading_has_no_writer(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        with merstore.open(store.path) as reader:
            for write in (
                reader.writer,
                lambda: reader[PATH].__setitem__("a", vector(1)),
                lambda: reader[PATH].update({"a": vector(1)}),
                lambda: reader[PATH].fail("a", "no_face", ""),
                lambda: reader.create_view("a/b/c", shape=(1,)),
                lambda: reader.drop_view(PATH),
                reader.compact,
            ):
                with pytest.raises(ReadOnlyStore, match='mode "a"'):
                    write()


class TestRefusals:
    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (np.ones(4), "float64, the view float32: convert"),
            (np.ones(4, "i4"), "int32"),
            (np.ones(5, "f4"), r"shape \(5,\), the view \(4,\)"),
            (np.ones((1, 4), "f4"), r"shape \(1, 4\)"),
            (np.ones((), "f4"), r"shape \(\)"),
            (np.ones((0,), "f4"), "holds nothing"),
            (np.array([1, 2, np.nan, 4], "f4"), 'NaN or Inf.*nonfinite="flag"'),
            (np.array([1, 2, -np.inf, 4], "f4"), "NaN or Inf"),
            (np.ones(4, "c8"), "complex64"),
            (["a"] * 4, "cannot be stored"),
            (None, "object"),
            ([[1.0], [1.0, 2.0]], "x"),
        ],
    )
    def test_a_wrong_array_names_the_key_and_changes_nothing(
        self, view: View, vector: Vector, array: object, reason: str
    ) -> None:
        view["x"] = vector(1)
        with pytest.raises(InvalidTensor, match=reason) as caught:
            view["x"] = array
        assert f"{PATH}/x" in str(caught.value)
        assert (view["x"] == 1).all()

    @pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 401, "\udcff", 3])
    def test_a_wrong_name(self, store: Store, view: View, vector: Vector, name: str) -> None:
        with store.writer() as writer:
            for write in (
                lambda: writer.put(view, name, vector(1)),
                lambda: writer.fail(view, name, "no_face", ""),
                lambda: writer.delete(view, name),
            ):
                with pytest.raises(InvalidKey):
                    write()
            writer.put(view, "good", vector(1))
        assert list(view) == ["good"]

    def test_what_came_before_a_wrong_array_is_committed_with_the_rest(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        with store.writer() as writer:
            writer.put(view, "a", vector(1))
            with pytest.raises(InvalidTensor):
                writer.put(view, "b", np.ones(3, "f4"))
            writer.put(view, "c", vector(1))
        assert list(view) == ["a", "c"]

    def test_update_with_a_wrong_array_stores_nothing_of_its_transaction(
        self, view: View, vector: Vector
    ) -> None:
        with pytest.raises(InvalidTensor):
            view.update({"a": vector(1), "b": np.ones(3, "f4")})
        assert len(view) == 0

    def test_a_ragged_view_refuses_other_rows(self, ragged: View) -> None:
        for shape in ((3,), (2, 4), (1, 2, 3), (0, 3), ()):
            with pytest.raises(InvalidTensor):
                ragged["a"] = np.ones(shape, "f2")

    def test_seven_dimensions(self, store: Store) -> None:
        view = store.create_view("a/b/c", shape=(None, 1, 1, 1, 1, 1))
        with pytest.raises(InvalidTensor):
            view["a"] = np.ones((1,) * 7, "f4")


class TestAsStored:
    def test_another_dtype_is_kept(self, store: Store, view: View, reference: Look) -> None:
        with store.writer() as writer:
            writer.put(view, "a", np.arange(1, 5, dtype="f2"), as_stored=True)
            writer.put(view, "b", np.arange(1, 5, dtype="i8"), as_stored=True)
        assert view["a"].dtype == np.float16
        assert view["b"].dtype == np.int64
        reference()

    def test_a_vector_in_a_ragged_view_is_one_row(
        self, store: Store, ragged: View, reference: Look
    ) -> None:
        with store.writer() as writer:
            writer.put(ragged, "a", np.array([1, 2, 3], "f2"), as_stored=True)
        assert ragged["a"].shape == (3,)
        assert ragged.select().lengths().tolist() == [1]
        assert ragged.gather(["a"]).values.tolist() == [[1, 2, 3]]
        reference()

    def test_other_shapes_are_refused_still(self, store: Store, view: View, ragged: View) -> None:
        with store.writer() as writer:
            for target, shape in (
                (view, (1, 4)),
                (view, (5,)),
                (ragged, (4,)),
                (ragged, (1, 1, 3)),
            ):
                with pytest.raises(InvalidTensor):
                    writer.put(target, "a", np.ones(shape, "f2"), as_stored=True)


class TestRules:
    """NaN, Inf and zero rows: refused or flagged, by the view's declaration."""

    ZERO = np.array([[1, 2], [0, -0.0], [3, 4]], "f4")
    BAD = np.array([[1, 2], [np.inf, 0], [3, 4]], "f4")

    def flags(self, store: Store, reference: Look, array: np.ndarray, **rules: str) -> int:
        view = store.create_view("a/b/c", shape=(3, 2), **rules)  # type: ignore[arg-type]
        view["x"] = array
        return reference().index("a/b/c")["x"].flags

    def test_a_zero_row_is_flagged_by_default(self, store: Store, reference: Look) -> None:
        assert self.flags(store, reference, self.ZERO) == 2

    def test_a_zero_row_may_be_refused(self, store: Store, reference: Look) -> None:
        with pytest.raises(InvalidTensor, match=r"row of zeros.*record a failure"):
            self.flags(store, reference, self.ZERO, zeros="refuse")

    def test_nan_is_refused_by_default(self, store: Store, reference: Look) -> None:
        with pytest.raises(InvalidTensor, match="NaN or Inf"):
            self.flags(store, reference, self.BAD)

    def test_nan_may_be_flagged(self, store: Store, reference: Look) -> None:
        assert self.flags(store, reference, self.BAD, nonfinite="flag") == 1

    def test_both(self, store: Store, reference: Look) -> None:
        both = np.concatenate([self.ZERO[:2], self.BAD[1:2]])
        assert self.flags(store, reference, both, nonfinite="flag") == 3

    def test_a_clean_array_has_no_flags(self, store: Store, reference: Look) -> None:
        assert self.flags(store, reference, np.ones((3, 2), "f4"), zeros="refuse") == 0

    def test_a_zero_in_a_sequence_of_scalars_is_no_zero_row(
        self, store: Store, reference: Look
    ) -> None:
        view = store.create_view("a/b/c", shape=(None,), zeros="refuse")
        view["x"] = np.array([0, 1, 0], "f4")
        assert reference().index("a/b/c")["x"].flags == 0
        with pytest.raises(InvalidTensor):
            view["y"] = np.zeros(3, "f4")

    def test_integers_are_not_looked_at(self, store: Store, reference: Look) -> None:
        view = store.create_view("a/b/c", shape=(None,), dtype="int16", zeros="refuse")
        view["x"] = np.zeros(3, "i2")
        assert reference().index("a/b/c")["x"].flags == 0

    @pytest.mark.parametrize("rules", [{"zeros": "keep"}, {"nonfinite": "ignore"}, {"zeros": None}])
    def test_other_rules_do_not_exist(self, store: Store, rules: dict[str, str]) -> None:
        with pytest.raises(MerstoreError, match="refuse"):
            store.create_view("a/b/c", shape=(3, 2), **rules)  # type: ignore[arg-type]


class TestFailures:
    def test_a_failure_says_why(self, view: View) -> None:
        view.fail("a", "no_face", "none in 80 frames")
        failure = view.failure("a")
        assert failure is not None
        assert failure[:4] == ("a", "no_face", "none in 80 frames", 1)
        assert 1.7e9 < failure.time < 1e11
        assert "a" not in view
        assert len(view) == 0

    def test_attempts_are_counted(self, store: Store, view: View) -> None:
        view.fail("a", "no_face", "first")
        view.fail("a", "decode_error", "second")
        with store.writer() as writer:
            writer.fail(view, "a", "decode_error", "third")
            writer.fail(view, "a", "no_audio", "fourth")
        assert [f[:4] for f in view.failures()] == [("a", "no_audio", "fourth", 4)]

    def test_a_tensor_takes_the_place_of_a_failure(
        self, view: View, vector: Vector, reference: Look
    ) -> None:
        view.fail("a", "no_face", "")
        view["a"] = vector(1)
        assert view.failure("a") is None
        assert view.failures() == []
        assert (view["a"] == 1).all()
        reference()

    def test_a_failure_never_takes_the_place_of_a_tensor(self, view: View, vector: Vector) -> None:
        view["a"] = vector(1)
        view.fail("a", "no_face", "")
        assert view.failure("a") is None
        assert (view["a"] == 1).all()

    def test_nor_of_one_that_is_pending(self, store: Store, view: View, vector: Vector) -> None:
        with store.writer() as writer:
            writer.put(view, "a", vector(1))
            writer.fail(view, "a", "no_face", "")
        assert (view["a"] == 1).all()

    def test_after_a_deletion_it_does(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        view["a"] = vector(1)
        with store.writer() as writer:
            writer.delete(view, "a")
            writer.fail(view, "a", "no_face", "")
        assert "a" not in view
        assert view.failures()[0].attempts == 1
        reference()

    def test_deleting_a_failure_forgets_its_attempts(self, view: View) -> None:
        view.fail("a", "no_face", "")
        view.fail("a", "no_face", "")
        del view["a"]
        assert view.failure("a") is None
        view.fail("a", "no_face", "")
        assert view.failures()[0].attempts == 1

    def test_a_message_of_any_kind(self, view: View) -> None:
        """Also one that quotes a file name which is no Unicode, in the same transaction as others."""
        view.fail("a", "decode_error", "cannot read clip\udcff.mp4 \x00 é")
        view.fail("b", "decode_error", "é" * 1000)
        first, second = view.failures()
        assert first.message == "cannot read clip\\udcff.mp4 \x00 é"
        assert second.message == "é" * 250

    @pytest.mark.parametrize("kind", ["", "No Face", "no-face", "x" * 41, "1st", None, "a\n", "é"])
    def test_a_kind_is_for_programs(self, view: View, kind: str) -> None:
        with pytest.raises(InvalidKey, match="failure kind"):
            view.fail("a", kind, "")

    def test_by_kind(self, store: Store, view: View) -> None:
        view.fail("b", "no_face", "")
        view.fail("a", "no_audio", "")
        assert [f.name for f in view.failures()] == ["a", "b"]
        assert [f.name for f in view.failures("no_face")] == ["b"]
        assert [f.name for f in store.failures(PATH, "no_audio")] == ["a"]
        assert view.failures("other") == []

    def test_what_is_missing(self, view: View, vector: Vector) -> None:
        view["there"] = vector(1)
        view.fail("failed", "no_face", "")
        names = ["new", "there", "failed", "new"]
        assert view.missing(names) == ["new", "new"]
        assert view.missing(names, retry=["no_face"]) == ["new", "failed", "new"]
        assert view.missing(iter(names), retry="no_face") == ["new", "failed", "new"]
        assert view.missing(names, retry="all") == ["new", "failed", "new"]
        assert view.missing(names, retry=["no_audio"]) == ["new", "new"]


class TestRuns:
    def test_a_run_says_who_wrote(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        view["a"] = vector(1)
        reader = reference()
        run = reader.runs()[reader.index(PATH)["a"].run]
        assert run["tool"] == f"merstore {merstore.__version__}"
        assert (run["host"], run["pid"]) == (socket.gethostname(), os.getpid())

    def test_a_process_is_one_run_however_often_it_writes(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        for i in range(5):
            view[f"{i}"] = vector(i + 1)
        view.fail("x", "no_face", "")
        with merstore.open(store.path, "a") as other:
            other[PATH]["y"] = vector(1)
        assert len(reference().runs()) == 1

    def test_a_transaction_that_fails_registers_none(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        writer = store.writer()
        writer.put(view, "a", vector(1))
        store.drop_view(PATH)
        with pytest.raises(UnknownView):
            writer.commit()
        assert reference().runs() == {}
        again = store.create_view(PATH, shape=(4,))
        again["a"] = vector(1)
        reader = reference()
        assert reader.runs().keys() == {reader.index(PATH)["a"].run}


class TestCounters:
    def test_they_follow_what_is_written(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        def counters() -> tuple[int, ...]:
            record = reference().views()[PATH]
            return record["entries"], record["failures"], record["bytes"], record["blocks"]

        assert counters() == (0, 0, 0, 0)
        view.update({"a": vector(1), "b": vector(2)})
        assert counters() == (2, 0, 32, 1)
        view.fail("c", "no_face", "")
        assert counters() == (2, 1, 32, 1)
        view["c"] = vector(3)
        assert counters() == (3, 0, 48, 1)
        view["a"] = vector(4)
        assert counters() == (3, 0, 48, 1)
        del view["a"]
        assert counters() == (2, 0, 32, 1)
        with store.writer() as writer:
            writer.delete(view, "nobody")
            writer.delete(view, "b")
            writer.delete(view, "c")
        assert counters() == (0, 0, 0, 0)

    def test_moves_grow_with_what_invalidates_locators(
        self, view: View, vector: Vector, reference: Look
    ) -> None:
        def moves() -> int:
            number: int = reference().views()[PATH]["moves"]
            return number

        before = moves()
        view.fail("x", "no_face", "")
        assert moves() == before
        view["a"] = vector(1)
        assert moves() == before
        view["b"] = vector(1)  # merges the block that "a" lies in
        assert moves() > before
        before = moves()
        del view["a"]
        assert moves() > before

"""Reading: one entry, batches, selections, and what happens to what is not there."""

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import merstore
from merstore import (
    Batch,
    InvalidKey,
    InvalidTensor,
    MerstoreError,
    MissingEntry,
    RaggedBatch,
    Store,
    View,
)

Vector = Callable[[float], np.ndarray]


@pytest.fixture
def full(view: View, vector: Vector) -> View:
    """Three entries and a failure."""
    view.update({"c": vector(3), "a": vector(1), "b": vector(2)})
    view.fail("f", "no_face", "looked hard")
    return view


@pytest.fixture
def sequences(ragged: View) -> View:
    """Lengths 1, 2 and 3."""
    ragged.update({name: np.full((n, 3), n, "f2") for n, name in enumerate("abc", 1)})
    ragged.fail("f", "no_audio", "")
    return ragged


class TestOneEntry:
    def test_it_reads_like_a_mapping(self, full: View) -> None:
        assert list(full) == ["a", "b", "c"]
        assert len(full) == 3
        assert "a" in full
        assert "x" not in full
        assert "f" not in full
        assert 3 not in full
        assert full["b"].tolist() == [2, 2, 2, 2]

    def test_it_says_what_it_is(self, full: View, ragged: View, store: Store) -> None:
        assert full.path == "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
        assert (full.dataset, full.modality, full.encoder, full.sampling) == (
            "mer2023", "frame", "CLIP_VIT_LARGE", "uniform_8frms",
        )  # fmt: skip
        assert (full.dtype, full.shape, full.spec) == (np.dtype("f4"), (4,), {"n": 8})
        assert len(full.fingerprint) == 64
        assert full.alias is None
        assert ragged.shape == (None, 3)
        assert store.create_view("a/b/c", dtype="bfloat16").dtype == "bfloat16"
        assert "3 entries (4,) float32, 1 failures" in repr(full)

    def test_an_entry_is_a_read_only_view_of_the_map(self, full: View) -> None:
        array = full["a"]
        assert not array.flags.writeable
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(ValueError):
            array.flags.writeable = True

    def test_bfloat16_is_read_as_float32(self, store: Store) -> None:
        view = store.create_view("a/b/c", dtype="bfloat16", shape=(2,))
        view["a"] = torch.tensor([1.5, -2], dtype=torch.bfloat16)
        assert view["a"].dtype == np.float32
        assert view["a"].tolist() == [1.5, -2]
        assert not view["a"].flags.writeable

    def test_what_is_not_there_is_a_key_error_with_advice(self, full: View) -> None:
        with pytest.raises(KeyError, match=r"lacks 1 .* x\. Import or prewarm") as caught:
            full["x"]
        assert isinstance(caught.value, MissingEntry)
        with pytest.raises(MissingEntry, match=r"f: no_face \(looked hard\)"):
            full["f"]
        with pytest.raises(MissingEntry):
            del full["x"]

    def test_long_lists_of_missing_names_are_cut(self, full: View) -> None:
        with pytest.raises(MissingEntry, match=r"lacks 9 .*0, 1, 2, 3, 4 and 4 more"):
            full.gather([str(i) for i in range(9)])

    def test_names_come_in_byte_order(self, view: View, vector: Vector) -> None:
        names = ["é", "a", "B", "b", "10", "9", " ", "-", "𝄞", "\uffee", "aa"]
        view.update({name: vector(1) for name in names})
        assert list(view) == sorted(names, key=str.encode) == list(view.names())

    def test_more_names_than_are_read_at_once(self, store: Store) -> None:
        view = store.create_view("a/b/c", shape=(), dtype="uint16")
        view.update({f"{i:05}": np.uint16(i) for i in range(25_000)})
        assert list(view) == [f"{i:05}" for i in range(25_000)]
        names = view.names()
        assert len(names) == 25_000
        batch = view.select(names).gather(np.arange(25_000)[::-1])
        assert (batch == np.arange(25_000)[::-1]).all()

    def test_views_whose_numbers_are_neighbours_do_not_mix(self, store: Store) -> None:
        views = [store.create_view(f"a/b/c{i}", shape=(), dtype="int64") for i in range(300)]
        with store.writer() as writer:
            for i, view in enumerate(views):
                writer.put(view, "x", np.int64(i))
        assert [int(view["x"]) for view in views] == list(range(300))
        assert all(list(view) == ["x"] for view in views)

    def test_checksums_are_verified_where_that_is_asked_for(self, full: View) -> None:
        with merstore.open(full.store.path, checksum=True) as store:
            assert store[full.path]["a"].tolist() == [1, 1, 1, 1]
        with merstore.open(full.store.path, checksum=True, io="pread") as store:
            assert (store[full.path].gather(["a", "b"])[1] == 2).all()


class TestBatches:
    def test_a_batch_is_an_array_in_the_order_asked_for(self, full: View) -> None:
        batch = full.gather(["c", "a", "c"])
        assert isinstance(batch, Batch)
        assert batch.shape == (3, 4)
        assert batch.dtype == np.float32
        assert batch[:, 0].tolist() == [3, 1, 3]
        assert batch.mask.tolist() == [True, True, True]
        assert batch.ctypes.data % 64 == 0  # where copies are fastest
        batch += 1  # a copy: it may be written to
        assert full["c"][0] == 3

    @pytest.mark.parametrize(
        "kind",
        [list, tuple, iter, dict.fromkeys, merstore.Names.of, lambda names: (n for n in names)],
    )
    def test_names_may_come_in_any_way(self, full: View, kind: Callable[[list[str]], Any]) -> None:
        """Also as an iterator of which the first names are known and later ones are not."""
        full.gather(["a", "b"])
        assert full.gather(kind(["a", "b", "c"]))[:, 0].tolist() == [1, 2, 3]

    def test_no_names(self, full: View, sequences: View) -> None:
        batch = full.gather([])
        assert batch.shape == (0, 4)
        assert batch.mask.shape == (0,)
        assert len(sequences.gather([])) == 0
        assert sequences.gather([]).padded().shape == (0, 0, 3)

    def test_raise_names_what_is_missing(self, full: View) -> None:
        with pytest.raises(MissingEntry, match="lacks 2"):
            full.gather(["a", "x", "f", "x"])

    def test_skip_leaves_out(self, full: View) -> None:
        batch = full.gather(["x", "b", "f", "a"], on_miss="skip")
        assert batch[:, 0].tolist() == [2, 1]
        assert batch.mask.tolist() == [False, True, False, True]

    def test_mask_gives_zeros_and_says_so(self, full: View) -> None:
        batch = full.gather(["x", "b", "f", "a"], on_miss="mask")
        assert batch[:, 0].tolist() == [0, 2, 0, 1]
        assert batch.mask.tolist() == [False, True, False, True]

    def test_masked_rows_are_zero_whatever_out_held(self, full: View) -> None:
        out = np.full((2, 4), 7, np.float32)
        full.gather(["x", "b"], out=out, on_miss="mask")
        assert out[:, 0].tolist() == [0, 2]

    def test_other_ways_are_refused(self, full: View) -> None:
        with pytest.raises(MerstoreError, match="raise, skip, mask, fill"):
            full.gather(["a"], on_miss="zero")

    def test_a_name_that_cannot_be(self, full: View) -> None:
        with pytest.raises(InvalidKey):
            full.gather(["a", "b/c"], on_miss="mask")
        assert full.gather(["a"])[0, 0] == 1

    @pytest.mark.parametrize("dtype", ["float32", np.float64, torch.float32, "f8"])
    def test_floats_are_cast_on_the_way(self, sequences: View, dtype: Any) -> None:
        batch = sequences.gather(["b"], dtype=dtype)
        assert batch.values.dtype in (np.float32, np.float64)
        assert batch.values.tolist() == [[2, 2, 2]] * 2

    @pytest.mark.parametrize("dtype", ["float16", "int32", "bool", "uint8"])
    def test_other_casts_are_refused_by_the_name_of_the_entry(self, full: View, dtype: str) -> None:
        with pytest.raises(
            InvalidTensor, match=r"uniform_8frms/a is stored as float32, which .* " + dtype
        ):
            full.gather(["a"], dtype=dtype)

    def test_a_batch_travels_with_its_mask(self, full: View) -> None:
        batch = full.gather(["a", "x"], on_miss="mask")
        copy = pickle.loads(pickle.dumps(batch))
        assert isinstance(copy, Batch)
        assert (copy == batch).all()
        assert copy.mask.tolist() == [True, False]

    def test_what_is_made_of_a_batch_has_no_mask(self, full: View) -> None:
        batch = full.gather(["a", "b"])
        for made in (batch[:1], batch * 2, batch.copy(), batch.T):
            assert made.mask is None


class TestOut:
    @pytest.mark.parametrize("kind", [np.empty, torch.empty])
    def test_a_batch_is_written_to_out(self, full: View, kind: Callable[..., Any]) -> None:
        out = kind((2, 4), dtype=torch.float32 if kind is torch.empty else np.float32)
        batch = full.gather(["a", "b"], out=out)
        assert out.tolist() == [[1] * 4, [2] * 4]
        assert np.shares_memory(batch, np.asarray(out))

    def test_its_dtype_is_the_batches(self, full: View) -> None:
        out = torch.empty(2, 4, dtype=torch.float64)
        assert full.gather(["a", "b"], out=out).dtype == np.float64
        assert out[1].tolist() == [2, 2, 2, 2]

    def test_a_ragged_batch_takes_as_many_rows_as_it_needs(self, sequences: View) -> None:
        out = np.full((10, 3), 7, np.float16)
        batch = sequences.gather(["a", "c"], out=out)
        assert batch.values.shape == (4, 3)
        assert out[:, 0].tolist() == [1, 3, 3, 3, 7, 7, 7, 7, 7, 7]

    @pytest.mark.parametrize(
        ("out", "reason"),
        [
            (np.empty((3, 4), "f4"), "shape"),
            (np.empty((2, 5), "f4"), "shape"),
            (np.empty((8,), "f4"), "shape"),
            (np.empty((2, 8), "f4")[:, ::2], "C-contiguous"),
            (np.empty((4, 2), "f4").T, "C-contiguous"),
            (np.frombuffer(bytes(32), "f4").reshape(2, 4), "writable"),
            (np.empty((2, 4), ">f4"), "out is"),
            (np.empty((2, 4), "i4"), "cannot hold"),
            (np.empty((2, 4), "c8"), "dtype"),
            (torch.empty(2, 4, dtype=torch.bfloat16), "cannot be written to"),
            (torch.empty(2, 4, requires_grad=True), "cannot be written to"),
            (torch.empty(2, 4, device="meta"), "cannot be written to"),
            ([[0.0] * 4] * 2, "not list"),
            (7, "not int"),
        ],
        ids=[
            "too many rows",
            "too wide",
            "flat",
            "every other column",
            "transposed",
            "read-only",
            "big-endian",
            "integers",
            "complex",
            "bfloat16 tensor",
            "tensor with gradients",
            "tensor on no device",
            "list",
            "number",
        ],
    )
    def test_what_cannot_take_the_batch_is_refused(self, full: View, out: Any, reason: str) -> None:
        with pytest.raises(InvalidTensor, match=reason):
            full.gather(["a", "b"], out=out)

    def test_dtype_and_out_must_agree(self, full: View) -> None:
        with pytest.raises(InvalidTensor, match="float32, the batch is float64"):
            full.gather(["a"], out=np.empty((1, 4), "f4"), dtype="float64")

    def test_too_small_for_a_ragged_batch(self, sequences: View) -> None:
        with pytest.raises(InvalidTensor, match="shape"):
            sequences.gather(["a", "c"], out=np.empty((3, 3), "f2"))

    def test_a_refused_batch_leaves_out_alone(self, full: View) -> None:
        out = np.full((2, 4), 7, np.float32)
        with pytest.raises(MissingEntry):
            full.gather(["a", "x"], out=out)
        assert (out == 7).all()


class TestRagged:
    def test_values_and_offsets(self, sequences: View) -> None:
        batch = sequences.gather(["c", "a"])
        assert isinstance(batch, RaggedBatch)
        assert batch.values.shape == (4, 3)
        assert batch.offsets.tolist() == [0, 3, 4]
        assert batch.offsets.dtype == np.int64
        assert batch.lengths.tolist() == [3, 1]
        assert len(batch) == 2
        assert batch[1].tolist() == [[1, 1, 1]]
        assert batch[-1].tolist() == [[1, 1, 1]]
        assert [len(sequence) for sequence in batch] == [3, 1]
        with pytest.raises(IndexError):
            batch[2]
        assert repr(batch) == "RaggedBatch(2 sequences, values (4, 3) float16)"

    def test_what_is_not_there_has_no_rows(self, sequences: View) -> None:
        batch = sequences.gather(["x", "b", "f"], on_miss="mask")
        assert batch.lengths.tolist() == [0, 2, 0]
        assert batch.mask.tolist() == [False, True, False]
        batch = sequences.gather(["x", "b", "f"], on_miss="skip")
        assert batch.lengths.tolist() == [2]
        assert batch.mask.tolist() == [False, True, False]

    def test_padding(self, sequences: View) -> None:
        batch = sequences.gather(["a", "c"])
        assert batch.padded()[..., 0].tolist() == [[1, 0, 0], [3, 3, 3]]
        assert batch.padded(side="front")[..., 0].tolist() == [[0, 0, 1], [3, 3, 3]]
        assert batch.padded(2)[..., 0].tolist() == [[1, 0], [3, 3]]
        assert batch.padded(4, "front")[..., 0].tolist() == [[0, 0, 0, 1], [0, 3, 3, 3]]
        with pytest.raises(InvalidTensor, match="front"):
            batch.padded(side="left")

    def test_padding_from_the_map(self, sequences: View) -> None:
        rows = sequences.select(["a", "x", "c"])
        values, lengths, mask = rows.padded([0, 1, 2], on_miss="mask")
        assert values[..., 0].tolist() == [[1, 0, 0], [0, 0, 0], [3, 3, 3]]
        assert (lengths.tolist(), mask.tolist()) == ([1, 0, 3], [True, False, True])
        values, lengths, mask = rows.padded([0, 1, 2], 2, "front", on_miss="skip", dtype="float32")
        assert values.dtype == np.float32
        assert values[..., 0].tolist() == [[0, 1], [3, 3]]
        assert (lengths.tolist(), mask.tolist()) == ([1, 2], [True, False, True])
        out = np.full((2, 3, 3), 7, "f2")
        assert rows.padded([2, 0], out=out)[0] is out
        assert out[..., 0].tolist() == [[3, 3, 3], [1, 0, 0]]

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"side": "left"}, InvalidTensor),
            ({"length": -1}, InvalidTensor),
            ({"out": np.zeros((1, 2, 3), "f2")}, InvalidTensor),
            ({"dtype": "int8"}, InvalidTensor),
            ({"on_miss": "zero"}, MerstoreError),
        ],
        ids=str,
    )
    def test_padding_that_cannot_be(self, sequences: View, options: Any, error: type) -> None:
        with pytest.raises(error):
            sequences.select().padded([0], **options)

    def test_a_view_of_fixed_shape_has_nothing_to_pad(self, full: View) -> None:
        with pytest.raises(InvalidTensor, match="fixed shape"):
            full.select().padded([0])


class TestSelection:
    def test_rows_by_number(self, full: View) -> None:
        rows = full.select()
        assert len(rows) == 3
        assert list(rows.names) == ["a", "b", "c"]
        assert rows.gather([2, 0, -2])[:, 0].tolist() == [3, 1, 2]

    @pytest.mark.parametrize(
        "index",
        [[2, 0], (2, 0), np.array([2, 0], "i4"), np.array([2, 0], "u1"), torch.tensor([2, 0]), range(2, -1, -2),
         np.array([9, 2, 9, 0])[1::2]],
        ids=str,
    )  # fmt: skip
    def test_row_numbers_are_integers_of_any_kind(self, full: View, index: Any) -> None:
        assert full.select().gather(index)[:, 0].tolist() == [3, 1]

    @pytest.mark.parametrize(
        "index", [[0.0], [True, False, True], np.ones(3, bool), [[0]], 1, "a", ["a"], None], ids=str
    )
    def test_other_row_numbers_are_refused(self, full: View, index: Any) -> None:
        with pytest.raises(InvalidTensor, match="one integer array"):
            full.select().gather(index)

    @pytest.mark.parametrize("row", [3, -4, 2**40, -(2**40)])
    def test_rows_that_do_not_exist(self, full: View, row: int) -> None:
        with pytest.raises(IndexError, match="of 3"):
            full.select().gather([0, row])

    def test_names_need_not_be_there_yet(self, full: View, vector: Vector) -> None:
        rows = full.select(["a", "new", "f"])
        assert rows.present().tolist() == [True, False, False]
        assert rows.gather([0, 1, 2], on_miss="mask").mask.tolist() == [True, False, False]
        full["new"] = vector(5)
        full["f"] = vector(6)
        assert rows.present().tolist() == [True, True, True]
        assert rows.gather([1, 2])[:, 0].tolist() == [5, 6]

    def test_a_name_may_be_selected_twice(self, full: View) -> None:
        assert full.select(["a", "a", "b"]).gather([0, 1, 2])[:, 0].tolist() == [1, 1, 2]

    def test_names_that_cannot_be(self, full: View) -> None:
        with pytest.raises(InvalidKey):
            full.select(["a", ""])

    def test_lengths_and_presence(self, full: View, sequences: View) -> None:
        assert full.select(["a", "x"]).lengths().tolist() == [1, 0]
        rows = sequences.select(["a", "x", "c"])
        assert rows.lengths().tolist() == [1, 0, 3]
        assert rows.lengths([2, 2, -1]).tolist() == [3, 3, 3]
        assert rows.present([1, 2]).tolist() == [False, True]

    def test_an_empty_selection(self, full: View, store: Store) -> None:
        rows = store.create_view("a/b/c", shape=(2,)).select()
        assert len(rows) == 0
        assert rows.gather([]).shape == (0, 2)
        assert rows.lengths().tolist() == []

    def test_asking_ahead_changes_nothing(self, full: View) -> None:
        rows = full.select(["a", "x", "c"])
        rows.willneed([0, 1, 2])
        rows.willneed([])
        assert rows.gather([0, 2])[:, 0].tolist() == [1, 3]

    def test_what_is_overwritten_is_read_anew(self, full: View, vector: Vector) -> None:
        rows = full.select()
        for value in range(5, 30):
            rows.gather([0, 1, 2])
            full["b"] = vector(value)
            assert rows.gather([0, 1, 2])[:, 0].tolist() == [1, value, 3]
            assert full.gather(["b"])[0, 0] == value


class ByLength:
    """A filler that knows how to compute names of one letter, fails on the others, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def fill(self, view: View, names: list[str]) -> None:
        self.asked.append(names)
        with view.store.writer() as writer:
            for name in names:
                if len(name) == 1:
                    writer.put(view, name, np.full(4, ord(name), np.float32))
                else:
                    writer.fail(view, name, "no_video", "too long")


class TestFilling:
    def test_what_is_missing_is_computed_once(self, full: View) -> None:
        full.filler = filler = ByLength()
        batch = full.gather(["x", "a", "y", "x"], on_miss="fill")
        assert batch[:, 0].tolist() == [ord("x"), 1, ord("y"), ord("x")]
        assert batch.mask.all()
        full.gather(["x", "y"], on_miss="fill")
        assert filler.asked == [["x", "y"]]

    def test_what_cannot_be_computed_is_masked(self, full: View) -> None:
        full.filler = filler = ByLength()
        for _ in range(2):
            batch = full.gather(["x", "long", "f"], on_miss="fill")
            assert batch.mask.tolist() == [True, False, False]
            assert batch[:, 0].tolist() == [ord("x"), 0, 0]
        # neither the failure that was there nor the new one is tried again
        assert filler.asked == [["x", "long"]]

    def test_by_row_number(self, full: View) -> None:
        full.filler = ByLength()
        rows = full.select(["x", "long", "a"])
        assert rows.gather([2, 0, 1], on_miss="fill").mask.tolist() == [True, True, False]

    def test_nothing_missing_nothing_asked(self, full: View) -> None:
        full.filler = filler = ByLength()
        full.gather(["a", "b"], on_miss="fill")
        assert filler.asked == []

    def test_without_a_filler(self, full: View) -> None:
        assert full.gather(["a"], on_miss="fill").mask.all()
        with pytest.raises(MerstoreError, match="give it a filler"):
            full.gather(["x"], on_miss="fill")


class TestThreads:
    def test_threads_may_share_a_view(self, store: Store) -> None:
        """While some read, one overwrites, and one asks for names that nobody asked for before."""
        view = store.create_view("a/b/c", shape=(16,), dtype="int32")
        names = [f"{i:03}" for i in range(300)]
        view.update({name: np.full(16, i, "i4") for i, name in enumerate(names)})
        rows = view.select(names)
        wrong: list[object] = []
        over = threading.Event()

        def reads(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while not over.is_set():
                chosen = rng.integers(0, 300, 40)
                try:
                    by_name = view.gather([names[i] for i in chosen])
                    by_row = rows.gather(chosen)
                    one = view[names[chosen[0]]]
                    if not (
                        (chosen == by_name.T).all()
                        and (chosen == by_row.T).all()
                        and (one == chosen[0]).all()
                    ):
                        wrong.append(chosen)
                except MerstoreError as error:
                    wrong.append(error)

        threads = [threading.Thread(target=reads, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for i in range(60):
            view[names[i]] = np.full(16, i, "i4")
            view.gather([f"new {i} {k}" for k in range(50)], on_miss="skip")
        over.set()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_closed_store_says_so(full: View) -> None:
    rows = full.select()
    full.store.close()
    for read in (
        lambda: full["a"],
        lambda: list(full),
        lambda: rows.gather([0]),
        lambda: full.gather(["a"]),
    ):
        with pytest.raises(MerstoreError, match="closed"):
            read()
    full.store.close()  # again: harmless

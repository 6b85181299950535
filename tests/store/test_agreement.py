"""The store against a plain dict of arrays, and against the reference reader, on whatever hypothesis makes up."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import Reference
from strategies import (
    DTYPES,
    IN_MEMORY,
    Declaration,
    Entry,
    can_cast,
    cast,
    declarations,
    entries,
    same,
    same_values,
    sample_names,
)

import merstore
from merstore import InvalidTensor, MissingEntry, RaggedBatch, Selection, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Contents = dict[str, Entry]


@st.composite
def contents(draw: st.DrawFn, declared: Declaration, as_stored: bool = False) -> Contents:
    found: Contents = {}
    for name in draw(st.lists(sample_names(), unique=True, max_size=8)):
        dtype = draw(st.sampled_from(DTYPES)) if as_stored and draw(st.booleans()) else None
        entry = draw(entries(declared, dtype))
        if as_stored and declared.ragged and draw(st.integers(0, 3)) == 0:
            entry = Entry(
                entry.dtype, entry.bits[0, ...].copy(), entry.library
            )  # (D,) in (None, D)
        found[name] = entry
    return found


def rows(entry: Entry, declared: Declaration, dtype: str) -> np.ndarray:
    """An entry as the rows that it takes in a batch: ``[1, *shape]`` or ``[length, *row shape]``."""
    array = cast(entry, dtype) if entry.dtype != dtype else entry.bits
    return array.reshape(-1, *declared.row_shape)


def batch_dtype(declared: Declaration, dtype: str | None) -> str:
    dtype = dtype or declared.dtype
    return "float32" if dtype == "bfloat16" else dtype


def store_all(view: View, found: Contents) -> None:
    with view.store.writer() as writer:
        for name, entry in found.items():
            writer.put(view, name, entry.value, as_stored=True)


@given(st.data(), declarations(), st.booleans(), st.sampled_from(["map", "pread"]), st.booleans())
def test_what_was_put_is_read(
    data: st.DataObject, declared: Declaration, checksum: bool, io: str, as_stored: bool
) -> None:
    found = data.draw(contents(declared, as_stored))
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        with merstore.open(folder, "a", checksum=checksum, io=io) as store:
            view = store.create_view(
                PATH, dtype=declared.dtype, shape=declared.shape, spec={"n": 8}, nonfinite="flag"
            )
            if as_stored:
                store_all(view, found)
            else:
                view.update({name: entry.value for name, entry in found.items()})
            check_entries(view, found)
            check_reference(store, found)
            assert store.verify() == []
        with merstore.open(folder, "r", checksum=checksum, io=io) as store:
            check_entries(store[PATH], found)


def check_entries(view: View, found: Contents) -> None:
    in_order = sorted(found, key=str.encode)
    assert list(view) == in_order
    assert view.names() == in_order
    assert len(view) == len(found)
    for name, entry in found.items():
        assert name in view
        array = view[name]
        assert same(array, entry.read)
        assert not array.flags.writeable


def check_reference(store: merstore.Store, found: Contents) -> None:
    with Reference.copy(store.path) as reference:
        reference.check()
        assert reference.locators_valid()
        for arrays in (reference.arrays(PATH), reference.rebuild(PATH)):
            assert arrays.keys() == found.keys()
            assert all(same(arrays[name], entry.bits) for name, entry in found.items())


@given(st.data(), declarations(), st.booleans(), st.sampled_from(["map", "pread"]))
def test_a_batch_is_the_entries_in_order(
    data: st.DataObject, declared: Declaration, checksum: bool, io: str
) -> None:
    found = data.draw(contents(declared, as_stored=data.draw(st.booleans())))
    absent = [name for name in data.draw(st.lists(sample_names(), max_size=3)) if name not in found]
    with (
        tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder,
        merstore.open(folder, "a", checksum=checksum, io=io) as store,
    ):
        view = store.create_view(PATH, dtype=declared.dtype, shape=declared.shape, nonfinite="flag")
        store_all(view, found)
        if absent:
            view.fail(absent[0], "no_video", "nothing there")
        known = [*found, *absent]
        selection = view.select(known)
        for _ in range(3):
            chosen = data.draw(
                st.lists(st.integers(0, len(known) - 1), max_size=10) if known else st.just([])
            )
            check_batch(data, view, selection, found, declared, chosen)
            if declared.ragged:
                check_padded(data, selection, found, declared, chosen)


def check_batch(
    data: st.DataObject,
    view: View,
    selection: Selection,
    found: Contents,
    declared: Declaration,
    chosen: list[int],
) -> None:
    names = [selection.names[row] for row in chosen]
    on_miss = data.draw(st.sampled_from(["raise", "skip", "mask"]))
    dtype = data.draw(st.sampled_from([None, "float32", "float64", declared.dtype]))
    wanted = batch_dtype(declared, dtype)
    mask = np.array([name in found for name in names], bool)
    there = [name for name in names if name in found]

    out = None
    if data.draw(st.booleans()):
        count = sum(len(rows(found[n], declared, found[n].dtype)) for n in there)
        if not declared.ragged:
            count = len(names) if on_miss != "skip" else len(there)
        spare = data.draw(st.integers(0, 2)) if declared.ragged or on_miss == "skip" else 0
        if not declared.ragged and spare and mask.all():
            spare = 0  # nothing is skipped: out must fit
        shape = (count + spare, *declared.row_shape)
        out = np.full(shape, 7).astype(wanted)
        if data.draw(st.booleans()):
            out = torch.from_numpy(out)

    def gather() -> Any:
        if data.draw(st.booleans()):
            return view.gather(names, out=out, on_miss=on_miss, dtype=dtype)
        index = [row - len(selection) if data.draw(st.booleans()) else row for row in chosen]
        return selection.gather(np.array(index, np.int32), out=out, on_miss=on_miss, dtype=dtype)

    if on_miss == "raise" and not mask.all():
        with pytest.raises(MissingEntry):
            gather()
        return
    if not all(can_cast(found[name].dtype, wanted) for name in there):
        with pytest.raises(InvalidTensor, match="stored as"):
            gather()
        return
    batch = gather()
    assert np.array_equal(batch.mask, mask)

    blank = np.zeros((0 if declared.ragged else 1, *declared.row_shape), wanted)
    parts = [rows(found[n], declared, wanted) if n in found else blank for n in names]
    if on_miss == "skip":
        parts = [part for part, here in zip(parts, mask, strict=True) if here]
    expected = np.concatenate([np.zeros((0, *declared.row_shape), wanted), *parts])
    if isinstance(batch, RaggedBatch):
        assert same_values(batch.values, expected)
        assert batch.lengths.tolist() == [len(part) for part in parts]
        assert len(batch) == len(parts)
        assert all(same_values(batch[i], part) for i, part in enumerate(parts))
        check_padding(batch, parts, declared, wanted)
        values = batch.values
    else:
        assert same_values(np.asarray(batch), expected)
        values = batch
    if out is not None:
        assert np.shares_memory(values, np.asarray(out)) or values.size == 0
        assert same_values(np.asarray(out)[: len(values)], expected)
        assert (np.asarray(out)[len(values) :] == np.full(1, 7).astype(wanted)).all()


def padded(
    parts: list[np.ndarray], width: int, side: str, declared: Declaration, dtype: str
) -> np.ndarray:
    out = np.zeros((len(parts), width, *declared.row_shape), dtype)
    for i, part in enumerate(parts):
        kept = part[:width]
        start = width - len(kept) if side == "front" else 0
        out[i, start : start + len(kept)] = kept
    return out


def check_padding(
    batch: RaggedBatch, parts: list[np.ndarray], declared: Declaration, dtype: str
) -> None:
    longest = max((len(part) for part in parts), default=0)
    for side in ("back", "front"):
        assert same_values(batch.padded(side=side), padded(parts, longest, side, declared, dtype))
        assert same_values(batch.padded(2, side), padded(parts, 2, side, declared, dtype))


def check_padded(
    data: st.DataObject,
    selection: Selection,
    found: Contents,
    declared: Declaration,
    chosen: list[int],
) -> None:
    """The same by ``Selection.padded``, which pads straight from the map."""
    on_miss = data.draw(st.sampled_from(["skip", "mask"]))
    length = data.draw(st.one_of(st.none(), st.integers(0, 8)))
    side = data.draw(st.sampled_from(["back", "front"]))
    wanted = batch_dtype(declared, None)
    names = [selection.names[row] for row in chosen]
    parts = [
        rows(found[name], declared, found[name].dtype)
        if name in found
        else np.zeros((0, *declared.row_shape), wanted)
        for name in names
        if name in found or on_miss == "mask"
    ]
    if not all(can_cast(found[name].dtype, wanted) for name in names if name in found):
        with pytest.raises(InvalidTensor, match="stored as"):
            selection.padded(chosen, length, side, on_miss=on_miss)
        return
    parts = [
        rows(found[name], declared, wanted) if name in found else parts[0][:0].astype(wanted)
        for name in names
        if name in found or on_miss == "mask"
    ]
    width = max((len(part) for part in parts), default=0) if length is None else length
    values, lengths, mask = selection.padded(chosen, length, side, on_miss=on_miss)
    assert same_values(values, padded(parts, width, side, declared, wanted))
    assert lengths.tolist() == [min(len(part), width) for part in parts]
    assert mask.tolist() == [name in found for name in names]


# ---- many operations in few transactions


@st.composite
def operations(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """What is done, to which of a few names, with which content."""
    done = st.sampled_from(["put", "put", "put", "fail", "delete", "commit"])
    name = st.sampled_from(["a", "b", "c", "é" * 200])
    return draw(st.lists(st.tuples(done, name, st.integers(1, 9)), max_size=40))


@given(operations())
def test_writes_do_what_they_say_wherever_transactions_end(
    done: list[tuple[str, str, int]],
) -> None:
    """A dict of arrays, and a dict of failures: no write depends on where a commit falls."""
    tensors: dict[str, int] = {}
    attempts: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder, merstore.open(folder, "a") as store:
        view = store.create_view(PATH, shape=(None, 1), dtype="float32")
        flat = {name: np.full((n, 1), n, np.float32) for name, n in (("x", 3), ("y", 5))}
        view.update(flat)  # a small last block to be merged
        tensors |= {"x": 3, "y": 5}
        with store.writer() as writer:
            for what, name, content in done:
                if what == "put":
                    writer.put(view, name, np.full((content, 1), content, np.float32))
                    tensors[name] = content
                    attempts.pop(name, None)
                elif what == "fail":
                    writer.fail(view, name, "no_face", f"{content}")
                    if name not in tensors:
                        attempts[name] = attempts.get(name, 0) + 1
                elif what == "delete":
                    writer.delete(view, name)
                    tensors.pop(name, None)
                    attempts.pop(name, None)
                else:
                    writer.commit()
        assert set(view) == set(tensors)
        for name, content in tensors.items():
            assert same(view[name], np.full((content, 1), content, np.float32))
        assert {f.name: f.attempts for f in view.failures()} == attempts
        assert store.verify() == []
        with Reference.copy(Path(folder)) as reference:
            reference.check()
            assert reference.arrays(PATH).keys() == tensors.keys()


# ---- many at once


ODD = {
    "plain": lambda: np.full((3, 2), 7, np.float32),
    "other bytes order": lambda: np.full((3, 2), 7, ">f4"),
    "other layout": lambda: np.full((2, 3), 7, np.float32).T,
    "torch": lambda: torch.full((3, 2), 7.0),
    "list": lambda: np.full((3, 2), 7, np.float32).tolist(),
    "matrix": lambda: np.full((3, 2), 7, np.float32).view(np.matrix),
    "dtype": lambda: np.full((3, 2), 7, np.float64),
    "shape": lambda: np.full((2, 3), 7, np.float32),
    "nothing": lambda: np.zeros((0, 2), np.float32),
    "zero row": lambda: np.array([[1, 2], [0, -0.0], [3, 4]], np.float32),
    "nan": lambda: np.full((3, 2), np.nan, np.float32),
    "large": lambda: np.full((3, 2), 3e38, np.float32),
}


@st.composite
def pairs(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    """Mostly plain names and arrays, others among them."""
    found = []
    for _ in range(draw(st.integers(0, 12))):
        kind = "plain" if draw(st.integers(0, 4)) else draw(st.sampled_from(sorted(ODD)))
        name: Any = f"n{draw(st.integers(0, 9))}"
        if draw(st.integers(0, 7)) == 0:
            name = draw(
                st.one_of(
                    sample_names(),
                    st.sampled_from(["", "a/b", "x" * 401, "a\n", b"n1", 3, "\x7f", "~n"]),
                )
            )
        found.append((name, ODD[kind]()))
    return found


@given(pairs(), st.sampled_from(["flag", "refuse"]), st.sampled_from(["flag", "refuse"]))
def test_many_at_once_are_as_many_one_by_one(
    found: list[tuple[Any, Any]], nonfinite: str, zeros: str
) -> None:
    """The quick way for plain arrays refuses what the other refuses, in the same words, and stores the same."""
    outcomes = []
    for at_once in (True, False):
        with (
            tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder,
            merstore.open(folder, "a") as store,
        ):
            view = store.create_view(PATH, shape=(3, 2), nonfinite=nonfinite, zeros=zeros)
            error = None
            with store.writer() as writer:
                try:
                    if at_once:
                        writer.update(view, iter(found))
                    else:
                        for name, array in found:
                            writer.put(view, name, array)
                except merstore.MerstoreError as refused:
                    error = type(refused), str(refused)
            with Reference.copy(folder) as reference:
                reference.check()
                index = {
                    name: (entry.checksum, entry.flags, entry.shape, entry.dtype)
                    for name, entry in reference.index(PATH).items()
                }
            outcomes.append((error, index, store.stats()["dead_bytes"]))
    assert outcomes[0] == outcomes[1]

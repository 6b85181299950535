"""Names: many sample names in one piece of memory, to be used like a list of text."""

import pickle
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sample_names

from merstore import InvalidKey, Names, _core

lists = st.lists(sample_names(), max_size=12)


@given(lists)
def test_they_read_like_a_list(names: list[str]) -> None:
    packed = Names.of(names)
    assert len(packed) == len(names)
    assert list(packed) == names
    assert [packed[i] for i in range(len(names))] == names
    assert [packed[-i] for i in range(1, len(names) + 1)] == names[::-1]
    assert [packed.key(i) for i in range(len(names))] == [name.encode() for name in names]
    assert list(reversed(packed)) == names[::-1]
    assert all(name in packed and packed.index(name) == names.index(name) for name in names)


@given(lists, st.slices(12))
def test_slices_are_names_again(names: list[str], part: slice) -> None:
    cut = Names.of(names)[part]
    assert isinstance(cut, Names)
    assert list(cut) == names[part]


@given(lists, lists)
def test_equal_names_are_equal(one: list[str], other: list[str]) -> None:
    assert (Names.of(one) == Names.of(other)) == (one == other)
    assert (Names.of(one) == other) == (one == other)
    assert Names.of(one) == Names.of(one)
    assert hash(Names.of(one)) == hash(Names.of(list(one)))


def test_where_they_are_cut_matters() -> None:
    assert Names.of(["ab", "c"]) != Names.of(["a", "bc"])
    assert Names.of(["a", "b"]) != "ab"
    assert Names.of([]) != ""


def test_take_gives_those_at_rows() -> None:
    names = Names.of(["a", "b", "c"])
    assert names.take(np.array([2, 0, 0])) == ["c", "a", "a"]


@pytest.mark.parametrize("row", [3, -4])
def test_rows_beyond_the_end_are_refused(row: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        Names.of(["a", "b", "c"])[row]


def test_names_are_not_packed_twice() -> None:
    names = Names.of(["a"])
    assert Names.of(names) is names


@given(lists)
def test_they_travel(names: list[str]) -> None:
    assert pickle.loads(pickle.dumps(Names.of(names))) == names


def test_a_pickle_is_about_as_large_as_the_names() -> None:
    names = Names.of([f"sample_{i:08d}" for i in range(10_000)])
    assert len(pickle.dumps(names)) < 10_000 * (15 + 8) + 1000


def test_repr_shows_a_few() -> None:
    assert repr(Names.of(["a", "b"])) == "Names(2: 'a', 'b')"
    assert repr(Names.of(list("abcde"))) == "Names(5: 'a', 'b', 'c', ...)"


@given(lists, lists)
def test_find_gives_the_rows_of_others(names: list[str], others: list[str]) -> None:
    table = {name: row for row, name in reversed(list(enumerate(names)))}
    rows = Names.of(names).find(Names.of(others)).tolist()
    assert [row >= 0 for row in rows] == [name in table for name in others]
    assert [names[row] for row in rows if row >= 0] == [name for name in others if name in table]


@given(lists)
def test_repeated_are_those_there_more_than_once(names: list[str]) -> None:
    repeated = list(Names.of(names).repeated())
    assert sorted(repeated) == sorted({name for name in names if names.count(name) > 1})


def test_names_of_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Names, "_hashes", lambda self: np.zeros(len(self), np.int64))
    names = Names.of(["a", "b", "c", "b"])
    assert names.find(Names.of(["c", "d", "a"])).tolist() == [2, -1, 0]
    assert names.repeated() == ["b"]


@given(st.lists(sample_names(), min_size=1, max_size=12), st.randoms())
def test_any_rows_are_taken_and_decoded(names: list[str], random: Random) -> None:
    rows = np.array([random.randrange(len(names)) for _ in range(9)])
    packed = Names.of(names)
    assert packed.decoded(rows) == list(packed.take(rows)) == [names[row] for row in rows]
    assert list(packed.encoded()) == [name.encode() for name in names]
    assert Names(*packed.parts) == packed


def test_only_names_are_packed() -> None:
    for wrong in ("", "a/b", "a\nb", "x" * 401):
        with pytest.raises(InvalidKey):
            Names.of(["good", wrong])
    with pytest.raises(InvalidKey, match="not int"):
        Names.of(["good", 7])  # type: ignore[list-item]


def test_texts_never_leave_their_memory() -> None:
    blob, offsets = "añb".encode(), np.array([0, 1, 3, 3, 4], np.int64)
    assert _core.texts(blob, offsets, np.array([3, 1, 2, 0, 1], np.int64)) == list("b") + [
        "ñ", "", "a", "ñ",
    ]  # fmt: skip
    for row in (-1, 4, 1 << 40):
        with pytest.raises(IndexError):
            _core.texts(blob, offsets, np.array([row], np.int64))
    with pytest.raises(ValueError, match="out of the blob"):
        _core.texts(blob[:2], offsets, np.array([1], np.int64))

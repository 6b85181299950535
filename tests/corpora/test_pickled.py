"""Label files are read without running a pickle, and nothing but labels is read."""

import contextlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.corpora.pickled import Refused, read_arrays, unpickle
from merstore.errors import MerstoreError

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values = st.one_of(
    names, st.integers(-(2**80), 2**80), st.floats(), st.booleans(), st.none(),
    st.lists(names, max_size=3), st.tuples(names, names),
)  # fmt: skip
labels = st.dictionaries(names, st.dictionaries(names, values, max_size=3), max_size=8)


def pickled(value: Any, protocol: int) -> bytes:
    array = np.empty((), object)
    array[()] = value
    return pickle.dumps(array, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@given(labels)
def test_what_was_pickled_is_read_whatever_the_protocol(protocol: int, value: Any) -> None:
    assert repr(unpickle(pickled(value, protocol))) == repr(value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "scalar",
    [np.float64(-1.6), np.float32(1 / 3), np.float16(0.5), np.int64(-3), np.uint8(200),
     np.bool_(True), np.str_("样本 é"), np.dtype(">f8").type(2.5)],
)  # fmt: skip
def test_numpy_scalars_become_python_values(protocol: int, scalar: Any) -> None:
    read = unpickle(pickled({"name": {"val": scalar}}, protocol))["name"]["val"]
    assert (read, type(read)) == (scalar.item(), type(scalar.item()))


def test_a_big_endian_scalar_is_read_in_its_order() -> None:
    big = np.array([2.5], ">f8")
    data = pickled({"val": np.float64(2.5)}, 3).replace(struct.pack("<d", 2.5), big.tobytes())
    assert unpickle(data.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")) == {"val": 2.5}


def test_one_value_in_many_places_is_read_in_all() -> None:
    shared = {"emo": "happy"}
    assert unpickle(pickled({"a": shared, "b": shared}, 4)) == {"a": shared, "b": shared}


def test_a_large_dictionary_keeps_its_order(tmp_path: Path) -> None:
    value = {
        f"sample_{n * 7919 % 100_003:08}": {"emo": "sad", "val": float(n)} for n in range(5000)
    }
    np.savez_compressed(tmp_path / "label.npz", train_corpus=value)
    arrays = read_arrays(tmp_path / "label.npz")
    assert arrays.names == ["train_corpus"]
    assert list(arrays["train_corpus"].items()) == list(value.items())


class Runs:
    """Unpickled by pickle, this would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, protocol: int
) -> None:
    target = tmp_path / "made"
    with pytest.raises(Refused):
        unpickle(pickled({"a": Runs(target)}, protocol))
    assert not target.exists()


def array_of(body: bytes, dtype: bytes = b"O8") -> bytes:
    """The bytes of a pickled array whose state is what `body` leaves on the stack."""
    head = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    text = b"X" + struct.pack("<I", len(dtype)) + dtype
    return head + b"(K\x01)cnumpy\ndtype\n" + text + b"K\x00K\x01\x87R\x89" + body + b"tb."


def test_the_plain_array_of_the_attacks_below_is_accepted() -> None:
    assert unpickle(array_of(b"](K\x07e")) == 7


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x03N.", id="not an array"),
        pytest.param(array_of(b"](K\x07e")[:-3], id="cut short"),
        pytest.param(array_of(b"C\x08" + b"A" * 8), id="addresses for objects"),
        pytest.param(array_of(b"C\x08" + b"A" * 8, b"f8"), id="another dtype"),
        pytest.param(array_of(b"](K\x07K\x08e"), id="two objects"),
        pytest.param(array_of(b"]"), id="no object"),
        pytest.param(array_of(b"](K\x07e", b"O8,O8"), id="a dtype of fields"),
        pytest.param(array_of(b"]r\xff\xff\xff\xff(j\xff\xff\xff\xfee"), id="a far place in the memo"),
        pytest.param(array_of(b"](\x8e" + b"\xff" * 8 + b"e"), id="bytes that are not there"),
        pytest.param(array_of(b"](\x96" + b"\x00" * 5 + b"\x01\x00\x00e"), id="a bytearray"),
        pytest.param(array_of(b"](}" + b")" + b"\x85" * 200_000 + b"Nse"), id="a deep key"),
        pytest.param(array_of(b"](cnumpy\nload\nX\x01\x00\x00\x00x\x85Re"), id="another name"),
        pytest.param(array_of(b"](X\x02\x00\x00\x00os" + b"\x85" * 9 + b"N\x93e"), id="a tuple as a name"),
        pytest.param(array_of(b"](cnumpy\nndarray\nK\x01\x85Re"), id="a call of ndarray"),
        pytest.param(array_of(b"](K\x01)Re"), id="a call of a number"),
        pytest.param(array_of(b"](N}be"), id="a state for nothing"),
        pytest.param(array_of(b"](\x86e"), id="a tuple of what is not there"),
        pytest.param(b"\x80\x03)" + b"\x85" * 300_000 + b".", id="a deep tuple"),
        pytest.param(b"\x80\x03Qx.", id="a persistent id"),
        pytest.param(b"\x80\x02\x82\x01.", id="an extension"),
    ],
)  # fmt: skip
def test_a_hostile_or_damaged_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        unpickle(data)


@given(st.data())
def test_any_damage_is_refused_or_read_as_something_plain(data: st.DataObject) -> None:
    good = bytearray(pickled({"a": {"emo": "happy", "val": np.float32(0.5)}}, 3))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        unpickle(bytes(good))


def test_the_error_names_file_and_array(tmp_path: Path) -> None:
    path = tmp_path / "label.npz"
    np.savez(path, train_corpus=np.array({"a": Runs(tmp_path / "made")}, object))
    with pytest.raises(
        MerstoreError, match=r"label\.npz: array train_corpus: the name posix\.mkdir"
    ):
        read_arrays(path)["train_corpus"]


@pytest.mark.parametrize(
    "array", [np.arange(3), np.array(1.5), np.array([{"a": 1}, {"b": 2}], object), np.array("text")]
)
def test_an_array_that_is_no_dictionary_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "label.npz", train_corpus=array)
    with pytest.raises(MerstoreError, match="no dictionary of labels"):
        read_arrays(tmp_path / "label.npz")["train_corpus"]


def test_a_file_that_is_no_npz_or_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"absent\.npz: No such file"):
        read_arrays(tmp_path / "absent.npz")
    path = tmp_path / "label.npz"
    np.savez_compressed(path, train_corpus={f"s{n}": {"emo": 1} for n in range(500)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MerstoreError, match=r"label\.npz: no npz file"):
        read_arrays(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(MerstoreError, match="damaged"):
        read_arrays(path)["train_corpus"]


def test_a_member_without_an_array_in_it(tmp_path: Path) -> None:
    path = tmp_path / "label.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train_corpus.npy", b"no array")
    with pytest.raises(MerstoreError, match="damaged"):
        read_arrays(path)["train_corpus"]


def test_an_array_too_large_for_labels_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merstore.corpora.pickled.MAX_BYTES", 1000)
    array = np.empty((), object)
    array[()] = {"a": "b" * 2000}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, train_corpus=array)
    (tmp_path / "label.npz").write_bytes(buffer.getvalue())
    with pytest.raises(MerstoreError, match="too many"):
        read_arrays(tmp_path / "label.npz")["train_corpus"]


class TestLists:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @given(
        st.lists(st.one_of(names, st.none(), st.floats(), st.lists(names, max_size=3)), max_size=6)
    )
    def test_objects_are_read_in_their_order(self, protocol: int, items: list[Any]) -> None:
        array = np.empty(len(items), object)
        array[:] = items
        data = pickle.dumps(array, protocol=protocol)
        assert repr(unpickle(data, (len(items),))) == repr(items)

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
    def test_as_many_as_the_header_says(self, shape: tuple[int, ...]) -> None:
        data = pickle.dumps(np.array(["a", "b"], object), protocol=4)
        with pytest.raises(Refused):
            unpickle(data, shape)

    @pytest.mark.parametrize(
        "array",
        [np.array(["é", "b", ""]), np.array(["é"], ">U3"), np.array([b"a", b"\xff"]), np.arange(3), np.array([0.5])],
    )  # fmt: skip
    def test_plain_arrays_are_read_as_numpy_reads_them(
        self, tmp_path: Path, array: np.ndarray
    ) -> None:
        np.savez(tmp_path / "a.npz", items=array)
        assert read_arrays(tmp_path / "a.npz").items("items") == array.tolist()

    @pytest.mark.parametrize(
        "array", [np.array("text"), np.array([["a"]]), np.array([1j]), np.array(["2026-01-01"], "M8[D]")]
    )  # fmt: skip
    def test_what_is_no_list_is_refused(self, tmp_path: Path, array: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", items=array)
        with pytest.raises(MerstoreError, match=r"a\.npz: array items: .* is no list of texts"):
            read_arrays(tmp_path / "a.npz").items("items")

    def test_a_list_that_is_cut_short(self, tmp_path: Path) -> None:
        data = io.BytesIO()
        np.save(data, np.array(["abc"] * 50))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("items.npy", data.getvalue()[:-20])
        with pytest.raises(MerstoreError, match="cut short"):
            read_arrays(tmp_path / "a.npz").items("items")

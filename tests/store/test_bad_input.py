"""Bad input is refused: the error names the key and says what to do, and all that was stored stays as it was."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store.files_contents import contents

import merstore
from merstore import Store, View

FIXED = "demo/frame@X/uniform_4frms"
RAGGED = "demo/audio@Y/FRA"
STRICT = "demo/audio@Y/UTT"
LENIENT = "demo/face@Z/UTT"
COUNTS = "demo/au/counts"
NAMES = [f"s{i}" for i in range(6)]


@pytest.fixture(autouse=True)
def kept(store: Store) -> Iterator[Store]:
    """A store with something in every view; whatever a test does, that is what it still holds afterwards."""
    fixed = store.create_view(FIXED, shape=(4, 3), spec={"encoder": "X", "frames": 4})
    ragged = store.create_view(RAGGED, shape=(None, 3))
    strict = store.create_view(STRICT, shape=(2, 3), zeros="refuse")
    lenient = store.create_view(LENIENT, shape=(2, 3), nonfinite="flag")
    counts = store.create_view(COUNTS, dtype="int32", shape=(2,))
    with store.writer() as writer:
        for i, name in enumerate(NAMES, 1):
            writer.put(fixed, name, np.full((4, 3), i, np.float32))
            writer.put(ragged, name, np.full((i, 3), i, np.float32))
            writer.put(strict, name, np.full((2, 3), i, np.float32))
            writer.put(lenient, name, np.full((2, 3), i, np.float32))
            writer.put(counts, name, np.array([i, -i], np.int32))
        writer.fail(fixed, "broken", "decode_error", "no frame could be decoded")
    before = contents(store)
    yield store
    assert contents(store) == before
    assert store.verify() == []


# -- arrays

F32 = np.float32
WRONG_ARRAYS = {
    "float64 into float32": (FIXED, np.ones((4, 3)), "array is float64, the view float32: convert"),
    "int into float": (FIXED, np.ones((4, 3), np.int32), "array is int32, the view float32"),
    "float into int": (COUNTS, np.ones(2, F32), "array is float32, the view int32"),
    "bfloat16 into float32": (
        FIXED,
        torch.ones((4, 3), dtype=torch.bfloat16),
        "array is bfloat16, the view float32",
    ),
    "transposed": (FIXED, np.ones((3, 4), F32), r"shape \(3, 4\), the view \(4, 3\)"),
    "a row too many": (FIXED, np.ones((5, 3), F32), r"shape \(5, 3\), the view \(4, 3\)"),
    "a dimension too many": (FIXED, np.ones((1, 4, 3), F32), r"shape \(1, 4, 3\)"),
    "a dimension too few": (FIXED, np.ones(12, F32), r"shape \(12,\), the view \(4, 3\)"),
    "a number": (FIXED, F32(1), r"shape \(\), the view \(4, 3\)"),
    "ragged with other columns": (RAGGED, np.ones((5, 4), F32), r"shape \(5, 4\), .*\(None, 3\)"),
    "ragged with a row alone": (RAGGED, np.ones(3, F32), r"shape \(3,\), the view \(None, 3\)"),
    "ragged with a dimension too many": (RAGGED, np.ones((2, 3, 1), F32), r"shape \(2, 3, 1\)"),
    "nothing": (RAGGED, np.ones((0, 3), F32), "holds nothing; record a failure"),
    "no columns": (RAGGED, np.ones((3, 0), F32), "holds nothing; record a failure"),
    "nothing into a fixed shape": (FIXED, np.ones((0,), F32), "holds nothing; record a failure"),
    "NaN": (FIXED, np.full((4, 3), np.nan, F32), 'NaN or Inf; .*nonfinite="flag"'),
    "one infinity": (FIXED, np.diag(F32([1, np.inf, 1]))[[0, 1, 2, 2]], "NaN or Inf"),
    "minus infinity": (RAGGED, F32([[1, 2, -np.inf]]), "NaN or Inf"),
    "zeros": (STRICT, np.zeros((2, 3), F32), "row of zeros, which this view refuses; .*failure"),
    "a row of zeros": (STRICT, F32([[1, 2, 3], [0, 0, 0]]), "row of zeros"),
    "a row of negative zeros": (STRICT, F32([[-0.0, -0.0, -0.0], [1, 2, 3]]), "row of zeros"),
    "objects": (FIXED, np.full((4, 3), None), "dtype object cannot be stored: use one of float16"),
    "text": (FIXED, np.full((4, 3), "x"), "dtype <U1 cannot be stored"),
    "complex numbers": (FIXED, np.ones((4, 3), np.complex64), "dtype complex64 cannot be stored"),
    "records": (FIXED, np.zeros((4, 3), "f4,f4"), "cannot be stored: use one of"),
    "dates": (FIXED, np.zeros((4, 3), "M8[s]"), "cannot be stored: use one of"),
    "None": (FIXED, None, "dtype object cannot be stored"),
    "lists of different lengths": (FIXED, [[1.0, 2.0, 3.0], [1.0]], "inhomogeneous"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_an_array_that_the_view_refuses(store: Store, case: str) -> None:
    path, array, says = WRONG_ARRAYS[case]
    for name in ("s1", "new"):
        with pytest.raises(merstore.InvalidTensor, match=f"^{re.escape(path)}/{name}: .*{says}"):
            store[path][name] = array


def test_one_bad_array_takes_back_the_whole_update(store: Store) -> None:
    good = np.ones((4, 3), np.float32)
    with pytest.raises(merstore.InvalidTensor, match=f"{FIXED}/bad: "):
        store[FIXED].update({"first": good, "s1": good, "bad": good[:2], "last": good})


def test_one_bad_array_in_a_writer_block_drops_what_is_pending_of_every_view(store: Store) -> None:
    def write() -> None:
        with store.writer() as writer:
            writer.put(store[FIXED], "s1", np.zeros((4, 3), np.float32))
            writer.delete(store[COUNTS], "s2")
            writer.fail(store[STRICT], "lost", "missing_file", "gone")
            writer.put(store[RAGGED], "bad", np.ones((1, 2), np.float32))

    with pytest.raises(merstore.InvalidTensor, match=f"{RAGGED}/bad: "):
        write()


def test_rules_that_flag_let_the_same_arrays_in(store: Store) -> None:
    view = store[LENIENT]
    view["nan"] = np.full((2, 3), np.nan, np.float32)
    view["zero"] = np.zeros((2, 3), np.float32)
    assert np.isnan(view["nan"]).all()
    assert not view["zero"].any()
    assert store.verify() == []
    del view["nan"], view["zero"]


def test_integers_have_no_rules(store: Store) -> None:
    store[COUNTS]["zero"] = np.zeros(2, np.int32)
    del store[COUNTS]["zero"]


# -- names

WRONG_NAMES = {
    "empty": ("", "name is empty"),
    "401 bytes": ("x" * 401, "is 401 bytes long: at most 400"),
    "134 characters of three bytes": ("語" * 134, "is 402 bytes long: at most 400"),
    "a slash": ("a/b", "'a/b' contains '/'"),
    "only a slash": ("/", "'/' contains '/'"),
    "a zero byte": ("a\0b", r"'a\\x00b' contains a control character"),
    "a line break": ("a\n", r"'a\\n' contains a control character"),
    "DEL": ("\x7f", "contains a control character"),
    "a C1 control": ("a\x85", "contains a control character"),
    "a lone surrogate": ("clip\udce4.mp4", r"'clip\\udce4.mp4' is not valid Unicode: rename"),
    "bytes": (b"s1", "name is text, not bytes"),
    "a number": (1, "name is text, not int"),
    "nothing": (None, "name is text, not NoneType"),
}
ONE = np.ones((4, 3), np.float32)
USES: dict[str, Callable[[View, Any], object]] = {
    "view[name] = array": lambda view, name: view.__setitem__(name, ONE),
    "view[name]": lambda view, name: view[name],
    "del view[name]": lambda view, name: view.__delitem__(name),
    "update": lambda view, name: view.update([("fine", ONE), (name, ONE)]),
    "fail": lambda view, name: view.fail(name, "no_face", "none"),
    "failure": lambda view, name: view.failure(name),
    "gather": lambda view, name: view.gather(["s1", name]),
    "gather with a mask": lambda view, name: view.gather(["s1", name], on_miss="mask"),
    "select": lambda view, name: view.select(["s1", name]),
    "missing": lambda view, name: view.missing(["s1", name]),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_sample_name_that_cannot_be_one(store: Store, case: str) -> None:
    name, says = WRONG_NAMES[case]
    view = store[FIXED]
    for use in USES.values():
        with pytest.raises(merstore.InvalidKey, match=says):
            use(view, name)
        assert view.gather(NAMES).mask.all()


def test_the_longest_and_the_strangest_names_that_are_allowed(store: Store) -> None:
    view = store[FIXED]
    names = [
        "x" * 400,
        "語" * 133,
        "-leading",
        "_",
        ".",
        "..",
        " ",
        "a b",
        "é",
        "e\u0301",
        "\u200b",
    ]
    view.update({name: np.full((4, 3), i + 1, np.float32) for i, name in enumerate(names)})
    assert view.gather(names)[:, 0, 0].tolist() == list(range(1, len(names) + 1))
    for name in names:
        del view[name]


@pytest.mark.parametrize(
    "path",
    ["", "demo", "demo/frame", "demo/frame@X/u/s1", "demo//u", "/frame/u", "demo/frame@/u", "demo/@X/u",
     "demo/fr ame/u", "demo/frame/-u", "démo/frame/u", "demo/frame/u\n", "demo/frame/" + "u" * 400, None, 3],
)  # fmt: skip
def test_a_view_path_that_cannot_be_one(store: Store, path: Any) -> None:
    with pytest.raises(merstore.InvalidKey, match="write dataset/modality"):
        store.create_view(path, shape=(3,))
    with pytest.raises(merstore.InvalidKey, match="write dataset/modality"):
        store[path]
    assert path not in store


@pytest.mark.parametrize("kind", ["", "No Video", "no-video", "x" * 41, None, 3])
def test_a_failure_kind_that_no_program_could_compare(store: Store, kind: Any) -> None:
    with pytest.raises(merstore.InvalidKey, match=r"failure kind .*such as no_video"):
        store[FIXED].fail("new", kind, "message")


# -- views and specs


def test_an_unknown_view_is_answered_with_near_ones(store: Store) -> None:
    with pytest.raises(
        merstore.UnknownView, match=f"has no view demo/frame@X/uniform_8frms.*{FIXED}"
    ):
        store["demo/frame@X/uniform_8frms"]
    with pytest.raises(merstore.UnknownView, match="merstore ls"):
        store["other/thing/entirely"]
    with pytest.raises(merstore.UnknownView, match="zzz"):
        store.resolve("zzz")
    with pytest.raises(merstore.UnknownView, match="demo/frame@X/uniform_8frms"):
        store.drop_view("demo/frame@X/uniform_8frms")


DECLARATIONS: dict[str, dict[str, Any]] = {
    "another spec": {"spec": {"encoder": "X", "frames": 8}},
    "no spec": {"spec": None},
    "another shape": {"shape": (8, 3)},
    "a ragged shape": {"shape": (None, 3)},
    "another dtype": {"dtype": "float16"},
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_a_view_is_not_declared_twice_in_two_ways(store: Store, case: str) -> None:
    same: dict[str, Any] = {"shape": (4, 3), "spec": {"encoder": "X", "frames": 4}}
    with pytest.raises(merstore.SpecMismatch, match=FIXED):
        store.create_view(FIXED, **same | DECLARATIONS[case], exist_ok=True)
    with pytest.raises(merstore.SpecMismatch, match=f"{FIXED} exists already"):
        store.create_view(FIXED, **same)
    assert store.create_view(FIXED, **same, exist_ok=True).shape == (4, 3)


def test_a_stale_view_shows_both_specs_and_is_not_served(store: Store) -> None:
    stored = store[FIXED].fingerprint
    with pytest.raises(merstore.StaleView) as caught:
        store.view(FIXED, spec={"encoder": "X", "frames": 8})
    message = str(caught.value)
    assert FIXED in message
    assert stored[:12] in message
    assert "frames: 4 against 8" in message
    assert store.view(FIXED, spec={"frames": 4, "encoder": "X"}).fingerprint == stored


WRONG_VIEWS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "complex": ({"dtype": "complex64", "shape": (3,)}, merstore.InvalidTensor, "complex64"),
    "object": ({"dtype": object, "shape": (3,)}, merstore.InvalidTensor, "cannot be stored"),
    "no such dtype": ({"dtype": "float33", "shape": (3,)}, merstore.InvalidTensor, "float33"),
    "a size of zero": ({"shape": (0, 3)}, merstore.InvalidTensor, r"\(0, 3\)"),
    "a negative size": ({"shape": (-1, 3)}, merstore.InvalidTensor, r"\(-1, 3\)"),
    "varying columns": ({"shape": (3, None)}, merstore.InvalidTensor, "only the first may be None"),
    "seven dimensions": ({"shape": (1,) * 7}, merstore.InvalidTensor, "at most 6 dimensions"),
    "no tuple": ({"shape": 3}, merstore.InvalidTensor, "a shape is a tuple"),
    "words for sizes": ({"shape": ("a",)}, merstore.InvalidTensor, "a shape is a tuple"),
    "a spec with NaN": (
        {"shape": (3,), "spec": {"a": float("nan")}},
        merstore.SpecMismatch,
        "spec",
    ),
    "a spec with an object": (
        {"shape": (3,), "spec": {"a": {1, 2}}},
        merstore.SpecMismatch,
        "spec",
    ),
    "an unknown rule": ({"shape": (3,), "zeros": "mend"}, merstore.MerstoreError, "flag, refuse"),
}


@pytest.mark.parametrize("case", WRONG_VIEWS)
def test_a_declaration_that_makes_no_sense(store: Store, case: str) -> None:
    declared, error, says = WRONG_VIEWS[case]
    with pytest.raises(error, match=says):
        store.create_view("demo/new/view", **declared)
    assert "demo/new/view" not in store


# -- batches


def _strided() -> np.ndarray:
    return np.ones((2, 4, 6), np.float32)[:, :, ::2]


def _read_only() -> np.ndarray:
    out = np.ones((2, 4, 3), np.float32)
    out.flags.writeable = False
    return out


OUTS: dict[str, tuple[Callable[[], Any], str]] = {
    "another batch size": (lambda: np.ones((3, 4, 3), np.float32), r"out has shape \(3, 4, 3\)"),
    "another shape": (lambda: np.ones((2, 3, 4), np.float32), r"batch needs \(2, 4, 3\)"),
    "a flat buffer": (lambda: np.ones(24, np.float32), r"out has shape \(24,\)"),
    "integers": (lambda: np.ones((2, 4, 3), np.int32), "float32"),
    "less precision": (lambda: np.ones((2, 4, 3), np.float16), "float32"),
    "big-endian": (lambda: np.ones((2, 4, 3), ">f4"), ">f4|big"),
    "Fortran order": (lambda: np.asfortranarray(np.ones((2, 4, 3), np.float32)), "C-contiguous"),
    "strides": (_strided, "C-contiguous"),
    "read-only": (_read_only, "writable"),
    "a list": (lambda: [[0.0] * 3] * 4, "not list"),
    "bytes": (lambda: bytearray(96), "not bytearray"),
    "an integer tensor": (lambda: torch.ones((2, 4, 3), dtype=torch.int64), "float32"),
    "a strided tensor": (lambda: torch.ones((2, 3, 4)).transpose(1, 2), "C-contiguous"),
    "a tensor with a gradient": (lambda: torch.ones((2, 4, 3), requires_grad=True), "out"),
    "a bfloat16 tensor": (lambda: torch.ones((2, 4, 3), dtype=torch.bfloat16), "out"),
}


@pytest.mark.parametrize("case", OUTS)
def test_a_destination_that_the_batch_does_not_fit(store: Store, case: str) -> None:
    make, says = OUTS[case]
    out, untouched = make(), make()
    for gather in (
        lambda: store[FIXED].gather(["s1", "s2"], out=out),
        lambda: store[FIXED].select().gather([1, 2], out=out),
    ):
        with pytest.raises(merstore.InvalidTensor, match=says):
            gather()
    same = out == untouched
    assert same if isinstance(same, bool) else same.all()


@pytest.mark.parametrize("case", ["too few rows", "other columns", "integers", "strides"])
def test_a_destination_that_ragged_entries_do_not_fit(store: Store, case: str) -> None:
    out = {
        "too few rows": np.ones((2, 3), np.float32),
        "other columns": np.ones((3, 4), np.float32),
        "integers": np.ones((3, 3), np.int32),
        "strides": np.ones((6, 3), np.float32)[::2],
    }[case]
    with pytest.raises(merstore.InvalidTensor, match=r"out |int32"):
        store[RAGGED].gather(["s0", "s1"], out=out)
    with pytest.raises(merstore.InvalidTensor, match=r"out |int32"):
        store[RAGGED].select().padded([0, 1], out=out)
    assert (out == 1).all()


@pytest.mark.parametrize("row", [6, -7, 1 << 40, -(1 << 62)])
def test_a_row_number_out_of_range(store: Store, row: int) -> None:
    rows = store[FIXED].select()
    for ask in (rows.gather, rows.lengths, rows.present, rows.willneed):
        with pytest.raises(IndexError, match="of a selection of 6"):
            ask([0, row])
    with pytest.raises(IndexError, match="of a selection of 6"):
        store[RAGGED].select().padded([row])
    assert rows.gather([5, -1, 0, -6])[:, 0, 0].tolist() == [6, 6, 1, 1]


@pytest.mark.parametrize(
    "index", [3, [[0, 1]], [0.0, 1.0], [True, False], ["s1"], [None], np.ones(2, ">f8"), [1 << 70]]
)
def test_row_numbers_that_are_none(store: Store, index: Any) -> None:
    with pytest.raises(merstore.InvalidTensor, match="row numbers come as one integer array"):
        store[FIXED].select().gather(index)


def test_what_a_batch_can_be_asked_for(store: Store) -> None:
    view = store[FIXED]
    with pytest.raises(merstore.MerstoreError, match="raise, skip, mask, fill, not 'zeros'"):
        view.gather(["s1"], on_miss="zeros")
    with pytest.raises(merstore.MerstoreError, match=f"nothing computes view {FIXED}.*filler"):
        view.gather(["s1", "new"], on_miss="fill")
    with pytest.raises(merstore.InvalidTensor, match=f"{FIXED}/s2 is stored as float32.*int32"):
        view.gather(["s2"], dtype="int32")
    with pytest.raises(merstore.InvalidTensor, match="complex64 cannot be stored"):
        view.gather(["s2"], dtype="complex64")
    with pytest.raises(merstore.InvalidTensor, match=r"fixed shape.*nothing to pad"):
        view.select().padded([0])
    ragged = store[RAGGED].select()
    with pytest.raises(merstore.InvalidTensor, match=r"front.*back.*not 'left'"):
        ragged.padded([0], side="left")
    with pytest.raises(merstore.InvalidTensor, match="at least 0, not -1"):
        ragged.padded([0], length=-1)


def test_a_missing_entry_is_named_with_its_reason_and_remedy(store: Store) -> None:
    view = store[FIXED]
    for ask in (
        lambda: view["gone"],
        lambda: view.gather(["s1", "gone"]),
        lambda: view.__delitem__("gone"),
    ):
        with pytest.raises(merstore.MissingEntry, match=f"{FIXED} lacks 1 .*gone.*prewarm"):
            ask()
    with pytest.raises(merstore.MissingEntry, match=r"broken: decode_error .no frame.*retry"):
        view.gather(["s1", "broken"])
    with pytest.raises(merstore.MissingEntry, match=r"lacks 20 .* and 15 more"):
        view.select([f"x{i}" for i in range(20)]).gather(range(20))


# -- opening, and what is closed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "rw"}, '"r", "a" or "w", not \'rw\''),
        ({"io": "mmap"}, '"map" or "pread", not \'mmap\''),
        ({"mode": "a", "durability": "none"}, '"full" or "fast", not \'none\''),
    ],
)
def test_an_option_of_open_that_is_none(store: Store, options: dict[str, Any], says: str) -> None:
    with pytest.raises(merstore.MerstoreError, match=says):
        merstore.open(store.path, **options)


def test_a_view_of_another_store_is_not_written_to(store: Store, tmp_path: Path) -> None:
    with merstore.open(tmp_path / "other", "a") as other:
        view = other.create_view(FIXED, shape=(4, 3))
        with (
            pytest.raises(merstore.MerstoreError, match=r"belongs to .*other"),
            store.writer() as writer,
        ):
            writer.put(view, "s1", np.ones((4, 3), np.float32))


def test_a_closed_store_says_so(store: Store) -> None:
    second = merstore.open(store.path, "a")
    view = second[FIXED]
    rows = view.select()
    second.close()
    second.close()
    for ask in (
        lambda: second.views(),
        lambda: view["s1"],
        lambda: view.gather(["s1"]),
        lambda: rows.gather([0]),
        lambda: view.__setitem__("s1", np.ones((4, 3), np.float32)),
        lambda: second.writer(),
        lambda: second.verify(),
    ):
        with pytest.raises(
            merstore.MerstoreError, match=f"the store {second.path} is closed: open it again"
        ):
            ask()

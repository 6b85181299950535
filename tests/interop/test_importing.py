"""What lies in a feature folder comes into the store bit for bit; what is wrong is left out."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import merstore
from merstore._core import Files
from merstore.errors import ReadOnlyStore, StoreFull
from merstore.interop import importing, pipeline
from merstore.interop.importing import ImportReport, import_tree
from merstore.interop.npy import STORABLE
from merstore.interop.trees import discover
from merstore.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]

UTT = "mer2023/audio@chinese-hubert-large/UTT"
FRA = "mer2023/audio@chinese-hubert-large/FRA"


def save(folder: Path, arrays: Mapping[str, Array]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def bring(store: Store, folder: Path, **options: Any) -> ImportReport:
    return import_tree(store, discover(folder, dataset="mer2023"), **options)


def same(a: Array, b: Array) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("merstore-")]


@pytest.fixture
def utt(tmp_path: Path) -> Path:
    return tmp_path / "chinese-hubert-large-UTT"


@pytest.fixture
def fra(tmp_path: Path) -> Path:
    return tmp_path / "chinese-hubert-large-FRA"


def ones(*shape: int, dtype: str = "f4") -> Array:
    return np.ones(shape, dtype)


# --- what a view becomes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(4,), (4,)], (4,)),
        ([(8, 4), (8, 4)], (8, 4)),
        ([(1, 4), (1, 4)], (1, 4)),
        ([(3, 4), (5, 4)], (None, 4)),
        ([(3, 4), (1, 4)], (None, 4)),
        ([(3, 4), (4,)], (None, 4)),  # a sequence of one step, squeezed by the extractor
        ([(1, 4), (4,)], (None, 4)),
        ([(5, 1), (6, 1)], (None, 1)),
        ([(2, 6, 6, 3), (4, 6, 6, 3)], (None, 6, 6, 3)),
    ],
)
def test_the_shape_of_a_view(
    store: Store, fra: Path, shapes: list[tuple[int, ...]], expected: tuple[int | None, ...]
) -> None:
    arrays = {f"s{i}": np.full(shape, i, "f4") for i, shape in enumerate(shapes)}
    report = bring(store, save(fra, arrays))
    assert report.refused == []
    assert store[FRA].shape == expected
    assert all(same(store[FRA][name], array) for name, array in arrays.items())


def test_the_dtype_of_a_view_is_that_of_the_most(store: Store, utt: Path) -> None:
    arrays = {"a": ones(4), "b": ones(4), "c": ones(4, dtype="f8"), "d": ones(4, dtype="f2")}
    report = bring(store, save(utt, arrays))
    assert report.imported == 4
    assert store[UTT].dtype == np.float32
    assert all(same(store[UTT][name], array) for name, array in arrays.items())


def test_what_does_not_fit_the_most_is_refused_one_by_one(store: Store, fra: Path) -> None:
    fitting = {"a": ones(3, 4), "b": ones(5, 4), "c": ones(4)}
    others = {"d": ones(3, 5), "e": ones(5), "f": ones(1, 3, 4)}
    report = bring(store, save(fra, fitting | others))
    assert list(store[FRA]) == list(fitting)
    assert [refused.name for refused in report.refused] == list(others)
    assert all(Path(refused.path).exists() for refused in report.refused)
    assert "(3, 5)" in report.refused[0].reason


def test_the_view_says_where_it_comes_from(store: Store, utt: Path) -> None:
    bring(store, save(utt, {"a": ones(4)}))
    view = store[UTT]
    assert view.alias == "chinese-hubert-large-UTT"
    assert view.spec == {"imported": {"layout": "mertools", "folder": "chinese-hubert-large-UTT"}}


def test_the_vectors_of_the_legacy_reader(store: Store, tmp_path: Path) -> None:
    """The inputs of MERTools' reader: kept as they are on disk, where that squeezes."""
    vectors = {
        "utt": ones(768),
        "fra16": ones(50, 768, dtype="f2"),
        "one": ones(1, 768),
        "column": ones(5, 1),
        "deep": ones(1, 50, 768),
    }
    for folder, array in vectors.items():
        save(tmp_path / f"{folder}-UTT", {"a": array})
        import_tree(store, discover(tmp_path / f"{folder}-UTT", dataset="d", modality="audio"))
        assert same(store[f"d/audio@{folder}/UTT"]["a"], array)


def test_a_directory_of_frames_is_one_entry(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "manet_FRA"
    for name, length in (("a", 3), ("b", 1)):
        save(folder / name, {f"{i:08d}": np.full(4, i, "f4") for i in range(length)})
    (folder / "empty").mkdir()
    report = bring(store, folder)
    assert store["mer2023/face@manet/FRA"]["a"].tolist() == [[0] * 4, [1] * 4, [2] * 4]
    assert store["mer2023/face@manet/FRA"]["b"].shape == (1, 4)
    assert report.views[0].notes == {"per-frame files": 2}
    assert [refused.name for refused in report.refused] == ["empty"]


def test_conversions_are_counted(store: Store, fra: Path) -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    report = bring(store, save(fra, {"a": array, "b": np.asfortranarray(array), "c": ones(3, 4)}))
    assert report.views[0].notes == {"big-endian": 2, "Fortran order": 1}
    assert same(store[FRA]["b"], array.astype("<f4"))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Array]:
    """A feature folder as extractors leave it: one row shape, several lengths and dtypes."""
    width = draw(st.integers(1, 5))
    shape = st.one_of(st.just((width,)), st.tuples(st.integers(1, 4), st.just(width)))
    dtype = st.sampled_from(sorted(STORABLE)).map(np.dtype)
    letters = st.characters(codec="utf-8", exclude_categories=("Cc",), exclude_characters="/")
    name = st.text(letters, min_size=1, max_size=20).filter(lambda name: not name.startswith("."))
    names = draw(st.lists(name, min_size=1, max_size=8, unique=True))
    return {name: draw(hnp.arrays(draw(dtype), draw(shape))) for name in names}


@given(arrays=trees())
def test_every_folder_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Array]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    folder = save(root / "chinese-hubert-large-FRA", arrays)
    with merstore.open(root / "store.mer", "a", durability="fast") as store:
        report = bring(store, folder, nonfinite="flag")
        assert report.refused == []
        assert list(store[FRA]) == sorted(arrays, key=str.encode)
        assert all(same(store[FRA][name], array) for name, array in arrays.items())


# --- what is refused -----------------------------------------------------------------------------

ODD_FILES: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(500),
    "text": b"hello",
    "pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "pickle": b"\x80\x04K\x01.",
}


def test_odd_files_are_left_out_alone(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(4), "z": ones(4), "object": np.array([{}], object), "none": ones(0)})
    save(utt, {"record": np.zeros(2, "f4,f4"), "scalar": np.array(1.0), "nothing": ones(0, 768)})
    for name, data in ODD_FILES.items():
        (utt / f"{name}.npy").write_bytes(data)
    whole = (utt / "a.npy").read_bytes()
    (utt / "cut.npy").write_bytes(whole[:-1])
    (utt / "long.npy").write_bytes(whole + b"\0")
    report = bring(store, utt)
    assert list(store[UTT]) == ["a", "z"]
    assert report.imported == 2
    assert {refused.name for refused in report.refused} == {
        *ODD_FILES, "object", "none", "record", "scalar", "nothing", "cut", "long",
    }  # fmt: skip
    for refused in report.refused:
        assert refused.path in refused.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_left_out(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(4), "b": ones(4)})
    (utt / "b.npy").chmod(0)
    report = bring(store, utt)
    assert list(store[UTT]) == ["a"]
    assert "Permission denied" in report.refused[0].reason


def test_files_that_cannot_be_opened_are_left_out(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(4)})
    (utt / "gone.npy").symlink_to(utt / "nowhere.npy")
    (utt / "loop.npy").symlink_to(utt / "loop.npy")
    report = bring(store, utt)
    assert list(store[UTT]) == ["a"]
    assert [refused.name for refused in report.refused] == ["gone", "loop"]
    assert all(refused.path in refused.reason for refused in report.refused)


@pytest.mark.parametrize("rule", ["refuse", "flag"])
def test_nan_and_inf_by_the_rule(store: Store, utt: Path, rule: str) -> None:
    save(utt, {"a": ones(4), "b": np.full(4, np.nan, "f4"), "c": np.full(4, np.inf, "f4")})
    report = bring(store, utt, nonfinite=rule)
    assert [refused.name for refused in report.refused] == (["b", "c"] if rule == "refuse" else [])
    assert list(store[UTT]) == (["a"] if rule == "refuse" else ["a", "b", "c"])


def test_names_that_no_key_can_be_are_left_out(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(4), "b\n": ones(4)})
    os.rename(utt / "b\n.npy", os.fsencode(utt) + b"/b\n.npy")
    os.link(utt / "a.npy", os.fsencode(utt) + b"/\xff.npy")
    report = bring(store, utt)
    assert list(store[UTT]) == ["a"]
    assert sorted(refused.name for refused in report.refused) == ["b\n", "\udcff"]


def test_a_folder_of_nothing_good_makes_no_view(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(0), "b": np.array([{}], object)})
    report = bring(store, utt)
    assert len(report.refused) == 2
    assert store.views() == []


def test_a_view_that_was_computed_is_not_mixed_with_files(store: Store, utt: Path) -> None:
    view = store.create_view(UTT, dtype="float32", shape=(4,), spec={"encoder": "own"})
    view["a"] = np.zeros(4, "f4")
    report = bring(store, save(utt, {"a": ones(4), "b": ones(4)}))
    assert report.imported == 0
    assert UTT in report.problems[0][1]
    assert list(store[UTT]) == ["a"]
    assert not store[UTT]["a"].any()


def test_a_store_that_is_read_only_says_so(store: Store, utt: Path) -> None:
    save(utt, {"a": ones(4)})
    path = store.path
    store.close()
    with merstore.open(path) as reader, pytest.raises(ReadOnlyStore):
        bring(reader, utt)


# --- again, and interrupted ----------------------------------------------------------------------


def test_a_second_run_reads_no_array(
    store: Store, fra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": ones(3, 4), "b": ones(5, 4), "c": ones(4), "d": ones(2, 4, dtype="f8")}
    bring(store, save(fra, arrays))

    def headers_only(*arguments: Any) -> Files:
        assert arguments[-1] == 0, "there is room for more"
        return Files(*arguments)

    monkeypatch.setattr(importing, "Files", headers_only)
    monkeypatch.setattr(importing, "read_array", lambda path: pytest.fail(f"{path} was read"))
    report = bring(store, fra)
    assert (report.imported, report.skipped, report.refused) == (0, 4, [])


def test_new_files_are_added_to_the_view(store: Store, fra: Path) -> None:
    bring(store, save(fra, {"b": ones(3, 4), "d": ones(5, 4)}))
    report = bring(store, save(fra, {"a": ones(2, 4), "c": ones(9, 4), "e": ones(9, 5)}))
    assert (report.imported, report.skipped) == (2, 2)
    assert [refused.name for refused in report.refused] == ["e"]
    assert list(store[FRA]) == ["a", "b", "c", "d"]


def test_a_file_of_another_shape_than_its_entry_is_refused_or_replaces_it(
    store: Store, fra: Path
) -> None:
    bring(store, save(fra, {"a": ones(3, 4), "b": ones(5, 4)}))
    save(fra, {"a": ones(4, 4) * 2, "b": ones(5, 4) * 2})
    report = bring(store, fra)
    assert [refused.name for refused in report.refused] == ["a"]
    assert "import with replace" in report.refused[0].reason
    assert store[FRA]["a"].shape == (3, 4)
    report = bring(store, fra, replace=True)
    assert report.imported == 2
    assert same(store[FRA]["a"], ones(4, 4) * 2)
    assert same(store[FRA]["b"], ones(5, 4) * 2)


def test_a_sample_that_failed_before_is_imported(store: Store, utt: Path) -> None:
    bring(store, save(utt, {"a": ones(4)}))
    store[UTT].fail("b", "no_audio", "no stream")
    bring(store, save(utt, {"b": ones(4)}))
    assert list(store[UTT]) == ["a", "b"]
    assert store[UTT].failure("b") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_import_keeps_what_it_committed_and_goes_on(
    store: Store, utt: Path, error: type[BaseException]
) -> None:
    save(utt, {f"s{i:04d}": np.full(4, i, "f4") for i in range(300)})

    def stop(files: int, _total: int, _nbytes: int) -> None:
        if files >= 150:
            raise error

    trees = discover(utt, dataset="mer2023")
    done = discover(save(utt.parent / "manet_UTT", {"a": ones(4)}), dataset="mer2023")
    with pytest.raises(error):
        import_tree(store, [*done, *trees], progress=stop)
    assert list(store["mer2023/face@manet/UTT"]) == ["a"]
    assert own_threads() == []
    report = import_tree(store, [*done, *trees])
    assert report.imported + report.skipped == 301
    assert all(store[UTT][f"s{i:04d}"][0] == i for i in range(300))


@pytest.mark.parametrize("reader", ["Files", "read_header", "read_array"])
def test_a_reader_that_breaks_ends_the_import_and_its_threads(
    store: Store, utt: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    # in Fortran order, so that each reader is asked
    save(utt, {f"{i}": np.asfortranarray(ones(4, 4)) for i in range(300)})
    monkeypatch.setattr(importing, "KEEP_FILE_BYTES", 0)
    monkeypatch.setattr(importing, "parsed_headers", {})
    monkeypatch.setattr(importing, reader, out_of_memory)
    with pytest.raises(MemoryError):
        bring(store, utt)
    assert own_threads() == []
    monkeypatch.undo()
    assert bring(store, utt).imported == 300


def test_a_full_store_keeps_what_was_committed(
    tmp_path: Path, fra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "COMMIT_BYTES", 1 << 20)
    arrays = {f"s{i:03d}": np.full((16, 1024), i, "f4") for i in range(200)}
    save(fra, arrays)
    with merstore.open(tmp_path / "small.mer", "a", map_size=8 << 20) as store:
        with pytest.raises(StoreFull):
            bring(store, fra)
        assert own_threads() == []
        there = list(store[FRA])
        assert there == sorted(arrays)[: len(there)]
        assert 0 < len(there) < 200
        assert store.verify() == []
    with merstore.open(tmp_path / "small.mer", "a") as store:
        report = bring(store, fra)
        assert (report.skipped, report.imported) == (len(there), 200 - len(there))


# --- how it is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("keep", [0, 1000, 1 << 20])
def test_the_way_of_reading_does_not_matter(
    store: Store, fra: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, keep: int
) -> None:
    """By one thread or several, kept from the first pass or read again: the same store."""
    monkeypatch.setattr(pipeline, "AHEAD_BYTES", 4096)
    monkeypatch.setattr(pipeline, "CHUNK_BYTES", 500)
    monkeypatch.setattr(importing, "COMMIT_BYTES", 5000)
    monkeypatch.setattr(importing, "KEEP_BYTES", keep)
    arrays = {f"s{i:04d}": np.full((1 + i % 7, 4), i, "f4") for i in range(150)}
    (save(fra, arrays) / "s0007.npy").write_bytes(b"")
    report = bring(store, fra, jobs=jobs)
    assert report.imported == 149
    assert [refused.name for refused in report.refused] == ["s0007"]
    del arrays["s0007"]
    assert list(store[FRA]) == list(arrays)
    assert all(same(store[FRA][name], array) for name, array in arrays.items())
    assert store.verify() == []


# --- what is told --------------------------------------------------------------------------------


def test_progress_ends_at_the_number_of_files(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "manet_UTT", {f"{i}": ones(4) for i in range(100)})
    save(tmp_path / "vggish_UTT", {f"{i}": ones(4) for i in range(100)} | {"x": ones(0)})
    calls: list[tuple[int, int, int]] = []
    for _ in range(2):
        calls.clear()
        report = import_tree(
            store,
            discover(tmp_path, dataset="mer2023"),
            progress=lambda *call: calls.append(call),
        )
        assert calls == sorted(calls)
        assert calls[-1] == (201, 201, report.bytes)
        assert {total for _, total, _ in calls} == {201}


def test_the_report_counts_payload(store: Store, utt: Path) -> None:
    report = bring(store, save(utt, {"a": ones(4), "b": ones(4)}))
    assert report.bytes == 32
    assert report.seconds > 0

"""The switch: paths that a store stands for are read from it, all others as ever."""

import glob
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop.switch_children import load_and_save

import merstore
from merstore.errors import InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop import mertools
from merstore.interop.importing import import_tree
from merstore.interop.switch import MissingFile, install, routed, uninstall
from merstore.interop.trees import discover

Array = np.ndarray[Any, np.dtype[Any]]

MANET, HUBERT = "manet_UTT", "chinese-hubert-large-FRA"
VIEW = "mer2023/face@manet/UTT"


class Place:
    """A store, and the folder where the features would lie that it has: nothing is there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "data" / "mer2023-dataset-process"
        self.features = self.home / "features"
        self.store = root / "s.mer"
        self.vectors = {name: np.full(4, i + 0.5, "f4") for i, name in enumerate("abc")}
        with merstore.open(self.store, "a") as store:
            store.create_view(VIEW, shape=(4,)).update(self.vectors)
            sound = store.create_view(
                "mer2023/audio@chinese-hubert-large/FRA", dtype="float16", shape=(None, 2)
            )
            sound.update({"a": np.ones((3, 2), "f2")})
            faces = store.create_view(
                "mer2023/face/openface_face", dtype="uint8", shape=(None, 2, 2, 3)
            )
            faces.update({"a": np.arange(24, dtype="u1").reshape(2, 2, 2, 3)})

    def file(self, name: str, folder: str = MANET) -> str:
        return f"{self.features}/{folder}/{name}.npy"

    def saved(self, folder: str) -> dict[str, Array]:
        """What a store that is opened anew has of a folder."""
        with merstore.open(self.store) as store:
            view = store[store.resolve(folder)]
            return {name: np.array(view[name]) for name in view}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    uninstall()


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# --- loading -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_loaded_from_the_store(place: Place) -> None:
    with routed(place.store):
        for name, vector in place.vectors.items():
            array = np.load(place.file(name))
            assert same(array, vector)
            assert type(array) is np.ndarray
            assert array.flags.writeable
            assert array.flags.owndata
        assert same(np.load(place.file("a", HUBERT)), np.ones((3, 2), "f2"))
    with pytest.raises(FileNotFoundError):
        np.load(place.file("a"))


def test_a_path_may_be_written_in_any_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.features.mkdir(parents=True)
    (place.root / "link").symlink_to(place.features)
    (place.root / "linked-home").symlink_to(place.home)
    (place.root / "sub").mkdir()
    monkeypatch.chdir(place.root)
    relative = f"data/mer2023-dataset-process/features/{MANET}/b.npy"
    spellings: list[Any] = [
        place.file("b"), Path(place.file("b")), relative, f"./{relative}", f"sub/../{relative}",
        relative.replace("/", "//"), f"data/mer2023-dataset-process/features/../features/{MANET}/b.npy",
        f"link/{MANET}/b.npy", Path("link") / MANET / "b.npy", f"linked-home/features/{MANET}/./b.npy",
    ]  # fmt: skip
    with routed(place.store):
        for path in spellings:
            assert same(np.load(path), place.vectors["b"]), path
            assert os.path.exists(path)
            assert os.path.exists(f"{os.path.dirname(os.fspath(path))}/")


def test_a_link_is_followed_before_dots_are(place: Place) -> None:
    """`x/link/../y` is beside what the link leads to, not beside the link."""
    target = place.root / "far" / "mer2023-dataset-process" / "features"
    target.mkdir(parents=True)
    (place.root / "far" / "there").mkdir()
    (place.root / "link").symlink_to(place.root / "far" / "there")
    with routed(place.store):
        path = f"{place.root}/link/../mer2023-dataset-process/features/{MANET}/a.npy"
        assert same(np.load(path), place.vectors["a"])


@pytest.mark.parametrize(
    "path",
    [
        "x/features/manet_UTT/a.npy",  # no dataset's folder
        "mer2023-dataset-process/manet_UTT/a.npy",
        "mer2023-dataset-process/feature/manet_UTT/a.npy",
        "mer2024-dataset-process/features/manet_UTT/a.npy",  # a dataset of which the store has nothing
        "mer2023-dataset-process/features/manet_UTT/a.npz",
        "mer2023-dataset-process/features/manet_UTT/sub/a.npy",
        "mer2023-dataset-process/features/manet_UTT/.npy",
        "mer2023-dataset-process/features/manet-UTT2/a.npy",
    ],
)
def test_other_paths_are_not_the_stores(place: Place, path: str) -> None:
    with routed(place.store):
        assert not os.path.exists(place.root / path)
        with pytest.raises(FileNotFoundError) as caught:
            np.load(place.root / path)
        assert not isinstance(caught.value, MerstoreError)


def test_with_roots_only_what_lies_below_them_is_the_stores(place: Place) -> None:
    roots = [place.root / "mine", place.root / "yours"]
    with routed(place.store, roots=roots, dataset="MER2023"):
        for inside in ("mine", "yours/deeper", "mine/MER2023/feats"):
            assert same(np.load(place.root / inside / MANET / "a.npy"), place.vectors["a"])
        for outside in ("theirs", "mine2", "data/mer2023-dataset-process/features", "mine/MELD"):
            assert not os.path.exists(place.root / outside / MANET / "a.npy")


def test_all_other_arguments_and_files_are_numpys(place: Place) -> None:
    plain, packed = place.root / "x.npy", place.root / "x.npz"
    np.save(plain, np.arange(6.0))
    np.savez(packed, a=np.arange(3))
    objects = place.root / "o.npy"
    np.save(objects, np.array([{"emo": 1}], object))
    with routed(place.store):
        assert isinstance(np.load(plain, "r"), np.memmap)
        assert isinstance(np.load(plain, mmap_mode="r+"), np.memmap)
        with np.load(packed) as arrays:
            assert arrays["a"].tolist() == [0, 1, 2]
        with plain.open("rb") as file:
            assert np.load(file).sum() == 15
        with pytest.raises(ValueError, match="allow_pickle"):
            np.load(objects)
        np.save(place.root / "y", np.ones(2))
        assert (place.root / "y.npy").is_file()


def test_a_mapped_array_is_read_only_or_a_copy(place: Place) -> None:
    with routed(place.store):
        mapped = np.load(place.file("a"), mmap_mode="r")
        assert same(np.asarray(mapped), place.vectors["a"])
        assert not mapped.flags.writeable
        np.load(place.file("a"), mmap_mode="c")[0] = 9
        assert same(np.load(place.file("a")), place.vectors["a"])
        with pytest.raises(MerstoreError, match=r"mmap_mode='r\+'"):
            np.load(place.file("a"), mmap_mode="r+")


def test_a_missing_sample_is_a_missing_file_and_a_missing_entry(place: Place) -> None:
    with routed(place.store):
        with pytest.raises(FileNotFoundError, match=VIEW) as caught:
            np.load(place.file("nobody"))
        assert isinstance(caught.value, MissingEntry)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again)) == (MissingFile, str(caught.value))


def test_what_the_store_lacks_is_read_from_the_disk(place: Place) -> None:
    (place.features / MANET).mkdir(parents=True)
    np.save(place.features / MANET / "extra.npy", np.empty((0, 4)))
    np.save(place.features / MANET / "a.npy", np.zeros(4, "f4"))  # the store's is read
    with routed(place.store):
        assert same(np.load(place.file("extra")), np.empty((0, 4)))
        assert same(np.load(place.file("a")), place.vectors["a"])
        assert sorted(os.listdir(place.features / MANET)) == [
            "a.npy",
            "b.npy",
            "c.npy",
            "extra.npy",
        ]


def test_a_folder_of_two_datasets_is_ambiguous(place: Place) -> None:
    with merstore.open(place.store, "a") as store:
        store.create_view("meld/face@manet/UTT", shape=(4,))
    with (
        routed(place.store, roots=[place.root / "mine"]),
        pytest.raises(UnknownView, match=r"ambiguous.*meld/.*mer2023/"),
    ):
        np.load(place.root / "mine" / MANET / "a.npy")


# --- looking -------------------------------------------------------------------------------------


def test_folders_and_files_are_there(place: Place) -> None:
    folder = f"{place.features}/{MANET}"
    with routed(place.store):
        for path in (place.features, folder, f"{folder}/", f"{place.home}/openface_face/a"):
            assert os.path.isdir(path)
            assert not os.path.isfile(path)
            assert pathlib.Path(path).is_dir()
        assert os.path.isfile(place.file("a"))
        assert pathlib.Path(place.file("a")).is_file()
        assert pathlib.Path(place.file("a")).exists()
        assert not os.path.exists(place.file("nobody"))
        assert not os.path.exists(f"{place.features}/manet-UTT")
        assert sorted(os.listdir(place.features)) == [HUBERT, MANET]
        assert os.listdir(folder) == ["a.npy", "b.npy", "c.npy"]
        assert glob.glob(f"{folder}/*") == [f"{folder}/{name}.npy" for name in "abc"]
        assert glob.glob(f"{place.features}/*_UTT/b.npy") == [place.file("b")]
        assert [path.name for path in pathlib.Path(folder).iterdir()] == ["a.npy", "b.npy", "c.npy"]
        assert [files for *_, files in os.walk(folder)] == [["a.npy", "b.npy", "c.npy"]]
    assert not os.path.exists(folder)


def test_face_stacks_lie_one_folder_deeper(place: Place) -> None:
    with routed(place.store):
        for home in (place.home, place.features):  # where they are kept, and where they are made
            path = f"{home}/openface_face/a/a.npy"
            assert np.load(path).shape == (2, 2, 2, 3)
            assert os.path.exists(path)
            assert not os.path.exists(f"{home}/openface_face/a.npy")
            assert not os.path.exists(f"{home}/openface_face/a/b.npy")
        faces = f"{place.home}/openface_face"
        assert os.listdir(faces) == ["a"]
        assert os.listdir(f"{faces}/a") == ["a.npy"]
        assert glob.glob(f"{faces}/*/*.npy") == [f"{faces}/a/a.npy"]


# --- saving --------------------------------------------------------------------------------------


def test_what_is_saved_is_in_the_store_and_seen_at_once(place: Place) -> None:
    with routed(place.store):
        np.save(place.file("new"), np.full(4, 7, "f4"))
        assert os.path.exists(place.file("new"))
        assert np.load(place.file("new"))[0] == 7
        np.save(place.file("new"), np.full(4, 8, "f4"))
        np.save(Path(place.file("other")).with_suffix(""), np.full(4, 9, "f4"))  # as numpy names it
        assert np.load(place.file("new"))[0] == 8
        assert len(os.listdir(place.features / MANET)) == 5
    assert not place.features.exists()
    assert place.saved(MANET)["new"][0] == 8
    assert place.saved(MANET)["other"][0] == 9


def test_a_folder_that_the_store_lacks_becomes_a_view(place: Place) -> None:
    with routed(place.store):
        for i, name in enumerate("xyz"):
            np.save(place.file(name, "wavlm-base-UTT"), np.ones(3, "f4"))
            # of one step, it comes as a vector
            sequence = np.ones(5, "f8") if i == 0 else np.ones((i + 1, 5), "f8")
            np.save(place.file(name, "eGeMAPS_FRA"), sequence)
        assert os.path.isdir(f"{place.features}/eGeMAPS_FRA")
        assert mertools.func_read_multiprocess(f"{place.features}/eGeMAPS_FRA", ["z", "x"])[1] == 5
    with merstore.open(place.store) as store:
        view = store["mer2023/audio@eGeMAPS/FRA"]
        assert (view.dtype, view.shape, view.alias) == (np.float64, (None, 5), "eGeMAPS_FRA")
        assert (view["x"].shape, view["z"].shape) == ((5,), (3, 5))
        assert store["mer2023/audio@wavlm-base/UTT"].shape == (3,)


def test_a_new_feature_folder_is_made_as_extractors_make_it(place: Place) -> None:
    folder = f"{place.features}/wavlm-base-UTT"
    with routed(place.store):
        assert not os.path.exists(folder)
        os.makedirs(folder)
        assert os.path.isdir(folder)
        os.makedirs(folder, exist_ok=True)
        with pytest.raises(FileExistsError):
            os.makedirs(f"{place.features}/{MANET}")
        with pytest.raises(FileNotFoundError):
            os.mkdir(place.root / "no" / "such")
        np.save(f"{folder}/x.npy", np.ones(3, "f4"))
    assert not place.features.exists()
    assert list(place.saved("wavlm-base-UTT")) == ["x"]


def test_what_is_saved_and_then_imported_is_one_view(place: Place) -> None:
    with routed(place.store):
        np.save(place.file("x", "wavlm-base-UTT"), np.ones(3, "f4"))
    os.makedirs(place.features / "wavlm-base-UTT")
    np.save(place.file("y", "wavlm-base-UTT"), np.ones(3, "f4"))
    with merstore.open(place.store, "a") as store:
        assert not import_tree(store, discover(place.features)).problems
    assert sorted(place.saved("wavlm-base-UTT")) == ["x", "y"]


def test_nan_and_empty_arrays_come_back_as_they_were(place: Place) -> None:
    with routed(place.store):
        np.save(place.file("ok", HUBERT), np.ones((2, 2), "f2"))
        np.save(place.file("empty", HUBERT), np.empty((0, 2), "f8"))
        np.save(place.file("nan", "wavlm-base-UTT"), np.array([np.nan, 1], "f4"))
        assert os.path.exists(place.file("empty", HUBERT))
        assert same(np.load(place.file("empty", HUBERT)), np.empty((0, 2), "f8"))
        assert np.isnan(np.load(place.file("nan", "wavlm-base-UTT"))[0])
        with pytest.warns(UserWarning, match="empty"):
            (array,), _ = mertools.func_read_multiprocess(f"{place.features}/{HUBERT}", ["empty"])
        assert array.shape == (0, 2)


def test_what_does_not_fit_the_view_is_refused_when_it_is_saved(place: Place) -> None:
    with routed(place.store):
        with pytest.raises(InvalidTensor, match=f"{VIEW}/wide"):
            np.save(place.file("wide"), np.ones(5, "f4"))
        np.save(place.file("fits"), np.ones(4, "f4"))
    assert sorted(place.saved(MANET)) == ["a", "b", "c", "fits"]


def test_a_folder_of_unknown_modality_is_written_as_files(place: Place) -> None:
    os.makedirs(place.features / "odd-UTT")
    with routed(place.store), pytest.warns(UserWarning, match="nothing says which"):
        np.save(place.file("x", "odd-UTT"), np.ones(3))
    assert np.load(place.file("x", "odd-UTT")).tolist() == [1, 1, 1]


def test_threads_load_and_save_side_by_side(place: Place) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(30):
                np.save(place.file(f"t{number}_{i}"), np.full(4, i, "f4"))
                assert np.load(place.file(f"t{number}_{i}"))[0] == i
                assert same(np.load(place.file("a")), place.vectors["a"])
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    with routed(place.store):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert len(place.saved(MANET)) == 93


# --- on and off ----------------------------------------------------------------------------------


def test_it_leaves_everything_as_it_was(place: Place) -> None:
    where = [(np, "load"), (np, "save"), (os, "listdir"), (os, "scandir"), (os.path, "exists"),
             (os.path, "isdir"), (pathlib.Path, "exists")]  # fmt: skip
    before = [getattr(module, name) for module, name in where]
    environment, finders = dict(os.environ), list(sys.meta_path)
    install(place.store)
    assert all(
        getattr(module, name) is not old for (module, name), old in zip(where, before, strict=True)
    )
    assert np.load.__name__ == "load"
    with pytest.raises(MerstoreError, match="on already"):
        install(place.store)
    held = np.load
    uninstall()
    uninstall()  # is none
    assert [getattr(module, name) for module, name in where] == before
    assert (dict(os.environ), list(sys.meta_path)) == (environment, finders)
    with pytest.raises(FileNotFoundError):  # a name that was bound meanwhile does no harm
        held(place.file("a"))


def test_an_error_inside_turns_it_off_and_keeps_what_was_saved(place: Place) -> None:
    load = np.load

    def fail() -> None:
        with routed(place.store):
            np.save(place.file("late"), np.ones(4, "f4"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert np.load is load
    assert "late" in place.saved(MANET)


def test_a_store_that_is_open_may_be_given(place: Place) -> None:
    with merstore.open(place.store) as store:
        with routed(store):
            assert same(np.load(place.file("a")), place.vectors["a"])
        assert len(store[VIEW]) == 3


# --- processes -----------------------------------------------------------------------------------


@pytest.fixture
def own_forkserver() -> Iterator[None]:
    """It keeps the environment that it was started in: none of before, and none for those after."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.usefixtures("own_forkserver")
def test_child_processes_see_the_switch(place: Place, start: str) -> None:
    with routed(place.store):
        np.save(place.file("before"), np.ones(4, "f4"))  # a fork must not commit it twice
        with multiprocessing.get_context(start).Pool(2) as pool:  # which is ended, not asked to end
            sums = pool.map(load_and_save, [place.file("a")] * 4, chunksize=1)
        assert sums == [2.0] * 4
        saved = [name for name in os.listdir(place.features / MANET) if name.startswith("by")]
        assert 1 <= len(saved) <= 2
    assert "before" in place.saved(MANET)


@pytest.mark.parametrize("first", ["numpy", "merstore", "merstore.load"])
def test_a_program_that_is_started_sees_the_switch(place: Place, first: str) -> None:
    code = f"import {first}; import numpy as np; print(np.load({place.file('c')!r})[0])"
    with routed(place.store):
        out = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
    assert out.stdout == "2.5\n"
    out = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "FileNotFoundError" in out.stderr

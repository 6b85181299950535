"""Through fsspec a store is a tree of .npy files."""

import os
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import ReadOnlyStore
from merstore.store.store import Store

fsspec = pytest.importorskip("fsspec")

from merstore.interop.filesystem import MerstoreFileSystem, NoFile  # noqa: E402

VIEW = "mer2023/audio@HUBERT_LARGE/8clips"
FOLDER = "audio_HUBERT_LARGE_8clips"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def filled(store: Store) -> Store:
    rng = np.random.default_rng(0)
    audio = store.create_view(VIEW, shape=(8, 5), alias=FOLDER)
    audio.update({name: rng.random((8, 5), np.float32) for name in ("-a", "b", "中文")})
    audio.fail("mute", "no_audio", "has no sound")
    ragged = store.create_view("meld/audio@eGeMAPS/FRA", dtype="float16", shape=(None, 3))
    ragged.update({f"t{n}": np.full((n, 3), n, np.float16) for n in (1, 7)})
    return store


@pytest.fixture
def fs() -> Iterator[MerstoreFileSystem]:
    opened = MerstoreFileSystem(skip_instance_cache=True)
    yield opened
    opened.close()


def test_a_file_is_the_bytes_that_numpy_would_save(
    filled: Store, fs: MerstoreFileSystem, tmp_path: Path
) -> None:
    for path in (VIEW, "meld/audio@eGeMAPS/FRA"):
        for name in filled[path]:
            array = filled[path][name]
            np.save(tmp_path / "one.npy", array)
            url = f"merstore://{filled.path}/{path}/{name}.npy"
            assert fs.cat_file(url) == (tmp_path / "one.npy").read_bytes()
            assert fs.size(url) == (tmp_path / "one.npy").stat().st_size
            with fs.open(url) as file:
                loaded = np.load(file)
            assert (loaded.dtype, loaded.tobytes()) == (array.dtype, array.tobytes())


def test_a_view_goes_by_its_folder_name_too(filled: Store, fs: MerstoreFileSystem) -> None:
    for below in (f"mer2023/{FOLDER}", f"MER2023/{FOLDER}", FOLDER, VIEW):
        with fs.open(f"{filled.path}/{below}/b.npy") as file:
            assert np.array_equal(np.load(file), filled[VIEW]["b"])
        assert len(fs.ls(f"{filled.path}/{below}")) == 3


def test_bfloat16_is_read_as_float32(filled: Store, fs: MerstoreFileSystem) -> None:
    torch = pytest.importorskip("torch")
    view = filled.create_view("mer2023/frame@clip/UTT", dtype="bfloat16", shape=(4,))
    view["x"] = torch.arange(4, dtype=torch.bfloat16)
    (entry,) = fs.ls(f"{filled.path}/mer2023/frame@clip/UTT")
    data = fs.cat_file(entry["name"])
    assert len(data) == entry["size"] == 128 + 16


def test_listings_lead_from_the_store_to_each_sample(filled: Store, fs: MerstoreFileSystem) -> None:
    root = str(filled.path)
    assert fs.ls(root, detail=False) == [f"{root}/meld", f"{root}/mer2023"]
    assert fs.ls(f"{root}/mer2023", detail=False) == [f"{root}/mer2023/audio@HUBERT_LARGE"]
    files = fs.ls(f"merstore://{root}/{VIEW}")
    assert [entry["name"].rpartition("/")[2] for entry in files] == ["-a.npy", "b.npy", "中文.npy"]
    assert {entry["size"] for entry in files} == {128 + 8 * 5 * 4}
    assert len(fs.find(root)) == 5
    assert fs.glob(f"{root}/{VIEW}/*.npy") == [entry["name"] for entry in files]
    assert fs.isdir(f"{root}/mer2023")
    assert fs.isfile(f"{root}/{VIEW}/b.npy")
    assert fs.exists(f"{root}/{VIEW}/b.npy")
    assert fs.info(f"{root}/{VIEW}/b.npy") == files[1]


def test_what_is_not_there_is_said_with_its_reason(
    filled: Store, fs: MerstoreFileSystem, tmp_path: Path
) -> None:
    root = str(filled.path)
    assert not fs.exists(f"{root}/{VIEW}/mute.npy")
    with pytest.raises(FileNotFoundError, match=r"no_audio.*has no sound"):
        fs.open(f"{root}/{VIEW}/mute.npy")
    with pytest.raises(NoFile, match=r"no mer2024 in .*merstore ls"):
        fs.ls(f"{root}/mer2024")
    for stray in ("b", "b.npz", "b.npy/c.npy", ".npy"):
        with pytest.raises(NoFile):
            fs.open(f"{root}/{VIEW}/{stray}")
    with pytest.raises(NoFile, match="no store on this path"):
        fs.ls(str(tmp_path))
    with pytest.raises(IsADirectoryError, match="name a sample in it"):
        fs.open(f"{root}/{VIEW}")


def test_it_is_for_reading(filled: Store, fs: MerstoreFileSystem) -> None:
    with pytest.raises(ReadOnlyStore, match="merstore import"):
        fs.open(f"{filled.path}/{VIEW}/new.npy", "wb")


def test_what_is_written_meanwhile_is_found(filled: Store, fs: MerstoreFileSystem) -> None:
    url = f"{filled.path}/{VIEW}/new.npy"
    assert not fs.exists(url)
    filled[VIEW]["new"] = np.zeros((8, 5), np.float32)
    assert fs.exists(url)
    filled[VIEW]["new"] = np.ones((8, 5), np.float32)
    fs.invalidate_cache()
    with fs.open(url) as file:
        assert np.load(file).all()


def test_a_view_that_was_dropped_is_gone(filled: Store, fs: MerstoreFileSystem) -> None:
    url = f"{filled.path}/{FOLDER}/b.npy"
    assert fs.exists(url)
    filled.drop_view(VIEW)
    fs.invalidate_cache()
    assert not fs.exists(url)
    with pytest.raises(NoFile, match=r"no audio_HUBERT_LARGE_8clips/b\.npy"):
        fs.open(url)


def test_relative_paths_are_of_the_working_directory(
    filled: Store, fs: MerstoreFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled.path.parent)
    assert fs.exists(f"merstore://{filled.path.name}/{VIEW}/b.npy")


def test_it_goes_to_another_process(filled: Store, fs: MerstoreFileSystem) -> None:
    fs.ls(str(filled.path))
    copy = pickle.loads(pickle.dumps(fs))
    assert copy.isdir(str(filled.path))
    copy.close()


def test_fsspec_finds_it_by_the_entry_point(filled: Store) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["entry-points"]["fsspec.specs"]["merstore"]
    assert declared == "merstore.interop.filesystem:MerstoreFileSystem"
    from importlib.metadata import entry_points

    if "merstore" not in entry_points(group="fsspec.specs").names:
        pytest.skip("merstore was installed before it had this entry point: install it again")
    code = (
        "import sys, fsspec, numpy\n"
        "with fsspec.open(sys.argv[1]) as file: print(numpy.load(file).shape)"
    )
    url = f"merstore://{filled.path}/{VIEW}/b.npy"
    out = subprocess.run(
        [sys.executable, "-P", "-c", code, url],  # what is installed, not what lies around
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert out.stdout.strip() == "(8, 5)"

"""A copy that another tool compacted: its pages are not where the locators say. It is read the slow way, and says
so.
"""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest
from reference import Reference

import merstore
from merstore import Store, StoreBusy

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
RAGGED = "mer2023/audio@chinese-hubert-large/FRA"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original.mer"
    with merstore.open(path, "a") as store:
        view = store.create_view(PATH, shape=(8, 768))
        for _ in range(2):  # the first half of the file is free pages then
            view.update({f"{i:03}": np.full((8, 768), i + 1, "f4") for i in range(60)})
        view.fail("f", "no_face", "")
        ragged = store.create_view(RAGGED, shape=(None, 3), dtype="float16")
        ragged.update({f"{i}": np.full((i + 1, 3), i + 1, "f2") for i in range(5)})
    return path


def copy_by_lmdb(path: Path, to: Path, compact: bool) -> Path:
    to.mkdir()
    with lmdb.open(str(path), readonly=True) as env:
        env.copy(str(to), compact=compact)
    return to


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return copy_by_lmdb(original, tmp_path / "copy.mer", compact=True)


@pytest.fixture(params=["map", "pread"])
def store(copy: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with pytest.warns(UserWarning, match="renumbered.*merstore compact"):
        opened = merstore.open(copy, "a", io=request.param, checksum=True)
    with opened:
        yield opened


def check(store: Store) -> None:
    view = store[PATH]
    assert list(view) == [f"{i:03}" for i in range(60)]
    rows = view.select()
    assert (rows.gather(range(60))[:, 0, 0] == np.arange(1, 61)).all()
    assert all((view[f"{i:03}"] == i + 1).all() for i in range(60))
    assert view.gather(["f", "007"], on_miss="mask")[:, 0, 0].tolist() == [0, 8]
    values, lengths, _ = store[RAGGED].select().padded(range(5), side="front")
    assert lengths.tolist() == [1, 2, 3, 4, 5]
    assert values[..., 0].tolist() == [[0] * (5 - n) + [n] * n for n in range(1, 6)]


def test_the_copy_is_another(copy: Path) -> None:
    with Reference(copy) as reference:
        assert not reference.locators_valid()
        reference.check()
        arrays = reference.arrays(PATH)
        assert all((arrays[f"{i:03}"] == i + 1).all() for i in range(60))


def test_everything_is_found(store: Store) -> None:
    assert store.stats()["renumbered"]
    check(store)
    assert store.verify() == []


def test_nothing_is_written_to_it(store: Store) -> None:
    view = store[PATH]
    for write in (
        lambda: view.__setitem__("a", np.ones((8, 768), "f4")),
        lambda: view.__delitem__("000"),
        lambda: view.fail("x", "no_face", ""),
        lambda: store.create_view("a/b/c"),
        lambda: store.drop_view(PATH),
    ):
        with pytest.raises(StoreBusy, match="merstore compact"):
            write()
    check(store)


def test_compaction_makes_it_a_store_again(store: Store, copy: Path) -> None:
    check(store)
    store.compact()
    assert not store.stats()["renumbered"]
    check(store)
    assert store.verify() == []
    store[PATH]["new"] = np.full((8, 768), 99, "f4")
    assert store[PATH].gather(["new", "000"])[:, 0, 0].tolist() == [99, 1]
    store.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with merstore.open(copy) as again:
            assert len(again[PATH]) == 61
    with Reference(copy) as reference:
        assert reference.locators_valid()
        reference.check()


def test_a_plain_copy_is_the_store_itself(original: Path, tmp_path: Path) -> None:
    by_lmdb = copy_by_lmdb(original, tmp_path / "plain.mer", compact=False)
    by_hand = tmp_path / "by-hand.mer"
    by_hand.mkdir()
    shutil.copyfile(original / "data.mdb", by_hand / "data.mdb")
    for path in (by_lmdb, by_hand):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with merstore.open(path, "a") as store:
                assert not store.stats()["renumbered"]
                check(store)
                store[PATH]["new"] = np.full((8, 768), 99, "f4")


def test_a_small_store_whose_canary_did_not_move(tmp_path: Path) -> None:
    """Then LMDB's transaction number, which such a copy starts over, gives it away."""
    with merstore.open(tmp_path / "small.mer", "a") as store:
        store.create_view(PATH, shape=(4,))["a"] = np.ones(4, "f4")
    copy = copy_by_lmdb(tmp_path / "small.mer", tmp_path / "copy.mer", compact=True)
    with pytest.warns(UserWarning, match="renumbered"), merstore.open(copy) as store:
        assert store[PATH]["a"].tolist() == [1, 1, 1, 1]

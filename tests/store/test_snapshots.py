"""Snapshots: what a Store sees and when, and arrays whose bytes stay whatever happens to the store."""

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore import MissingEntry, Store, StoreBusy, UnknownView, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Vector = Callable[[float], np.ndarray]


class TestWhatIsSeen:
    def test_others_writes_are_seen_after_a_refresh(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path) as other:
            seen = other[PATH]
            assert list(seen) == ["a"]
            view["a"] = vector(2)
            view["b"] = vector(3)
            assert list(seen) == ["a"]
            assert seen["a"][0] == 1
            assert seen.gather(["a"])[0, 0] == 1
            assert "b" not in seen
            with pytest.raises(MissingEntry):
                seen.gather(["b"])
            other.refresh()
            assert list(seen) == ["a", "b"]
            assert seen.gather(["a", "b"])[:, 0].tolist() == [2, 3]

    def test_a_store_sees_the_state_at_its_first_look(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        with merstore.open(store.path) as other:
            view["a"] = vector(1)
            assert "a" in other[PATH]

    def test_own_writes_are_seen_at_once(self, store: Store, view: View, vector: Vector) -> None:
        """And everything else that was written meanwhile."""
        with merstore.open(store.path, "a") as other:
            mine = other[PATH]
            assert len(mine) == 0
            view["theirs"] = vector(1)
            assert len(mine) == 0
            mine["mine"] = vector(2)
            assert list(mine) == ["mine", "theirs"]

    def test_views_and_selections_follow_their_store(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path) as other:
            seen = other[PATH]
            rows = seen.select(["a", "b"])
            assert rows.present().tolist() == [True, False]
            view.update({"a": vector(5), "b": vector(6)})
            assert rows.present().tolist() == [True, False]
            assert rows.gather([0])[0, 0] == 1
            other.refresh()
            assert rows.gather([0, 1])[:, 0].tolist() == [5, 6]
            assert seen.gather(["b", "a"])[:, 0].tolist() == [6, 5]

    def test_an_iteration_goes_on_over_what_it_began_with(self, view: View, vector: Vector) -> None:
        view.update({name: vector(1) for name in "abc"})
        seen = []
        for name in view:
            del view[name]
            view[f"{name}{name}"] = vector(2)
            seen.append(name)
        assert seen == ["a", "b", "c"]
        assert list(view) == ["aa", "bb", "cc"]

    def test_a_dropped_view_is_seen_until_the_refresh(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path) as other:
            seen = other[PATH]
            assert seen["a"][0] == 1
            store.drop_view(PATH)
            for i in range(20):  # whatever takes its place
                store.create_view(f"a/b/c{i}", shape=(4,))["a"] = vector(9)
            assert seen["a"][0] == 1
            assert seen.gather(["a"])[0, 0] == 1
            other.refresh()
            with pytest.raises(UnknownView):
                seen["a"]

    def test_a_view_made_anew_at_the_same_path_is_another(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        """Objects that were given out before serve the new one, and nothing of the old."""
        view["a"] = vector(1)
        rows = view.select(["a"])
        assert rows.gather([0])[0, 0] == 1
        store.drop_view(PATH)
        again = store.create_view(PATH, shape=(None, 2), dtype="float64")
        assert "a" not in view
        assert rows.present().tolist() == [False]
        again["a"] = np.full((3, 2), 8.0)
        assert view.shape == (None, 2)
        assert rows.gather([0])[0].tolist() == [[8, 8]] * 3  # type: ignore[index]

    def test_an_old_state_survives_any_number_of_rewrites(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        names = [f"{i:03}" for i in range(200)]
        view.update({name: vector(1) for name in names})
        with merstore.open(store.path) as other:
            rows = other[PATH].select(names)
            assert (rows.gather(range(200)) == 1).all()
            for value in range(2, 40):
                view.update({name: vector(value) for name in names})
            assert (rows.gather(range(200)) == 1).all()
            assert (other[PATH].gather(names) == 1).all()
        assert (view.gather(names) == 39).all()


class TestArraysOverTheMap:
    def test_they_outlive_the_store(self, tmp_path: Path, vector: Vector) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            store.create_view(PATH, shape=(4,))["a"] = vector(1)
            array = store[PATH]["a"]
        assert array.tolist() == [1, 1, 1, 1]
        assert not array.flags.writeable

    def test_their_bytes_stay_while_the_store_is_rewritten(
        self, tmp_path: Path, vector: Vector
    ) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            view = store.create_view(PATH, shape=(4,))
            view["a"] = vector(1)
            array = view["a"]
        for value in range(2, 20):
            with merstore.open(tmp_path / "s.mer", "a") as store:
                store[PATH].update({name: vector(value) for name in "abcdef"})
        assert array.tolist() == [1, 1, 1, 1]

    def test_a_part_of_one_holds_as_well(self, tmp_path: Path, vector: Vector) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            view = store.create_view(PATH, shape=(4,))
            view["a"] = vector(1)
            part = view["a"][1:3].reshape(2, 1)
            del view["a"]
            view.update({name: vector(9) for name in "bcdef"})
        assert part.tolist() == [[1], [1]]

    def test_they_outlive_the_file(self, tmp_path: Path, vector: Vector) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            store.create_view(PATH, shape=(4,))["a"] = vector(1)
            array = store[PATH]["a"]
        shutil.rmtree(tmp_path / "s.mer")
        assert array.tolist() == [1, 1, 1, 1]

    def test_a_new_store_may_take_the_place_of_one_that_is_held(
        self, tmp_path: Path, vector: Vector
    ) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            store.create_view(PATH, shape=(4,))["a"] = vector(1)
            array = store[PATH]["a"]
        shutil.rmtree(tmp_path / "s.mer")
        with merstore.open(tmp_path / "s.mer", "w") as store:
            assert store.views() == []
            store.create_view(PATH, shape=(4,))["a"] = vector(2)
            assert store[PATH]["a"].tolist() == [2, 2, 2, 2]
        assert array.tolist() == [1, 1, 1, 1]

    def test_they_keep_the_store_from_being_compacted(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        array = view["a"]
        with pytest.raises(StoreBusy, match="let go of its arrays"):
            store.compact()
        del array
        store.compact()

    def test_without_a_map_they_are_copies(self, store: Store, view: View, vector: Vector) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path, io="pread") as other:
            array = other[PATH]["a"]
            assert not array.flags.writeable
        store.compact()
        assert array.tolist() == [1, 1, 1, 1]


class TestLettingGo:
    def test_snapshots_end_with_their_last_user(self, tmp_path: Path, vector: Vector) -> None:
        with merstore.open(tmp_path / "s.mer", "a") as store:
            view = store.create_view(PATH, shape=(4,))
            view["a"] = vector(1)
            snapshot = weakref.ref(store.snapshot())
            array = view["a"]
            store.refresh()
            gc.collect()
            assert snapshot() is not None
            del array
            gc.collect()
            assert snapshot() is None

    def test_a_reader_that_refreshes_does_not_make_the_file_grow(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        names = [f"{i:03}" for i in range(300)]
        with merstore.open(store.path) as reader:
            sizes = []
            for value in range(1, 60):
                view.update({name: vector(value) for name in names})
                reader.refresh()
                assert (reader[PATH].gather(names) == value).all()
                sizes.append(store.stats()["file_bytes"])
        assert sizes[-1] == sizes[10]

    def test_one_snapshot_serves_all_stores_while_nothing_is_written(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path) as one, merstore.open(store.path) as other:
            assert one.snapshot() is other.snapshot()
            view["b"] = vector(1)
            other.refresh()
            assert one.snapshot() is not other.snapshot()

    def test_the_age_of_a_snapshot_is_known(self, store: Store) -> None:
        store.refresh()
        assert 0 <= store.stats()["snapshot_age"] < 60


def test_a_file_put_in_the_place_of_another_is_read_anew(tmp_path: Path, vector: Vector) -> None:
    """As when a backup is restored: no slot of the old file leads into the new one."""
    made = []
    for i in range(2):
        path = tmp_path / f"{i}.mer"
        with merstore.open(path, "a") as store:
            view = store.create_view(PATH, shape=(4,))
            if i:
                store.create_view("a/b/c", shape=(9000,), dtype="int8")["x"] = np.ones(9000, "i1")
            view.update({name: vector(i + 1) for name in "abc"})
        made.append(path)
    with merstore.open(made[0]) as store:
        view = store[PATH]
        rows = view.select()
        assert rows.gather([0, 1, 2]).tolist() == [[1] * 4] * 3
        (made[1] / "data.mdb").replace(made[0] / "data.mdb")
        store.refresh()
        assert rows.gather([0, 1, 2]).tolist() == [[2] * 4] * 3
        assert view.gather(["a"]).tolist() == [[2] * 4]

"""Views: declared once under a spec, found by path or by a legacy folder's name, dropped."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from reference import Reference

import merstore
from merstore import (
    InvalidKey,
    InvalidTensor,
    SpecMismatch,
    StaleView,
    Store,
    UnknownView,
    View,
)

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Vector = Callable[[float], np.ndarray]
Look = Callable[[], Reference]


class TestDeclaring:
    def test_a_view_is_what_it_was_declared_as(self, store: Store, reference: Look) -> None:
        store.create_view(
            PATH, dtype="float16", shape=(None, 768), spec={"size": (224, 224)}, alias="frame_8",
            nonfinite="flag", zeros="refuse",
        )  # fmt: skip
        with merstore.open(store.path) as other:
            view = other[PATH]
            assert (view.dtype, view.shape, view.alias) == (np.float16, (None, 768), "frame_8")
            assert view.spec == {"size": [224, 224]}
        record = reference().views()[PATH]
        assert (record["nonfinite"], record["zeros"]) == ("flag", "refuse")

    def test_twice_is_an_error(self, store: Store, view: View) -> None:
        with pytest.raises(SpecMismatch, match="exists already"):
            store.create_view(PATH, shape=(4,), spec={"n": 8})

    def test_unless_it_may_exist_and_is_the_same(
        self, store: Store, view: View, vector: Vector
    ) -> None:
        view["a"] = vector(1)
        again = store.create_view(PATH, shape=(4,), spec={"n": 8}, exist_ok=True)
        assert again["a"].tolist() == [1, 1, 1, 1]

    def test_another_spec_shows_both(self, store: Store, view: View) -> None:
        with pytest.raises(SpecMismatch, match=r"n: 8 against 16") as caught:
            store.create_view(PATH, shape=(4,), spec={"n": 16}, exist_ok=True)
        assert view.fingerprint[:12] in str(caught.value)

    @pytest.mark.parametrize(
        "change", [{"shape": (5,)}, {"dtype": "float16"}, {"shape": (None, 4)}]
    )
    def test_another_shape_or_dtype(self, store: Store, view: View, change: Any) -> None:
        with pytest.raises(SpecMismatch, match=r"\(4,\) float32, not"):
            store.create_view(PATH, **{"shape": (4,), "spec": {"n": 8}, "exist_ok": True} | change)

    @pytest.mark.parametrize(
        ("declared", "error"),
        [
            ({"path": "no path"}, InvalidKey),
            ({"shape": (0,)}, InvalidTensor),
            ({"dtype": "complex64"}, InvalidTensor),
            ({"spec": {"a": np.ones(2)}}, SpecMismatch),
            ({"alias": ""}, InvalidKey),
        ],
        ids=str,
    )
    def test_a_wrong_declaration_declares_nothing(
        self, store: Store, declared: Any, error: type
    ) -> None:
        with pytest.raises(error):
            store.create_view(**{"path": PATH, "shape": (4,)} | declared)
        assert store.views() == []
        assert store.create_view(PATH, shape=(4,)).record.number == 1

    def test_numbers_are_never_used_again(self, store: Store, reference: Look) -> None:
        for _ in range(3):
            store.create_view(PATH, shape=(4,))
            store.drop_view(PATH)
        store.create_view(PATH, shape=(4,))
        assert reference().views()[PATH]["number"] == 4
        store.compact()
        assert reference().views()[PATH]["number"] == 4
        assert store.create_view("a/b/c", shape=(4,)).record.number == 5


class TestStale:
    def test_the_same_spec_is_served(self, store: Store, view: View) -> None:
        assert store.view(PATH, spec={"n": 8}).path == PATH
        assert store.view(PATH).path == PATH

    def test_another_is_not(self, store: Store, view: View) -> None:
        with pytest.raises(StaleView, match=r"stored .* asked for .*n: 8 against 9") as caught:
            store.view(PATH, spec={"n": 9})
        assert PATH in str(caught.value)


class TestFinding:
    def test_a_store_is_a_mapping_of_views(self, store: Store, view: View) -> None:
        store.create_view("a/b/c")
        assert store.views() == list(store) == list(store.keys()) == ["a/b/c", PATH]
        assert len(store) == 2
        assert PATH in store
        assert store[PATH].path == PATH
        assert store.get("a/b/d") is None
        assert {path: view.path for path, view in store.items()} == {p: p for p in store}

    @pytest.mark.parametrize("path", ["a/b/c", "", "no path", "x" * 1000, "a/b/\udcff", 3, None])
    def test_what_is_not_in_it(self, store: Store, path: Any) -> None:
        assert path not in store

    def test_an_unknown_view_lists_near_ones(self, store: Store, view: View) -> None:
        with pytest.raises(UnknownView, match=f"near: {PATH}") as caught:
            store["mer2023/frame@CLIP_VIT_LARGE/uniform_16frms"]
        assert isinstance(caught.value, KeyError)
        with pytest.raises(UnknownView, match="merstore ls"):
            store["zzz/zzz/zzz"]
        with pytest.raises(InvalidKey):
            store["no path"]

    def test_hundreds_of_views(self, store: Store) -> None:
        paths = sorted(f"d{i % 7}/m@e{i}/s" for i in range(400))
        for path in paths[::-1]:
            store.create_view(path, shape=(1,))
        assert store.views() == paths


class TestLegacyNames:
    @pytest.fixture
    def many(self, store: Store) -> Store:
        for path, alias in [
            ("mer2023/audio@chinese-hubert-large/UTT", None),
            ("meld/audio@chinese-hubert-large/UTT", None),
            ("mer2023/face@clip-vit-large-patch14/UTT", "my-visual-UTT"),
            ("mer2023/text@bert/UTT", "chinese-macbert-large-4-UTT"),
            ("mer2023/text@chinese-macbert-large-4/UTT", None),
        ]:
            store.create_view(path, shape=(4,), alias=alias)
        return store

    def test_by_the_table(self, many: Store) -> None:
        found = many.resolve("chinese-hubert-large-UTT", "meld")
        assert found == "meld/audio@chinese-hubert-large/UTT"

    def test_by_alias_in_any_role(self, many: Store) -> None:
        assert many.resolve("my-visual-UTT") == "mer2023/face@clip-vit-large-patch14/UTT"

    def test_a_view_with_an_alias_keeps_its_name_in_the_table(self, many: Store) -> None:
        assert (
            many.resolve("clip-vit-large-patch14-UTT") == "mer2023/face@clip-vit-large-patch14/UTT"
        )

    def test_an_alias_goes_before_the_table(self, many: Store) -> None:
        assert many.resolve("chinese-macbert-large-4-UTT") == "mer2023/text@bert/UTT"

    def test_by_the_end_of_the_path(self, many: Store) -> None:
        assert many.resolve("text@bert/UTT") == "mer2023/text@bert/UTT"

    def test_which_dataset_is_asked_where_several_have_it(self, many: Store) -> None:
        with pytest.raises(UnknownView, match=r"ambiguous, name the dataset: .*meld.*mer2023"):
            many.resolve("chinese-hubert-large-UTT")

    def test_near_names_are_shown(self, many: Store) -> None:
        with pytest.raises(UnknownView, match="near: chinese-hubert-large-UTT"):
            many.resolve("chinese-hubert-larg-UTT", "meld")
        with pytest.raises(UnknownView, match="no view for folder 'zzz'"):
            many.resolve("zzz", "no-such-dataset")


class TestDropping:
    def test_all_of_a_view_goes(
        self, store: Store, view: View, ragged: View, vector: Vector, reference: Look
    ) -> None:
        view.update({f"{i}": vector(i + 1) for i in range(50)})
        del view["7"]
        view.fail("x", "no_face", "")
        ragged["a"] = np.ones((2, 3), "f2")
        store.drop_view(PATH)
        assert store.views() == [ragged.path]
        reader = reference()  # which finds no record of a view that is not there
        assert not any(key.startswith("dead/") for key in reader.meta())
        assert ragged["a"].shape == (2, 3)

    def test_in_many_transactions_where_it_is_large(
        self, store: Store, reference: Look, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from merstore.store import store as module

        monkeypatch.setattr(module, "DROP_CHUNK", 10)
        view = store.create_view(PATH, shape=(300_000,), dtype="int8")
        other = store.create_view("zzz/b/c", shape=(), dtype="int8")
        other["a"] = np.int8(1)
        view.update({f"{i:03}": np.full(300_000, 1, "i1") for i in range(35)})
        store.drop_view(PATH)
        reference()
        assert list(other) == ["a"]

    def test_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(UnknownView):
            store.drop_view(PATH)

    def test_its_space_is_used_again(self, store: Store) -> None:
        sizes = []
        for _ in range(8):
            view = store.create_view(PATH, shape=(500_000,), dtype="int8")
            view.update({f"{i}": np.full(500_000, 1, "i1") for i in range(6)})
            store.drop_view(PATH)
            sizes.append(store.stats()["file_bytes"])
        assert sizes[-1] == sizes[2]

    def test_a_view_that_another_made_anew_is_dropped_whole(
        self, store: Store, view: View, vector: Vector, reference: Look
    ) -> None:
        view["a"] = vector(1)
        with merstore.open(store.path, "a") as other:
            assert other[PATH]["a"][0] == 1
            store.drop_view(PATH)
            store.create_view(PATH, shape=(4,))["b"] = vector(2)
            other.drop_view(PATH)  # it has not refreshed
            assert PATH not in other
        reference()

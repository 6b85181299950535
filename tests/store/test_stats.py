"""stats: what ``merstore info`` shows."""

import json
from collections.abc import Callable

import numpy as np

import merstore
from merstore import Store, View

Vector = Callable[[float], np.ndarray]


def test_an_empty_store(store: Store) -> None:
    stats = store.stats()
    assert (stats["format"], stats["views"], stats["entries"], stats["payload_bytes"]) == (
        1,
        0,
        0,
        0,
    )
    assert stats["creator"] == f"merstore {merstore.__version__}"
    assert stats["uuid"] == store.uuid
    assert len(store.uuid) == 36


def test_what_is_in_it(store: Store, view: View, ragged: View, vector: Vector) -> None:
    view.update({"a": vector(1), "b": vector(2)})
    del view["a"]
    view.fail("f", "no_face", "")
    ragged["a"] = np.ones((5, 3), "f2")
    stats = store.stats()
    assert (stats["views"], stats["entries"], stats["failures"], stats["blocks"]) == (2, 2, 1, 2)
    assert stats["payload_bytes"] == 16 + 30
    assert stats["dead_bytes"] == 16
    assert stats["file_bytes"] == (store.path / "data.mdb").stat().st_size
    assert stats["snapshot"] == stats["last_transaction"]
    assert stats["map_bytes"] >= stats["file_bytes"]
    assert (stats["durability"], stats["renumbered"], stats["locked"]) == ("full", False, True)
    assert stats["readers"] >= 1
    assert stats["path"] == str(store.path)


def test_they_are_json(store: Store, view: View) -> None:
    stats = store.stats()
    assert json.loads(json.dumps(stats)) == stats


def test_they_are_of_the_snapshot(store: Store, view: View, vector: Vector) -> None:
    with merstore.open(store.path) as other:
        before = other.stats()
        view["a"] = vector(1)
        assert other.stats()["entries"] == before["entries"] == 0
        assert other.stats()["snapshot"] < other.stats()["last_transaction"]
        other.refresh()
        assert other.stats()["entries"] == 1

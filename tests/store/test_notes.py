"""Notes: texts that are kept with a store and that no reader depends on."""

from pathlib import Path

import pytest

import merstore
from merstore.store.store import Store


def test_a_note_is_kept_by_kind_and_name_and_replaced(store: Store) -> None:
    store.note("profile", "a", "first")
    store.note("profile", "b", "é中")
    store.note("other", "a", "else")
    store.note("profile", "a", "second")
    assert store.notes("profile") == {"a": "second", "b": "é中"}
    assert store.notes("other") == {"a": "else"}
    assert store.notes("nothing") == {}
    assert store.uuid  # the store's own records are untouched


def test_notes_outlive_the_process_and_a_compaction(store: Store) -> None:
    store.note("profile", "a", "kept")
    store.compact()
    assert store.notes("profile") == {"a": "kept"}
    assert store.verify() == []


def test_a_reader_sees_notes_and_writes_none(tmp_path: Path) -> None:
    with merstore.open(tmp_path / "s.mer", "a") as writer:
        writer.note("profile", "a", "kept")
    with merstore.open(tmp_path / "s.mer") as reader:
        assert reader.notes("profile") == {"a": "kept"}
        with pytest.raises(merstore.ReadOnlyStore):
            reader.note("profile", "a", "changed")

"""Blocks: how payloads are packed, how small blocks merge, how dead bytes are counted."""

from collections.abc import Callable

import numpy as np
import pytest
from reference import Reference

from merstore import Store, View
from merstore.store.writer import BLOCK_BYTES, MERGE_BYTES

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
Look = Callable[[], Reference]


def blobs(store: Store, path: str = PATH) -> View:
    """Any number of bytes an entry."""
    return store.create_view(path, shape=(None,), dtype="uint8")


def blob(size: int, value: int = 1) -> np.ndarray:
    return np.full(size, value, np.uint8)


def sizes(reader: Reference) -> list[list[int]]:
    """Of the live payloads of each block, in order."""
    found: dict[int, list[tuple[int, int]]] = {}
    for entry in reader.index(PATH).values():
        found.setdefault(entry.block, []).append((entry.offset, entry.nbytes))
    return [[nbytes for _, nbytes in sorted(found[block])] for block in sorted(found)]


class TestPacking:
    def test_the_first_payload_begins_on_a_page(self, store: Store, reference: Look) -> None:
        blobs(store).update({f"{i}": blob(300_000) for i in range(12)})
        reader = reference()
        first = {block: min(e.offset for e in reader.index(PATH).values() if e.block == block)
                 for block in reader.blocks(PATH)}  # fmt: skip
        assert len(first) > 2
        assert all((16 + offset) % 4096 == 0 for offset in first.values())

    def test_every_payload_begins_at_64_bytes(self, store: Store, reference: Look) -> None:
        blobs(store).update({f"{i}": blob(1 + 7 * i) for i in range(200)})
        for entry in reference().index(PATH).values():
            assert (entry.page * 4096 + 16 + entry.offset) % 64 == 0

    def test_a_vector_of_1024_float32_is_one_page(self, store: Store, reference: Look) -> None:
        view = store.create_view(PATH, shape=(1024,))
        view.update({f"{i:03}": np.full(1024, i + 1, "f4") for i in range(300)})
        for entry in reference().index(PATH).values():
            assert (16 + entry.offset) % 4096 == 0

    def test_a_block_holds_about_a_mebibyte(self, store: Store, reference: Look) -> None:
        blobs(store).update({f"{i:03}": blob(99_968) for i in range(25)})
        assert sizes(reference()) == [[99_968] * 10, [99_968] * 10, [99_968] * 5]

    @pytest.mark.parametrize("extra", [0, 1, 64, BLOCK_BYTES])
    def test_an_entry_as_large_as_a_block_or_larger(
        self, store: Store, reference: Look, extra: int
    ) -> None:
        view = blobs(store)
        view.update({"a": blob(10), "b": blob(BLOCK_BYTES + extra, 2), "c": blob(10, 3)})
        assert sizes(reference()) == [[10], [BLOCK_BYTES + extra], [10]]
        assert (view["b"] == 2).all()
        assert len(view["b"]) == BLOCK_BYTES + extra

    def test_entries_that_fill_a_block_exactly(self, store: Store, reference: Look) -> None:
        half = BLOCK_BYTES // 2
        blobs(store).update(
            {"a": blob(half), "b": blob(half), "c": blob(half), "d": blob(half + 1)}
        )
        assert sizes(reference()) == [[half, half], [half], [half + 1]]

    def test_the_gap_before_a_payload_counts(self, store: Store, reference: Look) -> None:
        """One byte, then 63 nobody uses, then all but 64 bytes of a block: it fits; a byte more does not."""
        blobs(store).update({"a": blob(1), "b": blob(BLOCK_BYTES - 64)})
        other = "mer2023/face@CLIP/uniform_8frms"
        blobs(store, other).update({"a": blob(1), "b": blob(BLOCK_BYTES - 63)})
        reader = reference()
        assert len(reader.blocks(PATH)) == 1
        assert len(reader.blocks(other)) == 2

    def test_long_names_make_the_header_longer(self, store: Store, reference: Look) -> None:
        names = [f"{i:0400}" for i in range(100)]
        view = blobs(store)
        view.update({name: blob(10, i) for i, name in enumerate(names)})
        (block,) = reference().blocks(PATH).values()
        assert block.header_bytes == 4080 + 10 * 4096  # for 64 + 100 * 424 bytes
        assert all((view[name] == i).all() for i, name in enumerate(names))

    def test_a_full_table_begins_a_block(self, store: Store, reference: Look) -> None:
        names = [f"{i:0400}" for i in range(400)]
        view = blobs(store)
        view.update({name: blob(1, i % 256) for i, name in enumerate(names)})
        reader = reference()
        assert len(reader.blocks(PATH)) > 1
        assert all((view[name] == i % 256).all() for i, name in enumerate(names))
        assert reader.rebuild(PATH).keys() == set(names)

    def test_views_do_not_share_blocks(self, store: Store, reference: Look) -> None:
        one, other = blobs(store), blobs(store, "meld/frame@CLIP/uniform_8frms")
        with store.writer() as writer:
            for i in range(5):
                writer.put(one, f"{i}", blob(10))
                writer.put(other, f"{i}", blob(10, 2))
        reader = reference()
        assert len(reader.blocks(PATH)) == len(reader.blocks(other.path)) == 1

    def test_a_store_is_hardly_larger_than_its_payloads(self, store: Store) -> None:
        view = store.create_view(PATH, shape=(8, 768))
        data = np.random.default_rng(0).random((400, 8, 768), np.float32)
        view.update({f"sample_{i:08d}": array for i, array in enumerate(data)})
        assert store.stats()["file_bytes"] < 1.05 * data.nbytes


class TestMerging:
    def test_single_writes_gather_in_one_block(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        for i in range(20):
            view[f"{i:02}"] = blob(1000, i)
        reader = reference()
        assert sizes(reader) == [[1000] * 20]
        assert all((view[f"{i:02}"] == i).all() for i in range(20))

    def test_a_large_last_block_stays(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view["a"] = blob(MERGE_BYTES)
        view["b"] = blob(10)
        view["c"] = blob(10)
        assert [sorted(block) for block in sizes(reference())] == [[MERGE_BYTES], [10, 10]]

    def test_nothing_is_merged_into_a_full_block(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view["a"] = blob(100_000)
        view["b"] = blob(BLOCK_BYTES - 50_000)
        assert sizes(reference()) == [[100_000], [BLOCK_BYTES - 50_000]]

    def test_a_merged_entry_keeps_when_and_by_whom_it_was_written(
        self, store: Store, reference: Look
    ) -> None:
        view = store.create_view(PATH, shape=(None,), dtype="float16", nonfinite="flag")
        view["a"] = np.array([1, np.nan], "f2")
        before = reference().index(PATH)["a"]
        view["b"] = np.ones(1, "f2")
        after = reference().index(PATH)["a"]
        assert after.block != before.block
        for field in ("time", "run", "flags", "checksum", "dtype", "shape"):
            assert getattr(after, field) == getattr(before, field)
        assert after.flags == 1

    def test_what_is_dead_is_not_merged(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view.update({"a": blob(10), "b": blob(20), "c": blob(30)})
        del view["b"]
        assert "dead/00000001/0000000000000000" in reference().meta()
        view["d"] = blob(40)
        reader = reference()
        (block,) = reader.blocks(PATH).values()
        assert sorted(record.name for record in block.records) == ["a", "c", "d"]
        assert not any(key.startswith("dead/") for key in reader.meta())

    def test_a_name_put_twice_at_once_is_merged_once(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        with store.writer() as writer:
            writer.put(view, "a", blob(10, 1))
            writer.put(view, "a", blob(10, 2))
        assert store.stats()["dead_bytes"] == 10
        view["b"] = blob(10)
        reader = reference()
        (block,) = reader.blocks(PATH).values()
        assert sorted(record.name for record in block.records) == ["a", "b"]
        assert (view["a"] == 2).all()

    @pytest.mark.parametrize("what", ["put", "delete", "fail", "delete and fail"])
    def test_a_merge_while_the_name_itself_is_written(
        self, store: Store, reference: Look, what: str
    ) -> None:
        view = blobs(store)
        view.update({"a": blob(10, 1), "b": blob(10, 2)})
        with store.writer() as writer:
            writer.put(view, "c", blob(10, 3))  # something to merge with
            if what == "put":
                writer.put(view, "a", blob(10, 4))
            if "delete" in what:
                writer.delete(view, "a")
            if "fail" in what:
                writer.fail(view, "a", "no_face", "")
        reader = reference()
        assert len(reader.blocks(PATH)) == 1
        expected = {"put": 4, "fail": 1}.get(what)
        assert ("a" in view) == (expected is not None)
        if expected:
            assert (view["a"] == expected).all()
        assert (view.failure("a") is not None) == (what == "delete and fail")
        assert (view["b"] == 2).all()
        assert (view["c"] == 3).all()

    def test_a_reader_sees_nothing_of_a_merge(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view["a"] = blob(1000, 1)
        array = view["a"]
        with Store(store.path) as other:
            before = other[PATH]
            assert (before["a"] == 1).all()
            for i in range(30):
                view[f"b{i}"] = blob(1000, 2)
            assert (before["a"] == 1).all()
            assert len(before) == 1
        assert (array == 1).all()
        reference()


class TestDeadBytes:
    def test_overwritten_bytes_are_counted(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view.update({f"{i:02}": blob(MERGE_BYTES // 10) for i in range(20)})
        view.update({"03": blob(5), "04": blob(6)})
        assert store.stats()["dead_bytes"] == 2 * (MERGE_BYTES // 10)
        reader = reference()
        assert reader.meta()["dead/00000001/0000000000000000"].split()[0] == b"2"

    def test_deleted_bytes_are_counted(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view.update({"a": blob(100), "b": blob(200)})
        del view["a"]
        assert store.stats()["dead_bytes"] == 100
        reference()

    def test_a_block_goes_with_its_last_entry(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view.update({f"{i}": blob(MERGE_BYTES) for i in range(3)})
        view["x"] = blob(MERGE_BYTES)
        assert len(reference().blocks(PATH)) == 2
        for name in "120":
            del view[name]
        reader = reference()
        assert sizes(reader) == [[MERGE_BYTES]]
        assert store.stats()["dead_bytes"] == 0
        del view["x"]
        assert reference().blocks(PATH) == {}
        assert store.stats()["blocks"] == 0

    def test_a_block_goes_when_all_of_it_is_overwritten_at_once(
        self, store: Store, reference: Look
    ) -> None:
        view = blobs(store)
        view.update({f"{i}": blob(MERGE_BYTES) for i in range(3)})
        view.update({f"{i}": blob(MERGE_BYTES, 9) for i in range(3)})
        assert sizes(reference()) == [[MERGE_BYTES] * 3]

    def test_a_block_that_is_dead_on_arrival_is_not_kept(
        self, store: Store, reference: Look
    ) -> None:
        view = blobs(store)
        with store.writer() as writer:
            writer.put(view, "a", blob(10))
            writer.delete(view, "a")
        assert reference().blocks(PATH) == {}
        assert len(view) == 0

    def test_put_delete_put_of_one_name_at_once(self, store: Store, reference: Look) -> None:
        view = blobs(store)
        view["a"] = blob(7, 1)
        with store.writer() as writer:
            writer.put(view, "a", blob(10, 2))
            writer.delete(view, "a")
            writer.put(view, "a", blob(10, 3))
        assert (view["a"] == 3).all()
        assert store.stats()["dead_bytes"] == 10
        reference()

    def test_an_overwrite_within_a_transaction_leaves_the_last(
        self, store: Store, reference: Look
    ) -> None:
        view = blobs(store)
        with store.writer() as writer:
            for i in range(50):
                writer.put(view, "a", blob(BLOCK_BYTES // 3, i))
        assert (view["a"] == 49).all()
        reader = reference()
        assert sizes(reader) == [[BLOCK_BYTES // 3]]

    @pytest.mark.parametrize("seed", range(3))
    def test_many_overwrites(self, store: Store, reference: Look, seed: int) -> None:
        """The counts stay right (the reference recounts them), and the file does not grow for ever."""
        rng = np.random.default_rng(seed)
        view = blobs(store)
        latest: dict[str, tuple[int, int]] = {}
        grown = []
        for round in range(60):
            chosen = {
                f"{rng.integers(60):02}": (int(rng.integers(1, 60_000)), round) for _ in range(8)
            }
            view.update({name: blob(size, value) for name, (size, value) in chosen.items()})
            latest |= chosen
            if round % 20 == 19:
                reference()
                grown.append(store.stats()["file_bytes"])
        live = sum(size for size, _ in latest.values())
        assert store.stats()["payload_bytes"] == live
        assert all(np.array_equal(view[n], blob(*latest[n])) for n in latest)
        assert grown[-1] < 12 * live

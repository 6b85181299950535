"""verify: a sound store has no problems; each kind of damage is found, by the name of the entry where it has one."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from reference import Entry, Reference

import merstore
from merstore import CorruptEntry, MissingEntry, Problem, View

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
RAGGED = "mer2023/audio@chinese-hubert-large/FRA"
SIZE = 30_000  # float32: two blocks of ten entries are larger than what is merged


class Patient:
    """A closed store with two blocks, a dead entry, failures and a second view, and ways to damage it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with merstore.open(path, "a") as store:
            view = store.create_view(PATH, shape=(SIZE,), spec={"n": 8})
            for block in "ab":
                view.update({f"{block}{i}": np.full(SIZE, i + 1, "f4") for i in range(7)})
            del view["a3"]
            view.fail("f", "no_face", "looked hard")
            ragged = store.create_view(RAGGED, shape=(None, 3), dtype="float16")
            ragged.update({f"{i}": np.full((i + 1, 3), i + 1, "f2") for i in range(5)})
        assert self.problems() == []

    def problems(self) -> list[Problem]:
        with merstore.open(self.path) as store:
            return store.verify()

    def found(self) -> set[tuple[str, str]]:
        """Kind and name of each problem."""
        return {(problem.kind, problem.name) for problem in self.problems()}

    def entry(self, name: str, view: str = PATH) -> Entry:
        with Reference(self.path) as reader:
            return reader.index(view)[name]

    def start(self, block: str) -> int:
        """Where in the file a block of the first view begins."""
        return self.entry(f"{block}1").page * 4096 + 16

    def flip(self, offset: int, mask: int = 1) -> None:
        """Change a byte of the file."""
        with (self.path / "data.mdb").open("r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ mask]))

    def flip_payload(self, name: str) -> None:
        entry = self.entry(name)
        self.flip(entry.page * 4096 + 16 + entry.offset + entry.nbytes // 2)

    def edit(self, database: str, key: bytes, change: Callable[[bytes], bytes | None]) -> None:
        """Change a record as LMDB keeps it: None deletes it."""
        with lmdb.open(str(self.path), max_dbs=6, map_size=1 << 30) as env:
            handle = env.open_db(database.encode(), create=False)
            with env.begin(write=True, db=handle) as txn:
                value = change(txn.get(key, b""))
                if value is None:
                    txn.delete(key)
                else:
                    txn.put(key, value)

    def edit_index(self, name: str, at: int, layout: str, value: Any) -> None:
        key = struct.pack(">I", 1) + name.encode()
        self.edit(
            "index", key, lambda old: old[:at] + struct.pack(layout, value) + old[at + struct.calcsize(layout) :]
        )  # fmt: skip

    def edit_record(self, **changes: Any) -> None:
        self.edit(
            "views", PATH.encode(), lambda old: json.dumps(json.loads(old) | changes).encode()
        )

    def compact(self) -> None:
        with merstore.open(self.path, "a") as store:
            store.compact()


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path / "store.mer")


IN_A = {"a0", "a1", "a2", "a4", "a5", "a6"}


def test_a_sound_store_tells_how_far_it_is(patient: Patient) -> None:
    seen: list[tuple[int, int]] = []
    with merstore.open(patient.path) as store:
        assert store.verify(lambda done, total: seen.append((done, total))) == []
        payload = store.stats()["payload_bytes"]
    assert seen == sorted(seen)
    assert seen[-1] == (payload, payload)


@pytest.mark.parametrize("io", ["map", "pread"])
def test_an_empty_store(tmp_path: Path, io: str) -> None:
    with merstore.open(tmp_path / "s.mer", "a", io=io) as store:
        assert store.verify() == []
        store.create_view(PATH, shape=(3,))
        assert store.verify() == []


def test_it_looks_at_the_latest_state(patient: Patient) -> None:
    with merstore.open(patient.path) as reader, merstore.open(patient.path, "a") as writer:
        assert len(reader[PATH]) == 13
        writer[PATH]["new"] = np.ones(SIZE, "f4")
        done = []
        assert reader.verify(lambda *at: done.append(at)) == []
        assert done[-1][1] == writer.stats()["payload_bytes"]


class TestPayload:
    def test_a_changed_payload(self, patient: Patient) -> None:
        patient.flip_payload("b2")
        (problem,) = patient.problems()
        assert (problem.view, problem.name, problem.kind) == (PATH, "b2", "checksum")
        assert "compute or import it again" in problem.message

    def test_is_refused_where_reads_are_checked(self, patient: Patient) -> None:
        patient.flip_payload("b2")

        def refused(read: Callable[[View], object]) -> None:
            for io in ("map", "pread"):
                with merstore.open(patient.path, checksum=True, io=io) as store:
                    with pytest.raises(CorruptEntry, match=f"{PATH}/b2"):
                        read(store[PATH])
                    assert store[PATH]["b1"][0] == 2
                    assert (store[PATH].gather(["b1", "b3"])[:, 0] == [2, 4]).all()

        refused(lambda view: view["b2"])
        refused(lambda view: view.gather(["b1", "b2"]))
        refused(lambda view: view.gather(["b1", "b2", "x"], on_miss="mask"))
        refused(lambda view: view.gather(["x", "b2"], on_miss="skip"))
        refused(lambda view: view.select().gather(range(len(view))))

    def test_a_changed_sequence_is_refused_too(self, patient: Patient) -> None:
        entry = patient.entry("3", RAGGED)
        patient.flip(entry.page * 4096 + 16 + entry.offset)
        with merstore.open(patient.path, checksum=True) as store:
            view = store[RAGGED]
            for read in (
                lambda: view.gather(["1", "3"]),
                lambda: view.select(["1", "x", "3"]).padded([0, 1, 2], on_miss="mask"),
                lambda: view.select(["1", "x", "3"]).padded([0, 1, 2], on_miss="skip"),
            ):
                with pytest.raises(CorruptEntry, match=f"{RAGGED}/3"):
                    read()

    def test_it_can_be_written_anew(self, patient: Patient) -> None:
        patient.flip_payload("b2")
        patient.flip_payload("b3")
        with merstore.open(patient.path, "a") as store:
            store[PATH]["b2"] = np.ones(SIZE, "f4")
            del store[PATH]["b3"]
        assert patient.problems() == []


class TestLocators:
    def test_another_page(self, patient: Patient) -> None:
        """The block's other entries are not blamed, whichever comes first."""
        for name in ("a0", "b6"):
            right = patient.entry(name).page
            patient.edit_index(name, 32, "<Q", right + 1)
            assert patient.found() == {("locator", name)}
            patient.edit_index(name, 32, "<Q", right)

    def test_a_page_outside_the_file(self, patient: Patient) -> None:
        patient.edit_index("b2", 32, "<Q", 1 << 60)
        assert patient.found() == {("locator", "b2")}

    def test_all_pages_of_another_block(self, patient: Patient) -> None:
        for name in IN_A:
            patient.edit_index(name, 32, "<Q", patient.entry("b1").page)
        problems = patient.problems()
        assert {(p.kind, p.name) for p in problems} == {("block", name) for name in IN_A}
        assert all("it is block" in p.message for p in problems)

    def test_all_pages_outside_the_file(self, patient: Patient) -> None:
        for name in IN_A:
            patient.edit_index(name, 32, "<Q", 1 << 40)
        found = patient.found()
        assert found == {("block", name) for name in IN_A}

    def test_the_offset_of_another_entry(self, patient: Patient) -> None:
        patient.edit_index("b2", 40, "<I", patient.entry("b1").offset)
        assert patient.found() == {("locator", "b2")}

    def test_another_block(self, patient: Patient) -> None:
        patient.edit_index("b2", 24, "<Q", patient.entry("a1").block)
        assert ("locator", "b2") in patient.found()

    def test_a_block_that_is_not_there(self, patient: Patient) -> None:
        patient.edit_index("b2", 24, "<Q", 99)
        assert ("locator", "b2") in patient.found()
        assert {name for _, name in patient.found()} <= {"b2", ""}

    def test_a_block_that_lmdb_does_not_know_any_more(self, patient: Patient) -> None:
        """Its bytes may still lie there; the next writer takes the pages."""
        block = patient.entry("a1").block
        patient.edit("blocks", struct.pack(">IQ", 1, block), lambda _: None)
        assert {("locator", name) for name in IN_A} <= patient.found()

    @pytest.mark.parametrize(
        ("at", "layout", "value"),
        [(1, "<B", 7), (3, "<B", 2), (16, "<Q", 1), (48, "<I", SIZE // 2)],
        ids=["dtype", "flags", "checksum", "shape"],
    )
    def test_what_the_block_says_otherwise(
        self, patient: Patient, at: int, layout: str, value: int
    ) -> None:
        patient.edit_index("b2", at, layout, value)
        assert {name for _, name in patient.found()} == {"b2"}


class TestBlocks:
    def test_a_header_that_is_none(self, patient: Patient) -> None:
        patient.flip(patient.start("a"))
        assert patient.found() == {("block", name) for name in IN_A}

    @pytest.mark.parametrize("at", [12, 20, 32, 44, 56, 70, 200], ids=str)
    def test_a_damaged_header_says_that_the_entries_are_intact(
        self, patient: Patient, at: int
    ) -> None:
        patient.flip(patient.start("a") + at)
        problems = patient.problems()
        assert {(p.kind, p.name) for p in problems} == {("block", name) for name in IN_A}
        assert all("intact" in p.message for p in problems)

    def test_compaction_writes_it_anew(self, patient: Patient) -> None:
        patient.flip(patient.start("a") + 70)
        patient.compact()
        assert patient.problems() == []

    def test_a_damaged_entry_in_a_damaged_block(self, patient: Patient) -> None:
        patient.flip(patient.start("a") + 70)
        patient.flip_payload("a1")
        messages = {p.name: p.message for p in patient.problems()}
        assert messages.keys() == IN_A
        assert {name for name in IN_A if "intact" in messages[name]} == IN_A - {"a1"}
        patient.compact()
        assert patient.found() == {("checksum", "a1")}

    def test_its_entries_can_be_replaced(self, patient: Patient) -> None:
        patient.flip(patient.start("a"))
        with merstore.open(patient.path, "a") as store:
            store[PATH].update({name: np.ones(SIZE, "f4") for name in IN_A})
            assert (store[PATH].gather(sorted(IN_A)) == 1).all()
            store.compact()
        assert patient.problems() == []

    def test_a_block_that_nobody_needs(self, patient: Patient) -> None:
        block = patient.entry("a1").block
        with Reference(patient.path) as reader:
            raw = reader.blocks(PATH)[block].raw
        patient.edit("blocks", struct.pack(">IQ", 1, 77), lambda _: raw)
        problems = patient.problems()
        assert {(p.kind, p.name) for p in problems} == {("block", ""), ("counter", "")}
        assert any("block 77" in p.message and "compact" in p.message for p in problems)
        patient.compact()
        assert patient.problems() == []


class TestIndex:
    @pytest.mark.parametrize(
        "change",
        [
            lambda old: b"",
            lambda old: old[:71],
            lambda old: b"\x07" + old[1:],
            lambda old: b"\x02" + old[1:],
            lambda old: old[:2] + b"\x09" + old[3:],
            lambda old: old[:44] + bytes(4) + old[48:],
        ],
        ids=["empty", "short", "status", "failure without reason", "dimensions", "no bytes"],
    )
    def test_an_entry_that_is_neither_tensor_nor_failure(
        self, patient: Patient, change: Callable[[bytes], bytes]
    ) -> None:
        patient.edit("index", struct.pack(">I", 1) + b"b2", change)
        assert patient.found() == {("index", "b2")}
        with merstore.open(patient.path, "a") as store:
            with pytest.raises(CorruptEntry, match="b2"):
                store[PATH]["b2"]
            with pytest.raises(CorruptEntry, match="b2"):
                store[PATH].gather(["b1", "b2"], on_miss="mask")
            with pytest.raises(CorruptEntry, match="b2"):
                store.compact()
            assert store[PATH].gather(["b1", "b3"])[:, 0].tolist() == [2, 4]
            store[PATH]["b2"] = np.ones(SIZE, "f4")
            assert store[PATH]["b2"][0] == 1

    def test_a_damaged_failure(self, patient: Patient) -> None:
        patient.edit("index", struct.pack(">I", 1) + b"f", lambda old: old[:-5])
        assert patient.found() == {("index", "f")}
        with merstore.open(patient.path) as store, pytest.raises(CorruptEntry):
            store[PATH]["f"]

    def test_an_unknown_run(self, patient: Patient) -> None:
        patient.edit_index("b2", 4, "<I", 1000)
        assert patient.found() == {("index", "b2")}

    def test_a_missing_one(self, patient: Patient) -> None:
        """Nothing points at its payload: it is as dead as a deleted one, only that nobody counted it."""
        patient.edit("index", struct.pack(">I", 1) + b"b2", lambda _: None)
        assert patient.found() == {("counter", "")}
        with merstore.open(patient.path) as store, pytest.raises(MissingEntry):
            store[PATH]["b2"]


class TestRecords:
    @pytest.mark.parametrize("field", ["entries", "failures", "bytes", "blocks"])
    def test_a_wrong_counter(self, patient: Patient, field: str) -> None:
        patient.edit_record(**{field: 1000})
        (problem,) = patient.problems()
        assert (problem.kind, problem.view, problem.name) == ("counter", PATH, "")
        assert "1000" in problem.message
        patient.compact()
        assert patient.problems() == []

    @pytest.mark.parametrize("value", [None, b"2 240000", b"1 7", b"x", b""])
    def test_a_wrong_count_of_dead_entries(self, patient: Patient, value: bytes | None) -> None:
        block = patient.entry("a1").block
        patient.edit("meta", f"dead/00000001/{block:016x}".encode(), lambda _: value)
        assert patient.found() == {("counter", "")}
        patient.compact()
        assert patient.problems() == []

    def test_a_count_for_a_block_that_is_not_there(self, patient: Patient) -> None:
        patient.edit("meta", b"dead/00000001/0000000000000063", lambda _: b"1 120000")
        assert patient.found() == {("counter", "")}

    def test_a_spec_that_was_changed(self, patient: Patient) -> None:
        patient.edit_record(spec={"n": 16})
        assert patient.found() == {("record", "")}

    def test_a_record_that_is_none(self, patient: Patient) -> None:
        patient.edit("views", PATH.encode(), lambda old: old[:-10])
        problems = patient.problems()
        assert ("record", PATH) in {(p.kind, p.view) for p in problems}

    @pytest.mark.parametrize("key", [b"next_view", b"next_run"])
    @pytest.mark.parametrize("value", [b"1", b"", b"many", b"-5"])
    def test_a_number_that_would_be_given_twice(
        self, patient: Patient, key: bytes, value: bytes
    ) -> None:
        patient.edit("meta", key, lambda _: value)
        (problem,) = patient.problems()
        assert problem.kind == "record"
        assert key.decode() in problem.message

    @pytest.mark.parametrize("database", ["index", "blocks"])
    def test_records_of_a_view_that_is_not_there(self, patient: Patient, database: str) -> None:
        for number in (3, 1 << 20):
            patient.edit(database, struct.pack(">IQ", number, 1), lambda _: bytes(5000))
        problems = patient.problems()
        assert [p.kind for p in problems] == ["orphan", "orphan"]
        assert [
            f"view number {n}" in p.message for n, p in zip((3, 1 << 20), problems, strict=True)
        ]
        patient.compact()
        assert patient.problems() == []


def test_pages_of_lmdb_itself(patient: Patient) -> None:
    """A leaf page whose own number is wrong."""
    data = (patient.path / "data.mdb").read_bytes()
    leaves = [
        at for at in range(8192, len(data), 4096)
        if data[at : at + 8] == struct.pack("<Q", at // 4096) and data[at + 10 : at + 12] == b"\x02\x00"
    ]  # fmt: skip
    assert leaves
    patient.flip(leaves[-1], 0x55)
    assert {problem.kind for problem in patient.problems()} == {"structure"}


@pytest.fixture
def problems_of_all_kinds(patient: Patient) -> list[Problem]:
    patient.flip_payload("b2")
    patient.edit_index("b3", 4, "<I", 1000)
    patient.edit_index("a1", 40, "<I", 4080 + 64)
    patient.edit_record(entries=99)
    return patient.problems()


def test_several_problems_at_once(problems_of_all_kinds: list[Problem]) -> None:
    found = {(p.kind, p.name) for p in problems_of_all_kinds}
    assert found == {("checksum", "b2"), ("index", "b3"), ("locator", "a1"), ("counter", "")}

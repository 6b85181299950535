"""Any sequence of writes, refreshes, reopenings, compactions and forks, by several Store objects at once,
against a model: what each of them sees, what it does not see yet, and arrays that must never change.
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from reference import Reference
from strategies import IN_MEMORY, Declaration, Entry, bits, same

import merstore
from merstore import InvalidTensor, MissingEntry, SpecMismatch, StoreBusy, UnknownView, View
from merstore.store import writer as writing

PATHS = ("mer2023/frame@CLIP/8frms", "mer2023/audio@HUBERT/FRA", "sims/text@bert/UTT")
NAMES = ("a", "b", "c", "sample_00000001", "é" * 200, "x" * 400)
DECLARATIONS = (
    Declaration("float32", (8, 4)),
    Declaration("float16", (None, 64)),
    Declaration("bfloat16", (None, 3)),
    Declaration("int64", ()),
    Declaration("float64", (None, 100)),  # some entries larger than a (small) block
)

paths = st.sampled_from(PATHS)
names = st.sampled_from(NAMES)
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Contents:
    """A view, as it must be. ``identity`` tells it from one of the same path before or after it."""

    identity: int
    declared: Declaration
    tensors: dict[str, Entry] = field(default_factory=dict)
    failures: dict[str, tuple[str, int]] = field(default_factory=dict)  # kind, attempts

    def copy(self) -> "Contents":
        return Contents(self.identity, self.declared, dict(self.tensors), dict(self.failures))

    def put(self, name: str, entry: Entry) -> None:
        self.tensors[name] = entry
        self.failures.pop(name, None)

    def fail(self, name: str, kind: str) -> None:
        if name not in self.tensors:
            _, attempts = self.failures.get(name, ("", 0))
            self.failures[name] = (kind, attempts + 1)

    def delete(self, name: str) -> None:
        self.tensors.pop(name, None)
        self.failures.pop(name, None)


State = dict[str, Contents]


def made_up(declared: Declaration, seed: int) -> Entry:
    shape = (1 + seed % 20, *declared.row_shape) if declared.ragged else declared.row_shape
    return Entry(declared.dtype, bits(declared.dtype, shape, seed))


class Opened:
    """A Store, with the views and selections that it once gave out: used for as long as it is open."""

    def __init__(self, path: Path, mode: str, options: dict[str, Any]) -> None:
        self.store = merstore.open(path, mode, **options)
        self.views: dict[str, tuple[View, merstore.Selection]] = {}
        self.seen: State | None = None  # None: the next look is a fresh one

    def view(self, path: str) -> tuple[View, merstore.Selection]:
        if path not in self.views:
            view = self.store[path]
            self.views[path] = view, view.select(NAMES)
        return self.views[path]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.path = self.folder / "store.mer"
        self.now: State = {}  # what is committed
        self.identities = 0
        self.opened: list[Opened] = []
        self.held: list[tuple[np.ndarray, bytes, bool]] = []  # what, bytes, whether over the map
        self.constants = (writing.BLOCK_BYTES, writing.TABLE_BYTES, writing.MERGE_BYTES)

    @initialize(small=st.booleans())
    def start(self, small: bool) -> None:
        if small:  # the same code with more blocks: entries larger than one, full tables, merges
            writing.BLOCK_BYTES, writing.TABLE_BYTES, writing.MERGE_BYTES = 8192, 900, 6500
        self.opened = [Opened(self.path, "a", {})]

    def teardown(self) -> None:
        try:
            if self.opened:
                self.opened[0].store.refresh()
                assert self.opened[0].store.verify() == []
                check_reference(self.path, self.now)
        finally:
            for opened in self.opened:
                opened.store.close()
            self.held.clear()
            self.opened.clear()
            writing.BLOCK_BYTES, writing.TABLE_BYTES, writing.MERGE_BYTES = self.constants
            shutil.rmtree(self.folder)

    # ---- writing

    @property
    def writer(self) -> Opened:
        return self.opened[0]

    @rule(path=paths, declared=st.sampled_from(DECLARATIONS))
    def create(self, path: str, declared: Declaration) -> None:
        create = self.writer.store.create_view
        options: dict[str, Any] = {
            "dtype": declared.dtype,
            "shape": declared.shape,
            "nonfinite": "flag",
            "exist_ok": True,
        }
        before = self.now.get(path)
        if before is not None and before.declared != declared:
            with pytest.raises(SpecMismatch):
                create(path, **options)
            self.writer.seen = None
            return
        create(path, **options)
        self.writer.seen = None
        if before is None:
            self.identities += 1
            self.now[path] = Contents(self.identities, declared)

    def there(self, path: str) -> Contents | None:
        """The view as it is now; where it is not, its absence is checked."""
        self.look(self.writer)
        if path not in self.now:
            assert path not in self.writer.store
            with pytest.raises(UnknownView):
                self.writer.store[path]
        return self.now.get(path)

    @rule(path=paths, name=names, seed=seeds)
    def put(self, path: str, name: str, seed: int) -> None:
        if contents := self.there(path):
            entry = made_up(contents.declared, seed)
            self.writer.view(path)[0][name] = entry.value
            contents.put(name, entry)
            self.writer.seen = None

    @rule(path=paths, chosen=st.dictionaries(names, seeds))
    def update(self, path: str, chosen: dict[str, int]) -> None:
        if contents := self.there(path):
            found = {name: made_up(contents.declared, seed) for name, seed in chosen.items()}
            self.writer.view(path)[0].update({name: e.value for name, e in found.items()})
            for name, entry in found.items():
                contents.put(name, entry)
            if found:
                self.writer.seen = None

    @rule(path=paths, name=names)
    def delete(self, path: str, name: str) -> None:
        if contents := self.there(path):
            view, _ = self.writer.view(path)
            if name in contents.tensors or name in contents.failures:
                del view[name]
                contents.delete(name)
                self.writer.seen = None
            else:
                with pytest.raises(MissingEntry):
                    del view[name]

    @rule(path=paths, name=names, kind=st.sampled_from(["no_face", "decode_error"]))
    def fail(self, path: str, name: str, kind: str) -> None:
        if contents := self.there(path):
            self.writer.view(path)[0].fail(name, kind, "so it is: \udcff ü")
            contents.fail(name, kind)
            self.writer.seen = None

    @rule(
        chosen=st.lists(
            st.tuples(
                st.sampled_from(["put", "put", "fail", "delete", "commit"]), paths, names, seeds
            ),
            max_size=12,
        ),
        dropped=st.booleans(),
    )
    def transaction(self, chosen: list[tuple[str, str, str, int]], dropped: bool) -> None:
        """Several views at once; dropped half-way by an exception, what was not committed is gone."""
        self.look(self.writer)
        state = {path: contents.copy() for path, contents in self.now.items()}
        committed = self.now
        with contextlib.suppress(ZeroDivisionError), self.writer.store.writer() as writer:
            for what, path, name, seed in chosen:
                if what == "commit":
                    writer.commit()
                    committed = {path: contents.copy() for path, contents in state.items()}
                    self.writer.seen = None
                    self.look(self.writer, committed)
                if path not in state:
                    continue
                view, _ = self.writer.view(path)
                if what == "put":
                    entry = made_up(state[path].declared, seed)
                    writer.put(view, name, entry.value)
                    state[path].put(name, entry)
                elif what == "fail":
                    writer.fail(view, name, "no_audio", "")
                    state[path].fail(name, "no_audio")
                elif what == "delete":
                    writer.delete(view, name)
                    state[path].delete(name)
            if dropped:
                raise ZeroDivisionError
        self.now = committed if dropped else state
        self.writer.seen = None

    @rule(path=paths)
    def refused(self, path: str) -> None:
        """What is refused changes nothing."""
        if contents := self.there(path):
            view, _ = self.writer.view(path)
            wrong = np.zeros(
                (3, *contents.declared.row_shape, 2), contents.declared.dtype.removeprefix("b")
            )
            with pytest.raises(InvalidTensor):
                view["a"] = wrong

    @rule(path=paths)
    def drop(self, path: str) -> None:
        if self.there(path):
            self.writer.store.drop_view(path)
            del self.now[path]
            self.writer.seen = None

    @rule()
    def compact(self) -> None:
        """Refused while anybody else uses the store; otherwise nothing is seen of it."""
        self.look(self.writer)
        if any(over_the_map for *_, over_the_map in self.held) or len(self.opened) > 1:
            with pytest.raises(StoreBusy):
                self.writer.store.compact()
        else:
            self.writer.store.compact()
            stats = self.writer.store.stats()
            assert stats["dead_bytes"] == 0
            assert stats["payload_bytes"] == sum(
                entry.bits.nbytes for c in self.now.values() for entry in c.tensors.values()
            )
        self.writer.seen = None

    @rule(path=paths, name=names, seed=seeds)
    def fork(self, path: str, name: str, seed: int) -> None:
        """The child reads everything with the objects it inherits, and writes something."""
        contents = self.now.get(path)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for opened in self.opened:
                    opened.seen = None
                    self.look(opened)
                self.arrays_never_change()
                if contents is not None:
                    self.writer.view(path)[0][name] = made_up(contents.declared, seed).value
                    contents.put(name, made_up(contents.declared, seed))
                    self.writer.seen = None
                self.look(self.writer)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        if contents is not None:
            contents.put(name, made_up(contents.declared, seed))
        # the child's write is not seen before a refresh
        for opened in self.opened:
            if opened.seen is not None:
                self.look(opened)
            opened.store.refresh()
            opened.seen = None

    # ---- reading

    @precondition(lambda self: len(self.opened) < 4)
    @rule(mode=st.sampled_from("ra"), checksum=st.booleans(), io=st.sampled_from(["map", "pread"]))
    def open(self, mode: str, checksum: bool, io: str) -> None:
        self.opened.append(Opened(self.path, mode, {"checksum": checksum, "io": io}))

    @precondition(lambda self: len(self.opened) > 1)
    @rule(which=st.integers(1, 3))
    def close(self, which: int) -> None:
        opened = self.opened.pop(1 + which % (len(self.opened) - 1))
        opened.store.close()
        with pytest.raises(merstore.MerstoreError, match="closed"):
            opened.store.views()

    @rule()
    def close_all_and_open(self) -> None:
        """What is held meanwhile keeps its bytes, and the store its environment."""
        for opened in self.opened:
            opened.store.close()
        self.opened = [Opened(self.path, "a", {})]

    @rule(which=st.integers(0, 3))
    def refresh(self, which: int) -> None:
        opened = self.opened[which % len(self.opened)]
        opened.store.refresh()
        opened.seen = None

    @rule(which=st.integers(0, 3), path=paths, name=names)
    def hold(self, which: int, path: str, name: str) -> None:
        opened = self.opened[which % len(self.opened)]
        contents = self.look(opened).get(path)
        if contents is not None and name in contents.tensors:
            array = opened.view(path)[0][name]
            entry = contents.tensors[name]
            over_the_map = opened.store.io == "map" and entry.dtype != "bfloat16"
            self.held.append((array, entry.read.tobytes(), over_the_map))

    @rule()
    def let_go(self) -> None:
        self.held.clear()

    @rule(which=st.integers(0, 3))
    def read(self, which: int) -> None:
        self.look(self.opened[which % len(self.opened)])

    @rule(
        which=st.integers(0, 3),
        path=paths,
        rows=st.lists(st.integers(0, len(NAMES) - 1), max_size=8),
        by_name=st.booleans(),
    )
    def gather(self, which: int, path: str, rows: list[int], by_name: bool) -> None:
        opened = self.opened[which % len(self.opened)]
        contents = self.look(opened).get(path)
        if contents is None:
            return
        view, selection = opened.view(path)
        chosen = [NAMES[row] for row in rows]
        batch = (
            view.gather(chosen, on_miss="skip")
            if by_name
            else selection.gather(rows, on_miss="skip")
        )
        assert batch.mask.tolist() == [name in contents.tensors for name in chosen]
        expected = [contents.tensors[name].read for name in chosen if name in contents.tensors]
        assert len(batch) == len(expected)
        assert all(same(np.asarray(batch[i]), array) for i, array in enumerate(expected))

    def look(self, opened: Opened, now: State | None = None) -> State:
        """Everything that a Store sees, through the views it has given out."""
        if opened.seen is None:
            state = self.now if now is None else now
            opened.seen = {path: contents.copy() for path, contents in state.items()}
        seen = opened.seen
        assert opened.store.views() == sorted(seen)
        for path in PATHS:
            if path not in seen:
                if path in opened.views:  # given out before it was dropped
                    with pytest.raises(UnknownView):
                        len(opened.views[path][0])
                continue
            check_view(*opened.view(path), seen[path])
        return seen

    @invariant()
    def arrays_never_change(self) -> None:
        for array, content, _ in self.held:
            assert array.tobytes() == content
            assert not array.flags.writeable


def check_view(view: View, selection: merstore.Selection, contents: Contents) -> None:
    assert len(view) == len(contents.tensors)
    assert list(view) == sorted(contents.tensors, key=str.encode)
    failures = {f.name: (f.kind, f.attempts) for f in view.failures()}
    assert failures == contents.failures
    assert selection.present().tolist() == [name in contents.tensors for name in NAMES]
    for name, entry in contents.tensors.items():
        assert same(view[name], entry.read)
    assert view.missing(NAMES) == [
        name for name in NAMES if name not in contents.tensors and name not in contents.failures
    ]


def check_reference(path: Path, now: State) -> None:
    with Reference.copy(path) as reference:
        reference.check()
        assert reference.views().keys() == now.keys()
        for view, contents in now.items():
            arrays = reference.arrays(view)
            assert arrays.keys() == contents.tensors.keys()
            assert all(same(arrays[n], e.bits) for n, e in contents.tensors.items())
            failures = reference.failures(view)
            assert {n: (f["kind"], f["attempts"]) for n, f in failures.items()} == contents.failures
            rebuilt = reference.rebuild(view)  # deleted entries may come back, others must be there
            assert all(same(rebuilt[n], e.bits) for n, e in contents.tensors.items())


def test_any_sequence_of_operations() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )

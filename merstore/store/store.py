"""The store: views by path, over one shared environment."""

import contextlib
import difflib
import json
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from merstore.errors import (
    InvalidKey,
    MerstoreError,
    ReadOnlyStore,
    SpecMismatch,
    StaleView,
    StoreExists,
    UnknownView,
)
from merstore.store import compact, dtypes, filesystem, legacy, sharing, spec, verify
from merstore.store.entry import Failure, now
from merstore.store.environment import Environment
from merstore.store.keys import check_alias, parse_view
from merstore.store.layout import FORMAT
from merstore.store.quality import Qualities, read_qualities
from merstore.store.record import NONFINITE_RULES, ZERO_RULES, ViewRecord
from merstore.store.snapshot import Snapshot
from merstore.store.view import View
from merstore.store.writer import Writer

DROP_CHUNK = 20_000  # index entries deleted in one transaction


def open_store(
    path: "str | os.PathLike[str]",
    mode: str = "r",
    *,
    checksum: bool = False,
    io: str = "map",
    durability: str = "full",
    force: bool = False,
    map_size: int | None = None,
) -> "Store":
    """Open a store: a directory with ``data.mdb`` in it.

    mode: ``"r"`` read; ``"a"`` read and write, created if missing; ``"w"`` new, refuses to touch
    one that exists.
    checksum: verify every entry that is read. io: ``"map"``, or ``"pread"`` where a mapping is
    unsafe.
    durability: ``"full"`` syncs every commit; ``"fast"`` does not, for stores that can be computed
    again.
    force: write on a network filesystem all the same. map_size: an upper limit in bytes for the
    file (1 TiB of address space by default).

    Raises NotAStore, NewerFormat, StoreExists, ReadOnlyStore, UnsafeFilesystem, CorruptStore,
    StoreBusy.
    """
    return Store(
        path, mode, checksum=checksum, io=io, durability=durability, force=force, map_size=map_size
    )


class Store(Mapping[str, View]):
    """Views by path. May be open any number of times, in threads and in forked or spawned
    processes.

    A Store reads from one snapshot, taken when it first reads; ``refresh()`` and its own writes
    move it on.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        mode: str = "r",
        *,
        checksum: bool = False,
        io: str = "map",
        durability: str = "full",
        force: bool = False,
        map_size: int | None = None,
    ) -> None:
        if mode not in ("r", "a", "w"):
            raise MerstoreError(f'mode is "r", "a" or "w", not {mode!r}')
        if io not in ("map", "pread"):
            raise MerstoreError(f'io is "map" or "pread", not {io!r}')
        self.path = Path(path)
        self.mode = mode
        self.checksum = checksum
        self.io = io
        self._options = {
            "checksum": checksum,
            "io": io,
            "durability": durability,
            "force": force,
            "map_size": map_size,
        }
        self._environment: Environment | None = None
        self._snapshot: Snapshot | None = None
        self._taken = 0.0
        self._kept: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        if mode == "w" and (self.path / "data.mdb").exists():
            raise StoreExists(
                f'{self.path} is a store already: open it with mode "a", or choose another path'
            )
        self._environment = sharing.acquire(
            self.path,
            self,
            create=mode != "r",
            write=mode != "r",
            durability=durability if mode != "r" else "full",
            force=force,
            map_size=map_size,
        )

    # -- snapshots

    @property
    def environment(self) -> Environment:
        if self._environment is None:
            raise MerstoreError(f"the store {self.path} is closed: open it again")
        return self._environment

    def snapshot(self) -> Snapshot:
        """The snapshot that this store reads from."""
        snapshot = self._snapshot
        if snapshot is None or not snapshot.alive:
            snapshot = self._snapshot = self.environment.snapshot()
            self._taken = time.monotonic()
        return snapshot

    def refresh(self) -> None:
        """See what has been committed since, here and by other processes. Arrays taken before keep
        what they hold.
        """
        self.let_go()

    def let_go(self) -> None:
        self._snapshot = None
        for kept in self._holders():
            kept.let_go()

    def after_fork(self) -> None:
        for kept in self._holders():
            kept.after_fork()

    def _keep(self, holder: Any) -> None:
        self._kept[id(holder)] = holder

    def _holders(self) -> list[Any]:
        # valuerefs() is a copy made at once: other threads may add while this is used
        return [holder for ref in self._kept.valuerefs() if (holder := ref()) is not None]

    # -- views

    def views(self) -> list[str]:
        """The paths of all views, sorted."""
        return [key.decode() for key, _ in self.snapshot().scan(b"views", values=False)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.views())

    def __len__(self) -> int:
        return len(self.views())

    def __contains__(self, path: object) -> bool:
        try:
            key = str(parse_view(path)).encode() if isinstance(path, str) else b""
        except InvalidKey:
            key = b""
        return bool(key) and self.snapshot().get(b"views", key) is not None

    def __getitem__(self, path: str) -> View:
        parse_view(path)
        self._record(path, self.snapshot())
        return View(self, path)

    def view(self, path: str, spec: Mapping[str, Any] | None = None) -> View:
        """The view at ``path``. With ``spec``, StaleView is raised where the stored one was
        computed under another.
        """
        view = self[path]
        if spec is not None:
            self._compare(path, view.record, spec, StaleView)
        return view

    def _record(self, path: str, snapshot: Snapshot) -> ViewRecord:
        value = snapshot.get(b"views", path.encode())
        if value is None:
            near = difflib.get_close_matches(path, self.views(), 3)
            hint = f"; near: {', '.join(near)}" if near else " (`merstore ls` lists what is there)"
            raise UnknownView(f"{self.path} has no view {path}{hint}")
        return ViewRecord.unpack(path, value)

    def create_view(
        self,
        path: str,
        *,
        dtype: Any = "float32",
        shape: tuple[int | None, ...] = (),
        spec: Mapping[str, Any] | None = None,
        alias: str | None = None,
        nonfinite: str = "refuse",
        zeros: str = "flag",
        exist_ok: bool = False,
    ) -> View:
        """Declare a view. ``shape`` is an entry's, with None first where that varies; ``spec`` says
        what it is (JSON values).

        nonfinite: ``"refuse"`` or ``"flag"`` NaN and Inf. zeros: ``"flag"`` or ``"refuse"`` rows
        that are zero throughout.
        exist_ok: an existing view of the same declaration is returned; of another, SpecMismatch
        shows both.
        """
        self._writable()
        parse_view(path)
        if alias is not None:
            check_alias(alias)
        declared = ViewRecord(
            number=0,
            dtype=dtypes.NAMES[dtypes.code_of(dtype)],
            shape=_spec.check_shape(shape),
            spec=json.loads(_spec.canonical(spec or {})),
            fingerprint=_spec.fingerprint(spec or {}),
            alias=alias,
            nonfinite=_one_of("nonfinite", nonfinite, NONFINITE_RULES),
            zeros=_one_of("zeros", zeros, ZERO_RULES),
        )
        env = self.environment
        try:
            with env.transaction() as txn:
                existing = txn.get(path.encode(), db=env.databases[b"views"])
                if existing is not None:
                    record = ViewRecord.unpack(path, bytes(existing))
                    if not exist_ok:
                        raise SpecMismatch(
                            f"{path} exists already: open it with store[path], or drop it first"
                        )
                    self._compare(path, record, declared.spec, SpecMismatch)
                    if (record.dtype, record.shape) != (declared.dtype, declared.shape):
                        raise SpecMismatch(
                            f"{path} exists with {record.shape} {record.dtype}, not {declared.shape} {declared.dtype}"
                        )
                else:
                    meta = env.databases[b"meta"]
                    declared.number = int(bytes(txn.get(b"next_view", db=meta)))
                    declared.created = declared.updated = now()
                    txn.put(b"next_view", str(declared.number + 1).encode(), db=meta)
                    txn.put(path.encode(), declared.pack(), db=env.databases[b"views"])
        finally:
            self.refresh()
        return View(self, path)

    def _compare(
        self, path: str, record: ViewRecord, spec: Mapping[str, Any], error: type[MerstoreError]
    ) -> None:
        wanted = _spec.fingerprint(spec)
        if record.fingerprint != wanted:
            lines = "; ".join(_spec.differences(record.spec, json.loads(_spec.canonical(spec))))
            raise error(
                f"{path} was computed under another spec: stored {record.fingerprint[:12]}, "
                f"asked for {wanted[:12]} ({lines}). "
                "Use another sampling or encoder name for the new one, or drop the view"
            )

    def drop_view(self, path: str) -> None:
        """Delete a view and all its entries. The space is used again; ``compact`` gives it back to
        the system.
        """
        self._writable()
        env = self.environment
        self.refresh()
        record = self[path].record
        with env.transaction() as txn:
            value = txn.get(path.encode(), db=env.databases[b"views"])
            if value is None or ViewRecord.unpack(path, bytes(value)).number != record.number:
                raise UnknownView(f"{path} was dropped by another process meanwhile")
            del value
            txn.delete(path.encode(), db=env.databases[b"views"])
        prefix = record.prefix
        dead = f"dead/{record.number:08x}/".encode()
        for name, start, chunk in (
            (b"leases", prefix, DROP_CHUNK),
            (b"index", prefix, DROP_CHUNK),
            (b"blocks", prefix, 64),
            (b"meta", dead, DROP_CHUNK),
        ):
            more = True
            while more:
                with env.transaction() as txn:
                    more = _delete_some(txn, env.databases[name], start, chunk)
        self.refresh()

    def resolve(self, folder: str, dataset: str | None = None) -> str:
        """The path of the view that a legacy folder name stands for, in any role: by alias, else by
        the table of legacy names.

        Raises UnknownView (with near names), also where several datasets have such a view and none
        is named.
        """
        by_alias, by_name, aliases = [], [], []
        for key, value in self.snapshot().scan(b"views"):
            path = key.decode()
            alias = ViewRecord.unpack(path, value).alias
            where, tail = path.split("/", 1)
            if dataset not in (None, where):
                continue
            name = legacy.folder_name(tail)
            aliases += [known for known in (alias, name) if known]
            if folder == alias:
                by_alias.append(path)
            elif folder in (name, tail):
                by_name.append(path)
        found = by_alias or by_name
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownView(
                f"folder {folder!r} is ambiguous, name the dataset: {', '.join(found)}"
            )
        near = difflib.get_close_matches(folder, dict.fromkeys(aliases), 3)
        raise UnknownView(
            f"{self.path} has no view for folder {folder!r}"
            + (f"; near: {', '.join(near)}" if near else "")
        )

    # -- writing

    def writer(self, max_bytes: int = 64 << 20, max_seconds: float = 5.0) -> Writer:
        """Collects entries and commits them together; see Writer. Use it in a ``with`` block."""
        self._writable()
        return Writer(self.environment, self.refresh, max_bytes, max_seconds, behind=True)

    def _writable(self) -> None:
        if self.mode == "r":
            raise ReadOnlyStore(f'{self.path} is open for reading: open it with mode "a" to write')

    # -- what is known

    @property
    def uuid(self) -> str:
        return (self.snapshot().get(b"meta", b"uuid") or b"").decode()

    def notes(self, kind: str) -> dict[str, str]:
        """The notes of a kind, such as ``"profile"``, by name."""
        prefix = f"{kind}:".encode()
        found = self.snapshot().scan(b"meta", prefix)
        return {key.decode(): value.decode() for key, value in found}

    def note(self, kind: str, name: str, text: str) -> None:
        """Keep a text with the store, in the place of an earlier one. No reader depends on notes."""
        self._writable()
        env = self.environment
        with env.transaction() as txn:
            txn.put(f"{kind}:{name}".encode(), text.encode(), db=env.databases[b"meta"])
        self.refresh()

    def failures(self, view_path: str, kind: str | None = None) -> list[Failure]:
        """Failure records of a view, all or of one kind."""
        return self[view_path].failures(kind)

    def quality(self, dataset: str, *, flags: Iterable[str] = ()) -> Qualities:
        """What is odd about the samples of a dataset, as it was recorded when they were read;
        with `flags`, of the samples that have any of them.

        Raises UnknownView where nothing was recorded, MerstoreError for an unknown flag.
        """
        found = read_qualities(self, dataset)
        return found.only(*flags) if flags else found

    def stats(self) -> dict[str, Any]:
        """Counters and facts, as JSON values: sizes in bytes, ages in seconds."""
        env = self.environment
        snapshot = self.snapshot()
        records = [ViewRecord.unpack(key.decode(), value) for key, value in snapshot.scan(b"views")]
        dead = [int(value.split()[1]) for _, value in snapshot.scan(b"meta", b"dead/")]
        info = env.handle().info()
        file_bytes = env.map.size()
        payload = sum(record.nbytes for record in records)
        return {
            "path": str(self.path),
            "format": FORMAT,
            "uuid": self.uuid,
            "creator": (snapshot.get(b"meta", b"creator") or b"").decode(),
            "views": len(records),
            "entries": sum(record.entries for record in records),
            "failures": sum(record.failures for record in records),
            "blocks": sum(record.blocks for record in records),
            "payload_bytes": payload,
            "dead_bytes": sum(dead),
            "file_bytes": file_bytes,
            "map_bytes": info["map_size"],
            "snapshot": snapshot.id,
            "snapshot_age": round(time.monotonic() - self._taken, 3),
            "last_transaction": info["last_txnid"],
            "readers": info["num_readers"],
            "durability": "fast" if snapshot.get(b"meta", b"durability") else "full",
            "filesystem": filesystem.kind_of(self.path),
            "locked": env.locked,
            "renumbered": env.renumbered,
        }

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[verify.Problem]:
        """Check every entry against its checksum and every record against the others.
        ``progress(bytes done, bytes in all)``.
        """
        self.refresh()
        snapshot = self.snapshot()
        damaged = verify.structure(self.environment)
        if damaged:  # such pages may lead LMDB itself astray, out of the file and into a crash
            return damaged
        return verify.verify(snapshot, self.io, progress)

    def compact(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Rewrite the file without dead bytes and free pages. Needs the store alone (StoreBusy
        otherwise) and room for a second copy.
        """
        self._writable()
        self.let_go()
        compact.compact(self.environment, progress)
        self.refresh()

    # -- closing

    def close(self) -> None:
        """Let go of the store. Arrays that were taken from it stay valid."""
        self.let_go()
        env, self._environment = self._environment, None
        if env is not None:
            sharing.release(env, self)

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_environment", None) is not None:
            with contextlib.suppress(Exception):  # at the end of the interpreter parts may be gone
                self.close()

    def __reduce__(self) -> Any:
        return _unpickle, (str(self.path), "r" if self.mode == "r" else "a", self._options)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<Store {self.path} mode={self.mode!r}{'' if self._environment else ' closed'}>"


_spec = spec  # the module, where an argument has its name


def _unpickle(path: str, mode: str, options: dict[str, Any]) -> Store:
    return Store(path, mode, **options)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise MerstoreError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
    return value


def _delete_some(txn: Any, database: Any, prefix: bytes, limit: int) -> bool:
    """Delete up to ``limit`` keys under ``prefix``; True if some may be left."""
    with txn.cursor(db=database) as cursor:
        if not cursor.set_range(prefix):
            return False
        for _ in range(limit):
            if not bytes(cursor.key()).startswith(prefix):
                return False
            if not cursor.delete():
                return False
    return True

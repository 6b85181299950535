"""Snapshots: one consistent state of the store, read through LMDB."""

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from merstore import _core
from merstore.errors import MerstoreError, StoreBusy
from merstore.store.layout import PAGE_OVERFLOW
from merstore.store.registry import guard

if TYPE_CHECKING:
    from merstore.store.environment import Environment


class Snapshot:
    """A read transaction: a consistent state of the store, whose pages LMDB leaves alone while this
    object lives.
    """

    def __init__(self, environment: "Environment", txn: Any) -> None:
        self.environment = environment
        self.id = txn.id()
        self._pages: dict[int, dict[int, int]] = {}
        self._held = held = [txn]  # until it ends
        # Not __del__: there a weak reference still leads to the object, and another thread could take
        # up a snapshot that is about to be closed.
        end = _core.Finalizer(lambda: end_transaction(environment, held))
        environment.reading[id(held)] = held, weakref.ref(self, end)

    @property
    def alive(self) -> bool:
        """False in a forked child, and after the store was closed: the transaction is gone, and
        with it the protection. Where there is no lock file, also after a commit: the writer knows
        of no readers, and his next commit may use the pages of this state.
        """
        if not self._held:
            return False
        return self.environment.locked or self.environment.last_commit() == self.id

    def check(self) -> None:
        """What was read just now is this state's. StoreBusy where that cannot be known."""
        if not self.environment.locked and not self.alive:
            raise StoreBusy(
                f"{self.environment.path} was written to while it was read, and lock.mdb cannot be written here, "
                "so that the writer did not wait: read again, or ask for permission to write lock.mdb"
            )

    def _transaction(self) -> Any:
        if not self._held:
            raise MerstoreError("this snapshot is closed: open the store again")
        self.environment.check_length()
        self.check()
        return self._held[0]

    def get(self, database: bytes, key: bytes) -> bytes | None:
        with guard, self.environment.errors:
            value: bytes | None = self._transaction().get(
                key, db=self.environment.databases[database]
            )
            self.check()
            return value

    def get_each(self, database: bytes, prefix: bytes, keys: list[bytes]) -> list[bytes | None]:
        with guard, self.environment.errors:
            get = self._transaction().get
            handle = self.environment.databases[database]
            try:
                values = [get(prefix + key, None, handle) for key in keys]
            finally:
                del get  # a traceback must not keep the transaction (see after_fork)
            self.check()
            return values

    def scan(
        self, database: bytes, prefix: bytes = b"", chunk: int = 10_000, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys (without ``prefix``) and values in order. No cursor is held between two chunks."""
        start: bytes = prefix
        while True:
            found: list[tuple[bytes, bytes]] = []
            with guard, self.environment.errors:
                cursor = self._transaction().cursor(db=self.environment.databases[database])
                items: Any = ()
                try:
                    if cursor.set_range(start):
                        items = cursor.iternext(keys=True, values=True)
                        for key, value in items:
                            if not key.startswith(prefix):
                                break
                            found.append((key, value if values else b""))
                            if len(found) == chunk:
                                break
                finally:
                    del cursor, items  # as in get_each
                self.check()
            size = len(prefix)
            for key, value in found:
                yield key[size:], value
            if len(found) < chunk:
                return
            start = found[-1][0] + b"\0"

    def between(self, database: bytes, first: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys whose view number is at least ``first`` and below ``end``, with empty values."""
        start: bytes = first.to_bytes(5, "big")[1:]
        while True:
            found: list[bytes] = []
            with guard, self.environment.errors:
                cursor = self._transaction().cursor(db=self.environment.databases[database])
                keys: Any = ()
                try:
                    if cursor.set_range(start):
                        keys = cursor.iternext(keys=True, values=False)
                        for key in keys:
                            if int.from_bytes(key[:4], "big") >= end or len(found) == 10_000:
                                break
                            found.append(key)
                finally:
                    del cursor, keys  # as in get_each
                self.check()
            for key in found:
                yield key, b""
            if len(found) < 10_000:
                return
            start = found[-1] + b"\0"

    def pages(self, view: int) -> dict[int, int] | None:
        """Block number to page for a view of a store whose pages were renumbered; None where
        locators hold.
        """
        if not self.environment.renumbered:
            return None
        if view not in self._pages:
            found = {}
            prefix = view.to_bytes(4, "big")
            env = self.environment
            with guard, env.errors:
                # buffers: the page number stands in front of the value in LMDB's own map
                txn = env.handle().begin(buffers=True)
                cursor = txn.cursor(db=env.databases[b"blocks"])
                try:
                    more = cursor.set_range(prefix)
                    while more and bytes(cursor.key()[:4]) == prefix:
                        page, flags = _core.page_of(cursor.value())
                        if flags & PAGE_OVERFLOW:
                            found[int.from_bytes(cursor.key()[4:], "big")] = page
                        more = cursor.next()
                finally:
                    cursor.close()
                    txn.abort()
                    del cursor, txn  # as in get_each
            self._pages[view] = found
        return self._pages[view]

    def close(self) -> None:
        end_transaction(self.environment, self._held)


def end_transaction(environment: "Environment", held: list[Any]) -> None:
    """End a snapshot's transaction, unless it has ended."""
    with guard:
        environment.reading.pop(id(held), None)
        if held:
            held.pop().abort()
            environment.shut_if_unused()

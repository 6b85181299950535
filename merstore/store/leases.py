"""Leases: the claim that keeps two processes from computing the same entry twice. A lease expires,
and ends with its process.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from merstore import _core
from merstore.store.entry import unpack_failure
from merstore.store.keys import sample_key
from merstore.store.view import View

if TYPE_CHECKING:
    from merstore.store.store import Store

SECONDS = 300.0
POLL_SECONDS = 0.2  # between two looks at what another process has claimed


class Claim(NamedTuple):
    """What became of the names asked for: ours to compute, computed meanwhile, or being computed by
    somebody else.
    """

    mine: list[str]
    done: list[str]
    busy: list[str]


class Owner:
    """One filler's identity in leases."""

    def __init__(self) -> None:
        self.fields = {
            "owner": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
        }

    def claim(
        self, view: View, names: Iterable[str], retry: Iterable[str] = (), seconds: float = SECONDS
    ) -> Claim:
        """Claim names for ``seconds``, in one transaction; leases of ours are renewed. A failure
        record counts as done unless its kind is in ``retry`` (``"all"``: any).

        Raises ReadOnlyStore where the view's store is open for reading.
        """
        (claim,) = self.claim_each([(view, names)], retry, seconds)
        return claim

    def claim_each(
        self,
        wanted: Sequence[tuple[View, Iterable[str]]],
        retry: Iterable[str] = (),
        seconds: float = SECONDS,
    ) -> list[Claim]:
        """The same for several views of one store, in one transaction."""
        if not wanted:
            return []
        store = wanted[0][0].store
        store._writable()
        env = store.environment
        retry = set(retry)
        lease = self.fields | {"seconds": seconds, "deadline": time.time() + seconds}
        value = json.dumps(lease).encode()
        prefixes = [view.record.prefix for view, _ in wanted]
        with env.transaction() as txn:
            return [
                self._claim(txn, env.databases, prefix, names, retry, value)
                for prefix, (_, names) in zip(prefixes, wanted, strict=True)
            ]

    def _claim(
        self,
        txn: Any,
        databases: Mapping[bytes, Any],
        prefix: bytes,
        names: Iterable[str],
        retry: set[str],
        value: bytes,
    ) -> Claim:
        claim = Claim([], [], [])
        index, leases = databases[b"index"], databases[b"leases"]
        for name in dict.fromkeys(names):
            key = prefix + sample_key(name)
            entry = txn.get(key, db=index)
            if entry is not None and not _again(bytes(entry), retry):
                claim.done.append(name)
                continue
            held = txn.get(key, db=leases)
            if held is not None and self._keeps_away(_unpack(held)):
                claim.busy.append(name)
                continue
            txn.put(key, value, db=leases)
            claim.mine.append(name)
        return claim

    def release(self, view: View, names: Iterable[str]) -> None:
        """Give up leases of ours (those of committed entries are gone already)."""
        env = view.store.environment
        prefix = view.record.prefix
        with env.transaction() as txn:
            leases = env.databases[b"leases"]
            for name in names:
                key = prefix + sample_key(name)
                held = txn.get(key, db=leases)
                if held is not None and _unpack(held).get("owner") == self.fields["owner"]:
                    txn.delete(key, db=leases)

    def _keeps_away(self, lease: dict[str, Any]) -> bool:
        """Whether a lease is somebody else's, not over, and its process not known to be gone."""
        try:
            if lease["owner"] == self.fields["owner"]:
                return False
            # a clock that was set back would make a lease endless
            if not 0 < lease["deadline"] - time.time() <= 2 * lease["seconds"]:
                return False
            here = lease["host"] == self.fields["host"] and lease["boot"] == self.fields["boot"]
            return not (here and _started(lease["pid"]) != lease["started"])
        except (KeyError, TypeError):
            return False


def _unpack(value: Any) -> dict[str, Any]:
    """A lease's fields; none where the record is damaged, which then holds nobody up."""
    try:
        fields = json.loads(bytes(value))
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _again(value: bytes, retry: set[str]) -> bool:
    """Whether an index entry is a failure that is to be tried again."""
    if value[0] == _core.TENSOR or not retry:
        return False
    failure = unpack_failure("", value)
    return failure is None or failure.kind in retry or "all" in retry


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this machine started, in its clock's ticks; None if there is none. Tells a
    process from a later one of the same number.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def await_commit(store: "Store") -> None:
    """Wait until anybody has committed, or it is time to see whether a lease has ended; refreshes."""
    before = store.snapshot().id
    deadline = time.monotonic() + POLL_SECONDS
    while time.monotonic() < deadline and store.snapshot().id == before:
        time.sleep(POLL_SECONDS / 10)
        store.refresh()

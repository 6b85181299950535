"""How a store lies in its LMDB environment: the databases, and its own records in ``meta``
(docs/format.md).
"""

import uuid
from pathlib import Path
from typing import Any

import lmdb

from merstore import _core
from merstore._version import __version__
from merstore.errors import CorruptStore, MerstoreError, NewerFormat, NotAStore
from merstore.store.entry import now
from merstore.store.lmdb_errors import Errors

FORMAT = 1
DATABASES = (b"meta", b"views", b"index", b"blocks", b"runs", b"leases")
CANARY = b"MERCANRY" + bytes(4072)
PAGE_OVERFLOW = 0x04
# LMDB's, which are the system's. On larger ones the canary and small blocks would lie among other
# values, on no page of their own.
PAGE_BYTES = 4096


def open_databases(handle: "lmdb.Environment", path: Path, create: bool) -> dict[bytes, Any]:
    """py-lmdb keeps handles of committed write transactions only, so this waits for a writer that
    is at work just now.
    """
    databases = {}
    try:
        with Errors(path):
            databases[b"meta"] = handle.open_db(b"meta", create=False)
            _check_format(handle, databases[b"meta"], path)
            for name in DATABASES[1:]:
                databases[name] = handle.open_db(name, create=False)
    except NotAStore:
        if not create:
            raise
        with Errors(path):
            return _initialise(handle, path)
    return databases


def _check_format(handle: "lmdb.Environment", meta: Any, path: Path) -> None:
    with handle.begin() as txn:
        value = txn.get(b"format", db=meta)
    if value is None:
        raise NotAStore(f"{path} holds an LMDB environment, but no merstore store")
    found = _number(path, "format", value)
    if found > FORMAT:
        raise NewerFormat(
            f"{path} is a store of format {found}; this is merstore {__version__}, which reads "
            f"format {FORMAT}: upgrade merstore"
        )


def _initialise(handle: "lmdb.Environment", path: Path) -> dict[bytes, Any]:
    with handle.begin(write=True, buffers=True) as txn:
        stat = txn.stat()
        empty = not stat["entries"]
        databases = {name: handle.open_db(name, txn=txn, create=empty) for name in DATABASES}
        meta = databases[b"meta"]
        if txn.get(b"format", db=meta) is not None:
            return databases  # another process was faster
        if not empty:
            raise NotAStore(
                f"{path} holds an LMDB environment of something else; choose another folder"
            )
        if stat["psize"] != PAGE_BYTES:
            raise MerstoreError(
                f"{path}: the system has pages of {stat['psize']:,} bytes, a store needs "
                f"{PAGE_BYTES:,}: make it on another machine"
            )
        txn.put(b"canary", CANARY, db=meta)
        canary = txn.get(b"canary", db=meta)
        assert canary is not None
        page, _ = _core.page_of(canary)
        del canary
        written = {
            "format": FORMAT,
            "uuid": uuid.uuid4(),
            "creator": f"merstore {__version__}",
            "created": now(),
            "next_view": 1,
            "next_run": 1,
            "canary_page": page,
            "last_txn": txn.id(),
        }
        for key, value in written.items():
            txn.put(key.encode(), str(value).encode(), db=meta)
    return databases


def is_renumbered(txn: Any, meta: Any, path: Path) -> bool:
    """Whether blocks lie elsewhere than the index says, by the canary."""
    canary = txn.get(b"canary", db=meta)
    page = _core.page_of(canary)[0] if canary is not None and len(canary) == len(CANARY) else -1
    del canary
    canary_page = _number(path, "canary_page", txn.get(b"canary_page", db=meta))
    last = _number(path, "last_txn", txn.get(b"last_txn", db=meta))
    return bool(page != canary_page or txn.id() < last)


def _number(path: Path, key: str, value: Any) -> int:
    text = bytes(value or b"")
    if not text.isdigit():
        raise CorruptStore(
            f"{path}: the store's own record {key!r} is damaged; restore it from a copy"
        )
    return int(text)

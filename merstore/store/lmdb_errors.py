"""LMDB's errors as ours, which name the store and say what to do."""

from pathlib import Path
from typing import Any

import lmdb

from merstore.errors import CorruptStore, MerstoreError, NotAStore, ReadOnlyStore, StoreFull
from merstore.store import filesystem


class Errors:
    """LMDB's errors leave a ``with`` block as ours, which name the store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, lmdb.Error):
            raise translate(error, self.path) from error


def translate(error: "lmdb.Error", path: Path) -> MerstoreError:
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(
            f"{path}: the map is full; nothing of this transaction was stored, everything before it is there. "
            "Open the store with a larger map_size"
        )
    # LMDB calls it an I/O error when only a part of what it writes finds room
    if (
        isinstance(error, lmdb.DiskError)
        or any(full in text for full in ("No space left", "Disk quota", "File too large"))
        or ("Input/output error" in text and filesystem.is_full(path))
    ):
        return StoreFull(
            f"{path}: no space left on the disk; nothing of this transaction was stored, all before it is there. "
            "Free some space and go on"
        )
    if isinstance(error, (lmdb.NotFoundError, lmdb.IncompatibleError)):
        return NotAStore(f"{path} holds an LMDB environment, but no merstore store")
    if isinstance(error, (lmdb.InvalidError, lmdb.VersionMismatchError)):
        return NotAStore(f"{path / 'data.mdb'} is not a merstore store (not an LMDB file: {text})")
    if isinstance(error, lmdb.ReadonlyError):
        return ReadOnlyStore(f"{path} cannot be opened: no permission")
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return CorruptStore(
            f"{path / 'data.mdb'} is damaged or cannot be written ({text}): run `merstore verify`; restore it from "
            "a copy where that finds anything"
        )
    return MerstoreError(f"{path}: {text}")

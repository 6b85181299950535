"""Every error that merstore raises on purpose. Each message names the key or file and says what to
do.

All are picklable as they are: the arguments of the constructor are the arguments of the exception.
"""

from collections.abc import Sequence
from typing import Any


class MerstoreError(Exception):
    """The parent of them all: ``except MerstoreError`` catches what merstore refuses or cannot do."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotAStore(MerstoreError):
    """The path holds no merstore store, or no readable one."""


class NewerFormat(MerstoreError):
    """The store was written by a later format than this version reads."""


class StoreExists(MerstoreError):
    """Mode ``"w"`` was asked for where a store already is."""


class ReadOnlyStore(MerstoreError):
    """A write through a store that was opened with mode ``"r"``, or lies where nothing can be
    written.
    """


class StoreBusy(MerstoreError):
    """The store is open elsewhere and the operation needs it alone, or opened here in another way."""


class StoreFull(MerstoreError):
    """The disk or the address space given to the store is full. What was committed before is there."""


class UnsafeFilesystem(MerstoreError):
    """Writing on a network filesystem, where LMDB's locks cannot be trusted."""


class CorruptStore(MerstoreError):
    """The file itself is damaged: cut short, or its own records contradict each other."""


class CorruptEntry(MerstoreError):
    """An entry's bytes are not those that were written (the checksum differs)."""


class InvalidKey(MerstoreError, ValueError):
    """A view path, sample name or folder name that the key rules refuse."""


class InvalidTensor(MerstoreError, ValueError):
    """An array that the store or the view's rules refuse: dtype, shape, size, NaN or Inf."""


class UnknownView(MerstoreError, KeyError):
    """No view of this path in the store."""


class MissingEntry(MerstoreError, KeyError):
    """Samples that are asked for and have no tensor in the view."""


class SpecMismatch(MerstoreError, ValueError):
    """A view exists already and is declared otherwise."""


class StaleView(MerstoreError):
    """The stored view was computed under another spec than the one asked for; it is never served."""


class MergeConflict(MerstoreError):
    """Stores that are to be joined hold different entries of a sample: ``conflicts`` says which."""

    def __init__(self, message: str, conflicts: Sequence[Any] = ()) -> None:
        super().__init__(message, conflicts)
        self.conflicts = conflicts


class EncoderError(MerstoreError):
    """An encoder that cannot be loaded or run."""


class DecodeError(MerstoreError):
    """A clip that gives no features: ``kind`` is the failure kind that is recorded.

    Kinds: ``missing_file``, ``no_video``, ``decode_error``.
    """

    def __init__(self, path: object, kind: str, message: str) -> None:
        super().__init__(str(path), kind, message)
        self.path = str(path)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message} ({self.kind})"

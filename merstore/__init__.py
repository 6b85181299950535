"""merstore: an embedded feature store for multimodal emotion recognition."""

from merstore._version import __version__
from merstore.errors import (
    CorruptEntry,
    CorruptStore,
    DecodeError,
    EncoderError,
    InvalidKey,
    InvalidTensor,
    MergeConflict,
    MerstoreError,
    MissingEntry,
    NewerFormat,
    NotAStore,
    ReadOnlyStore,
    SpecMismatch,
    StaleView,
    StoreBusy,
    StoreExists,
    StoreFull,
    UnknownView,
    UnsafeFilesystem,
)
from merstore.store.batch import Batch, RaggedBatch
from merstore.store.entry import Failure
from merstore.store.names import Names
from merstore.store.selection import Selection
from merstore.store.store import Store
from merstore.store.store import open_store as open
from merstore.store.verify import Problem
from merstore.store.view import View
from merstore.store.writer import Writer

__all__ = [
    "Batch",
    "CorruptEntry",
    "CorruptStore",
    "DecodeError",
    "EncoderError",
    "Failure",
    "InvalidKey",
    "InvalidTensor",
    "MergeConflict",
    "MerstoreError",
    "MissingEntry",
    "Names",
    "NewerFormat",
    "NotAStore",
    "Problem",
    "RaggedBatch",
    "ReadOnlyStore",
    "Selection",
    "SpecMismatch",
    "StaleView",
    "Store",
    "StoreBusy",
    "StoreExists",
    "StoreFull",
    "UnknownView",
    "UnsafeFilesystem",
    "View",
    "Writer",
    "__version__",
    "open",
]

"""What a store holds, as something to compare: every tensor by digest, every failure, every declaration."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

import merstore

Contents = dict[str, dict[str, Any]]


def contents(store: merstore.Store | Path) -> Contents:
    if isinstance(store, Path):
        with merstore.open(store) as opened:
            return contents(opened)
    store.refresh()
    return {path: _of_view(store[path]) for path in store.views()}


def _of_view(view: merstore.View) -> dict[str, Any]:
    tensors = {name: digest(view[name]) for name in view}
    assert len(view) == len(tensors)
    declared = (str(view.dtype), view.shape, view.fingerprint, view.alias)
    failures = [(f.name, f.kind, f.message, f.attempts) for f in view.failures()]
    return {"declared": declared, "tensors": tensors, "failures": failures}


def digest(array: np.ndarray) -> str:
    """Of dtype, shape and bytes."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()

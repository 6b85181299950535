"""Specs: what a view is, as declared values, and their fingerprint."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from merstore.errors import InvalidTensor, SpecMismatch


def canonical(spec: Mapping[str, Any]) -> str:
    """The spec as canonical JSON: sorted keys, no blanks, no NaN. Equal specs give equal text on
    every machine.

    Raises SpecMismatch where a value has no JSON form: a spec holds text, numbers, booleans, None,
    lists and mappings.
    """
    if not isinstance(spec, Mapping):
        raise SpecMismatch(f"a spec is a mapping of names to values, not {type(spec).__name__}")
    try:
        # there and back: keys that JSON knows as text only are text when they are sorted
        plain = json.loads(json.dumps(dict(spec), allow_nan=False))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        text.encode()
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecMismatch(f"a spec holds only values that JSON can: {error}") from None


def fingerprint(spec: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


def differences(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> list[str]:
    """Where two specs differ, one line each: ``sampling.n: 8 against 16``."""
    lines = []
    for key in sorted({*one, *other}, key=str):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{at}{key}.")
        elif a != b or (key in one) != (key in other):
            lines.append(
                f"{at}{key}: {a if key in one else '(absent)'} against {b if key in other else '(absent)'}"
            )
    return lines


def check_shape(shape: Any) -> tuple[int | None, ...]:
    """A view's shape: sizes of at most 6 dimensions, the first of which may be None (it varies from
    entry to entry).
    """
    try:
        sizes = tuple(None if size is None else int(size) for size in shape)
    except (TypeError, ValueError):
        raise InvalidTensor(
            f"a shape is a tuple of sizes, such as (8, 768) or (None, 1024), not {shape!r}"
        ) from None
    if len(sizes) > 6 or None in sizes[1:] or any(size is not None and size < 1 for size in sizes):
        raise InvalidTensor(
            f"shape {shape!r}: at most 6 dimensions of at least 1; only the first may be None, where it varies"
        )
    if math.prod(size or 1 for size in sizes) >= 1 << 32:
        raise InvalidTensor(f"shape {shape!r} is too large: at most 4 GB an entry")
    return sizes

"""The record of a view in ``views``: what it declares, and counters."""

import dataclasses
import json
from typing import Any

from merstore.errors import CorruptStore
from merstore.store import dtypes
from merstore.store.spec import check_shape

NONFINITE_RULES = ("refuse", "flag")
ZERO_RULES = ("flag", "refuse")


@dataclasses.dataclass
class ViewRecord:
    """Fields as in docs/format.md. ``last`` is the number, page and size of the newest block, a
    candidate for merging.
    """

    number: int
    dtype: str
    shape: tuple[int | None, ...]
    spec: dict[str, Any]
    fingerprint: str
    alias: str | None = None
    nonfinite: str = "refuse"
    zeros: str = "flag"
    entries: int = 0
    failures: int = 0
    nbytes: int = 0
    blocks: int = 0
    next_block: int = 0
    moves: int = 0
    last: list[int] | None = None
    created: int = 0
    updated: int = 0

    def pack(self) -> bytes:
        fields = dataclasses.asdict(self) | {"shape": list(self.shape)}
        fields["bytes"] = fields.pop("nbytes")
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def unpack(cls, path: str, value: bytes) -> "ViewRecord":
        try:
            fields = json.loads(value)
            fields["nbytes"] = fields.pop("bytes")
            known = {field.name for field in dataclasses.fields(cls)}
            record = cls(**{key: fields[key] for key in fields if key in known})
            record.shape = check_shape(record.shape)
            record._check()
            return record
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorruptStore(
                f"the record of view {path} is damaged ({error}); restore the store from a copy"
            ) from None

    def _check(self) -> None:
        """Raise ValueError for values that nobody wrote."""
        counters = [
            self.entries, self.failures, self.nbytes, self.blocks, self.next_block, self.moves,
            self.created, self.updated, *(self.last or ()),
        ]  # fmt: skip
        texts = [self.fingerprint, self.alias or "", self.nonfinite, self.zeros]
        if not (
            isinstance(self.number, int)
            and 0 < self.number < 1 << 32
            and self.dtype in dtypes.CODES
            and isinstance(self.spec, dict)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in counters)
            and len(self.last or (0, 0, 0)) == 3
        ):
            raise ValueError("a field has an impossible value")

    @property
    def prefix(self) -> bytes:
        return self.number.to_bytes(4, "big")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: of the whole entry where the shape is fixed, of one step where it
        is ragged.
        """
        return tuple(size for size in self.shape[self.ragged :] if size is not None)

    @property
    def ragged(self) -> bool:
        return bool(self.shape) and self.shape[0] is None

    @property
    def row_elements(self) -> int:
        elements = 1
        for size in self.row_shape:
            elements *= size
        return elements


def block_key(view: int, block: int) -> bytes:
    return view.to_bytes(4, "big") + block.to_bytes(8, "big")


def dead_key(view: int, block: int) -> bytes:
    return f"dead/{view:08x}/{block:016x}".encode()

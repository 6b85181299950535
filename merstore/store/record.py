"""The record of a view in ``views``: what it declares, and counters."""

import dataclasses
import json
from typing import Any

from merstore.errors import CorruptStore

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
            record.shape = tuple(record.shape)
            return record
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptStore(
                f"the record of view {path} is damaged ({error}); run `merstore verify`"
            ) from None

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

"""What is odd about samples, kept in the store beside their features.

Records are entries of views like any other, ``mer2023/quality/audio`` under the samples' names, as
labels and transcripts are; whatever reads a sample's medium writes one. Entries are bytes (uint8
``[T]``): a JSON object with ``flags`` and ``facts``.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore.errors import CorruptEntry, InvalidTensor, MerstoreError, UnknownView
from merstore.quality import DUPLICATE, FLAGS, MEDIA, Quality

if TYPE_CHECKING:
    from merstore.store.store import Store
    from merstore.store.view import View

SPEC = {"kind": "quality", "version": 1, "encoding": "JSON, UTF-8"}

# Nothing is in such a medium: that two of them have the same bytes does not make them one clip.
_HOLLOW = {"no_audio", "no_face", "silent", "unreadable", "empty_text", "failed_text"}
_CLIP = [medium for medium in MEDIA if medium != "text"]  # many people say the same words
_FLAG = re.compile(r"[a-z][a-z0-9_]*")
_CHUNK = 10_000


def quality_view(store: "Store", dataset: str, medium: str) -> "View":
    """The view of the records about a medium (``"video"``, ``"audio"``, ``"face"``, ``"text"``);
    made where there is none.

    Raises InvalidKey, ReadOnlyStore, StaleView.
    """
    if medium not in MEDIA:
        raise MerstoreError(f"quality is recorded of {', '.join(MEDIA)}, not of {medium!r}")
    path = f"{dataset}/quality/{medium}"
    if path in store:
        return store.view(path, SPEC)
    return store.create_view(path, dtype="uint8", shape=(None,), spec=SPEC, exist_ok=True)


def pack(flags: Iterable[str], facts: Mapping[str, Any]) -> np.ndarray:
    """A record as an entry, uint8 ``[T]``. Raises InvalidTensor for what JSON does not have."""
    flags = sorted(flags)
    if strange := [flag for flag in flags if not _FLAG.fullmatch(flag) or flag == DUPLICATE]:
        raise InvalidTensor(f"no flag of a sample: {strange[0]!r} (a-z, 0-9 and _ make one)")
    try:
        told = json.dumps(
            {"flags": flags, "facts": dict(facts)}, ensure_ascii=False, allow_nan=False
        )
        return np.frombuffer(told.encode(), np.uint8)
    except (TypeError, ValueError) as error:
        raise InvalidTensor(f"facts that are no JSON values ({error}): {dict(facts)}") from None


class Qualities(Mapping[str, dict[str, Quality]]):
    """What is known of a dataset's samples: ``qualities[name][medium]``, of what was recorded.

    Samples of which nothing is recorded are not in it, and have no flag.
    """

    def __init__(self, dataset: str, records: dict[str, dict[str, Quality]]) -> None:
        self.dataset = dataset
        self._records = dict(sorted(records.items(), key=lambda item: item[0].encode()))

    def __getitem__(self, name: str) -> dict[str, Quality]:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def known(self) -> list[str]:
        """The flags that may be asked for: those that merstore sets, and all that are recorded."""
        recorded = {
            flag for media in self.values() for found in media.values() for flag in found.flags
        }
        return sorted({*FLAGS, *recorded, DUPLICATE})

    def names(self, *flags: str) -> list[str]:
        """The samples that have any of `flags` in any medium, in the order of their bytes.

        ``"duplicate"`` are all but the first of those that share a clip. Raises MerstoreError for an
        unknown flag.
        """
        left = set(self.without(*flags))
        return [name for name in self if name not in left]

    def without(self, *flags: str, among: Iterable[str] | None = None) -> list[str]:
        """The samples (of `among`, by default all that have a record) with none of `flags`.

        Of samples that share a clip, ``"duplicate"`` leaves the first by name of those that are left
        by the other flags. Raises MerstoreError for an unknown flag.
        """
        wanted = self._checked(flags)
        names = list(self) if among is None else list(among)
        names = [name for name in names if not wanted & self._flags(name)]
        if DUPLICATE in wanted:
            again = self._repeated(names)
            names = [name for name in names if name not in again]
        return names

    def counts(self) -> dict[str, int]:
        """How many samples have each flag, without those that none has."""
        found = dict.fromkeys(self.known(), 0)
        for name in self:
            for flag in self._flags(name):
                found[flag] += 1
        found[DUPLICATE] = len(self._repeated(self))
        return {flag: count for flag, count in found.items() if count}

    def duplicates(self) -> dict[str, list[list[str]]]:
        """Samples that share a medium's content, by medium: groups of two or more, by name.

        What nothing is in (silence, a track without a face) is not compared.
        """
        groups = {medium: self._groups(medium, self) for medium in MEDIA}
        return {medium: found for medium, found in groups.items() if found}

    def only(self, *flags: str) -> "Qualities":
        """Of the samples with any of `flags`. Raises MerstoreError for an unknown flag."""
        return Qualities(self.dataset, {name: self[name] for name in self.names(*flags)})

    def _flags(self, name: str) -> set[str]:
        media = self._records.get(name, {})
        return {flag for found in media.values() for flag in found.flags}

    def _groups(self, medium: str, names: Iterable[str]) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for name in names:
            found = self._records.get(name, {}).get(medium)
            content = found.facts.get("content") if found else None
            if found and isinstance(content, str) and _HOLLOW.isdisjoint(found.flags):
                groups.setdefault(content, []).append(name)
        return [sorted(group, key=str.encode) for group in groups.values() if len(group) > 1]

    def _repeated(self, names: Iterable[str]) -> set[str]:
        """Those of `names` whose clip another of them, before it by name, has too."""
        names = list(names)
        return {
            again for medium in _CLIP for _, *rest in self._groups(medium, names) for again in rest
        }

    def _checked(self, flags: Iterable[str]) -> set[str]:
        wanted = set(flags)
        known = self.known()
        if strange := sorted(wanted.difference(known)):
            raise MerstoreError(f"no flag {strange[0]!r}; there is {', '.join(known)}")
        return wanted

    def __repr__(self) -> str:
        return f"<Qualities of {self.dataset}: {len(self)} samples>"


def datasets(store: "Store") -> list[str]:
    """The datasets that have records of quality."""
    parts = [path.split("/") for path in store.views()]
    return sorted({dataset for dataset, modality, _ in parts if modality == "quality"})


def read_qualities(store: "Store", dataset: str) -> Qualities:
    """All records of a dataset. Raises UnknownView where there is none, CorruptEntry, StaleView."""
    paths = {medium: f"{dataset}/quality/{medium}" for medium in MEDIA}
    there = {medium: path for medium, path in paths.items() if path in store}
    if not there:
        raise UnknownView(
            f"{store.path} has no records of quality of {dataset}: `merstore prewarm` writes them "
            "while it reads the clips"
        )
    records: dict[str, dict[str, Quality]] = {}
    for medium, path in there.items():
        view = store.view(path, SPEC)
        selection = view.select()
        for first in range(0, len(selection), _CHUNK):
            rows = np.arange(first, min(first + _CHUNK, len(selection)))
            batch: Any = selection.gather(rows)
            data, offsets = batch.values.tobytes(), batch.offsets.tolist()
            for place, name in enumerate(selection.names.decoded(rows)):
                found = _unpack(data[offsets[place] : offsets[place + 1]])
                if found is None:
                    raise CorruptEntry(
                        f"{path}/{name} is no record of quality: drop the view, and prewarm writes "
                        "it again"
                    )
                records.setdefault(name, {})[medium] = found
    return Qualities(dataset, records)


def _unpack(entry: bytes) -> Quality | None:
    try:
        told = json.loads(entry.decode())
        flags, facts = tuple(map(str, told["flags"])), told["facts"]
    except (ValueError, KeyError, TypeError):
        return None
    return Quality(flags, facts) if isinstance(facts, dict) else None

"""A corpus as it is declared: names, folders, media, labels, splits, transcripts. Facts, no files.

docs for whoever writes one are in ``merstore/corpora/tables/README.md``.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.transcript import LANGUAGES
from merstore.store.keys import parse_view

FIELD_TYPES = ("class", "number", "list", "text")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a label says. ``columns`` are its names in the files, the first one found
    counts; ``absent`` is the number, ``placeholder`` the class that stands for "not known".
    """

    name: str
    type: str
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    absent: float | None = None
    placeholder: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """The samples of one split: all names in the first of ``sources`` (``file`` or ``file#array``)
    that is there, or those which the regular expression ``where`` matches.

    ``sizes``: how many there are in the known releases. unlabelled: whatever the file says of them
    stands for nothing.
    """

    name: str
    sources: tuple[str, ...]
    where: str | None = None
    sizes: tuple[int, ...] = ()
    unlabelled: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class LabelTable:
    """One set of labels over the corpus: its fields and its splits, which do not overlap."""

    name: str
    fields: Mapping[str, Field]
    splits: Mapping[str, Split]
    size: int | None = None

    @property
    def sources(self) -> list[str]:
        """The sources of all splits, each once."""
        return list(dict.fromkeys(s for split in self.splits.values() for s in split.sources))

    @property
    def samples(self) -> int | None:
        """How many samples there are in all, where that is known."""
        sizes = [split.sizes for split in self.splits.values() if not split.optional]
        if self.size is None and all(len(known) == 1 for known in sizes):
            return sum(known[0] for known in sizes)
        return self.size


@dataclass(frozen=True, slots=True)
class TranscriptTable:
    """One text per sample: ``sources`` are ``file#column``, the first that is there counts."""

    name: str
    sources: tuple[str, ...]
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """The file of a sample: every one of ``files`` in every one of ``folders``, the first found."""

    modality: str
    folders: tuple[str, ...]
    files: tuple[str, ...]

    def candidates(self, sample: str) -> list[str]:
        """Relative paths, in the order in which they are tried."""
        names = [file.replace("{name}", sample) for file in self.files]
        return [f"{folder}/{name}" for folder in self.folders for name in names]


@dataclass(frozen=True, slots=True)
class Table:
    """All that is declared of a corpus. ``folders`` are the customary names of its root; of the
    ``unusable`` samples the publishers say that their media cannot be read.
    """

    key: str
    aliases: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    media: Mapping[str, Media] = field(default_factory=dict)
    labels: Mapping[str, LabelTable] = field(default_factory=dict)
    transcripts: Mapping[str, TranscriptTable] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    size: int | None = None
    origin: str = ""

    @property
    def samples(self) -> int | None:
        """How many samples there are, where that is known."""
        if self.size is None and len(self.labels) == 1:
            return next(iter(self.labels.values())).samples
        return self.size

    @property
    def modalities(self) -> list[str]:
        return [*self.media, *(["text"] if self.transcripts else [])]

    def media_of(self, modality: str) -> Media | None:
        """None where the corpus has none of this modality."""
        return self.media.get(modality)

    def labels_of(self, name: str | None) -> LabelTable:
        return self._one(self.labels, name, "labels")

    def transcripts_of(self, name: str | None) -> TranscriptTable:
        return self._one(self.transcripts, name, "transcripts")

    def _one(self, tables: Mapping[str, _T], name: str | None, what: str) -> _T:
        """The one of this name; without a name, the first."""
        if name is None and tables:
            return next(iter(tables.values()))
        if name is None or name not in tables:
            known = ", ".join(tables) or "none"
            raise InvalidKey(f"corpus {self.key} has no {what} {name or ''} (it has: {known})")
        return tables[name]


def parse_table(key: str, declared: Any, origin: str) -> Table:
    """Check what a YAML file says of one corpus.

    Raises MerstoreError that names the file, the corpus and the part.
    """
    at = f"{origin}: {key}"
    try:
        parse_view(f"{key}/label/any")
    except InvalidKey:
        raise MerstoreError(
            f"{at}: a corpus's key is letters, digits and . _ + -, a letter or digit first"
        ) from None
    part = _Part(declared, at)
    return part.done(
        Table(
            key=key,
            aliases=part.texts("aliases"),
            folders=part.texts("folders"),
            media=part.each("media", _media),
            labels=part.each("labels", _labels),
            transcripts=part.each("transcripts", _transcripts),
            unusable=part.texts("unusable"),
            size=part.number("samples"),
            origin=origin,
        )
    )


def _media(name: str, part: "_Part") -> Media:
    folders, files = part.texts("folders", needed=True), part.texts("files", needed=True)
    for file in files:
        if "{name}" not in file:
            raise part.wrong(
                "files", f'each says where the sample\'s name goes: "{{name}}.mp4", not {file!r}'
            )
    return Media(name, folders, files)


def _labels(name: str, part: "_Part") -> LabelTable:
    part.segment(name)
    fields, splits = part.each("fields", _field), part.each("splits", _split)
    if not splits:
        raise part.wrong("splits", "at least one is needed")
    return LabelTable(name, fields, splits, part.number("samples"))


def _field(name: str, part: "_Part") -> Field:
    classes = part.texts("classes")
    type = part.text("type") or ("class" if classes else "")
    if type not in FIELD_TYPES or (type == "class") != bool(classes):
        raise part.wrong("type", f"{', '.join(FIELD_TYPES)}; a class has its classes listed")
    placeholder = part.text("placeholder")
    if placeholder is not None and placeholder not in classes:
        raise part.wrong("placeholder", f"{placeholder!r} is none of the classes")
    absent = part.get("absent", (int, float))
    columns = part.texts("columns") or (name,)
    return Field(
        name, type, columns, classes, None if absent is None else float(absent), placeholder
    )


def _split(name: str, part: "_Part") -> Split:
    where = part.text("where")
    try:
        re.compile(where or "")
    except re.error as error:
        raise part.wrong("where", f"no regular expression ({error})") from None
    return Split(
        name,
        part.texts("from", needed=True),
        where,
        part.numbers("samples"),
        bool(part.get("unlabelled", bool)),
        bool(part.get("optional", bool)),
    )


def _transcripts(name: str, part: "_Part") -> TranscriptTable:
    part.segment(name)
    sources = part.texts("from", needed=True)
    for source in sources:
        if "#" not in source:
            raise part.wrong("from", f"file#column, not {source!r}")
    language = part.text("language")
    if language not in (None, *LANGUAGES):
        raise part.wrong("language", f"one of {', '.join(LANGUAGES)}, or leave it out")
    return TranscriptTable(name, sources, language)


class _Part:
    """A mapping of the YAML file, taken apart; what was not asked for is refused by `done`."""

    def __init__(self, declared: Any, at: str) -> None:
        if declared is None:
            declared = {}
        if not isinstance(declared, dict):
            raise MerstoreError(f"{at}: a mapping is wanted here, not {declared!r}")
        self.declared = declared
        self.at = at
        self.asked: set[str] = set()

    def wrong(self, name: str, message: str) -> MerstoreError:
        return MerstoreError(f"{self.at}: {name}: {message}")

    def get(self, name: str, types: type | tuple[type, ...]) -> Any:
        self.asked.add(name)
        value = self.declared.get(name)
        boolean = isinstance(value, bool) and types is not bool
        if value is not None and (boolean or not isinstance(value, types)):
            raise self.wrong(name, f"{value!r} is of the wrong type")
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name, str)
        assert value is None or isinstance(value, str)
        return value

    def texts(self, name: str, needed: bool = False) -> tuple[str, ...]:
        """A list of texts; one text alone is a list of one."""
        return self._list(name, str, needed)

    def number(self, name: str) -> int | None:
        value = self.get(name, int)
        assert value is None or isinstance(value, int)
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        return self._list(name, int, False)

    def _list(self, name: str, type: type[_T], needed: bool) -> tuple[_T, ...]:
        value = self.get(name, (type, list))
        items = value if isinstance(value, list) else [] if value is None else [value]
        if any(not isinstance(item, type) or isinstance(item, bool) for item in items):
            raise self.wrong(name, f"a list of {type.__name__}, not {value!r} (quotes make a text)")
        if needed and not items:
            raise self.wrong(name, "is needed")
        return tuple(items)

    def each(self, name: str, parse: Callable[[str, "_Part"], _T]) -> dict[str, _T]:
        parsed = {}
        for key, declared in (self.get(name, dict) or {}).items():
            part = _Part(declared, f"{self.at}: {name}: {key}")
            if not isinstance(key, str):
                raise self.wrong(name, f"{key!r} is no name (quotes make a text)")
            parsed[key] = part.done(parse(key, part))
        return parsed

    def segment(self, name: str) -> None:
        """The name becomes a part of a view's path."""
        try:
            parse_view(f"any/label/{name}")
        except InvalidKey:
            raise MerstoreError(
                f"{self.at}: {name!r} is no part of a view's path: letters, digits and . _ + -"
            ) from None

    def done(self, parsed: _T) -> _T:
        if strange := [key for key in self.declared if key not in self.asked]:
            near = difflib.get_close_matches(str(strange[0]), self.asked, 1)
            raise self.wrong(
                str(strange[0]),
                f"not known here; {f'did you mean {near[0]}?' if near else 'known: ' + _listed(self.asked)}",
            )
        return parsed


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))

"""The word tables of the open-vocabulary metrics: five emotion wheels, synonyms and word forms.

They are OV-MER's folder ``emotion_wheel`` (also in AffectGPT, MER2025 and, with a corrected
``format.csv``, MER2026), which merstore does not contain: see the notes on the metrics, 1.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from merstore.errors import InvalidKey, MerstoreError
from merstore.score.labels import parse_labels

WHEELS = ("wheel1", "wheel2", "wheel3", "wheel4", "wheel5")
LEVELS = ("L1", "L2")
METRICS = (
    "M1",
    "M2",
    *(f"M3W{wheel}-{level}" for wheel in range(1, 6) for level in LEVELS),
)
"""In the order in which OV-MER reports them. M1: word forms; M2: synonyms too; M3Wx-Ly: wheel x, level y."""

FILES = (*(f"{wheel}.xlsx" for wheel in WHEELS), "synonym.xlsx", "format.csv")

OV_MER = {  # SHA-256 of the published files: OV-MER @ 88593b0, MERTools @ 89120b7 (MER2025)
    "wheel1.xlsx": "e70485d354b82a7491ff24648273182a5f4f13f92c76e6b3e4f9033f5e6afcc1",
    "wheel2.xlsx": "acc001e076a8e60440361f58dd8c05ed900c4890c84bb7d8d1df93708a7d9c87",
    "wheel3.xlsx": "d62f30bf88c17c55876634cd088eacaef98278fc25457474364439872f9dbf83",
    "wheel4.xlsx": "660260561b7fe15550f3679a01e7c783608ce3403d4c28db0a88520f68d83aea",
    "wheel5.xlsx": "2dd4595b2cf8e7628ca06a416a8e38ac831614b244f23d1ae613dc34007649f1",
    "synonym.xlsx": "23f81f9ab1d2418aaf96775304fb5dc52c62bb5d5ef652a97471d045fc9d2e29",
    "format.csv": "ba6de7d61db8e129d1d7ef8a2aae22a9e93a2c2e3e683e6f2735d04455f016f2",
}

Groups = Mapping[str, str]  # word -> its group
Lists = Mapping[str, tuple[str, ...]]

_RUNS = 8  # a language model was asked for synonyms so often
_LEVELS = ("level1", "level2", "level3")


@dataclass(frozen=True)
class WheelTables:
    """The tables of one folder.

    ``forms``: word form -> its lemmas, sorted; ``lemmas``: lemma -> its heads (words of the wheels),
    sorted; ``wheels``: metric (``M3W1-L1`` ...) -> word -> its group; ``digests``: SHA-256 by file.
    """

    folder: Path
    digests: Mapping[str, str]
    forms: Lists
    lemmas: Lists
    wheels: Mapping[str, Groups]
    _projected: dict[str, tuple[str | None, ...]] = field(default_factory=dict, repr=False)
    _numbered: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "WheelTables":
        """Read ``wheel1.xlsx`` ... ``wheel5.xlsx``, ``synonym.xlsx`` and ``format.csv``.

        Raises MerstoreError, which names the file, where one is missing, damaged, or not laid out
        as those of OV-MER; and where openpyxl is not installed.
        """
        path = Path(folder)
        data = {name: _bytes(path / name) for name in FILES}
        wheels: dict[str, Groups] = {}
        heads: set[str] = set()
        for number, name in enumerate(WHEELS, 1):
            tree = _tree(path / f"{name}.xlsx", data[f"{name}.xlsx"])
            wheels[f"M3W{number}-L1"], wheels[f"M3W{number}-L2"] = _groups(tree)
            heads |= wheels[f"M3W{number}-L1"].keys()
        lemmas = _synonyms(path / "synonym.xlsx", data["synonym.xlsx"], heads)
        forms = _forms(path / "format.csv", lemmas)
        digests = {name: hashlib.sha256(data[name]).hexdigest() for name in FILES}
        return cls(path, digests, forms, lemmas, wheels)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all files: two folders with the same one score alike."""
        told = "".join(f"{name} {self.digests[name]}\n" for name in FILES)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def changed(self) -> list[str]:
        """The files that are not those published with OV-MER (MER2026's differs in format.csv)."""
        return [name for name in FILES if self.digests[name] != OV_MER[name]]

    def known(self, label: str) -> bool:
        """Whether a label is in the tables at all; one that is not never counts."""
        return label.lower().strip() in self.forms

    def project(self, label: str, metric: str) -> str | None:
        """The word or group that stands for a label in a metric, or None where it has none.

        The label is taken whole, in lower case, stripped. M1: the first of its lemmas; M2: that
        lemma's first head; M3: the group of the first of all its lemmas' heads that is on the wheel;
        first is by code points. Raises InvalidKey for an unknown metric.
        """
        if metric not in METRICS:
            raise InvalidKey(f"no metric {metric!r}: there are {', '.join(METRICS)}")
        return self.projections(label)[METRICS.index(metric)]

    def projections(self, label: str) -> tuple[str | None, ...]:
        """What `project` gives in each of METRICS."""
        word = label.lower().strip()
        found = self._projected.get(word)
        if found is None:
            found = self._project(word)
            if word in self.forms:  # unknown labels are without number
                self._projected[word] = found
        return found

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The words or groups that labels can stand for in each of METRICS, sorted."""
        heads = {head for heads in self.lemmas.values() for head in heads}
        wheels = (set(groups.values()) for groups in self.wheels.values())
        return tuple(tuple(sorted(found)) for found in (set(self.lemmas), heads, *wheels))

    def numbers(self, label: str) -> tuple[int, ...]:
        """What `projections` gives as positions in `groups`; -1 for None."""
        word = label.lower().strip()
        found = self._numbered.get(word)
        if found is None:
            found = tuple(
                -1 if group is None else places[group]
                for group, places in zip(self.projections(word), self._places, strict=True)
            )
            if word in self.forms:
                self._numbered[word] = found
        return found

    @cached_property
    def _places(self) -> tuple[dict[str, int], ...]:
        return tuple({group: place for place, group in enumerate(groups)} for groups in self.groups)

    def _project(self, word: str) -> tuple[str | None, ...]:
        lemmas = self.forms.get(word)
        if not lemmas:
            return (None,) * len(METRICS)
        heads = sorted({head for lemma in lemmas for head in self.lemmas[lemma]})
        return (
            lemmas[0],
            self.lemmas[lemmas[0]][0],
            *(
                next((groups[head] for head in heads if head in groups), None)
                for groups in self.wheels.values()
            ),
        )


_Tree = dict[str, dict[str, list[str]]]  # level 1 -> level 2 -> the words of level 3


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MerstoreError(
            f"{path}: {error.strerror}: --tables is OV-MER's folder emotion_wheel, with "
            f"{', '.join(FILES)}"
        ) from None


def _sheet(path: Path, data: bytes, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The rows of the one sheet below its header, with their numbers, cells as text."""
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise MerstoreError(
            "word tables are xlsx files, read by openpyxl: pip install 'merstore[score]'"
        ) from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets: dict[str, Any] = {sheet.title: sheet for sheet in book.worksheets}
        rows = [list(row) for row in sheets["Sheet1"].iter_rows(values_only=True)] if (
            "Sheet1" in sheets
        ) else None  # fmt: skip
    except Exception as error:  # noqa: BLE001  (a damaged file ends in whatever its parsers raise)
        raise MerstoreError(f"{path}: no readable xlsx file ({error}): copy it again") from None
    if rows is None:
        raise MerstoreError(f"{path}: no sheet 'Sheet1'; it has: {', '.join(sheets)}")
    found = tuple(_filled(rows[0])) if rows else ()
    if found != header:
        raise MerstoreError(
            f"{path}: its header is {', '.join(found) or 'missing'}, not {', '.join(header)}"
        )
    for number, row in enumerate(rows[1:], 2):
        cells = [cell.lower() for cell in _filled(row)]
        if len(cells) > len(header):
            raise MerstoreError(f"{path}, row {number}: more cells than the header has")
        if cells:
            yield number, cells + [""] * (len(header) - len(cells))


def _filled(row: Iterable[Any]) -> list[str]:
    """A row's cells as texts up to the last one that is not blank."""
    cells = ["" if cell is None else str(cell).strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _tree(path: Path, data: bytes) -> _Tree:
    """The wheel in file order. An empty cell means what the cell above it does."""
    tree: _Tree = {}
    above = [""] * len(_LEVELS)
    for number, cells in _sheet(path, data, _LEVELS):
        above = [cell or last for cell, last in zip(cells, above, strict=True)]
        if not all(above):
            raise MerstoreError(f"{path}, row {number}: the first row of words must be complete")
        first, second, third = above
        tree.setdefault(first, {}).setdefault(second, []).append(third)
    if not tree:
        raise MerstoreError(f"{path}: no words: copy it again")
    return tree


def _groups(tree: _Tree) -> tuple[Groups, Groups]:
    """Word -> group at both levels. A word that stands in several has the last one."""
    coarse: dict[str, str] = {}
    fine: dict[str, str] = {}
    for first, seconds in tree.items():
        coarse[first] = first
        fine[first] = min(seconds)
        for second, thirds in seconds.items():
            for word in (second, *thirds):
                coarse[word] = first
                fine[word] = second
    return coarse, fine


def _synonyms(path: Path, data: bytes, heads: set[str]) -> Lists:
    header = tuple(
        f"{what}_run{run}" for run in range(1, _RUNS + 1) for what in ("word", "synonym")
    )
    lemmas: dict[str, set[str]] = {}
    for number, cells in _sheet(path, data, header):
        for head, synonyms in zip(cells[::2], cells[1::2], strict=True):
            if head not in heads:
                raise MerstoreError(f"{path}, row {number}: {head!r} is on none of the wheels")
            for lemma in (head, *parse_labels(synonyms)):
                lemmas.setdefault(lemma, set()).add(head)
    if not lemmas:
        raise MerstoreError(f"{path}: no words: copy it again")
    return {lemma: tuple(sorted(found)) for lemma, found in lemmas.items()}


def _forms(path: Path, lemmas: Lists) -> Lists:
    from merstore.corpora.sheet import read_sheet

    sheet = read_sheet(path)
    sheet.need("format")
    if sheet.problems or not sheet.rows:
        told = "; ".join(str(problem.message) for problem in sheet.problems[:3])
        raise MerstoreError(f"{path}: {told or 'no words'}: copy it again")
    forms: dict[str, set[str]] = {}
    for name, row in sheet.rows:
        lemma = name.lower().strip()
        if lemma not in lemmas:
            raise MerstoreError(
                f"{path}: {lemma!r} is not in synonym.xlsx: take both from one place"
            )
        for form in (lemma, *parse_labels(row["format"].lower().strip())):
            forms.setdefault(form, set()).add(lemma)
    return {form: tuple(sorted(found)) for form, found in forms.items()}

"""csv files as the field's toolkits write them: any of several encodings, rows that are broken."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merstore.corpora.problem import Problem
from merstore.errors import InvalidKey, MerstoreError
from merstore.store.keys import sample_key

NAME_COLUMNS = ("name", "names")

_WORD = re.compile("[\u4e00-\u9fff]{2}")
_UNDECODED = re.compile("[\ud800-\udfff]")  # what surrogateescape leaves of bytes that are no text


@dataclass
class Sheet:
    """The readable rows of a csv file by sample, each a mapping of column to cell, in its order."""

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[str, dict[str, str]]]
    problems: list[Problem]

    def need(self, column: str) -> None:
        """Raise MerstoreError where there is no such column."""
        if column not in self.columns:
            raise MerstoreError(
                f"{self.path}: no column {column!r}; it has: {', '.join(self.columns)}"
            )


def is_undecoded(cell: str) -> bool:
    """Whether bytes of the cell are no text in the file's encoding."""
    return not cell.isascii() and _UNDECODED.search(cell) is not None


def read_sheet(path: Path) -> Sheet:
    """Read a csv file, one with tabs (``.tsv``) or the first sheet of a workbook (``.xlsx``, which
    needs openpyxl), with a header line and a column ``name`` (or ``names``).

    Encodings: UTF-8 with or without a mark, UTF-16 with one, GB 18030 (and with it GBK) where the
    text is Chinese. A row that is shifted (more or fewer cells than the header), wrongly quoted or
    without a usable name is a problem and not among the rows; a cell that is in none of these
    encodings is there, see `is_undecoded`. Raises MerstoreError where there is no readable header.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: give the folder that holds it") from None
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    if path.suffix.lower() == ".xlsx":
        records = _records_of_book(path, data)
    else:
        records = _records(_decode(path, data), delimiter)
    header = next(records, None)
    if header is None or header.cells is None:
        raise MerstoreError(f"{path}: no header line: it must name the columns")
    columns = tuple(cell.strip() for cell in header.cells)
    named = next((column for column in NAME_COLUMNS if column in columns), None)
    if named is None or len(set(columns)) < len(columns):
        raise MerstoreError(
            f"{path}: a header with a column 'name', commas between and none twice is wanted, "
            f"not {', '.join(columns)!r}"
        )
    sheet = Sheet(path, columns, [], [])
    where = columns.index(named)
    for record in records:
        told = f"{path.name}, line {record.line}"
        if record.cells is None:
            sample = _name_or_empty(record.text.split(delimiter)[where : where + 1])
            sheet.problems.append(
                Problem("bad_quotes", sample, f"{told}: quotes that do not match")
            )
            continue
        if record.cells == header.cells:
            sheet.problems.append(Problem("repeated_header", "", f"{told}: the header once more"))
            continue
        sample = _name_or_empty(record.cells[where : where + 1])
        if len(record.cells) != len(columns):
            message = f"{told}: {len(record.cells)} cells under {len(columns)} columns"
            sheet.problems.append(Problem("shifted_row", sample, message))
        elif not sample:
            message = f"{told}: {record.cells[where][:40]!r} is no sample's name"
            sheet.problems.append(Problem("bad_name", "", message))
        else:
            sheet.rows.append((sample, dict(zip(columns, record.cells, strict=True))))
    return sheet


def _name_or_empty(cells: list[str]) -> str:
    try:
        sample_key(cells[0])
    except (InvalidKey, IndexError):
        return ""
    return cells[0]


@dataclass
class _Record:
    line: int
    text: str  # its first line
    cells: list[str] | None  # None: wrongly quoted


def _records(text: str, delimiter: str) -> Iterator[_Record]:
    """The records that are not blank. After wrong quotes it goes on with the next line, so that a
    quote that is never closed costs one row and not the rest of the file.
    """
    lines = list(io.StringIO(text, newline=""))
    at = 0

    def following() -> Iterator[str]:
        nonlocal at
        while at < len(lines):
            at += 1
            yield lines[at - 1]

    reader = csv.reader(following(), delimiter=delimiter, strict=True)
    while at < len(lines):
        begin = at
        try:
            cells = next(reader, None)
        except csv.Error:
            cells, at = None, begin + 1
            reader = csv.reader(following(), delimiter=delimiter, strict=True)
            yield _Record(begin + 1, lines[begin], None)
        if cells:
            yield _Record(begin + 1, lines[begin], cells)


def _records_of_book(path: Path, data: bytes) -> Iterator[_Record]:
    """The rows of a workbook's first sheet that are not blank, cells as a csv file would have them."""
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise MerstoreError(
            f"{path}: xlsx files are read by openpyxl: pip install 'merstore[corpora]'"
        ) from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    except Exception as error:  # noqa: BLE001  (a damaged file ends in whatever its parsers raise)
        raise MerstoreError(f"{path}: no readable xlsx file ({error}): copy it again") from None
    widest = len(rows[0]) if rows else 0
    for line, row in enumerate(rows, 1):
        cells = ["" if cell is None else str(cell) for cell in row[:widest]]
        cells += ["" for _ in range(widest - len(cells))]
        if any(cells):
            yield _Record(line, "", cells)


def _decode(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise MerstoreError(f"{path}: damaged UTF-16 ({error.reason}): copy it again") from None
    text = data.decode("utf-8-sig", errors="surrogateescape")
    # A UTF-8 file with a few broken lines must not be taken for another encoding, in which all the
    # others would be nonsense; Chinese text in GB 18030 is hardly ever valid UTF-8.
    lines = [line for line in text.splitlines() if not line.isascii()]
    if 2 * sum(map(is_undecoded, lines)) <= len(lines):
        return text
    try:
        chinese = data.decode("gb18030")
    except UnicodeDecodeError:
        return text
    # Western text in an old encoding often passes for GB 18030, but not with whole words of Chinese.
    lines = [line for line in chinese.splitlines() if not line.isascii()]
    return chinese if 2 * sum(bool(_WORD.search(line)) for line in lines) >= len(lines) else text

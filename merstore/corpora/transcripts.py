"""Transcripts: one text per sample. What is no text is said to be none, never replaced."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from merstore.corpora import sheet
from merstore.corpora.problem import Problem
from merstore.corpora.table import TranscriptTable
from merstore.errors import MerstoreError
from merstore.extract.transcript import check_text

REMARKS = ("failed_text", "wrong_language")
"""Problems that leave the text as it is: flags of quality."""

_REMARKS = {
    "failed_text": "{text!r} and no words",
    "wrong_language": "{text!r} is not {language}",
}

# What pandas, by which the field's tools read and write csv files, takes for NaN or writes for it.
_NAN = {
    "nan", "NaN", "-nan", "-NaN", "<NA>", "N/A", "n/a", "NA", "#NA", "#N/A", "#N/A N/A",
    "NULL", "null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
}  # fmt: skip

# Where the texts are in the files of the field, and which language that column is in.
_COLUMNS = {"sentence": None, "text": None, "chinese": "zh", "english": "en"}


@dataclass
class Transcripts:
    """``texts`` by sample, exactly as they stand in the file; ``problems`` of all samples that have
    none, and remarks on texts that look wrong. ``others``: how many rows are of other samples.
    """

    name: str
    language: str | None
    texts: dict[str, str]
    problems: list[Problem]
    sources: dict[str, str]
    others: int = 0


def read_transcripts(root: Path, table: TranscriptTable, samples: Iterable[str]) -> Transcripts:
    """The texts of `samples`. Raises MerstoreError where no file is there or it lacks the column.

    A sample without a text has a problem: ``missing_text`` (no row), ``empty_text``, ``nan_text``
    (what stands there is pandas' spelling of nothing), ``shifted_row``, ``bad_quotes``,
    ``undecodable`` or ``ambiguous_text`` (two rows that differ).
    """
    source = next((s for s in table.sources if (root / s.partition("#")[0]).is_file()), None)
    if source is None:
        wanted = dict.fromkeys(source.partition("#")[0] for source in table.sources)
        raise MerstoreError(f"{root}: no transcript file {' nor '.join(wanted)}")
    file, _, column = source.partition("#")
    read = sheet.read_sheet(root / file)
    return _texts(read, file, column, samples, table.name, table.language)


def texts_from(file: str | os.PathLike[str], column: str | None = None) -> Transcripts:
    """The texts of all samples in one csv or tsv file, which has a column ``name``.

    `column` is by default the only one of ``sentence``, ``text``, ``chinese`` and ``english`` that
    is there; the last two tell the language. What is no text is a problem, as in `read_transcripts`.

    Raises MerstoreError where the file cannot be read, or which column is meant cannot be told.
    """
    path = Path(file)
    read = sheet.read_sheet(path)
    if column is None:
        there = [known for known in _COLUMNS if known in read.columns]
        if len(there) != 1:
            listed = ", ".join(there or read.columns)
            raise MerstoreError(f"{file}: name the column with the texts; it has {listed}")
        column = there[0]
    samples = [sample for sample, _ in read.rows]
    samples += [problem.sample for problem in read.problems if problem.sample]
    return _texts(read, path.name, column, samples, column, _COLUMNS.get(column))


def _texts(
    read: sheet.Sheet,
    file: str,
    column: str,
    samples: Iterable[str],
    name: str,
    language: str | None,
) -> Transcripts:
    read.need(column)
    digest = hashlib.sha256(read.path.read_bytes()).hexdigest()
    found = Transcripts(name, language, {}, [], {file: digest})

    cells: dict[str, set[str]] = {}
    for sample, row in read.rows:
        cells.setdefault(sample, set()).add(row[column])
    wanted_samples = dict.fromkeys(samples)
    found.others = sum(sample not in wanted_samples for sample in cells)
    broken = {problem.sample: problem for problem in read.problems}
    found.problems += [problem for problem in read.problems if problem.sample not in wanted_samples]
    for sample in wanted_samples:
        texts = cells.get(sample, set())
        if sample in broken:
            found.problems.append(broken[sample])
        elif (kind := _why_none(texts)) is not None:
            told = f"{file}: {_WORDS[kind]}"
            found.problems.append(
                Problem(kind, sample, told.format(column=column, texts=sorted(texts)))
            )
        else:
            (text,) = texts
            found.texts[sample] = text
            found.problems += _remarks(sample, text, language, file)
    return found


_WORDS = {
    "missing_text": "no row",
    "empty_text": "nothing under {column}",
    "nan_text": "{texts[0]!r} under {column}",
    "undecodable": "bytes under {column} that are no text",
    "ambiguous_text": "rows that differ",
}


def _why_none(texts: set[str]) -> str | None:
    if len(texts) != 1:
        return "ambiguous_text" if texts else "missing_text"
    (text,) = texts
    if not text.strip():
        return "empty_text"
    if text.strip() in _NAN:
        return "nan_text"
    return "undecodable" if sheet.is_undecoded(text) else None


def _remarks(sample: str, text: str, language: str | None, file: str) -> list[Problem]:
    return [
        Problem(
            flag,
            sample,
            f"{file}: {_REMARKS[flag].format(text=text.strip()[:40], language=language)}",
        )
        for flag in check_text(text, language).flags
    ]

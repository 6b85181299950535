"""Transcripts: one text per sample. What is no text is said to be none, never replaced."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from merstore.corpora import sheet
from merstore.corpora.problem import Problem
from merstore.corpora.table import TranscriptTable
from merstore.errors import MerstoreError

REMARKS = ("tag_only", "wrong_language")
"""Problems that leave the text as it is."""

# What pandas, by which the field's tools read and write csv files, takes for NaN or writes for it.
_NAN = {
    "nan", "NaN", "-nan", "-NaN", "<NA>", "N/A", "n/a", "NA", "#NA", "#N/A", "#N/A N/A",
    "NULL", "null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
}  # fmt: skip
_TAG = re.compile(
    r"\s*<\|[^|<>]*\|>\s*"
)  # `<|zh-CN|>`: the recogniser named a language, and no words
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile("[A-Za-z]")


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
    path = root / file
    read = sheet.read_sheet(path)
    read.need(column)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = Transcripts(table.name, table.language, {}, [], {file: digest})

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
            found.problems += _remarks(sample, text, table.language, file)
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
    if _TAG.fullmatch(text):
        return [Problem("tag_only", sample, f"{file}: {text.strip()!r} and no words")]
    han, latin = _HAN.search(text), _LATIN.search(text)
    if (language == "zh" and latin and not han) or (language == "en" and han):
        return [Problem("wrong_language", sample, f"{file}: {text[:40]!r} is not {language}")]
    return []

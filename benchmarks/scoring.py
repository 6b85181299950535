"""Scores of open-vocabulary labels, from files to numbers."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import measure
from .figures import Figure, milliseconds

PART = "Open-vocabulary scores, twelve metrics, files and word tables read"
ROUNDS = 5
BAR = 1000  # ms
FILES, SAMPLES = 30, 332  # OV-MER's ten models, three ways of prompting each
CANDIDATES, LABELLED = 20_000, 1_200  # MER2025's track 2
HEADS, LEMMAS, FORMS = 36 * 7, 1_255, 7_386  # as many as in OV-MER's tables


def run(folder: Path) -> Iterator[Figure]:
    work = folder / "scoring"
    tables, words = _tables(work / "emotion_wheel")
    rng = np.random.default_rng(0)
    small = [_answers(work / f"{n}-openset.npz", SAMPLES, words, rng) for n in range(FILES)]
    truth = _answers(work / "truth-openset.npz", SAMPLES, words, rng)
    large = _answers(work / "large-openset.npz", CANDIDATES, words, rng)
    labelled = _answers(work / "labelled-openset.npz", LABELLED, words, rng)
    everything = _answers(work / "all-openset.npz", CANDIDATES, words, rng)
    for what, true, predictions in (
        (f"{FILES} files of {SAMPLES} samples", truth, small),
        (f"a submission of {CANDIDATES:,} names, {LABELLED:,} of them labelled", labelled, [large]),
        (f"a submission of {CANDIDATES:,} names, all labelled", everything, [large]),
    ):
        seconds = [measure.fresh(_score, tables, true, predictions) for _ in range(ROUNDS)]
        yield milliseconds(PART, what, seconds, BAR)


def _score(tables: Path, truth: Path, predictions: list[Path]) -> float:
    """Seconds from the files to the numbers, imports not counted."""
    import openpyxl  # noqa: F401

    from merstore.score.files import read_answers
    from merstore.score.ov import ov_scores
    from merstore.score.wheels import WheelTables

    started = time.perf_counter()
    wheels = WheelTables.load(tables)
    true = read_answers(truth).labels()
    for path in predictions:
        ov_scores(true, read_answers(path).labels(), wheels)
    return time.perf_counter() - started


def _answers(path: Path, count: int, words: list[str], rng: np.random.Generator) -> Path:
    """One to six labels a sample, one in ten of them unknown."""
    names = [f"sample_{n:08}" for n in range(count)]
    drawn = rng.choice([*words, *(f"unknown {n}" for n in range(len(words) // 9))], (count, 6))
    sizes = rng.integers(1, 7, count)
    items = [f"[{', '.join(row[:size])}]" for row, size in zip(drawn.tolist(), sizes, strict=True)]
    np.savez_compressed(path, filenames=names, fileitems=items)
    return path


def _tables(folder: Path) -> tuple[Path, list[str]]:
    """Word tables of OV-MER's size, and all forms in them."""
    import openpyxl

    folder.mkdir(parents=True)

    def write(name: str, rows: list[list[str]]) -> None:
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("Sheet1")
        for row in rows:
            sheet.append(row)
        book.save(folder / name)

    rng = np.random.default_rng(1)
    heads = [f"head{n}" for n in range(HEADS)]
    for wheel in range(1, 6):
        words = rng.permutation(heads).tolist()
        # the last wheel has all words, because every head must be on one
        leaves = words[42:78] if wheel < 5 else words[42:]
        rows = [[words[n % 6], words[6 + n % 36], leaf] for n, leaf in enumerate(leaves)]
        write(f"wheel{wheel}.xlsx", [["level1", "level2", "level3"], *rows])
    lemmas = [f"lemma{n}" for n in range(LEMMAS - HEADS)]
    header = [f"{what}_run{run}" for run in range(1, 9) for what in ("word", "synonym")]
    parts = np.array_split(lemmas, HEADS)
    synonyms = []
    for head, part in zip(heads, parts, strict=True):
        row = []
        for _ in range(8):
            row += [head, ", ".join([*part, *rng.choice(lemmas, 1)])]
        synonyms.append(row)
    write("synonym.xlsx", [header, *synonyms])
    names = heads + lemmas
    forms = [f"form{n}" for n in range(FORMS - LEMMAS)]
    shares = np.array_split(forms, LEMMAS)
    lines = [f'{name},"{",".join(share)}"' for name, share in zip(names, shares, strict=True)]
    (folder / "format.csv").write_text("\n".join(["name,format", *lines]) + "\n", "utf-8")
    return folder, names + forms

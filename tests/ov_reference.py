"""The open-vocabulary metrics once more, in a straight line from the notes on them: slow, and of
nothing in merstore.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openpyxl

METRICS = ["M1", "M2", *(f"M3W{wheel}-L{level}" for wheel in range(1, 6) for level in (1, 2))]


class Tables(NamedTuple):
    lemmas: dict[str, set[str]]  # of each form
    heads: dict[str, set[str]]  # of each lemma
    groups: dict[str, dict[str, str]]  # of each word, by metric


def labels_of(text: str) -> list[str]:
    if text[:1] == "[":
        text = text[1:]
    if text[-1:] == "]":
        text = text[:-1]
    for mark in "'\"":
        text = text.replace(mark, ",")
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def rows_of(path: Path) -> list[list[str]]:
    sheet = openpyxl.load_workbook(path)["Sheet1"]
    rows = sheet.iter_rows(min_row=2, values_only=True)
    return [["" if cell is None else str(cell).lower().strip() for cell in row] for row in rows]


def tables_of(folder: Path) -> Tables:
    groups = {}
    for wheel in range(1, 6):
        tree: dict[str, dict[str, list[str]]] = {}
        first = second = third = ""
        for row in rows_of(folder / f"wheel{wheel}.xlsx"):
            first, second, third = row[0] or first, row[1] or second, row[2] or third
            tree.setdefault(first, {}).setdefault(second, []).append(third)
        coarse, fine = {}, {}
        for first in tree:
            coarse[first], fine[first] = first, sorted(tree[first])[0]
            for second in tree[first]:
                coarse[second], fine[second] = first, second
                for third in tree[first][second]:
                    coarse[third], fine[third] = first, second
        groups[f"M3W{wheel}-L1"], groups[f"M3W{wheel}-L2"] = coarse, fine
    heads: dict[str, set[str]] = {}
    for row in rows_of(folder / "synonym.xlsx"):
        for run in range(8):
            for lemma in [row[2 * run], *labels_of(row[2 * run + 1])]:
                heads.setdefault(lemma, set()).add(row[2 * run])
    lemmas: dict[str, set[str]] = {}
    with open(folder / "format.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            for form in [line["name"], *labels_of(line["format"])]:
                lemmas.setdefault(form, set()).add(line["name"])
    return Tables(lemmas, heads, groups)


def stands_for(tables: Tables, label: str, metric: str) -> str | None:
    lemmas = sorted(tables.lemmas.get(label.lower().strip(), ()))
    if not lemmas:
        return None
    if metric == "M1":
        return lemmas[0]
    if metric == "M2":
        return min(tables.heads[lemmas[0]])
    for head in sorted(head for lemma in lemmas for head in tables.heads[lemma]):
        if head in tables.groups[metric]:
            return tables.groups[metric][head]
    return None


def projected(tables: Tables, labels: Iterable[str], metric: str) -> set[str]:
    return {word for label in labels if (word := stands_for(tables, label, metric)) is not None}


def scores_of(
    tables: Tables, truth: Mapping[str, Sequence[str]], answers: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """n, precision, recall and f of each metric, names in sorted order; NaN of no sample."""
    found = {}
    for metric in METRICS:
        precisions, recalls = [], []
        for name in sorted(truth):
            true = projected(tables, truth[name], metric)
            said = projected(tables, answers[name], metric)
            if true:
                precisions.append(len(true & said) / len(said) if said else 0.0)
                recalls.append(len(true & said) / len(true))
        n, p, r, f = len(recalls), np.nan, np.nan, np.nan
        if n:
            p, r = float(np.mean(precisions)), float(np.mean(recalls))
            f = 2 * p * r / (p + r) if p + r else 0.0
        found[metric] = {"n": n, "precision": p, "recall": r, "f": f}
    return found


def hit_rate_of(
    tables: Tables, truth: Mapping[str, str], answers: Mapping[str, Sequence[str]]
) -> float:
    """The mean over the wheels; NaN where one has no sample."""
    rates = []
    for wheel in range(1, 6):
        metric = f"M3W{wheel}-L1"
        hits = [
            stands_for(tables, label, metric) in projected(tables, answers[name], metric)
            for name, label in truth.items()
            if stands_for(tables, label, metric) is not None
        ]
        rates.append(sum(hits) / len(hits) if hits else np.nan)
    return float(np.mean(rates))

"""A small folder of word tables that breaks every habit."""

from collections.abc import Sequence
from pathlib import Path

import openpyxl

WHEEL_ROWS: dict[int, list[list[str | None]]] = {
    1: [["Mad", "Hurt", " Jealous "], [None, "Hostile", "Irate"], ["Sad", "Guilty", "Sorry"],
        [None, None, "Ashamed"]],
    2: [["sad", "lonely", "jealous"], ["happy", "proud", "confident"], [None, "brave", "daring"],
        # `jealous` stands under two groups, and the last one wins
        ["mad", "hostile", "jealous"]],
    3: [["joyful", "brave", "daring"]],
    4: [["sad", "sorry", "sad"]],
    5: [["powerful", "proud", "brave"], [None, "daring", "happy"]],
}  # fmt: skip
HEADER = ["level1", "level2", "level3"]
SYNONYMS = {
    "daring": "fearless, bold",
    "jealous": "envious",
    "sad": "unhappy,'down'",
    "brave": "fearless",
}
FORMATS = {
    "fearless": "fearless, fear", "bold": "bold,boldly", "envious": "envy", "unhappy": "", "sad": "sadness,sadly",
    "jealous": "envy,jealousy", "happy": "happily",
}  # fmt: skip


def write_xlsx(path: Path, rows: Sequence[Sequence[str | None]], sheet: str = "Sheet1") -> None:
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    page.title = sheet
    for row in rows:
        page.append(list(row))
    book.save(path)


def heads() -> list[str]:
    cells = [cell for rows in WHEEL_ROWS.values() for row in rows for cell in row if cell]
    return sorted({cell.lower().strip() for cell in cells})


def write_tables(folder: Path) -> Path:
    folder.mkdir()
    for number, rows in WHEEL_ROWS.items():
        write_xlsx(folder / f"wheel{number}.xlsx", [HEADER, *rows])
    header = [f"{what}_run{run}" for run in range(1, 9) for what in ("word", "synonym")]
    rows = []
    for place in range(len(heads())):
        row = []
        for run in range(8):  # each run in an order of its own
            head = heads()[(place + run) % len(heads())]
            row += [head.title(), SYNONYMS.get(head, head) if run % 2 else head.upper()]
        rows.append(row)
    write_xlsx(folder / "synonym.xlsx", [header, *rows])
    lines = [f'{name},"{forms}"' for name, forms in FORMATS.items()]
    (folder / "format.csv").write_text("\n".join(["name,format", *lines]) + "\n", "utf-8")
    return folder

"""Tables and labels that nobody has seen score as the notes on the metrics have it, to the last bit."""

import random
from pathlib import Path

import ov_reference as reference
import pytest
from score_tables import HEADER, write_xlsx

from merstore.score.ov import ov_scores
from merstore.score.unibench import hit_rate
from merstore.score.wheels import METRICS, WheelTables

WORDS = [*(f"w{n}" for n in range(24)), "freude", "at ease", "喜", "ärger", "w-1"]
SYNONYMS = [f"s{n}" for n in range(30)]
FORMS = [f"f{n}" for n in range(50)]


def write_random_tables(folder: Path, chance: random.Random) -> None:
    """Words stand on several wheels and in several groups, lemmas have several heads and forms
    several lemmas; case and blanks vary.
    """

    def spelled(word: str) -> str:
        return chance.choice([word, word.upper(), f" {word.title()} "])

    heads: set[str] = set()
    for wheel in range(1, 6):
        rows: list[list[str | None]] = [list(HEADER)]
        for _ in range(chance.randint(1, 4)):
            first: str | None = chance.choice(WORDS)
            for _ in range(chance.randint(1, 3)):
                second: str | None = chance.choice(WORDS)
                for _ in range(chance.randint(1, 4)):
                    row = [first, second, chance.choice(WORDS)]
                    heads |= {cell for cell in row if cell}
                    rows.append([spelled(cell) if cell else None for cell in row])
                    first = second = None
        write_xlsx(folder / f"wheel{wheel}.xlsx", rows)
    ordered = sorted(heads)
    runs = [chance.sample(ordered, len(ordered)) for _ in range(8)]
    lemmas = set(heads)
    rows = [[f"{what}_run{run}" for run in range(1, 9) for what in ("word", "synonym")]]
    for place in range(len(ordered)):
        cells: list[str | None] = []
        for run in runs:
            found = chance.choices(SYNONYMS + WORDS, k=chance.randint(1, 3))
            lemmas |= set(found)
            listed = ", ".join(map(spelled, found))
            cells += [spelled(run[place]), chance.choice([listed, f"[{listed}]", f"'{listed}'"])]
        rows.append(cells)
    write_xlsx(folder / "synonym.xlsx", rows)
    lines = ["name,format"]
    for lemma in sorted(lemmas):
        if chance.random() < 0.8:
            forms = chance.choices(FORMS + WORDS, k=chance.randint(0, 5))
            lines.append(f'{lemma},"{", ".join(forms)}"')
    (folder / "format.csv").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("seed", range(8))
def test_random_tables_and_labels(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    write_random_tables(tmp_path, chance)
    tables, expected = WheelTables.load(tmp_path), reference.tables_of(tmp_path)
    assert set(tables.forms) == set(expected.lemmas)
    some = [*expected.lemmas, "nobody knows", ""]
    for label in some:
        found = [tables.project(f" {label.upper()}", metric) for metric in METRICS]
        # upper case is not always undone by lower case
        label = label.upper().lower()
        assert found == [reference.stands_for(expected, label, metric) for metric in METRICS]

    names = [f"样本{number}" for number in chance.sample(range(1000), 130)]
    truth = {name: chance.choices(some, k=chance.randint(0, 4)) for name in names}
    answers = {
        name: chance.choices(some, k=chance.randint(0, 4)) + chance.choices(truth[name] or [""])
        for name in names
    }
    scores = ov_scores(truth, answers, tables)
    for metric, told in reference.scores_of(expected, truth, answers).items():
        assert str(scores[metric]._asdict()) == str(told)  # NaN is NaN

    labels = {name: chance.choice(some) for name in names}
    rate = hit_rate(labels, answers, tables).rate
    assert str(rate) == str(reference.hit_rate_of(expected, labels, answers))

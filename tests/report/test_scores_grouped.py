"""The page of MER2024's score: words of one group of a sample are one."""

from typing import Any

from html_page import Page

from merstore.report.compared import Compared
from merstore.report.counting import ANOTHER, NOTHING
from merstore.report.grouped import compare
from merstore.report.scores import html
from merstore.score.grouped import grouped_score

HOSTILE = "</script><b>$x_1$"
GROUPS: dict[str, Any] = {
    "a": [["happy", "glad"], ["sad", "down"]],
    "b": [["sad", "unhappy"]],
    HOSTILE: [],
}
TRUTH = {"a": ["Glad", "sad"], "b": ["unhappy"], HOSTILE: [HOSTILE], "without groups": ["sad"]}
GOOD = {"a": ["happy", "odd"], "b": ["sad"], HOSTILE: [HOSTILE], "other": ["sad"]}


def compared(predictions: dict[str, Any], seed: int | None = None) -> Compared:
    results = {
        name: grouped_score(TRUTH, each, GROUPS, "empty") for name, each in predictions.items()
    }
    return compare(TRUTH, predictions, results, GROUPS, seed)


def test_words_are_confused_by_the_first_of_their_group() -> None:
    found = compared({"good": GOOD}).confusions[0][0]
    assert found.groups == (HOSTILE, "happy", "odd", "sad", NOTHING)
    counts = {
        (one, two): int(found.counts[row, column])
        for row, one in enumerate(found.groups)
        for column, two in enumerate(found.groups)
        if found.counts[row, column]
    }
    assert counts == {
        (HOSTILE, HOSTILE): 1,
        ("happy", "happy"): 1,
        ("sad", "sad"): 1,
        ("sad", "odd"): 1,
    }


def test_what_became_of_the_samples() -> None:
    found = compared({"good": GOOD, "none": {}})
    good, none = found.covered
    assert (good.n, good.missing, good.empty, good.extra) == (3, (), (), 1)
    assert (none.n, none.missing, none.empty) == (3, tuple(sorted(GROUPS)), tuple(sorted(GROUPS)))
    assert found.unscored == 1
    assert found.hardest[0].name == "a"
    assert found.hardest[0].score == (1 / 2 + 0) / 2


def test_it_is_a_good_page() -> None:
    text = html(
        "scores.html", "t.csv", compared({"good": GOOD, HOSTILE: {}}, seed=0), {"groups": HOSTILE}
    )
    parsed = Page(text)
    parsed.check()
    assert parsed.tags.count("svg") == 2
    score = grouped_score(TRUTH, GOOD, GROUPS, "empty")
    assert f"<strong>{100 * score.average:.2f} %</strong> mean of accuracy and recall" in text
    assert f'data-v="{score.recall}">{100 * score.recall:.2f}</td>' in text
    assert "in the tables" not in text


def test_of_many_words_the_rare_ones_are_one() -> None:
    names = [f"s{n:03}" for n in range(60)]
    truth = {name: [f"word {n}"] for n, name in enumerate(names)}
    groups: dict[str, Any] = {name: [] for name in names}
    found = compare(truth, {"p": truth}, {"p": grouped_score(truth, truth, groups)}, groups)
    groups_shown = found.confusions[0][0].groups
    assert len(groups_shown) == 14
    assert groups_shown[-2:] == (ANOTHER, NOTHING)
    assert found.confusions[0][0].counts[-2, -2] == 48

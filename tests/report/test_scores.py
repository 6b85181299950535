"""The page that compares predictions: what it counts, and that it is a good page."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser, dumped
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st
from score_tables import write_tables

from merstore.report.scores import (
    NOTHING,
    Compared,
    compare,
    confusion,
    frequencies,
    hardest,
    html,
    sample_f,
    shortened,
)
from merstore.score.ov import ov_scores
from merstore.score.wheels import METRICS, WheelTables

HOSTILE = "</script><script>alert(1)</script>'\"&$x_$\\frac\x00\x1b中\udcff"
TRUTH = {
    "s1": ["sad", "proud"],
    "s2": ["fear"],
    "s3": ["neutral"],  # in no table
    HOSTILE: ["Mad", "happy", HOSTILE],
}
GOOD = {"s1": ["sad", "grumpy"], "s2": ["fear"], "s3": [], HOSTILE: ["irate", "happy"]}
BAD = {"s1": ["happy"], "s2": [], "s3": ["sad"], HOSTILE: [HOSTILE, "Sad", "sad "]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> WheelTables:
    return WheelTables.load(write_tables(tmp_path_factory.mktemp("tables") / "wheels"))


def compared(predictions: Mapping[str, Any], tables: WheelTables) -> Compared:
    results = {name: ov_scores(TRUTH, each, tables) for name, each in predictions.items()}
    return compare(TRUTH, predictions, results, tables)


@pytest.fixture(scope="module")
def page(tables: WheelTables) -> str:
    predictions = {"runs/bad/a-openset.npz": BAD, f"runs/{HOSTILE}": GOOD}
    return html(compared(predictions, tables), f"truth {HOSTILE}.csv", "wheels")


# -- what it counts

words = st.sampled_from(["sad", "proud", "happy", "brave", "jealous", "mad", "grumpy", "SAD "])
answers = st.dictionaries(st.sampled_from("abcd"), st.lists(words, max_size=4), min_size=1)


@given(answers, answers)
def test_confusion_pairs_what_is_missed_with_what_is_wrong(
    tables: WheelTables, truth: dict[str, list[str]], said: dict[str, list[str]]
) -> None:
    for metric in ("M3W2-L1", "M3W5-L1"):
        expected: Counter[tuple[str, str]] = Counter()
        n = 0
        for name in truth:
            true = {tables.project(word, metric) for word in truth[name]} - {None}
            guess = {tables.project(word, metric) for word in said.get(name, [])} - {None}
            if not true:
                continue
            n += 1
            expected.update((str(group), str(group)) for group in true & guess)
            if true != guess:
                expected.update(
                    (str(one), str(two))
                    for one in true - guess or {NOTHING}
                    for two in guess - true or {NOTHING}
                )
        found = confusion(truth, said, tables, metric)
        counts = {
            (one, two): int(found.counts[row, column])
            for row, one in enumerate(found.groups)
            for column, two in enumerate(found.groups)
            if found.counts[row, column]
        }
        assert counts == expected
        filled = {name: said.get(name, []) for name in truth}
        assert n == ov_scores(truth, filled, tables)[metric].n


@given(answers, answers)
def test_a_samples_f_is_the_mean_of_the_metrics_that_score_it(
    tables: WheelTables, truth: dict[str, list[str]], said: dict[str, list[str]]
) -> None:
    filled = {name: said.get(name, []) for name in truth}
    found = dict(zip(sorted(truth), sample_f(ov_scores(truth, filled, tables)), strict=True))
    for name, labels in truth.items():
        each = ov_scores({name: labels}, filled, tables)
        scored = [each[metric].f for metric in METRICS if each[metric].n]
        np.testing.assert_allclose(found[name], np.mean(scored) if scored else np.nan)


def test_labels_are_counted_once_a_sample_in_lower_case(tables: WheelTables) -> None:
    truth = {"a": ["Sad", "sad "], "b": ["sad"], "c": ["odd"]}
    found = frequencies(truth, [{"a": ["happy"], "z": ["sad"]}, {"c": ["sad"]}], tables)
    assert [tuple(each) for each in found] == [
        ("sad", True, 2, (0, 1)),
        ("odd", False, 1, (0, 0)),
        ("happy", True, 0, (1, 0)),
    ]


def test_the_hardest_samples_come_first_and_unscored_ones_not_at_all() -> None:
    truth = {"a": ["x"], "b": ["y"], "c": ["z"]}
    scores = np.array([[1.0, 0.0, np.nan], [0.5, 0.5, np.nan]])
    found = hardest(truth, [{"a": ["p"]}, {"b": ["q"]}], list("abc"), scores)
    assert [tuple(each) for each in found] == [
        ("b", 0.25, ["y"], [(0.0, ()), (0.5, ["q"])]),
        ("a", 0.75, ["x"], [(1.0, ["p"]), (0.5, ())]),
    ]


def test_names_are_shortened_by_what_all_have() -> None:
    assert shortened(["r/a/x-openset.npz", "r/ab/x.csv"]) == ["a/x", "ab/x.csv"]
    assert shortened(["/r/x.csv"]) == ["x.csv"]
    assert shortened(["x.csv", "r/x.csv"]) == ["x.csv", "r/x.csv"]


# -- the page


def test_it_is_a_good_page(page: str) -> None:
    parsed = Page(page)
    parsed.check()
    assert parsed.tags.count("svg") == 3
    assert parsed.tags.count("script") == 1  # its own
    assert "&lt;script&gt;alert(1)" in page


def test_scores_are_those_of_merstore_score(page: str, tables: WheelTables) -> None:
    good = ov_scores(TRUTH, GOOD, tables)
    assert page.count(f">{100 * good.average:.2f}</td>") >= 1
    for metric in METRICS:
        assert f'data-v="{good[metric].f}">{100 * good[metric].f:.2f}</td>' in page
    assert "1 sample of the truth is scored in no metric" in page
    assert "not OV-MER's: wheel1.xlsx" in page


def test_pictures_tell_their_numbers_to_those_who_cannot_see_them(
    page: str, tables: WheelTables
) -> None:
    told = [text for text in Page(page).alternatives if text.startswith("M-avg")]
    assert f"{100 * ov_scores(TRUTH, BAD, tables).average:.2f}" in told[0]


def test_one_prediction_is_compared_with_none(tables: WheelTables) -> None:
    text = html(compared({"alone.csv": GOOD}, tables), "t.csv", "wheels")
    Page(text).check()
    assert "The next" not in text


def test_without_a_score_it_says_so(tables: WheelTables) -> None:
    truth = {"s": ["neutral"]}
    results = {"p": ov_scores(truth, {"s": ["sad"]}, tables)}
    text = html(compare(truth, {"p": {"s": ["sad"]}}, results, tables), "t.csv", "wheels")
    Page(text).check()
    assert "No score" in text
    assert "nan" not in text


@pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
def test_a_browser_prints_what_is_folded(page: str, tmp_path: Path) -> None:
    printing = """
      const closed = () => document.querySelectorAll("details:not([open])").length;
      const before = closed();
      dispatchEvent(new Event("beforeprint"));
      document.title = before + " " + closed();
    """
    before, after = map(int, dumped(tmp_path, page, printing).split())
    assert (before > 0, after) == (True, 0)


@pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
def test_a_browser_sorts_its_tables(page: str, tmp_path: Path) -> None:
    click = """
      const table = document.querySelector("table.sorts"), told = [];
      const places = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent).join();
      told.push(places());
      table.tHead.rows[0].cells[0].querySelector("button").click();
      told.push(places(), table.tHead.rows[0].cells[0].getAttribute("aria-sort"));
      table.tHead.rows[0].cells[2].querySelector("button").click();
      told.push(places());
      document.title = told.join(" | ");
    """
    title = dumped(tmp_path, page, click)
    assert title == "1,2 | 2,1 | descending | 1,2"

"""The pages of open-vocabulary labels: what they count, and that they are good pages."""

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

from merstore.report.compared import Compared, Texts
from merstore.report.counting import NOTHING
from merstore.report.openset import MER2025, OV, compare, confusions, sample_f
from merstore.report.scores import html
from merstore.score.ov import COARSE, ov_scores
from merstore.score.wheels import METRICS, WheelTables
from merstore.store.entry import Failure

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


def compared(
    predictions: Mapping[str, Any],
    tables: WheelTables,
    truth: Mapping[str, Any] = TRUTH,
    texts: Texts = OV,
    seed: int | None = 0,
    failed: Mapping[str, Any] | None = None,
) -> Compared:
    results = {name: ov_scores(truth, each, tables, "empty") for name, each in predictions.items()}
    return compare(truth, predictions, results, tables, texts, seed, failed)


@pytest.fixture(scope="module")
def page(tables: WheelTables) -> str:
    predictions = {"runs/bad/a-openset.npz": BAD, f"runs/{HOSTILE}": GOOD}
    failed = {f"runs/{HOSTILE}": [Failure(HOSTILE, "no_video", HOSTILE, 1, 0.0)]}
    return html(
        "scores.html",
        f"truth {HOSTILE}.csv",
        compared(predictions, tables, failed=failed),
        {"tables": HOSTILE},
    )


# -- what it counts

words = st.sampled_from(["sad", "proud", "happy", "brave", "jealous", "mad", "grumpy", "SAD "])
answers = st.dictionaries(st.sampled_from("abcd"), st.lists(words, max_size=4), min_size=1)


@given(answers, answers)
def test_confusion_pairs_what_is_missed_with_what_is_wrong(
    tables: WheelTables, truth: dict[str, list[str]], said: dict[str, list[str]]
) -> None:
    of_wheels = dict(zip(COARSE, confusions(truth, [said], tables)[0], strict=True))
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
        found = of_wheels[metric]
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


# -- the page


def test_it_is_a_good_page(page: str) -> None:
    parsed = Page(page)
    parsed.check()
    assert parsed.tags.count("svg") == 3
    assert "&lt;script&gt;alert(1)" in page


def test_scores_are_those_of_merstore_score(page: str, tables: WheelTables) -> None:
    good = ov_scores(TRUTH, GOOD, tables)
    assert f"<strong>{100 * good.average:.2f} %</strong>" in page
    for metric in METRICS:
        assert f'data-v="{good[metric].f}">{100 * good[metric].f:.2f}</td>' in page
    assert "1 sample of the truth is not scored" in page


def test_pictures_tell_their_numbers_to_those_who_cannot_see_them(
    page: str, tables: WheelTables
) -> None:
    told = [text for text in Page(page).alternatives if text.startswith("M-avg")]
    assert f"{100 * ov_scores(TRUTH, BAD, tables).average:.2f}" in told[0]


def test_mer2025_ranks_by_its_two_levels_and_knows_no_m1(tables: WheelTables) -> None:
    truth = {"a": ["sad"], "b": ["fear"]}
    predictions = {"few": {"a": ["sad"]}, "near": {"a": ["sad"], "b": ["bold"]}}
    found = compared(predictions, tables, truth, MER2025)
    ranks = [entry.result.rank for entry in found.standing.board]
    assert ranks[0] > ranks[1]
    assert found.grid is not None
    assert found.grid.columns == [metric[2:] for metric in METRICS[2:]]
    text = html("scores.html", "t.csv", found)
    Page(text).check()
    assert f"<strong>{100 * ranks[0]:.2f} %</strong> mean F of the two levels" in text
    assert "M1" not in text


def test_without_the_bootstrap_there_are_no_intervals(tables: WheelTables) -> None:
    text = html("scores.html", "t.csv", compared({"a": GOOD, "b": BAD}, tables, seed=None))
    parsed = Page(text)
    parsed.check()
    assert parsed.tags.count("svg") == 2
    assert not {"95 %", "behind", "Intervals", "paired"} & set(text.replace(",", " ").split())
    assert "The next, <code>b</code>, has" in text


def test_one_prediction_is_compared_with_none(tables: WheelTables) -> None:
    text = html("scores.html", "t.csv", compared({"alone.csv": GOOD}, tables))
    Page(text).check()
    assert "The next" not in text
    assert "over all predictions" not in text


def test_without_a_score_it_says_so(tables: WheelTables) -> None:
    truth = {"s": ["neutral"]}
    text = html("scores.html", "t.csv", compared({"p": {"s": ["sad"]}}, tables, truth))
    Page(text).check()
    assert "No score" in text
    assert "nan" not in text


def test_predictions_of_nothing_at_all(tables: WheelTables) -> None:
    found = compared({"none": {}, "empty": {name: [] for name in TRUTH}}, tables)
    text = html("scores.html", "t.csv", found)
    Page(text).check()
    assert "<strong>0.00 %</strong>" in text
    assert [len(each.empty) for each in found.covered] == [4, 4]
    assert [len(each.missing) for each in found.covered] == [0, 4]


def test_failures_of_a_run_are_told(page: str, tables: WheelTables) -> None:
    assert '<th class="n" scope="col">failures</th>' in page
    assert ">no_video: " in page
    other = html("scores.html", "t.csv", compared({"a": GOOD}, tables))
    assert ">failures</th>" not in other


def test_a_page_of_many_samples_and_long_answers_is_small(tables: WheelTables) -> None:
    words = ["sad", "proud", "happy", "brave", "odd one", "x" * 5000]
    truth = {f"sample_{n:08}": [words[n % 4]] for n in range(3000)}
    said = {name: [words[(n + 1) % 6], f"prose number {n} " * 50] for n, name in enumerate(truth)}
    text = html("scores.html", "t.csv", compared({"p": said, "q": {}}, tables, truth, seed=None))
    assert len(text) < 300_000
    assert "x" * 100 not in text


@pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
def test_a_browser_sorts_its_tables_and_prints_what_is_folded(page: str, tmp_path: Path) -> None:
    script = """
      const table = document.querySelector("table.sorts"), told = [];
      const places = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent).join();
      told.push(places());
      table.tHead.rows[0].cells[0].querySelector("button").click();
      told.push(places(), table.tHead.rows[0].cells[0].getAttribute("aria-sort"));
      table.tHead.rows[0].cells[2].querySelector("button").click();
      told.push(places());
      const closed = () => document.querySelectorAll("details:not([open])").length;
      told.push(closed() > 0);
      dispatchEvent(new Event("beforeprint"));
      told.push(closed(), document.body.scrollWidth <= innerWidth);
      document.title = told.join(" | ");
    """
    title = dumped(tmp_path, page, script)
    assert title == "1,2 | 2,1 | descending | 1,2 | true | 0 | true"

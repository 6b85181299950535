"""The page of MER-UniBench: models on the whole, and on each of the nine sets."""

from pathlib import Path
from typing import Any

import pytest
from browser import browser, dumped
from html_page import Page
from unibench_sets import truths, write_labels, write_results, write_wheels

from merstore.report.compared import Compared
from merstore.report.scores import html
from merstore.report.unibench import compare
from merstore.score.files import OPENSET, SENTIMENT, prediction_files
from merstore.score.unibench_results import SETS, Boards, boards, score_results
from merstore.score.wheels import WheelTables

MODELS = {"good": 0.9, "<b>bad&": 0.2}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, WheelTables]:
    """Results, labels, tables."""
    root = tmp_path_factory.mktemp("unibench")
    sets = truths(12, ("sad", "joy", "anger", "happy"))
    for model, right in MODELS.items():
        write_results(root / "output", sets, model, right)
    tables = WheelTables.load(write_wheels(root / "emotion_wheel"))
    return root / "output", write_labels(root / "dataset", sets), tables


Told = tuple[Boards, Compared, dict[str, Compared]]


def told(case: Any, seed: int | None, only: str = "") -> Told:
    output, labels, tables = case
    files = prediction_files(str(output), (OPENSET, SENTIMENT))
    models = score_results({k: v for k, v in files.items() if only in k}, labels, tables)
    standing = boards(models, seed)
    return standing, *compare(models, standing, tables)


@pytest.fixture(scope="module")
def found(case: Any) -> Told:
    return told(case, 0)


@pytest.fixture(scope="module")
def page(found: Told) -> str:
    return html("unibench.html", "labels", found[1], {"tables": "wheels"}, sets=found[2])


def test_the_whole_has_the_mean_and_all_sets(found: Told) -> None:
    standing, whole, sets = found
    assert list(sets) == list(SETS)
    assert whole.grid is not None
    assert whole.grid.columns == [key.upper() for key in SETS]
    for place, entry in enumerate(standing.models):
        scores = whole.grid.scores[place]
        assert entry.values["mean"] == pytest.approx(scores.mean())
        assert scores.tolist() == [entry.result[key].score for key in SETS]


def test_each_set_has_its_confusion_and_its_hardest_samples(found: Told) -> None:
    _, _, sets = found
    assert [each.title for each in sets["meld"].confusions[0]] == [
        f"M3W{n}-L1" for n in range(1, 6)
    ]
    (signs,) = sets["sims"].confusions[0]
    assert signs.groups == ("positive", "negative", "neutral", "(nothing)")
    assert signs.counts.sum() == sets["sims"].covered[0].scored[0]
    assert sets["sims"].covered[0].n == 12
    assert any("mixed" in (each.unknown or ()) for each in sets["sims"].covered)
    hardest = sets["sims"].hardest
    assert [each.score for each in hardest] == sorted(each.score for each in hardest)
    assert {each.truth[0] for each in hardest} == {"positive", "negative"}
    assert [line.what for line in sets["mer2023"].lines[:5]] == [f"M3W{n}-L1" for n in range(1, 6)]


def test_it_is_a_good_page(page: str, found: Told) -> None:
    parsed = Page(page)
    parsed.check()
    assert parsed.tags.count("svg") == 2 * (1 + len(SETS))
    assert set(SETS) <= set(parsed.ids)
    assert "<b>bad" not in page
    best = found[0].models[0]
    assert f"<strong>{100 * best.values['mean']:.2f} %</strong> mean of the nine sets" in page
    assert (
        f"{100 * best.intervals['mean'].low:.2f} to {100 * best.intervals['mean'].high:.2f}" in page
    )


def test_a_model_of_some_sets_has_no_mean(case: Any) -> None:
    _, whole, sets = told(case, None, "results-mer202")
    text = html("unibench.html", "labels", whole, {}, sets=sets)
    Page(text).check()
    assert list(sets) == ["mer2023", "mer2024"]
    assert "No score</strong>: only a model that has all nine sets has a mean" in text
    assert "nan" not in text


@pytest.mark.skipif(browser() is None, reason="no chromium on this machine")
def test_a_browser_opens_it_and_finds_its_sets(page: str, tmp_path: Path) -> None:
    script = """
      const told = [document.querySelectorAll("th button").length > 100];
      for (const link of document.querySelectorAll("p > a"))
        told.push(document.querySelector(link.hash).tagName);
      document.title = told.join();
    """
    assert dumped(tmp_path, page, script) == ",".join(["true", *["H2"] * len(SETS)])

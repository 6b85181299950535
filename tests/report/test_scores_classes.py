"""The page of classes and valences."""

from typing import Any

import pytest
from html_page import Page
from sklearn.metrics import precision_recall_fscore_support

from merstore.report.classes import compare
from merstore.report.compared import Compared
from merstore.report.counting import NOTHING
from merstore.report.scores import html
from merstore.score.challenge import challenge_score

HOSTILE = "<img src=x onerror=alert(1)>"
TRUTH: dict[str, dict[str, Any]] = {
    "a": {"emo": "sad", "val": -1.0},
    "b": {"emo": "happy", "val": 2.0},
    "c": {"emo": "sad", "val": -10.0},
    "d": {"emo": "", "val": 0.5},
    HOSTILE: {"emo": HOSTILE, "val": ""},
    "unknown": {"emo": "", "val": ""},
}


def rows(*answers: tuple[str, float]) -> dict[str, dict[str, Any]]:
    found = zip(TRUTH, (*answers, ("", 0.0)), strict=True)
    return {name: {"emo": emo, "val": val} for name, (emo, val) in found}


GOOD = rows(("sad", -1), ("happy", 1.5), ("happy", 0), ("sad", 0.5), (HOSTILE, 0))
BAD = rows(("joy", 1), ("sad", -2), ("", 0), ("sad", 0), ("sad", 0))


def compared(predictions: dict[str, Any], truth: Any = TRUTH, seed: int | None = None) -> Compared:
    results = {name: challenge_score(truth, each) for name, each in predictions.items()}
    return compare(truth, predictions, results, seed)


def test_each_class_is_scored_as_scikit_learn_does() -> None:
    found = compared({"bad": BAD, "good": GOOD})
    assert [entry.name for entry in found.standing.board] == ["good", "bad"]
    true = ["sad", "happy", "sad", HOSTILE]
    classes = [HOSTILE, "happy", "sad"]
    for place, said in enumerate((["sad", "happy", "happy", HOSTILE], ["joy", "sad", "", "sad"])):
        expected = precision_recall_fscore_support(true, said, labels=classes, zero_division=0)
        lines = [line for line in found.lines if line.place == place and line.what in classes]
        assert [line.what for line in lines] == classes
        for line, precision, recall, f, n in zip(lines, *expected, strict=True):
            assert line.n == n
            assert line.value == pytest.approx(f)
            assert line.recall == pytest.approx(recall)
            assert line.precision == pytest.approx(precision, nan_ok=True) or not precision


def test_classes_are_confused_and_no_class_is_nothing() -> None:
    found = compared({"bad": BAD}).confusions[0][0]
    assert found.groups == (HOSTILE, "happy", "joy", "sad", NOTHING)
    assert found.counts.tolist() == [
        [0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]
    ]  # fmt: skip


def test_what_became_of_the_samples() -> None:
    found = compared({"bad": BAD | {"more": {}}})
    (known,) = found.covered
    assert (known.n, known.scored, known.empty, known.extra) == (6, (3, 4), ("c",), 1)
    assert known.missing == []
    assert known.unknown == {"joy": 1}
    assert found.unscored == 1


def test_of_the_wrong_ones_those_with_the_worst_valence_are_hardest() -> None:
    found = compared({"bad": BAD})
    assert [(each.name, each.score) for each in found.hardest] == [
        ("b", 0), ("a", 0), (HOSTILE, 0), ("c", 0)
    ]  # fmt: skip
    assert (found.hardest[0].truth, found.hardest[0].answers) == (
        ["happy", "2"], [(0.0, ["sad", "-2"])]
    )  # fmt: skip
    found = compared({"bad": BAD, "good": GOOD})
    assert [(each.name, each.score) for each in found.hardest] == [
        ("c", 0), ("b", 0.5), ("a", 0.5), (HOSTILE, 0.5)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [None, 0])
def test_it_is_a_good_page(seed: int | None) -> None:
    found = compared({"bad.csv": BAD, HOSTILE: GOOD}, seed=seed)
    text = html("scores.html", "t.csv", found)
    parsed = Page(text)
    parsed.check()
    assert "<img" not in text
    waf = challenge_score(TRUTH, GOOD).scores["waf"]
    assert f"<strong>{waf:.4f}</strong> weighted F1 of the classes" in text
    assert parsed.tags.count("svg") == (1 if seed is None else 2)
    assert ("paired" in text) == (seed is not None)


def test_valences_alone_are_ranked_by_their_concordance() -> None:
    truth = {f"s{n}": {"val": n} for n in range(4)}
    near = {f"s{n}": {"val": n + 0.1 * n} for n in range(4)}
    far = {f"s{n}": {"val": -n} for n in range(4)}
    found = compared({"far": far, "near": near}, truth)
    text = html("scores.html", "t.csv", found)
    Page(text).check()
    assert [entry.name for entry in found.standing.board] == ["near", "far"]
    assert (found.grid, found.frequencies, found.confusions) == (None, [], [])
    assert (found.hardest[0].name, found.hardest[0].answers[1]) == ("s3", (-36, ["-3"]))
    assert "concordance of the valences" in text


def test_a_prediction_of_classes_beside_one_of_valences() -> None:
    classes = {name: {"emo": row["emo"]} for name, row in GOOD.items()}
    values = {name: {"val": row["val"]} for name, row in GOOD.items()}
    found = compared({"values": values, "classes": classes}, seed=0)
    Page(html("scores.html", "t.csv", found)).check()
    assert [entry.name for entry in found.standing.board] == ["classes", "values"]
    assert len(found.confusions) == 1


def test_nothing_but_empty_classes() -> None:
    found = compared({"empty": rows(*[("", 0.0)] * 5)}, seed=0)
    text = html("scores.html", "t.csv", found)
    Page(text).check()
    assert "<strong>0.0000</strong>" in text
    assert len(found.covered[0].empty) == 4


def test_many_classes_are_cut_to_the_most_frequent() -> None:
    truth = {f"s{n:03}": {"emo": f"class {n // 2:03}"} for n in range(400)}
    found = compared({"p": truth}, truth)
    assert found.grid is not None
    assert len(found.grid.columns) == 12
    assert len(found.confusions[0][0].groups) == 14
    assert len(html("scores.html", "t.csv", found)) < 100_000

"""`merstore report` writes pages."""

from pathlib import Path

import pytest
from html_page import Page
from score_tables import write_tables

from .conftest import FRAMES, SOUND, Merstore
from .test_train import FEATURES, QUICK, made  # noqa: F401


@pytest.fixture
def scoring(tmp_path: Path) -> list[object]:
    tables = write_tables(tmp_path / "emotion_wheel")
    truth = tmp_path / "truth.csv"
    truth.write_text('name,openset\ns1,"[sad, proud]"\ns2,[fear]\n')
    (tmp_path / "one.csv").write_text("name,openset\ns1,[sad]\ns2,[irate]\n")
    (tmp_path / "two.jsonl").write_text('{"name": "s1", "openset": "[proud]"}\n')
    return ["report", "ov", "--truth", truth, "--tables", tables]


def test_predictions_are_compared(cli: Merstore, scoring: list[object], tmp_path: Path) -> None:
    given = [tmp_path / "one.csv", tmp_path / "two.jsonl"]
    out = tmp_path / "page.html"
    result = cli(*scoring, "--missing", "empty", *given, "--out", out)
    assert (result.code, result.out, result.err) == (0, "", f"written: {out}\n")
    page = out.read_text()
    Page(page).check()
    assert all(f"<code>{path}</code>" in page for path in given)


def test_what_is_missing_is_an_error_and_no_page(
    cli: Merstore, scoring: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")
    result = cli(*scoring, tmp_path / "two.jsonl", "--out", out)
    assert result.code == 1
    assert "two.jsonl: 1 of 2 samples have no prediction: s2" in result.err
    assert out.read_text() == "old"
    result = cli(*scoring, tmp_path / "one.csv", "--out", tmp_path / "nowhere" / "page.html")
    assert result.code == 1
    assert "nowhere/page.html cannot be written" in result.err


def test_a_store(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for args in ([filled, "--out", out], ["--out", out, filled], ["store", filled, "--out", out]):
        out.unlink(missing_ok=True)
        result = cli("report", *args)
        assert (result.code, result.out, result.err) == (0, "", f"written: {out}\n")
        page = out.read_text()
        Page(page).check()
        assert f"<h1><code>{filled}</code></h1>" in page
        assert "中文_样本" not in page  # it is well
        assert "the decoder stops" in page


def test_some_views_of_a_store(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert cli("report", filled, "chinese-hubert-large-FRA", "--out", out).code == 0
    page = out.read_text()
    assert "1 view of <code>" in page
    assert SOUND in page
    assert FRAMES not in page


def test_wrong_usage(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert cli("report", filled).code == 2
    assert cli("report").code == 2
    assert "no view a/b/c" in cli("report", filled, "a/b/c", "--out", out).err
    assert cli("report", tmp_path / "nothing", "--out", out).code == 2
    assert not out.exists()


def test_a_run_of_training(cli: Merstore, made: Path, tmp_path: Path) -> None:  # noqa: F811
    args = ["--store", made, "--dataset", "MER2023", *FEATURES, *QUICK, "--run", "first"]
    result = cli("train", "attention", *args, "--trials", "2", "--json")
    assert result.code == 0, result.err
    out = tmp_path / "page.html"
    for view in ([], ["mer2023/result@attention/first"]):
        assert cli("report", made, *view, "--out", out).code == 0
        page = out.read_text()
        Page(page).check()
        best = max(result.json["rows"], key=lambda row: row["cv"]["metric"])
        assert f"{best['cv']['metric']:.4f}</td>" in page
        assert f"{100 * best['tests']['test1']['f1']:.2f}</td>" in page
        assert ("Coverage</h3>" in page) == (not view)


@pytest.mark.shared
def test_the_released_answers_of_three_models(cli: Merstore, shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "ov"
    if not data.is_dir():
        pytest.skip(f"no {data}")
    given = sorted((data / "results-ovmerd").iterdir())
    args = ["--truth", data / "ov_store" / "check-openset.csv", "--tables", data / "emotion_wheel"]
    out = tmp_path / "page.html"
    assert cli("report", "ov", *args, "--missing", "empty", *given, "--out", out).code == 0
    page = out.read_text()
    Page(page).check()
    assert "<strong>47.22 %</strong>" in page
    assert ", OV-MER&#39;s (SHA-256" in page

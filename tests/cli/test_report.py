"""`merstore report` writes pages."""

from pathlib import Path

import pytest
from html_page import Page
from score_tables import write_tables

from .conftest import Merstore


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
    assert ", OV-MER's (SHA-256" in page

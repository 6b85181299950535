"""`merstore report` writes pages."""

from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from score_tables import write_tables
from unibench_sets import truths, write_labels, write_results, write_wheels

import merstore

from .conftest import FRAMES, SOUND, Merstore
from .test_train import FEATURES, QUICK, made  # noqa: F401


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "emotion_wheel")


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Of two predictions that are beside it."""
    path = tmp_path / "truth.csv"
    path.write_text('name,openset\ns1,"[sad, proud]"\ns2,[fear]\n')
    (tmp_path / "one.csv").write_text("name,openset\ns1,[sad]\ns2,[irate]\n")
    (tmp_path / "two.jsonl").write_text('{"name": "s1", "openset": "[proud]"}\n')
    return path


@pytest.fixture
def given(kind: str, truth: Path, tables: Path, tmp_path: Path) -> list[object]:
    """What `merstore score` takes of this kind."""
    if kind in ("ov", "mer2025"):
        found: list[object] = ["--truth", truth, "--tables", tables]
    elif kind == "mer2024-ov":
        (tmp_path / "groups").mkdir()
        for name in ("s1", "s2"):
            np.save(tmp_path / "groups" / f"{name}.npy", "[['sad', 'proud'], ['fear']]")
        found = ["--truth", truth, "--groups", tmp_path / "groups"]
    elif kind == "classification":
        for path, classes in (
            (truth, ("sad", "happy")),
            (tmp_path / "one.csv", ("sad", "")),
            (tmp_path / "two.csv", ("<b>", "happy")),
        ):
            rows = [f"s{n},{emo},{n}.5" for n, emo in enumerate(classes, 1)]
            path.write_text("\n".join(["name,discrete,valence", *rows]))
        return ["--truth", truth, tmp_path / "one.csv", tmp_path / "two.csv"]
    else:
        sets = truths(5, ("sad", "joy", "anger"))
        write_results(tmp_path / "output", sets, "ours", 0.5)
        labels = write_labels(tmp_path / "dataset", sets)
        wheels = write_wheels(tmp_path / "wheels")
        return ["--labels", labels, "--tables", wheels, tmp_path / "output"]
    return [*found, "--missing", "empty", tmp_path / "one.csv", tmp_path / "two.jsonl"]


KINDS = ["ov", "mer2025", "mer2024-ov", "classification", "merunibench"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_scored_becomes_a_page(
    cli: Merstore, kind: str, given: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    result = cli("report", kind, *given, "--out", out)
    assert (result.code, result.out, result.err) == (0, "", f"written: {out}\n")
    page = out.read_text()
    Page(page).check()
    assert "95 % interval" not in page
    scores = cli("score", kind, *given, "--json").json
    assert all(f"<code>{name}</code>" in page for name in scores)
    assert cli("report", kind, *given, "--bootstrap", "--seed", 7, "--out", out).code == 0
    page = out.read_text()
    Page(page).check()
    sure = cli("score", kind, *given, "--bootstrap", "--seed", 7, "--json").json
    best = next(iter(sure.values()))["intervals"]
    ranked_by = {"ov": "M-avg", "mer2025": "MER2025-rank", "mer2024-ov": "average",
                 "classification": "waf", "merunibench": "mean"}[kind]  # fmt: skip
    if (low := best[ranked_by]["low"]) is not None:
        told = f"{low:.4f}" if kind == "classification" else f"{100 * low:.2f}"
        assert f"95 % interval {told} to " in page


@pytest.mark.parametrize("kind", ["ov", "mer2024-ov"])
def test_a_run_in_a_store(cli: Merstore, kind: str, given: list[object], tmp_path: Path) -> None:
    view = "mer2025/text@ours/run1"
    with merstore.open(tmp_path / "s.mer", "a") as store:
        texts = store.create_view(view, dtype="uint8", shape=(None,))
        texts["s1"] = np.frombuffer(b"['sad', 'proud']", np.uint8)
        texts.fail("s2", "decode_error", "the <decoder> stops")
    out = tmp_path / "page.html"
    assert cli("report", kind, *given, view, "--store", tmp_path / "s.mer", "--out", out).code == 0
    page = out.read_text()
    Page(page).check()
    assert f"<code>{view}</code>" in page
    assert '<code>s2</code> <span class="quiet">decode_error: the &lt;decoder&gt; stops' in page


def test_what_is_missing_is_an_error_and_no_page(
    cli: Merstore, truth: Path, tables: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")
    args = ["report", "ov", "--truth", truth, "--tables", tables]
    result = cli(*args, tmp_path / "two.jsonl", "--out", out)
    assert result.code == 1
    assert "two.jsonl: 1 of 2 samples have no prediction: s2" in result.err
    assert out.read_text() == "old"
    result = cli(*args, tmp_path / "one.csv", "--out", tmp_path / "nowhere" / "page.html")
    assert result.code == 1
    assert "nowhere/page.html cannot be written" in result.err
    assert cli("report", "merunibench", tmp_path, "--out", out).code == 2
    assert "Missing option" in cli("report", "classification", truth, "--out", out).err


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

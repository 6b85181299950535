"""The page about a run."""

from pathlib import Path

import pytest
from answering import World, names_of, recipes, runner, store_features, write_samples
from html_page import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from merstore.run.inference.page import write_page
from merstore.run.tasks import Task
from merstore.store.store import Store

NAMES = names_of(6)


def test_what_the_page_tells(store: Store, world: World, tmp_path: Path) -> None:
    store_features(store, NAMES[:2])
    clips = write_samples(tmp_path / "clips", NAMES, sample_00000005="refused")
    task = Task("toy", NAMES, dict.fromkeys(NAMES, "<b>"), materials=clips)
    asked = runner(
        store,
        world,
        checkpoints=world.checkpoints,
        question="Is 1 < 2?",
        recipes=recipes(tmp_path / "log"),
    )
    reports = asked.run([task])
    path = tmp_path / "run.html"
    write_page(path, store, reports, {"toy": NAMES})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    page.check()
    assert page.tags.count("svg") == 2
    assert "10 answers</strong> to 12 questions, 10 of them in this run" in text
    assert "Is 1 &lt; 2?" in text
    first, second = (path.stem for path in world.checkpoints)
    rows = [[cell for cell in row if cell != "toy"] for row in page.rows]
    failed = [row for row in rows if "no_face" in row]
    assert [row[:3] for row in failed] == [[f"toy, {c}", "no_face", "1"] for c in (first, second)]
    assert all(NAMES[5] in row[3] for row in failed)
    # Of the first checkpoint two faces were stored and three computed, of the second five stored.
    faces = [row for row in rows if "face" in row]
    assert [[row[0], *row[-2:]] for row in faces] == [[first, "2", "3"], [second, "5", "0"]]
    shown = [row[:2] for row in rows if len(row) > 1 and row[1] in NAMES]
    assert shown == [[c, name] for name in NAMES[:5] for c in (first, second)]


def test_the_parts_of_the_time_are_told(store: Store, world: World, tmp_path: Path) -> None:
    clips = write_samples(tmp_path / "clips", NAMES)
    task = Task("toy", NAMES, dict.fromkeys(NAMES, "So."), materials=clips)
    (report,) = runner(store, world, recipes=recipes(tmp_path / "log")).run([task])
    parts = [report.projecting, report.generating, report.filling, report.loading]
    assert all(part > 0 for part in parts)
    assert report.projecting < report.generating
    write_page(tmp_path / "run.html", store, [report], {"toy": NAMES})
    _, work = Page((tmp_path / "run.html").read_text()).alternatives
    for part, seconds in zip(("project", "encode", "load"), parts[:1] + parts[2:], strict=True):
        assert f"{part} {1000 * seconds / 6:.4g}" in work


def test_samples_without_features_are_told(store: Store, world: World, tmp_path: Path) -> None:
    store_features(store, NAMES[:4])
    task = Task("toy", NAMES, dict.fromkeys(NAMES, "So."))
    reports = runner(store, world).run([task])
    write_page(tmp_path / "run.html", store, reports, {"toy": NAMES})
    (row,) = (
        row for row in Page((tmp_path / "run.html").read_text()).rows if "no features" in row[1]
    )
    assert row[2] == "2"
    assert all(name in row[3] for name in NAMES[4:])


def test_of_a_run_that_had_nothing_to_do(store: Store, world: World, tmp_path: Path) -> None:
    store_features(store, NAMES)
    task = Task("toy", NAMES, dict.fromkeys(NAMES, "So."))
    runner(store, world).run([task])
    write_page(tmp_path / "run.html", store, runner(store, world).run([task]), {"toy": NAMES})
    assert "6 answers</strong> to 6 questions, 0 of them" in (tmp_path / "run.html").read_text()

"""The page about a run."""

from pathlib import Path

import pytest
from answering import World, names_of, recipes, runner, store_features, write_samples
from html_page import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from merstore.run.inference import Task
from merstore.run.inference.page import write_page
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
    assert page.open == []
    assert all(reference.startswith("#") for reference in page.references)  # no other file
    assert "10 answers</strong> to 12 questions, 10 of them in this run" in text
    assert "Is 1 &lt; 2?" in text
    assert '<tr><td>no_face</td><td class="n">1</td></tr>' in text
    # Of the first checkpoint two faces were stored and three computed, of the second five stored.
    assert '<td>store</td><td class="n">2</td><td class="n">3</td></tr>' in text
    assert '<td>store</td><td class="n">5</td><td class="n">0</td></tr>' in text
    assert "5 of 5 answers" in text


def test_of_a_run_that_had_nothing_to_do(store: Store, world: World, tmp_path: Path) -> None:
    store_features(store, NAMES)
    task = Task("toy", NAMES, dict.fromkeys(NAMES, "So."))
    runner(store, world).run([task])
    write_page(tmp_path / "run.html", store, runner(store, world).run([task]), {"toy": NAMES})
    assert "6 answers</strong> to 6 questions, 0 of them" in (tmp_path / "run.html").read_text()

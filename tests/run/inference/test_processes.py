"""Runs that are killed, and runs beside each other: no answer is lost, none is given twice."""

import dataclasses
import multiprocessing as mp
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import (
    VIEWS,
    World,
    answer_toy,
    counts,
    drawn,
    names_of,
    recipes,
    runner,
    store_features,
    subtitles_of,
    write_samples,
)

import merstore
from merstore.run.answers import Stored, put, read
from merstore.run.inference import Progress, Report
from merstore.run.tasks import Task

COUNT = 40
NAMES = names_of(COUNT)
TOY = Task("toy", NAMES, subtitles_of(NAMES))
KILLS = 10


@pytest.fixture(scope="module")
def context() -> Any:
    """Processes that have imported everything and run nothing yet, so that they start at once."""
    made = mp.get_context("forkserver")
    made.set_forkserver_preload(["answering", "merstore.models.affectgpt", "peft"])
    return made


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_samples(tmp_path / "clips", NAMES)
    return tmp_path / "clips"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with half of the features."""
    path = tmp_path / "toy.mer"
    with merstore.open(path, "a") as store:
        store_features(store, NAMES[::2])
    return path


def started(context: Any, *args: Any) -> tuple[Any, Connection]:
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=answer_toy, args=(*args[:4], tell, *args[4:]))
    process.start()
    tell.close()
    return process, told


def undisturbed(path: Path, world: World) -> dict[str, str]:
    with merstore.open(path / "beside.mer", "a") as store:
        store_features(store, NAMES)
        (report,) = runner(store, world, batch=4).run([TOY])
        return {name: answer.text for name, answer in read(store[report.view]).items()}


@pytest.mark.slow
def test_killed_at_random_moments_the_answers_are_those_of_an_undisturbed_run(
    filled: Path, world: World, clips: Path, tmp_path: Path, context: Any
) -> None:
    draw = random.Random(7)
    kept = 0
    for _ in range(KILLS):
        process, told = started(context, filled, world, NAMES, clips)
        for _ in range(draw.randint(1, 4)):  # how far it got
            told.recv()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        told.close()
        with merstore.open(filled) as store:
            (path,) = [path for path in store.views() if "/answer@" in path]
            assert len(store[path]) >= kept  # what was told of is there
            kept = len(store[path])
            assert store.verify() == []
    assert 0 < kept < COUNT
    with merstore.open(filled, "a") as store:
        media = {name: clips / f"{name}.txt" for name in NAMES}
        rest = runner(store, world, recipes=recipes(clips / "log"))
        (report,) = rest.run([dataclasses.replace(TOY, materials=media)])
        assert report.present == kept
        assert report.answered == COUNT - kept
        found = {name: answer.text for name, answer in read(store[report.view]).items()}
        for modality in ("face", "audio"):
            view = store[f"toy/{VIEWS[modality]}"]
            assert list(view) == NAMES
            for name in NAMES:
                np.testing.assert_array_equal(view[name], drawn(modality, int(name[-8:])))
    assert found == undisturbed(tmp_path, world)


def test_what_another_run_found_out_is_counted_as_what_it_is(filled: Path, world: World) -> None:
    """It answers one sample and refuses one, after this run saw that they are missing."""
    names = NAMES[:10:2]
    answer = Stored("yes", "00", 2, True, "", None, 0.1, 1)
    with merstore.open(filled, "a") as store:
        done: list[int] = []

        def tell(told: Progress) -> None:
            if not done:
                (path,) = [path for path in store.views() if "/answer@" in path]
                with store.writer() as writer:
                    put(writer, store[path], names[-2], answer)
                    writer.fail(store[path], names[-1], "no_face", "nobody there")
            done.append(told.done)

        asked = runner(store, world, batch=1, tell=tell)
        (report,) = asked.run([Task("toy", names, subtitles_of(names))])
    assert counts(report) == {"answered": 3, "elsewhere": 1, "failures": 1}
    assert report.failed == {"no_face": [names[-1]]}
    assert done[-1] == 5


def test_two_runs_at_once_share_the_samples(
    filled: Path, world: World, clips: Path, tmp_path: Path, context: Any
) -> None:
    running = [started(context, filled, world, names, clips, 2) for names in (NAMES, NAMES[::-1])]
    reports = []
    for process, told in running:
        while not isinstance(last := told.recv(), Report):
            pass
        reports.append(last)
        process.join()
        told.close()
        assert process.exitcode == 0
    assert sum(report.answered for report in reports) == COUNT
    for report in reports:
        assert report.present + report.answered + report.elsewhere == COUNT
    with merstore.open(filled) as store:
        found = {name: answer.text for name, answer in read(store[reports[0].view]).items()}
    assert found == undisturbed(tmp_path, world)

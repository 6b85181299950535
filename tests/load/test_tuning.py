"""tune: what is tried, and that real loaders on a small store end in a profile, a page and comparable JSON.

Nothing here depends on what was fast.
"""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page

import merstore
from merstore.load import FeatureDataset, FeatureLoader, ceilings, tuning
from merstore.load.benchmark_json import benchmark_json
from merstore.load.results import COLD, OTHERS, SIZES, THREADS, Tuning
from merstore.load.trials import Bench, Candidate, run, waited
from merstore.load.tuning import caches_that_fit, others, threaded, tune
from merstore.load.tuning_report import html
from merstore.profile import SETTINGS

FRAMES, SOUND = "d/frame@E/uniform_8frms", "d/audio@E/FRA"
TINY = 0.3  # seconds of budget


@pytest.fixture(scope="module", autouse=True)
def small_pool() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "POOL_BYTES", 1 << 20)  # which takes long to touch
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "s.mer"
    rng = np.random.default_rng(0)
    with merstore.open(path, "a") as store:
        frames = store.create_view(FRAMES, shape=(2, 8))
        frames.update({f"s{i:03d}": rng.random((2, 8), np.float32) for i in range(60)})
        sound = store.create_view(SOUND, shape=(None, 8))
        sound.update({f"s{i:03d}": rng.random((1 + i % 5, 8), np.float32) for i in range(50)})
        store.create_view("d/text@E/UTT", shape=(8,))
        store.create_view("d/face@E/UTT", shape=(8,))["else"] = np.ones(8, np.float32)
    return path


@pytest.fixture(scope="module")
def tuned(path: Path) -> Tuning:
    return tune(path, [FRAMES, SOUND], batch_size=16, seconds=TINY, steps_ms=[1, 2])


# -- what is tried


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 16, 64])
def test_threads_go_up_to_one_per_core_and_all_have_work(cores: int) -> None:
    candidates = threaded(256, None, cores)
    counts = {each.threads for each in candidates}
    assert {0, 1, cores} <= counts
    assert max(counts) == cores
    # a loader has prefetch + 1 batches under way
    assert all(each.prefetch + 1 >= each.threads for each in candidates)
    assert len(set(candidates)) == len(candidates) < 14


def test_each_other_setting_is_tried_alone() -> None:
    best = Candidate(256, threads=1, prefetch=4)
    first, *rest = others(best, ["ram"], workers=True)
    assert first == best
    changed = [
        {name for name, value in vars(each).items() if value != getattr(best, name)}
        for each in rest
    ]
    assert {"advice"} in changed
    assert {"cache"} in changed
    assert {"reuse"} in changed
    assert {"io"} in changed
    assert {"threads"} in changed
    assert {"num_workers", "prefetch"} in changed


def test_pinning_is_only_tried_for_a_gpu() -> None:
    on_cpu = others(Candidate(256), [], workers=False)
    on_gpu = others(Candidate(256, device="cuda"), [], workers=False)
    assert not any(each.pin_memory for each in on_cpu)
    (pinned,) = (each for each in on_gpu if each.pin_memory)
    assert pinned.device is None


def test_only_what_asks_nothing_of_the_caller_may_win() -> None:
    plain = Candidate(256)
    assert plain.adoptable
    assert replace(plain, cache="ram", advice=False).adoptable
    for asks in (
        {"reuse": True},
        {"io": "pread"},
        {"num_workers": 2},
        {"pin_memory": True},
        {"threads": 0},
    ):
        assert not replace(plain, **asks).adoptable  # type: ignore[arg-type]


def test_of_equals_the_one_without_copies_and_with_fewer_threads_comes_first() -> None:
    plain = Candidate(256, threads=1, prefetch=1)
    order = [
        plain,
        replace(plain, prefetch=2),
        replace(plain, threads=2),
        replace(plain, advice=False),
        replace(plain, cache="ram"),
    ]
    drawn = [order[place] for place in (3, 1, 4, 0, 2)]
    assert sorted(drawn, key=lambda each: each.simplicity) == order


def test_views_are_held_where_they_fit() -> None:
    assert caches_that_fit(1e6, None) == ["ram"]
    assert caches_that_fit(1e15, None) == []


def test_batches_that_do_not_fit_in_memory_together_are_not_tried(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = 16 * 64  # bytes
    monkeypatch.setattr("merstore.machine.available_memory", lambda: 4 * batch * 6)
    monkeypatch.setattr("merstore.load.tuning.BATCH_SIZES", (4, 16, 60))
    found = tune(path, [FRAMES], batch_size=16, seconds=0.1, steps_ms=[1])
    assert {trial.candidate.prefetch for trial in found.group(THREADS)} == {1, 2}
    assert {trial.candidate.batch_size for trial in found.group(SIZES)} == {4, 16}


# -- measuring


def test_a_run_counts_what_came_after_the_first_batch(path: Path) -> None:
    bench = Bench(path, [FRAMES])
    try:
        found = bench.run(Candidate(16), 0.05)
        assert found.samples > 0
        assert found.nbytes == found.samples * 2 * 8 * 4
        assert found.latencies.sum() == pytest.approx(found.seconds)
        assert found.first > 0
    finally:
        bench.close()


def test_a_cold_run_is_one_epoch_from_its_start(path: Path) -> None:
    with merstore.open(path) as store:
        found = run(FeatureLoader(FeatureDataset(store[FRAMES]), 16), 10.0, cold=True)
    assert (found.samples, len(found.latencies)) == (60, 4)


def test_warming_up_reads_all_samples_or_as_many_as_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merstore.load.trials.CHUNK", 20)
    bench = Bench(path, [FRAMES])
    try:
        assert bench.warm_up(60, 1e9, lambda: None) == (60, 60 * 64)
        samples, nbytes = bench.warm_up(60, 1, lambda: None)
        assert (samples, nbytes) == (20, 20 * 64)
        assert len(bench.dataset()) == 20
        assert len(bench.names) == 60
    finally:
        bench.close()


def test_waiting_is_a_share_of_the_time(path: Path) -> None:
    with merstore.open(path) as store:
        share = waited(FeatureLoader(FeatureDataset(store[FRAMES]), 60), 0.001, 5)
    assert 0 < share < 1


def test_ceilings_are_rates_and_what_has_none_is_said(path: Path) -> None:
    rates, notes = ceilings.measure(path / "data.mdb", 1 << 16, 64, None, 0.05)
    assert {ceilings.MEMCPY, ceilings.MEMCPY_TWO, ceilings.INDEX_SELECT} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
    assert (ceilings.DISK in rates) != bool(notes)


# -- the whole


def test_tuning_ends_in_a_profile_that_a_loader_takes(tuned: Tuning, path: Path) -> None:
    profile = tuned.profile
    assert set(profile.settings) == set(SETTINGS)
    assert profile.batch_size == 16
    assert tuned.chosen.rates
    with merstore.open(path) as store:
        assert profile.stale(store) == []
        dataset = FeatureDataset([store[FRAMES], store[SOUND]], [f"s{i:03d}" for i in range(50)])
        assert len(list(FeatureLoader(dataset, 16, **profile.settings))) == 4


def test_every_group_is_measured(tuned: Tuning) -> None:
    assert {trial.group for trial in tuned.trials} >= {THREADS, OTHERS, SIZES}
    cold = tuned.group(COLD) or [note for note in tuned.notes if "not measured cold" in note]
    assert cold
    assert all(trial.runs or "failed" in str(trial.stopped) for trial in tuned.trials)
    assert [room.step_ms for room in tuned.headroom] == [1, 2]
    assert tuned.bound


def test_the_disk_is_compared_with_stored_bytes_not_with_padding(tuned: Tuning) -> None:
    assert tuned.stored_bytes == 2 * 8 * 4 + 3 * 8 * 4  # of sound there are three rows on average
    assert tuned.chosen.bytes_per_second > tuned.chosen.rate * tuned.stored_bytes
    if tuned.group(COLD) and ceilings.DISK in tuned.ceilings:
        fastest = max(trial.rate for trial in tuned.group(COLD))
        share = fastest * tuned.stored_bytes / tuned.ceilings[ceilings.DISK]
        assert tuned.share(ceilings.DISK) == pytest.approx(share)


def test_samples_that_not_all_views_have_are_left_out_and_that_is_said(tuned: Tuning) -> None:
    assert tuned.samples == 50
    assert any(FRAMES in note and "50" in note for note in tuned.notes)


def test_a_batch_larger_than_the_set_is_the_set(path: Path) -> None:
    found = tune(path, [SOUND], batch_size=1000, seconds=TINY, steps_ms=[1], cold=False)
    assert found.batch_size == 50
    assert any("50 samples" in note for note in found.notes)
    assert not found.group(COLD)


def test_where_the_page_cache_cannot_be_dropped_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merstore.load.tuning.SLICE", 0.01)
    monkeypatch.setattr("merstore.load.tuning.MIN_SLICE", 0.01)
    with merstore.open(path) as store:
        held = store[FRAMES]["s000"]  # somebody's mapping
        found = tune(path, [FRAMES], batch_size=16, seconds=0.1, steps_ms=[1])
        assert held.shape == (2, 8)
    assert found.group(COLD) == []
    assert any("not measured cold" in note for note in found.notes)


def test_a_candidate_that_fails_is_reported_and_the_others_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Candidate.loader

    def loader(self: Candidate, dataset: FeatureDataset) -> FeatureLoader:
        if self.cache == "ram":
            raise RuntimeError("out of memory\nand more")
        return make(self, dataset)

    monkeypatch.setattr(Candidate, "loader", loader)
    found = tune(path, [FRAMES], batch_size=16, seconds=0.1, steps_ms=[], cold=False)
    (failed,) = (trial for trial in found.trials if trial.candidate.cache == "ram")
    assert failed.stopped == "failed: out of memory"
    assert found.chosen.candidate.cache is None
    assert html(found)


@pytest.mark.parametrize(
    ("views", "error", "told"),
    [
        (["d/frame@E/nothing"], merstore.UnknownView, "no view"),
        (["d/text@E/UTT"], merstore.MissingEntry, "d/text@E/UTT has 0"),
        ([FRAMES, "d/face@E/UTT"], merstore.MissingEntry, "no sample is in all of the views"),
        ([], merstore.MerstoreError, "at least one view"),
    ],
)
def test_what_cannot_be_tuned(
    views: list[str], error: type[Exception], told: str, path: Path
) -> None:
    with pytest.raises(error, match=told):
        tune(path, views, seconds=TINY)


@pytest.mark.slow
def test_worker_processes_are_measured_and_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "WORKERS_FROM", 0)
    found = tune(path, [FRAMES], batch_size=16, seconds=TINY, steps_ms=[], cold=False)
    (workers,) = (trial for trial in found.trials if trial.candidate.num_workers)
    assert workers.runs
    assert workers.first > 0
    assert multiprocessing.active_children() == []


# -- the page


def test_the_page_parses_and_has_a_plot_of_each_kind_and_every_candidate(tuned: Tuning) -> None:
    text = html(tuned)
    page = Page(text)
    page.check()
    assert page.tags.count("svg") == 6 + bool(tuned.group(COLD))
    for trial in tuned.trials:
        assert f"<td>{trial.candidate.label}</td>" in text
    assert FRAMES in text
    assert tuned.machine["cpu"] in text


def test_what_a_store_says_of_itself_is_text_in_the_page(tuned: Tuning) -> None:
    hostile = replace(tuned, notes=["<script>alert(1)</script>"])
    assert "&lt;script&gt;" in html(hostile)
    Page(html(hostile)).check()  # one script, the page's own


# -- for pytest-benchmark


def test_pytest_benchmark_compares_two_tunings(tuned: Tuning, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps(benchmark_json(tuned)))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "one.json", "two.json"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    for group in (THREADS, OTHERS, SIZES):
        assert group in told.stdout
    assert told.stdout.count("no threads, batch of 16 (one") >= 1
    assert told.stdout.count("no threads, batch of 16 (two") >= 1


def test_rounds_are_seconds_per_batch(tuned: Tuning) -> None:
    found = benchmark_json(tuned)["benchmarks"]
    assert len(found) == sum(bool(trial.runs) for trial in tuned.trials)
    first, trial = found[0], tuned.trials[0]
    assert first["stats"]["rounds"] == len(trial.runs)
    assert first["stats"]["median"] == pytest.approx(16 / trial.rate, rel=0.2)
    assert first["stats"]["min"] <= first["stats"]["median"] <= first["stats"]["max"]
    assert json.loads(json.dumps(found)) == found

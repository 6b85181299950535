"""``tune``: measures this machine on these views, and finds the loader settings that are fastest here.

Real epochs of a FeatureLoader, in rounds: first threads and batches ahead, then each other setting on top of the
best of those; then what the winner does with other batch sizes, beside a model that takes time, and from a cold
page cache.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from merstore import machine
from merstore.errors import MerstoreError
from merstore.load import ceilings
from merstore.load.race import ROUNDS_TO_SETTLE, Race
from merstore.load.results import COLD, OTHERS, SIZES, THREADS, HeadRoom, Trial, Tuning
from merstore.load.trials import Bench, Candidate, Run, waited
from merstore.profile import declared
from merstore.store.store import open_store

# Of the budget: warming up, threads and prefetch, other settings, batch sizes, ceilings, head-room, cold.
PARTS = (0.12, 0.32, 0.24, 0.08, 0.04, 0.08, 0.12)
SLICE = 0.3  # seconds of a candidate in a round, at most
MIN_SLICE = 0.02
WORKERS_FROM = 20.0  # seconds of budget; starting processes takes some more
WARM_BYTES = 2 << 30  # that candidates read from, at most
BATCH_SIZES = (16, 64, 256, 1024)
STEPS_MS = (1.0, 5.0, 20.0, 100.0)

Progress = Callable[[float, float, str], None]
"""Called with the seconds spent, the budget, and a few words."""


def tune(
    path: Path,
    views: Sequence[str],
    *,
    batch_size: int = 256,
    device: str | None = None,
    seconds: float = 60.0,
    steps_ms: Sequence[float] = STEPS_MS,
    cold: bool = True,
    progress: Progress = lambda spent, budget, told: None,
) -> Tuning:
    """Measure FeatureLoader over ``views`` of the store at ``path`` for about so many seconds.

    batch_size: where there are fewer samples, all of them. device: where batches go, such as ``"cuda"``.
    steps_ms: for the head-room, what a model takes for a step, in milliseconds. cold: also with the store dropped from
    the page cache.

    Raises UnknownView, NotAStore, MissingEntry (no sample is in all of the views).
    """
    if not views:
        raise MerstoreError("tune what? Name at least one view")
    bench = Bench(path, views)
    try:
        return _Tuner(bench, batch_size, device, seconds, progress).tuning(steps_ms, cold)
    finally:
        bench.close()


def threaded(batch_size: int, device: str | None, cores: int) -> list[Candidate]:
    """Numbers of threads up to one per core, each with numbers of batches ahead that keep them all at work."""
    counts = sorted({1 << n for n in range(cores.bit_length())} | {cores})
    depths = [(n, ahead) for n in counts for ahead in sorted({1, 2, 4, n}) if ahead >= n - 1]
    base = Candidate(batch_size, device=device)
    return [
        replace(base, threads=0, prefetch=1),
        *(replace(base, threads=threads, prefetch=ahead) for threads, ahead in depths),
    ]


def others(best: Candidate, caches: Sequence[str], workers: bool) -> list[Candidate]:
    """``best``, and what differs from it in one other setting."""
    on_gpu = best.device is not None and best.device.startswith("cuda")
    return [
        best,
        replace(best, advice=not best.advice),
        *(replace(best, cache=cache) for cache in caches),
        replace(best, threads=0),
        replace(best, reuse=True),
        replace(best, io="pread"),
        *([replace(best, device=None, pin_memory=True)] if on_gpu else []),
        *([replace(best, num_workers=2, prefetch=2)] if workers else []),
    ]


def caches_that_fit(nbytes: float, device: str | None) -> list[str]:
    """Where views of so many bytes may be held: in half of what is free, as FeatureLoader does it."""
    fitting = ["ram"] if nbytes < machine.available_memory() / 2 else []
    if device is not None and torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        fitting += ["device"] if nbytes < free / 2 else []
    return fitting


class _Tuner:
    def __init__(
        self, bench: Bench, batch_size: int, device: str | None, seconds: float, progress: Progress
    ) -> None:
        self.bench = bench
        self.notes = bench.notes
        self.batch_size = min(batch_size, len(bench.names))
        if self.batch_size < batch_size:
            self.notes.append(f"a batch is all {self.batch_size} samples: there are no more")
        self.device = device
        self.seconds = seconds
        self.memory = machine.available_memory()
        self.sample_bytes = 0.0
        self.trials: list[Trial] = []
        self._progress = progress
        self._started = time.perf_counter()
        self._ends: Iterator[float] = accumulate(part * seconds for part in PARTS)

    def tuning(self, steps_ms: Sequence[float], cold: bool) -> Tuning:
        bench = self.bench
        measured, nbytes = bench.warm_up(
            next(self._ends), min(WARM_BYTES, self.memory / 2), lambda: self._tell("warming up")
        )
        samples = len(bench.names)
        if measured < samples:
            self.notes.append(
                f"{measured:,} of the {samples:,} samples were read; they fit in memory"
            )
        self.sample_bytes = nbytes / measured
        with open_store(bench.path) as store:
            views = {path: declared(store, path) for path in bench.views}
            records = [store[path].record for path in bench.views]
        stored_bytes = sum(record.nbytes / record.entries for record in records)
        whole = stored_bytes * samples

        tried = threaded(self.batch_size, self.device, _cores())
        first = self._race(THREADS, [*filter(self._fits, tried)])
        workers = self.seconds >= WORKERS_FROM
        if not workers:
            self.notes.append(f"worker processes are measured from {WORKERS_FROM:.0f} s on")
        caches = caches_that_fit(whole, self.device)
        race = self._race(OTHERS, others(first.winner, caches, workers))
        best = race.winner
        self._sizes(best)
        found, notes = self._ceilings()
        headroom = self._headroom(best, steps_ms)
        if headroom and all(room.without_threads < room.share for room in headroom):
            best = replace(best, threads=0)
            self.notes.append(
                "no threads: with them the model waits longer, however long its steps are"
            )
        chosen = next(t for t in self.trials if t.group == OTHERS and t.candidate == best)
        if cold:
            fastest = self._cold(best)
            if whole > self.memory and fastest is not None:
                chosen = fastest
                self.notes.append("the views do not fit in memory: the cold rounds decided")
        return Tuning(
            views,
            machine.describe(bench.path),
            datetime.now(UTC).isoformat(timespec="seconds"),
            samples,
            measured,
            stored_bytes,
            self.batch_size,
            self.device,
            self.trials,
            chosen,
            race.noise,
            found,
            headroom,
            self.notes + notes,
        )

    def _race(self, group: str, candidates: Sequence[Candidate]) -> Race[Candidate]:
        race = Race(candidates, lambda each: each.simplicity, lambda each: each.adoptable)
        trials = {candidate: Trial(group, candidate) for candidate in candidates}
        self.trials += trials.values()
        end = next(self._ends)
        share = float(
            np.clip(self._left(end) / len(candidates) / ROUNDS_TO_SETTLE, MIN_SLICE, SLICE)
        )
        while not race.settled:
            for candidate in race.round():
                self._tell(f"{group}: {len(race.running)} of {len(candidates)} in the race")
                try:
                    run = self.bench.run(candidate, share)
                except (RuntimeError, OSError) as failed:  # no memory, no processes
                    race.stop(candidate, f"failed: {str(failed).splitlines()[0]}")
                    if not race.contenders:
                        raise
                    continue
                self._started += run.first  # starting processes, loading caches: not of the budget
                trials[candidate].runs.append(run)
                race.add(candidate, run.rate)
            if self._left(end) <= 0:
                break
            race.stop_worse()
            for candidate in race.stopped:
                self.bench.let_go(candidate)
        for candidate, trial in trials.items():
            trial.stopped = race.stopped.get(candidate)
            self.bench.let_go(candidate)
        return race

    def _fits(self, candidate: Candidate) -> bool:
        """Whether its batches may be in memory together; the shallowest is tried in any case."""
        needed = candidate.batch_size * self.sample_bytes * (candidate.prefetch + 3)
        return needed < self.memory / 4 or (
            candidate.prefetch == 1 and candidate.batch_size <= self.batch_size
        )

    def _sizes(self, best: Candidate) -> None:
        """What the winner does with other batch sizes."""
        sizes = sorted({*BATCH_SIZES, self.batch_size})
        tried = [replace(best, batch_size=size) for size in sizes if size <= len(self.bench.names)]
        trials = [Trial(SIZES, each) for each in tried if each == best or self._fits(each)]
        self._rounds(trials, self.bench.run, 5)

    def _cold(self, best: Candidate) -> Trial | None:
        """From the disk: the winner, with and without advice, threads and more batches ahead. The fastest of them."""
        ahead = replace(best, cache=None, threads=max(1, best.threads), advice=True)
        candidates = dict.fromkeys(
            (
                replace(best, cache=None),
                ahead,
                replace(ahead, advice=False),
                replace(ahead, prefetch=max(4, 2 * ahead.prefetch)),
                replace(ahead, threads=0),
            )
        )
        trials = [Trial(COLD, each) for each in candidates if self._fits(each) or each == best]
        try:
            self._rounds(trials, self.bench.run_cold, 3)
        except (RuntimeError, OSError) as failed:
            self.notes.append(f"not measured cold: {failed}")
            self.trials = [trial for trial in self.trials if trial.group != COLD]
            return None
        return max(trials, key=lambda trial: trial.rate)

    def _rounds(
        self, trials: list[Trial], measure: Callable[[Candidate, float], Run], rounds: int
    ) -> None:
        """All trials in turns, ``rounds`` times, or fewer when the time is over."""
        self.trials += trials
        end = next(self._ends)
        share = float(np.clip(self._left(end) / len(trials) / rounds, MIN_SLICE, SLICE))
        for _ in range(rounds):
            for trial in trials:
                self._tell(trial.group)
                trial.runs.append(measure(trial.candidate, share))
            if self._left(end) <= 0:
                break
        for trial in trials:
            self.bench.let_go(trial.candidate)

    def _ceilings(self) -> tuple[dict[str, float], list[str]]:
        seconds = max(0.05, self._left(next(self._ends)))
        self._tell("ceilings")
        nbytes = int(self.sample_bytes * self.batch_size)
        device = torch.device(self.device) if self.device else None
        data = self.bench.path / "data.mdb"
        return ceilings.measure(data, nbytes, int(self.sample_bytes), device, seconds)

    def _headroom(self, best: Candidate, steps_ms: Sequence[float]) -> list[HeadRoom]:
        end = next(self._ends)
        loaders = [each.loader(self.bench.dataset()) for each in (best, replace(best, threads=0))]
        rooms = []
        for number, ms in enumerate(steps_ms):
            self._tell("head-room")
            seconds = self._left(end) / (len(steps_ms) - number) / len(loaders)
            steps = int(np.clip(seconds / ms * 1e3, 3, 100))
            rooms.append(HeadRoom(ms, *(waited(loader, ms / 1e3, steps) for loader in loaders)))
        return rooms

    def _left(self, end: float) -> float:
        """Seconds of the budget up to ``end``."""
        return end - (time.perf_counter() - self._started)

    def _tell(self, what: str) -> None:
        self._progress(min(time.perf_counter() - self._started, self.seconds), self.seconds, what)


def _cores() -> int:
    return len(os.sched_getaffinity(0))

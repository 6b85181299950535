"""The one engine behind both doors, ``on_miss="fill"`` and ``merstore prewarm``.

A sample is claimed in all views that lack it, read once for all of them in another process, encoded
together with others, and committed. Only a bounded number of samples is between two stages.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from merstore.errors import EncoderError, InvalidTensor
from merstore.extract.material import Material
from merstore.extract.processes import Readers
from merstore.extract.reading import Read, Refusal
from merstore.extract.recipes import Prepared, Recipe
from merstore.store.leases import SECONDS, Owner, await_commit
from merstore.store.quality import pack, quality_view
from merstore.store.view import View
from merstore.store.writer import Writer

CLAIMED = 64  # samples leased at a time
COMMIT_SECONDS = 5.0  # computed work that a killed process loses at most
WINDOW_SECONDS = 0.5  # what a window of samples should take to encode
WINDOW_BYTES = 256 << 20  # prepared samples of one view that wait for the encoder, at most

Clip = str | os.PathLike[str] | Material


@dataclass
class FillReport:
    """What a fill did with the samples of one view."""

    view: str
    samples: int = 0
    present: int = 0  # had an entry before
    known_failures: int = 0  # had a failure record before, not tried again
    computed: int = 0
    elsewhere: int = 0  # computed or failed by another process meanwhile
    failed: dict[str, list[str]] = field(default_factory=dict)  # kind: names, of this run
    bytes: int = 0
    seconds: float = 0.0  # of the whole run
    encoding: float = 0.0  # seconds of them in this view's encoder

    @property
    def failures(self) -> int:
        return sum(map(len, self.failed.values()))


class Progress(NamedTuple):
    """Where a run is. Entries are counted, not samples: one sample has one in each view.

    ``encoding``, ``reading``: the shares of the time so far in which the encoder was at work, and in
    which it had to wait for samples to be read.
    """

    done: int
    total: int
    failed: int
    elsewhere: int  # of those done, by another process
    encoding: float
    reading: float
    seconds: float


class Failed(NamedTuple):
    """A failure record that was just written."""

    view: str
    name: str
    kind: str
    message: str


Tell = Callable[[Progress | Failed], None]


class Job:
    """A view that is to be filled, and the samples that it lacks."""

    def __init__(self, view: View, recipe: Recipe, names: Sequence[str], retry: set[str]) -> None:
        self.view = view
        self.recipe = recipe
        self.missing = view.missing(names, retry)
        there = int(view.select(names).present().sum())
        lacking = len(self.missing)
        self.report = FillReport(view.path, len(names), there, len(names) - there - lacking)
        self.held: set[str] = set()  # leased by us
        self.ready: list[tuple[str, Prepared]] = []
        self.ready_bytes = 0
        self.window = 8

    def add(self, name: str, prepared: Prepared) -> None:
        self.ready.append((name, prepared))
        self.ready_bytes += _nbytes(prepared)

    @property
    def full(self) -> bool:
        return len(self.ready) >= self.window or self.ready_bytes >= WINDOW_BYTES

    def take(self) -> list[tuple[str, Prepared]]:
        ready, self.ready, self.ready_bytes = self.ready, [], 0
        return ready

    def took(self, samples: int, seconds: float) -> None:
        """Windows grow while they are quick, so that an encoder has enough to choose its passes from,
        and shrink where they hold up what is to be committed.
        """
        if samples == self.window and seconds < WINDOW_SECONDS:
            self.window = min(2 * self.window, 1024)
        elif seconds > 4 * WINDOW_SECONDS:
            self.window = max(self.window // 2, 1)


class Run:
    """One fill of several views of one store, from the same samples."""

    def __init__(
        self,
        jobs: Sequence[Job],
        materials: Mapping[str, Clip],
        readers: Readers,
        owner: Owner,
        retry: set[str],
        tell: Tell | None = None,
    ) -> None:
        self.jobs = jobs
        self.materials = materials
        self.readers = readers
        self.owner = owner
        self.retry = retry
        self.tell = tell
        self.total = sum(len(job.missing) for job in jobs)
        lacking: dict[str, list[int]] = {}
        for number, job in enumerate(jobs):
            for name in job.missing:
                lacking.setdefault(name, []).append(number)
        self.unclaimed = deque(lacking.items())
        self.busy: dict[str, list[int]] = {}  # leased by others
        self.store = jobs[0].view.store
        self.unseen = self._quality_views(list(lacking))
        self.renewed = self.started = time.monotonic()
        self.waited = 0.0

    def go(self) -> None:
        """Until every entry is there, has failed, or was computed by somebody else."""
        if not self.total:
            return
        try:
            with self.store.writer(max_seconds=COMMIT_SECONDS) as writer:
                try:
                    while self.unclaimed or self.busy:
                        self._pass(writer)
                        writer.commit()
                        self._wait_for_others()
                except BaseException:
                    writer.commit()  # what is computed is not computed again
                    raise
        finally:
            for job in self.jobs:
                if job.held:
                    self.owner.release(job.view, job.held)
                job.report.seconds = time.monotonic() - self.started
                for names in job.report.failed.values():
                    names.sort()

    # -- the stages

    def _pass(self, writer: Writer) -> None:
        """Compute all that can be claimed."""
        claimed = self._claimed()
        reading: dict[Future[Read], tuple[str, list[int]]] = {}
        ahead = 3 * max(self.readers.count, 1)
        more = True
        try:
            while more or reading:
                while more and len(reading) < ahead:
                    name, numbers = next(claimed, ("", []))
                    more = bool(numbers)
                    if more:
                        reading[self._read(name, numbers)] = name, numbers
                started = time.monotonic()
                done, _ = wait(reading, return_when=FIRST_COMPLETED)
                self.waited += time.monotonic() - started
                for future in done:
                    self._sort_out(writer, *reading.pop(future), future.result())
                for job in self.jobs:
                    if job.full:
                        self._encode(writer, job, job.take())
                self._renew()
            for job in self.jobs:
                if job.ready:
                    self._encode(writer, job, job.take())
        finally:
            for future in reading:
                future.cancel()

    def _claimed(self) -> Iterator[tuple[str, list[int]]]:
        """Samples that are ours to compute, and the views that lack them."""
        while self.unclaimed:
            some = dict(self.unclaimed.popleft() for _ in range(min(CLAIMED, len(self.unclaimed))))
            wanted = [[name for name in some if i in some[name]] for i in range(len(self.jobs))]
            pairs = [(job.view, names) for job, names in zip(self.jobs, wanted, strict=True)]
            mine: dict[str, list[int]] = {}
            for number, claim in enumerate(self.owner.claim_each(pairs, self.retry)):
                job = self.jobs[number]
                job.held.update(claim.mine)
                job.report.elsewhere += len(claim.done)
                for name in claim.mine:
                    mine.setdefault(name, []).append(number)
                for name in claim.busy:
                    self.busy.setdefault(name, []).append(number)
            self._progress()
            yield from ((name, mine[name]) for name in some if name in mine)

    def _read(self, name: str, numbers: list[int]) -> Future[Read]:
        recipes = [self.jobs[number].recipe for number in numbers]
        try:
            material = self.materials[name]
        except KeyError:
            failed: Future[Read] = Future()
            told = Refusal("missing_file", "no clip of this name among those given")
            failed.set_result(Read([told] * len(recipes), {}))
            return failed
        if not isinstance(material, Material):
            material = Material.of_clip(name, Path(material))
        return self.readers.submit(recipes, material)

    def _sort_out(self, writer: Writer, name: str, numbers: list[int], read: Read) -> None:
        """What was read goes to the encoders; what could not be is recorded."""
        for number, result in zip(numbers, read.results, strict=True):
            if isinstance(result, Refusal):
                self._fail(writer, self.jobs[number], name, result.kind, result.message)
            else:
                self.jobs[number].add(name, result)
        for medium, quality in read.quality.items():
            view, unseen = self.unseen.get(medium, (None, set()))
            if view is not None and name in unseen:
                unseen.discard(name)
                try:
                    writer.put(view, name, pack(quality.flags, quality.facts))
                except InvalidTensor as error:  # facts that JSON does not have: the recipe's fault
                    writer.fail(view, name, "unrecordable", str(error))

    def _encode(self, writer: Writer, job: Job, ready: list[tuple[str, Prepared]]) -> None:
        started = time.monotonic()
        try:
            arrays = job.recipe.encode([prepared for _, prepared in ready])
        except EncoderError as error:
            if len(ready) == 1:
                self._fail(writer, job, ready[0][0], "encoder_error", str(error))
            else:
                for one in ready:  # a sample that the encoder refuses fails alone
                    self._encode(writer, job, [one])
            return
        seconds = time.monotonic() - started
        job.report.encoding += seconds
        job.took(len(ready), seconds)
        for (name, _), array in zip(ready, arrays, strict=True):
            self._put(writer, job, name, array)
        self._progress()

    def _put(self, writer: Writer, job: Job, name: str, array: np.ndarray) -> None:
        try:
            writer.put(job.view, name, array)
        except InvalidTensor as error:
            self._fail(writer, job, name, "encoder_error", str(error))
            return
        job.report.computed += 1
        job.report.bytes += array.nbytes
        job.held.discard(name)

    def _fail(self, writer: Writer, job: Job, name: str, kind: str, message: str) -> None:
        writer.fail(job.view, name, kind, message)
        job.report.failed.setdefault(kind, []).append(name)
        job.held.discard(name)
        if self.tell:
            self.tell(Failed(job.view.path, name, kind, message))
        self._progress()

    # -- others at work on the same views

    def _renew(self) -> None:
        """Keep what we hold, before the leases run out."""
        if time.monotonic() - self.renewed > SECONDS / 4:
            self.owner.claim_each([(job.view, job.held) for job in self.jobs], {"all"})
            self.renewed = time.monotonic()

    def _wait_for_others(self) -> None:
        """Look again at what others held: done by now, given up, or still theirs."""
        if not self.busy:
            return
        self.unclaimed.extend(self.busy.items())
        self.busy = {}
        await_commit(self.store)

    # -- what is known of a sample, and how far we are

    def _quality_views(self, names: list[str]) -> dict[str, tuple[View, set[str]]]:
        """Medium -> the view of its records, and the samples that have none in it."""
        media = dict.fromkeys(job.recipe.reads for job in self.jobs if job.recipe.reads != "au")
        dataset = self.jobs[0].view.dataset
        views = {medium: quality_view(self.store, dataset, medium) for medium in media if names}
        return {medium: (view, set(view.missing(names))) for medium, view in views.items()}

    def _progress(self) -> None:
        if self.tell is None:
            return
        reports = [job.report for job in self.jobs]
        failed = sum(report.failures for report in reports)
        elsewhere = sum(report.elsewhere for report in reports)
        done = sum(report.computed for report in reports) + failed + elsewhere
        seconds = time.monotonic() - self.started
        share = 1 / max(seconds, 1e-9)
        encoding = sum(report.encoding for report in reports)
        shares = encoding * share, self.waited * share
        self.tell(Progress(done, self.total, failed, elsewhere, *shares, seconds))


def _nbytes(prepared: Prepared) -> int:
    """Bytes of the arrays in what a recipe prepared."""
    if isinstance(prepared, np.ndarray):
        return prepared.nbytes
    if isinstance(prepared, Mapping):
        return sum(_nbytes(value) for value in prepared.values())
    if isinstance(prepared, tuple | list):
        return sum(_nbytes(value) for value in prepared)
    return len(prepared) if isinstance(prepared, bytes | str) else 0

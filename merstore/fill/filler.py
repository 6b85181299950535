"""The one engine behind both doors: ``merstore prewarm``, and ``on_miss="fill"``."""

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from merstore.errors import DecodeError, EncoderError, InvalidTensor, MerstoreError
from merstore.store.leases import SECONDS, Owner
from merstore.store.store import Store
from merstore.store.view import View
from merstore.store.writer import Writer

CLAIMED = 64  # samples leased at a time
POLL_SECONDS = 0.2  # between two looks at what another process is computing
COMMIT_SECONDS = 5.0  # computed work that a killed process loses at most

Progress = Callable[[int, int, int], None]


class Extractor(Protocol):
    """What turns a clip into an entry. ``decode`` runs in threads; ``encode`` takes several clips at once."""

    modality: str
    dtype: str

    @property
    def encoder_name(self) -> str: ...
    @property
    def sampling(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    def decode(self, path: Path) -> np.ndarray: ...
    def encode(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]: ...


def declare(store: Store, dataset: str, extractor: Extractor) -> View:
    """The view ``dataset/modality@encoder/sampling`` that holds this extractor's features; created if
    it is not there. SpecMismatch if it is there and was computed otherwise."""
    path = f"{dataset}/{extractor.modality}@{extractor.encoder_name}/{extractor.sampling}"
    return store.create_view(
        path,
        dtype=extractor.dtype,
        shape=extractor.shape,
        spec=extractor.spec,
        exist_ok=True,
    )


@dataclass
class FillReport:
    """What a fill did with the samples it was given."""

    samples: int = 0
    present: int = 0  # had an entry before
    known_failures: int = 0  # had a failure record before, not tried again
    computed: int = 0
    elsewhere: int = 0  # computed or failed by another process meanwhile
    failed: dict[str, list[str]] = field(default_factory=dict)  # kind: names, of this run
    seconds: float = 0.0
    bytes: int = 0


class Filler:
    """Computes entries from clips and commits them as it goes.

    clips: sample name to media file. extractor: decodes and encodes (``VideoFeatures``). batch: clips
    encoded together. jobs: decoding threads (by default one per core, at most 8).

    Several fillers, in threads, processes or other jobs on the machine, may work on one view: leases
    keep them from computing the same entry twice. Killed and started again, a filler goes on where the last
    commit was. Picklable where clips and extractor are; safe to call from many threads, one at a time.
    """

    def __init__(
        self,
        clips: Mapping[str, Path],
        extractor: Extractor,
        *,
        batch: int = 8,
        jobs: int | None = None,
    ) -> None:
        if batch < 1 or (jobs is not None and jobs < 1):
            raise MerstoreError("batch and jobs are at least 1")
        self.clips = clips
        self.extractor = extractor
        self.batch = batch
        self.jobs = jobs or min(8, os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._owner: Owner | None = None

    def fill(
        self,
        view: View,
        names: Iterable[str] | None = None,
        retry: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> FillReport:
        """Compute those of ``names`` (all clips by default) that the view lacks, and wait for those that another
        process is computing.

        retry: failure kinds to try again, or ``"all"``. progress: called with samples done, samples to
        do, and failures so far. What cannot be computed becomes a failure record, not an error.

        Raises StaleView where the view was declared under another spec than the extractor's.
        """
        started = time.monotonic()
        retry = {retry} if isinstance(retry, str) else set(retry)
        with self._lock:
            view.store.view(view.path, self.extractor.spec)
            wanted = list(dict.fromkeys(self.clips if names is None else names))
            missing = view.missing(wanted, retry)
            there = int(view.select(wanted).present().sum())
            report = FillReport(
                samples=len(wanted),
                present=there,
                known_failures=len(wanted) - there - len(missing),
            )
            run = _Run(self, view, missing, retry, report, progress)
            try:
                run.go()
            finally:
                report.seconds = time.monotonic() - started
        return report

    def owner(self) -> Owner:
        """Who we are in leases: one identity for each process that uses this object."""
        if self._owner is None or self._owner.fields["pid"] != os.getpid():
            self._owner = Owner()
        return self._owner

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_owner": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_lock": threading.Lock()}


class _Run:
    """One call of fill: claim, decode in threads, encode in batches, commit."""

    def __init__(
        self,
        filler: Filler,
        view: View,
        missing: list[str],
        retry: set[str],
        report: FillReport,
        progress: Progress | None,
    ) -> None:
        self.filler = filler
        self.view = view
        self.retry = retry
        self.report = report
        self.progress = progress
        self.total = len(missing)
        self.unclaimed = deque(missing)
        self.busy: list[str] = []  # leased by others
        self.held: set[str] = set()  # leased by us
        self.renewed = time.monotonic()
        self.failed: defaultdict[str, list[str]] = defaultdict(list)

    def go(self) -> None:
        if not self.total:
            return
        try:
            with (
                self.view.store.writer(max_seconds=COMMIT_SECONDS) as writer,
                ThreadPoolExecutor(self.filler.jobs, "merstore-decode") as pool,
            ):
                try:
                    while self.unclaimed or self.busy:
                        self._pass(writer, pool)
                        writer.commit()
                        self._wait()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    writer.commit()  # what is computed is not computed again
                    raise
        finally:
            if self.held:
                self.filler.owner().release(self.view, self.held)
            self.report.failed = dict(self.failed)

    def _pass(self, writer: Writer, pool: ThreadPoolExecutor) -> None:
        """Compute all that can be claimed. Decoding runs ahead of encoding by a batch and a thread's worth."""
        ahead: deque[tuple[str, Future[np.ndarray]]] = deque()
        names = self._claimed()
        ready: list[tuple[str, np.ndarray]] = []
        more = True
        while more or ahead:
            while more and len(ahead) < self.filler.batch + self.filler.jobs:
                name = next(names, None)
                more = name is not None
                if name is not None:
                    ahead.append((name, pool.submit(self._decode, name)))
            if ahead:
                name, future = ahead.popleft()
                try:
                    ready.append((name, future.result()))
                except DecodeError as error:
                    self._fail(writer, name, error.kind, error.message)
            if len(ready) == self.filler.batch or (ready and not ahead and not more):
                self._encode(writer, ready)
                ready = []

    def _claimed(self) -> Iterator[str]:
        owner = self.filler.owner()
        while self.unclaimed:
            some = [self.unclaimed.popleft() for _ in range(min(CLAIMED, len(self.unclaimed)))]
            claim = owner.claim(self.view, some, self.retry)
            self.busy += claim.busy
            self.report.elsewhere += len(claim.done)
            self.held.update(claim.mine)
            self._tell()
            yield from claim.mine

    def _wait(self) -> None:
        """Look again at what others held: done by now, given up, or still theirs."""
        if not self.busy:
            return
        self.unclaimed.extend(self.busy)
        self.busy = []
        store = self.view.store
        before = store.snapshot().id
        deadline = time.monotonic() + POLL_SECONDS
        while time.monotonic() < deadline and store.snapshot().id == before:
            time.sleep(POLL_SECONDS / 10)
            store.refresh()

    def _decode(self, name: str) -> np.ndarray:
        path = self.filler.clips.get(name)
        if path is None:
            raise DecodeError(name, "missing_file", "no clip of this name among those given")
        return self.filler.extractor.decode(path)

    def _encode(self, writer: Writer, ready: list[tuple[str, np.ndarray]]) -> None:
        if time.monotonic() - self.renewed > SECONDS / 4:
            self.filler.owner().claim(self.view, self.held, {"all"})
            self.renewed = time.monotonic()
        try:
            features = self.filler.extractor.encode([pixels for _, pixels in ready])
        except EncoderError as error:
            if len(ready) == 1:
                self._fail(writer, ready[0][0], "encoder_error", str(error))
                return
            for one in ready:  # a clip that the encoder refuses fails alone
                self._encode(writer, [one])
            return
        for (name, _), array in zip(ready, features, strict=True):
            try:
                writer.put(self.view, name, array)
            except InvalidTensor as error:
                self._fail(writer, name, "encoder_error", str(error))
                continue
            self.report.computed += 1
            self.report.bytes += array.nbytes
            self.held.discard(name)
        self._tell()

    def _fail(self, writer: Writer, name: str, kind: str, message: str) -> None:
        writer.fail(self.view, name, kind, message)
        self.failed[kind].append(name)
        self.held.discard(name)
        self._tell()

    def _tell(self) -> None:
        if self.progress:
            failures = sum(map(len, self.failed.values()))
            done = self.report.computed + self.report.elsewhere + failures
            self.progress(done, self.total, failures)

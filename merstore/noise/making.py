"""Making noisy copies of many samples: in processes, resumable, with a recipe or a failure of each."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from merstore.errors import MerstoreError
from merstore.extract.material import Material
from merstore.extract.processes import Readers
from merstore.extract.reading import Read, Refusal
from merstore.noise.copies import PART, Copier, Settings, Unwritable, is_whole
from merstore.noise.journal import Journal, journal_path

if TYPE_CHECKING:
    from merstore.extract.recipes import Recipe
    from merstore.store.store import Store
    from merstore.store.view import View
    from merstore.store.writer import Writer

SECONDS = 600.0  # for one sample: a clip of some minutes is encoded in that

Tell = Callable[[int, int, int], None]
"""Called with how many samples are done, of how many, and how many of them failed."""


@dataclass
class Made:
    """What became of the samples: how many were made, and how many there already."""

    folder: Path
    recipes: Path
    samples: int
    view: str | None = None
    made: int = 0
    present: int = 0
    failed: dict[str, dict[str, str]] = field(default_factory=dict)  # kind: name: message
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        return sum(map(len, self.failed.values()))


def view_path(dataset: str, settings: Settings) -> str:
    """Where a store keeps the recipes: ``mer2023/noise/snr5``, ``snrmix`` where several SNRs are
    mixed, as MERTools calls it, and ``mer2024/noise/video`` for clips.
    """
    if settings.what == "video":
        return f"{dataset}/noise/video"
    return f"{dataset}/noise/{case(settings.snrs)}"


def case(snrs: tuple[float, ...]) -> str:
    """What MERTools calls sound with noise: ``snr5``; ``snrmix`` where there are several SNRs."""
    return f"snr{snrs[0]:g}" if len(snrs) == 1 else "snrmix"


def make_noisy(
    clips: Mapping[str, Path],
    folder: Path,
    settings: Settings,
    *,
    jobs: int,
    seconds: float | None = SECONDS,
    store: "Store | None" = None,
    dataset: str | None = None,
    tell: Tell | None = None,
) -> Made:
    """Make the noisy copy of each sample into `folder`, with its recipe beside that (`journal`) and,
    given a store and a dataset, in the view `view_path`: JSON as bytes, uint8 [T].

    A sample whose copy and recipe are whole, and whose clip is the same as then, is not made again;
    a failed one is tried again. jobs: processes; 0 for none. seconds: for one sample. A sample that
    cannot be made is a failure record: ``no_audio``, ``decode_error`` …, ``silent`` (its own sound
    is), ``silent_noise``, ``bad_noise`` (a noise file cannot be read).

    Raises MerstoreError for no samples, a folder that cannot be used or written, and settings other
    than those the copies there were made with (SpecMismatch).
    """
    _check(clips, folder, settings)
    spec = settings.spec()
    report = Made(folder, journal_path(folder), len(clips))
    view = None
    if store is not None:
        report.view = view_path(_named(dataset), settings)
        view = store.create_view(
            report.view, dtype="uint8", shape=(None,), spec=spec, exist_ok=True
        )
    started = time.monotonic()
    with (
        Journal(folder, spec) as journal,
        Readers(jobs, seconds) as readers,
        store.writer() if store is not None else nullcontext() as writer,
    ):
        for left in folder.glob(f".*{PART}"):  # of a killed run
            left.unlink(missing_ok=True)
        run = _Run(report, settings, folder, journal, writer, view, tell)
        run.go(clips, readers)
    report.seconds = time.monotonic() - started
    return report


def _check(clips: Mapping[str, Path], folder: Path, settings: Settings) -> None:
    if not clips:
        raise MerstoreError(f"no samples to make copies of, into {folder}")
    here = folder.resolve()
    noise = settings.noises.folder.resolve()
    if here == noise or noise in here.parents:
        raise MerstoreError(
            f"{folder}: is where the noise is; choose another folder for the copies"
        )
    if any(path.resolve().parent == here for path in clips.values()):
        raise MerstoreError(f"{folder}: is where the clips are; choose another folder")


def _named(dataset: str | None) -> str:
    if dataset is None:
        raise MerstoreError("recipes in a store are a dataset's: say which")
    return dataset


@dataclass
class _Run:
    report: Made
    settings: Settings
    folder: Path
    journal: Journal
    writer: "Writer | None"
    view: "View | None"
    tell: Tell | None

    def go(self, clips: Mapping[str, Path], readers: Readers) -> None:
        # of a recipe, a process asks what a Copier has
        copier = [cast("Recipe", Copier(self.settings, self.folder))]
        known = set(self.view.missing(clips, {"all"})) if self.view is not None else set()
        lacking = self._lacking(clips, known)
        busy: dict[Future[Read], str] = {}
        try:
            more = True
            while more or busy:
                while more and len(busy) < 3 * max(readers.count, 1):
                    name = next(lacking, None)
                    more = name is not None
                    if name is not None:
                        material = Material.of_clip(name, clips[name])
                        busy[readers.submit(copier, material)] = name
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    self._settle(busy.pop(future), future.result().results[0])
        finally:
            for future in busy:
                future.cancel()

    def _lacking(self, clips: Mapping[str, Path], unstored: set[str]) -> Iterator[str]:
        """Samples whose copies are to be made."""
        for name, clip in clips.items():
            recipe = self.journal.recipes.get(name)
            if recipe is None or not is_whole(recipe, clip, self.folder):
                yield name
                continue
            if name in unstored:
                self._store(name, recipe)
            self.report.present += 1
            self._progress()

    def _settle(self, name: str, result: Any) -> None:
        if isinstance(result, Unwritable):
            raise MerstoreError(f"{result.message}: see to that, and the same command goes on")
        if isinstance(result, Refusal):
            self.journal.fail(name, result.kind, result.message)
            if self.writer is not None and self.view is not None:
                self.writer.fail(self.view, name, result.kind, result.message)
            self.report.failed.setdefault(result.kind, {})[name] = result.message
        else:
            self.journal.add(name, result)
            self._store(name, result)
            self.report.made += 1
        self._progress()

    def _store(self, name: str, recipe: dict[str, Any]) -> None:
        if self.writer is not None and self.view is not None:
            told = json.dumps(recipe, ensure_ascii=False).encode(errors="backslashreplace")
            self.writer.put(self.view, name, np.frombuffer(told, np.uint8))

    def _progress(self) -> None:
        if self.tell:
            report = self.report
            done = report.made + report.present + report.failures
            self.tell(done, report.samples, report.failures)

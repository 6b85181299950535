"""Where the features of a dataset's samples come from in a run: stored, computed and kept, or computed
for the run alone. All of it goes through views, so that it is one path into the model.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from merstore.errors import MerstoreError, UnknownView
from merstore.extract.reading import Refusal
from merstore.extract.recipes import Recipe
from merstore.extract.registry import recipe_written
from merstore.fill.engine import Clip
from merstore.fill.filler import READ_SECONDS, Filler, declare
from merstore.run.inference.templates import Wanted
from merstore.store.batch import RaggedBatch
from merstore.store.store import Store
from merstore.store.view import View

Recipes = Callable[[str], Recipe]
"""From the end of a view's path, with options behind a ``?``, to what computes it."""


def recipes_of(
    models: str | Path | None = None,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Callable[[str, str], Recipe]:
    """Makes recipes by view and profile. models: a folder with a folder for each encoder. weights:
    an encoder's folder or hub id. A view may have options: ``face@X/8frms?detector=centerface``.
    """

    def make(view: str, profile: str) -> Recipe:
        return recipe_written(view, weights, profile=profile, device=device, models=models)

    return make


@dataclass
class Fetched:
    """``features``: of each sample that has all, by modality, float32 ``[T, D]``. ``refused``: samples
    of which something cannot be computed. ``lacking``: samples of which something is not there, and
    nobody said what to compute it from; with the modality.
    """

    features: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)


@dataclass
class Source:
    """One modality's view, and what fills it."""

    view: View
    wanted: Wanted
    filler: Filler | None

    def spec(self) -> dict[str, Any]:
        """What an answer's spec says of it."""
        return {
            "view": self.wanted.view,
            "from": self.wanted.source,
            "fingerprint": self.view.fingerprint,
        }


class Sources:
    """The features of one dataset that a mode needs.

    store: read, and filled where it can be written. scratch: gives a store for what is computed for
    this run alone. recipes: makes a recipe when something is to be computed. materials: what there
    is of each sample; None: nothing is computed. retry: failure kinds to try again.

    ``fetched``: entries that were given, by modality; ``computed``: those of them that were computed
    first. ``loading``, ``filling``: seconds.

    Raises UnknownView where the store has no such view and it cannot be computed either.
    """

    def __init__(
        self,
        store: Store,
        scratch: Callable[[], Store],
        dataset: str,
        wanted: Mapping[str, Wanted],
        recipes: Recipes,
        materials: Mapping[str, Clip] | None,
        retry: Iterable[str] = (),
        jobs: int | None = None,
        seconds: float | None = READ_SECONDS,
    ) -> None:
        self.dataset = dataset
        self.retry = set(retry)
        self.fetched = dict.fromkeys(wanted, 0)
        self.computed = dict.fromkeys(wanted, 0)
        self.loading = self.filling = 0.0
        self._recipes = recipes
        self._materials = materials
        self._readers = jobs, seconds
        self._tried: dict[str, set[str]] = {modality: set() for modality in wanted}
        self.by_modality = {
            modality: self._open(store, scratch, modality, each)
            for modality, each in wanted.items()
        }

    def _open(
        self, store: Store, scratch: Callable[[], Store], modality: str, wanted: Wanted
    ) -> Source:
        path = f"{self.dataset}/{wanted.view}"
        if wanted.source == "media":
            if self._materials is None:
                raise MerstoreError(
                    f"{modality} is computed in the run, and nothing says of what: give the media "
                    f"of {self.dataset}, or take {path} from the store"
                )
            recipe = self._recipes(wanted.asked)
            return Source(declare(scratch(), self.dataset, recipe), wanted, self._filler(recipe))
        if path in store:
            return Source(store[path], wanted, None)  # a filler when something is missing
        if self._materials is None or store.mode == "r":
            raise UnknownView(
                f"{store.path} has no view {path}, which the mode needs: import it (`merstore "
                f"import`), compute it (`merstore prewarm`), or give the media of {self.dataset}"
            )
        recipe = self._recipes(wanted.asked)
        return Source(declare(store, self.dataset, recipe), wanted, self._filler(recipe))

    def _filler(self, recipe: Recipe) -> Filler:
        assert self._materials is not None
        jobs, seconds = self._readers
        return Filler(self._materials, recipe, jobs=jobs, seconds=seconds)

    def spec(self) -> dict[str, Any]:
        return {modality: source.spec() for modality, source in self.by_modality.items()}

    def fetch(self, names: list[str]) -> Fetched:
        """The features of `names`; one gather for each modality, and what is missing is computed.

        Raises StaleView where something is missing in a view that was computed otherwise than it
        would be now.
        """
        found = Fetched(features={name: {} for name in names})
        for modality, source in self.by_modality.items():
            missing = self._gather(modality, source, names, found)
            if missing:
                missing = self._fill(modality, source, missing, found)
                if missing:
                    missing = self._gather(modality, source, missing, found)
            found.lacking.update(dict.fromkeys(missing, modality))
            # Nothing more is computed of a sample that cannot be answered about.
            names = [n for n in names if n not in found.refused and n not in found.lacking]
        found.features = {name: found.features[name] for name in names}
        return found

    def _gather(self, modality: str, source: Source, names: list[str], found: Fetched) -> list[str]:
        """Takes over the entries that are there; the names of the others."""
        started = time.perf_counter()
        batch = source.view.gather(names, on_miss="mask", dtype="float32")
        there = batch.mask.tolist()
        # Entries of a fixed shape stay where the gather put them, and are rows of that.
        entries: Any = batch if isinstance(batch, RaggedBatch) else np.asarray(batch)
        missing = []
        for row, name in enumerate(names):
            if there[row]:
                entry = entries[row]
                found.features[name][modality] = entry[np.newaxis] if entry.ndim == 1 else entry
            else:
                missing.append(name)
        self.fetched[modality] += len(names) - len(missing)
        self.loading += time.perf_counter() - started
        return missing

    def _fill(self, modality: str, source: Source, names: list[str], found: Fetched) -> list[str]:
        """Has missing entries computed; the names of those that should be there now, or else of
        those that nobody can compute.
        """
        started = time.perf_counter()
        view = source.view
        tried = self._tried[modality]
        again = [name for name in names if name not in tried]  # for one checkpoint, not for each
        unknown = view.missing(again, self.retry)
        tried.update(again)
        if unknown and self._materials is not None and view.store.mode != "r":
            if source.filler is None:
                source.filler = self._filler(self._recipes(source.wanted.asked))
            report = source.filler.fill(view, unknown, self.retry)
            self.computed[modality] += report.computed
            view.store.refresh()
        rest = []
        for name in names:
            failure = view.failure(name)
            if failure is None:
                rest.append(name)
            else:
                found.refused[name] = Refusal(failure.kind, f"{modality}: {failure.message}")
        self.filling += time.perf_counter() - started
        return rest

    def close(self) -> None:
        """End the processes that read samples."""
        for source in self.by_modality.values():
            if source.filler is not None:
                source.filler.close()

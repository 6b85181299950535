"""The lazy door: a view computes what it lacks while something reads it."""

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from merstore.errors import MerstoreError
from merstore.extract.processes import Readers
from merstore.extract.recipes import Recipe
from merstore.fill.engine import Clip, FillReport, Job, Run, Tell
from merstore.fill.plan import path_of
from merstore.store.leases import Owner
from merstore.store.store import Store
from merstore.store.view import View

READ_SECONDS = 60.0  # for one sample; a longer clip than this allows is none of this field


def declare(store: Store, dataset: str, recipe: Recipe) -> View:
    """The view ``dataset/modality@encoder/sampling`` that a recipe's entries make; created if it is
    not there. SpecMismatch if it is there and was computed otherwise.
    """
    return store.create_view(
        path_of(dataset, recipe),
        dtype=recipe.dtype,
        shape=recipe.shape,
        spec=recipe.spec,
        exist_ok=True,
    )


class Filler:
    """Computes entries of a view from clips, and commits them as it goes.

    materials: sample name to Material, or to the file that is the sample's clip. recipe: how an
    entry is computed. jobs: processes that read samples (by default one per core, at most 8); 0 reads
    in the calling thread, which a clip can then hold up or crash. seconds: for reading one sample;
    a clip that takes longer is a failure of the kind ``timeout``.

    Several fillers, in threads, processes or other jobs on the machine, may work on one view: leases
    keep them from computing the same entry twice. Killed and started again, a filler goes on where
    the last commit was. Picklable where materials and recipe are; safe to call from many threads,
    one at a time.
    """

    def __init__(
        self,
        materials: Mapping[str, Clip],
        recipe: Recipe,
        *,
        jobs: int | None = None,
        seconds: float | None = READ_SECONDS,
    ) -> None:
        if jobs is not None and jobs < 0:
            raise MerstoreError(f"jobs is a number of processes, or 0 for none, not {jobs}")
        self.materials = materials
        self.recipe = recipe
        self.readers = Readers(default_jobs() if jobs is None else jobs, seconds)
        self._lock = threading.Lock()
        self._owner: Owner | None = None

    def fill(
        self,
        view: View,
        names: Iterable[str] | None = None,
        retry: Iterable[str] = (),
        tell: Tell | None = None,
    ) -> FillReport:
        """Compute those of ``names`` (all samples by default) that the view lacks, and wait for those
        that another process is computing.

        retry: failure kinds to try again, or ``"all"``. tell: called with Progress after every step,
        and with every failure. What cannot be computed becomes a failure record, not an error.

        Raises StaleView where the view was declared under another spec than the recipe's.
        """
        retry = {retry} if isinstance(retry, str) else set(retry)
        with self._lock:
            view.store.view(view.path, self.recipe.spec)
            wanted = list(dict.fromkeys(self.materials if names is None else names))
            job = Job(view, self.recipe, wanted, retry)
            Run([job], self.materials, self.readers, self.owner(), retry, tell).go()
        return job.report

    def owner(self) -> Owner:
        """Who we are in leases: one identity for each process that uses this object."""
        if self._owner is None or self._owner.fields["pid"] != os.getpid():
            self._owner = Owner()
        return self._owner

    def close(self) -> None:
        """End the reading processes. They are started again when they are needed."""
        self.readers.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_owner": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_lock": threading.Lock()}


def default_jobs() -> int:
    """Reading processes where nobody says how many: one per core that we may use, at most 8."""
    return min(8, len(os.sched_getaffinity(0)))

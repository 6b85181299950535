"""The offline door: views are filled for a whole dataset before anything reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merstore import machine
from merstore.errors import MerstoreError
from merstore.extract.processes import Readers
from merstore.extract.recipes import Recipe
from merstore.fill.engine import Clip, FillReport, Job, Run, Tell
from merstore.fill.filler import READ_SECONDS, declare, default_jobs
from merstore.fill.log import Log
from merstore.fill.plan import any_present, keep_rates, path_of, views_of
from merstore.fill.recorder import Recorder
from merstore.store.leases import Owner
from merstore.store.store import Store


def prewarm(
    store: Store,
    dataset: str,
    materials: Mapping[str, Clip],
    recipes: Sequence[Recipe],
    *,
    names: Iterable[str] | None = None,
    retry: Iterable[str] = (),
    jobs: int | None = None,
    seconds: float | None = READ_SECONDS,
    base: Store | None = None,
    start: float = 0.0,
    tell: Tell | None = None,
    log: Log | None = None,
    about: Mapping[str, Any] | None = None,
) -> list[FillReport]:
    """Compute what the views of `recipes` lack of `names` (all samples by default); a report for each
    view. A sample is read once for all views that lack it.

    Stopped or killed, and called again, it goes on from the last commit. Several may work on one
    store at once. Arguments as of Filler, and:

    base: a store of which `store` is a shard; what is in there is not computed again. start: where
    in the names to begin, from 0 to 1; the rest follows. Processes that begin at different places
    keep out of each other's way. log: gets the plan, with what `about`
    says of the run, every failure, progress once a second, and the end.

    Raises SpecMismatch where a view exists and was computed otherwise, MerstoreError for no samples,
    no recipes, and two recipes of one view.
    """
    wanted = list(dict.fromkeys(materials if names is None else names))
    if not wanted:
        raise MerstoreError(f"no samples to compute for {dataset}: the list of samples is empty")
    if not recipes:
        raise MerstoreError(f"no views to compute for {dataset}: give at least one recipe")
    paths = [path_of(dataset, recipe) for recipe in recipes]
    if twice := {path for path in paths if paths.count(path) > 1}:
        raise MerstoreError(f"asked for twice: {', '.join(sorted(twice))}")
    retry = {retry} if isinstance(retry, str) else set(retry)
    turn = round(start * len(wanted))
    wanted = wanted[turn:] + wanted[:turn]
    work = [_job(store, base, dataset, recipe, wanted, retry) for recipe in recipes]
    reports = [job.report for job in work]
    recorder = Recorder(log, tell) if log else None
    if log:
        views = {job.view.path: _planned(job) for job in work}
        log.write("plan", views=views, machine=machine.describe(store.path), **(about or {}))
    with Readers(default_jobs() if jobs is None else jobs, seconds) as readers:
        Run(work, materials, readers, Owner(), retry, recorder or tell).go()
    if recorder:
        recorder.done(reports)
    keep_rates(store, recipes, reports)
    return reports


def _job(
    store: Store,
    base: Store | None,
    dataset: str,
    recipe: Recipe,
    names: list[str],
    retry: set[str],
) -> Job:
    view = declare(store, dataset, recipe)
    elsewhere = views_of([base] if base else [], view.path, recipe)
    lacking = names
    for other in elsewhere:
        lacking = other.missing(lacking, retry)
    job = Job(view, recipe, lacking, retry)
    if elsewhere:
        there = sum(any_present(elsewhere, names))
        job.report.present += there
        job.report.known_failures += len(names) - len(lacking) - there
        job.report.samples = len(names)
    return job


def _planned(job: Job) -> dict[str, int]:
    report = job.report
    return {
        "samples": report.samples,
        "present": report.present,
        "failed": report.known_failures,
        "missing": len(job.missing),
    }

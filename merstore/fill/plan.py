"""What a prewarm would do: entries, bytes and time, without computing anything."""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from merstore import machine
from merstore.extract.recipes import Recipe
from merstore.fill.engine import FillReport
from merstore.store import dtypes
from merstore.store.spec import fingerprint
from merstore.store.store import Store
from merstore.store.view import View

_RATE = "rate"  # the kind of note that says how fast a recipe was


@dataclass(frozen=True)
class Planned:
    """What one view has and lacks. ``bytes`` of the missing entries, ``seconds`` of encoding them
    on this machine; None where that is not known yet. ``samples`` = present + failed + missing.
    """

    view: str
    samples: int
    present: int
    failed: int  # failure records, not to be tried again
    missing: int
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """All views, and ``seconds`` that the run should take; None where that is not known yet."""

    views: list[Planned]
    seconds: float | None

    @property
    def missing(self) -> int:
        return sum(view.missing for view in self.views)


@dataclass(frozen=True)
class Rate:
    """How long a recipe took on a machine: ``encoding`` seconds for an entry, and ``rest`` for a
    sample.
    """

    cpu: str
    cores: int
    gpus: list[str]
    encoding: float
    rest: float


def path_of(dataset: str, recipe: Recipe) -> str:
    """The path of the view that a recipe's entries make."""
    return f"{dataset}/{recipe.modality}@{recipe.encoder_name}/{recipe.sampling}"


def make_plan(
    stores: Sequence[Store],
    dataset: str,
    names: Collection[str],
    recipes: Iterable[Recipe],
    retry: Iterable[str] = (),
) -> Plan:
    """What is missing of `names` in the views of `recipes`; an entry counts that is in any of
    `stores` (a shard and the store that it is of; none yet: everything is missing).

    Raises StaleView where a view is there and was computed otherwise.
    """
    retry = set(retry)
    planned, rest = [], []
    for recipe in recipes:
        path = path_of(dataset, recipe)
        views = views_of(stores, path, recipe)
        missing = list(names)
        for view in views:
            missing = view.missing(missing, retry)
        there = sum(any_present(views, list(names)))
        rate = _rate(stores, recipe)
        each = _entry_bytes(views, recipe)
        planned.append(
            Planned(
                path,
                len(names),
                there,
                len(names) - there - len(missing),
                len(missing),
                None if each is None else round(each * len(missing)),
                rate.encoding * len(missing) if rate else (None if missing else 0.0),
            )
        )
        rest.append(rate.rest * len(missing) if rate else 0.0)
    encoding = [view.seconds for view in planned]
    known = [seconds for seconds in encoding if seconds is not None]
    total = sum(known) + max(rest, default=0.0) if len(known) == len(encoding) else None
    return Plan(planned, total)


def views_of(stores: Sequence[Store], path: str, recipe: Recipe) -> list[View]:
    """A recipe's view in each of the stores that has it. Raises StaleView."""
    return [store.view(path, recipe.spec) for store in stores if path in store]


def any_present(views: Sequence[View], names: list[str]) -> list[bool]:
    """For each name, whether one of the views has an entry of it."""
    found = [False] * len(names)
    for view in views:
        here = view.select(names).present().tolist()
        found = [one or other for one, other in zip(found, here, strict=True)]
    return found


def keep_rates(store: Store, recipes: Sequence[Recipe], reports: Sequence[FillReport]) -> None:
    """Note in the store how long a run took, for the plans to come."""
    seconds = max((report.seconds for report in reports), default=0.0)
    samples = max((report.computed + report.failures for report in reports), default=0)
    rest = seconds - sum(report.encoding for report in reports)
    for recipe, report in zip(recipes, reports, strict=True):
        if report.computed:
            here = machine.describe(store.path)
            rate = Rate(
                here["cpu"],
                here["cores"],
                here["gpus"],
                report.encoding / report.computed,
                max(rest, 0.0) / samples,
            )
            store.note(_RATE, fingerprint(recipe.spec), json.dumps(asdict(rate)))


def noted_rates(store: Store) -> dict[str, Rate]:
    """What `keep_rates` noted, by the fingerprint of the recipe's spec; no damaged note."""
    found = {}
    for name, text in store.notes(_RATE).items():
        try:
            rate = Rate(**json.loads(text))
        except (ValueError, TypeError):
            continue
        if isinstance(rate.encoding, int | float) and isinstance(rate.rest, int | float):
            found[name] = rate
    return found


def _rate(stores: Sequence[Store], recipe: Recipe) -> Rate | None:
    """The rate that was noted for a recipe on a machine like this one."""
    for store in stores:
        rate = noted_rates(store).get(fingerprint(recipe.spec))
        here = machine.describe(store.path)
        if rate and (rate.cpu, rate.cores, rate.gpus) == (here["cpu"], here["cores"], here["gpus"]):
            return rate
    return None


def _entry_bytes(views: Sequence[View], recipe: Recipe) -> float | None:
    """Bytes of an entry; of a ragged one, what those that are there have on average."""
    if None not in recipe.shape:
        fixed = [size for size in recipe.shape if size is not None]
        itemsize = dtypes.numpy_dtype(dtypes.code_of(recipe.dtype)).itemsize
        return float(math.prod(fixed) * itemsize)
    records = [view.record for view in views]
    entries = sum(record.entries for record in records)
    return sum(record.nbytes for record in records) / entries if entries else None

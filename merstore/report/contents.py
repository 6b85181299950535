"""A store on one page: its views, what is odd about their samples, and what was run on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from merstore import pages
from merstore.errors import CorruptEntry
from merstore.fill.plan import Rate, noted_rates
from merstore.fill.report import Coverage, Group, facts_of
from merstore.pages import amount, picture
from merstore.profile import Profile, kept
from merstore.store.store import Store
from merstore.store.view import View

if TYPE_CHECKING:
    from merstore.run.training.results import Results

DRAWN = 30  # views in the picture, the largest
ANSWERS = 20  # of a run of inference, evenly spread

# What merstore.run keeps; it is imported only where there is some, since it brings torch.
_TRAINED, _PREDICTED, _ANSWERED = "result", "prediction", "answer"


@dataclass
class Kept:
    """A view that is no feature of samples: a run's, a cache's, records of quality."""

    view: str
    entries: int
    failures: int
    bytes: int
    failed: list[Group]


@dataclass
class Answering:
    """A run of inference. ``tokens``: mean of an answer's; ``seconds``: of generation, all together;
    ``endless``: answers that were as long as they may be; ``cut``: whose prompts were.
    """

    view: str
    mode: str
    question: str
    answers: int
    failures: int
    tokens: float
    seconds: float
    endless: int
    cut: int
    shown: list[tuple[str, str]]


@dataclass
class Contents:
    """All that the page tells; see `contents_of`. ``stats`` is that of the whole store."""

    store: str
    stats: dict[str, Any]
    views: list[Coverage]
    others: list[Kept]
    flags: list[Group]
    specs: dict[str, dict[str, Any]]
    profiles: list[tuple[Profile, list[str]]]
    rates: dict[str, Rate]
    trained: "list[Results]" = field(default_factory=list)
    answered: list[Answering] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Group]:
        every = [view.failed for view in self.views] + [view.failed for view in self.others]
        return [group for groups in every for group in groups]


def contents_of(store: Store, views: Iterable[str] | None = None) -> Contents:
    """What these views hold, by default all, and what is known about them. A sample is missing in a
    view where another view of the same dataset has an entry or a failure record of it.

    Raises UnknownView. A run that cannot be read is named in ``damaged``.
    """
    chosen = [store[path] for path in dict.fromkeys(store.views() if views is None else views)]
    features = [view for view in chosen if not _kept(view)]
    facts = facts_of(store, [view.path for view in features])
    rates = noted_rates(store)
    paths = {view.path for view in chosen}
    found = Contents(
        str(store.path),
        store.stats(),
        facts.views,
        [_other(view) for view in chosen if _kept(view)],
        facts.flags,
        {view.path: view.spec for view in chosen},
        [
            (profile, profile.stale(store))
            for profile in kept(store)
            if views is None or paths & set(profile.views)
        ],
        {view.path: rates[view.fingerprint] for view in features if view.fingerprint in rates},
    )
    for view in chosen:
        try:
            if view.spec.get("kind") == "training results":
                from merstore.run.training import results

                found.trained.append(results.read(store, view.path))
            elif view.modality == _ANSWERED:
                found.answered.append(_answering(view))
        except CorruptEntry as error:
            found.damaged.append(str(error))
    return found


def html(found: Contents) -> str:
    """Raises MerstoreError where jinja2 or matplotlib are not installed."""
    return pages.render(
        "merstore.report",
        "contents.html",
        found=found,
        plots=_plots(found) if found.views else [],
        runs=[(run, run.best if run.rows else None, _curve(run)) for run in found.trained],
    )


def _kept(view: View) -> bool:
    """Whether the entries are something else than what is known of each sample of a dataset."""
    runs = (_TRAINED, _PREDICTED, _ANSWERED, "quality")
    return view.modality in runs or view.spec.get("kind") == "answers"


def _other(view: View) -> Kept:
    failed: dict[str, Group] = {}
    for failure in view.failures():
        group = failed.setdefault(failure.kind, Group(view.path, failure.kind))
        group.add(failure.name, failure.message)
    record = view.record
    order = sorted(failed.values(), key=lambda group: (-group.count, group.kind))
    return Kept(view.path, record.entries, record.failures, record.nbytes, order)


def _answering(view: View) -> Answering:
    from merstore.run import answers

    found = answers.read(view)
    each = list(found.values())
    some = list(found.items())[:: max(1, -(-len(found) // ANSWERS))]
    return Answering(
        view.path,
        str(view.spec.get("mode", "")),
        str(view.spec.get("question", "")),
        len(found),
        view.record.failures,
        sum(answer.tokens for answer in each) / max(len(each), 1),
        sum(answer.seconds / answer.batch for answer in each if answer.batch),
        sum(not answer.ended for answer in each),
        sum(bool(answer.cut) for answer in each),
        [(name, answer.text) for name, answer in some],
    )


# -- pictures


def _plots(found: Contents) -> list[tuple[str, str, Any]]:
    views = sorted(found.views, key=lambda view: (-view.bytes, view.view))[:DRAWN]
    have = "; ".join(
        f"{view.view}: {view.entries:,} entries, {view.failures:,} failures, {view.missing:,} missing"
        for view in views
    )
    sizes = "; ".join(f"{view.view}: {amount(view.bytes)}" for view in views)
    most = f" The {DRAWN} largest views." if len(found.views) > DRAWN else ""
    return [
        ("Coverage", f"Samples of each view.{most}", picture(f"{have}.", _coverage, views)),
        ("Size", f"Bytes of each view.{most}", picture(f"{sizes}.", _sizes, views)),
    ]


def _coverage(axes: Any, views: Sequence[Coverage]) -> None:
    left = [0] * len(views)
    for what, color in (
        ("entries", pages.BLUE),
        ("failures", pages.RED),
        ("missing", pages.GREY),
    ):
        counts = [getattr(view, what) for view in views]
        axes.barh(range(len(views)), counts, left=left, color=color, label=what)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    _labelled(axes, views)
    axes.set(xlabel="samples")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _sizes(axes: Any, views: Sequence[Coverage]) -> None:
    largest = max(view.bytes for view in views)
    unit, scale = next(
        (unit, 1 << shift)
        for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0))
        if largest >= 1 << shift or not shift
    )
    axes.barh(range(len(views)), [view.bytes / scale for view in views], color=pages.BLUE)
    _labelled(axes, views)
    axes.set(xlabel=unit)


def _labelled(axes: Any, views: Sequence[Coverage]) -> None:
    axes.set_yticks(range(len(views)), [view.view for view in views], fontsize=7)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()


def _curve(run: "Results") -> Any:
    if not run.rows:
        return ""
    from merstore.run.training.comparison import curve

    return curve(run.best)

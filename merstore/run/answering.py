"""A dataset's samples while a model answers about them: claimed, answered, failed, and counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from merstore.errors import StaleView
from merstore.extract.reading import Refusal
from merstore.run import answers
from merstore.store.leases import Owner, await_commit
from merstore.store.view import View

LEASE_SECONDS = 1800.0  # more than a batch may take; it ends with its process anyway


@dataclass
class Counts:
    """What became of a dataset's samples. ``samples`` = ``present`` + ``known_failures`` (both from
    before) + ``answered`` + ``elsewhere`` (by others meanwhile) + ``failed`` (kind: names) +
    ``lacking`` (names, by the modality that the store has not of them while nothing says what to
    make it from; there is no record of those).

    ``endless``: whose answers were as long as they may be. ``seconds``: of all; ``waiting`` for what
    the model is shown.
    """

    dataset: str
    view: str
    samples: int
    present: int = 0
    known_failures: int = 0
    answered: int = 0
    elsewhere: int = 0
    failed: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    endless: list[str] = field(default_factory=list)
    seconds: float = 0.0
    waiting: float = 0.0

    @property
    def failures(self) -> int:
        return sum(map(len, self.failed.values()))

    @property
    def without(self) -> int:
        """Samples that have neither an answer nor a record of why."""
        return sum(map(len, self.lacking.values()))


class Samples:
    """The samples of a view of answers that a run is to answer about.

    names: each once. prompt: a sample's, or why it cannot be asked about. differs: what may be the cause where answers
    that are there were given to other prompts. retry: failure kinds to try again. counts: kept up to
    date. told: called with how many more samples are settled. Several processes may work on one view:
    leases keep them apart.

    ``missing``: those without an answer when the run began.

    Raises StaleView where answers that are there were given to other prompts.
    """

    def __init__(
        self,
        view: View,
        names: Sequence[str],
        prompt: Callable[[str], str | Refusal],
        differs: str,
        owner: Owner,
        retry: Iterable[str],
        counts: Counts,
        told: Callable[[int], None],
    ) -> None:
        self.view, self.owner, self.counts, self.told = view, owner, counts, told
        self.prompt = prompt
        self.names = names
        self.held: set[str] = set()
        self._retry = set(retry)
        self.missing = view.missing(self.names, self._retry)
        counts.present = int(view.select(self.names).present().sum())
        counts.known_failures = len(self.names) - counts.present - len(self.missing)
        self._check(differs)

    def _check(self, differs: str) -> None:
        other = []
        for name, answer in answers.read(self.view, self.names).items():
            now = self.prompt(name)
            if isinstance(now, Refusal) or answers.digest(now) != answer.prompt:
                other.append(name)
        if other:
            raise StaleView(
                f"{self.view.path}: {len(other)} answers, such as that to {other[0]}, were given to "
                f"other prompts: {differs} not those of that run. Give the same, or drop the view and "
                "answer anew"
            )

    def claim(self, names: Iterable[str], busy: list[str]) -> dict[str, str]:
        """The prompts of those that are ours to answer. Those that cannot be asked about fail; what
        others are at goes to `busy`.
        """
        claim = self.owner.claim(self.view, names, self._retry, LEASE_SECONDS)
        self.held.update(claim.mine)
        busy += claim.busy
        if claim.done:
            self.view.store.refresh()
            failures = list(filter(None, map(self.view.failure, claim.done)))
            for failure in failures:  # without an answer all the same
                self.counts.failed.setdefault(failure.kind, []).append(failure.name)
            self.counts.elsewhere += len(claim.done) - len(failures)
            self.told(len(claim.done))
        prompts, refused = {}, {}
        for name in claim.mine:
            prompt = self.prompt(name)
            if isinstance(prompt, Refusal):
                refused[name] = prompt
            else:
                prompts[name] = prompt
        self.fail(refused)
        return prompts

    def renew(self) -> None:
        """Keep what is claimed for as long again."""
        if self.held:
            self.owner.claim(self.view, self.held, {"all"}, LEASE_SECONDS)

    def wait(self) -> None:
        """Wait for what others are at. What they try again is not tried a third time."""
        await_commit(self.view.store)
        self._retry = set()

    def answer(self, given: Mapping[str, answers.Stored]) -> None:
        """Commit answers."""
        with self.view.store.writer() as writer:
            for name, answer in given.items():
                answers.put(writer, self.view, name, answer)
        self.counts.answered += len(given)
        self.counts.endless += [name for name, answer in given.items() if not answer.ended]
        self._settled(given)

    def fail(self, refused: Mapping[str, Refusal]) -> None:
        """Commit failure records."""
        if not refused:
            return
        with self.view.store.writer() as writer:
            for name, why in refused.items():
                writer.fail(self.view, name, why.kind, why.message)
                self.counts.failed.setdefault(why.kind, []).append(name)
        self._settled(refused)

    def leave(self, lacking: Mapping[str, str]) -> None:
        """Give back samples of which a modality, that is named, is not there."""
        if not lacking:
            return
        for name, modality in lacking.items():
            self.counts.lacking.setdefault(modality, []).append(name)
        self.owner.release(self.view, lacking)
        self._settled(lacking)

    def close(self) -> None:
        """Give back what is claimed, and put the counts in order."""
        if self.held:
            self.owner.release(self.view, self.held)
        counts = self.counts
        for names in (*counts.failed.values(), *counts.lacking.values(), counts.endless):
            names.sort()

    def _settled(self, names: Mapping[str, object]) -> None:
        self.held.difference_update(names)
        self.told(len(names))

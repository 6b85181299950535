"""One dataset with one checkpoint: samples are claimed, their features fetched ahead while the model
generates, and each batch of answers is committed as it comes.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from merstore.errors import DecodeError, MerstoreError, StaleView
from merstore.extract.reading import Refusal
from merstore.models.affectgpt import Checkpoint, Generator, Request
from merstore.models.affectgpt.generation import Answer
from merstore.run import prompts
from merstore.run.inference import answers
from merstore.run.inference.report import Report
from merstore.run.inference.sources import Fetched, Sources
from merstore.run.inference.tasks import NOT_SAID, Task
from merstore.store.leases import await_commit

if TYPE_CHECKING:
    from merstore.run.inference.runner import Runner, Stack

LEASE_SECONDS = 1800.0  # more than a batch may take; it ends with its process anyway
AHEAD = 2  # windows whose features are fetched while the model is at work
BATCHES = 4  # in a window, so that there is something to sort by length


class Job:
    """One dataset with one checkpoint."""

    def __init__(
        self,
        runner: "Runner",
        task: Task,
        stack: "Stack",
        head: Sequence[Checkpoint],
        mode: str,
        au: bool,
        sources: Sources,
        told: Callable[[Report, int], None],
    ) -> None:
        self.runner, self.task, self.stack, self.head = runner, task, stack, head
        self.mode, self.au, self.sources, self.told = mode, au, sources, told
        self.multi = prompts.multi_source(mode)
        clause = task.nonverbal is not None and "nonverbal" in prompts.MODES[mode] and not au
        self.clues = task.nonverbal if clause else None
        spec = runner.spec(stack, mode, au, sources) | ({"nonverbal": True} if clause else {})
        checkpoint = stack[-1].stem
        if answers.view_path(task.dataset, checkpoint, spec) not in runner.store:
            runner.check(stack, head, mode, au)  # before anything is written
        self.view = answers.answers_view(runner.store, task.dataset, checkpoint, spec)
        self.held: set[str] = set()
        self.retry = set(runner.retry)
        names = list(dict.fromkeys(task.names))
        self.report = Report(task.dataset, checkpoint, self.view.path, len(names))
        self.missing = self.view.missing(names, self.retry)
        self.own = set(runner.part.names(names))
        self._check_prompts(names)
        there = int(self.view.select(names).present().sum())
        self.report.present = there
        self.report.known_failures = len(names) - there - len(self.missing)

    def go(self) -> Report:
        report, sources = self.report, self.sources
        started = time.perf_counter()
        fetched, computed = dict(sources.fetched), dict(sources.computed)
        loading, filling = sources.loading, sources.filling
        self.told(report, report.samples - len(self.missing))
        try:
            if self.missing:
                self._answer_all()
        finally:
            if self.held:
                self.runner.owner.release(self.view, self.held)
            for names in (*report.failed.values(), report.cut, report.endless):
                names.sort()
            report.seconds = time.perf_counter() - started
            report.loading = sources.loading - loading
            report.filling = sources.filling - filling
            report.fetched = _since(fetched, sources.fetched)
            report.computed = _since(computed, sources.computed)
        return report

    def _answer_all(self) -> None:
        todo = deque(name for name in self.missing if name in self.own)
        # The processes that these are of begin at the other end.
        others = deque(name for name in reversed(self.missing) if name not in self.own)
        busy: list[str] = []
        with ThreadPoolExecutor(1) as pool:  # the encoders' thread, beside the language model's
            coming: deque[Future[Fetched]] = deque()

            def claim(names: deque[str], most: int) -> None:
                some = [names.popleft() for _ in range(min(most, len(names)))]
                mine = self._claimed(some, busy)
                if mine:
                    coming.append(pool.submit(self.sources.fetch, mine))

            try:
                while todo or others or coming or busy:
                    while todo and len(coming) < AHEAD:
                        claim(todo, BATCHES * self.runner.batch)
                    if others and not coming:  # no more at once than is answered at once
                        claim(others, self.runner.batch)
                    if coming:
                        before = time.perf_counter()
                        fetched = coming.popleft().result()
                        self.report.waiting += time.perf_counter() - before
                        self._window(fetched)
                    elif busy and not others:
                        await_commit(self.runner.store)
                        self.retry = set()  # what another tries again is not tried a third time
                        todo.extend(busy)
                        busy.clear()
            finally:
                for future in coming:
                    future.cancel()

    def _claimed(self, names: list[str], busy: list[str]) -> list[str]:
        claim = self.runner.owner.claim(self.view, names, self.retry, LEASE_SECONDS)
        self.held.update(claim.mine)
        busy += claim.busy
        if claim.done:
            self.runner.store.refresh()
            failures = list(filter(None, map(self.view.failure, claim.done)))
            for failure in failures:  # without an answer all the same
                self.report.failed.setdefault(failure.kind, []).append(failure.name)
            self.report.elsewhere += len(claim.done) - len(failures)
            self.told(self.report, len(claim.done))
        refused = {}
        for name in claim.mine:  # no features are fetched, or computed, of what cannot be asked
            if isinstance(prompt := self._prompt(name), Refusal):
                refused[name] = prompt
        self._fail(refused)
        return [name for name in claim.mine if name not in refused]

    def _window(self, fetched: Fetched) -> None:
        """Answer the samples of a window, batch by batch, those of like length together."""
        self._fail(fetched.refused)
        if fetched.lacking:
            for name, modality in fetched.lacking.items():
                self.report.lacking.setdefault(modality, []).append(name)
            self.runner.owner.release(self.view, fetched.lacking)
            self.held.difference_update(fetched.lacking)
            self.told(self.report, len(fetched.lacking))
        requests = []
        for name, features in fetched.features.items():
            prompt = self._prompt(name)
            assert isinstance(prompt, str), name  # else it was not fetched
            seed = answers.seed_of(self.runner.seed, self.task.dataset, name)
            requests.append(Request(prompt, features, self.multi, seed, name))
        if not requests:
            return
        generator = self.runner.generator(self.stack, self.head)
        requests.sort(key=lambda request: len(request.prompt), reverse=True)
        while requests:
            now, requests = requests[: generator.most], requests[generator.most :]
            self._batch(generator, now)

    def _batch(self, generator: Generator, requests: Sequence[Request]) -> None:
        started, projecting = time.perf_counter(), generator.projecting
        given: dict[str, Answer] = {}
        refused: dict[str, Refusal] = {}
        try:
            given = _by_name(requests, generator.answers(requests))
        except MerstoreError:
            for request in requests:  # one that cannot be answered fails alone
                try:
                    given |= _by_name([request], generator.answers([request]))
                except MerstoreError as error:
                    refused[request.name] = _refusal(error)
        seconds = time.perf_counter() - started
        report = self.report
        report.generating += seconds
        report.projecting += generator.projecting - projecting
        report.batch = generator.most
        by_name = {request.name: request for request in requests}
        with self.runner.store.writer() as writer:
            for name, answer in given.items():
                stored = answers.Stored(
                    text=answer.text,
                    prompt=answers.digest(by_name[name].prompt),
                    tokens=answer.tokens,
                    ended=answer.ended,
                    cut=answer.cut,
                    seed=answer.seed,
                    seconds=round(seconds, 4),
                    batch=len(requests),
                )
                answers.put(writer, self.view, name, stored)
        self.held.difference_update(given)
        report.answered += len(given)
        report.cut += [name for name, answer in given.items() if answer.cut]
        report.endless += [name for name, answer in given.items() if not answer.ended]
        self.told(report, len(given))
        self._fail(refused)
        if self.held:
            self.runner.owner.claim(self.view, self.held, {"all"}, LEASE_SECONDS)

    def _fail(self, refused: Mapping[str, Refusal]) -> None:
        if not refused:
            return
        with self.runner.store.writer() as writer:
            for name, why in refused.items():
                writer.fail(self.view, name, why.kind, why.message)
                self.report.failed.setdefault(why.kind, []).append(name)
        self.held.difference_update(refused)
        self.told(self.report, len(refused))

    def _prompt(self, name: str) -> "str | Refusal":
        needs = "subtitle" in prompts.MODES[self.mode]
        subtitle = self.task.subtitles.get(name) if needs else None
        if isinstance(subtitle, Refusal):
            if subtitle.kind not in NOT_SAID:
                return subtitle
            subtitle = ""
        if needs and subtitle is None:
            return Refusal("missing_text", f"mode {self.mode} needs a subtitle, and there is none")
        nonverbal = None
        if self.clues is not None:
            try:
                nonverbal = self.clues(name)
            except DecodeError as error:
                return Refusal(error.kind, str(error))
        return prompts.prompt(
            self.mode, self.runner.question, subtitle, nonverbal, au_features=self.au
        )

    def _check_prompts(self, names: Sequence[str]) -> None:
        """Answers that are there have to be answers to the prompts of this run."""
        other = []
        for name, answer in answers.read(self.view, names).items():
            prompt = self._prompt(name)
            if isinstance(prompt, Refusal) or answers.digest(prompt) != answer.prompt:
                other.append(name)
        if other:
            raise StaleView(
                f"{self.view.path}: {len(other)} answers, such as that to {other[0]}, were given to "
                "other prompts: the subtitles or the nonverbal clues are not those of that run. Give "
                "the same, or drop the view and answer anew"
            )


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """How many more there are of each; only where there are more."""
    return {key: count - before[key] for key, count in now.items() if count > before[key]}


def _by_name(requests: Sequence[Request], given: Sequence[Answer]) -> dict[str, Answer]:
    return {request.name: answer for request, answer in zip(requests, given, strict=True)}


def _refusal(error: MerstoreError) -> Refusal:
    told = str(error)
    return Refusal("out_of_memory" if "not enough memory" in told else "model_error", told)

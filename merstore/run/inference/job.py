"""One dataset with one checkpoint: samples are claimed, their features fetched ahead while the model
generates, and each batch of answers is committed as it comes.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from merstore.errors import DecodeError, MerstoreError
from merstore.extract.reading import Refusal
from merstore.models.affectgpt import Checkpoint, Generator, Request
from merstore.models.affectgpt.generation import Answer
from merstore.run import answers, prompts
from merstore.run.answering import Samples
from merstore.run.inference.report import Report
from merstore.run.inference.sources import Fetched, Sources
from merstore.run.tasks import NOT_SAID, Task

if TYPE_CHECKING:
    from merstore.run.inference.runner import Runner, Stack

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
        self.mode, self.au, self.sources = mode, au, sources
        self.multi = prompts.multi_source(mode)
        clause = task.nonverbal is not None and "nonverbal" in prompts.MODES[mode] and not au
        self.clues = task.nonverbal if clause else None
        spec = runner.spec(stack, mode, au, sources) | ({"nonverbal": True} if clause else {})
        checkpoint = stack[-1].stem
        if answers.view_path(task.dataset, checkpoint, spec) not in runner.store:
            runner.check(stack, head, mode, au)  # before anything is written
        view = answers.answers_view(runner.store, task.dataset, checkpoint, spec)
        names = list(dict.fromkeys(task.names))
        self.report = Report(task.dataset, view.path, len(names), checkpoint=checkpoint)
        self.samples = Samples(
            view,
            names,
            self._prompt,
            "the subtitles or the nonverbal clues are",
            runner.owner,
            runner.retry,
            self.report,
            lambda more: told(self.report, more),
        )
        self.own = set(runner.part.names(names))

    def go(self) -> Report:
        report, sources = self.report, self.sources
        started = time.perf_counter()
        fetched, computed = dict(sources.fetched), dict(sources.computed)
        loading, filling = sources.loading, sources.filling
        self.samples.told(report.samples - len(self.samples.missing))
        try:
            if self.samples.missing:
                self._answer_all()
        finally:
            self.samples.close()
            report.cut.sort()
            report.seconds = time.perf_counter() - started
            report.loading = sources.loading - loading
            report.filling = sources.filling - filling
            report.fetched = _since(fetched, sources.fetched)
            report.computed = _since(computed, sources.computed)
        return report

    def _answer_all(self) -> None:
        samples = self.samples
        todo = deque(name for name in samples.missing if name in self.own)
        # The processes that these are of begin at the other end.
        others = deque(name for name in reversed(samples.missing) if name not in self.own)
        busy: list[str] = []
        with ThreadPoolExecutor(1) as pool:  # the encoders' thread, beside the language model's
            coming: deque[tuple[dict[str, str], Future[Fetched]]] = deque()

            def claim(names: deque[str], most: int) -> None:
                some = [names.popleft() for _ in range(min(most, len(names)))]
                mine = samples.claim(some, busy)
                if mine:
                    coming.append((mine, pool.submit(self.sources.fetch, list(mine))))

            try:
                while todo or others or coming or busy:
                    while todo and len(coming) < AHEAD:
                        claim(todo, BATCHES * self.runner.batch)
                    if others and not coming:  # no more at once than is answered at once
                        claim(others, self.runner.batch)
                    if coming:
                        before = time.perf_counter()
                        mine, future = coming.popleft()
                        fetched = future.result()
                        self.report.waiting += time.perf_counter() - before
                        self._window(mine, fetched)
                    elif busy and not others:
                        samples.wait()
                        todo.extend(busy)
                        busy.clear()
            finally:
                for _, future in coming:
                    future.cancel()

    def _window(self, asked: Mapping[str, str], fetched: Fetched) -> None:
        """Answer the samples of a window, batch by batch, those of like length together."""
        self.samples.fail(fetched.refused)
        self.samples.leave(fetched.lacking)
        requests = []
        for name, features in fetched.features.items():
            seed = answers.seed_of(self.runner.seed, self.task.dataset, name)
            requests.append(Request(asked[name], features, self.multi, seed, name))
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
        self.samples.answer(
            {
                name: answers.Stored(
                    text=answer.text,
                    prompt=answers.digest(by_name[name].prompt),
                    tokens=answer.tokens,
                    ended=answer.ended,
                    cut=answer.cut,
                    seed=answer.seed,
                    seconds=round(seconds, 4),
                    batch=len(requests),
                )
                for name, answer in given.items()
            }
        )
        report.cut += [name for name, answer in given.items() if answer.cut]
        self.samples.fail(refused)
        self.samples.renew()

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


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """How many more there are of each; only where there are more."""
    return {key: count - before[key] for key, count in now.items() if count > before[key]}


def _by_name(requests: Sequence[Request], given: Sequence[Answer]) -> dict[str, Answer]:
    return {request.name: answer for request, answer in zip(requests, given, strict=True)}


def _refusal(error: MerstoreError) -> Refusal:
    told = str(error)
    return Refusal("out_of_memory" if "not enough memory" in told else "model_error", told)

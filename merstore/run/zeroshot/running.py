"""A baseline's answers about a dataset: samples are claimed, their media read ahead while the model is
at work, and each answer is committed as it comes.

A view ``DATASET/answer@<model>/<subtitle or nosubtitle>-<key>`` holds them, as those of
`merstore.run.answers`; its spec tells of model, media, prompt and settings.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from merstore.errors import DecodeError, MerstoreError
from merstore.extract.files import check_file
from merstore.extract.material import Material
from merstore.extract.processes import Readers
from merstore.extract.reading import Refusal
from merstore.fill.filler import READ_SECONDS, default_jobs
from merstore.fill.plan import path_of
from merstore.run import answers
from merstore.run.answering import LEASE_SECONDS, Counts, Samples
from merstore.run.labels.backend import NO_ANSWER, SAID_NOTHING
from merstore.run.tasks import NOT_SAID, Task
from merstore.run.zeroshot import prompts
from merstore.run.zeroshot.asked import Answerer, Asked, Said
from merstore.run.zeroshot.baselines import Baseline
from merstore.run.zeroshot.media import Given, Kind, Listening, Looking, Media, Shown, material_of
from merstore.store.leases import Owner
from merstore.store.store import Store

CLAIMED = 8  # samples leased at a time


@dataclass
class Report(Counts):
    """The counts of one dataset. ``decoded``, ``read``: samples whose media were decoded, or read from
    the store. ``answering``: seconds.
    """

    baseline: str = ""
    model: str = ""
    decoded: int = 0
    read: int = 0
    answering: float = 0.0


class Progress(NamedTuple):
    """``done`` of ``total`` samples of a dataset."""

    done: int
    total: int
    dataset: str


Tell = Callable[[Progress], None]


class Runner:
    """Asks one baseline about datasets.

    subtitle: whether subtitles are in the prompts. question: in place of the baseline's. seed: of
    drawn answers; each is drawn with one of its own, which follows from it, the dataset and the name.
    keep: put the media that are decoded into the store. retry: failure kinds to try again, or
    ``"all"``. jobs: processes that read clips.

    Several runners, in processes of one machine, may work on one store: leases keep them from
    answering a sample twice.
    """

    def __init__(
        self,
        store: Store,
        baseline: Baseline,
        answerer: Answerer,
        *,
        subtitle: bool = False,
        question: str | None = None,
        seed: int = 0,
        keep: bool = False,
        retry: Iterable[str] = (),
        jobs: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        if subtitle and baseline.subtitle == "none":
            raise MerstoreError(f"{baseline.name} is asked without subtitles: leave them out")
        self.store = store
        self.baseline = baseline
        self.answerer = answerer
        self.subtitle = subtitle
        self.question = question
        self.seed = seed
        self.keep = keep
        self.retry = {retry} if isinstance(retry, str) else set(retry)
        self.jobs = min(default_jobs(), 2) if jobs is None else jobs
        self.tell = tell
        self.owner = Owner()
        self.kinds: list[Kind] = []
        if baseline.frames is not None and "frames" in answerer.needs:
            self.kinds.append(Looking(baseline.frames))
        if baseline.sound is not None and "sound" in answerer.needs:
            self.kinds.append(Listening(baseline.sound))

    @property
    def flag(self) -> str:
        """As published runners call it."""
        return "subtitle" if self.subtitle else "nosubtitle"

    def spec(self) -> dict[str, Any]:
        """All that decides about answers, but for the sample's own media and subtitle."""
        asked = prompts.prompt(self.baseline, None, self.question)
        place = (self.baseline.subtitle, self.baseline.separator) if self.subtitle else ()
        return {
            "kind": "answers",
            "mode": self.flag,
            "baseline": self.baseline.name,
            "question": asked,
            "prompts": prompts.VERSION,
            "subtitle": list(place),
            "media": {kind.modality: kind.spec for kind in self.kinds},
            "cut": list(self.baseline.cut),
            "answerer": self.answerer.spec(),
        } | ({"seed": self.seed} if self.answerer.draws else {})

    def run(self, task: Task) -> Report:
        """Answers all that has no answer yet.

        Raises MerstoreError where nothing can be answered at all, StaleView where what is there was
        answered to other subtitles.
        """
        return _Job(self, task).go()


class _Job:
    """One dataset."""

    def __init__(self, runner: Runner, task: Task) -> None:
        self.runner, self.task = runner, task
        self._check_task()
        view = answers.answers_view(runner.store, task.dataset, runner.answerer.name, runner.spec())
        names = list(dict.fromkeys(task.names))
        self.report = Report(
            task.dataset,
            view.path,
            len(names),
            baseline=runner.baseline.name,
            model=runner.answerer.name,
        )
        self.renewed = time.monotonic()
        self.done = 0
        self.samples = Samples(
            view,
            names,
            self._prompt,
            "the subtitles are",
            runner.owner,
            runner.retry,
            self.report,
            self._told,
        )

    def go(self) -> Report:
        report, runner = self.report, self.runner
        started = time.perf_counter()
        self._told(report.samples - len(self.samples.missing))
        media = Media(
            runner.store,
            self.task.dataset,
            runner.kinds,
            self.task.materials,
            keep=runner.keep,
            retry=runner.retry,
            readers=Readers(runner.jobs, READ_SECONDS),
        )
        try:
            if self.samples.missing:
                self._answer_all(media)
        finally:
            media.close()
            self.samples.close()
            report.decoded, report.read = media.decoded, media.read
            report.seconds = time.perf_counter() - started
        return report

    def _answer_all(self, media: Media) -> None:
        todo, claimed = deque(self.samples.missing), deque[tuple[str, str]]()
        busy: list[str] = []
        coming = deque[tuple[str, str, Callable[[], Given]]]()
        while todo or claimed or coming or busy:
            while len(coming) <= self.runner.jobs and (claimed or todo):
                if not claimed:
                    some = [todo.popleft() for _ in range(min(CLAIMED, len(todo)))]
                    claimed.extend(self.samples.claim(some, busy).items())
                    continue
                name, prompt = claimed.popleft()
                coming.append((name, prompt, media.begin(name)))
            if coming:
                name, prompt, wait = coming.popleft()
                before = time.perf_counter()
                given = wait()
                self.report.waiting += time.perf_counter() - before
                self._answer(name, prompt, given)
                self._renew()
            elif busy and not todo:
                self.samples.wait()
                todo.extend(busy)
                busy.clear()

    def _answer(self, name: str, prompt: str, given: Given) -> None:
        if given.lacking is not None:
            self.samples.leave({name: given.lacking})
            return
        asked = given.refused or self._asked(name, prompt, given.found)
        if isinstance(asked, Refusal):
            self.samples.fail({name: asked})
            return
        seed = answers.seed_of(self.runner.seed, self.task.dataset, name)
        started = time.perf_counter()
        (said,) = self.runner.answerer.answer([asked], [seed])
        seconds = time.perf_counter() - started
        self.report.answering += seconds
        if isinstance(said, Refusal):
            self.samples.fail({name: said})
            return
        said = said if isinstance(said, Said) else Said(said, 0, True)
        text = self.runner.baseline.clean(said.text)
        if not text:
            self.samples.fail({name: Refusal(NO_ANSWER, SAID_NOTHING)})
            return
        stored = answers.Stored(
            text=text,
            prompt=answers.digest(prompt),
            tokens=said.tokens,
            ended=said.ended,
            cut="",
            seed=seed if self.runner.answerer.draws else None,
            seconds=round(seconds, 4),
            batch=1,
        )
        self.samples.answer({name: stored})

    def _asked(self, name: str, prompt: str, found: Mapping[str, Any]) -> Asked | Refusal:
        materials, runner = self.task.materials, self.runner
        try:
            material = Material(name) if materials is None else material_of(materials, name)
        except KeyError:
            if not runner.kinds:
                return Refusal("missing_file", "no clip of this name among those given")
            material = Material(name)  # all that the model takes of it is in the store
        if not runner.kinds:  # it opens the file itself
            try:
                check_file(Path(material.file(runner.baseline.needs)))
            except DecodeError as error:
                return Refusal(error.kind, error.message)
        shown = found.get("frame") or Shown(None, None)  # type: ignore[arg-type]
        return Asked(name, prompt, material, shown.frames, shown.seconds, found.get("audio"))

    def _prompt(self, name: str) -> str | Refusal:
        runner = self.runner
        if not runner.subtitle:
            return prompts.prompt(runner.baseline, None, runner.question)
        subtitle = self.task.subtitles.get(name)
        if isinstance(subtitle, Refusal):
            if subtitle.kind not in NOT_SAID:
                return subtitle
            subtitle = ""
        if subtitle is None:
            return Refusal("missing_text", "subtitles are asked for, and it has none")
        return prompts.prompt(runner.baseline, subtitle, runner.question)

    def _check_task(self) -> None:
        """What would fail for every sample is said at once."""
        runner, task = self.runner, self.task
        if runner.subtitle and not task.subtitles:
            raise MerstoreError(
                f"{task.dataset}: there are no subtitles: give texts, or ask without"
            )
        if task.materials is not None:
            return
        if not runner.kinds:
            raise MerstoreError(
                f"{runner.baseline.name} opens files itself: give the media of {task.dataset}"
            )
        for kind in runner.kinds:
            path = path_of(task.dataset, kind)
            if path not in runner.store:
                raise MerstoreError(
                    f"{runner.store.path} has no {path}: give the media of {task.dataset}"
                )

    def _told(self, more: int) -> None:
        self.done += more
        if self.runner.tell and more:
            report = self.report
            self.runner.tell(Progress(self.done, report.samples, report.dataset))

    def _renew(self) -> None:
        """Keep what we hold, before the leases run out."""
        if time.monotonic() - self.renewed > LEASE_SECONDS / 4:
            self.samples.renew()
            self.renewed = time.monotonic()

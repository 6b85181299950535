"""Answering questions about whole datasets, with features from the store.

For each checkpoint, samples without an answer are claimed, their features fetched ahead while the
model generates, and each batch of answers is committed as it comes. Stopped, it goes on from there.
"""

import contextlib
import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from merstore.errors import DecodeError, MerstoreError, StaleView
from merstore.extract.models import ModelFolder
from merstore.extract.recipes import Recipe
from merstore.fill.engine import Clip
from merstore.interop.affectgpt_config import MODES
from merstore.models.affectgpt import (
    AffectGPT,
    Checkpoint,
    Generator,
    Request,
    Settings,
    Tokens,
    config_of,
    load,
    open_model,
)
from merstore.models.affectgpt import read as read_checkpoint
from merstore.models.affectgpt.generation import Answer
from merstore.run import prompts
from merstore.run.inference import answers
from merstore.run.inference.sources import Fetched, Refusal, Sources
from merstore.run.inference.templates import Template
from merstore.store.leases import Owner
from merstore.store.store import Store, open_store

LEASE_SECONDS = 1800.0  # more than a batch may take; it ends with its process anyway
POLL_SECONDS = 0.2  # between two looks at what another process is answering
AHEAD = 2  # windows whose features are fetched while the model is at work
BATCHES = 4  # in a window, so that there is something to sort by length

_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")  # one of them
NOT_SAID = ("empty_text", "nan_text")  # of a transcript: nothing is said, which is a subtitle too


@dataclass(frozen=True)
class Task:
    """The samples of one dataset that are asked about. ``subtitles``: by name; a Refusal where it is
    known why there is none. ``nonverbal``: the clues by name, None where the clause is left out.
    ``materials``: what features are computed from; None: they are all in the store.
    """

    dataset: str
    names: Sequence[str]
    subtitles: Mapping[str, "str | float | Refusal | None"] = field(default_factory=dict)
    nonverbal: Callable[[str], str] | None = None
    materials: Mapping[str, Clip] | None = None


@dataclass
class Report:
    """What became of one dataset's samples with one checkpoint. ``samples`` = ``present`` +
    ``known_failures`` (both from before) + ``answered`` + ``elsewhere`` (by others meanwhile) +
    ``failed`` (kind: names) + ``lacking`` (names, by the modality that the store has not of them and
    that nothing is given to compute from; there is no record of those).

    ``fetched``: features that were read, by modality; ``computed``: those of them that were computed
    in this run first. ``cut``: samples whose texts did not
    fit. ``endless``: whose answers were as long as they may be. ``batch``: samples that go through
    the model at once; less than was asked for where memory did not suffice. ``seconds``: of
    all; ``waiting`` for features, ``loading`` and ``filling`` them beside the model's work, and
    ``generating``.
    """

    dataset: str
    checkpoint: str
    view: str
    samples: int
    present: int = 0
    known_failures: int = 0
    answered: int = 0
    elsewhere: int = 0
    failed: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    fetched: dict[str, int] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    batch: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    loading: float = 0.0
    filling: float = 0.0
    generating: float = 0.0

    @property
    def failures(self) -> int:
        return sum(map(len, self.failed.values()))

    @property
    def without(self) -> int:
        """Samples that have neither an answer nor a record of why."""
        return sum(map(len, self.lacking.values()))


class Progress(NamedTuple):
    """``done`` of ``total`` samples, over all datasets and checkpoints."""

    done: int
    total: int
    dataset: str
    checkpoint: str


Tell = Callable[[Progress], None]
Stack = tuple[Path, ...]
"""Files of one checkpoint, later ones over earlier ones."""


class Runner:
    """Answers the same question with any number of checkpoints.

    store: features, and the answers. checkpoints: files, or stacks of files. llm: the language
    model's folder or hub id. template: which features. mode: in place of the template's (None: as
    the checkpoint was trained, where all its datasets agree; else the template's). recipes: the
    recipe of a view by the end of its path and the profile (`sources.recipes_of`).

    batch: samples that go through the model at once. retry: failure kinds to try again. Greedy
    answers do not depend on batch and order, up to the rounding of equal scores; sampled ones are
    drawn with a seed of their own, which follows from `seed`, the dataset and the name.

    Several runners, in processes of one machine, may work on one store: leases keep them from
    answering a sample twice.
    """

    def __init__(
        self,
        store: Store,
        checkpoints: Sequence[str | Path | Sequence[str | Path]],
        llm: str | Path,
        template: Template,
        *,
        mode: str | None = None,
        question: str = "",
        recipes: Callable[[str, str], Recipe] | None = None,
        settings: Settings | None = None,
        seed: int = 0,
        batch: int = 16,
        device: str = "auto",
        dtype: str = "auto",
        retry: Iterable[str] = (),
        jobs: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        if not checkpoints:
            raise MerstoreError("no checkpoint is given: name one at least")
        if batch < 1:
            raise MerstoreError(f"batch is a number of samples from 1, not {batch}")
        self.store = store
        self.stacks = [_stack(each) for each in checkpoints]
        self.llm = llm
        self.template = template
        self.mode = mode
        self.question = question or prompts.question("ovlabel")
        self.recipes = recipes
        self.settings = settings or Settings()
        self.seed = seed
        self.batch = batch
        self.device = device
        self.dtype = _dtype(dtype, device)
        self.retry = {retry} if isinstance(retry, str) else set(retry)
        self.jobs = jobs
        self.tell = tell
        self.owner = Owner()
        self._model: tuple[AffectGPT, Generator] | None = None
        self._loaded: Stack | None = None

    def run(self, tasks: Sequence[Task]) -> list[Report]:
        """Answers all; a report for each dataset and checkpoint, in this order."""
        heads = [[read_checkpoint(file) for file in stack] for stack in self.stacks]
        modes = [self._mode(head) for head in heads]
        reports: dict[tuple[int, int], Report] = {}
        done, total = 0, len(self.stacks) * sum(len(set(task.names)) for task in tasks)

        def told(report: Report, more: int) -> None:
            nonlocal done
            done += more
            if self.tell:
                self.tell(Progress(done, total, report.dataset, report.checkpoint))

        with contextlib.ExitStack() as stack:
            scratch = _Scratch(stack)
            opened: dict[tuple[int, str, bool], Sources] = {}
            for c, (head, mode) in enumerate(zip(heads, modes, strict=True)):
                au = self._takes_au(head, mode)
                for t, task in enumerate(tasks):
                    if (t, mode, au) not in opened:
                        sources = self._sources(task, mode, au, scratch)
                        stack.callback(sources.close)
                        opened[t, mode, au] = sources
                    sources = opened[t, mode, au]
                    job = _Job(self, task, self.stacks[c], head, mode, au, sources, told)
                    reports[t, c] = job.go()
        return [reports[t, c] for t in range(len(tasks)) for c in range(len(heads))]

    def generator(self, stack: Stack, head: Sequence[Checkpoint]) -> Generator:
        """The model with a checkpoint in it: one model for all that are made alike."""
        if self._model is not None and self._loaded != stack:
            model, _ = self._model
            if config_of(head) == model.config:
                load(model, head)
            else:
                self._model = None
        if self._model is None:
            model, _ = open_model(
                list(stack), self.llm, device=_device(self.device), dtype=self.dtype
            )
            au = model.config.au_fusion is not None
            tokens = Tokens.from_folder(self.llm, model.config.queries, au=au)
            self._model = model, Generator(model, tokens, self.settings, self.batch)
        self._loaded = stack
        return self._model[1]

    def spec(self, stack: Stack, mode: str, au: bool, sources: Sources) -> dict[str, Any]:
        """All that decides about answers, but for the sample's own subtitle and clues."""
        settings = asdict(self.settings)
        if not self.settings.sample:
            for key in ("temperature", "top_p", "top_k"):
                del settings[key]
        return {
            "kind": "answers",
            "checkpoint": [_digest(path) for path in stack],
            "llm": _llm_digest(str(self.llm)),
            "dtype": self.dtype,
            "mode": mode,
            "question": self.question,
            "prompts": answers.PROMPTS,
            "au features": au,
            "features": sources.spec(),
            "generation": settings | ({"seed": self.seed} if self.settings.sample else {}),
        }

    def _mode(self, head: Sequence[Checkpoint]) -> str:
        trained = set(head[-1].modes.values())
        mode = self.mode or (trained.pop() if len(trained) == 1 else self.template.mode)
        if mode not in MODES:
            raise MerstoreError(
                f"unknown mode {mode!r} (face_or_frame); there are {', '.join(MODES)}"
            )
        return mode

    def _takes_au(self, head: Sequence[Checkpoint], mode: str) -> bool:
        """Whether features of action units go into the prompt, in place of the nonverbal clause:
        where the checkpoint can take them, the mode has a place, and the template a view of them.
        """
        can = any(file.has_au for file in head) and "au" in self.template.features
        return can and mode == "multiface_audio_face_frame_au_text"

    def _sources(self, task: Task, mode: str, au: bool, scratch: "_Scratch") -> Sources:
        def recipes(view: str) -> Recipe:
            if self.recipes is None:
                raise MerstoreError(f"{view} is to be computed, and no recipes are given")
            return self.recipes(view, self.template.profile)

        wanted = self.template.needed(mode, au)
        return Sources(
            self.store, scratch.store, task.dataset, wanted, recipes, task.materials, self.retry,
            self.jobs,
        )  # fmt: skip


class _Scratch:
    """A store for what is computed for the run alone; made when something is."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._store: Store | None = None

    def store(self) -> Store:
        if self._store is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="merstore-"))
            opened = open_store(Path(folder) / "run.mer", "a", durability="fast")
            self._store = self._stack.enter_context(opened)
        return self._store


class _Job:
    """One dataset with one checkpoint."""

    def __init__(
        self,
        runner: Runner,
        task: Task,
        stack: Stack,
        head: Sequence[Checkpoint],
        mode: str,
        au: bool,
        sources: Sources,
        told: Callable[[Report, int], None],
    ) -> None:
        self.runner, self.task, self.stack, self.head = runner, task, stack, head
        self.mode, self.au, self.sources, self.told = mode, au, sources, told
        self.multi = prompts.multi_source(mode)
        spec = runner.spec(stack, mode, au, sources)
        checkpoint = stack[-1].stem
        self.view = answers.answers_view(runner.store, task.dataset, checkpoint, spec)
        self.held: set[str] = set()
        self.retry = set(runner.retry)
        names = list(dict.fromkeys(task.names))
        self.report = Report(task.dataset, checkpoint, self.view.path, len(names))
        self.missing = self.view.missing(names, self.retry)
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
        todo = deque(self.missing)
        busy: list[str] = []
        size = BATCHES * self.runner.batch
        with ThreadPoolExecutor(1) as pool:  # the encoders' thread, beside the language model's
            coming: deque[Future[Fetched]] = deque()
            try:
                while todo or coming or busy:
                    while todo and len(coming) < AHEAD:
                        some = [todo.popleft() for _ in range(min(size, len(todo)))]
                        mine = self._claimed(some, busy)
                        if mine:
                            coming.append(pool.submit(self.sources.fetch, mine))
                    if coming:
                        before = time.perf_counter()
                        fetched = coming.popleft().result()
                        self.report.waiting += time.perf_counter() - before
                        self._window(fetched)
                    elif busy and not todo:
                        self._wait_for_others()
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
        self.report.elsewhere += len(claim.done)
        if claim.done:
            self.told(self.report, len(claim.done))
        return claim.mine

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
        refused: dict[str, Refusal] = {}
        for name, features in fetched.features.items():
            prompt = self._prompt(name)
            if isinstance(prompt, Refusal):
                refused[name] = prompt
                continue
            seed = answers.seed_of(self.runner.seed, self.task.dataset, name)
            requests.append(Request(prompt, features, self.multi, seed, name))
        self._fail(refused)
        if not requests:
            return
        generator = self.runner.generator(self.stack, self.head)
        requests.sort(key=lambda request: len(request.prompt), reverse=True)
        while requests:
            now, requests = requests[: generator.most], requests[generator.most :]
            self._batch(generator, now)

    def _batch(self, generator: Generator, requests: Sequence[Request]) -> None:
        started = time.perf_counter()
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
        if self.task.nonverbal and "nonverbal" in prompts.MODES[self.mode] and not self.au:
            try:
                nonverbal = self.task.nonverbal(name)
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

    def _wait_for_others(self) -> None:
        """Until something was committed, or it is time to see whether a lease is over."""
        store = self.runner.store
        before = store.snapshot().id
        deadline = time.monotonic() + POLL_SECONDS
        while time.monotonic() < deadline and store.snapshot().id == before:
            time.sleep(POLL_SECONDS / 10)
            store.refresh()


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """How many more there are of each; only where there are more."""
    return {key: count - before[key] for key, count in now.items() if count > before[key]}


def _by_name(requests: Sequence[Request], given: Sequence[Answer]) -> dict[str, Answer]:
    return {request.name: answer for request, answer in zip(requests, given, strict=True)}


def _refusal(error: MerstoreError) -> Refusal:
    told = str(error)
    return Refusal("out_of_memory" if "not enough memory" in told else "model_error", told)


def _stack(given: str | Path | Sequence[str | Path]) -> Stack:
    return (Path(given),) if isinstance(given, str | Path) else tuple(map(Path, given))


def _device(device: str) -> str:
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(dtype: str, device: str) -> str:
    """As `load_llm` chooses it: answers tell which it was."""
    if dtype != "auto":
        return dtype
    return "float32" if _device(device) == "cpu" else "float16"


def _digest(path: Path) -> str:
    try:
        known = path.stat()
        return _digest_of(path, known.st_size, known.st_mtime_ns)
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: name a checkpoint file") from None


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _llm_digest(llm: str) -> str:
    """Of weights, tokenizer and configuration."""
    folder = ModelFolder(llm)
    if not any((folder.path / name).is_file() for name in _TOKENIZERS):
        raise MerstoreError(
            f"{folder.path}: no tokenizer in it ({', '.join(_TOKENIZERS)}): take the whole folder of "
            "the language model"
        )
    told = [file for file in folder.path.iterdir() if file.suffix in (".json", ".txt", ".model")]
    return folder.digest([*folder.weight_files, *sorted(told)])

"""Answering questions about whole datasets, with features from the store."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from merstore.errors import MerstoreError
from merstore.extract.models import ModelFolder
from merstore.extract.recipes import Recipe
from merstore.fill.shards import Shard
from merstore.interop.affectgpt_config import MODES
from merstore.models.affectgpt import (
    Checkpoint,
    Generator,
    Settings,
    Tokens,
    config_of,
    load,
    open_model,
)
from merstore.models.affectgpt import read as read_checkpoint
from merstore.models.affectgpt.model import check_device
from merstore.models.affectgpt.vllm_generation import Engine, VllmGenerator, embeddings_of
from merstore.models.vllm import vllm
from merstore.run import answers, prompts
from merstore.run.inference.checking import check
from merstore.run.inference.job import Job
from merstore.run.inference.report import Progress, Report, Tell
from merstore.run.inference.sources import Sources
from merstore.run.inference.templates import Template
from merstore.run.tasks import Task
from merstore.store.leases import Owner
from merstore.store.store import Store, open_store

BATCH = {"transformers": 16, "vllm": 256}
"""The backends, and how many samples are answered at once where nothing is said."""

_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")  # one of them

Stack = tuple[Path, ...]
"""Files of one checkpoint, later ones over earlier ones."""


class Runner:
    """Answers the same question with any number of checkpoints.

    store: features, and the answers. checkpoints: files, or stacks of files. llm: the language
    model's folder or hub id. template: which features. mode: in place of the template's (None: as
    the checkpoint was trained, where all its datasets agree; else the template's). recipes: the
    recipe of a view by the end of its path and the profile (`sources.recipes_of`).

    backend: what generates: transformers, or vllm, which takes the first GPU that this process may
    see (`device` is then that of the encoders). batch: samples that go through the model at once
    (None: `BATCH`). retry: failure kinds to try again. Greedy
    answers do not depend on batch and order, up to the rounding of equal scores; sampled ones are
    drawn with a seed of their own, which follows from `seed`, the dataset and the name.

    Several runners, in processes of one machine, may work on one store: leases keep them from
    answering a sample twice. part: which of them this is; each begins with samples of its own, and
    then helps the others. scratch: a folder for what is computed for the run alone, where they
    share that too; it is left as it is. None: one of this runner's own, which goes with the run.
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
        backend: str = "transformers",
        batch: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        retry: Iterable[str] = (),
        jobs: int | None = None,
        part: Shard | None = None,
        scratch: Path | None = None,
        tell: Tell | None = None,
    ) -> None:
        if not checkpoints:
            raise MerstoreError("no checkpoint is given: name one at least")
        if backend not in BATCH:
            raise MerstoreError(f"unknown backend {backend!r}; there are {', '.join(BATCH)}")
        if batch is not None and batch < 1:
            raise MerstoreError(f"batch is a number of samples from 1, not {batch}")
        self.store = store
        check_device(_device(device))
        self.stacks = [stack_of(each) for each in checkpoints]
        self.llm = llm
        self.template = template
        self.mode = mode
        self.question = question or prompts.question("ovlabel")
        self.recipes = recipes
        self.settings = settings or Settings()
        self.seed = seed
        self.backend = backend
        self.batch = BATCH[backend] if batch is None else batch
        self.device = device
        self.dtype = _dtype(dtype, device)
        self.retry = {retry} if isinstance(retry, str) else set(retry)
        self.jobs = jobs
        self.part = part or Shard(0, 1)
        self.scratch = scratch
        self.tell = tell
        self.owner = Owner()
        self._generator: Generator | None = None
        self._loaded: Stack | None = None
        self._checked: set[tuple[Stack, str, bool]] = set()
        self._engine: Engine | None = None

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
                there = report.present + report.known_failures
                own = report.answered + report.failures + report.without
                name = report.checkpoint
                self.tell(Progress(done, total, report.dataset, name, there, own))

        with contextlib.ExitStack() as stack:
            scratch = _Scratch(stack, self.scratch)
            opened: dict[tuple[int, str, bool], Sources] = {}
            for c, (head, mode) in enumerate(zip(heads, modes, strict=True)):
                au = self._takes_au(head, mode)
                for t, task in enumerate(tasks):
                    if (t, mode, au) not in opened:
                        sources = self._sources(task, mode, au, scratch)
                        stack.callback(sources.close)
                        opened[t, mode, au] = sources
                    sources = opened[t, mode, au]
                    job = Job(self, task, self.stacks[c], head, mode, au, sources, told)
                    reports[t, c] = job.go()
        return [reports[t, c] for t in range(len(tasks)) for c in range(len(heads))]

    def check(self, stack: Stack, head: Sequence[Checkpoint], mode: str, au: bool) -> None:
        """Raises MerstoreError where the question cannot be asked this checkpoint, whatever the sample."""
        if (stack, mode, au) not in self._checked:
            if self.backend == "vllm":
                vllm()  # whether it is installed
            limit = self.settings.max_length - self.settings.max_new_tokens
            check(head, self.llm, mode, self.question, au, limit)
            self._checked.add((stack, mode, au))

    def generator(self, stack: Stack, head: Sequence[Checkpoint]) -> Generator:
        """The model with a checkpoint in it: one model for all that are made alike, and of vLLM one
        engine for all.
        """
        if self._generator is not None and self._loaded == stack:
            return self._generator
        most = self.batch
        if self._generator is not None:
            most = self._generator.most  # what memory was found to suffice for
            if self._generator.model.config != config_of(head):
                self._generator = None  # its memory goes before the next one's comes
        if self._generator is not None:
            model, tokens = self._generator.model, self._generator.tokens
            load(model, head)
        else:
            bare = self.backend == "vllm"
            llm = embeddings_of(self.llm, self.dtype) if bare else self.llm
            model, _ = open_model(list(stack), llm, device=_device(self.device), dtype=self.dtype)
            au = model.config.au_fusion is not None
            tokens = Tokens.from_folder(self.llm, model.config.queries, au=au)
        if self.backend == "vllm":
            made: Generator = VllmGenerator(model, tokens, self._started(), self.settings, most)
        else:
            made = Generator(model, tokens, self.settings, most)
        self._generator, self._loaded = made, stack
        return made

    def _started(self) -> Engine:
        """vLLM, with room for the adapters of every checkpoint."""
        if self._engine is None:
            heads = [[read_checkpoint(file) for file in stack] for stack in self.stacks]
            rank = max(config_of(head).lora_rank for head in heads)
            self._engine = Engine(self.llm, self.dtype, rank, self.settings, self.batch)
        return self._engine

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
            # transformers is what has always been, and its answers keep their key
            **({"backend": self.backend} if self.backend != "transformers" else {}),
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

    def __init__(self, stack: contextlib.ExitStack, folder: Path | None) -> None:
        self._stack = stack
        self._folder = folder
        self._store: Store | None = None

    def store(self) -> Store:
        if self._store is None:
            folder = self._folder
            if folder is None:
                made = tempfile.TemporaryDirectory(prefix="merstore-")
                folder = Path(self._stack.enter_context(made))
            self._store = self._stack.enter_context(scratch_store(folder))
        return self._store


def scratch_store(folder: Path) -> Store:
    """In a folder, the store for what is computed for a run alone."""
    return open_store(folder / "run.mer", "a", durability="fast")


def stack_of(given: str | Path | Sequence[str | Path]) -> Stack:
    """The files of a checkpoint, of which there may be one."""
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

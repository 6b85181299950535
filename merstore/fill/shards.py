"""Shards: one process's part of a run that several share, and the store of its own that it fills."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from merstore.errors import MerstoreError

_FILE = re.compile(r"(\d{4,})-of-(\d{4,})\.mer\Z")

Environ = Mapping[str, str]


@dataclass(frozen=True, order=True)
class Shard:
    """The ``index``-th of ``count`` parts, counted from 0 as torchrun's RANK and SLURM_PROCID are:
    ``0/16`` to ``15/16``. Raises MerstoreError where there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise MerstoreError(
                f"there is no shard {self}: shards are counted from 0, the last of {self.count} is "
                f"{self.count - 1}/{self.count}"
                if self.count > 0
                else f"there is no shard {self}: a run has at least one, 0/1"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """``"3/16"``, the fourth of sixteen. Raises MerstoreError."""
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
        if not found:
            raise MerstoreError(
                f"{text!r} is no shard: write i/n with i from 0 to n - 1, such as 0/16 for the first of sixteen"
            )
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def here(cls, environ: Environ = os.environ) -> "Shard | None":
        """Which part this process is of what torchrun or SLURM started; None where it is alone.

        torchrun: RANK of WORLD_SIZE. SLURM: SLURM_PROCID of SLURM_STEP_NUM_TASKS (else
        SLURM_NTASKS) in what srun started; the batch script itself is one process, whatever the
        number of tasks. Where srun starts torchrun, torchrun knows more. In an array job each of
        its jobs is a part, and each process of a job a part of that.

        Raises MerstoreError, which names the variables, where they are broken or contradict each
        other; ``--shard i/n`` says it without them.
        """
        array, process = _array(environ), _torchrun(environ)
        task = _task(environ)
        if process.count == 1:
            process = task
        elif task.count > process.count:
            raise MerstoreError(
                f"{_told(environ, 'WORLD_SIZE', *_TASKS)} contradict each other: torchrun counts fewer "
                "processes than SLURM; give --shard i/n"
            )
        shard = cls(array.index * process.count + process.index, array.count * process.count)
        return shard if shard.count > 1 else None

    def names(self, names: Iterable[str]) -> list[str]:
        """This shard's part of ``names``: in sorted order, every ``count``-th. The same names in any
        order, with or without repetitions, are dealt out alike on every machine.
        """
        return sorted(set(names))[self.index :: self.count]

    def path(self, store: "str | os.PathLike[str]") -> Path:
        """Where this shard of a store is: ``features.mer`` has the shards
        ``features.mer.shards/0003-of-0016.mer``, each a store.
        """
        return _folder(store) / f"{self.index:04d}-of-{self.count:04d}.mer"

    @staticmethod
    def all(store: "str | os.PathLike[str]") -> "Shards":
        """The shards of a store that are there, and those that are not. Where runs of several counts
        left shards, each run counts for itself.
        """
        folder = _folder(store)
        found: dict[Shard, Path] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            named = _FILE.match(path.name)
            if named and int(named[1]) < int(named[2]):
                found[Shard(int(named[1]), int(named[2]))] = path
        every = {
            Shard(index, count)
            for count in {each.count for each in found}
            for index in range(count)
        }
        order = sorted(found, key=lambda shard: (shard.count, shard.index))
        missing = sorted(every - found.keys(), key=lambda shard: (shard.count, shard.index))
        return Shards([found[shard] for shard in order], missing)


class Shards(NamedTuple):
    """The shards of one store: the stores that are there, in order, and those that are not."""

    paths: list[Path]
    missing: list[Shard]


ALONE = Shard(0, 1)

_TASKS = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")


def _folder(store: "str | os.PathLike[str]") -> Path:
    path = Path(store)
    return path.with_name(f"{path.name}.shards")


def _torchrun(environ: Environ) -> Shard:
    return _pair(environ, "RANK", "WORLD_SIZE")


def _task(environ: Environ) -> Shard:
    # srun gives its step a number; the batch script has the first task's variables and is no task
    if "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" not in environ:
        return ALONE
    if "SLURM_PROCID" not in environ:  # the numbers of tasks are an allocation's as well
        return ALONE
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    return _pair(environ, "SLURM_PROCID", count)


def _array(environ: Environ) -> Shard:
    name = "SLURM_ARRAY_TASK_"
    if f"{name}ID" not in environ:
        return ALONE
    names = [f"{name}{part}" for part in ("ID", "MIN", "MAX", "STEP", "COUNT")]
    task, low, high = (_number(environ, each) for each in names[:3])
    step = _number(environ, names[3], 1) or 1
    count = _number(environ, names[4], (high - low) // step + 1)
    index, beside = divmod(task - low, step)
    if beside or not 0 <= index < count or low + (count - 1) * step != high:
        raise MerstoreError(
            f"{_told(environ, *names)} contradict each other, or the array has gaps: give --shard i/n, or an "
            "array such as --array=0-15"
        )
    return Shard(index, count)


def _pair(environ: Environ, index: str, count: str) -> Shard:
    if index not in environ and count not in environ:
        return ALONE
    found = _number(environ, index), _number(environ, count)
    if not found[0] < found[1]:
        raise MerstoreError(
            f"{_told(environ, index, count)} contradict each other: the first is from 0 to the second less one; "
            "correct or unset them, or give --shard i/n"
        )
    return Shard(*found)


def _number(environ: Environ, name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        what = "is not set" if text is None else f"is {text!r}, which is no number"
        raise MerstoreError(
            f"{name} {what}, so that this process cannot tell which shard it is: correct it, unset its "
            "companions, or give --shard i/n"
        )
    return int(text)


def _told(environ: Environ, *names: str) -> str:
    return ", ".join(f"{name}={environ[name]}" for name in names if name in environ)

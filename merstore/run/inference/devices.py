"""A run on several devices: a process for each, which share the samples by leases. In a folder that they
have in common lies what each has told of its progress, and what is computed for the run alone.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from merstore.atomic import replacing
from merstore.fill.devices import run_on
from merstore.run.inference.report import Progress, Report, Tell, together
from merstore.run.inference.runner import scratch_store


def answer_on(
    devices: Sequence[str], command: Callable[[str, int], list[str]], folder: Path, tell: Tell
) -> list[Report]:
    """Answer on each device, and add up what they report: each prints ``{"answers": [report, ...]}``
    and writes its progress to `folder`, with `telling`.

    Raises MerstoreError as `run_on`.
    """
    scratch_store(folder).close()  # made once, before all open it

    def told() -> None:
        if progress := _all(folder):
            tell(progress)

    parts = [each["answers"] for each in run_on(devices, command, told)]
    return [
        together([Report(**report) for report in reports]) for reports in zip(*parts, strict=True)
    ]


def telling(folder: Path) -> Tell:
    """Leaves the progress of this process in a folder."""
    path = folder / f"{os.getpid()}.progress"
    jobs: dict[str, Progress] = {}

    def tell(progress: Progress) -> None:
        jobs[f"{progress.dataset}/{progress.checkpoint}"] = progress
        with replacing(path) as file:
            file.write(json.dumps(list(jobs.values())).encode())

    return tell


def _all(folder: Path) -> Progress | None:
    """How far all of them are; None if nobody has told yet."""
    jobs: dict[Any, list[Progress]] = {}
    for path in sorted(folder.glob("*.progress")):
        for told in json.loads(path.read_text(encoding="utf-8")):
            each = Progress(*told)
            jobs.setdefault((each.dataset, each.checkpoint), []).append(each)
    if not jobs:
        return None
    last = max((each for parts in jobs.values() for each in parts), key=lambda each: each.done)
    done = sum(
        min(part.there for part in parts) + sum(part.own for part in parts)
        for parts in jobs.values()
    )
    return last._replace(done=min(done, last.total))

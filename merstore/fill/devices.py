"""Several devices of one machine work on one store: a process for each, kept apart by leases."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from merstore import machine
from merstore.errors import MerstoreError
from merstore.fill.engine import FillReport, Progress
from merstore.fill.log import read_log

POLL_SECONDS = 0.5


def named(devices: str) -> list[str]:
    """The devices of ``"cuda:0,cuda:1"``; ``"all"`` are all GPUs of this machine, or those that
    CUDA_VISIBLE_DEVICES leaves.

    Raises MerstoreError for none.
    """
    if devices == "all":
        gpus = [f"cuda:{number}" for number in range(len(visible_gpus()))]
        if not gpus:
            raise MerstoreError('device "all": no GPU can be seen on this machine; use "auto"')
        return gpus
    found = [device.strip() for device in devices.split(",") if device.strip()]
    if not found:
        raise MerstoreError(f"{devices!r} names no device")
    return found


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may see, in the order of CUDA."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return [str(number) for number in range(len(machine.gpus()))]
    names = [name.strip() for name in told.split(",")]
    hidden = next((at for at, name in enumerate(names) if name in {"", "-1"}), len(names))
    return names[:hidden]


def several(devices: str) -> bool:
    """Whether an option ``--device`` asks for a process for each."""
    return devices == "all" or "," in devices


def fill_on(
    devices: Sequence[str],
    command: Callable[[str, int], list[str]],
    log: Path,
    tell: Callable[[Progress], None],
) -> list[FillReport]:
    """Fill on each device, and add up what they report: each prints ``{"views": [report, ...]}`` and
    writes its progress to `log`. Raises MerstoreError as `run_on`.
    """
    before = {event.get("run") for event in read_log(log)} if log.exists() else set()
    told = run_on(devices, command, lambda: tell(_together(log, before)))
    parts = [each["views"] for each in told]
    return [
        _sum([FillReport(**report) for report in reports]) for reports in zip(*parts, strict=True)
    ]


def run_on(
    devices: Sequence[str], command: Callable[[str, int], list[str]], tell: Callable[[], None]
) -> list[dict[str, Any]]:
    """Run ``command(device, number)`` for each device at once; the JSON object that each prints.
    `tell` is called now and then.

    Ctrl-C reaches all of them, and they are waited for: what they did is committed.

    Raises MerstoreError where one ends with anything but 0 (all well) or 1 (samples failed), or has
    printed nothing, when the others have ended too.
    """
    with tempfile.TemporaryDirectory(prefix="merstore-") as folder:
        outputs = [Path(folder) / f"{number}.json" for number in range(len(devices))]
        children: list[subprocess.Popen[bytes]] = []
        try:
            for number, device in enumerate(devices):
                with outputs[number].open("wb") as output:
                    line = command(device, number)
                    children.append(subprocess.Popen(line, stdout=output))
            while any(child.poll() is None for child in children):
                time.sleep(POLL_SECONDS)
                tell()
        except BaseException:
            for child in children:
                child.send_signal(signal.SIGINT)  # nothing is sent to one that has ended
            raise
        finally:
            for child in children:
                child.wait()
        bad = [
            f"{device} ended with {child.returncode}"
            for device, child, output in zip(devices, children, outputs, strict=True)
            if child.returncode not in (0, 1) or not output.stat().st_size
        ]
        if bad:
            raise MerstoreError(
                f"{', '.join(bad)}: see its message above. What the others did is in the store, and "
                "the same command goes on from there"
            )
        return [json.loads(output.read_bytes()) for output in outputs]


def _together(log: Path, before: set[object]) -> Progress:
    """How far all of them are: each counts what it computed, all have the same to do."""
    last = {
        event.get("run"): event
        for event in (read_log(log) if log.exists() else [])
        if event["event"] == "progress" and event.get("run") not in before
    }.values()
    done = sum(event["done"] - event["elsewhere"] for event in last)
    total = max((event["total"] for event in last), default=0)
    failed = sum(event["failed"] for event in last)
    seconds = max((event["seconds"] for event in last), default=0.0)
    return Progress(done, total, failed, 0, 0.0, 0.0, seconds)


def _sum(reports: Sequence[FillReport]) -> FillReport:
    """One view's report, from those of the processes that shared it."""
    first = reports[0]
    whole = FillReport(first.view, first.samples)
    whole.present = min(report.present for report in reports)
    whole.known_failures = min(report.known_failures for report in reports)
    whole.computed = sum(report.computed for report in reports)
    whole.bytes = sum(report.bytes for report in reports)
    whole.seconds = max(report.seconds for report in reports)
    whole.encoding = sum(report.encoding for report in reports)
    for report in reports:
        for kind, names in report.failed.items():
            whole.failed.setdefault(kind, []).extend(names)
    known = whole.present + whole.known_failures + whole.computed + whole.failures
    whole.elsewhere = max(0, whole.samples - known)
    return whole

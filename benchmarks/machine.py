"""What the figures were measured on."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from merstore.store.filesystem import kind_of


def describe(folder: Path) -> dict[str, Any]:
    """The machine, by facts that matter for speed. Neither its name nor its paths."""
    packages = {}
    for package in ("merstore", "numpy", "lmdb", "xxhash", "torch"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or ""),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": kind_of(folder),
        "python": platform.python_version(),
        "packages": packages,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def name(machine: dict[str, Any]) -> str:
    """A file name for the machine: its processor and cores."""
    return (
        f"{re.sub(r'[^a-z0-9]+', '-', machine['cpu'].lower()).strip('-')}-{machine['cores']}-cores"
    )


def _field(path: str, key: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.M)
    return found[1].strip() if found else None

"""This machine, by what matters for speed: for benchmarks, and for knowing when what they found is out of date."""

import ctypes
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from merstore.store.filesystem import kind_of


def describe(folder: Path) -> dict[str, Any]:
    """The machine as JSON values, with the filesystem of ``folder``. Neither its name nor its paths.

    memory in GiB; cores are those that this process may run on; load is the system's, of the last
    1, 5 and 15 minutes.
    """
    packages: dict[str, str | None] = {}
    for package in ("merstore", "numpy", "lmdb", "xxhash", "torch"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or ""),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "gpus": gpus(),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": kind_of(folder),
        "python": platform.python_version(),
        "packages": packages,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In which respects that matter for speed two descriptions differ: ``"cores: 2, now 16"``."""
    before, after = _matters(then), _matters(now)
    return [
        f"{name}: {before.get(name) or 'none'}, now {after[name] or 'none'}"
        for name in after
        if before.get(name) != after[name]
    ]


def _matters(machine: dict[str, Any]) -> dict[str, Any]:
    """Of a description, also a damaged one, what a measured speed depends on."""
    packages = machine.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    return {
        "cpu": machine.get("cpu"),
        "cores": machine.get("cores"),
        "memory (GiB)": machine.get("memory_gib"),
        "GPUs": ", ".join(map(str, machine.get("gpus") or ())),
        "kernel": str(machine.get("kernel")).partition(".")[0],  # "Linux 6"
        "filesystem": machine.get("filesystem"),
        "torch": versions.get("torch"),
        "merstore": versions.get("merstore"),
    }


def name(machine: dict[str, Any]) -> str:
    """A file name for the machine: its processor and cores."""
    return (
        f"{re.sub(r'[^a-z0-9]+', '-', machine['cpu'].lower()).strip('-')}-{machine['cores']}-cores"
    )


def available_memory() -> int:
    """Bytes of memory that can be taken without swapping."""
    told = _field("/proc/meminfo", "MemAvailable")
    if told:
        return int(told.split()[0]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpus() -> list[str]:
    """The names of the NVIDIA GPUs. Asks the driver, not CUDA, whose start would make a later fork unsafe."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    names = []
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        device, told = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device))
        if found == 0 and nvml.nvmlDeviceGetName(device, told, ctypes.c_uint(96)) == 0:
            names.append(told.value.decode(errors="replace"))
    nvml.nvmlShutdown()
    return names


def _field(path: str, key: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.M)
    return found[1].strip() if found else None

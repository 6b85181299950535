"""`merstore doctor`: what this machine has, what a store on it needs, and what to do where the two differ."""

import importlib
import importlib.metadata
import mmap
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from merstore._version import __version__
from merstore.cli import console

MAP_WANTED = 1 << 40  # bytes of address space that a store likes to reserve (sparse, it costs nothing)
OPEN_FILES_WANTED = 1024


@dataclass
class Check:
    """One line of the report; `problem` says what is wrong and `remedy` what to do about it."""

    group: str
    name: str
    value: str
    problem: str | None = None
    remedy: str | None = None


@click.command("doctor")
@click.argument("store", required=False, type=click.Path(path_type=Path))
@console.as_json
def doctor_(store: Path | None, as_json: bool) -> int:
    """Report on this machine, and on STORE if given.

    Exits with 1 where something is wrong.
    """
    checks = [*_packages(), *_machine(), *(_store(store) if store else ())]
    problems = [check for check in checks if check.problem]
    if as_json:
        console.json_out({"checks": [asdict(check) for check in checks], "problems": len(problems)})
        return 1 if problems else 0

    for group in dict.fromkeys(check.group for check in checks):
        click.secho(group, bold=True)
        mine = [check for check in checks if check.group == group]
        width = max(len(check.name) for check in mine)
        for check in mine:
            click.echo(f"  {check.name:<{width}}  {check.value}")
    click.echo()
    for check in problems:
        click.echo(f"{click.style('problem', fg='red', bold=True)}: {check.name}: {check.problem}")
        click.echo(f"  {check.remedy}")
    if not problems:
        click.echo("no problems found")
    return 1 if problems else 0


def _packages() -> Iterator[Check]:
    group = "software"
    yield Check(group, "merstore", __version__)
    yield Check(group, "python", f"{platform.python_version()}  {platform.platform()}")
    yield Check(group, "numpy", importlib.metadata.version("numpy"))
    import lmdb

    engine = ".".join(map(str, lmdb.version()[:3]))
    yield Check(group, "lmdb", f"{importlib.metadata.version('lmdb')}, engine {engine}")
    yield Check(group, "xxhash", importlib.metadata.version("xxhash"))
    for name, extra in {
        "torch": "torch",
        "torchaudio": "extract",
        "transformers": "extract",
        "decord": "extract",
        "av": "extract",
        "soundfile": "extract",
        "PIL": "extract",
    }.items():
        yield _extra(group, name, extra)
    yield _torchvision(group)
    yield _gpu(group)


def _extra(group: str, name: str, extra: str) -> Check:
    """An optional package: absent is fine, present but broken is not."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return Check(group, name, f"not installed (pip install 'merstore[{extra}]')")
    except Exception as failed:  # noqa: BLE001 - a broken binary package raises whatever it likes
        reason = f"{type(failed).__name__}: {failed}".splitlines()[0]
        remedy = f"reinstall it with the version that matches: pip install 'merstore[{extra}]'"
        return Check(group, name, "broken", f"installed, but cannot be imported ({reason})", remedy)
    return Check(group, name, str(getattr(module, "__version__", "installed")))


def _torchvision(group: str) -> Check:
    """merstore never uses it, but transformers imports it where it is there, and fails where it is broken."""
    if importlib.util.find_spec("torchvision") is None:
        return Check(group, "torchvision", "not installed (not needed)")
    found = _extra(group, "torchvision", "extract")
    if found.problem:
        found.problem += ", which makes transformers fail too"
        found.remedy = "pip uninstall torchvision (merstore does not use it)"
    return found


def _gpu(group: str) -> Check:
    try:
        import torch
    except Exception:  # noqa: BLE001 - already reported as a broken package
        return Check(group, "GPU", "unknown without torch")
    if not torch.cuda.is_available():
        return Check(group, "GPU", "none; encoders run on the CPU")
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    told = ", ".join(f"{gpu.name} ({console.size(gpu.total_memory)})" for gpu in found)
    return Check(group, "GPU", f"{told}, CUDA {torch.version.cuda}")


def _machine() -> Iterator[Check]:
    group = "machine"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0))
    yield Check(group, "cores, memory", f"{cores}, {console.size(memory)}")
    yield Check(group, "page size", console.size(mmap.PAGESIZE))
    yield _address_space(group)
    yield _open_files(group)
    droppable = os.access("/proc/sys/vm/drop_caches", os.W_OK)
    yield Check(
        group,
        "page cache",
        "can be dropped" if droppable else "cannot be dropped by this user (cold benchmarks drop file by file)",
    )


def _address_space(group: str) -> Check:
    granted = next(bytes_ for bytes_ in (MAP_WANTED >> n for n in range(40)) if _can_reserve(bytes_))
    check = Check(group, "address space", f"{console.size(granted)} can be mapped")
    if granted < MAP_WANTED:
        check.problem = f"a map of {console.size(MAP_WANTED)} is refused; a store can grow to {console.size(granted)} here"
        check.remedy = "raise it: ulimit -v unlimited; sysctl vm.overcommit_memory=1 where it is 2"
    return check


def _can_reserve(bytes_: int) -> bool:
    try:
        mmap.mmap(-1, bytes_, flags=mmap.MAP_PRIVATE | mmap.MAP_NORESERVE, prot=mmap.PROT_READ).close()
    except (OSError, OverflowError):
        return False
    return True


def _open_files(group: str) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check = Check(group, "open files", f"{soft} (at most {hard})")
    if soft < OPEN_FILES_WANTED:
        check.problem = f"only {soft} files may be open at once; DataLoader workers may run out"
        check.remedy = f"ulimit -n {min(hard, 65536)}"
    return check


def _store(path: Path) -> Iterator[Check]:
    raise NotImplementedError

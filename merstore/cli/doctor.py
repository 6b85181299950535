"""`merstore doctor`: what this machine has, what a store on it needs, what a corpus's folder lacks, and what to do."""

import importlib
import importlib.metadata
import importlib.util
import mmap
import os
import platform
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import lmdb

import merstore
from merstore.cli import console
from merstore.errors import MerstoreError
from merstore.store import environment, filesystem

MAP_WANTED = (
    1 << 40
)  # bytes of address space that a store likes to reserve (sparse, it costs nothing)
OPEN_FILES_WANTED = 1024
FREE_WANTED = 1 << 30  # bytes


@dataclass
class Check:
    """One line of the report; `problem` says what is wrong and `remedy` what to do about it."""

    group: str
    name: str
    value: str
    problem: str | None = None
    remedy: str | None = None
    samples: list[str] = field(default_factory=list)


def _corpora(_context: object, _option: object, values: tuple[str, ...]) -> list[tuple[str, Path]]:
    pairs = [value.partition("=") for value in values]
    if not all(key and root for key, _, root in pairs):
        raise click.BadParameter("write KEY=ROOT, such as mer2023=mer2023-dataset-process")
    return [(key, Path(root)) for key, _, root in pairs]


@click.command("doctor", short_help="this machine, a store on it, a corpus's folder")
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option(
    "--corpus",
    "corpora",
    metavar="KEY=ROOT",
    multiple=True,
    callback=_corpora,
    help="Hold the folder ROOT against what is declared of corpus KEY. May be repeated.",
)
@console.as_json
def doctor_(store: Path | None, corpora: list[tuple[str, Path]], as_json: bool) -> int:
    """Report on this machine, on STORE if given, and on the folders of corpora.

    Of a corpus it says which label files, transcripts and media are missing or wrong, how many and
    the first of them; --json lists all. Exits with 1 where something is wrong.
    """
    checks = [*_packages(), *_machine(), *(_store(store) if store else ())]
    for key, root in corpora:
        checks += _corpus(key, root)
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
    yield Check(group, "merstore", merstore.__version__)
    yield Check(group, "python", f"{platform.python_version()}  {platform.platform()}")
    yield Check(group, "numpy", importlib.metadata.version("numpy"))
    engine = ".".join(map(str, lmdb.version()[:3]))
    yield Check(group, "lmdb", f"{importlib.metadata.version('lmdb')}, engine {engine}")
    yield Check(group, "xxhash", importlib.metadata.version("xxhash"))
    for name, extra in {
        "torch": "torch",
        "transformers": "extract",
        "av": "extract",
        "PIL": "extract",
        "yaml": "corpora",
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
        "can be dropped"
        if droppable
        else "cannot be dropped by this user (cold benchmarks drop file by file)",
    )


def _address_space(group: str) -> Check:
    sizes = (MAP_WANTED >> halved for halved in range(40))
    granted = next(size for size in sizes if _can_map(size))
    check = Check(group, "address space", f"{console.size(granted)} can be mapped")
    if granted < MAP_WANTED:
        check.problem = f"a store cannot grow beyond {console.size(granted)} here"
        check.remedy = "ulimit -v unlimited"
    return check


def _can_map(size: int) -> bool:
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ).close()
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


def _corpus(key: str, root: Path) -> Iterator[Check]:
    from merstore.corpora import check, open_corpus

    corpus = open_corpus(key, root)
    for found in check(corpus):
        yield Check(
            f"corpus {corpus.key}",
            found.what,
            found.told,
            found.problem,
            found.remedy,
            found.samples,
        )


def _store(path: Path) -> Iterator[Check]:
    group = f"store {path}"
    if path.is_dir():
        yield _filesystem(group, path)
        yield _free_space(group, path)
        yield _leftovers(group, path)
    try:
        with merstore.open(path) as opened:
            stats = opened.stats()
    except MerstoreError as refused:
        yield Check(group, "opens", "no", str(refused), "see the message")
        return
    yield Check(group, "opens", f"yes, format {stats['format']}, {stats['entries']:,} entries")
    yield Check(group, "map", f"{console.size(stats['map_bytes'])} granted")
    yield Check(group, "readers", f"{stats['readers']} (this one counted)")
    fast = Check(group, "durability", stats["durability"])
    if stats["durability"] == "fast":
        fast.problem = "a writer without fsync is at work, or was killed at work; a power cut may lose the store"
        fast.remedy = "open it once for writing with durability full, then run merstore verify"
    yield fast
    if not stats["locked"]:
        yield Check(
            group,
            "locking",
            "none",
            "the lock file cannot be written, so no writer knows of this reader",
            "read it only while nobody writes, or make lock.mdb writable",
        )
    if stats["renumbered"]:
        yield Check(
            group,
            "pages",
            "renumbered",
            "another program copied the file (mdb_copy -c); reading is correct but slow to start",
            "merstore compact",
        )


def _filesystem(group: str, path: Path) -> Check:
    kind = filesystem.kind_of(path)
    check = Check(group, "filesystem", kind)
    if filesystem.is_network(path):
        check.problem = (
            f"{kind} is a network filesystem: locks and maps do not reach across machines"
        )
        check.remedy = 'keep the store on a local disk; to read it here, open it with io="pread"'
    return check


def _free_space(group: str, path: Path) -> Check:
    free = filesystem.free_bytes(path)
    check = Check(group, "free space", console.size(free))
    if free < FREE_WANTED:
        check.problem = (
            "the disk is nearly full; the next commit may fail (nothing committed is lost)"
        )
        check.remedy = "free some space; merstore compact needs room for a second copy"
    return check


def _leftovers(group: str, path: Path) -> Check:
    left = [entry.name for entry in path.iterdir() if entry.name == environment.COMPACTING]
    check = Check(group, "leftovers", ", ".join(left) or "none")
    if left:
        check.problem = "a compaction is running, or was killed"
        check.remedy = f"if none is running: rm -r {path / environment.COMPACTING}"
    return check

"""A MERBench split through MERTools' reader: from ``.npy`` files by 8 processes, as it does, and from
a store.

``python -m benchmarks.dropin --names 1000`` for a look at less.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from . import data
from .figures import Figure, line, ratio

NAMES = 5030  # MER2023 whole, MER2024's train split
FRA_PART = 10  # a tenth of the names at frame level: 5,030 would be 6 GB of features
ROUNDS = 5
COLD_ROUNDS = 3
PROCESSES = 8
ROLES = (  # folder, dim, dtype
    ("chinese-hubert-large", 1024, "f4"),
    ("Baichuan-13B-Base", 4096, "f2"),
    ("clip-vit-large-patch14", 768, "f4"),
)
WARM_BAR, COLD_BAR, MEMORY_BAR = 10, 5, 0.5


def run(folder: Path, names: int = NAMES) -> Iterator[Figure]:
    yield from _level(folder, "UTT", names)
    yield from _level(folder, "FRA", max(1, names // FRA_PART))


def _level(folder: Path, level: str, count: int) -> Iterator[Figure]:
    """Reading all three roles, and making the dataset of them."""
    work = folder / "dropin"
    features = work / "mer2023-dataset-process" / "features"
    roots = [str(features / f"{base}-{level}") for base, *_ in ROLES]
    store = work / "s.mer"
    nbytes = _fresh(_write, features, store, level, count)
    names = [str(name) for name in np.random.default_rng(5).permutation(data.names(count))]
    theirs, ours = (_from_files, roots), (_from_store, [str(store), *roots])
    assert _fresh(_digest, *theirs, names) == _fresh(_digest, *ours, names)
    part = (
        f"Drop-in: a MERBench split of {count:,} names, three {level} views, {nbytes / 1e6:,.0f} MB"
    )
    what, against = (
        "func_read_multiprocess of all roles, every page touched",
        f"{PROCESSES} processes over .npy files",
    )

    seconds = _seconds([theirs, ours], names, ROUNDS, lambda: None)
    yield ratio(part, f"{what}, warm", against, seconds[1], seconds[0], nbytes, WARM_BAR)

    seconds = _seconds([theirs, ours], names, COLD_ROUNDS, lambda: _drop(work))
    yield ratio(
        part, f"{what}, page cache dropped", against, seconds[1], seconds[0], nbytes, COLD_BAR
    )
    yield _memory(
        part, what, against, _fresh(_peak, *theirs, names), _fresh(_peak, *ours, names), MEMORY_BAR
    )

    feat_types = ("utt",) if level == "UTT" else ("frm_align", "frm_unalign")
    for feat_type in feat_types:
        theirs, ours = (
            (_their_split, [feat_type, *roots]),
            (_our_split, [feat_type, str(store), *roots]),
        )
        what = f"the whole dataset, {feat_type}"
        seconds = _seconds([theirs, ours], names, COLD_ROUNDS, lambda: None)
        against = "the straight-line dataset over them"
        yield ratio(part, f"{what}, warm", against, seconds[1], seconds[0], nbytes)
        yield _memory(
            part, what, against, _fresh(_peak, *theirs, names), _fresh(_peak, *ours, names)
        )
    shutil.rmtree(work)


def _memory(
    part: str, what: str, against: str, theirs: int, ours: int, bar: float | None = None
) -> Figure:
    return Figure(
        part, f"{what}: most memory beyond the page cache", ours / theirs, "x", against, bar, at_most=True,
        ours=f"{ours / 1e6:,.0f} MB", theirs=f"{theirs / 1e6:,.0f} MB",
    )  # fmt: skip


# --- what is read --------------------------------------------------------------------------------


def _lengths(count: int) -> list[np.ndarray]:
    """Rows of each role at frame level, by the law of MER's clips: faces are lognormal; sound has 50
    rows a second, and whole chunks of 10 s where it is longer; tokens are about the characters.
    """
    draw = np.random.default_rng(0)
    faces = draw.lognormal(np.log(68.6), 0.654, 2 * count + 100)
    faces = faces[(faces >= 17) & (faces <= 885)][:count].astype(np.int64)
    sound = faces / 25 * 16000
    rows = np.where(sound <= 160_000, (sound - 400) // 320 + 1, -(-sound // 160_000) * 499)
    characters = np.interp(
        draw.random(count),
        [0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1],
        [1, 6, 12, 19, 26, 40, 54, 112],
    )
    return [rows.astype(np.int64), characters.astype(np.int64), faces]


def _write(features: Path, store: Path, level: str, count: int) -> int:
    """The tree, and the store that is imported from it. Returns the bytes of payload."""
    import merstore
    from merstore.interop.importing import import_tree
    from merstore.interop.npy import encode_header
    from merstore.interop.trees import discover

    draw = np.random.default_rng(1)
    lengths = _lengths(count)
    for (base, dim, dtype), rows in zip(ROLES, lengths, strict=True):
        folder = features / f"{base}-{level}"
        folder.mkdir(parents=True)
        for name, length in zip(data.names(count), rows.tolist(), strict=True):
            shape = (dim,) if level == "UTT" else (length, dim)
            array = draw.random(shape, np.float32).astype(dtype)
            (folder / f"{name}.npy").write_bytes(
                encode_header(array.dtype, shape) + array.tobytes()
            )
    with merstore.open(store, "a") as opened:
        report = import_tree(opened, discover(features))
    assert not report.refused
    return report.bytes


# --- the two readers -----------------------------------------------------------------------------


def _read_one(job: tuple[str, str]) -> np.ndarray:
    root, name = job
    array = np.array([np.load(f"{root}/{name}.npy").squeeze()]).squeeze()
    return array[np.newaxis] if array.ndim == 1 else array


def _from_files(roots: Sequence[str], names: list[str]) -> list[list[np.ndarray]]:
    read = []
    for root in roots:
        with get_context("fork").Pool(PROCESSES) as pool:
            read.append(pool.map(_read_one, [(root, name) for name in names]))
    return read


def _from_store(roots: Sequence[str], names: list[str]) -> list[list[np.ndarray]]:
    from merstore.interop import mertools

    mertools.use(roots[0])
    return [mertools.func_read_multiprocess(root, names)[0] for root in roots[1:]]


def _map(x: np.ndarray, length: int) -> np.ndarray:
    if len(x) < length:
        return np.concatenate([np.zeros((length - len(x), x.shape[1])), x])
    block, rest = divmod(len(x), length)
    if rest:
        block += 1
        x = np.concatenate([np.zeros((length - rest, x.shape[1])), x])
    return x if block == 1 else np.mean(x.reshape(length, block, x.shape[1]), axis=1)


def _their_split(args: Sequence[str], names: list[str]) -> list[list[np.ndarray]]:
    feat_type, *roots = args
    read = _from_files(roots, names)
    if feat_type == "utt":
        return [[x.mean(axis=0) for x in role] for role in read]
    scale = 6 if feat_type == "frm_align" else 12
    read = [[_map(x, -(-len(x) // scale)) for x in role] for role in read]
    if feat_type == "frm_align":
        lengths = [len(text) for text in read[1]]
        read = [[_map(x, n) for x, n in zip(role, lengths, strict=True)] for role in read]
    longest = [max(map(len, role)) for role in read]
    return [[_map(x, n) for x in role] for role, n in zip(read, longest, strict=True)]


def _our_split(args: Sequence[str], names: list[str]) -> list[Any]:
    from merstore.interop import mertools

    feat_type, store, audio, text, video = args
    mertools.use(store)
    how = argparse.Namespace(
        feat_type=feat_type, audio_feature=audio, text_feature=text, video_feature=video
    )
    return list(mertools.DataFeat(how, names, {}).blocks)


# --- measuring -----------------------------------------------------------------------------------

Reader = Callable[[Sequence[str], list[str]], list[Any]]


def _fresh(function: Callable[..., Any], *args: Any) -> Any:
    """`function` in a new process, which may start others."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _seconds(
    sides: list[tuple[Reader, list[str]]], names: list[str], rounds: int, before: Callable[[], None]
) -> list[np.ndarray]:
    """Seconds ``[rounds]`` of each side; they take turns, each in a new process."""
    seconds = [np.empty(rounds) for _ in sides]
    for number in range(rounds):
        for side in range(len(sides))[:: 1 if number % 2 else -1]:
            before()
            seconds[side][number] = _fresh(_timed, *sides[side], names)
    return seconds


def _timed(read: Reader, roots: Sequence[str], names: list[str]) -> float:
    import merstore.interop.mertools  # noqa: F401  (is not what is measured)

    started = time.perf_counter()
    kept = read(roots, names)
    for role in kept:  # what is mapped is read when it is touched: so touch every page
        for array in role:
            array.reshape(-1)[:: 4096 // array.itemsize].max()
    seconds = time.perf_counter() - started
    del kept
    return seconds


def _digest(read: Reader, roots: Sequence[str], names: list[str]) -> int:
    import xxhash

    digest = xxhash.xxh3_64()
    for role in read(roots, names):
        for array in role:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.intdigest()


def _peak(read: Reader, roots: Sequence[str], names: list[str]) -> int:
    """Bytes of memory beyond the page cache that a reader and its processes took at most."""
    import merstore.interop.mertools  # noqa: F401

    done = threading.Event()
    highest = before = _anonymous()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = read(roots, names)
    for role in kept:
        for array in role:
            array.max()
    highest = max(highest, _anonymous())
    done.set()
    watcher.join()
    del kept
    return highest - before


def _anonymous() -> int:
    """Bytes of memory that is no file's, of this process and its children; what they share counts once."""
    total = 0
    for rollup in [Path("/proc/self/smaps_rollup"), *_children()]:
        try:
            for entry in rollup.read_text().splitlines():
                if entry.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(entry.split()[1]) << 10
        except OSError:  # it has ended
            continue
    return total


def _children() -> list[Path]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += [
                Path(f"/proc/{pid}/smaps_rollup") for pid in (task / "children").read_text().split()
            ]
        except OSError:
            continue
    return found


def _drop(work: Path) -> None:
    """Take all files out of the page cache (what is known of the folders stays, for both sides)."""
    from .measure import drop

    for path in work.rglob("*"):
        if path.suffix in (".npy", ".mdb") and path.name != "lock.mdb":
            drop(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dropin", description=__doc__)
    parser.add_argument("--names", type=int, default=NAMES)
    place = Path(tempfile.mkdtemp(prefix="merstore-bench-"))
    try:
        for figure in run(place, parser.parse_args().names):
            print(line(figure), flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)

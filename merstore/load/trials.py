"""Runs of a FeatureLoader under given settings, measured as its caller sees them."""

import gc
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from merstore import machine
from merstore.load.dataset import FeatureDataset
from merstore.load.loader import FeatureLoader
from merstore.profile import SETTINGS
from merstore.store import pagecache
from merstore.store.names import Names
from merstore.store.store import Store, open_store

CHUNK = 1024  # neighbouring samples that are read together while warming up


@dataclass(frozen=True)
class Candidate:
    """Settings of FeatureLoader, and how its store is opened (``io``)."""

    batch_size: int
    threads: int = 2
    prefetch: int = 2
    advice: bool = True
    cache: str | None = None
    reuse: bool = False
    pin_memory: bool = False
    num_workers: int = 0
    io: str = "map"
    device: str | None = None

    @property
    def label(self) -> str:
        if self.num_workers:
            return f"{self.num_workers} worker processes, prefetch {self.prefetch}"
        told = "no threads"
        if self.threads:
            told = f"{self.threads} thread{'s' * (self.threads > 1)}, prefetch {self.prefetch}"
        more = {
            "no advice": not self.advice,
            "held in RAM": self.cache == "ram",
            "held on the device": self.cache == "device",
            "reuse": self.reuse,
            "pinned": self.pin_memory,
            "pread": self.io == "pread",
        }
        return ", ".join([told, *(name for name, so in more.items() if so)])

    @property
    def simplicity(self) -> tuple[Any, ...]:
        """By what one of equally fast candidates is preferred, the least first: no copy of the views in memory,
        advice (it turns itself off where it is not needed), few threads, few batches ahead.
        """
        return (self.cache is not None, not self.advice, self.threads, self.prefetch)

    @property
    def settings(self) -> dict[str, Any]:
        """What a profile sets."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def adoptable(self) -> bool:
        """Whether it may win a race. The others are measured for comparison: they ask something of the caller (batches
        that are overwritten, a main module that may be imported, another way to open the store), or, without
        threads, load nothing while the caller works, which a race does not see.
        """
        asks = self.reuse or self.pin_memory or self.num_workers or self.io != "map"
        return self.threads > 0 and not asks

    def loader(self, dataset: FeatureDataset) -> FeatureLoader:
        options: dict[str, Any] = {"threads": self.threads, "prefetch": self.prefetch}
        if self.num_workers:
            options = {
                "num_workers": self.num_workers,
                "prefetch_factor": max(1, self.prefetch),
                "persistent_workers": True,
                "multiprocessing_context": "spawn",
            }
        return FeatureLoader(
            dataset,
            self.batch_size,
            shuffle=True,
            advice=self.advice,
            cache=self.cache,
            reuse=self.reuse,
            pin_memory=self.pin_memory,
            device=self.device,
            **options,
        )


@dataclass
class Run:
    """samples and bytes of tensors that came in ``seconds``; latencies: seconds from asking for a batch to having it,
    one each. first: seconds up to the first batch, starting processes and loading caches included.
    """

    samples: int
    nbytes: int
    seconds: float
    first: float
    latencies: np.ndarray = field(repr=False)

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds


class Bench:
    """The views of one store under measurement. It opens and closes the store as it needs to.

    Raises UnknownView, NotAStore, MissingEntry (no sample is in all of the views).
    """

    def __init__(self, path: Path, views: Sequence[str]) -> None:
        self.path = path
        self.views = list(dict.fromkeys(views))
        self.notes: list[str] = []
        self._memory = machine.available_memory()
        self._stores: dict[str, Store] = {}
        self._loaders: dict[Candidate, FeatureLoader] = {}
        self._names: Names | None = None
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.names = self.dataset().names
        self.notes += [str(warning.message) for warning in told]
        self._names = self.names

    def dataset(self, io: str = "map") -> FeatureDataset:
        """Of the samples that are measured now."""
        if io not in self._stores:
            self._stores[io] = open_store(self.path, io=io)
        store = self._stores[io]
        return FeatureDataset({path: store[path] for path in self.views}, self._names)

    def warm_up(
        self, seconds: float, nbytes: float, progress: Callable[[], None]
    ) -> tuple[int, int]:
        """Read samples until they are that many bytes, or it took that long; the others are not measured from now on.

        Returns how many samples, and the bytes of their tensors.
        """
        dataset = self.dataset()
        starts = np.random.default_rng(0).permutation(np.arange(0, len(dataset), CHUNK))
        read: list[np.ndarray] = []
        done, started = 0, time.perf_counter()
        for start in starts.tolist():
            rows = np.arange(start, min(start + CHUNK, len(dataset)))
            for part in np.array_split(rows, 8):
                done += _nbytes(dataset.batch(part)) if len(part) else 0
            read.append(rows)
            progress()
            if done > nbytes or time.perf_counter() - started > seconds:
                break
        rows = np.sort(np.concatenate(read))
        self._names = self.names if len(rows) == len(self.names) else self.names.take(rows)
        return len(rows), done

    def run(self, candidate: Candidate, seconds: float) -> Run:
        """Batches for about so long, from where the page cache is as it is. The loader is kept for the next time."""
        if machine.available_memory() < self._memory / 2:
            self._loaders.clear()  # the memory of their batches
        loader = self._loaders.get(candidate)
        if loader is None:
            loader = self._loaders[candidate] = candidate.loader(self.dataset(candidate.io))
        return run(loader, seconds)

    def run_cold(self, candidate: Candidate, seconds: float) -> Run:
        """As ``run`` (an epoch at most, of all samples) with nothing of the store but its index in the page cache.

        Raises RuntimeError where it cannot be dropped, OSError.
        """
        self.close()
        pagecache.drop(self.path / "data.mdb")
        self._names = self.names
        dataset = self.dataset(candidate.io)
        for source in dataset.sources.values():
            source.selection.present()
        return run(candidate.loader(dataset), seconds, cold=True)

    def let_go(self, candidate: Candidate) -> None:
        """End its processes and free its memory."""
        self._loaders.pop(candidate, None)

    def close(self) -> None:
        self._loaders.clear()
        gc.collect()  # or a mapping may live on in a cycle
        for store in self._stores.values():
            store.close()
        self._stores.clear()


def run(loader: FeatureLoader, seconds: float, cold: bool = False) -> Run:
    """Epoch after epoch for about so long, two batches at least. The time runs from the first batch on, when
    threads, processes and caches are there; ``cold``: from the start, and for one epoch at most.
    """
    stamps: list[float] = []
    sizes: list[int] = []
    nbytes: list[int] = []
    started = time.perf_counter()
    enough = False
    while not enough:
        batches = iter(loader)
        for batch in batches:
            stamps.append(time.perf_counter())
            sizes.append(len(batch))
            nbytes.append(_nbytes(batch))
            enough = len(stamps) > 1 and stamps[-1] - stamps[0] >= seconds
            if enough:
                break
        enough = enough or cold
    if loader.device is not None and loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)
        stamps[-1] = time.perf_counter()
    del batches, batch  # ends the threads, outside of the time
    uncounted = 0 if cold else 1
    begun = started if cold else stamps[0]
    return Run(
        sum(sizes[uncounted:]),
        sum(nbytes[uncounted:]),
        stamps[-1] - begun,
        stamps[0] - started,
        np.diff([begun, *stamps[uncounted:]]),
    )


def waited(loader: FeatureLoader, step: float, steps: int) -> float:
    """The share of its time that a model waits for batches, when it takes ``step`` seconds with each and leaves
    the processor alone meanwhile, as one on a GPU does. The start is not counted.
    """
    waiting = spent = 0.0
    done = -1
    while done < steps:
        asked = time.perf_counter()
        for _ in loader:
            got = time.perf_counter()
            time.sleep(step)
            ended = time.perf_counter()
            if done >= 0:
                waiting += got - asked
                spent += ended - asked
            done += 1
            asked = ended
            if done == steps:
                break
    return waiting / spent


def _nbytes(batch: Any) -> int:
    return sum(tensor.nbytes for tensor in batch.tensors.values())

"""What `tune` found: trials, the one that was chosen, and what it is compared with."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from merstore.load.ceilings import DISK, MEMCPY, MEMCPY_TWO, TO_DEVICE
from merstore.load.trials import Candidate, Run
from merstore.profile import Profile

THREADS, OTHERS = "threads and prefetch", "other settings"  # the groups of trials
SIZES, COLD = "batch size", "cold"
NEAR = 0.7  # of a ceiling: then it is what bounds


@dataclass
class Trial:
    """A candidate and its runs, one per round. stopped: why it was given up, if it was."""

    group: str
    candidate: Candidate
    runs: list[Run] = field(default_factory=list)
    stopped: str | None = None

    @property
    def rates(self) -> list[float]:
        """Samples per second, by round."""
        return [run.rate for run in self.runs]

    @property
    def rate(self) -> float:
        """Their median; 0 where nothing was measured."""
        return float(np.median(self.rates)) if self.runs else 0.0

    @property
    def bytes_per_second(self) -> float:
        return float(np.median([run.nbytes / run.seconds for run in self.runs] or [0.0]))

    @property
    def first(self) -> float:
        """Seconds up to the first batch of the first run, in which processes start and caches are loaded."""
        return self.runs[0].first if self.runs else 0.0

    def latency(self, percentile: float) -> float:
        """Seconds from asking for a batch to having it."""
        if not self.runs:
            return 0.0
        return float(
            np.percentile(np.concatenate([run.latencies for run in self.runs]), percentile)
        )

    def json(self) -> dict[str, Any]:
        """As JSON values: rates in samples per second, times in seconds."""
        return {
            "group": self.group,
            "label": self.candidate.label,
            **vars(self.candidate),
            "samples_per_second": round(self.rate, 1),
            "bytes_per_second": round(self.bytes_per_second),
            "rounds": [round(rate, 1) for rate in self.rates],
            "latency": {f"p{p}": round(self.latency(p), 7) for p in (50, 90, 99)},
            "first_batch": round(self.first, 5),
            "stopped": self.stopped,
        }


class HeadRoom(NamedTuple):
    """The share of its time that a model waits for batches, when it takes so long for a step: with the settings
    chosen, and with the same but no threads.
    """

    step_ms: float
    share: float
    without_threads: float


@dataclass
class Tuning:
    """All of it. stored_bytes: of a sample, without the padding of tensors. noise: of a round, relative.
    ceilings: bytes per second.
    """

    views: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    date: str
    samples: int
    measured_samples: int
    stored_bytes: float
    batch_size: int
    device: str | None
    trials: list[Trial]
    chosen: Trial
    noise: float
    ceilings: dict[str, float]
    headroom: list[HeadRoom]
    notes: list[str]

    def group(self, *names: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.group in names]

    @property
    def profile(self) -> Profile:
        return Profile(
            self.views,
            self.chosen.candidate.settings,
            self.batch_size,
            self.device,
            round(self.chosen.rate, 1),
            round(self.chosen.bytes_per_second),
            self.machine,
            self.date,
        )

    def share(self, ceiling: str) -> float | None:
        """Of a ceiling, what the chosen settings reach; of the disk's, what the best cold trial does."""
        reached = self.chosen.bytes_per_second
        if ceiling == DISK:
            cold = [trial.rate * self.stored_bytes for trial in self.group(COLD)]
            if not cold:
                return None
            reached = max(cold)
        return reached / self.ceilings[ceiling]

    @property
    def bound(self) -> str:
        """What keeps the chosen settings from being faster."""
        candidate, rate = self.chosen.candidate, self.chosen.bytes_per_second
        if self.chosen.group == COLD:
            return "the disk: the views do not fit in memory"
        if candidate.cache == "device" and TO_DEVICE in self.ceilings:
            return "the device: the views are held there"
        memory = max(self.ceilings[MEMCPY], self.ceilings[MEMCPY_TWO])
        shares = {"memory bandwidth": (rate / memory, "memcpy")}
        if TO_DEVICE in self.ceilings:
            shares["PCIe"] = (rate / self.ceilings[TO_DEVICE], "copies to the device")
        name, (share, what) = max(shares.items(), key=lambda item: item[1][0])
        if share >= NEAR:
            return f"{name}: it runs at {share:.0%} of {what}"
        return (
            f"Python, or what else runs here: no ceiling is near ({share:.0%} of {what}). Making batches and "
            "handing them between threads weighs less in larger batches"
        )

    def json(self) -> dict[str, Any]:
        """As JSON values, see the classes."""
        return {
            "views": self.views,
            "machine": self.machine,
            "date": self.date,
            "samples": self.samples,
            "measured_samples": self.measured_samples,
            "stored_bytes": round(self.stored_bytes),
            "batch_size": self.batch_size,
            "device": self.device,
            "settings": self.profile.settings,
            "samples_per_second": self.profile.samples_per_second,
            "bytes_per_second": self.profile.bytes_per_second,
            "bound": self.bound,
            "noise": round(self.noise, 4),
            "ceilings": {name: round(rate) for name, rate in self.ceilings.items()},
            "headroom": [room._asdict() for room in self.headroom],
            "trials": [trial.json() for trial in self.trials],
            "notes": self.notes,
        }

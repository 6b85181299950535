"""What a run tells: while it is at work, and in the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class Report:
    """What became of one dataset's samples with one checkpoint. ``samples`` = ``present`` +
    ``known_failures`` (both from before) + ``answered`` + ``elsewhere`` (by others meanwhile) +
    ``failed`` (kind: names) + ``lacking`` (names, by the modality that the store has not of them and
    that nothing is given to compute from; there is no record of those).

    ``fetched``: features that were read, by modality; ``computed``: those of them that were computed
    in this run first. ``cut``: samples whose texts did not
    fit. ``endless``: whose answers were as long as they may be. ``batch``: samples that go through
    the model at once; less than was asked for where memory did not suffice. ``seconds``: of
    all; ``waiting`` for features, ``loading`` and ``filling`` them beside the model's work, and
    ``generating``, of which ``projecting`` is the fusion and projection of features.
    """

    dataset: str
    checkpoint: str
    view: str
    samples: int
    present: int = 0
    known_failures: int = 0
    answered: int = 0
    elsewhere: int = 0
    failed: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    fetched: dict[str, int] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    batch: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    loading: float = 0.0
    filling: float = 0.0
    generating: float = 0.0
    projecting: float = 0.0

    @property
    def failures(self) -> int:
        return sum(map(len, self.failed.values()))

    @property
    def without(self) -> int:
        """Samples that have neither an answer nor a record of why."""
        return sum(map(len, self.lacking.values()))


class Progress(NamedTuple):
    """``done`` of ``total`` samples, over all datasets and checkpoints."""

    done: int
    total: int
    dataset: str
    checkpoint: str


Tell = Callable[[Progress], None]

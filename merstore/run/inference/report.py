"""What a run tells: while it is at work, and in the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from merstore.run.answering import Counts


@dataclass
class Report(Counts):
    """The counts of one dataset with one checkpoint.

    ``fetched``: features that were read, by modality; ``computed``: those of them that were computed
    in this run first. ``cut``: samples whose texts did not fit. ``batch``: samples that go through
    the model at once; less than was asked for where memory did not suffice. ``loading``, ``filling``:
    seconds for features beside the model's work; ``generating``: those of the model, of which
    ``projecting`` is the fusion and projection of features.
    """

    checkpoint: str = ""
    fetched: dict[str, int] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    batch: int = 0
    loading: float = 0.0
    filling: float = 0.0
    generating: float = 0.0
    projecting: float = 0.0


class Progress(NamedTuple):
    """``done`` of ``total`` samples, over all datasets and checkpoints. Of those of this dataset and
    checkpoint, ``there`` were done before, and ``own`` by this run.
    """

    done: int
    total: int
    dataset: str
    checkpoint: str
    there: int = 0
    own: int = 0


Tell = Callable[[Progress], None]


def together(parts: Sequence[Report]) -> Report:
    """One report of processes that shared a dataset and checkpoint. Seconds are those of the longest,
    and what they were spent on the mean, so that shares of them stay shares.
    """
    first = parts[0]
    whole = Report(first.dataset, first.view, first.samples, checkpoint=first.checkpoint)
    # The first to begin has seen nothing of the others.
    whole.present = min(part.present for part in parts)
    whole.known_failures = min(part.known_failures for part in parts)
    whole.answered = sum(part.answered for part in parts)
    whole.batch = max(part.batch for part in parts)
    for part in parts:
        for kind, names in part.failed.items():
            whole.failed[kind] = sorted({*whole.failed.get(kind, []), *names})
        for modality, names in part.lacking.items():
            whole.lacking[modality] = sorted({*whole.lacking.get(modality, []), *names})
        for counts, more in ((whole.fetched, part.fetched), (whole.computed, part.computed)):
            for modality, count in more.items():
                counts[modality] = counts.get(modality, 0) + count
        whole.cut = sorted([*whole.cut, *part.cut])
        whole.endless = sorted([*whole.endless, *part.endless])
    for each in fields(Report):
        if each.type is float:
            mean = sum(getattr(part, each.name) for part in parts) / len(parts)
            setattr(whole, each.name, mean)
    whole.seconds = max(part.seconds for part in parts)
    known = whole.present + whole.known_failures + whole.answered
    whole.elsewhere = max(0, whole.samples - known - whole.failures - whole.without)
    return whole

"""MER2024's open-vocabulary score: words are compared by groups of the same meaning that a chat
model made of each sample's words, and that are kept in files (notes on MERTools, 6).
"""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.answers import Labels, Missing, aligned, parsed, shown
from merstore.score.labels import parse_groups, parse_labels_2024
from merstore.score.ov import mean

Groups = Sequence[Sequence[str]]  # lists of words of the same meaning


@dataclass(frozen=True)
class GroupedScore:
    """``average`` is what MER2024 ranks by: the mean of the other two, no F.

    ``missing`` and ``empty``: samples without a prediction, and without a predicted word, those
    among them. ``names``: the samples, sorted; ``samples``: ``[N, 2]`` float64, accuracy and recall
    of each.
    """

    accuracy: float
    recall: float
    average: float
    missing: tuple[str, ...]
    empty: tuple[str, ...]
    names: tuple[str, ...]
    samples: np.ndarray

    def __len__(self) -> int:
        """How many samples were scored."""
        return len(self.samples)

    def values(self) -> dict[str, float]:
        return {"accuracy": self.accuracy, "recall": self.recall, "average": self.average}

    def resample(self, rows: np.ndarray) -> np.ndarray:
        """The values if these had been the samples."""
        accuracy, recall = self.samples[rows].mean(axis=0)
        return np.array([accuracy, recall, (accuracy + recall) / 2])


def grouped_score(
    truth: Mapping[str, Labels],
    predictions: Mapping[str, Labels],
    groups: Mapping[str, Groups],
    missing: Missing = "error",
) -> GroupedScore:
    """Score the samples that `groups` has. A word, in lower case, stands for the first word of its
    group (the last group that has it), a word in none for itself.

    Raises MissingEntry where the truth, or a prediction (unless `missing` is ``empty``), lacks a
    sample of the groups; MerstoreError where there is none, or a true set is empty.
    """
    given, absent = aligned(groups, predictions, missing, ())
    found = parsed(given, parse_labels_2024)
    unknown = [name for name, _ in found if name not in truth]
    if unknown:
        raise MissingEntry(
            f"{len(unknown):,} samples have groups but no truth: {shown(unknown)}: take groups and "
            "truth of one set"
        )
    labels = dict(parsed(((name, truth[name]) for name, _ in found), parse_labels_2024))
    empty = tuple(name for name, answer in found if not answer)
    samples = np.zeros((len(found), 2))
    for number, (name, answer) in enumerate(found):
        true, guessed = (first_words(words, groups[name]) for words in (labels[name], answer))
        if not true:
            raise MerstoreError(f"sample {name} has no true label: leave it out of the truth")
        if guessed:
            hits = len(true & guessed)
            samples[number] = hits / len(guessed), hits / len(true)
    accuracy, recall = mean(samples[:, 0]), mean(samples[:, 1])
    names = tuple(name for name, _ in found)
    return GroupedScore(accuracy, recall, mean([accuracy, recall]), absent, empty, names, samples)


def first_words(labels: Labels, groups: Groups) -> set[str]:
    """What stands for the labels of a sample: the first word of the group, or the word itself."""
    first = {word: group[0] for group in groups for word in group}
    return {first.get(word, word) for word in map(str.lower, labels)}


def read_groups(path: Path) -> dict[str, Groups]:
    """The groups of each sample from MER2024's ``openset-synonym.zip``, or the folder in it: one
    ``NAME.npy`` with a text each. Nothing is unpickled.

    Raises MerstoreError where a file is damaged, of another kind, or there is none.
    """
    found: dict[str, Groups] = {}
    try:
        if path.is_dir():
            for file in sorted(path.glob("*.npy")):
                found[file.stem] = _groups(file, file.read_bytes())
        else:
            with zipfile.ZipFile(path) as archive:
                for member in sorted(archive.namelist()):
                    if member.endswith(".npy"):
                        name = PurePosixPath(member).stem
                        if name in found:
                            raise MerstoreError(f"{path}: {name}.npy is there twice: keep one")
                        found[name] = _groups(path / member, archive.read(member))
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: give MER2024's groups") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise MerstoreError(f"{path}: no readable zip file ({error}): copy it again") from None
    if not found:
        raise MerstoreError(f"{path}: no NAME.npy in it: give MER2024's openset-synonym.zip")
    return found


def _groups(path: Path, data: bytes) -> Groups:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MerstoreError(f"{path}: no readable text ({error}): copy it again") from None
    if array.shape != () or array.dtype.kind != "U":
        raise MerstoreError(f"{path}: {array.dtype} {array.shape} is no text of word groups")
    return parse_groups(str(array))

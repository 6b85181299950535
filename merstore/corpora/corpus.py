"""A corpus in a folder: its samples, media, labels, splits and transcripts."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from merstore.corpora import registry
from merstore.corpora.labels import Labels, read_labels
from merstore.corpora.problem import Missing
from merstore.corpora.table import Media, Table
from merstore.corpora.transcripts import Transcripts, read_transcripts
from merstore.errors import MerstoreError


def open_corpus(
    name: str,
    root: str | os.PathLike[str],
    tables: str | os.PathLike[str] | None = None,
) -> "Corpus":
    """The corpus of this name (any spelling) in the folder `root`, or in the folder in it that has
    the corpus's customary name.

    tables: a YAML file that declares more corpora; by default ``$MERSTORE_CORPORA``. Raises
    InvalidKey where no corpus has this name, MerstoreError where there is no such folder.
    """
    table = registry.find(name, tables)
    path = Path(root)
    if not path.is_dir():
        raise MerstoreError(f"{path}: no such folder: give the one that holds corpus {table.key}")
    inside = (path / folder for folder in table.folders)
    return Corpus(table, next((folder for folder in inside if folder.is_dir()), path))


class Corpus:
    """What `table` declares, as it is found below `root`. Files are read when first asked for."""

    def __init__(self, table: Table, root: Path) -> None:
        self.table = table
        self.root = root
        self._labels: dict[str, Labels] = {}

    @property
    def key(self) -> str:
        """The canonical key: the first part of the paths of its views."""
        return self.table.key

    def __repr__(self) -> str:
        return f"Corpus({self.key!r}, {str(self.root)!r})"

    def labels(self, name: str | None = None) -> Labels:
        """One set of labels, by default the first. Raises InvalidKey, MerstoreError."""
        table = self.table.labels_of(name)
        if table.name not in self._labels:
            self._labels[table.name] = read_labels(self.root, table)
        return self._labels[table.name]

    def splits(self, name: str | None = None) -> dict[str, list[str]]:
        """The samples of each split of a set of labels, by default the first; in the file's order."""
        return self.labels(name).splits()

    def samples(self) -> list[str]:
        """All samples: those that any set of labels names, or, in a corpus without labels, those
        that have media. A set whose files are not there is passed over, unless none is there.
        """
        if not self.table.labels:
            found = {
                name
                for media in self.table.media.values()
                for name in self.listed(media)
                if isinstance(self.media(name, media.modality), Path)
            }
            return sorted(found)
        samples: dict[str, None] = {}
        absent: list[MerstoreError] = []
        for name, table in self.table.labels.items():
            try:
                samples |= dict.fromkeys(self.labels(name).samples)
            except MerstoreError as error:
                if self.has(table.sources):
                    raise
                absent.append(error)
        if len(absent) == len(self.table.labels):
            raise absent[0]
        return list(samples)

    def transcripts(self, name: str | None = None) -> Transcripts:
        """The texts of all samples, by default the first that the table names."""
        return read_transcripts(self.root, self.table.transcripts_of(name), self.samples())

    def media(self, sample: str, modality: str) -> Path | Missing:
        """The file of a sample (``video``, ``audio``, ``face``), or why there is none."""
        media = self.table.media_of(modality)
        if media is None:
            return Missing(f"no_{modality}", f"corpus {self.key} has no {modality}")
        empty = None
        for candidate in media.candidates(sample):
            path = self.root / candidate
            try:
                if path.stat().st_size:
                    return path
                empty = candidate
            except (OSError, ValueError):
                continue
        if empty:
            return Missing("empty_file", f"{empty} has no bytes")
        return Missing("missing_file", f"no {' nor '.join(media.candidates(sample))}")

    def has(self, sources: Iterable[str]) -> bool:
        """Whether any of the files (``file`` or ``file#part``) is there."""
        return any((self.root / source.partition("#")[0]).is_file() for source in sources)

    def listed(self, media: Media) -> set[str]:
        """Names that the folders of a modality have entries of, whatever those hold."""
        # `x.npy` is of sample x wherever `{name}.npy` is a pattern, although it fits `{name}/...` too
        heads = sorted({file.split("/")[0] for file in media.files}, key=len, reverse=True)
        patterns = [
            re.compile(re.escape(head).replace(r"\{name\}", "(.+)", 1) + r"\Z", re.DOTALL)
            for head in heads
        ]
        names = set()
        for folder in media.folders:
            try:
                entries = os.listdir(self.root / folder)
            except OSError:
                continue
            for entry in entries:
                matches = (pattern.match(entry) for pattern in patterns)
                if found := next(filter(None, matches), None):
                    names.add(found[1])
        return names

"""What there is of each sample to compute features from: of a corpus, or of folders and a file."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from merstore.corpora.corpus import Corpus
from merstore.corpora.transcripts import Transcripts
from merstore.errors import DecodeError, MerstoreError
from merstore.extract.clips import AUDIO, scan
from merstore.extract.material import Material, Materials
from merstore.extract.mer_factory import MerFactory

Why = tuple[str, str]
"""A failure kind and a message."""

_MEDIA = ("video", "audio", "face")


class CorpusMaterials(Mapping[str, Material]):
    """The samples of a corpus. Lists names only; a sample's files are looked up when it is asked for.

    transcript: which of the corpus's texts, by default the first, where its file is there. analyses:
    what MER-Factory wrote about the corpus. names: some of the samples, in this order.

    What a sample lacks has the kind that the corpus gives it (``missing_file``, ``empty_text``,
    ``shifted_row``, …). Sound is that of the clip where the corpus has no sound files at all, never
    where one of them is missing. Picklable.

    Raises MerstoreError where the corpus names no sample, a name is none of its samples, or the file
    of a `transcript` that is named is not there.
    """

    def __init__(
        self,
        corpus: Corpus,
        transcript: str | None = None,
        analyses: MerFactory | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        self.corpus = corpus
        self.transcript = transcript
        self.analyses = analyses
        known = dict.fromkeys(corpus.samples())
        if not known:
            raise MerstoreError(f"{corpus.root}: corpus {corpus.key} has no samples there")
        self._names = known if names is None else dict.fromkeys(names)
        if strange := next((name for name in self._names if name not in known), None):
            raise MerstoreError(f"corpus {corpus.key} has no sample {strange!r}")
        if transcript is not None:
            _ = self._texts

    def __getitem__(self, name: str) -> Material:
        if name not in self._names:
            raise KeyError(name)
        parts: dict[str, Path] = {}
        lacks: dict[str, Why] = {}
        for medium in _MEDIA:
            found = self.corpus.media(name, medium)
            if isinstance(found, Path):
                parts[medium] = found
            else:
                lacks[medium] = found.kind, found.message
        if self._sound_is_the_clips:
            _take(parts, lacks, "audio", parts.get("video"), lacks.get("video"))
        if self.analyses is not None:
            _take(parts, lacks, "au", *_analysis(self.analyses, name))
        texts, without = self._texts
        if name not in texts.texts:
            lacks["text"] = without[name]
        return Material(
            name, text=texts.texts.get(name), language=texts.language, lacks=lacks, **parts
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _texts(self) -> tuple[Transcripts, dict[str, Why]]:
        """The texts, and of the samples without one the reason."""
        try:
            found = self.corpus.transcripts(self.transcript)
        except MerstoreError as error:
            if self.transcript is not None:
                raise
            why = "missing_text", str(error)
            return Transcripts("", None, {}, [], {}), dict.fromkeys(self._names, why)
        return found, why_none(found)

    @cached_property
    def _sound_is_the_clips(self) -> bool:
        media = self.corpus.table.media_of("audio")
        folders = media.folders if media else ()
        return not any((self.corpus.root / folder).is_dir() for folder in folders)

    def __repr__(self) -> str:
        return f"<CorpusMaterials of {self.corpus.key}: {len(self)} samples>"


def beside(
    clips: Mapping[str, Path] | None = None,
    *,
    faces: str | os.PathLike[str] | None = None,
    sounds: str | os.PathLike[str] | None = None,
    analyses: MerFactory | None = None,
    texts: Transcripts | None = None,
    language: str | None = None,
) -> Materials:
    """Clips and what lies beside them: a folder of OpenFace tracks (``<name>.npy`` and
    ``<name>/<name>.npy``), one of sound files, what MER-Factory wrote, and the texts of a file.

    language: of the texts, where their table does not tell. Raises MerstoreError for a folder that
    is not there or has no such file in it.
    """
    parts: dict[str, Mapping[str, Path]] = {}
    lacks: dict[str, Mapping[str, Why]] = {}
    if faces is not None:
        parts["faces"], lacks["face"] = tracks(faces)
    if sounds is not None:
        parts["sounds"] = _some(scan(_folder(sounds), AUDIO), sounds, "no sound files")
    if analyses is not None:
        found = {name: analyses.file(name) for name in analyses.samples()}
        parts["analyses"] = _some(found, analyses.folder, "no analyses (*_au_analysis.json)")
    if texts is not None:
        lacks["text"] = {name: why for name, why in why_none(texts).items() if name}
        language = language or texts.language
    return Materials(
        clips, **parts, texts=texts.texts if texts else None, language=language, lacks=lacks
    )


def tracks(folder: str | os.PathLike[str]) -> tuple[dict[str, Path], dict[str, Why]]:
    """The OpenFace tracks in a folder, ``<name>.npy`` or ``<name>/<name>.npy``, by sample; and the
    samples of which there is only a folder, as OpenFace leaves it where it finds no face or is
    stopped, with a failure kind and message.

    Raises MerstoreError for a folder that is not there or holds neither.
    """
    found: dict[str, Path] = {}
    without: dict[str, Why] = {}
    with os.scandir(_folder(folder)) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside = path / f"{entry.name}.npy"
                if inside.is_file():
                    found.setdefault(entry.name, inside)
                else:
                    without[entry.name] = "no_face", f"{path} has no {inside.name} in it"
            elif path.suffix == ".npy":
                found[path.stem] = path
    without = {name: why for name, why in without.items() if name not in found}
    if not found and not without:
        raise MerstoreError(f"{folder}: no face tracks in it (<name>.npy, <name>/<name>.npy)")
    return found, without


def why_none(texts: Transcripts) -> dict[str, Why]:
    """Sample -> failure kind and message, of those that have no text."""
    return {
        problem.sample: (problem.kind, problem.message)
        for problem in texts.problems
        if problem.sample not in texts.texts
    }


def _analysis(analyses: MerFactory, name: str) -> tuple[Path | None, Why | None]:
    path = analyses.file(name)
    if os.path.lexists(path):
        return path, None
    try:
        analyses.read(name)  # knows why it is not there
    except DecodeError as error:
        return None, (error.kind, error.message)
    return path, None  # written just now


def _take(
    parts: dict[str, Path], lacks: dict[str, Why], part: str, path: Path | None, why: Why | None
) -> None:
    lacks.pop(part, None)
    if path is not None:
        parts[part] = path
    elif why is not None:
        lacks[part] = why


def _folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise MerstoreError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    return path


def _some(found: dict[str, Path], folder: object, what: str) -> dict[str, Path]:
    if not found:
        raise MerstoreError(f"{folder}: {what} in it")
    return found

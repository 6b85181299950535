"""Which samples of a dataset are asked about, and their texts: from the store, a corpus, or folders."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merstore.corpora import (
    CorpusMaterials,
    Transcripts,
    find,
    materials,
    open_corpus,
    read_labels,
    read_transcripts,
    texts_from,
)
from merstore.corpora.corpus import Corpus
from merstore.corpora.labels import Labels
from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.clips import Clips
from merstore.extract.mer_factory import MerFactory, Nonverbal
from merstore.extract.reading import Refusal
from merstore.fill.engine import Clip
from merstore.run import prompts
from merstore.run.tuning_llm.corpora import corpus_of
from merstore.store.store import Store

NOT_SAID = ("empty_text", "nan_text")
"""Problems of a transcript that mean that nothing is said, which is a subtitle too."""

OF_LABELS = ("onehot_w_candidates", "valence")
"""The label types whose questions name a dataset's classes, or its least and greatest value."""

WHOLE = "all"  # the word for all samples, in place of a split


@dataclass(frozen=True)
class Task:
    """The samples of one dataset that are asked about. ``subtitles``: by name; a Refusal where it is
    known why there is none. ``nonverbal``: the clues by name, None where the clause is left out.
    ``materials``: what features are computed from; None: they are all in the store.
    """

    dataset: str
    names: Sequence[str]
    subtitles: Mapping[str, "str | float | Refusal | None"] = field(default_factory=dict)
    nonverbal: Callable[[str], str] | None = None
    materials: Mapping[str, Clip] | None = None


def task_of(
    store: Store,
    dataset: str,
    *,
    corpora: Path | None = None,
    media: Path | None = None,
    listed: Sequence[str] | None = None,
    split: str | None = None,
    texts: str | None = None,
    faces: Path | None = None,
    sounds: Path | None = None,
    mer_factory: Path | None = None,
    nonverbal: Path | None = None,
) -> Task:
    """The task of a dataset.

    corpora: a folder with the corpus in it, or the corpus's own; media: a folder of clips or a list
    of them, with faces (OpenFace tracks) and sounds beside. Without both nothing is computed, and
    labels and transcripts are those in the store. texts: ``FILE[#COLUMN]``, in place of the corpus's.
    mer_factory: its output. nonverbal: the file of the clues.

    listed: the samples. split: of the first set of labels, by default the one that MER-UniBench
    tests on, ``"all"`` for none. Otherwise they are all that the media, or else the store, know.

    Raises MerstoreError where no sample is found, and where a file cannot be read.
    """
    analyses = MerFactory(mer_factory, dataset) if mer_factory else None
    corpus = open_corpus(dataset, corpora) if corpora is not None else None
    found: Mapping[str, Clip] | None = None
    if corpus is not None:
        found = CorpusMaterials(corpus, analyses=analyses)
    elif media is not None:
        clips = Clips.from_list(media) if media.is_file() else Clips.from_directory(media)
        found = materials.beside(clips, faces=faces, sounds=sounds, analyses=analyses)
    transcripts = _transcripts(store, dataset, corpus, texts)
    names = _names(store, dataset, corpus, found, transcripts, listed, split)
    if not names:
        raise MerstoreError(f"{dataset}: no samples: name them by a list, a split or the media")
    clues: Callable[[str], str] | None = None
    if nonverbal is not None:
        clues = Nonverbal(nonverbal, dataset).caption
    return Task(dataset, names, _subtitles(transcripts), clues, found)


def question_of(
    store: Store, datasets: Iterable[str], label_type: str, corpora: Path | None = None
) -> str:
    """The question of a label type of `OF_LABELS`, as these datasets' training labels have it: in the
    store, or in the folder of the corpora.

    Raises MerstoreError where there are none, and where it is not one question for all.
    """
    texts: dict[str, str] = {}
    for dataset in datasets:
        corpus = corpus_of(store, dataset, root=corpora)
        if label_type not in corpus.labels:
            kinds = ", ".join(corpus.labels)
            raise MerstoreError(f"{dataset}: its labels are of {kinds}, not of {label_type}")
        text = prompts.question(label_type, candidates=corpus.candidates, span=corpus.span)
        texts.setdefault(text, dataset)
    if len(texts) > 1:
        raise MerstoreError(
            f"{label_type}: the question is another one of {' and of '.join(texts.values())}: ask "
            "about one dataset at a time"
        )
    return next(iter(texts))


def _transcripts(
    store: Store, dataset: str, corpus: Corpus | None, texts: str | None
) -> Transcripts | None:
    if texts is not None:
        file, _, column = texts.partition("#")
        return texts_from(file, column or None)
    if corpus is not None:
        return corpus.transcripts() if corpus.table.transcripts else None
    there = [path for path in store.views() if path.startswith(f"{dataset}/text/")]
    if not there:
        return None
    first = next(
        (n for n in _declared(dataset, "transcripts") if f"{dataset}/text/{n}" in there), None
    )
    return read_transcripts(store, dataset, first)


def _subtitles(transcripts: Transcripts | None) -> dict[str, str | float | Refusal | None]:
    if transcripts is None:
        return {}
    told: dict[str, str | float | Refusal | None] = {
        problem.sample: Refusal(problem.kind, problem.message)
        for problem in transcripts.problems
        if problem.sample
    }
    return told | transcripts.texts


def _names(
    store: Store,
    dataset: str,
    corpus: Corpus | None,
    found: Mapping[str, Clip] | None,
    transcripts: Transcripts | None,
    listed: Sequence[str] | None,
    split: str | None,
) -> list[str]:
    if listed is not None:
        return list(listed)
    wanted = split or TEST_SPLITS.get(dataset)
    if wanted is not None and wanted != WHOLE:
        labels = _labels(store, dataset, corpus)
        if labels is not None:
            splits = labels.splits()
            if wanted not in splits:
                raise InvalidKey(
                    f"{dataset} has no split {wanted!r}; it has {', '.join(splits) or 'none'}"
                )
            return splits[wanted]
        if split is not None or corpus is not None:
            raise MerstoreError(
                f"{dataset}: split {wanted!r} is of its labels, which are not there"
            )
    if found is not None:
        return list(found)
    if transcripts is not None:
        return [*transcripts.texts, *(p.sample for p in transcripts.problems if p.sample)]
    return _known(store, dataset)


def _labels(store: Store, dataset: str, corpus: Corpus | None) -> Labels | None:
    if corpus is not None:
        return corpus.labels() if corpus.table.labels else None
    for name in _declared(dataset, "labels"):
        if f"{dataset}/label/{name}" in store:
            return read_labels(store, dataset, name)
    return None


def _declared(dataset: str, what: str) -> Iterable[str]:
    """The names of a corpus's sets of labels, or transcripts, the usual one first."""
    try:
        table = find(dataset)
    except InvalidKey:
        return []
    return list(getattr(table, what))


def _known(store: Store, dataset: str) -> list[str]:
    """All samples that any view of features of the dataset has, or knows why not."""
    names: set[str] = set()
    for path in store.views():
        view = store[path]
        if view.dataset == dataset and view.modality in ("frame", "face", "audio"):
            names |= {*view, *(failure.name for failure in view.failures())}
    return sorted(names)

"""A dataset's training samples: what may be asked about them, what the answers are, what is said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merstore.corpora import Labels, Transcripts, find, open_corpus, read_labels, read_transcripts
from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.mer_factory import Nonverbal
from merstore.run.training.task import LABELS_OF
from merstore.store.legacy import dataset_key
from merstore.store.store import Store

_NOT_SAID = ("empty_text", "nan_text")  # of a transcript: nothing is said, which is a subtitle too


@dataclass(frozen=True)
class Corpus:
    """``labels``: by label type (`merstore.run.prompts.LABEL_TYPES`), of the samples that have one.
    ``subtitles``: by name, "" where nothing is said. ``candidates``: the classes; ``span``: the
    least and the greatest value; of the questions that name them. ``clues``: of the nonverbal clause.
    """

    dataset: str
    labels: Mapping[str, Mapping[str, str | float]]
    subtitles: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    clues: Callable[[str], str] | None = None

    @property
    def names(self) -> list[str]:
        """The samples with any label, in the order of the labels."""
        return list(dict.fromkeys(name for labels in self.labels.values() for name in labels))


def corpus_of(
    store: Store,
    dataset: str,
    *,
    root: str | Path | None = None,
    nonverbal: str | Path | None = None,
) -> Corpus:
    """What a store knows of a dataset's training samples, as `merstore.corpora.store_labels` wrote
    it; or, with `root`, what the files of the corpus in that folder say.

    These are the split ``train``, or, where there is none, all that MER-UniBench does not test on. A
    class is asked for with and without candidates; values, where there are no classes, as valence
    and sentiment; lists of words as ovlabel, texts as description. `nonverbal`: the file of the
    clues.

    Raises MerstoreError where there are no labels to train on.
    """
    key = dataset_key(dataset)
    labels: dict[str, Mapping[str, str | float]] = {}
    candidates: tuple[str, ...] = ()
    span = None
    sets, transcripts = _stored(store, dataset, key) if root is None else _files(root, dataset)
    for read in sets:
        samples = _trained_on(read, key)
        types = {known.type: known for known in read.fields.values()}
        if "list" in types:
            words = _values(read, samples, types["list"].name)
            labels["ovlabel"] = {name: ", ".join(map(str, each)) for name, each in words.items()}
        if "text" in types:
            texts = _values(read, samples, types["text"].name)
            labels["description"] = {name: str(text) for name, text in texts.items()}
        if "class" in types and not candidates:
            candidates = types["class"].classes
            classes = _values(read, samples, types["class"].name)
            onehot = {name: str(each) for name, each in classes.items()}
            labels |= {"onehot_w_candidates": onehot, "onehot_wo_candidates": onehot}
        elif "number" in types and not candidates and span is None:
            numbers = _values(read, samples, types["number"].name)
            values = {name: float(each) for name, each in numbers.items()}
            if values:
                span = min(values.values()), max(values.values())
                labels["valence"] = values
                labels["sentiment"] = {name: _sentiment(each) for name, each in values.items()}
    labels = {kind: found for kind, found in labels.items() if found}
    if not labels:
        raise MerstoreError(
            f"{key}: {root or store.path} has no labels to train on: give the corpus's folder"
        )
    clues = Nonverbal(nonverbal, key).caption if nonverbal is not None else None
    return Corpus(key, labels, _subtitles(transcripts), candidates, span, clues)


def _values(labels: Labels, samples: list[str], column: str) -> dict[str, Any]:
    """A field's values, where somebody said one."""
    found = {name: labels.samples[name].values[column] for name in samples}
    return {name: value for name, value in found.items() if value not in (None, "", ())}


def _sentiment(value: float) -> str:
    return "positive" if value > 0 else "negative" if value < 0 else "neutral"


def _stored(store: Store, dataset: str, key: str) -> tuple[list[Labels], Transcripts | None]:
    """The sets of labels in a store, those that the corpus declares first; one, where the dataset's
    spelling says which. The transcripts that it declares first.
    """
    there = [path.split("/") for path in store.views() if path.startswith(f"{key}/")]
    names = [name for _, modality, name in there if modality == "label"]
    declared = _declared(key, "labels")
    names.sort(key=lambda name: declared.index(name) if name in declared else len(declared))
    if (one := LABELS_OF.get(dataset.casefold())) is not None:
        names = [one]
    texts = [name for _, modality, name in there if modality == "text"]
    first = next((name for name in _declared(key, "transcripts") if name in texts), None)
    said = read_transcripts(store, key, first) if texts else None
    return [read_labels(store, key, name) for name in names], said


def _files(root: str | Path, dataset: str) -> tuple[list[Labels], Transcripts | None]:
    corpus = open_corpus(dataset, root)
    table = corpus.table
    one = LABELS_OF.get(dataset.casefold())
    names = [
        name
        for name, each in table.labels.items()
        if one in (None, name) and corpus.has(each.sources)
    ]
    said = corpus.transcripts() if table.transcripts else None
    return [corpus.labels(name) for name in names], said


def _declared(key: str, what: str) -> list[str]:
    try:
        return list(getattr(find(key), what))
    except InvalidKey:
        return []


def _trained_on(labels: Labels, key: str) -> list[str]:
    splits = labels.splits()
    if "train" in splits:
        return splits["train"]
    tested = TEST_SPLITS.get(key)
    if key in TEST_SPLITS and tested not in splits:
        raise MerstoreError(f"{key}: its labels have no split train: it is for tests only")
    return [name for split, names in splits.items() if split != tested for name in names]


def _subtitles(found: Transcripts | None) -> dict[str, str]:
    if found is None:
        return {}
    nothing = {problem.sample: "" for problem in found.problems if problem.kind in _NOT_SAID}
    return nothing | found.texts

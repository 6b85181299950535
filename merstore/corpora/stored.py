"""Labels and transcripts in a store, so that whoever has the store needs no other file.

They are views like any other, of the corpus's own dataset: ``mer2023/label/6way`` and
``mer2023/text/english``, next to the features and under the same sample names. So everything that
works on views works on them (``ls``, ``info``, ``verify``, ``compact``, snapshots, dropping one),
each is protected by its checksum, the format needs nothing new, and a file that changed since is
noticed as a spec that differs. Entries are bytes (uint8 ``[T]``): of a text its UTF-8, of a label
a JSON object with its split, its place in the label files' order and its values. A sample without
a text has a failure record that says why. Numbers are float64 and come back as they were.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from merstore.corpora.corpus import Corpus
from merstore.corpora.labels import Label, Labels, Value
from merstore.corpora.problem import Problem
from merstore.corpora.table import Field
from merstore.corpora.transcripts import Transcripts
from merstore.errors import CorruptEntry, UnknownView
from merstore.store.store import Store
from merstore.store.view import View

LABEL, TEXT = "label", "text"


def store_labels(store: Store, corpus: Corpus) -> list[str]:
    """Write all labels and transcripts of a corpus whose files are there; the paths of the views.

    Writing them again adds what is missing. Raises SpecMismatch where a view was written from other
    files (drop it first), MerstoreError where a file cannot be read; no entry is written then.
    """
    table = corpus.table
    planned = [
        *(
            _plan_labels(corpus.key, corpus.labels(name))
            for name, labels in table.labels.items()
            if corpus.has(labels.sources)
        ),
        *(
            _plan_transcripts(corpus.key, corpus.transcripts(name))
            for name, texts in table.transcripts.items()
            if corpus.has(texts.sources)
        ),
    ]
    views = [
        store.create_view(plan.path, dtype="uint8", shape=(None,), spec=plan.spec, exist_ok=True)
        for plan in planned
    ]
    with store.writer() as writer:
        for plan, view in zip(planned, views, strict=True):
            for sample in view.missing([*plan.entries, *plan.failures]):
                if sample in plan.entries:
                    data = plan.entries[sample].encode()
                    writer.put(view, sample, np.frombuffer(data, np.uint8))
                else:
                    problem = plan.failures[sample]
                    writer.fail(view, sample, problem.kind, problem.message)
    return [plan.path for plan in planned]


def read_labels(store: Store, dataset: str, name: str | None = None) -> Labels:
    """The labels that `store_labels` wrote, in their order; without `name`, of the only set there is.

    Raises UnknownView.
    """
    view = _view(store, dataset, LABEL, name)
    fields = {known["name"]: _field(known) for known in view.spec["fields"]}
    rows: list[tuple[int, str, Label]] = []
    for sample in view:
        try:
            entry = json.loads(view[sample].tobytes())
            values = {key: _from_json(value) for key, value in entry["values"].items()}
            rows.append((entry["row"], sample, Label(entry["split"], values)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CorruptEntry(
                f"{view.path}/{sample} is no label: drop the view, write it again"
            ) from None
    rows.sort(key=lambda row: row[0])
    samples = {sample: label for _, sample, label in rows}
    return Labels(view.sampling, fields, samples, [], dict(view.spec["sources"]))


def read_transcripts(store: Store, dataset: str, name: str | None = None) -> Transcripts:
    """The texts that `store_labels` wrote; ``problems`` are the samples without one.

    Raises UnknownView.
    """
    view = _view(store, dataset, TEXT, name)
    try:
        texts = {sample: view[sample].tobytes().decode() for sample in view}
    except UnicodeDecodeError:
        raise CorruptEntry(f"{view.path} holds bytes that are no text: write it again") from None
    problems = [Problem(f.kind, f.name, f.message) for f in view.failures()]
    language = view.spec["language"]
    return Transcripts(view.sampling, language, texts, problems, dict(view.spec["sources"]))


@dataclass
class _Plan:
    """A view that is to be, and its text by sample, or why there is none."""

    path: str
    spec: dict[str, Any]
    entries: dict[str, str]
    failures: dict[str, Problem] = field(default_factory=dict)


def _plan_labels(dataset: str, labels: Labels) -> _Plan:
    spec = {
        "kind": "labels",
        "encoding": "JSON, UTF-8",
        "fields": [asdict(each) for each in labels.fields.values()],
        "splits": {split: len(names) for split, names in labels.splits().items()},
        "sources": labels.sources,
    }
    entries = {
        sample: json.dumps(
            {"split": label.split, "row": row, "values": label.values}, ensure_ascii=False
        )
        for row, (sample, label) in enumerate(labels.samples.items())
    }
    return _Plan(f"{dataset}/{LABEL}/{labels.name}", spec, entries)


def _plan_transcripts(dataset: str, found: Transcripts) -> _Plan:
    spec = {
        "kind": "transcripts",
        "encoding": "UTF-8",
        "language": found.language,
        "sources": found.sources,
    }
    without = {p.sample: p for p in found.problems if p.sample and p.sample not in found.texts}
    return _Plan(f"{dataset}/{TEXT}/{found.name}", spec, found.texts, without)


def _view(store: Store, dataset: str, modality: str, name: str | None) -> View:
    if name is not None:
        return store[f"{dataset}/{modality}/{name}"]
    prefix = f"{dataset}/{modality}/"
    found = [path for path in store.views() if path.startswith(prefix)]
    if len(found) == 1:
        return store[found[0]]
    if found:
        raise UnknownView(f"{store.path} has several, name one: {', '.join(found)}")
    raise UnknownView(f"{store.path} has no view {prefix}...: write it with store_labels")


def _field(known: dict[str, Any]) -> Field:
    return Field(**known | {key: tuple(known[key]) for key in ("columns", "classes")})


def _from_json(value: Any) -> Value:
    if isinstance(value, list):
        return tuple(value)
    return float(value) if isinstance(value, int) else value

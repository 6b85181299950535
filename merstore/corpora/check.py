"""A corpus's folder against its table: what is there, what is missing, what is wrong."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from merstore.corpora.corpus import Corpus
from merstore.corpora.labels import Labels
from merstore.corpora.problem import Missing, Problem
from merstore.corpora.table import Media
from merstore.corpora.transcripts import REMARKS
from merstore.errors import MerstoreError

# Known of the published files themselves, and nothing that a user could mend.
TOLERATED = {"empty_text", "placeholder", *REMARKS}

REMEDIES = {
    "missing_folder": "give the corpus's own folder, or declare where its media lie in a table of your own",
    "missing_file": "download or copy the files again; until then these samples are failures of their views",
    "empty_file": "download or copy the files again: they have a name and no bytes",
    "missing_split": "get the file, or declare the split as optional in a table of your own",
    "wrong_count": "another release of the corpus, or a file cut short: compare it with the publisher's",
    "missing_text": "transcribe these samples, or take them out of the label file",
    "shifted_row": "correct the lines: a comma in a text needs quotes around the text",
    "bad_quotes": "correct the lines: a quote in a quoted text is written twice",
    "repeated_header": "two files were joined: take the second header out",
    "undecodable": "save the file as UTF-8 from its source",
    "nan_text": "a script wrote its missing values as text: leave the cells empty, or fill them",
    "ambiguous_text": "decide which row is right, and take the other out",
    "bad_name": "rename the samples: no slash, no control character, at most 400 bytes",
}
_REMEDY = "correct the label file"
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One line of a report on a corpus. ``problem`` and ``remedy`` are None where all is well;
    ``samples`` are those that the line is about, all of them.
    """

    what: str
    told: str
    problem: str | None = None
    remedy: str | None = None
    samples: list[str] = field(default_factory=list, repr=False)


def check(corpus: Corpus) -> list[Finding]:
    """Compare the corpus's folder with its table: label files, transcripts, media, in this order.

    Lists folders and looks at sizes; opens no media.
    """
    findings = [Finding("folder", str(corpus.root))]
    for name in corpus.table.labels:
        findings += _labels(corpus, name)
    try:
        samples = corpus.samples()
    except MerstoreError as error:
        why = _failed("samples", "unknown", error)
        return [*findings, *([] if corpus.table.labels else [why])]
    for name in corpus.table.transcripts:
        findings += _transcripts(corpus, name)
    for media in corpus.table.media.values():
        findings += _media(corpus, media, samples)
    return findings


def _failed(what: str, told: str, error: MerstoreError) -> Finding:
    return Finding(
        what, told, str(error), "get the file from the corpus's publisher, or from your copy"
    )


def _labels(corpus: Corpus, name: str) -> Iterator[Finding]:
    what = f"labels {name}"
    table = corpus.table.labels[name]
    try:
        labels = corpus.labels(name)
    except MerstoreError as error:
        there = corpus.has(table.sources)
        if not there and all(split.optional for split in table.splits.values()):
            yield Finding(what, "no file (optional)")
        else:
            yield _failed(what, "unreadable" if there else "no file", error)
        return
    sizes = {split: len(names) for split, names in labels.splits().items()}
    each = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    yield Finding(what, f"{len(labels.samples):,} samples ({each})")
    yield from _grouped(what, labels.problems)
    yield from _counts(what, labels, corpus)


def _counts(what: str, labels: Labels, corpus: Corpus) -> Iterator[Finding]:
    table = corpus.table.labels[labels.name]
    counted = [
        (f"split {split.name}", len(labels.splits().get(split.name, ())), split.sizes)
        for split in table.splits.values()
        if split.name in labels.splits()
    ]
    if table.size is not None:
        counted.append(("all splits", len(labels.samples), (table.size,)))
    for where, size, known in counted:
        if known and size not in known:
            wanted = " or ".join(f"{count:,}" for count in known)
            problem = f"{where}: {size:,} samples where the known releases have {wanted}"
            yield Finding(what, "wrong_count", problem, REMEDIES["wrong_count"])


def _transcripts(corpus: Corpus, name: str) -> Iterator[Finding]:
    what = f"text {name}"
    sources = corpus.table.transcripts[name].sources
    try:
        found = corpus.transcripts(name)
    except MerstoreError as error:
        yield _failed(what, "unreadable" if corpus.has(sources) else "no file", error)
        return
    others = f", {found.others:,} of other samples" if found.others else ""
    yield Finding(what, f"{len(found.texts):,} texts in {next(iter(found.sources))}{others}")
    yield from _grouped(what, found.problems)


def _media(corpus: Corpus, media: Media, samples: list[str]) -> Iterator[Finding]:
    what = media.modality
    if not any((corpus.root / folder).is_dir() for folder in media.folders):
        problem = f"no folder {' nor '.join(media.folders)} for {len(samples):,} samples"
        yield Finding(what, "no folder", problem, REMEDIES["missing_folder"], samples)
        return
    unusable = set(corpus.table.unusable)
    problems = []
    there = 0
    for sample in samples:
        found = corpus.media(sample, what)
        if isinstance(found, Path):
            there += 1
        elif isinstance(found, Missing) and sample not in unusable:
            problems.append(Problem(found.kind, sample, found.message))
    others = sorted(corpus.listed(media) - set(samples))
    told = f"{there:,} of {len(samples):,} files"
    if others:
        told += f", {len(others):,} of other samples (such as {others[0]})"
    yield Finding(what, told)
    yield from _grouped(what, problems)


def _grouped(what: str, problems: Iterable[Problem]) -> Iterator[Finding]:
    """One finding for each kind of problem."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, found in kinds.items():
        samples = [problem.sample for problem in found if problem.sample]
        told = f"{len(found):,} {kind}"
        if kind in TOLERATED:
            yield Finding(what, told, samples=samples)
            continue
        names = ", ".join(samples[:_SHOWN])
        more = f" and {len(samples) - _SHOWN:,} more" if len(samples) > _SHOWN else ""
        message = f"{told}{': ' + names if names else ''}{more} ({found[0].message})"
        yield Finding(what, told, message, REMEDIES.get(kind, _REMEDY), samples)

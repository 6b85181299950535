"""From files and options to scores, for `merstore score` and `merstore report` alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import merstore
from merstore.cli import console
from merstore.errors import MerstoreError
from merstore.score.answers import Missing
from merstore.score.challenge import ChallengeScore, challenge_score
from merstore.score.files import (
    OPENSET,
    SENTIMENT,
    Answers,
    prediction_files,
    read_answers,
    read_rows,
)
from merstore.score.grouped import GroupedScore, Groups, grouped_score
from merstore.score.labels import parse_labels, parse_labels_2024
from merstore.score.ov import OvScores, ov_scores
from merstore.score.unibench_results import SetResult, score_results
from merstore.score.wheels import WheelTables
from merstore.store.entry import Failure

Labels = dict[str, list[str]]
Score = TypeVar("Score")
Of = TypeVar("Of")


class Scored(NamedTuple, Generic[Of, Score]):
    """Predictions by their names as given: what each says of the samples, and what that scores.
    ``failed``: why samples have no answer, of each prediction that is in a store.
    """

    truth: Mapping[str, Of]
    predictions: dict[str, Mapping[str, Of]]
    results: dict[str, Score]
    failed: dict[str, list[Failure]]


def score_openset(
    predictions: Sequence[str],
    truth: Path,
    tables: WheelTables,
    missing: Missing,
    store: Path | None,
) -> Scored[list[str], OvScores]:
    true = _true_labels(truth)
    return _scored(
        predictions,
        store,
        parse_labels,
        true,
        lambda labels: ov_scores(true, labels, tables, missing),
    )


def score_grouped(
    predictions: Sequence[str],
    truth: Path,
    groups: Mapping[str, Groups],
    missing: Missing,
    store: Path | None,
) -> Scored[list[str], GroupedScore]:
    true = _true_labels(truth, parse_labels_2024)
    return _scored(
        predictions,
        store,
        parse_labels_2024,
        true,
        lambda labels: grouped_score(true, labels, groups, missing),
    )


def score_classes(
    predictions: Sequence[str], truth: str, missing: Missing
) -> Scored[Mapping[str, Any], ChallengeScore]:
    found: Scored[Mapping[str, Any], ChallengeScore] = Scored(read_rows(truth), {}, {}, {})
    for name in _files(predictions):
        with _naming(name):
            found.predictions[name] = read_rows(name)
            found.results[name] = challenge_score(found.truth, found.predictions[name], missing)
    return found


def score_unibench(
    predictions: Sequence[str], labels: Path, tables: WheelTables, missing: Missing
) -> dict[str, dict[str, SetResult]]:
    """By model and set."""
    files: dict[str, Path] = {}
    for given in predictions:
        files |= prediction_files(given, (OPENSET, SENTIMENT))
    return score_results(files, labels, tables, missing)


def whose(tables: WheelTables) -> str:
    """Whether word tables are OV-MER's, or which of them are not."""
    return f"not OV-MER's: {', '.join(tables.changed)}" if tables.changed else "OV-MER's"


def note_descriptions(name: str, answers: Answers) -> None:
    if answers.described:
        console.note(
            f"{name}: descriptions, read as lists of labels: extract labels from them first"
        )


def _scored(
    predictions: Sequence[str],
    store: Path | None,
    parse: Callable[[Any], list[str]],
    truth: Labels,
    score: Callable[[Labels], Score],
) -> Scored[list[str], Score]:
    found: Scored[list[str], Score] = Scored(truth, {}, {}, {})
    with ExitStack() as stack:
        opened = stack.enter_context(merstore.open(store)) if store else None
        for name, path in _files(predictions).items():
            if opened is not None and not path.exists():
                from merstore.run.labels.files import read_source

                texts, absent = read_source(name, "openset", opened)
                answers = Answers(path, texts, described=True)
                without = set(absent)
                failures = opened[name].failures()
                found.failed[name] = [each for each in failures if each.name in without]
            else:
                answers = read_answers(path)
            note_descriptions(name, answers)
            found.predictions[name] = labels = answers.labels(parse)
            with _naming(name):
                found.results[name] = score(labels)
    return found


def _files(predictions: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for given in predictions:
        files |= prediction_files(given)
    return files


def _true_labels(truth: Path, parse: Callable[[Any], list[str]] = parse_labels) -> Labels:
    labels = read_answers(truth).labels(parse)
    if not labels:
        raise MerstoreError(f"{truth}: the truth has no sample: give a file with names and labels")
    return labels


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say which file it was that could not be scored."""
    try:
        yield
    except MerstoreError as error:
        told = str(error)
        raise type(error)(told if name in told else f"{name}: {told}") from None

"""The results that AffectGPT's runner wrote, by model and by set of MER-UniBench."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from merstore.corpora import find, open_corpus
from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import MerstoreError
from merstore.score.answers import Missing
from merstore.score.board import Ranked, best_first, draws, placed
from merstore.score.files import OPENSET, SENTIMENT, read_answers
from merstore.score.ov import OvScores, mean, ov_scores
from merstore.score.unibench import HitRate, SignScore, hit_rate, sign_score
from merstore.score.wheels import WheelTables

SETS = tuple(TEST_SPLITS)  # in the order in which they are reported

Result = OvScores | HitRate | SignScore


class Truth(NamedTuple):
    """``kind`` of labels: ``class`` (scored by hit rate), ``number`` (WAF of the sign) or ``list``
    (F at level 1). ``labels``: those of the test samples that have one, by name.
    """

    key: str
    kind: str
    labels: dict[str, Any]


class SetResult(NamedTuple):
    """``score`` is the one that MER-UniBench reports, ``value`` its name among the result's values.
    ``answers``: by name, lists of labels, or texts in a set of sentiment.
    """

    file: str
    value: str
    score: float
    result: Result
    truth: Truth
    answers: Mapping[str, Any]


Sets = Mapping[str, SetResult]


class Boards(NamedTuple):
    """``models``: by the value ``mean``, which one that lacks a set has not; those come last, with
    more sets first. ``sets``: by set, the models that have it, best first.
    """

    models: list[Ranked[Sets]]
    sets: dict[str, dict[str, Ranked[Result]]]


def score_results(
    files: Mapping[str, Path], labels: Path, tables: WheelTables, missing: Missing = "error"
) -> dict[str, dict[str, SetResult]]:
    """Score result files: by model (a checkpoint), the sets in the order of SETS.

    Which of the sets an npz is of is told by ``results-SET`` in its path; of a set of sentiment the
    ``*-openset-sentiment.npz`` is scored and of any other the ``*-openset.npz``. None is chosen by
    its score, as AffectGPT's script does.

    labels: the folder that holds the corpora's folders. Raises MerstoreError for a path that tells
    no set, two files of one model and set, where there is nothing to score, and as the scores do.
    """
    truths: dict[str, Truth] = {}
    models: dict[str, dict[str, SetResult]] = {}
    for name, path in files.items():
        called, model = _set_and_model(path)
        if called not in truths:
            truths[called] = read_truth(called, labels)
        truth = truths[called]
        is_sentiment = path.name.endswith(SENTIMENT)
        if path.suffix == ".npz" and is_sentiment != (truth.kind == "number"):
            continue  # the other one of the two files of a result
        sets = models.setdefault(model, {})
        if truth.key in sets:
            raise MerstoreError(
                f"{name}: {sets[truth.key].file} is of {truth.key} and {model} too: give one of them"
            )
        sets[truth.key] = _scored(name, truth, path, tables, missing)
    if not models:
        raise MerstoreError(
            f"no *{OPENSET} of a set of classes or labels, nor *{SENTIMENT} of one of sentiment"
        )
    return {
        model: {key: sets[key] for key in SETS if key in sets} for model, sets in models.items()
    }


def total(sets: Mapping[str, SetResult]) -> float:
    """The mean of the nine scores; NaN where one is not there."""
    return mean([sets[key].score for key in SETS]) if len(sets) == len(SETS) else float("nan")


def boards(models: Mapping[str, Sets], seed: int | None = None) -> Boards:
    """How the models stand, on the whole and in each set; see `merstore.score.board.ranked`.

    The samples of each set are drawn independently of the other sets', for all models alike; a draw
    of the mean is the mean of one draw of each set.
    """
    sets = {}
    drawn: dict[str, list[np.ndarray]] = {model: [] for model in models}
    for number, key in enumerate(SETS):
        here = {model: found[key] for model, found in models.items() if key in found}
        if not here:
            continue
        value = next(iter(here.values())).value
        results = {model: each.result for model, each in here.items()}
        values = {model: result.values() for model, result in results.items()}
        columns = {}
        if seed is not None:
            columns = {model: draws(each, (seed, number)) for model, each in results.items()}
        for model, found in columns.items():
            drawn[model].append(found[value])
        board = placed(results, values, columns, best_first(values, value))
        sets[key] = {entry.name: entry for entry in board}
    means = {model: {"mean": total(found)} for model, found in models.items()}
    whole = {
        model: {"mean": np.mean(columns, axis=0)}
        for model, columns in drawn.items()
        if len(columns) == len(SETS)
    }
    order = sorted(best_first(means, "mean"), key=lambda model: -len(models[model]))
    return Boards(placed(models, means, whole, order), sets)


def read_truth(corpus: str, root: Path) -> Truth:
    """The test labels of a set. `root` holds the corpora's folders, or is that of this one.

    Raises MerstoreError where `corpus` is none of MER-UniBench, or its label files are not there.
    """
    key = find(corpus).key
    if key not in TEST_SPLITS:
        raise MerstoreError(f"{corpus} is none of MER-UniBench's sets: {', '.join(SETS)}")
    labels = open_corpus(key, root).labels()
    split = TEST_SPLITS[key]
    field = next(name for name in ("openset", "emo", "val") if name in labels.fields)
    return Truth(
        key,
        labels.fields[field].type,
        {
            name: label.values[field]
            for name, label in labels.samples.items()
            if (split is None or label.split == split) and label.values[field] is not None
        },
    )


def _scored(
    name: str, truth: Truth, path: Path, tables: WheelTables, missing: Missing
) -> SetResult:
    try:
        if truth.kind == "number":
            signs = read_answers(path, "sentiment").texts()
            found = sign_score(truth.labels, signs, missing)
            return SetResult(name, "waf", found.waf, found, truth, signs)
        labels = read_answers(path).labels()
        if truth.kind == "list":
            scores = ov_scores(truth.labels, labels, tables, missing)
            return SetResult(name, "MER2025-L1", scores.level1.f, scores, truth, labels)
        hits = hit_rate(truth.labels, labels, tables, missing)
        return SetResult(name, "hit rate", hits.rate, hits, truth, labels)
    except MerstoreError as error:
        raise type(error)(f"{path}: {error}") from None


_RESULTS = re.compile(r"(?:^|(?<=/))results-([^/]+)/")


def _set_and_model(path: Path) -> tuple[str, str]:
    """``output/results-mer2023/ours/checkpoint_1-openset.npz`` -> ``mer2023`` and
    ``output/ours/checkpoint_1``: AffectGPT's runner names a result by its set.

    Raises MerstoreError where no folder is called ``results-SET``.
    """
    text = path.as_posix()
    found = _RESULTS.search(text)
    if found is None:
        raise MerstoreError(
            f"{path}: no folder results-SET in its path tells which of MER-UniBench's sets it is of"
        )
    rest = text[: found.start()] + text[found.end() :]
    return found[1], re.sub(r"(-openset(-sentiment)?)?\.\w+$", "", rest)

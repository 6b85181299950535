"""`merstore score`: what predictions are worth, by the field's metrics."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

import merstore
from merstore.cli import console
from merstore.errors import MerstoreError
from merstore.score.answers import Coverage, Missing
from merstore.score.board import Ranked, Scored, ranked
from merstore.score.challenge import ChallengeScore, challenge_score
from merstore.score.files import (
    OPENSET,
    SENTIMENT,
    Answers,
    prediction_files,
    read_answers,
    read_rows,
)
from merstore.score.grouped import grouped_score, read_groups
from merstore.score.labels import parse_labels, parse_labels_2024
from merstore.score.ov import OvScores, ov_scores
from merstore.score.submission import write_classes, write_openset
from merstore.score.unibench import HitRate, SignScore
from merstore.score.unibench_results import SETS, SetResult, boards, score_results, total
from merstore.score.wheels import METRICS, WheelTables

_SHOWN = 10  # unknown labels of a prediction

_path = click.Path(path_type=Path)
_Decorator = Callable[[Any], Any]


@click.group("score", short_help="score predictions by the field's metrics")
def score_() -> None:
    """Score predictions by the metrics of the field, to their last digit.

    PRED is a file of names with answers: npz (filenames and fileitems, as *-openset.npz, or
    name2reason), csv, tsv or jsonl; or a folder, of which all *-openset.npz, csv, tsv and jsonl
    files are scored and ranked. A name without a prediction is an error.
    """


def _options(*more: _Decorator) -> _Decorator:
    """What all commands take, with what one of them takes besides."""

    def add(command: Any) -> Any:
        for option in reversed((predictions_argument, *more, _bootstrap, _seed, console.as_json)):
            command = option(command)
        return command

    return add


predictions_argument = click.argument("predictions", metavar="PRED...", nargs=-1, required=True)
_bootstrap = click.option(
    "--bootstrap", is_flag=True, help="95 % intervals, and comparisons with the best."
)
_seed = click.option("--seed", type=int, default=0, show_default=True, help="Of --bootstrap.")
truth_option = click.option(
    "--truth", type=_path, required=True, help="Names with the true labels, a file as PRED is."
)
tables_option = click.option(
    "--tables",
    type=_path,
    required=True,
    help="The folder of word tables, emotion_wheel (OV-MER's or MER2026's).",
)
missing_option = click.option(
    "--missing",
    type=click.Choice(["error", "empty"]),
    default="error",
    show_default=True,
    help="What a name without a prediction is; empty: an answer without labels.",
)


store_option = click.option(
    "--store", type=_path, help="A PRED that is no file is a view of texts in this store: a run's."
)


@score_.command("ov", short_help="OV-MER's twelve metrics")
@_options(truth_option, tables_option, missing_option, store_option)
def ov_(predictions: Sequence[str], **how: Any) -> None:
    """Score open-vocabulary labels by the twelve metrics of OV-MER: M1, M2, and M3 of five wheels
    at two levels. Ranked by the mean of their F (M-AVG).
    """
    short = [name.replace("M3", "").replace("-", "") for name in METRICS]
    _ov(predictions, "M-avg", ["M-avg", *METRICS], ["M-AVG", *short], _ov_facts, **how)


@score_.command("mer2025", short_help="the two levels of MER2025's track 2")
@_options(truth_option, tables_option, missing_option, store_option)
def mer2025_(predictions: Sequence[str], **how: Any) -> None:
    """Score open-vocabulary labels as MER2025's track 2 does: the mean F of five wheels at level 1
    and at level 2, ranked by the mean of the two.
    """
    shown = ["MER2025-rank", "MER2025-L1", "MER2025-L2"]
    _ov(predictions, shown[0], shown, ["SCORE", "LEVEL1", "LEVEL2"], _mer2025_facts, **how)


def _ov(
    predictions: Sequence[str],
    by: str,
    shown: Sequence[str],
    header: Sequence[str],
    facts: Callable[[OvScores], dict[str, Any]],
    truth: Path,
    tables: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    wheels = WheelTables.load(tables)
    true = read_answers(truth).labels()
    results = {}
    for name, labels in labels_of(predictions, store):
        with naming(name):
            results[name] = ov_scores(true, labels, wheels, missing)
    board = ranked(results, by, seed if bootstrap else None)
    if as_json:
        told = {
            "tables": {"folder": str(tables), "sha256": wheels.digest, "changed": wheels.changed}
        }
        _json(board, lambda result: facts(result) | _answers(result.coverage) | told)
        return
    _board(
        board,
        shown,
        header,
        ["MISSING", "EMPTY", "UNKNOWN"],
        lambda result: [
            f"{len(result.coverage.missing):,}",
            f"{len(result.coverage.empty):,}",
            f"{100 * result.coverage.unknown_share:.1f}%",
        ],
    )
    for entry in board:
        _tell(entry.name, entry.result.coverage)
    changed = f"not OV-MER's: {', '.join(wheels.changed)}" if wheels.changed else "OV-MER's"
    click.echo(f"tables: {tables}, {changed} (sha256 {wheels.digest})")


@score_.command("mer2024-ov", short_help="MER2024's score by groups of words")
@_options(
    truth_option,
    click.option(
        "--groups",
        type=_path,
        required=True,
        help="Groups of words of one meaning: MER2024's openset-synonym.zip, or its folder.",
    ),
    missing_option,
    store_option,
)
def mer2024_ov_(
    predictions: Sequence[str],
    truth: Path,
    groups: Path,
    missing: Missing,
    store: Path | None,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score open-vocabulary labels as MER2024 did: by groups of words that a chat model made for
    truth and prediction, kept in files. They fit the predictions that they were made for.
    """
    grouped = read_groups(groups)
    true = read_answers(truth).labels(parse_labels_2024)
    results = {}
    for name, labels in labels_of(predictions, store, parse_labels_2024):
        with naming(name):
            results[name] = grouped_score(true, labels, grouped, missing)
    board = ranked(results, "average", seed if bootstrap else None)
    if as_json:
        _json(
            board,
            lambda result: {
                "n": len(result),
                **result.values(),
                "missing": result.missing,
                "n_empty": len(result.empty),
                "empty": result.empty,
            },
        )
        return
    _board(
        board,
        ["average", "accuracy", "recall"],
        ["AVERAGE", "ACCURACY", "RECALL"],
        ["N", "MISSING", "EMPTY"],
        lambda r: [f"{len(r):,}", f"{len(r.missing):,}", f"{len(r.empty):,}"],
        plain=repr,  # as they are published
    )


@score_.command("classification", short_help="classes and valences: WAF, ACC, MSE, PCC, CCC")
@_options(
    click.option(
        "--truth",
        required=True,
        help="csv, tsv or jsonl with name, discrete (or emo, emotion, label) and, if known, valence "
        "(or val); or FILE.npz#ARRAY of a label file, such as label-6way.npz#test1_corpus.",
    )
)
def classification_(
    predictions: Sequence[str], truth: str, bootstrap: bool, seed: int, as_json: bool
) -> None:
    """Score classes and valences, as MER2023 to MER2025 rank them. PRED: csv, tsv or jsonl with the
    columns that --truth names.
    """
    true = read_rows(truth)
    results = {}
    for name in _files(predictions):
        with naming(name):
            results[name] = challenge_score(true, read_rows(name))
    by = "waf" if any("waf" in result.scores for result in results.values()) else "ccc"
    board = ranked(results, by, seed if bootstrap else None)
    if as_json:
        _json(board, _challenge_facts)
        return
    shown = list(dict.fromkeys(key for entry in board for key in entry.values))
    _board(
        board,
        shown,
        [key.upper() for key in shown],
        ["N", "OTHER"],
        lambda result: [f"{len(result):,}", f"{sum(result.other.values()):,}"],
        plain="{:.4f}".format,
    )
    for entry in board:
        if entry.result.other:
            told = _counts(entry.result.other)
            click.echo(f"{entry.name}: classes that no sample truly has: {told}")


@score_.command("merunibench", short_help="MER-UniBench's nine sets")
@_options(
    click.option(
        "--labels",
        type=_path,
        required=True,
        help="The folder that holds the corpora's folders with their label files.",
    ),
    tables_option,
    missing_option,
)
def merunibench_(
    predictions: Sequence[str],
    labels: Path,
    tables: Path,
    missing: Missing,
    bootstrap: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score AffectGPT's results: hit rate of the four sets of classes, WAF of the four of sentiment,
    and F at level 1 of OV-MERD+.

    PRED: files or folders with results-SET in their path, as AffectGPT's runner writes them:
    *-openset.npz, and *-openset-sentiment.npz of the sets of sentiment. A checkpoint is a line; none
    is chosen by its score. The mean is that of all nine sets.
    """
    wheels = WheelTables.load(tables)
    files: dict[str, Path] = {}
    for given in predictions:
        files |= prediction_files(given, (OPENSET, SENTIMENT))
    models = score_results(files, labels, wheels, missing)
    means = {model: total(sets) for model, sets in models.items()}
    found = boards(models, seed if bootstrap else None)
    if as_json:
        console.json_out(
            _plain(
                {
                    model: {
                        "mean": means[model],
                        "sets": {
                            key: {"file": each.file, "score": each.score}
                            | _unibench_facts(each.result)
                            | _sure_facts(found[key][model], next(iter(found[key])))
                            for key, each in sets.items()
                        },
                    }
                    for model, sets in models.items()
                }
            )
        )
        return
    order = sorted(models, key=lambda model: (-len(models[model]), -_or_zero(means[model]), model))
    header = [key.upper() for key in SETS]
    rows = [
        [model, _percent(means[model])]
        + [_cell(models[model].get(key), found.get(key, {}).get(model)) for key in SETS]
        for model in order
    ]
    console.table(["MODEL", "MEAN", *header], rows, right=" ".join(["MEAN", *header]))
    for model in order:
        for each in models[model].values():
            _tell_set(each)


@score_.group("submission", short_help="write checked files to hand in")
def submission_() -> None:
    """Write the files that challenges take. Names are complete, none is there twice, and nothing in
    them is pickled; a file that is there already stays as it is.
    """


_candidates = click.option(
    "--names", type=_path, required=True, help="The candidates: a csv with a column name."
)
_out = click.argument("out", type=_path)


@submission_.command("openset", short_help="MER2025's track 2: *-openset.npz")
@click.argument("prediction", metavar="PRED", type=_path)
@_out
@_candidates
def openset_(prediction: Path, out: Path, names: Path) -> None:
    """Write the labels of PRED as OUT, which must be called *-openset.npz."""
    candidates = list(read_rows(str(names)))
    write_openset(out, read_answers(prediction).by_name, candidates)
    console.note(f"{out}: {console.plural(len(candidates), 'sample')}")


@submission_.command("classes", short_help="MER2023's and MER2025's csv")
@click.argument("prediction", metavar="PRED")
@_out
@_candidates
@click.option("--valence", is_flag=True, help="With the column valence, which MER2023 wants.")
def classes_(prediction: str, out: Path, names: Path, valence: bool) -> None:
    """Write name and discrete (and valence) of PRED, a csv, tsv or jsonl with these columns, as OUT."""
    candidates = list(read_rows(str(names)))
    rows = read_rows(prediction)
    write_classes(
        out,
        {name: row.get("discrete", "") for name, row in rows.items()},
        candidates,
        {name: row.get("valence", "") for name, row in rows.items()} if valence else None,
    )
    console.note(f"{out}: {console.plural(len(candidates), 'sample')}")


# --- reading -------------------------------------------------------------------------------------


def _files(predictions: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for given in predictions:
        files |= prediction_files(given)
    return files


def labels_of(
    predictions: Sequence[str],
    store: Path | None,
    parse: Callable[[Any], list[str]] = parse_labels,
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The labels of each prediction, by its name as given."""
    with ExitStack() as stack:
        opened = stack.enter_context(merstore.open(store)) if store else None
        for name, path in _files(predictions).items():
            if opened is not None and not path.exists():
                from merstore.run.labels.files import read_source

                answers = Answers(path, read_source(name, "openset", opened).texts, described=True)
            else:
                answers = read_answers(path)
            if answers.described:
                console.note(
                    f"{name}: descriptions, read as lists of labels: extract labels from them first"
                )
            yield name, answers.labels(parse)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which file it was that could not be scored."""
    try:
        yield
    except MerstoreError as error:
        told = str(error)
        raise type(error)(told if name in told else f"{name}: {told}") from None


# --- what is printed -----------------------------------------------------------------------------


def _board(
    board: Sequence[Ranked[Scored]],
    shown: Sequence[str],
    header: Sequence[str],
    more: Sequence[str],
    cells: Callable[[Scored], list[str]],
    plain: Callable[[float], str] | None = None,
) -> None:
    """plain: how numbers are written; by default in per cent, with two decimals."""

    def told(value: float | None) -> str:
        return "" if value is None else (plain or _percent)(value)

    sure = ["95%", "BEHIND"] if board[0].intervals else []
    console.table(
        ["", "PREDICTIONS", *header, *sure, *more],
        [
            [
                str(place),
                entry.name,
                *(told(entry.values.get(name)) for name in shown),
                *(_sure(entry, shown[0], told) if sure else ()),
                *cells(entry.result),
            ]
            for place, entry in enumerate(board, 1)
        ],
        right=" ".join([*header, *more]),
    )
    if sure:
        click.echo(f"95% and BEHIND (the first; p of the difference) are of {header[0]}")


def _sure(entry: Ranked[Any], value: str, told: Callable[[float], str]) -> list[str]:
    inside, behind = entry.intervals.get(value), entry.behind.get(value)
    return [
        f"{told(inside.low)}-{told(inside.high)}" if inside else "",
        f"{told(behind.difference)} (p {behind.p:.3f})" if behind else "",
    ]


def _cell(found: SetResult | None, entry: Ranked[Any] | None) -> str:
    """A score, with its interval where there is one."""
    if found is None or entry is None:
        return ""
    inside = entry.intervals.get(found.value)
    if inside is None or math.isnan(inside.low):
        return _percent(found.score)
    return f"{_percent(found.score)} ({_percent(inside.low)}-{_percent(inside.high)})"


def _tell(name: str, known: Coverage) -> None:
    parts = [console.plural(known.n, "sample")]
    parts += [f"{len(known.missing):,} missing"] if known.missing else []
    parts += [f"{len(known.empty):,} empty"]
    parts += [f"{len(known.unknown_only):,} of unknown labels alone"] if known.unknown_only else []
    parts += [f"{known.extra:,} other predictions ignored"] if known.extra else []
    unknown = f"{console.plural(len(known.unknown), 'unknown label')}"
    if known.unknown:
        unknown += f" ({100 * known.unknown_share:.1f}%): {_counts(known.unknown)}"
    click.echo(f"{name}: {', '.join(parts)}, {unknown}")


def _tell_set(found: SetResult) -> None:
    result = found.result
    if not isinstance(result, SignScore):
        _tell(found.file, result.coverage)
        return
    absent = f", {len(result.missing):,} missing" if result.missing else ""
    other = f", counted as neutral: {_counts(result.other)}" if result.other else ""
    click.echo(f"{found.file}: {console.plural(result.n, 'sample')} scored{absent}{other}")


def _counts(counts: Mapping[str, int]) -> str:
    first = [f"{label} {count}" for label, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(first)
    return ", ".join(first) + (f" and {more:,} more (--json lists them all)" if more else "")


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.2f}"


# --- what programs read --------------------------------------------------------------------------


def _json(board: Sequence[Ranked[Scored]], facts: Callable[[Scored], dict[str, Any]]) -> None:
    """One object by the path as given; NaN is null."""
    out: dict[str, Any] = {}
    for place, entry in enumerate(board, 1):
        out[entry.name] = {"rank": place, **facts(entry.result)}
        out[entry.name] |= _sure_facts(entry, board[0].name)
    console.json_out(_plain(out))


def _sure_facts(entry: Ranked[Any], first: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if entry.intervals:
        told["intervals"] = {value: found._asdict() for value, found in entry.intervals.items()}
    if entry.behind:
        behind = {value: found._asdict() for value, found in entry.behind.items()}
        told["behind"] = {"first": first, **behind}
    return told


def _ov_facts(result: OvScores) -> dict[str, Any]:
    return (
        {metric: found._asdict() for metric, found in result.metrics.items()}
        | _mer2025_facts(result)
        | {"M-avg": result.average}
    )


def _mer2025_facts(result: OvScores) -> dict[str, Any]:
    return {
        "MER2025-L1": result.level1._asdict(),
        "MER2025-L2": result.level2._asdict(),
        "MER2025-rank": result.rank,
    }


def _challenge_facts(result: ChallengeScore) -> dict[str, Any]:
    return {"n": result.n, "n_values": result.n_values, **result.scores, "other": result.other}


def _unibench_facts(result: OvScores | HitRate | SignScore) -> dict[str, Any]:
    if isinstance(result, SignScore):
        return {
            "n": result.n,
            "waf": result.waf,
            "acc": result.acc,
            "missing": result.missing,
            "other": result.other,
        }
    if isinstance(result, HitRate):
        told: dict[str, Any] = {"n": result.n, "hit rates": result.rates, "mixed": result.mixed}
    else:
        told = {"n": [result[f"M3W{wheel}-L1"].n for wheel in range(1, 6)]}
        told |= result.level1._asdict()
    return told | _answers(result.coverage)


def _answers(known: Coverage) -> dict[str, Any]:
    return {
        "answers": {
            "n": known.n,
            "n_missing": len(known.missing),
            "missing": known.missing,
            "n_empty": len(known.empty),
            "empty": known.empty,
            "n_unknown": len(known.unknown),
            "unknown": known.unknown,
            "unknown_share": known.unknown_share,
            "unknown_only": known.unknown_only,
            "ignored": known.extra,
        }
    }


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

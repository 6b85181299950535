"""How scores are told: aligned tables and lines for people, JSON for programs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from merstore.cli import console
from merstore.score.answers import Coverage
from merstore.score.board import Ranked, Scored

_SHOWN = 10  # unknown labels of a prediction


def board_table(
    board: Sequence[Ranked[Scored]],
    shown: Sequence[str],
    header: Sequence[str],
    more: Sequence[str],
    cells: Callable[[Scored], list[str]],
    written: Callable[[float], str] | None = None,
) -> None:
    """written: how numbers are written; by default in per cent, with two decimals."""

    def told(value: float | None) -> str:
        return "" if value is None else (written or percent)(value)

    sure = ["95%", "BEHIND"] if board[0].intervals else []
    console.table(
        ["", "PREDICTIONS", *header, *sure, *more],
        [
            [
                str(place),
                entry.name,
                *(told(entry.values.get(name)) for name in shown),
                *(sure_cells(entry, shown[0], told) if sure else ()),
                *cells(entry.result),
            ]
            for place, entry in enumerate(board, 1)
        ],
        right=" ".join([*header, *more]),
    )
    if sure:
        click.echo(f"95% and BEHIND (the first; p of the difference) are of {header[0]}")


def sure_cells(entry: Ranked[Any], value: str, told: Callable[[float], str]) -> list[str]:
    inside, behind = entry.intervals.get(value), entry.behind.get(value)
    return [
        f"{told(inside.low)}-{told(inside.high)}" if inside else "",
        f"{told(behind.difference)} (p {behind.p:.3f})" if behind else "",
    ]


def tell_coverage(name: str, known: Coverage) -> None:
    parts = [console.plural(known.n, "sample")]
    parts += [f"{len(known.missing):,} missing"] if known.missing else []
    parts += [f"{len(known.empty):,} empty"]
    parts += [f"{len(known.unknown_only):,} of unknown labels alone"] if known.unknown_only else []
    parts += [f"{known.extra:,} other predictions ignored"] if known.extra else []
    unknown = f"{console.plural(len(known.unknown), 'unknown label')}"
    if known.unknown:
        unknown += f" ({100 * known.unknown_share:.1f}%): {counts(known.unknown)}"
    click.echo(f"{name}: {', '.join(parts)}, {unknown}")


def counts(counts: Mapping[str, int]) -> str:
    first = [f"{label or '(empty)'} {count}" for label, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(first)
    return ", ".join(first) + (f" and {more:,} more (--json lists them all)" if more else "")


def percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def json_board(board: Sequence[Ranked[Scored]], facts: Callable[[Scored], dict[str, Any]]) -> None:
    """One object by the path as given; NaN is null."""
    out: dict[str, Any] = {}
    for place, entry in enumerate(board, 1):
        out[entry.name] = {"rank": place, **facts(entry.result)}
        out[entry.name] |= sure_facts(entry, board[0].name)
    console.json_out(plain(out))


def sure_facts(entry: Ranked[Any], first: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if entry.intervals:
        told["intervals"] = {value: found._asdict() for value, found in entry.intervals.items()}
    if entry.behind:
        behind = {value: found._asdict() for value, found in entry.behind.items()}
        told["behind"] = {"first": first, **behind}
    return told


def answer_facts(known: Coverage) -> dict[str, Any]:
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


def plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

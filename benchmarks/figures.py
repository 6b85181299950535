"""A measured figure, and tables of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Figure:
    """What was measured, against what, and the bar that it is held to.

    `value` is the median of `rounds` measurements, `low` and `high` their quartiles. `ours` and
    `theirs` say what the two sides were by themselves.
    """

    part: str
    what: str
    value: float
    unit: Literal["x", "ms", "pages", "MB"]
    against: str = ""
    bar: float | None = None
    at_most: bool = False
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    ours: str = ""
    theirs: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached, to the two digits shown; None where there is none."""
        if self.bar is None:
            return None
        value = round(self.value, _digits(self))
        return value <= self.bar if self.at_most else value >= self.bar


def ratio(
    part: str,
    what: str,
    against: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    amount: int,
    bar: float | None = None,
    each: str = "bytes",
) -> Figure:
    """How many times as fast: the median over the rounds of their seconds by ours. Rates are of `amount` bytes, or of
    what `each` says, in each round.
    """
    ratios = theirs / ours
    low, value, high = np.percentile(ratios, (25, 50, 75))
    rates = [amount / np.median(seconds) for seconds in (ours, theirs)]
    return Figure(
        part,
        what,
        float(value),
        "x",
        against,
        bar,
        False,
        float(low),
        float(high),
        len(ratios),
        *(
            f"{rate / 1e9:.2f} GB/s" if each == "bytes" else f"{rate:,.1f} {each}/s"
            for rate in rates
        ),
    )


def milliseconds(
    part: str, what: str, seconds: Sequence[float], bar: float | None = None
) -> Figure:
    low, value, high = (float(v) for v in np.percentile(seconds, (25, 50, 75)) * 1e3)
    return Figure(
        part, what, value, "ms", bar=bar, at_most=True, low=low, high=high, rounds=len(seconds)
    )


def held(figures: Iterable[Figure]) -> str:
    """The README's table: what is held to a bar."""
    lines = ["| | against | measured | bar | |", "|---|---|---:|---:|---|"]
    part = None
    for figure in figures:
        if figure.bar is None:
            continue
        if figure.part != part:
            part = figure.part
            lines.append(f"| **{part}** | | | | |")
        lines.append(
            f"| {figure.what} | {figure.against} | {_value(figure)} | {_bar(figure)} | {_verdict(figure)} |"
        )
    return "\n".join(lines) + "\n"


def markdown(figures: Iterable[Figure]) -> str:
    """All figures, a table per part."""
    lines: list[str] = []
    part = None
    for figure in figures:
        if figure.part != part:
            part = figure.part
            lines += [
                "",
                f"**{part}**",
                "",
                "| | against | measured | bar | | ours | theirs |",
                "|---|---|---:|---:|---|---:|---:|",
            ]
        lines.append(
            f"| {figure.what} | {figure.against} | {_value(figure)} | {_bar(figure)} | {_verdict(figure)} "
            f"| {figure.ours} | {figure.theirs} |"
        )
    return "\n".join(lines).strip() + "\n"


def line(figure: Figure) -> str:
    """One figure, for the terminal."""
    against = f" / {figure.against}" if figure.against else ""
    rates = (
        f"  ({figure.ours} / {figure.theirs})"
        if figure.theirs
        else f"  ({figure.ours})"
        if figure.ours
        else ""
    )
    bar = f"  bar {_bar(figure)} {_verdict(figure)}" if figure.bar is not None else ""
    return f"  {figure.what}{against}: {_value(figure)}{bar}{rates}"


def _digits(figure: Figure) -> int:
    if figure.unit == "x":
        return 3 if figure.at_most else 2  # sizes are told apart by less than a hundredth
    return 0


def _number(figure: Figure, value: float) -> str:
    return f"{value:,.{_digits(figure)}f}"


def _value(figure: Figure) -> str:
    unit = "×" if figure.unit == "x" else f" {figure.unit}"
    spread = ""
    if figure.low is not None and figure.high is not None:
        spread = f" ({_number(figure, figure.low)}–{_number(figure, figure.high)})"
    return f"{_number(figure, figure.value)}{unit}{spread}"


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    unit = "×" if figure.unit == "x" else f" {figure.unit}"
    return f"{'≤' if figure.at_most else '≥'} {figure.bar:g}{unit}"


def _verdict(figure: Figure) -> str:
    return {None: "", True: "pass", False: "**short**"}[figure.passed]

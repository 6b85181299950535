"""Texts to labels: how the field's scripts read a model's answer."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from merstore.errors import MerstoreError

_QUOTES = re.compile("['\"]")
_BRACKETS = re.compile(r"[\[\]]")
_QUOTED_LIST = re.compile(r"\[([^\]]*)(?:\]|$)")


def parse_labels(answer: Any) -> list[str]:
    """The labels of an answer by the list rule of OV-MER, MER2025 and MER2026 (notes on the
    metrics, 2), in its order, with repetitions, in its case.

    One leading ``[`` and then one trailing ``]`` are taken off; what is left is split at every
    quote, double quote and comma, blanks around a piece are stripped, empty pieces dropped. Nothing
    else separates: not a semicolon, a line's end, a Chinese comma, an inner bracket. A list, tuple
    or array of texts is taken as the labels themselves; None, NaN and an empty text are none; bytes
    are UTF-8. ``[`` alone, on which the published scripts stop, is none.

    Raises MerstoreError for anything else, such as a number.
    """
    if type(answer) is not str:
        if isinstance(answer, np.ndarray):
            answer = answer.tolist()
        if isinstance(answer, list | tuple):
            return [_text(item) for item in answer]
        answer = _text(answer)
    inner = answer.removeprefix("[").removesuffix("]").replace("'", ",").replace('"', ",")
    return [label for piece in inner.split(",") if (label := piece.strip())]


def join_labels(labels: Sequence[str]) -> str:
    """``[happy, calm]``: what `parse_labels` reads back as the same labels, if it made them."""
    return f"[{', '.join(labels)}]"


def parse_labels_2024(answer: Any) -> list[str]:
    """The labels of an answer by MER2024's rule (notes on MERTools, 6.2).

    What stands between the first ``[`` and the next ``]`` is split at every quote, and pieces that
    are blank or a comma are dropped. Words are not stripped and not split at commas. What is no
    text is taken as in `parse_labels`.
    """
    if isinstance(answer, str | bytes):
        found = _QUOTED_LIST.search(_text(answer))
        return _pieces(found[1]) if found else []
    return parse_labels(answer)


def parse_groups(text: str) -> list[list[str]]:
    """Lists of words that mean the same, as MER2024's chat model wrote them: split at every
    bracket, each piece by quotes as in `parse_labels_2024`.
    """
    groups = (_pieces(piece) for piece in _BRACKETS.split(text))
    return [group for group in groups if group]


def _pieces(text: str) -> list[str]:
    return [piece for piece in _QUOTES.split(text) if piece.strip() not in ("", ",")]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise MerstoreError(f"labels {value[:40]!r} are no UTF-8: write them as text") from None
    raise MerstoreError(
        f"labels are a text or a list of texts, not {type(value).__name__} {str(value)[:40]!r}"
    )

"""Plots that somebody who cannot see them can read too."""

import warnings
from collections.abc import Callable
from typing import Any

from merstore.pages import svg


def picture(told: str, draw: Callable[..., None], *about: Any) -> Any:
    """What ``draw(axes, *about)`` draws, as SVG whose text alternative is `told`."""
    from markupsafe import Markup

    with warnings.catch_warnings():
        # text stays text: the browser has the characters that matplotlib's own font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        drawn = svg(draw, *about)
    return drawn.replace("<svg ", Markup('<svg role="img" aria-label="{}" ').format(told), 1)


def plain(text: str) -> str:
    """Text that may stand in a plot: of one line, without what no font can show."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)

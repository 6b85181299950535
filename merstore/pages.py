"""HTML pages with their plots inside: they need no network and no other file.

A page is a template that extends ``frame.html``, which has the style, the script that sorts and
searches tables, and a policy that lets nothing else run or load. Plots are drawn in the colours below,
which the frame makes others of where the screen is dark.
"""

import io
import json
import os
import re
import warnings
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib.resources import files
from itertools import count
from typing import Any

from merstore._version import __version__
from merstore.atomic import replacing
from merstore.errors import MerstoreError

BLUE, GREY, ORANGE, GREEN, RED = "#3465a4", "#868f9b", "#cc7722", "#3c8c5a", "#b03a3a"
SHADES = _SKY, _NAVY, _VIOLET, _PINK = "#6093cf", "#1d3557", "#7b5ea7", "#b0508a"
_INK, _LINE = "#1f2933", "#e3e7eb"

COLOURS = (
    ("paper", "#ffffff", "#15191e"),
    ("panel", "#f3f6fa", "#1f262e"),
    ("ink", _INK, "#e3e7eb"),
    ("quiet", "#5b6672", "#a3adb8"),
    ("line", _LINE, "#2e3741"),
    ("rule", "#c5ccd4", "#4a5561"),
    ("blue", BLUE, "#6d9fde"),
    ("sky", _SKY, "#4474ab"),
    ("navy", _NAVY, "#c4daf6"),
    ("violet", _VIOLET, "#ab8fdb"),
    ("pink", _PINK, "#dd93bf"),
    ("grey", GREY, "#76818d"),
    ("orange", ORANGE, "#e09445"),
    ("green", GREEN, "#5cb57e"),
    ("red", RED, "#e07a76"),
)
"""Each colour's name in the style, and what it is on light and on dark ground."""

_drawn = count()


def render(package: str, template: str, **facts: Any) -> str:
    """The page that a template of a package makes of `facts`, all of which are escaped; it has
    ``version`` and ``date`` too. ``frame.html`` and ``parts.html`` are those beside this module.

    Raises MerstoreError where jinja2 or matplotlib are not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
        from markupsafe import Markup
    except ModuleNotFoundError as missing:
        raise MerstoreError(
            f"{missing.name} is not installed: pip install 'merstore[tune]'"
        ) from None
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(
            lambda name: _text(
                "merstore" if name in ("frame.html", "parts.html") else package, name
            )
        ),
    )
    environment.filters |= {
        "amount": amount,
        "span": span,
        "json": partial(json.dumps, indent=1, ensure_ascii=False),
    }
    script = _text("merstore", "frame.js")
    frame = {
        "style": Markup(_text("merstore", "frame.css")),
        "script": Markup(script),
        "hash": f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        "colours": COLOURS,
    }
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    given = {"version": __version__, "date": date, **facts}
    return environment.get_template(template).render(**given, frame=frame)


def write(path: "str | os.PathLike[str]", text: str) -> None:
    """Write a page, whole or not at all. Raises MerstoreError where the file cannot be written."""
    try:
        with replacing(path) as file:
            # a lone surrogate may stand in what somebody else has written
            file.write(text.encode(errors="backslashreplace"))
    except OSError as error:
        raise MerstoreError(f"the report {path} cannot be written: {error.strerror}") from None


def picture(told: str, draw: Callable[..., None], *about: Any) -> Any:
    """What ``draw(axes, *about)`` draws onto matplotlib axes, as SVG that a page does not escape.
    told: the same in words, for somebody who cannot see it.
    """
    from markupsafe import Markup

    with warnings.catch_warnings():
        # text stays text: the browser has the characters that matplotlib's own font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        drawn = _svg(draw, *about)
    return Markup(drawn).replace(
        "<svg ", Markup('<svg role="img" aria-label="{}" ').format(told), 1
    )


def plain(text: str) -> str:
    """Text that may stand in a plot: of one line, without what no font can show."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def amount(n: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if n < 100 else f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:.3g} TiB"


def span(seconds: float) -> str:
    """A time for people."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{seconds:.1f} s"
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def _svg(draw: Callable[..., None], *about: Any) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": str(next(_drawn)),  # of the ids, which no two pictures of a page may share
        "text.parse_math": False,  # a name may have a $
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": _LINE,
        "legend.frameon": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
        ),
    }
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(5.2, 3.3), layout="constrained")
        draw(figure.add_subplot(), *about)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # inside HTML namespaces mean nothing, and ids that nobody refers to would repeat from plot to plot
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", text)
    named = {light: name for name, light, _ in COLOURS}
    return re.sub(
        r"(?<=(?:fill|roke): )#[0-9a-f]{6}",
        lambda found: f"var(--{named[found[0]]})" if found[0] in named else found[0],
        text,
    )


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")

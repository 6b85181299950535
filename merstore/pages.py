"""HTML pages with their plots inside: they need no network and no other file."""

import io
import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from merstore._version import __version__
from merstore.errors import MerstoreError

BLUE, GREY, ORANGE, GREEN, RED = "#3465a4", "#b8bec6", "#d9822b", "#3c8c5a", "#b03a3a"
SHADES = ("#9db8d9", BLUE, "#1d3557", "#7b5ea7")


def render(package: str, template: str, **facts: Any) -> str:
    """The page that a template of a package makes of `facts`, all of which are escaped. It extends
    ``page.html``.

    Raises MerstoreError where jinja2 or matplotlib are not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as missing:
        raise MerstoreError(
            f"{missing.name} is not installed: pip install 'merstore[tune]'"
        ) from None
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(
            lambda name: (
                files("merstore" if name == "page.html" else package)
                .joinpath(name)
                .read_text(encoding="utf-8")
            )
        ),
    )
    return environment.get_template(template).render(**facts, version=__version__)


def write(path: "str | os.PathLike[str]", text: str) -> None:
    """Write a page, whole or not at all. Raises MerstoreError where the file cannot be written."""
    beside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        try:
            # a lone surrogate may stand in what somebody else has written
            beside.write_bytes(text.encode(errors="backslashreplace"))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise MerstoreError(f"the report {path} cannot be written: {error.strerror}") from None


def svg(draw: Callable[..., None], *about: Any) -> Any:
    """What ``draw(axes, *about)`` draws onto matplotlib axes, as SVG that a page does not escape."""
    import matplotlib
    from markupsafe import Markup
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "merstore",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e8eaed",
        "axes.axisbelow": True,
        "legend.frameon": False,
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
    return Markup(
        re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", text)
    )

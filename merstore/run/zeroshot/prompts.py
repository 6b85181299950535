"""What zero-shot models are asked. The prompts ask for what those of OV-MER and MER2025 ask for
(notes on the metrics, 7), in words of our own.
"""

import math
from typing import TYPE_CHECKING

from merstore.errors import MerstoreError

if TYPE_CHECKING:
    from merstore.run.zeroshot.baselines import Baseline

VERSION = 1  # of the wording; raise it when a word of it changes

_EXPERT = "You know human emotions as an expert does."
_CLUES = "Look for clues to what the person feels in {subtitle}"
_SEEN = "the face, the movements of the body"
_DESCRIBE = "Describe in detail what you find, and say in the end which emotion the person feels."
_LIST = (
    "Describe in detail what you find, and list in the end all emotional states that are possible."
)

PURPOSES = {
    "video": f"{_EXPERT} {_CLUES}{_SEEN} and the scene. {_DESCRIBE}",
    "video, all states": f"{_EXPERT} {_CLUES}{_SEEN} and the scene. {_LIST}",
    "audio": f"{_EXPERT} {_CLUES}the voice and the way of speaking. {_DESCRIBE}",
    "audio, state only": "Which emotional state is the person who speaks in?",
    "video and audio": f"{_EXPERT} {_CLUES}{_SEEN}, the scene and the voice. {_DESCRIBE}",
}
"""What a model is asked for, by purpose; ``{subtitle}`` is where a subtitle is pointed to."""

_POINTED = "the subtitle, "
_LEAD = "The subtitle of this clip is: "


def prompt(
    baseline: "Baseline", subtitle: str | float | None = None, question: str | None = None
) -> str:
    """The question to one sample, the baseline's or another, with its subtitle where the baseline
    has it: ``"before"`` or ``"behind"`` the question, with the baseline's separator after it;
    ``"none"`` takes none.

    None, an empty text and NaN, a table's empty cell, leave it out. Raises MerstoreError for a
    subtitle that is no text.
    """
    text = _text(subtitle) if baseline.subtitle != "none" else ""
    purpose = PURPOSES[baseline.purpose].replace("{subtitle}", _POINTED if text else "")
    asked = question or purpose
    if not text:
        return asked
    said = f"{_LEAD}{text}{baseline.separator}"
    return f"{said} {asked}" if baseline.subtitle == "before" else f"{asked} {said}"


def _text(subtitle: str | float | None) -> str:
    if subtitle is None or (isinstance(subtitle, float) and math.isnan(subtitle)):
        return ""
    if not isinstance(subtitle, str):
        raise MerstoreError(f"the subtitle {subtitle!r} is no text: give the transcript, or none")
    return subtitle.strip()

"""What a language model is asked, and how its answer is cleaned.

The prompts ask for what those of OV-MER and AffectGPT ask for (notes on the metrics, 5), in words
of our own, so that labels differ a little from the published ones, as they do there from run to
run. The clean-up is theirs exactly. A prompt is part of what an answer is cached under.
"""

import re

OPENSET, SENTIMENT, MERGE = "openset", "sentiment", "merge"

PROMPTS: dict[str, dict[str, str]] = {
    OPENSET: {
        "text": """\
You know human emotions as an expert does. What follows as the input are clues about the people in a \
video. The one who is described in most detail is the main character. Which emotional states does the \
main character have? Give only categories that the clues identify clearly, as a list in square \
brackets with commas in between, and nothing besides. Where they identify none, give the empty list.

Input: How he feels is impossible to tell.
Output: []

Input: She seems proud, relieved and rather nervous.
Output: [proud, relieved, nervous]

Input: {text}
Output:""",
    },
    SENTIMENT: {
        "text": """\
You know human emotions as an expert does. The input is a list of words for what somebody feels. Which \
one of positive, negative and neutral fits them best? Answer with that one word.

Input: [joyful]
Output: positive

Input: []
Output: neutral

Input: {text}
Output:""",
    },
    MERGE: {
        "text": """\
You know human emotions as an expert does. There are clues from a video, and there is the subtitle of \
what is said in it. Take all of it together: which emotional states is the character in, and from what \
do you conclude that? Explain your reasoning.

Clues from the video: {text}

Subtitle: {subtitle}""",
        "subtitle only": """\
You know human emotions as an expert does. There is the subtitle of what is said in a video. Which \
emotional states is the character in, and from what do you conclude that? Explain your reasoning.

Subtitle: {subtitle}""",
    },
}
"""Prompts by task and, of a task, by what there is to ask about."""

NOTHING_TO_GO_BY = "With neither clues nor a subtitle, the emotional state cannot be judged."
"""The merged text of a sample that has neither."""

_BLANK = re.compile(r"\{(text|subtitle)\}")

_MARKERS = ("输入", "输出", "翻译", "让我们来翻译一下：", "output", "Output", "input", "Input")
_COLONS = (":", "：")


def render(prompt: str, **blanks: str) -> str:
    """The prompt with its blanks filled in; braces in what fills them stay what they are."""
    return _BLANK.sub(lambda blank: blanks[blank[1]], prompt)


def clean(answer: str) -> str:
    """An answer without the marker words and colons that models put in front of it, on one line.

    Each marker, then each colon, is taken off once, in the published order; nothing is validated.
    """
    answer = answer.strip()
    if answer.startswith(_MARKERS):  # few do
        for marker in _MARKERS:
            answer = answer.removeprefix(marker)
        answer = answer.strip()
    for colon in _COLONS:
        answer = answer.removeprefix(colon)
    return answer.strip().replace("\n", "").strip()

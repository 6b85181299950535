"""Labels without a model: the words of the emotion wheels that stand in a text.

No reading of what the text means ("not happy" has "happy" in it), so no match for a language model,
but it needs nothing, and gives the same everywhere.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from merstore.errors import MerstoreError
from merstore.extract.reading import Refusal
from merstore.run.labels.backend import Backend
from merstore.run.labels.prompts import MERGE, OPENSET
from merstore.score.labels import join_labels
from merstore.score.wheels import WheelTables

_VERSION = 1  # of what is found: a change of the rule is another cache
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

_WHEEL = "M3W1-L1"  # the one whose groups are all of one mind, but for surprised
_SENTIMENT = {"happy": 1, "mad": -1, "disgusted": -1, "sad": -1, "scared": -1}


class Rule(Backend):
    """``openset``: the words of the wheels in the text, in any form that the tables list (all forms
    of the wheels' words, not of their synonyms, among which are "see", "low" and "open"), longest
    first, each once, in the text's order. ``sentiment``: what more of those words are by the first
    level of wheel 1, positive (happy) or negative (mad, disgusted, sad, scared); else neutral.
    """

    name = "rule"
    batch = 16384

    def __init__(self, tables: WheelTables) -> None:
        self.tables = tables
        heads = set().union(*tables.wheels.values())
        self._forms: dict[tuple[str, ...], str] = {}
        for form, lemmas in sorted(tables.forms.items()):
            words = tuple(_WORD.findall(form))
            if words and not heads.isdisjoint(lemmas):
                self._forms.setdefault(words, form)
        # by the first word: the numbers of words that a form may have, most first
        lengths: dict[str, set[int]] = {}
        for words in self._forms:
            lengths.setdefault(words[0], set()).add(len(words))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}

    def spec(self, task: str) -> dict[str, Any]:
        if task == MERGE:
            raise MerstoreError(
                "merging clues and subtitles needs a language model: --backend transformers, vllm or openai"
            )
        return {"backend": "rule", "rule": _VERSION, "tables": self.tables.digest}

    def message(self, task: str, prompt: str = "text", **blanks: str) -> str:
        return blanks["text"]

    def answer(self, task: str, messages: Sequence[str]) -> Iterator[str | Refusal]:
        give = self._openset if task == OPENSET else self._sentiment
        return map(give, messages)

    def words(self, text: str) -> list[str]:
        """The words of the wheels in a text, as the tables spell them."""
        words = _WORD.findall(text.lower())
        found: dict[str, None] = {}
        begin = 0
        while begin < len(words):
            step = 1
            for length in self._lengths.get(words[begin], ()):
                form = self._forms.get(tuple(words[begin : begin + length]))
                if form is not None:
                    found[form] = None
                    step = length
                    break
            begin += step
        return list(found)

    def _openset(self, text: str) -> str:
        return join_labels(self.words(text))

    def _sentiment(self, text: str) -> str:
        groups = (self.tables.project(word, _WHEEL) for word in self.words(text))
        balance = sum(_SENTIMENT.get(group or "", 0) for group in groups)
        return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"

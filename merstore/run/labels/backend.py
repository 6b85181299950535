"""Who is asked: what all that answer messages have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from merstore.extract.reading import Refusal
from merstore.run.decoding import Decoding
from merstore.run.labels.prompts import PROMPTS, render

NO_ANSWER, SAID_NOTHING = "no_answer", "the model returned nothing"


class Backend(ABC):
    """Something that answers messages. ``name``: of the model, as it may stand in a view's path;
    ``batch``: how many messages it takes at a time.
    """

    name: str
    batch: int

    @abstractmethod
    def spec(self, task: str) -> dict[str, Any]:
        """All that decides about an answer besides the message, as JSON values."""

    @abstractmethod
    def message(self, task: str, prompt: str = "text", **blanks: str) -> str:
        """What is asked about a text."""

    @abstractmethod
    def answer(self, task: str, messages: Sequence[str]) -> Iterable[str | Refusal]:
        """An answer, or the reason why there is none, for each of up to ``batch`` messages.

        Raises MerstoreError where no message can be answered at all.
        """


class LanguageModel(Backend):
    """A backend that is asked by prompt."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding

    @abstractmethod
    def model(self) -> dict[str, Any]:
        """Which model it is, as JSON values."""

    def spec(self, task: str) -> dict[str, Any]:
        return {**self.model(), "decoding": asdict(self.decoding), "prompts": PROMPTS[task]}

    def message(self, task: str, prompt: str = "text", **blanks: str) -> str:
        return render(PROMPTS[task][prompt], **blanks)

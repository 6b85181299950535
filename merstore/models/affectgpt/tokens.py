"""AffectGPT's tokens: placeholders, where an answer ends, and what of an output is the answer."""

import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from merstore.errors import EncoderError, MerstoreError
from merstore.extract.models import first_line, quiet

PLACEHOLDERS = {
    "image": "<ImageHere>",
    "audio": "<AudioHere>",
    "frame": "<FrameHere>",
    "face": "<FaceHere>",
    "multi": "<MultiHere>",
    "au": "<AUHere>",
}
"""By modality, in the order in which they are added, which decides about their ids."""

# What may be cut of a prompt that is too long, and in which order: what AffectGPT, which keeps a
# prompt's end, loses first. The placeholders and the question are never cut.
_CUTTABLE = ("Nonverbal", "Subtitle")

_BOS = "<|im_start|>"  # which Qwen2.5 has and does not name as such
_ENDING = "###"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt in tokens: ``ids``, the modalities that have ``places`` in them, and the text that
    was ``cut`` because the prompt was too long ("" if nothing was).
    """

    ids: tuple[int, ...]
    places: frozenset[str]
    cut: str = ""


class Tokens:
    """A language model's tokenizer, with AffectGPT's placeholders added to it.

    `queries`: placeholders by modality, as `Config.queries` has them. `au`: with a placeholder of
    action unit features. The tokenizer given is changed.

    ``places``: the placeholders' ids by modality. ``pad`` is the end-of-sequence token, as
    AffectGPT has it. ``stops``: token sequences that end an answer.

    Raises MerstoreError for a tokenizer without an end-of-sequence token.
    """

    def __init__(self, tokenizer: Any, queries: Mapping[str, int], *, au: bool = False) -> None:
        if tokenizer.eos_token is None:
            raise MerstoreError(
                "the tokenizer has no eos_token: its tokenizer_config.json names it"
            )
        self.tokenizer = tokenizer
        self.queries = dict(queries)
        if _BOS in tokenizer.get_vocab():
            tokenizer.bos_token = _BOS
        tokenizer.pad_token = tokenizer.eos_token
        added = {name: text for name, text in PLACEHOLDERS.items() if au or name != "au"}
        tokenizer.add_tokens(list(added.values()), special_tokens=True)
        ids = tokenizer.convert_tokens_to_ids(list(added.values()))
        self.places: dict[str, int] = dict(zip(added, ids, strict=True))
        self.eos: int = tokenizer.eos_token_id
        self.pad = self.eos
        self.stops = self._stops()
        self._placeholder = re.compile("|".join(added.values()))
        self._modality = {text: name for name, text in added.items()}

    @classmethod
    def from_folder(
        cls, folder: str | Path, queries: Mapping[str, int], *, au: bool = False
    ) -> Self:
        """Those of a language model's folder. Raises EncoderError where it has no tokenizer."""
        import transformers

        try:
            with quiet():
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except Exception as error:  # whatever a damaged file makes tokenizers raise
            raise EncoderError(
                f"{folder}: no tokenizer can be loaded from it: {first_line(error)}; copy "
                "tokenizer.json and tokenizer_config.json of the language model there"
            ) from error
        return cls(tokenizer, queries, au=au)

    def encode(self, prompt: str, limit: int | None = None) -> Encoded:
        """A prompt's tokens, its placeholders repeated as often as there are vectors.

        With more than `limit` of them, the beginning of the nonverbal clues is cut, then that of
        the subtitle.

        Raises MerstoreError where a modality has its placeholder twice, and where the prompt is
        still too long without these texts.
        """
        found = self._placeholder.findall(prompt)
        if twice := sorted({text for text in found if found.count(text) > 1}):
            raise MerstoreError(
                f"{twice[0]} stands more than once in the prompt: is it in the subtitle? "
                f"Prompt: {_shown(prompt)}"
            )
        ids = self._ids(prompt)
        cut = []
        if limit is not None:
            for tag in _CUTTABLE:
                if len(ids) > limit:
                    prompt, ids, gone = self._shortened(prompt, tag, limit)
                    cut.append(gone)
            if len(ids) > limit:
                raise MerstoreError(
                    f"the prompt has {len(ids)} tokens without its subtitle and clues, and {limit} "
                    f"are left for it: shorten the question. Prompt: {_shown(prompt)}"
                )
        places = frozenset(self._modality[text] for text in found)
        return Encoded(tuple(ids), places, " ".join(filter(None, cut)))

    def batch(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """``ids [B, L]``, padded on the left, and the attention mask: int64 both."""
        length = max(map(len, prompts))
        ids = torch.full((len(prompts), length), self.pad)
        for row, prompt in zip(ids, prompts, strict=True):
            row[length - len(prompt) :] = torch.tensor(prompt, dtype=torch.int64)
        return ids, (ids != self.pad).long()

    def ended(self, ids: Sequence[int], also: Collection[int] = ()) -> int | None:
        """How many of the tokens of an output make up an answer, its ending included; None if it
        does not end. `also`: tokens that end it too, each by itself.
        """
        for end in range(1, len(ids) + 1):
            if ids[end - 1] in also or any(
                tuple(ids[max(0, end - len(stop)) : end]) == stop for stop in self.stops
            ):
                return end
        return None

    def answer(self, ids: Sequence[int]) -> str:
        """The answer that an output's tokens hold: without endings, and what the model says of
        itself.
        """
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        if (bos := self.tokenizer.bos_token) and bos in text:
            text = text.split(bos, 1)[1]
        text = text.split(self.tokenizer.eos_token, 1)[0]
        text = text.rsplit(_ENDING, 1)[0]
        return text.rsplit("Assistant:", 1)[-1].strip()

    def _ids(self, prompt: str) -> list[int]:
        repeated = self._placeholder.sub(
            lambda match: match[0] * self.queries[self._modality[match[0]]], prompt
        )
        ids: list[int] = self.tokenizer(repeated, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _shortened(self, prompt: str, tag: str, limit: int) -> tuple[str, list[int], str]:
        """The prompt without as much of the beginning of a tag's text as it takes; its tokens; what
        is gone.
        """
        match = re.search(f"<{tag}>(.*)</{tag}>", prompt, re.DOTALL)
        if match is None:
            return prompt, self._ids(prompt), ""
        before, text, after = prompt[: match.start(1)], match[1], prompt[match.end(1) :]

        def fits(gone: int) -> bool:
            return len(self._ids(before + text[gone:] + after)) <= limit

        gone = min(bisect_left(range(len(text) + 1), True, key=fits), len(text))
        prompt = before + text[gone:] + after
        return prompt, self._ids(prompt), text[:gone]

    def _stops(self) -> tuple[tuple[int, ...], ...]:
        """The end of the sequence, ``###``, and this in two tokens, as either can be written."""
        one = self._ids_of("###")[0]
        # Within a word, a tokenizer has other tokens than at its beginning.
        two, single = self._ids_of("a##"), self._ids_of("a#")
        stops: list[tuple[int, ...]] = [(self.eos,), (one,)]
        if len(two) > 1 and len(single) > 1:
            stops += [(two[1], single[1]), (single[1], two[1])]
        return tuple(stops)

    def _ids_of(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids


def _shown(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 200 else f"{prompt[:120]} … {prompt[-70:]}")

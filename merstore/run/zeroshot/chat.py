"""How a model is spoken to: its tokenizer, and the chat template that its folder brings along."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from merstore.errors import EncoderError
from merstore.extract.models import ModelFolder, first_line, quiet

_FILE = "chat_template.jinja"


def load_tokenizer(folder: ModelFolder) -> Any:
    """The tokenizer of a model's folder. Raises EncoderError."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder.path)
    except Exception as error:  # whatever a damaged file makes transformers raise
        reason = first_line(error)
        raise EncoderError(f"{folder.path}: its tokenizer cannot be loaded: {reason}") from error


def template_of(folder: ModelFolder, tokenizer: Any) -> str | None:
    """The processor's chat template, wherever a version of transformers has put it, or else the
    tokenizer's. Raises EncoderError for one that cannot be read.
    """
    found = folder.json("processor_config.json").get("chat_template")
    found = found or folder.json("chat_template.json").get("chat_template")
    path = folder.path / _FILE
    if not found and path.is_file():
        try:
            found = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise EncoderError(f"{path} cannot be read: {first_line(error)}") from error
    found = found or tokenizer.chat_template
    if isinstance(found, Mapping):  # several, by their uses
        found = found.get("default")
    if found is not None and not isinstance(found, str):
        raise EncoderError(f"{folder.path}: its chat template is no text: take {_FILE} anew")
    return found or None


def rendered(
    tokenizer: Any, template: str, prompt: str, parts: Sequence[Mapping[str, Any]], name: str
) -> str:
    """A question behind the `parts` that are shown, such as ``{"type": "video"}``, up to where the
    answer begins; `name` is the model's. Raises EncoderError.
    """
    try:
        made: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}],
            chat_template=template,
            add_generation_prompt=True,
            tokenize=False,
        )
    except Exception as error:  # whatever a template makes Jinja raise
        raise EncoderError(f"{name}: its chat template fails: {first_line(error)}") from error
    return made


def harmless(text: str, tokenizer: Any, *reserved: str) -> str:
    """A text in which nothing acts as one of the tokenizer's special tokens, or as the `reserved`
    ones: a blank is put behind the first character of whatever is spelled like them (``< video>``).
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | {*reserved}
    longest_first = sorted((each for each in special if len(each) > 1), key=len, reverse=True)
    if not longest_first:
        return text
    pattern = "|".join(map(re.escape, longest_first))
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text)


def begun(tokenizer: Any, text: str) -> bool:
    """Whether a prompt has the token that texts begin with already, from its template; where it has
    not, the tokenizer is to set it.
    """
    return bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)


def tokens(tokenizer: Any, text: str) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask``, int64 [1, N], of a prompt."""
    made = tokenizer(text, add_special_tokens=not begun(tokenizer, text), return_tensors="pt")
    return {key: made[key] for key in ("input_ids", "attention_mask")}

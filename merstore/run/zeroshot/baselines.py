"""The zero-shot baselines that are known by name: what each sees and hears, and how it answers.

``baselines.toml`` declares them: the ten that OV-MER and MER2025 publish, exactly as their runners
have it, and models native in transformers, with choices of ours.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from merstore.errors import InvalidKey
from merstore.run.decoding import Decoding

_TABLE = Path(__file__).with_name("baselines.toml")


@dataclass(frozen=True)
class Sound:
    """What is heard of a sample: mono at ``rate`` Hz, the first ``seconds`` (None: all), of the
    first channel or the mean of all.
    """

    rate: int
    seconds: float | None = None
    channel: Literal["first", "mean"] = "mean"


@dataclass(frozen=True)
class Baseline:
    """What is known of a baseline.

    ``needs``: what it goes by, ``"video"`` or ``"audio"``; one of ``"video"`` with a ``sound`` hears
    the clip too. ``frames``: the policy (`policies.indices`) by which frames are taken; None where
    it sees none. ``sound``: None where it hears none, or takes the file as it is.
    ``purpose``, ``subtitle``, ``separator``: its prompt's (`prompts.prompt`).
    ``options``: the options of generation, as published, by the names of transformers: an adapter
    gets them as they are. ``decoding``: what of them merstore's own generation applies.
    ``cut``: endings that are taken off an answer.
    ``weights``: what the published code loads, or the model's id on the hub.
    ``family``: its model type in transformers; None: it runs by code of its own (`foreign`).
    ``environment``: the versions that it is published for.
    ``published``: whether all this is as published, or our choice.
    """

    name: str
    title: str
    needs: Literal["video", "audio"]
    purpose: str
    subtitle: Literal["before", "behind", "none"]
    separator: str = ""
    frames: str | None = None
    sound: Sound | None = None
    decoding: Decoding = field(default_factory=Decoding)
    options: Mapping[str, Any] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    family: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    published: bool = True

    def clean(self, answer: str) -> str:
        """An answer on one line, without the endings that are cut: as the published runners keep it."""
        answer = answer.strip()
        for ending in self.cut:
            answer = answer.removesuffix(ending)
        return answer.replace("\n", " ").replace("\t", " ").strip()


def find(name: str) -> Baseline:
    """The baseline of a name, in any spelling of it (``"Video-ChatGPT"``, ``"videochatgpt"``).

    Raises InvalidKey, which lists them all.
    """
    known = {_spelling(key): found for key, found in _table().items()}
    known |= {_spelling(found.title): found for found in _table().values()}
    wanted = _spelling(name)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, 1)
        hint = f" (near: {known[near[0]].name})" if near else ""
        raise InvalidKey(f"no baseline {name!r}{hint}; there is {', '.join(names())}")
    return known[wanted]


def names() -> list[str]:
    """All of them, the published ones first."""
    return list(_table())


@cache
def _table() -> Mapping[str, Baseline]:
    with _TABLE.open("rb") as file:
        declared = tomllib.load(file)
    return MappingProxyType({name: _made(name, row) for name, row in declared.items()})


def _made(name: str, row: dict[str, Any]) -> Baseline:
    options = row.pop("generation", {})
    sound = row.pop("sound", None)
    return Baseline(
        name,
        **row
        | {
            "sound": Sound(**sound) if sound else None,
            "decoding": _decoding(options),
            "options": MappingProxyType(options),
            "environment": MappingProxyType(row.get("environment", {})),
            "cut": tuple(row.get("cut", ())),
            "weights": tuple(row.get("weights", ())),
        },
    )


def _decoding(options: Mapping[str, Any]) -> Decoding:
    """What of published options can be applied here: without ``do_sample`` nothing is drawn."""
    told = {key: options[key] for key in ("repetition_penalty", "seed") if key in options}
    if options.get("do_sample"):
        told["temperature"] = options.get("temperature", 1.0)
        told["top_p"] = options.get("top_p", 1.0)
    # Where the prompt is given as vectors, as by SALMONN, max_length counts the answer alone.
    most = options.get("max_new_tokens", options.get("max_length"))
    return Decoding(**told | ({"max_tokens": most} if most else {}))


def _spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.casefold())

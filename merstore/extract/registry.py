"""The encoders that are known by name, and the way from a view's name to the recipe that makes it.

``encoders.toml`` declares those that MERTools and AffectGPT name. A package adds its own by entry
points of the group ``merstore.encoders``: the entry's name is the encoder's, its object a factory
that is called as `create` of our recipe classes is::

    create(name, sampling, *, profile, weights, device, **options) -> Recipe

It is imported when its encoder is asked for. A name of ours stays ours.
"""

import difflib
import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from merstore.errors import EncoderError, InvalidKey, MerstoreError
from merstore.extract import rules

if TYPE_CHECKING:
    from merstore.extract.recipes import Recipe

GROUP = "merstore.encoders"
PROFILES = ("clean", "affectgpt", "mertools")

SAMPLINGS: dict[str, tuple[str, ...]] = {
    "frame": rules.PATTERNS,
    "face": ("{n}frms", *rules.LEVELS),
    "audio": ("{n}clips", *rules.LEVELS),
    "au": ("8frms",),
    "text": rules.LEVELS,
}
"""Modality -> how its views are sampled, ``{n}`` being any number."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "audio": ("noisesnr5", "noisesnr10", "noisesnr15", "noisesnrmix", "ttschi", "ttseng"),
    "text": ("punccase1", "punccase2", "punccase3", "langeng", "4"),
}
"""Modality -> MERTools' marks of another input (noisy, spoken by a machine, without punctuation, in
English), or of the last four layers (``4``), at the end of an encoder's name."""

_RECIPES = {  # modality -> what makes its recipes
    "frame": "merstore.extract.frame_features:FrameFeatures.create",
    "face": "merstore.extract.face_features:FaceFeatures.create",
    "audio": "merstore.extract.audio_features:AudioFeatures.create",
    "au": "merstore.extract.au_features:AuFeatures.create",
    "text": "merstore.extract.text_features:TextFeatures.create",
}
_HANDCRAFTED = "merstore.extract.handcrafted:Handcrafted.create"
_LIBRARIES: dict[str, tuple[tuple[str, ...], str]] = {  # of handcrafted families, and the extra
    "opensmile": (("opensmile",), "opensmile"),
    "spectrum": ((), ""),
}

_TABLE = Path(__file__).with_name("encoders.toml")
_VISUAL = ("frame", "face")  # an encoder of the one serves for the other
_PRETRAIN = "pretrain-"
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_TAIL = re.compile(rf"({_SEGMENT})@({_SEGMENT})/({_SEGMENT})")
_IMPORT = "merstore takes its published .npy files as they are (merstore import)"


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder.

    ``modality``: of its views where it comes from; None if only its package knows.
    ``origin``: the list in MERTools that has it (``"WHOLE_AUDIO"``, …), ``"MERTools"``,
    ``"AffectGPT"``, or the distribution that brings it.
    ``family``: the model type in transformers, or ``"opensmile"`` or ``"spectrum"``; None if
    merstore has no code for it.
    ``dim``: width of a vector; by level (``"FRA"``, ``"UTT"``) where they differ.
    ``hub``: the id of its weights on the Hugging Face hub.
    ``needs``: a sentence, where it does not run as it is.
    ``unsure``: what of this has not been verified.
    """

    name: str
    modality: str | None
    origin: str
    family: str | None = None
    dim: int | Mapping[str, int] | None = None
    hub: str | None = None
    needs: str | None = None
    unsure: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities that it can be applied to."""
        if self.modality is None:
            return tuple(SAMPLINGS)
        return _VISUAL if self.modality in _VISUAL else (self.modality,)

    @property
    def handcrafted(self) -> bool:
        """Whether it computes without weights."""
        return self.family in _LIBRARIES

    @property
    def missing(self) -> str | None:
        """What keeps it from running here; None if nothing does."""
        if self.needs is not None or self.family is None:
            return self.needs
        wanted, extra = _LIBRARIES.get(self.family, (("torch", "transformers"), "extract"))
        absent = [library for library in wanted if importlib.util.find_spec(library) is None]
        told = f"needs {' and '.join(absent)}: pip install 'merstore[{extra}]'"
        return told if absent else None


def find(name: str) -> Encoder:
    """The encoder of this name, as it stands in a view's path: variants of it are the same encoder.

    Raises InvalidKey with the nearest names.
    """
    known = _built_in(name) or _third_party().get(name)
    if known is None:
        raise InvalidKey(f"{_unknown(name)}; `merstore encoders` lists those there are")
    return known


def encoders(modality: str | None = None) -> list[Encoder]:
    """All encoders that are known, or those that can be applied to `modality`.

    Those of other packages come last; which modality is theirs is not known before they are loaded.
    """
    listed = [*_table().values(), *_third_party().values()]
    return [encoder for encoder in listed if modality is None or modality in encoder.modalities]


def recipe(
    tail: str,
    *,
    profile: str = "clean",
    weights: str | Path | None = None,
    device: str = "auto",
    models: str | Path | None = None,
    **options: Any,
) -> "Recipe":
    """What makes the views whose path ends in `tail`, such as ``frame@CLIP_VIT_LARGE/uniform_8frms``.

    ``weights``: the encoder's folder or hub id. By default it is a folder of the encoder's name, or
    of the last part of its hub id, in the folder `models`, and else the hub id that is declared. An
    encoder that nobody declares can be used where its weights are found so.
    ``options``: what else the recipe class of the modality takes.

    A variant's name (``chinese-hubert-large-noisesnr5``) gets the same recipe under that name: it is
    for whoever names the material to name the noisy one.

    Raises InvalidKey for a name, a modality or a sampling that is not there, and EncoderError for an
    encoder that cannot be had.
    """
    modality, name, sampling = _parts(tail)
    if profile not in PROFILES:
        raise EncoderError(f"no profile {profile!r}; there is {', '.join(PROFILES)}")
    encoder = _built_in(name)
    found = weights if weights is not None else _folder(name, encoder, models)
    if encoder is None and name in _third_party():
        return _from_package(_points()[name], tail, profile, found, device, options)
    if encoder is not None and modality not in encoder.modalities:
        here = " and ".join(encoder.modalities)
        raise InvalidKey(f"{tail!r}: {name} is an encoder of {here}, not of {modality}")
    _check_sampling(modality, sampling)
    if found is None:
        found = _declared(name, encoder, models)
    handcrafted = encoder is not None and encoder.handcrafted
    create = resolve_name(_HANDCRAFTED if handcrafted else _RECIPES[modality])
    made: Recipe = create(name, sampling, profile=profile, weights=found, device=device, **options)
    return made


def recipe_written(
    view: str, weights: Mapping[str, str | Path] | None = None, **settings: Any
) -> "Recipe":
    """The recipe of a view that may be written with options: ``face@X/8frms?detector=centerface``.
    They go before `settings`, which are those of `recipe`. weights: by encoder.

    Raises what `recipe` raises, and InvalidKey for an option that the recipe does not have.
    """
    tail, _, query = view.partition("?")
    encoder = tail.partition("@")[2].partition("/")[0]
    options = {key: option_value(text) for key, text in parse_qsl(query, keep_blank_values=True)}
    try:
        return recipe(tail, **settings | {"weights": (weights or {}).get(encoder)} | options)
    except TypeError as wrong:
        raise InvalidKey(f"{view}: {wrong}") from wrong


def option_value(text: str) -> Any:
    """An option's value: a number, true, false or null, else text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value


# --- names ----------------------------------------------------------------------------------------


@cache
def _table() -> Mapping[str, Encoder]:
    with _TABLE.open("rb") as file:
        declared = tomllib.load(file)
    rows = {}
    for modality, origins in declared.items():
        for origin, named in origins.items():
            for name, row in named.items():
                if "needs" in row:
                    row["needs"] = f"needs {row['needs']}; {_IMPORT}"
                row["aliases"] = tuple(row.get("aliases", ()))
                rows[name] = Encoder(name, modality, origin, **row)
    return MappingProxyType(rows)


@cache
def _spellings() -> Mapping[str, str]:
    """Every name that stands in the table and the one that it is listed under."""
    return {
        spelling: row.name for row in _table().values() for spelling in (row.name, *row.aliases)
    }


def _built_in(name: str) -> Encoder | None:
    if name in _spellings():
        return _table()[_spellings()[name]]
    if name.startswith(_PRETRAIN):
        return replace(_table()[f"{_PRETRAIN}*"], name=name)
    for modality, variants in VARIANTS.items():
        marked = re.fullmatch(rf"(.+)[-_](?:{'|'.join(variants)})", name)
        base = _built_in(marked[1]) if marked else None
        if base is not None and base.modality == modality:
            return base
    return None


def _unknown(name: str) -> str:
    known = {spelling.casefold(): spelling for spelling in (*_spellings(), *_third_party())}
    near = [known[found] for found in difflib.get_close_matches(name.casefold(), known, 3)]
    return f"no encoder {name!r} is known" + (f" (near: {', '.join(near)})" if near else "")


def _parts(tail: str) -> tuple[str, str, str]:
    matched = _TAIL.fullmatch(tail)
    if matched is None:
        raise InvalidKey(
            f"{tail!r} says no view: write modality@encoder/sampling, without the dataset, for "
            "example frame@CLIP_VIT_LARGE/uniform_8frms"
        )
    modality, name, sampling = matched.groups()
    if modality not in SAMPLINGS:
        raise InvalidKey(f"{tail!r}: no modality {modality!r}; there is {', '.join(SAMPLINGS)}")
    return modality, name, sampling


def _check_sampling(modality: str, sampling: str) -> None:
    known = SAMPLINGS[modality]
    if not any(re.fullmatch(like.replace("{n}", r"[1-9]\d*"), sampling) for like in known):
        raise InvalidKey(f"no sampling {sampling!r} of {modality}; there is {', '.join(known)}")


# --- weights --------------------------------------------------------------------------------------


def _folder(name: str, encoder: Encoder | None, models: str | Path | None) -> Path | None:
    """The folder in `models` that holds the encoder's weights."""
    if models is None:
        return None
    if not Path(models).is_dir():
        raise EncoderError(f"{models}: no such folder of models")
    names = [name]
    if encoder is not None:
        names += [encoder.name, *([encoder.hub.rpartition("/")[2]] if encoder.hub else [])]
    return next((Path(models) / each for each in names if (Path(models) / each).is_dir()), None)


def _declared(name: str, encoder: Encoder | None, models: str | Path | None) -> str | None:
    if encoder is None:
        there = f", or put its folder into {models}" if models is not None else ""
        raise InvalidKey(f"{_unknown(name)}: give its weights, a folder or a hub id{there}")
    if encoder.needs is not None:
        raise EncoderError(f"{name} {encoder.needs}")
    return encoder.hub


# --- other packages -------------------------------------------------------------------------------


def _points() -> dict[str, EntryPoint]:
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        points.setdefault(point.name, point)  # the first on the path, as for any module
    return points


def _third_party() -> dict[str, Encoder]:
    return {
        name: Encoder(name, None, _distribution(point))
        for name, point in _points().items()
        if _built_in(name) is None
    }


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _from_package(
    point: EntryPoint,
    tail: str,
    profile: str,
    weights: str | Path | None,
    device: str,
    options: dict[str, Any],
) -> "Recipe":
    where = f"encoder {point.name!r} of {_distribution(point)} ({point.value})"
    _, name, sampling = _parts(tail)
    try:
        create = point.load()
        made: Recipe = create(
            name, sampling, profile=profile, weights=weights, device=device, **options
        )
        gives = f"{made.modality}@{made.encoder_name}/{made.sampling}"
    except MerstoreError:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise EncoderError(f"{where} cannot be had: {told}") from error
    if gives != tail:
        raise EncoderError(f"{where} gives {gives}, not {tail}")
    return made

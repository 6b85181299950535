"""Templates: which features an answer is made of, and where they come from, as small YAML files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from merstore.errors import InvalidKey, MerstoreError
from merstore.interop.affectgpt_config import MODES
from merstore.store import legacy

From = Literal["store", "media"]

_FOLDER = Path(__file__).with_name("templates")
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
"""Those that come with merstore."""

_KEYS = ("mode", "profile", "features")
_VIEWS_OF = {"image": ("frame", "image")}  # a picture is a frame too


@dataclass(frozen=True)
class Wanted:
    """One modality's features: ``view`` is the end of the view's path, such as
    ``face@CLIP_VIT_LARGE/8frms``; ``options`` are the recipe's (``detector=centerface``).
    ``source``: ``"store"``, where what is missing is computed and kept if there is something to
    compute it from; ``"media"``: computed in the run whatever the store has, once for all
    checkpoints, and not kept.
    """

    view: str
    source: From
    options: str = ""

    @property
    def asked(self) -> str:
        """The view with its options, as a recipe is asked for."""
        return f"{self.view}?{self.options}" if self.options else self.view


@dataclass(frozen=True)
class Template:
    """``mode``: `face_or_frame`, where nobody says another. ``profile``: of what is computed.
    ``features``: by modality; a mode takes those that it needs.
    """

    mode: str
    profile: str
    features: Mapping[str, Wanted]

    def needed(self, mode: str, au_features: bool = False) -> dict[str, Wanted]:
        """The features that a mode needs. Raises MerstoreError where the template lacks one."""
        if mode not in MODES:
            raise MerstoreError(
                f"unknown mode {mode!r} (face_or_frame); there are {', '.join(MODES)}"
            )
        names = [*MODES[mode], *(["au"] if au_features else [])]
        if lacking := [name for name in names if name not in self.features]:
            raise MerstoreError(
                f"mode {mode!r} needs features of {', '.join(lacking)}, and the template has "
                f"{', '.join(self.features) or 'none'}: add features.{lacking[0]} with its view"
            )
        return {name: self.features[name] for name in names}

    def changed(self, views: Mapping[str, str]) -> "Template":
        """With other views (ends of paths, or legacy folder names) of some modalities."""
        features = dict(self.features)
        for name, view in views.items():
            source = features[name].source if name in features else "store"
            features[name] = _wanted(view, source, name, "the view given")
        return replace(self, features=features)


def read_template(name: str | Path) -> Template:
    """One of `NAMES`, or a YAML file like those. Raises MerstoreError, InvalidKey."""
    path = _FOLDER / f"{name}.yaml" if str(name) in NAMES else Path(name)
    given = read_yaml(path)
    if strange := [key for key in given if key not in _KEYS]:
        raise InvalidKey(f"{path}: {strange[0]}: no such key; there are {', '.join(_KEYS)}")
    features = given.get("features", {})
    if not isinstance(features, Mapping) or not all(
        isinstance(v, Mapping) for v in features.values()
    ):
        raise InvalidKey(
            f"{path}: features: a view and where it is from is wanted for each modality"
        )
    wanted = {}
    for modality, row in features.items():
        at = f"{path}: features.{modality}"
        if set(row) != {"view", "from"} or row["from"] not in ("store", "media"):
            raise InvalidKey(
                f"{at}: write {{view: MODALITY@ENCODER/SAMPLING, from: store or media}}"
            )
        wanted[str(modality)] = _wanted(str(row["view"]), cast(From, row["from"]), modality, at)
    return Template(str(given.get("mode")), str(given.get("profile", "affectgpt")), wanted)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises MerstoreError."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise MerstoreError(
            "configurations are YAML files: pip install 'merstore[corpora]'"
        ) from None
    try:
        given = yaml.safe_load(path.read_bytes())
    except OSError as error:
        known = f"; templates of merstore are {', '.join(NAMES)}" if path.suffix == "" else ""
        raise MerstoreError(f"{path}: {error.strerror}: name a YAML file{known}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MerstoreError(f"{path}: no readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise MerstoreError(f"{path}: a mapping of keys is wanted")
    return given


def _wanted(view: str, source: From, modality: str, at: str) -> Wanted:
    tail, _, options = view.partition("?")
    tail = tail if "@" in tail else legacy.view_tail(tail)
    if tail.partition("@")[0] not in _VIEWS_OF.get(modality, (modality,)):
        raise InvalidKey(f"{at}: {view!r} is no view of the modality {modality}")
    return Wanted(tail, source, options)

"""Which hyper-parameters are tried: MERTools' lists (notes on MERTools 4.2-4.5), drawn from or gone
through.
"""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from merstore.errors import InvalidKey, MerstoreError

Number = float | int
Lists = Mapping[str, Sequence[Number]]

_HIDDEN = (64, 128, 256)
_DROPOUT = (0.2, 0.3, 0.4, 0.5)
_LESS = (0.0, 0.1, 0.2, 0.3)
_WEIGHTS = (0.0, 0.1, 0.2)
_RATES = (1e-3, 1e-4)
_NO_CLIP = (-1.0,)

LISTS: dict[str, Lists] = {
    "attention": {
        "hidden_dim": _HIDDEN,
        "dropout": _DROPOUT,
        "grad_clip": _NO_CLIP,
        "lr": _RATES,
    },
    "lmf": {
        "hidden_dim": (32, *_HIDDEN),
        "dropout": _DROPOUT,
        "rank": (3, 4, 5, 6),
        "grad_clip": _NO_CLIP,
        "lr": _RATES,
    },
    "tfn": {
        "hidden_dim": (64, 128),
        "dropout": _DROPOUT,
        "grad_clip": _NO_CLIP,
        "lr": _RATES,
    },
    "misa": {
        "hidden_dim": _HIDDEN,
        "dropout": _DROPOUT,
        "sim_weight": _WEIGHTS,
        "diff_weight": _WEIGHTS,
        "recon_weight": _WEIGHTS,
        "grad_clip": (-1.0, 0.8, 1.0),
        "lr": _RATES,
    },
    "mmim": {
        "hidden_dim": _HIDDEN,
        "dropout": _LESS,
        "cpc_layers": (1, 2, 3, 4),
        "alpha": _WEIGHTS,
        "beta": _WEIGHTS,
        "grad_clip": (0.6, 0.8, 1.0),
        "lr": _RATES,
    },
}
LISTS["attention_topn"] = LISTS["lf_dnn"] = LISTS["attention"]


def lists(model: str, given: Mapping[str, Number], path: Path | None = None) -> dict[str, Any]:
    """The values to choose from for each hyper-parameter of a model: MERTools' lists, those of a
    YAML file (``{model: {name: value or list}}``, or without the model), one value where it is given.

    Raises InvalidKey for a name that the model does not have.
    """
    found: dict[str, Any] = dict(LISTS[model])
    for origin, more in (("hyper-parameters", given), (str(path), _read(path, model))):
        unknown = sorted(set(more) - set(found))
        if unknown:
            raise InvalidKey(
                f"{origin}: {model} has no {', '.join(unknown)} (it has: {', '.join(found)})"
            )
    for name, value in {**_read(path, model), **given}.items():
        each = value if isinstance(value, Sequence) else [value]
        if not each or not all(type(one) in (int, float) for one in each):
            raise InvalidKey(f"{model}: {name} is a number or a list of numbers, not {value!r}")
        found[name] = tuple(each)
    return found


def draw(choices: Lists, trials: int, seed: int) -> list[dict[str, Number]]:
    """So many trials, each value drawn uniformly and by itself, by Python's ``random.Random(seed)``."""
    source = random.Random(seed)
    return [
        {name: source.choice(list(values)) for name, values in choices.items()}
        for _ in range(trials)
    ]


def grid(choices: Lists) -> list[dict[str, Number]]:
    """Every combination."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def _read(path: str | os.PathLike[str] | None, model: str) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        import yaml
    except ModuleNotFoundError:
        raise MerstoreError(
            "hyper-parameters come in a YAML file: pip install 'merstore[corpora]'"
        ) from None
    try:
        found = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: name a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise MerstoreError(f"{path}: no readable YAML: {' '.join(str(error).split())}") from None
    if isinstance(found, dict):
        found = found.get(model, found)
    if not isinstance(found, dict):
        raise MerstoreError(
            f"{path}: a mapping of hyper-parameters is wanted, of {model}'s or alone"
        )
    return found

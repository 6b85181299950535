"""AffectGPT's checkpoints: read without running anything, checked key by key, written alike.

A checkpoint is a dict: ``model`` (the state dict of what is trained), ``optimizer``, ``config``
(the whole YAML), ``scaler`` and ``epoch``.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merstore.atomic import replacing
from merstore.errors import MerstoreError
from merstore.extract.models import first_line
from merstore.models.affectgpt.config import Config
from merstore.models.affectgpt.model import DEFAULT_LLM, AffectGPT, load_llm

_LORA = re.compile(r".*\.lora_[AB]\.default\.weight")
_LAYER = re.compile(r"(.*?\.layers?\.)(\d+)(\..*)")


@dataclass(frozen=True)
class Checkpoint:
    """A file's content: ``state`` by parameter name, ``config`` as YAML has it, ``epoch``."""

    path: Path
    state: Mapping[str, Tensor]
    config: Mapping[str, Any]
    epoch: int | None

    @property
    def has_au(self) -> bool:
        """Whether it was trained with an action unit modality."""
        return any(name.startswith("au_") for name in self.state)

    @property
    def modes(self) -> dict[str, str]:
        """``face_or_frame`` of each dataset that it was trained on."""
        datasets = self.config.get("datasets")
        sections = datasets.items() if isinstance(datasets, Mapping) else ()
        return {
            name: str(section["face_or_frame"])
            for name, section in sections
            if isinstance(section, Mapping) and "face_or_frame" in section
        }


@dataclass(frozen=True)
class Report:
    """What came of loading: ``loaded`` keys; of the model's, ``missing`` in the files; of the
    files', ``unexpected`` by the model; ``mismatched``, with both shapes; and ``unused``, which
    the model lacks and does not miss (an action unit modality).
    """

    paths: tuple[Path, ...]
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unused: tuple[str, ...]
    parameters: int

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Every key, those of all layers in one line."""
        lines = [
            f"{', '.join(map(str, self.paths))}: {len(self.loaded)} tensors, "
            f"{self.parameters:,} parameters"
        ]
        for what, keys in (
            ("missing in it", self.missing),
            ("not in the model", self.unexpected),
            ("not used", self.unused),
        ):
            if keys:
                lines += _told(f"{len(keys)} {what}", [(key, "") for key in keys])
        if self.mismatched:
            shapes = [
                (key, f" is {list(found)}, and {list(wanted)} in the model")
                for key, found, wanted in self.mismatched
            ]
            lines += _told(f"{len(shapes)} of another shape", shapes)
        return "\n".join(lines)


def read(path: str | Path) -> Checkpoint:
    """A checkpoint's content; of the optimizer's state, nothing is brought into memory.

    Raises MerstoreError for a file that cannot be read, for one that would run code (only weights
    are read), and for one that is no checkpoint of AffectGPT.
    """
    path = Path(path)
    content = _content(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        what = f"keys {', '.join(map(str, content))}" if isinstance(content, dict) else "no dict"
        raise MerstoreError(
            f"{path}: no checkpoint of AffectGPT, which has its weights under 'model' ({what[:200]})"
        )
    if odd := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise MerstoreError(f"{path}: {odd[0]} is no tensor: no checkpoint of AffectGPT")
    config, epoch = content.get("config"), content.get("epoch")
    return Checkpoint(
        path,
        state,
        config if isinstance(config, dict) else {},
        epoch if isinstance(epoch, int) else None,
    )


def load(
    model: AffectGPT,
    checkpoints: str | Path | Checkpoint | Sequence[str | Path | Checkpoint],
    *,
    strict: bool = True,
) -> Report:
    """Puts checkpoints into a model, later ones over earlier ones, and says what fitted.

    `strict`: an error, before anything is changed, where a trained or fused parameter is missing,
    another shape is found, or a key has no place in the model. Keys of an action unit modality that
    the model lacks are only reported; so are missing adapters where the language model was frozen,
    since new ones change nothing. Otherwise what fits is loaded.

    Raises MerstoreError, and as `read` does.
    """
    given = [checkpoints] if isinstance(checkpoints, str | Path | Checkpoint) else checkpoints
    files = [one if isinstance(one, Checkpoint) else read(one) for one in given]
    state: dict[str, Tensor] = {}
    for file in files:
        state |= file.state
    places = _places(model)
    report = _compared(tuple(file.path for file in files), state, places, model.config)
    if strict and not report.complete:
        raise MerstoreError(
            f"the checkpoint does not fit the model.\n{report}\n{_widths(report)}It was trained with "
            "another configuration or language model: name its own, give all of the files that belong "
            "together, or load with strict=False"
        )
    with torch.no_grad():
        for key in report.loaded:
            places[key].copy_(state[key])
    return report


def open_model(
    checkpoints: str | Path | Sequence[str | Path],
    llm: Any = DEFAULT_LLM,
    *,
    device: str = "auto",
    dtype: str = "auto",
    single_frame_bypass: bool = False,
) -> tuple[AffectGPT, Report]:
    """The model that checkpoints were trained as, with their weights: the last one's configuration
    decides, with the stack of files in the order in which they go over each other.

    `llm`: a folder, hub id, or a loaded language model; `device` and `dtype` as for `load_llm`.

    Raises MerstoreError as `load` does, and where no file has a configuration.
    """
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)
    files = [read(path) for path in paths]
    if not files:
        raise MerstoreError("no checkpoint given")
    config = config_of(files, single_frame_bypass=single_frame_bypass)
    if isinstance(llm, str | Path):
        llm = load_llm(llm, device, dtype)
    model = AffectGPT(llm, config)
    report = load(model, files)
    return model.to(model.device).eval(), report


def config_of(checkpoints: Sequence[Checkpoint], **changes: Any) -> Config:
    """The configuration of a stack of checkpoints, of which the last one's counts; `changes` are
    fields that are as given. Raises MerstoreError where it has none.
    """
    section = checkpoints[-1].config.get("model")
    if not isinstance(section, Mapping):
        raise MerstoreError(
            f"{checkpoints[-1].path}: it has no config.model, which says what the model is made of: "
            "build the model by a configuration of your own and use `load`"
        )
    au = any(file.has_au for file in checkpoints)
    try:
        return Config.from_yaml(section, au=au, **changes)
    except MerstoreError as error:
        raise MerstoreError(f"{checkpoints[-1].path}: {error}") from error


def save(
    path: str | Path,
    model: AffectGPT,
    *,
    epoch: int,
    config: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    scaler: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a checkpoint in AffectGPT's format; a file of that name is replaced at once or not.

    `config`: the whole YAML; None: the model's own ``model`` section. `optimizer`, `scaler`: state
    dicts.

    Raises MerstoreError for a configuration that could not be read back, and where nothing can be
    written.
    """
    path = Path(path)
    config = {"model": model.config.to_yaml()} if config is None else dict(config)
    if odd := _odd(config):
        raise MerstoreError(f"config.{odd}: only text, numbers, lists and dicts can be saved")
    content = {
        "model": model.trained_state(),
        "optimizer": optimizer,
        "config": config,
        "scaler": scaler,
        "epoch": epoch,
    }
    replace(path, content)
    return path


def replace(path: Path, content: Any) -> None:
    """Write what torch.save takes. A file that is there is replaced at once or not at all.

    Raises MerstoreError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True) as file:
            torch.save(content, file)
    except OSError as error:
        raise MerstoreError(f"{path} cannot be written: {error.strerror or error}") from error


def file_name(epoch: int, loss: float) -> str:
    """``checkpoint_000030_loss_0.602.pth``."""
    return f"checkpoint_{epoch:06d}_loss_{loss:.3f}.pth"


def _content(path: Path) -> Any:
    if path.is_dir():
        raise MerstoreError(f"{path} is a folder: name a checkpoint in it")
    try:
        # A mapped file costs memory only for what is used; the old format cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():  # of a pickle of another version, which is refused anyway
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise MerstoreError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        # torch's own message says how to run the code all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise MerstoreError(
            f"{path}: refused: it holds other things than weights"
            f"{f', such as {named[1]},' if named else ''} which could run code when they are read, or "
            "is damaged"
        ) from error
    except Exception as error:  # whatever a damaged file makes torch raise
        raise MerstoreError(f"{path} cannot be read: {first_line(error)}") from error


def _places(model: AffectGPT) -> dict[str, Tensor]:
    """Everything that a checkpoint may hold, by key: what is not the language model's own."""
    everything: Iterable[tuple[str, Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    return {
        name: value
        for name, value in everything
        if not name.startswith("llama_model.") or _LORA.fullmatch(name)
    }


def _compared(
    paths: tuple[Path, ...],
    state: Mapping[str, Tensor],
    places: Mapping[str, Tensor],
    config: Config,
) -> Report:
    def missed(key: str) -> bool:
        if _LORA.fullmatch(key) and "frozen_llm" in config.frozen:
            return False
        return places[key].is_floating_point()  # a buffer of position numbers is what it is

    unknown = [key for key in state if key not in places]
    unused = [key for key in unknown if key.startswith("au_") and config.au_fusion is None]
    mismatched = [
        (key, tuple(value.shape), tuple(places[key].shape))
        for key, value in state.items()
        if key in places and value.shape != places[key].shape
    ]
    wrong = {key for key, _, _ in mismatched}
    loaded = [key for key in state if key in places and key not in wrong]
    return Report(
        paths,
        tuple(loaded),
        tuple(key for key in places if key not in state and missed(key)),
        tuple(key for key in unknown if key not in unused),
        tuple(mismatched),
        tuple(unused),
        sum(state[key].numel() for key in loaded if state[key].is_floating_point()),
    )


def _widths(report: Report) -> str:
    """A sentence where the language model is of another width."""
    for key, found, wanted in report.mismatched:
        if (
            key.endswith("_proj.weight")
            and "." not in key[: -len(".weight")]
            and found[0] != wanted[0]
        ):
            return (
                f"The checkpoint is of a language model that is {found[0]} wide, and this one is "
                f"{wanted[0]} wide. "
            )
    return ""


def _told(what: str, keys: Iterable[tuple[str, str]]) -> list[str]:
    """Lines with all keys and what follows each. Keys that differ in the layer only stand together, as
    ``layers.{0-27}.mlp``.
    """
    layers: dict[tuple[str, str, str], list[int]] = {}
    for key, more in keys:
        found = _LAYER.fullmatch(key)
        before, number, after = found.groups() if found else (key, "-1", "")
        layers.setdefault((before, after, more), []).append(int(number))
    rows = [
        f"{before}{_numbers(numbers) if after else ''}{after}{more}"
        for (before, after, more), numbers in layers.items()
    ]
    return (
        [f"  {what}: {rows[0]}"] if len(rows) == 1 else [f"  {what}:", *(f"    {r}" for r in rows)]
    )


def _numbers(numbers: list[int]) -> str:
    """``7``, or ``{0-27}``, or ``{0-3,5}``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return told if len(numbers) == 1 else f"{{{told}}}"


def _odd(value: Any, at: str = "") -> str:
    """Where in a configuration there is something that weights-only reading refuses; "" nowhere."""
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    else:
        plain = value is None or type(value) in {str, int, float, bool}
        return "" if plain else f"{at} is {value!r}"
    if type(value) not in {dict, list, tuple}:
        return f"{at or 'it'} is {type(value).__name__}"
    for key, inner in pairs:
        if found := _odd(inner, f"{at}.{key}" if at else str(key)):
            return found
    return ""

"""The configuration and the command line of AffectGPT's fork, and what becomes of every key of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import InvalidKey, MerstoreError
from merstore.interop.affectgpt_config import Outcome, settings
from merstore.run import prompts
from merstore.run.inference.templates import Template, Wanted, read_yaml
from merstore.store import legacy
from merstore.store.legacy import dataset_key

ALL = "inferenceData"  # the fork's word for the nine test sets
_UNSET = ("", "xxx", None)
_EPOCH = re.compile(r"checkpoint_(\d{6})[^/]*\.pth\Z")

_MODEL = {  # what the fork does with a key of the model section, and we do not
    "arch": "there is one architecture",
    "model_type": "nothing reads it",
    "ckpt_3": "the checkpoint that is tested stands in its place",
    "skip_encoders": "corrected: an encoder is only loaded when something is to be computed, and what "
    "is needed is computed (the fork fails)",
    "preextracted_visual_dim": "corrected: the checkpoint's weights say (the fork reads it too late)",
    "preextracted_acoustic_dim": "corrected: the checkpoint's weights say (the fork reads it too late)",
    "preextracted_au_dim": "nothing reads it",
    "max_length": "it is of training; a prompt may have 800 tokens at inference",
    "vis_processor": "pictures are processed as their view's recipe says",
    "img_processor": "pictures are processed as their view's recipe says",
    "text_processor": "nothing in the fork applies it",
}
_OF_THE_CHECKPOINT = "the checkpoint's own configuration counts"
_ROOT_KEYS = ("ckpt_root", "ckpt_name", "test_epoch", "test_epochs", "skip_epoch")


@dataclass(frozen=True)
class ForkRun:
    """What a run of the fork would do, done here. ``checkpoints``: a stack of files for each that is
    tested. ``llm``: the configuration's. ``base``: of the exports' names. ``root``: the store that its features are
    read from, as far as any are. ``nonverbal``: the file of
    the clues. ``keys``: every key and its fate.
    """

    datasets: tuple[str, ...]
    template: Template
    question: str
    checkpoints: tuple[tuple[Path, ...], ...]
    llm: str | None
    base: str
    root: str | None
    nonverbal: Path | None
    keys: tuple[Outcome, ...]


def read_fork(
    path: str | Path,
    options: Sequence[str] = (),
    *,
    dataset: str,
    zeroshot: bool = False,
    message: str | None = None,
    face_or_frame: str | None = None,
    models: Sequence[str | Path] = (),
    output: str | Path = "output",
) -> ForkRun:
    """What ``inference_hybird.py --cfg-path PATH --options ... --dataset ...`` asks for.

    dataset: ``inferenceData`` for the nine test sets, or several with commas between, in any
    spelling. zeroshot, message, face_or_frame: as the options of these names. models: checkpoints,
    in place of those that the configuration chooses. output: the folder that has a folder for each
    configuration's checkpoints.

    Raises InvalidKey and MerstoreError for values that are none, and where a checkpoint is not found.
    """
    path = Path(path)
    config = overridden(read_yaml(path), options)
    inference = config.get("inference")
    if not isinstance(inference, Mapping):
        raise InvalidKey(f"{path}: no section 'inference': is it a configuration of AffectGPT?")
    names = datasets_of(dataset)
    sources = settings(config, names[0], section="inference", face_or_frame=face_or_frame)
    if sources.mode is None:
        raise InvalidKey(
            f"{path}: no face_or_frame: datasets.mercaptionplus or datasets.ovmerd has it, or "
            "--outside_face_or_frame"
        )
    if models:
        files = [file for model in models for file in find_checkpoints(model)]
        told = "--model names the checkpoints"
    else:
        root = checkpoint_root(inference, path.stem, Path(output))
        files = chosen(inference, root)
        told = f"chooses {root}/{', '.join(file.name for file in files)}"
    model = _section(config, "model")
    before = tuple(
        Path(str(model[key])) for key in ("ckpt", "ckpt_2") if model.get(key) not in _UNSET
    )
    keys = {each.key: each for each in sources.keys if each.key != "model"}
    for each in (*_inference_keys(inference, told, not models), *_model_keys(model)):
        keys[each.key] = each
    why = "the mode is that of mercaptionplus or ovmerd"
    if face_or_frame is not None:
        why = "--mode says the mode, which is all that is read of it"
    keys["datasets"] = Outcome("datasets", "...", face_or_frame is None, why)
    nonverbal = _nonverbal(inference, sources.mode, keys)
    template = Template(sources.mode, "affectgpt", _wanted(config, inference, sources.features))
    llm = model.get("llama_model")
    return ForkRun(
        names,
        template,
        message or prompts.question("ovlabel" if zeroshot else "description"),
        tuple((*before, file) for file in files),
        None if llm in _UNSET else str(llm),
        str(inference.get("base_root") or "output/results"),
        sources.root if sources.features else None,
        nonverbal,
        tuple(keys.values()),
    )


def overridden(config: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """A configuration with ``a.b=c`` put in, or ``a.b c`` in two words. Raises InvalidKey."""
    made: dict[str, Any] = _copied(config)
    for key, text in _pairs(options):
        value = _value(text)
        *sections, last = key.split(".")
        place = made
        for section in sections:
            inner = place.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InvalidKey(f"--options {key}: {section} is no section, but {inner!r}")
            place = inner
        place[last] = value
    return made


def datasets_of(text: str) -> tuple[str, ...]:
    """Canonical keys; ``inferenceData``, and ``merunibench`` here, are the nine test sets."""
    if text.casefold() in (ALL.casefold(), "merunibench", "mer-unibench"):
        return tuple(TEST_SPLITS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or "merbench" in names:
        raise InvalidKey(
            f"--dataset {text!r}: name datasets, with commas between, or {ALL} for the nine test sets "
            "(the fork's default, merbench, is none)"
        )
    return tuple(dict.fromkeys(map(dataset_key, names)))


# --- checkpoints ---------------------------------------------------------------------------------


def checkpoint_root(inference: Mapping[str, Any], name: str, output: Path = Path("output")) -> Path:
    """The folder of the checkpoints: ``ckpt_root``; else ``ckpt_name`` below ``output/<name of the
    configuration>``; else of the folders there that begin with that name the one with the most
    checkpoints, the first of those that have as many. Raises MerstoreError.
    """
    if (given := inference.get("ckpt_root")) not in _UNSET:
        return Path(str(given))
    base = output / name
    if (folder := inference.get("ckpt_name")) not in _UNSET:
        if not str(folder).startswith(name):
            raise InvalidKey(f"inference.ckpt_name {folder!r} does not begin with {name!r}")
        return base / str(folder)
    found = sorted(path for path in base.glob(f"{name}*") if path.is_dir())
    if not found:
        raise MerstoreError(
            f"{base}: no folder {name}* of checkpoints in it: give inference.ckpt_root, or --model"
        )
    return max(found, key=lambda path: len(list(path.glob("checkpoint_*"))))


def chosen(inference: Mapping[str, Any], root: Path) -> list[Path]:
    """The files that are tested: of ``test_epoch``; else of ``test_epochs`` (``a-b``, those that
    ``skip_epoch`` divides); else the last. Raises MerstoreError where an epoch has no file, or two.
    """
    if (epoch := inference.get("test_epoch", "xxx")) not in _UNSET:
        return [_one(root, _number("test_epoch", epoch))]
    span = inference.get("test_epochs", "xxx-xxx")
    if span in (*_UNSET, "xxx-xxx"):
        files = sorted(root.glob("*.pth"))
        if not files:
            raise MerstoreError(f"{root}: no checkpoint (*.pth) in it")
        found = _EPOCH.match(files[-1].name)
        if found and int(found[1]) <= 10:
            raise MerstoreError(
                f"{files[-1]}: the last checkpoint is of epoch {int(found[1])}, and only those after "
                "epoch 10 are tested unasked: give inference.test_epoch"
            )
        return [files[-1]]
    first, _, last = str(span).partition("-")
    step = _number("skip_epoch", inference.get("skip_epoch", 1)) or 1
    low, high = _number("test_epochs", first), _number("test_epochs", last)
    epochs = [epoch for epoch in range(low, high + 1) if epoch % step == 0]
    if not epochs:
        raise InvalidKey(f"inference.test_epochs {span!r} has no epoch that {step} divides")
    return [_one(root, epoch) for epoch in epochs]


def find_checkpoints(model: str | Path) -> list[Path]:
    """What ``--model`` names: a file, a folder's last checkpoint, or those that a configuration
    chooses. Raises MerstoreError.
    """
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        inference = _section(read_yaml(path), "inference")
        return chosen(inference, checkpoint_root(inference, path.stem))
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.glob("*.pth"))):
        raise MerstoreError(f"{path}: no checkpoint (*.pth) in it")
    return files[-1:]


def _one(root: Path, epoch: int) -> Path:
    files = sorted(root.glob(f"*{epoch:06d}*.pth"))
    if len(files) != 1:
        told = ", ".join(file.name for file in files) or "none"
        raise MerstoreError(f"{root}: one checkpoint of epoch {epoch} is wanted; there is {told}")
    return files[0]


# --- keys ----------------------------------------------------------------------------------------


def _wanted(
    config: Mapping[str, Any], inference: Mapping[str, Any], stored: Mapping[str, str]
) -> dict[str, Wanted]:
    """Where each modality is from: what is not stored is computed, of the names that it would have."""
    visual = inference.get("visual_encoder") or "CLIP_VIT_LARGE"
    acoustic = inference.get("acoustic_encoder") or "HUBERT_LARGE"
    train = _section(_section(_section(config, "model"), "vis_processor"), "train")
    frames = inference.get("frame_n_frms") or train.get("n_frms") or 8
    sampling = inference.get("frame_sampling") or "uniform"
    live = {
        "frame": f"frame@{visual}/{sampling}_{frames}frms",
        "face": f"face@{visual}/8frms",
        "audio": f"audio@{acoustic}/{inference.get('clips_per_video') or 8}clips",
    }
    made = {modality: Wanted(view, "media") for modality, view in live.items()}
    made |= {
        modality: Wanted(legacy.view_tail(folder, modality), "store")
        for modality, folder in stored.items()
        if modality != "au"
    }
    return made


def _inference_keys(inference: Mapping[str, Any], told: str, chose: bool) -> Iterator[Outcome]:
    for key in _ROOT_KEYS:
        if key in inference:
            given = inference[key] not in (*_UNSET, "xxx-xxx")
            why = told if given else "not set, as the fork writes it"
            yield Outcome(f"inference.{key}", inference[key], given and chose, why)
    base = inference.get("base_root") or "output/results"
    default = "" if inference.get("base_root") else "not given, this is the default; "
    yield Outcome("inference.base_root", base, True, f"{default}exports are named so")
    if "gpu" in inference:
        yield Outcome("inference.gpu", inference["gpu"], False, "--device says where")
    if inference.get("use_preextracted_audio"):
        why = "corrected: stored sound is read (the fork fails on it at inference)"
        yield Outcome("inference.use_preextracted_audio", True, True, why)


def _model_keys(model: Mapping[str, Any]) -> Iterator[Outcome]:
    for key, value in model.items():
        if key in ("ckpt", "ckpt_2"):
            used = value not in _UNSET
            why = "loaded below the checkpoint that is tested" if used else "not set"
        elif key == "llama_model":
            used, why = value not in _UNSET, "the language model, unless --llm names another"
        else:
            used, why = False, _MODEL.get(key, _OF_THE_CHECKPOINT)
        yield Outcome(f"model.{key}", value, used, why)


def _nonverbal(inference: Mapping[str, Any], mode: str, keys: dict[str, Outcome]) -> Path | None:
    asked = "au" in mode.split("_") and bool(inference.get("use_nonverbal_text"))
    file = inference.get("nonverbal_json")
    why = "the nonverbal clause" if asked else f"mode {mode} has no nonverbal clause"
    if "au" in mode.split("_") and not asked:
        why = "use_nonverbal_text is not set: the prompt has no nonverbal clause"
    for key in ("nonverbal_json", "use_nonverbal_text"):
        if key in inference:
            keys[f"inference.{key}"] = Outcome(f"inference.{key}", inference[key], asked, why)
    if asked and file in _UNSET:
        raise InvalidKey("inference.use_nonverbal_text: give nonverbal_json, the file of the clues")
    return Path(str(file)) if asked else None


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


def _pairs(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = list(options)
    while words:
        word = words.pop(0)
        if "=" in word:
            key, _, text = word.partition("=")
        elif words:
            key, text = word, words.pop(0)
        else:
            raise InvalidKey(f"--options {word}: write {word}=VALUE")
        yield key, text


def _value(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        return text


def _copied(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _copied(value) for key, value in config.items()}
    return config


def _number(key: str, value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise InvalidKey(f"inference.{key}: {value!r} is no number of an epoch") from None

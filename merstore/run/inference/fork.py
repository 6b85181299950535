"""The configuration and the command line of AffectGPT's fork, and what becomes of every key of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import InvalidKey, MerstoreError
from merstore.interop.affectgpt_config import Outcome, settings
from merstore.models.affectgpt import DEFAULT_LLM
from merstore.run import prompts
from merstore.run.inference.templates import Template, Wanted, read_yaml
from merstore.store import legacy
from merstore.store.legacy import dataset_key

ALL = "inferenceData"  # the fork's word for the nine test sets
_UNSET = ("", "xxx", None)
_EPOCH = re.compile(r"checkpoint_(\d{6})[^/]*\.pth\Z")

_NUMBERED = "checkpoint_[0-9]*.pth"  # not checkpoint_best.pth, nor what else lies beside

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
    "img_processor": "pictures are processed as their view's recipe says",
    "text_processor": "nothing in the fork applies it",
}
_OF_THE_CHECKPOINT = "the checkpoint's own configuration counts"
_OF_TRAINING = "it is of training"
_LLMS = {"Qwen25": DEFAULT_LLM, "Llama2": "meta-llama/Llama-2-7b-chat-hf"}
_ROOT_KEYS = ("ckpt_root", "ckpt_name", "test_epoch", "test_epochs", "skip_epoch")


@dataclass(frozen=True)
class ForkRun:
    """What a run of the fork would do, done here. ``checkpoints``: a stack of files for each that is
    tested. ``llm``: the configuration's. ``base``: of the exports' names. ``root``: the store that its
    features are read from, as far as any are. ``nonverbal``: the file of the clues. ``mer_factory``:
    where the analyses lie that say where the peaks are. ``keys``: every key and its fate.
    """

    datasets: tuple[str, ...]
    template: Template
    question: str
    checkpoints: tuple[tuple[Path, ...], ...]
    llm: str | None
    base: str
    root: str | None
    nonverbal: Path | None
    mer_factory: Path | None
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
    folder: str | Path | None = None,
    output: str | Path = "output",
) -> ForkRun:
    """What ``inference_hybird.py --cfg-path PATH --options ... --dataset ...`` asks for.

    dataset: ``inferenceData`` for the nine test sets, or several with commas between, in any
    spelling. zeroshot, message, face_or_frame: as the options of these names. models: checkpoints,
    in place of those that the configuration chooses. folder: has a folder for each model, among
    which the fork's names of language models are looked for. output: the folder that has a folder for each
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
        stacks = [stack for model in models for stack in find_checkpoints(model)]
        told = "--model names the checkpoints"
    else:
        root = checkpoint_root(inference, path.stem, Path(output))
        files = chosen(inference, root)
        stacks = [(file,) for file in files]
        told = f"chooses {root}/{', '.join(file.name for file in files)}"
    model = _section(config, "model")
    before = _below(model)
    expanded = ("model", "datasets", "run")
    keys = {each.key: each for each in sources.keys if each.key not in expanded}
    for each in (
        *_inference_keys(inference, told, not models),
        *_model_keys(model, sources.live),
        *_dataset_keys(_section(config, "datasets"), face_or_frame),
        *_run_keys(_section(config, "run")),
    ):
        keys[each.key] = each
    nonverbal = _nonverbal(inference, sources.mode, keys)
    peaks = "frame" in sources.needed and inference.get("frame_sampling") == "emotion_peak"
    analyses = _analyses(config, peaks, keys)
    template = Template(sources.mode, "affectgpt", _wanted(config, inference, sources.features))
    llm = _llm(model.get("llama_model"), folder)
    return ForkRun(
        names,
        template,
        message or prompts.question("ovlabel" if zeroshot else "description"),
        tuple(stack if len(stack) > 1 else (*before, *stack) for stack in stacks),
        llm,
        str(inference.get("base_root") or "output/results"),
        sources.root if sources.features else None,
        nonverbal,
        analyses,
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
        files = _last(root)
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


def find_checkpoints(model: str | Path) -> list[tuple[Path, ...]]:
    """What ``--model`` names: a file, files with commas between, of which later ones go over earlier
    ones, a folder's last checkpoint, or those that a configuration chooses, over its ``ckpt`` and
    ``ckpt_2``. Each is a stack of files. Raises MerstoreError.
    """
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        config = read_yaml(path)
        inference, before = _section(config, "inference"), _below(_section(config, "model"))
        root = checkpoint_root(inference, path.stem)
        return [(*before, file) for file in chosen(inference, root)]
    if not path.is_dir():
        files = [path] if path.exists() else [Path(each) for each in str(model).split(",") if each]
        return [tuple(files)]
    return [tuple(_last(path))]


def _last(folder: Path) -> list[Path]:
    if not (files := sorted(folder.glob(_NUMBERED))):
        raise MerstoreError(f"{folder}: no checkpoint (checkpoint_000030_loss_0.602.pth) in it")
    return files[-1:]


def _llm(name: Any, folder: str | Path | None) -> str | None:
    """The language model that a name of the fork's stands for: in the folder, else on the hub."""
    if name in _UNSET:
        return None
    hub = _LLMS.get(str(name), str(name))
    local = None if folder is None else Path(folder) / hub.rpartition("/")[2]
    return str(local) if local is not None and local.is_dir() else hub


def _below(model: Mapping[str, Any]) -> tuple[Path, ...]:
    """The checkpoints that the tested one goes over."""
    given = (model.get(key) for key in ("ckpt", "ckpt_2"))
    return tuple(Path(str(each)) for each in given if each not in _UNSET)


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
    """Where each modality is from. What is not stored is computed by the encoders of the model; the
    names of stored features have an encoder of their own.
    """
    model = _section(config, "model")
    visual = model.get("visual_encoder") or inference.get("visual_encoder") or "CLIP_VIT_LARGE"
    acoustic = model.get("acoustic_encoder") or inference.get("acoustic_encoder") or "HUBERT_LARGE"
    faces = _section(_section(model, "vis_processor"), "train").get("n_frms") or 8
    frames = inference.get("frame_n_frms") or faces
    sampling = inference.get("frame_sampling") or "uniform"
    live = {
        "frame": f"frame@{visual}/{sampling}_{frames}frms",
        "face": f"face@{visual}/{faces}frms",
        "audio": f"audio@{acoustic}/{inference.get('clips_per_video') or 8}clips",
        "image": f"frame@{visual}/random_1frms",
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


def _model_keys(model: Mapping[str, Any], live: Sequence[str]) -> Iterator[Outcome]:
    """live: the modalities that are computed in the run."""
    pictures = any(name in live for name in ("frame", "face", "image"))
    computing = {"visual_encoder": pictures, "acoustic_encoder": "audio" in live}
    for key, value in model.items():
        if key in ("ckpt", "ckpt_2"):
            used = value not in _UNSET
            why = "loaded below the checkpoint that is tested" if used else "not set"
        elif key == "llama_model":
            used, why = value not in _UNSET, "the language model, unless --llm names another"
        elif computing.get(key):
            used, why = True, "computes what is not stored"
        elif key == "vis_processor":
            used, why = (
                pictures,
                "n_frms: how many faces, and frames where frame_n_frms is not given",
            )
            if not pictures:
                why = "no pictures are computed"
        else:
            used, why = False, _MODEL.get(key, _OF_THE_CHECKPOINT)
        yield Outcome(f"model.{key}", value, used, why)


def _run_keys(run: Mapping[str, Any]) -> Iterator[Outcome]:
    for key, value in run.items():
        yield Outcome(f"run.{key}", value, False, _OF_TRAINING)


def _dataset_keys(datasets: Mapping[str, Any], face_or_frame: str | None) -> Iterator[Outcome]:
    for name in datasets:
        for key, value in _section(datasets, name).items():
            used, why = False, _OF_TRAINING
            if key == "face_or_frame" and name in ("mercaptionplus", "ovmerd"):
                used = face_or_frame is None
                why = "the mode" if used else "--mode names another"
            yield Outcome(f"datasets.{name}.{key}", value, used, why)


def _analyses(config: Mapping[str, Any], peaks: bool, keys: dict[str, Outcome]) -> Path | None:
    """What MER-Factory wrote, by the inference section, or else by a dataset's, where it is there and
    frames around `peaks` are read.
    """
    datasets = _section(config, "datasets")
    places = {"inference": config["inference"]}
    places |= {f"datasets.{name}": _section(datasets, name) for name in datasets}
    found = None
    for place, section in places.items():
        if "mer_factory_output" not in section:
            continue
        key, value = f"{place}.mer_factory_output", section["mer_factory_output"]
        used = False
        if value in _UNSET:
            why = "not set"
        elif not peaks:
            why = "no frames around the peak are read"
        elif found is not None:
            why = "another section names it"
        elif not Path(str(value)).is_dir():
            why = "no such folder here: --mer-factory names it, where peaks are to be computed"
        else:
            used, found = True, Path(str(value))
            why = "corrected: analyses, to compute frames around the peak (the fork's runner forgets it)"
        keys[key] = Outcome(key, value, used, why)
    return found


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

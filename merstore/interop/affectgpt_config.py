"""What AffectGPT's YAML says of stored features: which are read, from where, and what every key does."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merstore.errors import InvalidKey
from merstore.store.legacy import dataset_key

__all__ = ["MODES", "Outcome", "Sources", "settings"]

MODES: dict[str, tuple[str, ...]] = {
    "faceframe": ("audio", "frame", "face"),
    "face": ("audio", "face"),
    "frame": ("audio", "frame"),
    "audioonly": ("audio",),
    "textonly": (),
    "faceonly": ("face",),
    "frameonly": ("frame",),
    "image": ("image",),
    "audio_text": ("audio",),
    "face_text": ("face",),
    "frame_text": ("frame",),
    "multiface_text": ("face", "audio"),
    "multiface_audio_face_text": ("face", "audio"),
    "multiframe_audio_frame_text": ("frame", "audio"),
    "multiface_audio_face_frame_text": ("frame", "face", "audio"),
    "multiface_audio_face_frame_au_text": ("frame", "face", "audio"),
    "multiface_audio_face_au_text": ("face", "audio"),
}
"""``face_or_frame`` and what it loads (``multi`` is made in the model, of these)."""

STORED = ("frame", "face", "audio", "au")

_ENCODERS = {"visual_encoder": "CLIP_VIT_LARGE", "acoustic_encoder": "HUBERT_LARGE"}
_FACES = 8  # the fork's writer and reader know no other number
_MODEL_FRAMES = "model.vis_processor.train.n_frms"
_AU_FOLDER = "au_CLIP_VITB32_8frms"
_ROOT_AT_INFERENCE = "./preextracted_features"

_IGNORED = {
    "data_type": "nothing reads it",
    "label_type": "it chooses questions and answers, not features",
    "use_preextracted_features": "nothing in the fork reads it any more: "
    "set use_preextracted_frame, use_preextracted_face and use_preextracted_audio",
    "use_au_clip_realtime": "nothing in the fork reads it any more",
    "mer_factory_output": "peaks are looked up when a view is computed, not when it is read",
    "nonverbal_json": "it is of the prompt",
    "use_nonverbal_text": "it is of the prompt",
    "use_realtime_extraction": "what is missing follows on_miss",
    "extraction_server_host": "what is missing follows on_miss",
    "extraction_server_port": "what is missing follows on_miss",
    "ratio": "it thins out the annotation: choose the names",
    "sample_ratio": "it weights datasets in the fork's loader",
    "vis_processor": "stored features have the processing of pixels behind them",
    "img_processor": "stored features have the processing of pixels behind them",
    "text_processor": "nothing in the fork applies it",
    **dict.fromkeys(
        ("base_root", "ckpt_root", "ckpt_name", "test_epoch", "test_epochs", "skip_epoch", "gpu"),
        "it is of the inference runner",
    ),
}
_SECTIONS = {"run": "it is of the training loop", "model": "it is of the model"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one key of a configuration. ``value`` is the default where it was not given."""

    key: str
    value: Any
    used: bool
    why: str


@dataclass(frozen=True)
class Sources:
    """Where each modality comes from, as a configuration says.

    ``dataset`` is the canonical key, ``label`` the fork's spelling of it in items. ``needed`` are
    the modalities of the mode, ``features`` those of them that are read from the store, with their
    feature folder; ``rows`` how many rows a feature has by that folder's name. ``keys`` has every
    key of the configuration, and of the others those whose default counts.
    """

    dataset: str
    label: str
    mode: str | None
    needed: tuple[str, ...]
    features: Mapping[str, str]
    rows: Mapping[str, int]
    root: str | None
    keys: tuple[Outcome, ...]

    @property
    def live(self) -> tuple[str, ...]:
        """Needed modalities that the configuration does not ask the store for: for your own code."""
        return tuple(modality for modality in self.needed if modality not in self.features)

    @property
    def ignored(self) -> dict[str, str]:
        """Keys without effect here, and why."""
        return {outcome.key: outcome.why for outcome in self.keys if not outcome.used}

    def __str__(self) -> str:
        lines = [f"{self.dataset}, face_or_frame {self.mode or 'not given'}"]
        lines += [f"  {modality}: {folder}" for modality, folder in self.features.items()]
        lines += [f"  {modality}: not from the store" for modality in self.live]
        for outcome in self.keys:
            what = "used" if outcome.used else "ignored"
            lines.append(f"  {outcome.key} = {outcome.value!r}: {what}: {outcome.why}")
        return "\n".join(lines)


def settings(
    config: Mapping[str, Any],
    dataset: str | None = None,
    *,
    section: str | None = None,
    face_or_frame: str | None = None,
) -> Sources:
    """What a configuration of the fork says of stored features.

    config: the whole YAML, or one dataset's section of it. dataset: any spelling; not needed where
    the YAML has one dataset. section: ``"datasets"`` (training, the default) or ``"inference"``,
    where ``frame_sampling: emotion_peak`` asks for stored frames unless ``use_preextracted_frame``
    says otherwise. face_or_frame: instead of the configuration's.

    Raises InvalidKey where the dataset is not told or unknown to the configuration, a mode is none,
    or a value is of the wrong type.
    """
    whole = any(isinstance(config.get(key), Mapping) for key in ("datasets", "inference", "model"))
    if section not in (None, "datasets", "inference"):
        raise InvalidKey(f'section is "datasets" or "inference", not {section!r}')
    if whole:
        section = section or ("datasets" if "datasets" in config else "inference")
        part, name = _choose(config, dataset, section)
    else:
        section = section or "datasets"
        part, name = _Part(config, ""), dataset
    if name is None:
        raise InvalidKey("the configuration does not say which dataset: give the dataset")
    return _Settings(config if whole else {}, part, section, name, face_or_frame).sources()


def _choose(
    config: Mapping[str, Any], dataset: str | None, section: str
) -> tuple["_Part", str | None]:
    given = config.get(section)
    if not isinstance(given, Mapping):
        raise InvalidKey(f"the configuration has no section {section!r}")
    if section == "inference":
        return _Part(given, "inference."), dataset
    wanted = None if dataset is None else dataset_key(dataset)
    names = [name for name in given if wanted in (None, dataset_key(str(name)))]
    if len(names) != 1:
        raise InvalidKey(
            f"the configuration has the datasets {', '.join(map(str, given)) or '(none)'}: "
            + (f"{dataset!r} is none of them" if dataset else "say which")
        )
    (name,) = names
    return _Part(given[name] or {}, f"datasets.{name}."), str(name)


class _Part:
    """A section, and what became of its keys."""

    def __init__(self, given: Any, at: str) -> None:
        if not isinstance(given, Mapping):
            raise InvalidKey(f"{at.rstrip('.')}: a mapping of keys is wanted, not {given!r}")
        self.given = given
        self.at = at
        self.outcomes: dict[str, Outcome] = {}

    def take(self, key: str, type: type, default: Any) -> Any:
        value = self.given.get(key)
        if value is None:
            return default
        if not isinstance(value, type) or (type is int and isinstance(value, bool)):
            raise InvalidKey(f"{self.at}{key}: {value!r} is no {type.__name__}")
        return value

    def told(self, key: str, value: Any, used: bool, why: str) -> None:
        if used and self.given.get(key) is None:
            why = f"not given, this is the default; {why}"
        if used or key in self.given:
            self.outcomes[key] = Outcome(f"{self.at}{key}", value, used, why)


class _Settings:
    def __init__(
        self,
        config: Mapping[str, Any],
        part: _Part,
        section: str,
        dataset: str,
        face_or_frame: str | None,
    ) -> None:
        self.config = config
        self.part = part
        self.inference = section == "inference"
        self.dataset = dataset_key(dataset)
        self.mode = self._mode(face_or_frame)
        self.features: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.extra: Outcome | None = None

    def sources(self) -> Sources:
        encoders = {key: self.part.take(key, str, usual) for key, usual in _ENCODERS.items()}
        self._frame(encoders["visual_encoder"])
        if self._wanted("face"):
            self.features["face"] = f"face_{encoders['visual_encoder']}_{_FACES}frms"
            self.rows["face"] = _FACES
        clips = self.part.take("clips_per_video", int, 8)
        if self._wanted("audio"):
            self.features["audio"] = f"audio_{encoders['acoustic_encoder']}_{clips}clips"
            self.rows["audio"] = clips
        if self._wanted("au"):
            self.features["au"] = _AU_FOLDER
            self.rows["au"] = 1
        self._tell("clips_per_video", clips, {"audio"})
        self._tell("visual_encoder", encoders["visual_encoder"], {"frame", "face"})
        self._tell("acoustic_encoder", encoders["acoustic_encoder"], {"audio"})
        default = _ROOT_AT_INFERENCE if self.inference else None
        root = self.part.take("preextracted_root", (str, os.PathLike), default)  # type: ignore[arg-type]
        if self.features and root is not None:
            self.part.told("preextracted_root", root, True, "the store")
        else:
            self.part.told("preextracted_root", root, False, "no stored feature is asked for")
        for key, value in self.part.given.items():
            if key not in self.part.outcomes:
                self.part.told(key, value, False, _IGNORED.get(key) or self._strange(str(key)))
        keys = [*self.part.outcomes.values(), *([self.extra] if self.extra else [])]
        keys += [
            Outcome(key, "...", False, _SECTIONS.get(key, "it is another section"))
            for key in self.config
            if not self.part.at.startswith(f"{key}.")
        ]
        return Sources(
            self.dataset,
            "iemocapfour" if self.dataset == "iemocap" else self.dataset,
            self.mode,
            self._needed(),
            self.features,
            self.rows,
            None if root is None else os.fspath(root),
            tuple(keys),
        )

    def _mode(self, given: str | None) -> str | None:
        """The mode, and what is said of its key."""
        told: str | None = self.part.take("face_or_frame", str, None)
        mode, why = told, "the modalities that are loaded"
        if self.inference:
            modes = {
                section["face_or_frame"]
                for name, section in (self.config.get("datasets") or {}).items()
                if name in ("mercaptionplus", "ovmerd")
                and isinstance(section, Mapping)
                and section.get("face_or_frame")
            }
            why = (
                "the runner goes by that of datasets.mercaptionplus or ovmerd, or the command line"
            )
            if self.config:
                if given is None and len(modes) > 1:
                    raise InvalidKey(
                        f"datasets have several face_or_frame ({', '.join(sorted(modes))}): give one"
                    )
                mode = next(iter(modes), None)
        if given is not None:
            mode, why = given, "another one was given in its place"
        if mode is not None and mode not in MODES:
            near = difflib.get_close_matches(mode, MODES, 3)
            raise InvalidKey(
                f"face_or_frame {mode!r} is no mode of the fork"
                + (f"; near: {', '.join(near)}" if near else f": {', '.join(MODES)}")
            )
        self.part.told("face_or_frame", told, mode is not None and mode == told, why)
        return mode

    def _needed(self) -> tuple[str, ...]:
        return tuple(self.features) if self.mode is None else MODES[self.mode]

    def _wanted(self, modality: str, default: bool = False, why: str = "") -> bool:
        """Whether the store is asked for the modality; tells what became of the key."""
        key = f"use_preextracted_{modality}"
        flag = self.part.take(key, bool, default)
        if modality == "au":
            needed = self.mode is None or "au" in self.mode.split("_")
            told = "the fork reads it and does nothing; here the features are in the sample as `au`"
        else:
            needed = self.mode is None or modality in MODES[self.mode]
            told = why or "read from the store"
        if not needed:
            self.part.told(key, flag, False, f"mode {self.mode} needs no {modality}")
        elif flag:
            self.part.told(key, flag, True, told)
        elif key in self.part.given:
            self.part.told(key, flag, True, f"{modality} is not read from the store")
        return needed and bool(flag)

    def _frame(self, encoder: str) -> None:
        sampling = self.part.take("frame_sampling", str, "uniform")
        peak = self.inference and sampling == "emotion_peak"
        given = self.part.given.get("use_preextracted_frame") is not None
        why = "read from the store"
        if self.inference:
            why += (
                " (the runner goes by frame_sampling alone)"
                if given
                else ", which frame_sampling: emotion_peak asks the runner for"
            )
        if not self._wanted("frame", peak, why):
            self._tell("frame_sampling", sampling, {"frame"})
            self._tell("frame_n_frms", self.part.given.get("frame_n_frms"), {"frame"})
            return
        frames = self.part.take("frame_n_frms", int, None)
        if frames is None:
            model: Any = self.config
            for key in _MODEL_FRAMES.split("."):
                model = model.get(key) if isinstance(model, Mapping) else None
            if not isinstance(model, int) or isinstance(model, bool):
                raise InvalidKey(
                    f"{self.part.at}frame_n_frms: how many frames? It is part of the feature's "
                    f"name; give it, or {_MODEL_FRAMES}"
                )
            frames = model
            self.extra = Outcome(_MODEL_FRAMES, frames, True, "stands for frame_n_frms")
        self.features["frame"] = f"frame_{encoder}_{sampling}_{frames}frms"
        self.rows["frame"] = frames
        self._tell("frame_sampling", sampling, {"frame"})
        self._tell("frame_n_frms", frames, {"frame"})

    def _tell(self, key: str, value: Any, modalities: set[str]) -> None:
        used = bool(modalities & self.features.keys())
        which = " and ".join(sorted(modalities))
        told = "part of the feature's name" if used else f"no stored {which} is read"
        self.part.told(key, value, used, told)

    def _strange(self, key: str) -> str:
        near = difflib.get_close_matches(
            key, [*_IGNORED, *_ENCODERS, *(f"use_preextracted_{m}" for m in STORED),
                  "frame_n_frms", "frame_sampling", "preextracted_root", "face_or_frame",
                  "clips_per_video"], 1, 0.8,
        )  # fmt: skip
        return "nothing reads it" + (f"; did you mean {near[0]}?" if near else "")

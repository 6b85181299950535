"""Models that transformers has classes for: loaded as they are, asked one question at a time."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merstore.errors import DecodeError, EncoderError, MerstoreError
from merstore.extract.models import (
    ModelFolder,
    first_line,
    full_float32,
    out_of_memory,
    pretrained,
    quiet,
)
from merstore.extract.reading import Refusal
from merstore.run.decoding import GREEDY, Decoding, processors
from merstore.run.zeroshot.asked import Answerer, Asked, Said
from merstore.run.zeroshot.baselines import Baseline, find, names
from merstore.run.zeroshot.families import Family

_MODULES = ("hearing", "pictures", "qwen_vl", "seeing")  # where families are defined
_WEIGHTS = ("model", "pytorch_model", "generation_config")  # what else of a folder is no processor


class Native(Answerer):
    """A model of one of the known families.

    ``model``: a folder, or a hub id. ``device``: ``"auto"`` (CUDA where there is any), ``"cpu"``,
    ``"cuda:1"``, … On a GPU weights keep the dtype of their files, on a CPU they become float32.

    Raises EncoderError where there is no such model, or one of another family.
    """

    def __init__(
        self, model: str | Path, decoding: Decoding = GREEDY, *, device: str = "auto"
    ) -> None:
        self.folder = ModelFolder(model)
        self.name = self.folder.name
        self.decoding = decoding
        self.device = device
        self.family = family_of(self.folder)
        self._loaded: tuple[Family, Any] | None = None
        self._lost = ""  # what broke the GPU for this process

    @property
    def draws(self) -> bool:
        return self.decoding.temperature > 0

    def spec(self) -> dict[str, Any]:
        told = asdict(self.decoding)
        del told["seed"]  # each answer has one of its own
        if not self.draws:
            del told["temperature"], told["top_p"]
        return {
            "backend": "transformers",
            "model": self.name,
            "family": [self.family.__name__, self.family.version],
            "weights": self.folder.weights,
            "processor": self.folder.digest(sorted(_processor_files(self.folder.path))),
            "dtype": "float32" if _device(self.device) == "cpu" else "of the files",
            "decoding": told,
        }

    def load(self) -> tuple[Family, Any]:
        """Family and model, loaded at the first call. Raises EncoderError."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> tuple[Family, Any]:
        import transformers
        from transformers import GenerationConfig

        with quiet():
            family = self.family(self.folder)
        device = _device(self.device)
        dtype = "float32" if device == "cpu" else "auto"
        model = pretrained(getattr(transformers, family.kind), self.folder, dtype=dtype)
        own, tokenizer = model.generation_config, family.tokenizer
        ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
        if ends is None:
            raise EncoderError(
                f"{self.name}: neither model nor tokenizer names the end of an answer"
            )
        first = ends[0] if isinstance(ends, list) else ends
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else first
        # The model's own settings would fill in what ours leave out.
        model.generation_config = GenerationConfig(
            max_new_tokens=self.decoding.max_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=padding,
        )
        return family, model.eval().requires_grad_(False).to(device)

    def answer(self, asked: Sequence[Asked], seeds: Sequence[int]) -> list[str | Said | Refusal]:
        return [self._answer(*each) for each in zip(asked, seeds, strict=True)]

    def _answer(self, asked: Asked, seed: int) -> Said | Refusal:
        if self._lost:
            raise EncoderError(
                f"{self.name}: after that, the GPU is of no use to this process: {self._lost}. The same "
                "command goes on"
            )
        family, model = self.load()
        try:
            with quiet():
                inputs = family.inputs(asked)
            ids = inputs["input_ids"]
            room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
            if room is not None and ids.shape[1] + self.decoding.max_tokens > room:
                return Refusal(
                    "too_long",
                    f"{ids.shape[1]:,} tokens, and the model has room for {room:,} with the "
                    f"{self.decoding.max_tokens:,} of an answer",
                )
            return self._generate(family, model, inputs, seed)
        except DecodeError as error:
            return Refusal(error.kind, error.message)
        except Exception as error:  # noqa: BLE001 - a sample is refused, whatever its model raises
            if not out_of_memory(error):
                told = f"{type(error).__name__}: {first_line(error)}"
                self._lost = told if "CUDA error" in told else ""
                return Refusal("model_error", told)
            refused = Refusal("out_of_memory", f"{self.name}: {first_line(error)}")
        if model.device.type == "cuda":  # not while the exception holds what was computed
            import torch

            torch.cuda.empty_cache()
        return refused

    def _generate(self, family: Family, model: Any, inputs: Mapping[str, Any], seed: int) -> Said:
        import torch

        given = {key: _placed(value, model) for key, value in inputs.items()}
        chain = processors(self.decoding, given["attention_mask"], [seed])
        with torch.inference_mode(), full_float32():
            made = model.generate(**given, logits_processor=chain)
        new = made[0, given["input_ids"].shape[1] :].tolist()
        ends = model.generation_config.eos_token_id
        ended = bool(new) and new[-1] in (ends if isinstance(ends, list) else [ends])
        return Said(family.tokenizer.decode(new, skip_special_tokens=True), len(new), ended)

    def close(self) -> None:
        self._loaded = None


def open_native(
    baseline: Baseline,
    weights: str | Path | None = None,
    decoding: Decoding | None = None,
    *,
    device: str = "auto",
) -> Native:
    """The model of a baseline, by default with the weights and the settings that it names.

    Raises MerstoreError where it runs by code of its own only, or the weights are of a model that is
    asked otherwise.
    """
    if baseline.family is None:
        raise MerstoreError(
            f"{baseline.name} runs by code of its own: give the Python of its environment and an "
            "adapter, or name a baseline that transformers has"
        )
    model = Native(weights or baseline.weights[0], decoding or baseline.decoding, device=device)
    if model.family.takes != families()[baseline.family].takes:
        raise MerstoreError(
            f"{model.folder.path} is a {model.folder.kind}, and {baseline.name} a {baseline.family}: "
            f"name the baseline {baseline_of(model.folder).name}, or give other weights"
        )
    return model


def baseline_of(folder: ModelFolder) -> Baseline:
    """The baseline as which a model is asked that nobody named: the first one of its family, or else
    of one that is shown the same. Raises EncoderError for a model of no known family.
    """
    family, known = family_of(folder), families()
    ours = [each for each in map(find, names()) if each.family is not None]
    first = [each for each in ours if each.family in family.types]
    first += [each for each in ours if known[str(each.family)].takes == family.takes]
    return first[0]


def families() -> dict[str, type[Family]]:
    """All families, by each model type that they are for."""
    found: dict[str, type[Family]] = {}
    for name in _MODULES:
        module = importlib.import_module(f"merstore.run.zeroshot.{name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Family) and hasattr(each, "types"):
                found |= dict.fromkeys(each.types, each)
    return found


def family_of(folder: ModelFolder) -> type[Family]:
    """The family of a model, by its config.json. Raises EncoderError, which lists the types."""
    known = families()
    if folder.kind not in known:
        raise EncoderError(
            f"{folder.path}: config.json says model_type {folder.kind or 'nothing'}; known are "
            f"{', '.join(sorted(known))}. A model with code of its own runs by --python and --adapter"
        )
    return known[folder.kind]


def _processor_files(folder: Path) -> Iterator[Path]:
    """What decides about a prompt's tokens and numbers: tokenizer, templates, processors."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt", ".model", ".jinja") and not path.name.startswith(
            _WEIGHTS
        ):
            yield path


def _placed(value: Any, model: Any) -> Any:
    """Tensors where the model is; what it sees and hears in its dtype, but not times, ``[n]``."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    perceived = value.is_floating_point() and value.ndim > 1
    return value.to(model.device, model.dtype if perceived else value.dtype)


def _device(device: str) -> str:
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"

"""AffectGPT: fused features in the place of placeholder tokens, in front of a language model."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merstore.errors import EncoderError, MerstoreError
from merstore.extract.models import ModelFolder, first_line, pretrained, quiet
from merstore.models.affectgpt.config import Config
from merstore.models.affectgpt.fusion import MODALITIES, Fusion

DEFAULT_LLM = "Qwen/Qwen2.5-7B-Instruct"

LORA_TARGETS = [
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
]  # fmt: skip
"""The layers of a language model that are trained; all linear ones of a model that lacks one."""

# Which parts each flag leaves as they are. AffectGPT's Q-Former flags are taken to hold for
# whatever fuses in a Q-Former's place.
_FROZEN_PARTS = {
    "frozen_video_Qformer": ("video_",),
    "frozen_video_proj": ("affectgpt_proj.",),
    "frozen_audio_Qformer": (
        *("audio_attention_mlp.", "audio_query_tokens", "audio_Qformer."),
        "audio_position_embedding.",
    ),
    "frozen_audio_proj": ("audio_llama_proj.",),
    "frozen_multi_Qformer": (
        *("multi_audio_embs.", "multi_video_embs.", "attention_mlp.", "fc_att."),
        *("multi_query_tokens", "multi_Qformer.", "multi_position_embedding."),
    ),
    "frozen_multi_llama_proj": ("multi_llama_proj.",),
    "frozen_au_proj": ("au_",),
    "frozen_llm": ("llama_model.",),
}


class AffectGPT(Fusion):
    """The whole model: `Fusion`, and a causal language model of transformers with LoRA adapters.

    `llm` is changed: the adapters are put into it. Adapters and fusion are float32 whatever the
    language model's dtype is. Parameters that are trained, by ``config.frozen``, require a
    gradient, and they are what a checkpoint holds.

    Raises MerstoreError where the package `peft` is missing.
    """

    def __init__(self, llm: Any, config: Config | None = None) -> None:
        config = config or Config()
        super().__init__(config, llm.get_input_embeddings().weight.shape[1])
        self.llama_model = _adapted(llm, config)
        for name, parameter in self.named_parameters():
            own = not name.startswith("llama_model.") or ".lora_" in name
            parameter.requires_grad_(own and not self._is_frozen(name))

    @property
    def device(self) -> torch.device:
        """Where the language model takes its input."""
        return self._embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The language model's."""
        return self._embeddings.weight.dtype

    @property
    def vocabulary(self) -> int:
        """How many tokens the language model has vectors of; placeholders need none."""
        return len(self._embeddings.weight)

    @property
    def _embeddings(self) -> nn.Embedding:
        embeddings: nn.Embedding = self.llama_model.get_input_embeddings()
        return embeddings

    def embed(
        self, ids: Tensor, places: Mapping[str, int], vectors: Mapping[str, Tensor]
    ) -> Tensor:
        """Token ids ``[B, L]`` as the language model's input ``[B, L, width]``.

        `places`: the placeholder's id of each modality; these ids are never looked up. `vectors`:
        ``[B, queries, width]`` of each modality that has placeholders in `ids`.

        Raises MerstoreError where the placeholders of a row are not as many as the vectors, in one
        run, and where a modality has placeholders and no vectors.
        """
        held = torch.isin(ids, torch.tensor(list(places.values()), device=ids.device))
        embedded: Tensor = self._embeddings(ids.masked_fill(held, 0))
        for name in MODALITIES:
            if name not in places:
                continue
            here = ids == places[name]
            counts = here.sum(1)
            rows = counts > 0
            if not rows.any():
                continue
            if name not in vectors:
                raise MerstoreError(
                    f"{name}: the prompt has its placeholder, and it has no vectors"
                )
            queries = vectors[name].shape[1]
            runs = here[:, 0].int() + (here[:, 1:] & ~here[:, :-1]).sum(1)
            odd = (rows & (counts != queries)) | (runs > 1)
            if odd.any():
                at = int(odd.nonzero()[0, 0])
                raise MerstoreError(
                    f"{name}: {int(counts[at])} placeholders in {int(runs[at])} places for {queries} "
                    "vectors; a prompt names each modality once, and a text in it must not name one"
                )
            filling = vectors[name][rows].to(embedded)
            embedded = embedded.masked_scatter(here.unsqueeze(2), filling)
        return embedded

    def trained_state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: trained parameters and the fusion's buffers, in float32 (as far
        as they are floating point), on the CPU.
        """
        named: dict[str, Tensor] = {
            name: value for name, value in self.named_parameters() if value.requires_grad
        }
        named |= {
            name: value
            for name, value in self.named_buffers()
            if not name.startswith("llama_model.")
        }
        return {
            name: (value.float() if value.is_floating_point() else value)
            .detach()
            .cpu()
            .contiguous()
            for name, value in named.items()
        }

    def _is_frozen(self, name: str) -> bool:
        return any(name.startswith(_FROZEN_PARTS[flag]) for flag in self.config.frozen)


def load_llm(model: str | Path = DEFAULT_LLM, device: str = "auto", dtype: str = "auto") -> Any:
    """A causal language model of transformers, by its folder or hub id.

    `device`: ``"auto"`` is CUDA where there is any. `dtype`: ``"auto"`` is float16 on CUDA, as
    AffectGPT has it, and float32 on a CPU.

    Raises EncoderError for a folder that holds no whole model, and MerstoreError for a device that is
    not there.
    """
    import transformers

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    if dtype == "auto":
        dtype = "float32" if torch.device(device).type == "cpu" else "float16"
    folder = ModelFolder(model)
    kind = transformers.AutoModelForCausalLM
    return pretrained(kind, folder, dtype=getattr(torch, dtype)).to(device)


def hollow_llm(model: str | Path, dtype: str = "float32") -> Any:
    """The same without its weights, on torch's meta device: they are not read.

    Raises EncoderError for a folder that holds no whole model.
    """
    import transformers

    folder = ModelFolder(model)
    try:
        with quiet(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(folder.path)
            kind = transformers.AutoModelForCausalLM
            return kind.from_config(config, dtype=getattr(torch, dtype))
    except Exception as error:  # whatever a damaged file makes transformers raise
        raise EncoderError(f"{folder.path}: {first_line(error)}") from error


def check_device(device: str) -> None:
    """Raises MerstoreError for a device that is not there."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise MerstoreError(f"{device!r} is no device: write auto, cpu or cuda:1") from None
    count = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise MerstoreError(f"{device} is not there: this machine has {count} CUDA devices")


def _adapted(llm: Any, config: Config) -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MerstoreError(
            "AffectGPT's language model has LoRA adapters: pip install 'merstore[affectgpt]'"
        ) from error
    layers = {name.rpartition(".")[2] for name, _ in llm.named_modules()}
    whole = layers.issuperset(LORA_TARGETS)
    lora = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=LORA_TARGETS if whole else "all-linear",
    )
    with warnings.catch_warnings():  # peft asks transformers in a way that is going out of use
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return peft.get_peft_model(llm, lora)

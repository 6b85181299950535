"""Answers through vLLM, which is an extra. Prompts are made here, embeddings of tokens and fused
features; vLLM has the language model, and the adapters of each checkpoint from a folder.
"""

import itertools
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merstore.errors import EncoderError, MerstoreError
from merstore.extract.models import ModelFolder, first_line
from merstore.models.affectgpt.generation import Generator, Request, Settings, named
from merstore.models.affectgpt.model import AffectGPT, hollow_llm
from merstore.models.affectgpt.tokens import Tokens
from merstore.models.vllm import vllm

_RANKS = (8, 16, 32, 64, 128, 256, 512)  # that vLLM knows
_SHARE = 0.8  # of the GPU's memory; encoders and their work have the rest
_SEEDS = 1 << 63  # vLLM takes signed ones


class Engine:
    """vLLM with a language model, for any number of checkpoints. It takes the first GPU that this
    process may see.

    `dtype`: the language model's, and its adapters'. `rank`: of the adapters, at most. `settings`:
    how long prompts and answers may be. `most`: requests that are answered at once.

    Raises MerstoreError where vLLM is missing or does not take the model, EncoderError for a folder
    that holds no whole model.
    """

    def __init__(
        self, llm: str | Path, dtype: str, rank: int, settings: Settings, most: int
    ) -> None:
        package = vllm()
        folder = ModelFolder(llm)
        try:
            self._llm = package.LLM(
                model=str(folder.path),
                dtype=dtype,
                max_model_len=settings.max_length,
                max_num_seqs=most,
                gpu_memory_utilization=_share(),
                enable_prompt_embeds=True,
                enable_lora=True,
                max_lora_rank=next((each for each in _RANKS if each >= rank), rank),
                # Prompts hardly share a beginning, and answers must not depend on what was asked before.
                enable_prefix_caching=False,
                skip_tokenizer_init=True,
                generation_config="vllm",  # nothing of the folder's that we do not give
            )
        except (RuntimeError, ValueError) as error:
            told = " ".join(str(error).split())[:300]
            raise MerstoreError(
                f"vLLM cannot be started with {folder.path}: {told}; take --backend transformers if "
                "it cannot be helped"
            ) from error
        self._numbers = itertools.count(1)
        self._adapters = Path(tempfile.mkdtemp(prefix="merstore-"))
        weakref.finalize(self, shutil.rmtree, self._adapters, ignore_errors=True)

    def adapters(self, model: AffectGPT) -> Any:
        """Those of a model as vLLM takes them; they are as the model has them now."""
        from vllm.lora.request import LoRARequest  # type: ignore[import-not-found, unused-ignore]

        number = next(self._numbers)  # vLLM keeps what it has read by this
        folder = self._adapters / str(number)
        model.llama_model.save_pretrained(folder, save_embedding_layers=False)
        return LoRARequest(f"adapters-{number}", number, str(folder))

    def generate(
        self, prompts: Sequence[Tensor], how: Sequence[dict[str, Any]], adapters: Any
    ) -> list[Any]:
        """The output of each prompt ``[L, width]``; `how`: what vLLM's SamplingParams are made of."""
        made = self._llm.generate(
            [{"prompt_embeds": prompt} for prompt in prompts],
            [vllm().SamplingParams(**each) for each in how],
            lora_request=adapters,
            use_tqdm=False,
        )
        return [each.outputs[0] for each in made]


class VllmGenerator(Generator):
    """The same as `Generator`, but for the language model, which `engine` has: `model` is made with
    `embeddings_of`.

    The adapters are the model's when this is made: there is one for each checkpoint. They are of the
    language model's dtype, as vLLM has it. A drawn answer's random numbers are vLLM's own.
    """

    def __init__(
        self,
        model: AffectGPT,
        tokens: Tokens,
        engine: Engine,
        settings: Settings | None = None,
        most: int = 256,
    ) -> None:
        super().__init__(model, tokens, settings, most)
        self._engine = engine
        self._adapters = engine.adapters(model)

    def _generate(
        self, embedded: Tensor, mask: Tensor, requests: Sequence[Request]
    ) -> list[list[int]]:
        settings = self.settings
        how: dict[str, Any] = {
            "max_tokens": settings.max_new_tokens,
            # An ending of two tokens is found afterwards: vLLM knows of single ones, and of texts,
            # which other tokens can make up too.
            "stop_token_ids": sorted(
                {*self._ends, *(stop[0] for stop in self.tokens.stops if len(stop) == 1)}
            ),
            "detokenize": False,
            "temperature": 0.0,
        }
        if settings.sample:
            how |= {"temperature": settings.temperature, "top_p": settings.top_p}
            how |= {"top_k": self._top_k}
        seeds = [{"seed": each.seed % _SEEDS} if settings.sample else {} for each in requests]
        prompts = [row[there] for row, there in zip(embedded, mask.bool(), strict=True)]
        try:
            outputs = self._engine.generate(prompts, [how | seed for seed in seeds], self._adapters)
        except ValueError as error:  # what vLLM refuses
            raise MerstoreError(f"vLLM: {first_line(error)}") from error
        for output, request in zip(outputs, requests, strict=True):
            if output.finish_reason not in {"stop", "length"}:
                raise named(request, f"vLLM gave up on it ({output.finish_reason})")
        return [list(output.token_ids) for output in outputs]


def embeddings_of(llm: str | Path, dtype: str) -> Any:
    """A language model of transformers that has its embeddings of tokens, on the CPU, and no other
    weight: enough to make prompts, and to hold adapters.

    Raises EncoderError for a folder that holds no whole model.
    """
    import transformers

    folder = ModelFolder(llm)
    model = hollow_llm(llm, dtype)
    if (folder.path / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder.path)
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    for module in model.modules():
        for key, weight in module.named_parameters(recurse=False):
            setattr(module, key, nn.Parameter(_nothing(weight), requires_grad=False))
        for key, value in module.named_buffers(recurse=False):
            setattr(module, key, _nothing(value))
    found = _weight(folder, f"{name}.weight")
    if found.shape != embeddings.weight.shape:
        raise EncoderError(
            f"{folder.name}: {name}.weight is {list(found.shape)}, and "
            f"{list(embeddings.weight.shape)} by its config.json"
        )
    embeddings.weight = nn.Parameter(found.to(getattr(torch, dtype)), requires_grad=False)
    return model


def _nothing(like: Tensor) -> Tensor:
    """Zeros of a shape, on the CPU, which take no memory."""
    return torch.zeros((), dtype=like.dtype, device="cpu").expand(like.shape)


def _weight(folder: ModelFolder, name: str) -> Tensor:
    """One tensor of a model's files."""
    from safetensors import safe_open

    for path in folder.weight_files:
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    state = {name: file.get_tensor(name)} if name in file.keys() else {}  # noqa: SIM118
            else:
                mapped = zipfile.is_zipfile(path)
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # whatever a damaged file makes them raise
            raise EncoderError(f"{path} cannot be read: {first_line(error)}") from error
        found = state.get(name)
        if isinstance(found, Tensor):
            return found
    raise EncoderError(f"{folder.path}: {name}, the embeddings of tokens, is not in its weights")


def _share() -> float:
    """How much of the GPU's memory vLLM may have, of all: what encoders have already is not there."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return _SHARE
    free, total = torch.cuda.mem_get_info()
    return _SHARE * free / total

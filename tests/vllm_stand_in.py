"""In place of the package `vllm`, which wants a GPU: what of it is used here, by its names and with
its arguments (those of 0.22 and 0.33), on transformers and PEFT. It knows nothing of merstore: a
prompt, a folder of adapters or an ending that is wrong gives wrong answers, as it would there.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass
class SamplingParams:
    max_tokens: int = 16
    stop_token_ids: Sequence[int] = ()
    detokenize: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class Completion:
    token_ids: Sequence[int]
    finish_reason: str
    text: str = ""


@dataclass
class Output:
    outputs: list[Completion]


class LLM:
    made: ClassVar[list["LLM"]] = []

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        gpu_memory_utilization: float = 0.92,
        enable_prompt_embeds: bool = False,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
        enable_prefix_caching: bool | None = None,
        skip_tokenizer_init: bool = False,
        generation_config: str = "auto",
    ) -> None:
        if max_lora_rank not in RANKS:
            raise ValueError(f"max_lora_rank: Input should be {RANKS}")
        self.folder, self.dtype, self.longest = model, dtype, max_model_len
        self.lora, self.rank, self.embeds = enable_lora, max_lora_rank, enable_prompt_embeds
        self.at_once = max_num_seqs
        self.adapted: dict[int, Any] = {}
        self.said: list[Completion] = []
        self.calls: list[tuple[list[torch.Tensor], list[SamplingParams], LoRARequest]] = []
        LLM.made.append(self)

    def generate(
        self,
        prompts: Sequence[dict[str, torch.Tensor]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[Output]:
        if not self.embeds:
            raise ValueError("You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        assert self.lora
        assert lora_request is not None
        given = [prompt["prompt_embeds"] for prompt in prompts]
        self.calls.append((given, list(sampling_params), lora_request))
        model = self._adapted(lora_request)
        found = []
        for prompt, how in zip(given, sampling_params, strict=True):
            if prompt.ndim != 2:
                raise ValueError("prompt_embeds must be of shape (seq_len, hidden_size).")
            if self.longest is not None and len(prompt) + how.max_tokens > self.longest:
                raise ValueError(f"The prompt is longer than {self.longest}")
            self.said.append(completed(model, prompt.clone(), how))
            found.append(Output(self.said[-1:]))
        return found

    def _adapted(self, request: LoRARequest) -> Any:
        """The model with adapters, which are read once for each number, as vLLM does it."""
        if request.lora_int_id not in self.adapted:
            from peft import PeftModel
            from transformers import AutoModelForCausalLM

            config = json.loads((Path(request.lora_path) / "adapter_config.json").read_text())
            if config["r"] > self.rank:
                raise ValueError(f"LoRA rank {config['r']} is greater than {self.rank}")
            llm = AutoModelForCausalLM.from_pretrained(self.folder, dtype=self.dtype)
            with warnings.catch_warnings():  # as where adapters are made
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                adapted = PeftModel.from_pretrained(llm, request.lora_path).to(llm.dtype)
            self.adapted[request.lora_int_id] = adapted.eval()
        return self.adapted[request.lora_int_id]


@torch.no_grad()
def completed(model: Any, prompt: torch.Tensor, how: SamplingParams) -> Completion:
    """Token by token, everything computed anew each time."""
    table = model.get_input_embeddings().weight
    draw = torch.Generator()
    if how.seed is not None:
        draw.manual_seed(how.seed)
    new: list[int] = []
    while len(new) < how.max_tokens:
        scores = model(inputs_embeds=prompt[None], use_cache=False).logits[0, -1].float()
        if how.temperature == 0:
            new.append(int(scores.argmax()))
        else:
            shares, tokens = (scores / how.temperature).softmax(0).sort(descending=True)
            kept = shares.cumsum(0) - shares < how.top_p
            if how.top_k:
                kept[how.top_k :] = False
            new.append(int(tokens[torch.multinomial(shares * kept, 1, generator=draw)]))
        if new[-1] in how.stop_token_ids:
            return Completion(tuple(new), "stop")
        prompt = torch.cat([prompt, table[new[-1]][None]])
    return Completion(tuple(new), "length")


def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Has `import vllm` find this; gives its LLM, which knows of all that are `made`."""
    package, lora, request = (ModuleType(f"vllm{end}") for end in ("", ".lora", ".lora.request"))
    package.LLM, package.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    request.LoRARequest = LoRARequest  # type: ignore[attr-defined]
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(LLM, "made", [])
    return LLM

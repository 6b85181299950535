"""Language models on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merstore.errors import EncoderError
from merstore.extract.models import (
    ModelFolder,
    first_line,
    full_float32,
    out_of_memory,
    pretrained,
    quiet,
)
from merstore.extract.reading import Refusal
from merstore.models.vllm import vllm
from merstore.run.decoding import GREEDY, Decoding, processors
from merstore.run.labels.backend import LanguageModel


class _Local(LanguageModel):
    def __init__(self, model: str | Path, decoding: Decoding) -> None:
        super().__init__(decoding)
        self.folder = ModelFolder(model)
        self.name = self.folder.name

    def model(self) -> dict[str, Any]:
        kept = sorted({*self.folder.path.glob("tokenizer*"), *self.folder.path.glob("*.jinja")})
        return {
            "backend": type(self).__name__.lower(),
            "model": self.folder.name,
            "weights": self.folder.weights,
            "tokenizer": self.folder.digest([path for path in kept if path.is_file()]),
        }


class Transformers(_Local):
    """Any causal language model with a chat template, through transformers.

    ``model``: a folder, or a hub id. Weights keep the dtype of their files. ``device``: ``"auto"``
    (CUDA where there is any), ``"cpu"``, ``"cuda:1"``, …

    Raises EncoderError where there is no such model.
    """

    def __init__(
        self,
        model: str | Path,
        decoding: Decoding = GREEDY,
        *,
        device: str = "auto",
        batch: int = 8,
    ) -> None:
        super().__init__(model, decoding)
        self.device = device
        self.batch = batch
        self._loaded: tuple[Any, Any] | None = None

    def load(self) -> tuple[Any, Any]:
        """Tokenizer and model, loaded at the first call. Raises EncoderError."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        name = self.folder.name
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(self.folder.path, padding_side="left")
        except Exception as error:  # whatever a damaged file makes transformers raise
            raise EncoderError(
                f"{name}: its tokenizer cannot be loaded: {first_line(error)}"
            ) from error
        if not tokenizer.chat_template:
            raise EncoderError(
                f"{name} has no chat template: choose a model that is tuned to instructions"
            )
        model = pretrained(AutoModelForCausalLM, self.folder, dtype="auto")
        own = model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
        if ends is None:
            raise EncoderError(f"{name}: neither model nor tokenizer names the end of an answer")
        if tokenizer.pad_token_id is None:  # padding is masked: any token will do
            tokenizer.pad_token_id = ends[0] if isinstance(ends, list) else ends
        # The model's own settings would fill in what ours leave out.
        model.generation_config = GenerationConfig(
            max_new_tokens=self.decoding.max_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return tokenizer, model.eval().requires_grad_(False).to(device)

    def answer(self, task: str, messages: Sequence[str]) -> list[str | Refusal]:
        tokenizer, model = self.load()
        chats = [[{"role": "user", "content": message}] for message in messages]
        texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(texts, add_special_tokens=False).input_ids
        room = getattr(model.config, "max_position_embeddings", None)
        found: list[str | Refusal] = [
            Refusal("too_long", f"{len(each):,} tokens, and the model has room for {room:,}")
            for each in ids
        ]
        fitting = [
            row
            for row, each in enumerate(ids)
            if room is None or len(each) + self.decoding.max_tokens <= room
        ]
        if fitting:
            answers = self._generate(
                [ids[row] for row in fitting], [messages[row] for row in fitting]
            )
            for row, answer in zip(fitting, answers, strict=True):
                found[row] = answer
        return found

    def _generate(self, ids: list[list[int]], messages: list[str]) -> list[str | Refusal]:
        import torch

        tokenizer, model = self.load()
        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
        seeds = [self.decoding.seed_of(message) for message in messages]
        try:
            with torch.inference_mode(), full_float32():
                made = model.generate(
                    **padded,
                    logits_processor=processors(self.decoding, padded.attention_mask, seeds),
                )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise EncoderError(f"{self.name} cannot answer: {first_line(error)}") from error
            if len(ids) == 1:
                return [Refusal("out_of_memory", f"{len(ids[0]):,} tokens: {first_line(error)}")]
        else:
            new = made[:, padded.input_ids.shape[1] :]
            return list(tokenizer.batch_decode(new, skip_special_tokens=True))
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(ids) // 2
        return [
            *self._generate(ids[:half], messages[:half]),
            *self._generate(ids[half:], messages[half:]),
        ]


class Vllm(_Local):
    """The same through vLLM, which batches by itself. Raises MerstoreError where it is missing."""

    batch = 256

    def __init__(self, model: str | Path, decoding: Decoding = GREEDY) -> None:
        vllm()
        super().__init__(model, decoding)
        self._engine: Any = None

    def answer(self, task: str, messages: Sequence[str]) -> list[str | Refusal]:
        engine = vllm()
        if self._engine is None:
            self._engine = engine.LLM(model=str(self.folder.path), generation_config="vllm")
        how = self.decoding
        settings = [
            engine.SamplingParams(
                temperature=how.temperature,
                top_p=how.top_p,
                repetition_penalty=how.repetition_penalty,
                max_tokens=how.max_tokens,
                seed=how.seed_of(message),
            )
            for message in messages
        ]
        chats = [[{"role": "user", "content": message}] for message in messages]
        try:
            made = self._engine.chat(chats, sampling_params=settings, use_tqdm=False)
        except ValueError as error:  # one that is too long
            if len(messages) == 1:
                return [Refusal("too_long", first_line(error))]
            return [answer for message in messages for answer in self.answer(task, [message])]
        return [each.outputs[0].text for each in made]

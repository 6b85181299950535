"""Answers, in batches: greedy ones, and sampled ones that their own seeds decide."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merstore.errors import MerstoreError
from merstore.extract.models import out_of_memory, quiet
from merstore.models.affectgpt.model import AffectGPT
from merstore.models.affectgpt.tokens import Encoded, Tokens

Features = Mapping[str, Tensor | npt.NDArray[Any]]


@dataclass(frozen=True)
class Settings:
    """How answers are generated; the defaults are AffectGPT's, but for greedy instead of sampled.

    ``max_length``: tokens of prompt and answer together, so that a prompt may have ``max_length -
    max_new_tokens``. ``sample``: draw, with ``temperature``, among the ``top_k`` most probable
    tokens that make up ``top_p`` of the probability. ``top_k`` None: the language model's own
    (its generation_config.json), or else 50; 0: all.
    """

    max_new_tokens: int = 1200
    max_length: int = 2000
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_new_tokens < self.max_length:
            raise MerstoreError(
                f"max_new_tokens is {self.max_new_tokens}; it has to be from 1 to max_length "
                f"({self.max_length}) less what a prompt takes"
            )
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or (self.top_k or 0) < 0:
            raise MerstoreError(
                f"temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k}: they have "
                "to be above 0, in (0, 1], and from 0"
            )


@dataclass(frozen=True)
class Request:
    """One question about one sample.

    ``features``: each ``[T, D]``, by modality (``frame``, ``face``, ``audio``, ``image``, ``au``),
    those that the prompt needs at least. ``multi``: ``"face"`` or ``"frame"``, what is fused with
    the audio, where the prompt has its placeholder. ``seed``: of a sampled answer. ``name``: the
    sample, for errors.
    """

    prompt: str
    features: Features = field(default_factory=dict)
    multi: str | None = None
    seed: int = 0
    name: str = ""


@dataclass(frozen=True)
class Answer:
    """``text``: the answer. ``tokens``: how many were generated. ``ended``: by itself, and not
    because they were too many. ``cut``: what of the subtitle or of the clues had to be left out of
    the prompt. ``seed``: what it was drawn with; None where it was not.
    """

    text: str
    tokens: int
    ended: bool
    cut: str
    seed: int | None


class Generator:
    """Answers requests with a model, which it puts into eval mode.

    A greedy answer depends on its own request only, up to rounding: batch size and padding change
    the last bits of scores, which matters where two tokens are as good as equal. A sampled one is
    drawn with the request's own seed, whatever stands beside it.

    ``most``: requests that go through the model at once; it is halved where memory does not
    suffice. ``projecting``: seconds that the fusion and projection of features have taken so far.
    Not for several threads at once.
    """

    def __init__(
        self, model: AffectGPT, tokens: Tokens, settings: Settings | None = None, most: int = 16
    ) -> None:
        self.model = model.eval()
        self.tokens = tokens
        self.settings = settings or Settings()
        self.most = most
        self.projecting = 0.0
        self._ends = {tokens.eos, *_ends(model.llama_model)}
        self._held = frozenset(tokens.places.values())
        self.limit = self.settings.max_length - self.settings.max_new_tokens

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers, in the order of the requests, which are batched by length.

        Raises MerstoreError, naming the sample, for a prompt that does not fit and for features
        that are missing or of another shape, and where memory does not suffice for one request.
        """
        encoded = [self._encoded(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda at: len(encoded[at].ids), reverse=True)
        answers: dict[int, Answer] = {}
        while order:
            now = order[: self.most]
            try:
                texts = self._batch([requests[at] for at in now], [encoded[at] for at in now])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(now) == 1:
                    name = requests[now[0]].name
                    raise MerstoreError(f"{name}: not enough memory for one request") from error
                texts = []
            if texts:
                answers.update(zip(now, texts, strict=True))
                order = order[len(now) :]
            else:
                self.most = len(now) // 2
                _free_cache()
        return [answers[at] for at in range(len(requests))]

    def _encoded(self, request: Request) -> Encoded:
        try:
            encoded = self.tokens.encode(request.prompt, self.limit)
        except MerstoreError as error:
            raise named(request, error) from error
        rows = self.model.vocabulary
        if foreign := [id for id in encoded.ids if id >= rows and id not in self._held]:
            raise named(
                request,
                f"token {foreign[0]} of the prompt is beyond the language model's {rows}: the "
                "tokenizer is of another model",
            )
        needed = set(encoded.places)
        if "multi" in needed:
            if request.multi not in {"face", "frame"}:
                raise named(
                    request,
                    f"the prompt has a place for fused features, of face or frame: multi says "
                    f"{request.multi!r}",
                )
            needed = needed - {"multi"} | {request.multi, "audio"}
        if missing := sorted(needed - set(request.features)):
            raise named(request, f"the prompt needs features of {', '.join(missing)}")
        return encoded

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request], encoded: Sequence[Encoded]) -> list[Answer]:
        ids, mask = self.tokens.batch([one.ids for one in encoded])
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        started = time.perf_counter()
        vectors = self._vectors(requests, encoded)
        if self.model.device.type == "cuda":  # or the work would be counted where it is waited for
            torch.cuda.synchronize(self.model.device)
        self.projecting += time.perf_counter() - started
        embedded = self.model.embed(ids, self.tokens.places, vectors)
        output = self._generate(embedded, mask, requests)
        return [
            self._answer(row, one, request)
            for row, one, request in zip(output, encoded, requests, strict=True)
        ]

    def _vectors(
        self, requests: Sequence[Request], encoded: Sequence[Encoded]
    ) -> dict[str, Tensor]:
        """``[B, queries, width]`` by modality; rows of requests without that modality are zero, and
        not looked at. Requests whose features have the same shapes are fused together.
        """
        groups: dict[Any, list[int]] = defaultdict(list)
        for at, (request, one) in enumerate(zip(requests, encoded, strict=True)):
            shapes = tuple(sorted((name, rows.shape) for name, rows in request.features.items()))
            groups[shapes, one.places, request.multi].append(at)
        vectors: dict[str, Tensor] = {}
        for (shapes, places, multi), members in groups.items():
            features = {
                name: torch.stack([_tensor(requests[at].features[name]) for at in members])
                for name, _ in shapes
            }
            try:
                fused = self.model(features, sorted(places), multi)
            except MerstoreError as error:
                raise named(requests[members[0]], error) from error
            for name, rows in fused.items():
                whole = vectors.setdefault(name, rows.new_zeros(len(requests), *rows.shape[1:]))
                whole[members] = rows
        return vectors

    def _generate(
        self, embedded: Tensor, mask: Tensor, requests: Sequence[Request]
    ) -> list[list[int]]:
        """The new tokens of each row; what follows a row's ending means nothing."""
        from transformers import (
            GenerationConfig,
            LogitsProcessorList,
            StoppingCriteriaList,
        )

        settings, llm = self.settings, self.model.llama_model
        draws = []
        if settings.sample:
            seeds = [one.seed for one in requests]
            draws = [_draws(settings, self._top_k, seeds, embedded.device)]
        config = GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,  # what is drawn is decided by our own processor
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=sorted(self._ends),
            pad_token_id=self.tokens.pad,
        )
        with quiet():
            output: Tensor = llm.generate(
                inputs_embeds=embedded,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList(draws),
                stopping_criteria=StoppingCriteriaList(
                    [_stopping(self.tokens.stops, embedded.device)]
                ),
            )
        return output.tolist()

    @property
    def _top_k(self) -> int:
        if self.settings.top_k is not None:
            return self.settings.top_k
        own = getattr(self.model.llama_model.generation_config, "top_k", None)
        return 50 if own is None else own

    def _answer(self, ids: list[int], encoded: Encoded, request: Request) -> Answer:
        end = self.tokens.ended(ids, self._ends)
        said = ids[:end]
        if said and said[-1] in self._ends:
            said = said[:-1]
        return Answer(
            text=self.tokens.answer(said),
            tokens=len(ids) if end is None else end,
            ended=end is not None,
            cut=encoded.cut,
            seed=request.seed if self.settings.sample else None,
        )


def _ends(llm: Any) -> list[int]:
    """The tokens that a language model itself says end an output."""
    ids = getattr(llm.generation_config, "eos_token_id", None)
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


def _stopping(stops: Sequence[Sequence[int]], device: torch.device) -> Any:
    """Ends the rows whose last tokens are one of `stops`, each by itself."""
    tails = [torch.tensor(stop, device=device) for stop in stops]

    def ended(ids: Tensor, scores: Any, **_: Any) -> Tensor:
        done = torch.zeros(len(ids), dtype=torch.bool, device=device)
        for tail in tails:
            if ids.shape[1] >= len(tail):
                done |= (ids[:, -len(tail) :] == tail).all(1)
        return done

    return ended


def _draws(settings: Settings, top_k: int, seeds: Sequence[int], device: torch.device) -> Any:
    """Leaves each row one token, drawn by the row's own random numbers: one for each token, so that
    neither the batch nor the device decides.
    """
    drawn_of = [np.random.default_rng(seed).random(settings.max_new_tokens) for seed in seeds]
    numbers = torch.from_numpy(np.stack(drawn_of)).to(device)

    def drawn(ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores / settings.temperature
        kept = min(top_k, scores.shape[1]) if top_k else scores.shape[1]
        best, tokens = torch.topk(scores, kept)  # in descending order
        probability = best.double().softmax(1)
        before = probability.cumsum(1) - probability
        probability = probability.masked_fill(before >= settings.top_p, 0.0)
        total = probability.cumsum(1)
        at = numbers[:, ids.shape[1], None] * total[:, -1:]
        chosen = torch.searchsorted(total, at, right=True)
        token = tokens.gather(1, chosen.clamp(max=kept - 1))
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    return drawn


def _tensor(rows: Tensor | npt.NDArray[Any]) -> Tensor:
    if isinstance(rows, Tensor):
        return rows
    # A stored feature may be mapped read-only; torch needs memory of its own.
    return torch.from_numpy(np.array(rows))


def named(request: Request, error: object) -> MerstoreError:
    return MerstoreError(f"{request.name}: {error}" if request.name else str(error))


def _free_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

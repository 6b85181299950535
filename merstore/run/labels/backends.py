"""Who answers: language models on this machine or behind an endpoint."""

import hashlib
import json
import os
import random
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from merstore._version import __version__
from merstore.errors import EncoderError, MerstoreError
from merstore.extract.models import (
    ModelFolder,
    first_line,
    full_float32,
    out_of_memory,
    pretrained,
    quiet,
)
from merstore.run.labels.prompts import PROMPTS, clean, render

NO_ANSWER, SAID_NOTHING = "no_answer", "the model returned nothing"


class Refusal(NamedTuple):
    """Why a message has no answer; ``kind`` is that of the failure record."""

    kind: str
    message: str


@dataclass(frozen=True)
class Decoding:
    """How a model chooses its words: the likeliest at ``temperature`` 0, else drawn from the
    likeliest that make up ``top_p``. Draws depend on the seed and the message alone, not on what
    is answered beside it, or before.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    def seed_of(self, message: str) -> int:
        """63 bits."""
        digest = hashlib.sha256(f"{self.seed} {message}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1


GREEDY = Decoding()
PUBLISHED = Decoding(temperature=0.7, top_p=0.8, repetition_penalty=1.05)
"""The settings of OV-MER, MER2025 and AffectGPT (which set no seed)."""


class Backend(ABC):
    """Something that answers messages. ``name``: of the model, as it may stand in a view's path;
    ``batch``: how many messages it takes at a time.
    """

    name: str
    batch: int

    @abstractmethod
    def spec(self, task: str) -> dict[str, Any]:
        """All that decides about an answer besides the message, as JSON values."""

    @abstractmethod
    def message(self, task: str, prompt: str = "text", **blanks: str) -> str:
        """What is asked about a text."""

    @abstractmethod
    def answer(self, task: str, messages: Sequence[str]) -> Iterable[str | Refusal]:
        """An answer, or the reason why there is none, for each of up to ``batch`` messages.

        Raises MerstoreError where no message can be answered at all.
        """


class LanguageModel(Backend):
    """A backend that is asked by prompt."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding

    @abstractmethod
    def model(self) -> dict[str, Any]:
        """Which model it is, as JSON values."""

    def spec(self, task: str) -> dict[str, Any]:
        return {**self.model(), "decoding": asdict(self.decoding), "prompts": PROMPTS[task]}

    def message(self, task: str, prompt: str = "text", **blanks: str) -> str:
        return render(PROMPTS[task][prompt], **blanks)


# -- on this machine


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
                    **padded, logits_processor=self._processors(padded.attention_mask, seeds)
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

    def _processors(self, mask: Any, seeds: list[int]) -> list[Any]:
        how = self.decoding
        chain: list[Any] = []
        if how.repetition_penalty != 1:
            chain.append(_Penalty(how.repetition_penalty, mask))
        if how.temperature > 0:
            chain.append(_Draw(how.temperature, how.top_p, seeds))
        return chain


class _Penalty:
    """The repetition penalty, for what was said: not for the tokens that pad a shorter row."""

    def __init__(self, penalty: float, mask: Any) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        self._penalise = RepetitionPenaltyLogitsProcessor(penalty)
        self._mask = mask.bool()

    def __call__(self, ids: Any, scores: Any) -> Any:
        width = self._mask.shape[1]
        said = ids.clone()
        said[:, :width] = ids[:, :width].where(self._mask, ids[:, width - 1 : width])
        return self._penalise(said, scores)


class _Draw:
    """A draw for each row by a generator of its own: all scores but that of the token drawn go to
    minus infinity. Nucleus sampling after Holtzman et al., "The Curious Case of Neural Text
    Degeneration" (ICLR 2020).
    """

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = [random.Random(seed) for seed in seeds]

    def __call__(self, ids: Any, scores: Any) -> Any:
        import torch

        shares = (scores.float() / self._temperature).softmax(-1)
        shares, order = shares.sort(descending=True, stable=True)
        likelier = shares.cumsum(-1) - shares
        kept = shares.masked_fill(likelier >= self._top_p, 0).cumsum(-1)
        drawn = torch.tensor([each.random() for each in self._random], device=kept.device)
        place = (kept <= drawn[:, None] * kept[:, -1:]).sum(-1, keepdim=True)
        token = order.gather(-1, place.clamp(max=order.shape[-1] - 1))
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)


class Vllm(_Local):
    """The same through vLLM, which batches by itself. Raises MerstoreError where it is missing."""

    batch = 256

    def __init__(self, model: str | Path, decoding: Decoding = GREEDY) -> None:
        _vllm()
        super().__init__(model, decoding)
        self._engine: Any = None

    def answer(self, task: str, messages: Sequence[str]) -> list[str | Refusal]:
        vllm = _vllm()
        if self._engine is None:
            self._engine = vllm.LLM(model=str(self.folder.path), generation_config="vllm")
        how = self.decoding
        settings = [
            vllm.SamplingParams(
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


def _vllm() -> Any:
    try:
        import vllm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MerstoreError(
            f"--backend vllm needs vLLM ({error}): pip install 'merstore[vllm]' on Linux with a CUDA "
            "GPU, or take --backend transformers"
        ) from None
    return vllm


# -- behind an endpoint

_RETRIED = {408: "timeout", 429: "rate_limited"}  # and 5xx
_HOPELESS = {
    401: "the key in OPENAI_API_KEY is missing or not accepted",
    402: "the account has nothing left",
    403: "the key in OPENAI_API_KEY is not allowed to",
    404: "no such path or model: the URL ends in /v1 as a rule",
}
_MAX_ANSWER = 16 << 20
_MAX_WAIT = 60.0
_SHOWN = 200


class Endpoint(LanguageModel):
    """A chat endpoint that speaks OpenAI's protocol, such as vLLM's, llama.cpp's or a provider's.

    ``url``: up to ``/chat/completions``, such as ``http://127.0.0.1:8000/v1``. The key, where one is
    needed, is that in the environment's OPENAI_API_KEY. ``timeout``: seconds without a sign of life.

    A time-out, too many requests, a server's error, and an answer that is none are tried again,
    ``attempts`` times in all, after waiting twice as long each time (or what the server asks for, up
    to a minute); then the message has a Refusal. What it says of the message itself (400, 413, 422)
    is one at once. Raises MerstoreError where nothing answers at the URL, or it refuses whatever it
    is asked; and where urllib3 is not installed.
    """

    batch = 32

    def __init__(
        self,
        url: str,
        model: str,
        decoding: Decoding = GREEDY,
        *,
        timeout: float = 60.0,
        attempts: int = 6,
        together: int = 8,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__(decoding)
        try:
            import urllib3
        except ModuleNotFoundError:
            raise MerstoreError(
                "--backend openai needs urllib3: pip install 'merstore[api]'"
            ) from None
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MerstoreError(f"{url}: no URL of an endpoint, such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise MerstoreError("no password in the URL: put the key into OPENAI_API_KEY")
        self.asked_for = model
        self.name = re.sub(r"[^\w.+-]", "-", model.split("/")[-1], flags=re.ASCII).lstrip("._+-")
        if not self.name:
            raise MerstoreError(f"{model!r}: no name of a model")
        self._attempts = attempts
        self._together = together
        self._wait = wait
        self._headers = {
            "User-Agent": f"merstore/{__version__}",
            "Content-Type": "application/json",
        }
        if key := os.environ.get("OPENAI_API_KEY"):
            self._headers["Authorization"] = f"Bearer {key}"
        self._http = urllib3.PoolManager(
            maxsize=together, retries=False, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )

    def model(self) -> dict[str, Any]:
        return {"backend": "openai", "model": self.asked_for, "url": self.url}

    def answer(self, task: str, messages: Sequence[str]) -> list[str | Refusal]:
        todo: SimpleQueue[int] = SimpleQueue()
        for row in range(len(messages)):
            todo.put(row)
        found: dict[int, str | Refusal] = {}
        errors: list[Exception] = []
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    row = todo.get_nowait()
                    found[row] = self._ask(messages[row], stop)
            except Empty:
                pass
            except Exception as error:  # noqa: BLE001  (the caller's thread raises it)
                errors.append(error)
                stop.set()

        # daemons, so that Ctrl-C need not wait for what an endpoint still has to say
        threads = [
            threading.Thread(target=work, name="merstore-ask", daemon=True)
            for _ in range(min(self._together, len(messages)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            stop.set()
        if errors:
            raise errors[0]
        return [found[row] for row in range(len(messages))]

    def _ask(self, message: str, stop: threading.Event) -> str | Refusal:
        how = self.decoding
        body: dict[str, Any] = {
            "model": self.asked_for,
            "messages": [{"role": "user", "content": message}],
            "temperature": how.temperature,
            "top_p": how.top_p,
            "max_tokens": how.max_tokens,
            "seed": how.seed_of(message) >> 32,  # servers differ in how large a seed they take
        }
        if how.repetition_penalty != 1:  # vLLM's and others', not OpenAI's own
            body["repetition_penalty"] = how.repetition_penalty
        data = json.dumps(body).encode()
        jitter = random.Random(message)
        wait = stop.wait if self._wait is None else self._wait
        found: _Reply | str = ""
        for attempt in range(self._attempts):
            if attempt:
                asked = found.after if isinstance(found, _Reply) else 0.0
                grown = 2.0 ** (attempt - 1) * jitter.uniform(0.5, 1.0)
                wait(min(_MAX_WAIT, max(asked, grown)))
                if stop.is_set():
                    break
            found = self._once(data)
            if isinstance(found, str):
                return found
            if not found.again:
                break
        assert isinstance(found, _Reply)
        if found.hopeless:
            raise MerstoreError(f"{self.url}: {found.refusal.message}")
        return found.refusal

    def _once(self, data: bytes) -> "_Reply | str":
        import urllib3

        try:
            reply = self._http.request(
                "POST",
                f"{self.url}/chat/completions",
                body=data,
                headers=self._headers,
                preload_content=False,
                redirect=False,
            )
            content = reply.read(_MAX_ANSWER, decode_content=True)
            if len(content) < _MAX_ANSWER:
                reply.release_conn()
            else:
                reply.close()
        except urllib3.exceptions.NewConnectionError as error:
            return _Reply("unreachable", f"nothing answers there: {error}", hopeless=True)
        except urllib3.exceptions.TimeoutError as error:
            return _Reply("timeout", f"no answer in time: {error}")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return _Reply("server_error", f"the connection broke: {first_line(error)}")
        told = " ".join(content[:_SHOWN].decode(errors="replace").split())
        status = reply.status
        if status in _HOPELESS:
            return _Reply(
                "refused", f"{status}, {_HOPELESS[status]}: {told}", again=False, hopeless=True
            )
        if status in _RETRIED or status >= 500:
            kind = _RETRIED.get(status, "server_error")
            return _Reply(
                kind, f"{status}: {told}", after=_seconds(reply.headers.get("Retry-After"))
            )
        if status != 200:
            return _Reply("refused", f"{status}: {told}", again=False)
        try:
            answer = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return _Reply("bad_answer", f"no chat completion: {told}")
        if not isinstance(answer, str | None):
            return _Reply("bad_answer", f"its content is no text: {told}")
        return answer if answer and clean(answer) else _Reply(NO_ANSWER, SAID_NOTHING)


class _Reply:
    """Why an attempt failed, and what to do: try again, ``after`` seconds at the earliest; or, where
    it is ``hopeless`` to the last, ask nothing more at all.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        after: float = 0.0,
        again: bool = True,
        hopeless: bool = False,
    ) -> None:
        self.refusal = Refusal(kind, message)
        self.after = after
        self.again = again
        self.hopeless = hopeless


def _seconds(header: str | None) -> float:
    """A Retry-After in seconds; a date counts as none."""
    try:
        return min(max(float(header or 0), 0.0), _MAX_WAIT)
    except ValueError:
        return 0.0

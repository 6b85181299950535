"""Frozen transformers models of text: sentences in, the hidden states of their tokens out."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError
from merstore.extract.models import FrozenModel, ModelFolder, Passes, first_line, pretrained, quiet

Layers = Literal["mean of the last four", "sum of the last four", "last"]
LAYERS: tuple[Layers, ...] = ("mean of the last four", "sum of the last four", "last")

Cut = Literal["by special tokens mask", "by probe sentence"]
CUTS: tuple[Cut, ...] = ("by special tokens mask", "by probe sentence")

HALF = "float16 on a GPU, float32 on a CPU"
"""How MERTools runs large language models."""

LARGE = {
    "llama", "opt", "bloom", "falcon", "gpt_neox", "gptj", "mistral", "qwen2", "qwen3",
    "gemma", "gemma2", "phi", "stablelm", "internlm", "baichuan", "chatglm", "moss",
}  # fmt: skip
"""Model types that are such language models."""

PROBE = "今天天气真好"
"""What the probe rule encodes and wants back: Chinese that every Chinese vocabulary has."""

# Encoders of models that have a decoder too.
_ENCODERS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}

# What a tokenizer is made of; its vocabulary is in one of the first.
_VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model"),
)
_TOKENIZER = (
    *_VOCABULARIES,
    *("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)

_DIM = ("hidden_size", "d_model", "n_embd", "n_embed", "dim")
_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")
# They count positions from behind the padding token's.
_OFFSET = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text"}
_ENDLESS = 1_000_000  # what stands for no limit in a tokenizer's config is larger

# Of a config: what does not decide about hidden states of a frozen model.
_BOOKKEEPING = re.compile(
    r"_.*|architectures|transformers_version|torch_dtype|dtype|use_cache|.*dropout.*|.*_pdrop"
    r"|initializer.*|init_.*|id2label|label2id|finetuning_task|task_specific_params|problem_type"
    r"|return_dict.*|output_.*|gradient_checkpointing|auto_map|summary_.*|directionality|pooler_.*"
)
_UNUSED_WEIGHTS = (r"(.*\.)?pooler\..*",)

_GPU_PASS, _GPU_MOST = 4096, 1 << 20  # tokens in one forward pass

Array = npt.NDArray[Any]


class Tokenizing(FrozenModel):
    """What has a tokenizer: models of text, and CLIP's text tower."""

    _left_behind = FrozenModel._left_behind | {"tokenizer", "_passes"}

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        *,
        half: bool = False,
        tokenizer: str | None = None,
    ) -> None:
        super().__init__(ModelFolder(model), device)
        self.half = half
        self.tokenizer_class = tokenizer
        if not any((self.folder.path / file).is_file() for file in _VOCABULARIES):
            raise EncoderError(
                f"{self.folder.path}: no tokenizer in it ({' or '.join(_VOCABULARIES[:4])})"
            )

    @property
    def kind(self) -> str:
        """The model type."""
        return self.folder.kind

    def computation(self) -> dict[str, Any]:
        return {"dtype": HALF if self.half else "float32"}

    @cached_property
    def tokenizer_files(self) -> dict[str, str]:
        """The digests of the tokenizer's files by name."""
        files = (self.folder.path / file for file in _TOKENIZER)
        return {file.name: self.folder.digest([file]) for file in files if file.is_file()}

    @cached_property
    def tokenizer(self) -> Any:
        import transformers

        kind = getattr(transformers, self.tokenizer_class or "AutoTokenizer")
        try:
            with quiet():
                return kind.from_pretrained(self.folder.path)
        except (
            Exception
        ) as error:  # whatever a damaged file makes transformers and tokenizers raise
            reason = first_line(error)
            raise EncoderError(f"{self.name}: its tokenizer cannot be loaded: {reason}") from error

    def load(self) -> None:
        with self._lock:
            _ = self.tokenizer, self.model

    @cached_property
    def _passes(self) -> Passes:
        if self.on_cpu:
            return Passes(_GPU_MOST)
        return Passes(_GPU_PASS, grow=True, most=_GPU_MOST)

    @property
    def _loaded_part(self) -> str:
        return "half" if self.half else ""

    def _dtype(self) -> Any:
        """Of weights and computation, on the device that there is; `FrozenModel.model` asks too."""
        import torch

        self.compute = "float16" if self.half and not self.on_cpu else "float32"
        return getattr(torch, self.compute)


class TextEncoder(Tokenizing):
    """A frozen transformers model of text, from a local folder or by its hub id: BERT and its kin,
    or a language model without its head.

    ``cut``: how special tokens are found, which are cut from the states. By the tokenizer's own
    mask; or as MERTools finds them, who cuts as many at the ends of any text as must be cut from
    those of `PROBE` so that it is given back. ``truncate``: longer texts than the model takes keep
    their first tokens; else they are refused. ``half``: run in float16 on a GPU. ``tokenizer``: a
    class of transformers, where it is not the one that the folder's configs name.

    Construction and `spec` read JSON files only. Otherwise as `FrozenModel`.
    """

    _left_behind = Tokenizing._left_behind | {"_ends"}

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        *,
        cut: Cut = "by special tokens mask",
        truncate: bool = True,
        half: bool = False,
        tokenizer: str | None = None,
    ) -> None:
        super().__init__(model, device, half=half, tokenizer=tokenizer)
        self.cut = cut
        self.truncate = truncate
        if cut not in CUTS:
            raise EncoderError(f"cut={cut!r}: special tokens are cut {' or '.join(CUTS)}")
        if self.folder.config.get("is_encoder_decoder") and self.kind not in _ENCODERS:
            known = ", ".join(_ENCODERS)
            raise EncoderError(
                f"{self.name} is a {self.kind} model, of an encoder and a decoder; "
                f"of such ones there is code for {known}"
            )
        _ = self.dim

    @property
    def dim(self) -> int:
        """Values per token."""
        config = self.folder.config
        found = next((config[key] for key in _DIM if config.get(key)), None)
        if not isinstance(found, int):
            raise EncoderError(f"{self.name}: its config.json does not say how wide its states are")
        return found

    @property
    def positions(self) -> int | None:
        """Tokens that the model takes, special ones included; None where nothing bounds them."""
        config = self.folder.config
        found = next((config[key] for key in _POSITIONS if config.get(key)), None)
        if not isinstance(found, int) or found < 1:  # -1: relative ones only
            return None
        offset = config.get("pad_token_id", 1) + 1 if self.kind in _OFFSET else 0
        return found - offset

    @property
    def max_tokens(self) -> int | None:
        """Tokens that are kept of a longer text, special ones included."""
        limits = [
            self.positions,
            self.folder.json("tokenizer_config.json").get("model_max_length"),
            self.folder.json("sentence_bert_config.json").get("max_seq_length"),
        ]
        told = [int(limit) for limit in limits if limit is not None and 0 < limit < _ENDLESS]
        return min(told, default=None)

    def spec(self) -> dict[str, Any]:
        """What decides about the states, as JSON. Holds no path."""
        config = self.folder.config
        return {
            "architecture": self.kind,
            "config": {key: config[key] for key in config if not _BOOKKEEPING.fullmatch(key)},
            "weights": self.folder.weights,
            "dim": self.dim,
            "tokenizer": {"class": self.tokenizer_class, "files": self.tokenizer_files},
            "special_tokens": f"cut {self.cut}",
            "max_tokens": self.max_tokens if self.truncate else None,
            "compute": self.computation(),
        }

    def states(self, texts: Sequence[str], layers: Layers) -> list[Array]:
        """What is made of the last layers' states of each text: [tokens, dim], without those of
        special tokens, in the dtype of the computation; of no row where there are no others.

        Nothing is padded. On a CPU every text goes through the model alone, because there the size
        of a pass changes the last bits; on a GPU all texts of one length do together.

        Raises EncoderError, also for a text that is too long.
        """
        results: list[Array] = [np.empty(0)] * len(texts)
        with self._lock:
            tokens = [self._tokens(text) for text in texts]
            for places in self._together([len(ids["input_ids"]) for ids, _ in tokens]):
                rows = [tokens[place][0] for place in places]
                done: list[Array] = []

                def forward(
                    part: slice, rows: list[dict[str, list[int]]] = rows, done: list[Array] = done
                ) -> None:
                    done.extend(self._forward(rows[part], layers))

                self._passes.run(len(rows), forward, self.name, len(rows[0]["input_ids"]))
                for place, states in zip(places, done, strict=True):
                    results[place] = states[tokens[place][1]]
        return results

    def _together(self, lengths: list[int]) -> list[list[int]]:
        if self.on_cpu:
            return [[place] for place in range(len(lengths))]
        groups: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            groups.setdefault(length, []).append(place)
        return [groups[length] for length in sorted(groups)]

    def _tokens(self, text: str) -> tuple[dict[str, list[int]], list[int]]:
        """What the model takes of a text, and the places of its tokens that are not special."""
        how: dict[str, Any] = {"return_special_tokens_mask": True}
        if self.truncate and self.max_tokens:
            how |= {"truncation": True, "max_length": self.max_tokens}
        ids = dict(self.tokenizer(text, **how))
        special = ids.pop("special_tokens_mask")
        count = len(special)
        if self.positions is not None and count > self.positions:
            raise EncoderError(
                f"{self.name} takes {self.positions} tokens, and the text has {count} "
                f"({text[:20]!r}…): the profile clean leaves the rest out"
            )
        if self.cut == "by probe sentence":
            kept = list(range(count))[self._ends]
        else:
            kept = [place for place in range(count) if not special[place]]
        return ids, kept

    @cached_property
    def _ends(self) -> slice:
        """What is left of any text's tokens, by MERTools' rule."""
        ids = self.tokenizer(PROBE)["input_ids"]
        for start in (0, 1, 2):
            for end in (None, -1, -2):
                told = self.tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False)
                if told.replace(" ", "") == PROBE:
                    return slice(start, end)
        raise EncoderError(
            f"{self.name}: its tokenizer does not give Chinese text back, by which MERTools finds out "
            f"what to cut, so that MERTools has no such features; cut={CUTS[0]!r} cuts what the "
            "tokenizer marks as special"
        )

    def load(self) -> None:
        super().load()
        if self.cut == "by probe sentence":
            with self._lock:
                _ = self._ends

    def _load(self) -> Any:
        import transformers

        kind = getattr(transformers, _ENCODERS.get(self.kind, "AutoModel"))
        model = pretrained(kind, self.folder, _UNUSED_WEIGHTS, dtype=self._dtype())
        model.config.use_cache = False
        return model

    def _forward(self, rows: list[dict[str, list[int]]], layers: Layers) -> Array:
        import torch

        inputs = {
            key: torch.tensor([row[key] for row in rows], device=self.torch_device)
            for key in rows[0]
        }
        with self.running() as model:
            states = model(**inputs, output_hidden_states=True).hidden_states
            if layers == "last":
                made = states[-1]
            else:
                last = torch.stack(states[-4:])
                made = last.sum(dim=0) if layers == "sum of the last four" else last.mean(dim=0)
            return made.cpu().numpy()  # type: ignore[no-any-return]


class ClipTextEncoder(Tokenizing):
    """CLIP's text tower with its projection, from a local folder or by its hub id.

    Texts are tokenised as OpenAI's package does (but for its repair of broken Unicode): lower case,
    77 tokens with the two special ones, the end being cut from longer texts, zeros behind shorter
    ones, which a causal model does not see.
    """

    def __init__(self, model: str | Path, device: str = "auto", *, half: bool = False) -> None:
        super().__init__(model, device, half=half)
        if self.kind != "clip":
            raise EncoderError(
                f"{self.name} is a {self.kind or 'model of an unknown kind'}; descriptions of faces "
                "are encoded by CLIP"
            )

    @property
    def dim(self) -> int:
        """Values per text."""
        return int(self.folder.config.get("projection_dim") or 512)

    @property
    def context(self) -> int:
        """Tokens of a text."""
        return int(self._text_config.get("max_position_embeddings") or 77)

    @property
    def _text_config(self) -> dict[str, Any]:
        config = self.folder.config.get("text_config") or {}
        return {key: config[key] for key in config if not _BOOKKEEPING.fullmatch(key)}

    def spec(self) -> dict[str, Any]:
        """What decides about the vectors, as JSON. Holds no path."""
        return {
            "architecture": "clip text tower, projected",
            "config": self._text_config,
            "weights": self.folder.weights,
            "dim": self.dim,
            "tokenizer": {"files": self.tokenizer_files},
            "context": self.context,
            "compute": self.computation(),
        }

    def encode(self, units: Sequence[Sequence[str]]) -> list[Array]:
        """The texts of each unit as rows of length 1: [texts, dim], in the dtype of the computation.

        On a CPU a unit's texts go through the model together and with no other unit's. Raises
        EncoderError.
        """
        results: list[Array] = []
        with self._lock:
            for group in [[unit] for unit in units] if self.on_cpu else [list(units)]:
                ids = [self._tokens(text) for unit in group for text in unit]
                done: list[Array] = []

                def forward(
                    part: slice, ids: list[list[int]] = ids, done: list[Array] = done
                ) -> None:
                    done.extend(self._forward(ids[part]))

                self._passes.run(len(ids), forward, self.name, self.context)
                rows = iter(done)
                results += [np.stack([next(rows) for _ in unit]) for unit in group]
        return results

    def _tokens(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, truncation=True, max_length=self.context)["input_ids"])
        return ids + [0] * (self.context - len(ids))

    def _load(self) -> Any:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        with quiet():
            config = CLIPTextConfig.from_pretrained(self.folder.path)
        config.projection_dim = self.dim
        return pretrained(
            CLIPTextModelWithProjection, self.folder, config=config, dtype=self._dtype()
        )

    def _forward(self, ids: list[list[int]]) -> Array:
        import torch

        with self.running() as model:
            rows = model(input_ids=torch.tensor(ids, device=self.torch_device)).text_embeds
            rows = rows / rows.norm(dim=-1, keepdim=True)
            return rows.cpu().numpy()  # type: ignore[no-any-return]

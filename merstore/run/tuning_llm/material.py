"""What is trained on: samples whose features are stored, with their prompts and answers in tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from merstore.errors import MerstoreError, MissingEntry
from merstore.interop.affectgpt import collate, text_pieces
from merstore.load import FeatureDataset
from merstore.models.affectgpt import Tokens
from merstore.run import prompts
from merstore.run.tuning_llm.corpora import Corpus
from merstore.store.store import Store

ON_MISS = ("raise", "skip")
_SHOWN = 5

Pieces = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """``ids``, ``labels`` and ``mask`` ``[B, L]``: int64, and bool (where it is no padding); with
    -100 for what is not learned. ``features``: ``[B, T, D]`` float32 by modality. ``types``: what
    each sample was asked.
    """

    names: list[str]
    types: list[str]
    ids: Tensor
    labels: Tensor
    mask: Tensor
    features: dict[str, Tensor]


class Material:
    """Training samples of one or several corpora, in rows.

    views: by modality, the end of the view's path (``face@CLIP_VIT_LARGE/8frms``), the same for all
    corpora. label_types: which questions; None: all that a corpus has. Of those that a sample has a
    label for, one is asked in each pass over the samples, as the seed says (AffectGPT's ``hybird``).

    Everything is looked at before it is needed: a sample that lacks a feature or a subtitle, or whose
    texts do not fit `max_length`, is an error (``on_miss="raise"``) or left out (``"skip"``), and
    never stands for another. ``left_out``: samples by reason.

    Raises MissingEntry and MerstoreError for that, UnknownView for a view that is not there.
    """

    def __init__(
        self,
        store: Store,
        corpora: Sequence[Corpus],
        tokens: Tokens,
        mode: str,
        views: Mapping[str, str],
        *,
        label_types: Sequence[str] | None = None,
        on_miss: str = "raise",
        max_length: int = 1024,
        seed: int = 42,
        au_features: bool = False,
    ) -> None:
        if on_miss not in ON_MISS:
            raise MerstoreError(f"on_miss is one of {', '.join(ON_MISS)}, not {on_miss!r}")
        for kind in label_types or ():
            if kind not in prompts.LABEL_TYPES:
                raise MerstoreError(
                    f"unknown label type {kind!r}; there are {', '.join(prompts.LABEL_TYPES)}"
                )
        self.corpora = list(corpora)
        datasets = [corpus.dataset for corpus in self.corpora]
        if twice := sorted({name for name in datasets if datasets.count(name) > 1}):
            raise MerstoreError(f"{twice[0]} is given twice: ratios say what is drawn more often")
        self.tokens = tokens
        self.mode = mode
        self.multi = prompts.multi_source(mode)
        self.views = dict(views)
        self.label_types = tuple(label_types or prompts.LABEL_TYPES)
        self.on_miss = on_miss
        self.max_length = max_length
        self.seed = seed
        self.au_features = au_features
        self.left_out: dict[str, list[str]] = {}
        self.places: frozenset[str] = frozenset()
        self._datasets: list[FeatureDataset | None] = []
        self._texts: list[dict[str, Pieces]] = []
        self._names: list[tuple[str, str]] = []
        starts = [0]
        for corpus in self.corpora:
            names = self._add(store, corpus)
            starts.append(starts[-1] + len(names))
        self._starts = np.array(starts)
        if self.left_out and on_miss == "raise":
            raise MissingEntry(self.lacking() + '. Compute what is missing, or on_miss="skip"')
        if not self._names:
            raise MissingEntry(f"no sample to train on{': ' * bool(self.left_out)}{self.lacking()}")
        self._check_shapes()

    def __len__(self) -> int:
        return len(self._names)

    @property
    def widths(self) -> dict[str, int]:
        """How wide the features of each modality are."""
        views = next((each.views for each in self._datasets if each is not None), {})
        return {modality: view.record.row_shape[-1] for modality, view in views.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each corpus."""
        sizes = np.diff(self._starts).tolist()
        return {corpus.dataset: n for corpus, n in zip(self.corpora, sizes, strict=True)}

    def lacking(self) -> str:
        """What is left out and why, in words."""
        return "; ".join(
            f"{reason}: {len(names)} samples ({', '.join(names[:_SHOWN])}"
            f"{', ...' * (len(names) > _SHOWN)})"
            for reason, names in self.left_out.items()
        )

    def describe(self) -> dict[str, Any]:
        """What a continued training must have in common with its beginning: JSON-able."""
        named = "\n".join(f"{dataset}/{name}" for dataset, name in self._names)
        prints = {
            f"{corpus.dataset}/{tail}": dataset.views[modality].fingerprint
            for corpus, dataset in zip(self.corpora, self._datasets, strict=True)
            if dataset is not None
            for modality, tail in self.views.items()
        }
        return {
            "mode": self.mode,
            "datasets": self.counts,
            "views": prints,
            "label_types": list(self.label_types),
            "max_length": self.max_length,
            "samples": xxh3_64_hexdigest(named.encode()),
            "texts": self._digest(),
        }

    def weights(self, ratios: Mapping[str, float]) -> np.ndarray:
        """Float64 ``[samples]``: how often each is drawn, so that corpora are mixed in these ratios.

        Raises MerstoreError for ratios that do not go with the corpora.
        """
        counts = self.counts
        if set(ratios) != set(counts) or not all(ratios[name] > 0 for name in counts):
            raise MerstoreError(
                f"ratios for {', '.join(ratios)}: give one above 0 for each of {', '.join(counts)}"
            )
        return np.concatenate([np.full(n, ratios[name] / n) for name, n in counts.items() if n])

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """The samples at `rows`, with the questions of this pass over the samples."""
        types = [self._type(row, epoch) for row in rows.tolist()]
        pieces = [self._texts[row][kind] for row, kind in zip(rows.tolist(), types, strict=True)]
        texts = collate(pieces, self.tokens.tokenizer)
        return Batch(
            [self._names[row][1] for row in rows.tolist()],
            types,
            texts["input_ids"],
            texts["labels"],
            texts["attention_masks"],
            self._features(rows),
        )

    def _type(self, row: int, epoch: int) -> str:
        """By sample and pass alone: not by batch, process or what was drawn before."""
        kinds = list(self._texts[row])
        key = "/".join((str(epoch), *self._names[row]))
        return kinds[xxh3_64_intdigest(key.encode(), self.seed) % len(kinds)]

    def _features(self, rows: np.ndarray) -> dict[str, Tensor]:
        of = np.searchsorted(self._starts, rows, side="right") - 1
        places = [np.flatnonzero(of == number) for number in range(len(self.corpora))]
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        parts: dict[str, list[Tensor]] = {modality: [] for modality in self.views}
        for dataset, place, start in zip(self._datasets, places, self._starts, strict=False):
            if dataset is None or not len(place):
                continue
            found = dataset.batch(rows[place] - start)
            for modality, part in parts.items():
                tensor = found[modality]
                part.append(tensor.unsqueeze(1) if tensor.ndim == 2 else tensor)
        return {modality: torch.cat(part)[back] for modality, part in parts.items()}

    def _add(self, store: Store, corpus: Corpus) -> list[str]:
        views = {
            modality: store[f"{corpus.dataset}/{tail}"] for modality, tail in self.views.items()
        }
        lacking: dict[str, str] = {}
        names = corpus.names
        for modality, view in views.items():
            there = view.select(names).present()
            for name, present in zip(names, there.tolist(), strict=True):
                if not present:
                    lacking.setdefault(name, f"no {modality} in {view.path}")
        kept = []
        for name in names:
            try:
                texts = self._pieces(corpus, name) if name not in lacking else {}
            except MerstoreError as error:
                lacking[name] = f"{corpus.dataset}: {error}"
                continue
            if name in lacking:
                continue
            if texts:
                kept.append(name)
                self._texts.append(texts)
                self._names.append((corpus.dataset, name))
        for name, reason in lacking.items():
            self.left_out.setdefault(reason, []).append(name)
        self._datasets.append(
            FeatureDataset(views, kept, dtype="float32") if kept and views else None
        )
        return kept

    def _pieces(self, corpus: Corpus, name: str) -> dict[str, Pieces]:
        """By label type, ``text_input`` and ``label`` of a sample."""
        found: dict[str, Pieces] = {}
        clues = corpus.clues(name) if corpus.clues is not None else None
        for kind in self.label_types:
            if name not in corpus.labels.get(kind, ()):
                continue
            question = prompts.question(kind, candidates=corpus.candidates, span=corpus.span)
            prompt = prompts.prompt(
                self.mode, question, corpus.subtitles.get(name), clues, au_features=self.au_features
            )
            encoded = self.tokens.encode(prompt)
            self.places |= encoded.places
            answer = prompts.answer(kind, corpus.labels[kind][name]) + "###"
            ids = self.tokens.tokenizer(answer, add_special_tokens=False, verbose=False).input_ids
            if set(ids) & set(self.tokens.places.values()):
                raise MerstoreError(f"a placeholder stands in the {kind}")
            found[kind] = text_pieces(encoded.ids, ids, self.max_length)
        return found

    def _check_shapes(self) -> None:
        """One batch holds samples of all corpora, and there is no padding of features."""
        shapes: dict[str, dict[tuple[int, ...], str]] = {modality: {} for modality in self.views}
        for dataset in filter(None, self._datasets):
            for modality, view in dataset.views.items():
                record = view.record
                ragged = record.ragged
                for length in set(dataset.lengths(modality).tolist()) if ragged else (None,):
                    shape = record.row_shape if length is None else (length, *record.row_shape)
                    shapes[modality].setdefault(shape, view.path)
        for modality, found in shapes.items():
            if len(found) > 1:
                told = ", ".join(f"{list(shape)} ({path})" for shape, path in found.items())
                raise MerstoreError(
                    f"{modality}: samples have different shapes: {told}. Train on views with one "
                    "number of rows"
                )

    def _digest(self) -> str:
        parts = [
            xxh3_64_hexdigest(pieces[key].numpy().tobytes())
            for texts in self._texts
            for pieces in texts.values()
            for key in ("text_input", "label")
        ]
        return xxh3_64_hexdigest("".join(parts).encode())

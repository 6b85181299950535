"""What AffectGPT's dataset class reads, from a store: samples, items and batches of stored features.

The fork reads ``<preextracted_root>/<dataset>/<feature folder>/<sample>.npy``, one file a modality.
Here the same configuration reads the same arrays from a store::

    sources = settings(yaml, "mer2023")     # what of the configuration counts; print(sources)
    reader = Reader(None, "mer2023", yaml)  # preextracted_root is the store
    reader["sample_00000001"]               # the sample dict
    reader.batch(names)                     # what collate makes of the items, in one gather each

Three things are different, on purpose. A feature that is not there is an error, a masked row or
computed, as ``on_miss`` says: never decoded under another sampling rule, never dropped, never
another sample. ``<modality>_preextracted`` tells of the tensor that is there, not of the
configuration. And a modality of a batch is never left out in silence.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merstore.errors import InvalidKey, InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop.affectgpt_config import MODES, Outcome, Sources, settings
from merstore.store.batch import RaggedBatch
from merstore.store.legacy import dataset_key
from merstore.store.store import Store, open_store
from merstore.store.view import Filler, View

if TYPE_CHECKING:
    import torch

__all__ = ["MODES", "Outcome", "Reader", "Sources", "collate", "settings", "text_pieces"]

_LOADED = ("face", "frame", "audio", "image", "multi")  # in the order of the fork's batches


class Reader(Mapping[str, dict[str, Any]]):
    """Samples of one dataset by name, as the fork's reader makes them of pre-extracted files.

    store: a Store, its path, or None for the configuration's ``preextracted_root`` (with the
    dataset's folder behind it or without). config: as `settings` takes it, or what it gave.
    on_miss: ``"raise"`` MissingEntry; ``"mask"`` rows of zeros, and ``<modality>_mask`` False;
    ``"fill"`` has them computed by `fillers` (by modality), and masks what cannot be. section,
    face_or_frame: as for `settings`.

    Without on_miss it lists the samples that all its views have, else those that any of them knows.
    Picklable. Raises what `settings` does, MerstoreError where there is no store or it is a tree of
    ``.npy`` files, UnknownView where the store has not the features that are asked for.
    """

    def __init__(
        self,
        store: "Store | str | os.PathLike[str] | None",
        dataset: str | None,
        config: "Mapping[str, Any] | Sources",
        *,
        on_miss: str = "raise",
        section: str | None = None,
        face_or_frame: str | None = None,
        fillers: Mapping[str, Filler] | None = None,
    ) -> None:
        if on_miss not in ("raise", "mask", "fill"):
            raise MerstoreError(f'on_miss is "raise", "mask" or "fill", not {on_miss!r}')
        self.on_miss = on_miss
        self.sources = (
            config
            if isinstance(config, Sources)
            else settings(config, dataset, section=section, face_or_frame=face_or_frame)
        )
        if dataset is not None and dataset_key(dataset) != self.sources.dataset:
            raise InvalidKey(f"the configuration is of {self.sources.dataset}, not {dataset!r}")
        if not isinstance(store, Store):
            store = open_store(_find_store(store or self.sources.root, self.sources.dataset))
        self.store = store
        self.views: dict[str, View] = {
            modality: self._view(folder) for modality, folder in self.sources.features.items()
        }
        for modality, filler in (fillers or {}).items():
            if modality not in self.views:
                raise InvalidKey(f"a filler for {modality!r}: {', '.join(self.views)} are read")
            self.views[modality].filler = filler

    def _view(self, folder: str) -> View:
        dataset = self.sources.dataset
        try:
            return self.store[self.store.resolve(folder, dataset)]
        except UnknownView as error:
            raise UnknownView(
                f"{error.args[0]} of dataset {dataset}: import it (`merstore import`), compute it "
                "(`merstore prewarm`), or ask for another in the configuration"
            ) from None

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.sample_data(name)

    def __iter__(self) -> Iterator[str]:
        by_view = [dict.fromkeys(view) for view in self.views.values()]
        if not by_view:
            return iter(())
        if self.on_miss == "raise":
            first, *others = by_view
            return iter([name for name in first if all(name in other for other in others)])
        failed = [dict.fromkeys(f.name for f in view.failures()) for view in self.views.values()]
        return iter(sorted({name for names in (*by_view, *failed) for name in names}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return bool(self.views) and all(name in view for view in self.views.values())

    def sample_data(self, name: str) -> dict[str, Any]:
        """The sample dict: ``frame`` and ``raw_frame`` ``[T, 768]``, ``face`` and ``raw_face``
        ``[8, 768]``, ``audio`` and ``raw_audio`` ``[8, 1024]``, each pair one float32 tensor;
        ``image`` and ``multi`` None, as everything that is not read from the store; ``au``
        ``[N, 512]`` where it is asked for.

        ``<modality>_preextracted``: the tensor holds stored features (or, masked, zeros in their
        place) and not pixels or sound. With on_miss, ``<modality>_mask``: whether it is there.
        """
        sample: dict[str, Any] = {}
        for modality in _LOADED:
            sample[modality] = sample[f"raw_{modality}"] = None
        for modality in ("frame", "face", "audio"):
            sample[f"{modality}_preextracted"] = modality in self.views
        for modality in self.views:
            tensor, there = self._one(modality, name)
            sample[modality] = tensor
            if modality != "au":
                sample[f"raw_{modality}"] = tensor
            if self.on_miss != "raise":
                sample[f"{modality}_mask"] = there
        return sample

    def item(
        self,
        name: str,
        prompt: Sequence[int] | None = None,
        answer: Sequence[int] | None = None,
        max_length: int = 1024,
    ) -> dict[str, Any]:
        """The item dict: the sample's, with ``name``, ``dataset``, ``face_or_frame`` and
        ``multi_preextracted``; and with the token ids of a prompt and an answer (tokenised apart,
        without special tokens) `text_pieces` of them.
        """
        item = self.sample_data(name) | {
            "name": name,
            "dataset": self.sources.label,
            "face_or_frame": self.sources.mode,
            "multi_preextracted": False,
        }
        if prompt is not None and answer is not None:
            try:
                item |= text_pieces(prompt, answer, max_length)
            except InvalidTensor as error:
                raise InvalidTensor(f"{self.sources.dataset}/{name}: {error}") from None
        return item

    def batch(self, names: Iterable[str]) -> dict[str, Any]:
        """What `collate` makes of the items of `names`, without their texts; one gather a modality."""
        import torch

        names = list(names)
        if not names:
            raise InvalidKey("a batch of no samples")
        batch: dict[str, Any] = {"name": names, **self._facts()}
        for modality, view in self.views.items():
            gathered = view.gather(names, on_miss=self.on_miss, dtype="float32")
            mask = gathered.mask
            if isinstance(gathered, RaggedBatch):
                rows = _one_length(modality, names, gathered.lengths, mask)
                rows = self.sources.rows[modality] if rows is None else rows
                values = gathered.padded(rows)
            else:
                values = np.asarray(gathered)
            tensor = torch.from_numpy(values)
            batch[f"{modality}s"] = tensor
            if modality != "au":
                batch[f"raw_{modality}s"] = tensor
            if self.on_miss != "raise":
                batch[f"{modality}s_mask"] = torch.from_numpy(np.array(mask))
        _refuse_vanished(self.sources.mode, batch)
        return batch

    def _facts(self) -> dict[str, Any]:
        flags = {f"{key}_preextracted": key in self.views for key in ("frame", "face", "audio")}
        return {
            "dataset": self.sources.label,
            "face_or_frame": self.sources.mode,
            **flags,
            "multi_preextracted": False,
        }

    def _one(self, modality: str, name: str) -> "tuple[torch.Tensor, bool]":
        import torch

        view = self.views[modality]
        gathered = view.gather([name], on_miss=self.on_miss, dtype="float32")
        there = bool(gathered.mask[0])
        values = np.asarray(gathered[0])
        if not there and isinstance(gathered, RaggedBatch):
            values = np.zeros((self.sources.rows[modality], *values.shape[1:]), np.float32)
        return torch.from_numpy(values), there

    def __repr__(self) -> str:
        return f"<Reader {self.sources.dataset}: {', '.join(self.views) or 'nothing'} from {self.store.path}>"


def _find_store(root: "str | os.PathLike[str] | None", dataset: str) -> Path:
    if root is None:
        raise MerstoreError("preextracted_root is not given: name the store")
    path = Path(root)
    inside = dataset_key(path.name) == dataset
    for candidate in (path, *([path.parent] if inside else [])):
        if (candidate / "data.mdb").is_file():
            return candidate
    if path.is_dir():
        raise MerstoreError(
            f"{path} is no store but a folder, of .npy files by its place in the configuration: "
            f"`merstore import features.mer {path}`, then preextracted_root: features.mer"
        )
    raise MerstoreError(f"{path}: no such store: preextracted_root names a merstore store")


def text_pieces(
    prompt: Sequence[int], answer: Sequence[int], max_length: int = 1024
) -> "dict[str, torch.Tensor]":
    """``text_input``: the ids of prompt and answer, int64; ``label``: -100 on the prompt, the ids on
    the answer. Each part is cut to `max_length`.

    Raises InvalidTensor where together they are longer than that.
    """
    import torch

    prompt, answer = list(prompt)[:max_length], list(answer)[:max_length]
    if len(prompt) + len(answer) > max_length:
        raise InvalidTensor(
            f"prompt and answer have {len(prompt)} + {len(answer)} tokens, more than max_length "
            f"{max_length}: raise it, or shorten the text"
        )
    return {
        "text_input": torch.tensor([*prompt, *answer], dtype=torch.int64),
        "label": torch.tensor([*([-100] * len(prompt)), *answer], dtype=torch.int64),
    }


# --- batches -------------------------------------------------------------------------------------


def collate(
    items: Sequence[Mapping[str, Any]], tokenizer: Any = None, on_miss: str = "raise"
) -> dict[str, Any]:
    """A batch of items, with the fork's plural keys: ``frames`` ``[B, T, 768]``, ``raw_frames``,
    ``faces``, ``audios``, ``aus`` …

    tokenizer: anything with ``bos_token_id``, ``eos_token_id`` and ``pad_token_id``, where items
    have texts: ``input_ids`` (bos, text, eos, then padding), ``labels`` (-100 in front and in the
    padding) and ``attention_masks`` (where input_ids are not the padding's id), ``[B, L]``.

    on_miss: where the fork lets a modality vanish because some item has None in its place:
    ``"raise"`` MissingEntry, ``"mask"`` a row of zeros, and ``frames_mask`` bool ``[B]``. Masked
    items of a Reader keep their mask either way, and take the shape of the others.

    Raises MissingEntry too where no item has a modality that the mode needs, InvalidTensor where
    shapes differ, and MerstoreError where items differ in dataset, mode or a ``_preextracted`` flag,
    of which the fork takes the first item's.
    """
    import torch

    if on_miss not in ("raise", "mask"):
        raise MerstoreError(f'on_miss is "raise" or "mask", not {on_miss!r}')
    if not items:
        raise InvalidKey("a batch of no items")
    names = [str(item.get("name", f"item {i}")) for i, item in enumerate(items)]
    batch: dict[str, Any] = {"name": names} if "name" in items[0] else {}
    for key in _shared_keys(items):
        values = {item.get(key) for item in items}
        if len(values) > 1:
            raise MerstoreError(
                f"a batch of items with different {key} ({', '.join(map(str, values))}): what is "
                "stored and what is computed, and datasets, go into batches of their own"
            )
        batch[key] = items[0][key]
    if "text_input" in items[0]:
        if tokenizer is None:
            raise MerstoreError("the items have texts: give the tokenizer")
        batch |= _texts(items, tokenizer)
    stacked: dict[tuple[int, ...], torch.Tensor] = {}
    for modality in (*_LOADED, "au"):
        for key in (modality, f"raw_{modality}"):
            column = [item.get(key) for item in items]
            if all(value is None for value in column):
                continue
            there = [
                value is not None and bool(item.get(f"{modality}_mask", True))
                for item, value in zip(items, column, strict=True)
            ]
            same = tuple(map(id, column))  # raw_frame is frame
            if same not in stacked:
                stacked[same] = _stack(key, names, column, there, on_miss)
            batch[f"{key}s"] = stacked[same]
            if key == modality and (on_miss == "mask" or any(f"{key}_mask" in i for i in items)):
                batch[f"{key}s_mask"] = torch.tensor(there)
    _refuse_vanished(batch.get("face_or_frame"), batch)
    return batch


def _shared_keys(items: Sequence[Mapping[str, Any]]) -> list[str]:
    known = ["dataset", "face_or_frame"]
    known += [f"{modality}_preextracted" for modality in ("frame", "face", "audio", "multi")]
    return [key for key in known if key in items[0]]


def _stack(
    key: str, names: list[str], column: list[Any], there: list[bool], on_miss: str
) -> "torch.Tensor":
    import torch

    absent = [name for name, value in zip(names, column, strict=True) if value is None]
    if absent and on_miss == "raise":
        raise MissingEntry(
            f"{key}: {len(absent)} of {len(names)} samples of the batch have none: "
            f'{", ".join(absent[:5])}. Compute it, leave them out, or use on_miss="mask"'
        )
    shapes: dict[tuple[int, ...], str] = {}
    for name, value, present in zip(names, column, there, strict=True):
        if present:
            shapes.setdefault(tuple(value.shape), name)
    if len(shapes) > 1:
        told = ", ".join(f"{list(shape)} ({name})" for shape, name in shapes.items())
        raise InvalidTensor(
            f"{key}: samples of one batch have different shapes: {told}. Put equal ones together, "
            "or use batches of one"
        )
    example = next(value for value in column if value is not None)
    shape = next(iter(shapes), tuple(example.shape))
    zeros = torch.zeros(shape, dtype=example.dtype)
    return torch.stack(
        [value if present else zeros for value, present in zip(column, there, strict=True)]
    )


def _one_length(
    modality: str, names: list[str], lengths: np.ndarray, mask: np.ndarray
) -> int | None:
    """How many rows all that are there have; None where none is."""
    present = lengths[mask]
    if not len(present):
        return None
    other = int(np.argmax(mask & (lengths != present[0])))
    if lengths[other] != present[0] and mask[other]:
        first = names[int(np.argmax(mask))]
        raise InvalidTensor(
            f"{modality}: samples of one batch have different shapes: {present[0]} rows ({first}), "
            f"{lengths[other]} rows ({names[other]}). Put equal ones together, or use batches of one"
        )
    return int(present[0])


def _refuse_vanished(mode: str | None, batch: Mapping[str, Any]) -> None:
    if mode is None:
        return
    lacking = [key for key in MODES.get(mode, ()) if f"{key}s" not in batch]
    if lacking:
        raise MissingEntry(
            f"face_or_frame {mode!r} needs {' and '.join(lacking)}, and no sample of the batch has "
            "any: ask for stored ones (use_preextracted_...: True), or put your own into the items"
        )


def _texts(items: Sequence[Mapping[str, Any]], tokenizer: Any) -> "dict[str, torch.Tensor]":
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = {key: getattr(tokenizer, f"{key}_token_id", None) for key in ("bos", "eos", "pad")}
    if unset := [key for key, value in ids.items() if value is None]:
        raise MerstoreError(
            f"the tokenizer has no {unset[0]}_token: set it as the fork does (for Qwen2.5 bos is "
            "<|im_start|>, and pad is eos)"
        )

    def ended(key: str, begin: int, end: int) -> "list[torch.Tensor]":
        return [
            torch.cat([torch.tensor([begin]), torch.as_tensor(item[key]), torch.tensor([end])])
            for item in items
        ]

    texts = ended("text_input", ids["bos"], ids["eos"])  # type: ignore[arg-type]
    input_ids = pad_sequence(texts, batch_first=True, padding_value=ids["pad"])  # type: ignore[arg-type]
    labels = ended("label", -100, ids["eos"])  # type: ignore[arg-type]
    masks = torch.ne(input_ids, ids["pad"])  # type: ignore[arg-type]
    return {
        "input_ids": input_ids,
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_masks": masks,
    }

"""The training loop: steps over batches from the store, checkpoints of the released format, and a
state from which a stopped run goes on as if it had not been stopped.
"""

import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from xxhash import xxh3_64_hexdigest

from merstore.errors import MerstoreError
from merstore.load.samplers import RowOrder
from merstore.models.affectgpt import AffectGPT, file_name, save
from merstore.models.affectgpt.checkpoint import replace
from merstore.run.tuning_llm import curves
from merstore.run.tuning_llm.devices import Alone, devices_of
from merstore.run.tuning_llm.material import Batch, Material

STATE = "state.pth"
_VISUAL, _ACOUSTIC = "visual_encoder", "acoustic_encoder"
_ENCODERS = {"frame": _VISUAL, "face": _VISUAL, "image": _VISUAL, "audio": _ACOUSTIC}
_VERSION = 1


class Progress(Protocol):
    """Called after every step: how many are done, of how many, and a few words."""

    def __call__(self, done: int, total: int, told: str = "") -> None: ...


@dataclass(frozen=True)
class Options:
    """How to train; the defaults are those of the released checkpoints, but for ``accumulate``.

    ``steps``: in an epoch, whatever the number of samples; each takes ``accumulate`` batches of
    ``batch_size`` samples in every process, whose mean it learns from. ``lr`` falls to ``min_lr``
    with a cosine from epoch to epoch: AffectGPT has 1e-5 for both, and its warm-up never begins,
    as epochs count from 1. ``ratios``: in which corpora are mixed, by dataset, drawn with
    replacement; None: every sample once, then again. ``state_every``: steps between two states.
    """

    epochs: int = 60
    steps: int = 5000
    batch_size: int = 3
    accumulate: int = 1
    lr: float = 1e-5
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    seed: int = 42
    ratios: Mapping[str, float] | None = None
    state_every: int = 500

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "accumulate", "state_every"):
            if getattr(self, name) < 1:
                raise MerstoreError(f"{name} is {getattr(self, name)}; it has to be from 1")
        if not (math.isfinite(self.lr) and 0 <= self.min_lr <= self.lr and self.lr > 0):
            raise MerstoreError(f"lr {self.lr}, min_lr {self.min_lr}: 0 <= min_lr <= lr is wanted")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1 (LAVIS' linear_warmup_cosine_lr)."""
        fallen = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return (self.lr - self.min_lr) * fallen + self.min_lr


@dataclass
class Run:
    """What came of training. ``losses``: of every step, the mean of its batches in all processes.
    ``checkpoints``: of the epochs finished by this call. ``begun``: steps that were done before it.
    """

    folder: Path
    options: Options
    losses: list[float] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    begun: int = 0

    @property
    def epoch_losses(self) -> list[float]:
        """The mean of each finished epoch's losses."""
        steps = self.options.steps
        whole = len(self.losses) // steps
        return [float(np.mean(self.losses[n * steps : (n + 1) * steps])) for n in range(whole)]


class Objective(nn.Module):
    """An AffectGPT's loss: the mean cross-entropy of the tokens that are learned."""

    def __init__(self, model: AffectGPT, material: Material) -> None:
        super().__init__()
        self.model = model
        self._places = material.tokens.places
        self._names = material.places
        self._multi = material.multi

    def forward(
        self, ids: Tensor, labels: Tensor, mask: Tensor, features: dict[str, Tensor]
    ) -> Tensor:
        vectors = self.model(features, self._names, self._multi)
        loss: Tensor = self.model.llama_model(
            inputs_embeds=self.model.embed(ids, self._places, vectors),
            attention_mask=mask,
            labels=labels,
            use_cache=False,
        ).loss
        return loss


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters for an optimizer: those of one dimension, biases, and those with ``ln``
    or ``bn`` in their names do not decay.
    """
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kept = parameter.ndim < 2 or any(part in name for part in ("bias", "ln", "bn"))
            (others if kept else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def train(
    model: AffectGPT,
    material: Material,
    folder: str | Path,
    options: Options | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    page: Path | None = None,
    tell: Progress | None = None,
) -> Run:
    """Trains a model, or goes on where a run in `folder` was stopped.

    In `folder`: ``checkpoint_000001_loss_2.345.pth`` … after every epoch, as AffectGPT has them (with
    `config` as their YAML), and ``state.pth``, written every ``options.state_every`` steps and
    after every epoch. From there the same call goes on exactly: weights, optimizer, scaler, the
    order of samples, random numbers. page: an HTML file with the curves, written after every epoch.

    Raises MerstoreError where the state is of another run (nothing is changed then), where a loss
    is no number, and where nothing can be written.
    """
    options = options or Options()
    tell = tell or (lambda done, total, told="": None)
    devices = devices_of(model.device, model.dtype)
    model.to(devices.device).train()
    optimizer: Any = torch.optim.AdamW(
        groups(model, options.weight_decay), lr=options.rate(1), betas=(0.9, 0.999)
    )
    order = RowOrder(
        len(material),
        options.batch_size,
        shuffle=True,
        weights=None if options.ratios is None else material.weights(options.ratios),
        seed=options.seed,
        rank=devices.rank,
        world_size=devices.world,
    )
    run = Run(Path(folder), options)
    same = _same(model, material, options)
    torch.manual_seed(options.seed + devices.rank)
    if (state := _read_state(run.folder / STATE)) is not None:
        _restore(state, same, run, model, optimizer, order, devices)
    objective, optimizer = devices.prepare(Objective(model, material), optimizer)
    stream = _Stream(order)
    total = options.epochs * options.steps
    config = config or configuration(model, material, options)
    if page is not None and devices.rank == 0:  # now, as it says what is not installed
        curves.write(page, run, material)
    while len(run.losses) < total:
        epoch = len(run.losses) // options.steps + 1
        for group in optimizer.param_groups:
            group["lr"] = options.rate(epoch)
        loss = _step(objective, optimizer, stream, material, options.accumulate, devices)
        if not math.isfinite(loss):
            raise MerstoreError(
                f"the loss of step {len(run.losses) + 1} is {loss}: lower the learning rate; "
                f"{run.folder} has the state before"
            )
        run.losses.append(loss)
        done = len(run.losses)
        if done % options.steps == 0:
            _checkpoint(run, model, optimizer, devices, config, epoch)
        if done % options.steps == 0 or done % options.state_every == 0:
            _keep_state(run, same, model, optimizer, stream, devices)
        if page is not None and devices.rank == 0 and done % options.steps == 0:
            curves.write(page, run, material)
        tell(done, total, f"epoch {epoch}, loss {loss:.3f}")
    devices.wait()
    return run


def configuration(model: AffectGPT, material: Material, options: Options) -> dict[str, Any]:
    """A training as AffectGPT's YAML, as far as there are words for it there."""
    tails = {modality: tail.partition("@")[2] for modality, tail in material.views.items()}
    encoders = {_ENCODERS[m]: tail.partition("/")[0] for m, tail in tails.items() if m in _ENCODERS}
    counts: dict[str, Any] = {}
    if match := re.search(r"/(\w+)_(\d+)frms$", tails.get("frame", "")):
        counts |= {"frame_sampling": match[1], "frame_n_frms": int(match[2])}
    if match := re.search(r"/(\d+)clips$", tails.get("audio", "")):
        counts |= {"clips_per_video": int(match[1])}
    kinds = material.label_types
    datasets = {
        corpus.dataset: {
            "face_or_frame": material.mode,
            "label_type": "hybird" if len(kinds) > 1 else kinds[0],
            **encoders,
            **counts,
            **({"sample_ratio": options.ratios[corpus.dataset]} if options.ratios else {}),
            **{f"use_preextracted_{modality}": True for modality in material.views},
        }
        for corpus in material.corpora
    }
    run = {
        "task": "video_text_pretrain",
        "lr_sched": "linear_warmup_cosine_lr",
        "init_lr": options.lr,
        "min_lr": options.min_lr,
        "weight_decay": options.weight_decay,
        "max_epoch": options.epochs,
        "iters_per_epoch": options.steps * options.accumulate,
        "accum_grad_iters": options.accumulate,
        "batch_size_train": options.batch_size,
        "seed": options.seed,
    }
    section = {**model.config.to_yaml(), **encoders, "max_length": material.max_length}
    return {"model": section, "datasets": datasets, "run": run, "inference": {}}


def _step(
    objective: nn.Module,
    optimizer: Any,
    stream: "_Stream",
    material: Material,
    accumulate: int,
    devices: Alone,
) -> float:
    parts = []
    for number in range(accumulate):
        epoch, rows = stream.take()
        batch = _moved(material.batch(rows, epoch), devices.device)
        with devices.part(objective, number == accumulate - 1):
            with devices.autocast():
                loss = objective(batch.ids, batch.labels, batch.mask, batch.features)
            devices.backward(loss / accumulate)
        parts.append(loss.detach().float())
    devices.step(optimizer)
    optimizer.zero_grad(set_to_none=True)
    return devices.mean(torch.stack(parts).mean())


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        batch.names,
        batch.types,
        batch.ids.to(device),
        batch.labels.to(device),
        batch.mask.to(device),
        {name: rows.to(device) for name, rows in batch.features.items()},
    )


class _Stream:
    """The batches of an order, pass after pass."""

    def __init__(self, order: RowOrder) -> None:
        self._order = order
        self._batches: Iterator[np.ndarray] = iter(order)
        self._taken = 0

    def take(self) -> tuple[int, np.ndarray]:
        """The pass, and the rows."""
        rows = next(self._batches, None)
        if rows is None:
            self._batches, self._taken = iter(self._order), 0
            rows = next(self._batches)
        self._taken += 1
        return self._order.epoch, rows

    def state(self) -> dict[str, Any]:
        return self._order.state_dict(self._taken)


# --- what is kept ---------------------------------------------------------------------------------


def _checkpoint(
    run: Run,
    model: AffectGPT,
    optimizer: Any,
    devices: Alone,
    config: Mapping[str, Any],
    epoch: int,
) -> None:
    path = run.folder / file_name(epoch, run.epoch_losses[-1])
    run.checkpoints.append(path)
    if devices.rank == 0:
        scaler = None if devices.scaler is None else devices.scaler.state_dict()
        save(
            path,
            model,
            epoch=epoch,
            config=config,
            optimizer=optimizer.state_dict(),
            scaler=scaler,
        )


def _same(model: AffectGPT, material: Material, options: Options) -> dict[str, Any]:
    """What makes two runs the same, as JSON would have it."""
    own = {key: value for key, value in asdict(options).items() if key != "state_every"}
    parts = {**asdict(model.config), "frozen": sorted(model.config.frozen)}
    table = model.llama_model.get_input_embeddings().weight[:64].detach().float().cpu()
    llm = [model.vocabulary, model.width, xxh3_64_hexdigest(table.numpy().tobytes())]
    said = {**own, "model": parts, "llm": llm, **material.describe()}
    found: dict[str, Any] = json.loads(json.dumps(said))
    return found


def _keep_state(
    run: Run,
    same: Mapping[str, Any],
    model: AffectGPT,
    optimizer: Any,
    stream: _Stream,
    devices: Alone,
) -> None:
    random = devices.gather(_random(devices.device))
    if devices.rank == 0:
        content = {
            "version": _VERSION,
            "same": json.dumps(same),
            "model": model.trained_state(),
            "optimizer": optimizer.state_dict(),
            "scaler": None if devices.scaler is None else devices.scaler.state_dict(),
            "order": json.dumps(stream.state()),
            "random": random,
            "losses": torch.tensor(run.losses, dtype=torch.float64),
        }
        replace(run.folder / STATE, content)


def _random(device: torch.device) -> dict[str, Tensor]:
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != _VERSION:
            raise MerstoreError(f"{path} is of another version of merstore: take another folder")
        state["same"], state["order"] = json.loads(state["same"]), json.loads(state["order"])
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        told = str(error).partition("\n")[0]
        raise MerstoreError(f"{path} is no state of a training: {told[:200]}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise MerstoreError(f"{path} is no state of a training: take another folder") from error
    found: dict[str, Any] = state
    return found


def _restore(
    state: Mapping[str, Any],
    same: Mapping[str, Any],
    run: Run,
    model: AffectGPT,
    optimizer: Any,
    order: RowOrder,
    devices: Alone,
) -> None:
    theirs = state["same"]
    differ = [
        f"{key} is {theirs.get(key)!r} there and {same.get(key)!r} here"
        for key in {**theirs, **same}
        if theirs.get(key) != same.get(key)
    ]
    if len(state["random"]) != devices.world:
        differ.append(f"there are {len(state['random'])} processes there and {devices.world} here")
    if differ:
        raise MerstoreError(
            f"{run.folder} has another training: {'; '.join(differ[:4])}. Go on with the same "
            "settings, or name another folder"
        )
    order.load_state_dict(state["order"])
    own = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in state["model"].items():
            own[name].copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    if devices.scaler is not None and state["scaler"] is not None:
        devices.scaler.load_state_dict(state["scaler"])
    random = state["random"][devices.rank]
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and devices.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], devices.device)
    run.losses = state["losses"].tolist()
    run.begun = len(run.losses)

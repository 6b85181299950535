"""What trains models: one by itself (`Single`), or many side by side as one (`Stacked`).

Both do the same arithmetic: a model that is trained in a stack has the losses that it has alone.

- Seeds: ``torch.manual_seed(seed)``, the model is made; ``torch.manual_seed(noise)``, and every
  dropout mask comes from that stream. Trials that are compared share ``noise``, as they share folds
  and the order of samples: what tells them apart is what they are, not luck. In a stack, masks are
  therefore drawn once for each rate of dropout, as ``nn.Dropout`` would draw them. (On CUDA a stack
  draws all rates from one stream, so that its masks are seeded, but not those of a single model.)
- Loss of a batch of B: the model's own + cross entropy / B + squared error / B, unweighted.
- Adam with constant learning rate and L2; gradients are clipped by value where ``grad_clip`` > 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.adam import adam

from merstore.models.baselines import MODELS, Baseline
from merstore.models.baselines.blocks import ROLES, Dropout

EVAL_BATCH = 1024  # samples in a batch when nothing is learned

Hyper = Mapping[str, float | int]


@dataclass(frozen=True)
class Shape:
    """What all trials of a run have in common."""

    model: str
    dims: tuple[int, ...]
    classes: int
    values: int
    feat_type: str = "utt"
    l2: float = 1e-5

    def build(self, hyper: Hyper) -> Baseline:
        """A fresh model, initialised from torch's current random state."""
        kept = {k: v for k, v in hyper.items() if k not in ("lr", "grad_clip")}
        kind: Any = MODELS[self.model]
        made: Baseline = kind(
            self.dims, self.classes, self.values, **kept, feat_type=self.feat_type
        )
        return made

    @property
    def keys(self) -> list[str]:
        """The keys of a batch."""
        if self.model == "attention_topn":
            return [f"feat{number}" for number in range(len(self.dims))]
        return list(ROLES)


@dataclass
class Rows:
    """Samples on the device: inputs float32 ``[N, D]`` or ``[N, T, D]`` by key, classes int64
    ``[N]`` (-1: not known), values float32 ``[N]`` (NaN: not known).
    """

    inputs: dict[str, Tensor]
    emos: Tensor
    vals: Tensor

    def __len__(self) -> int:
        return len(self.emos)

    def take(self, index: Tensor) -> "Rows":
        picked = {key: x.index_select(0, index) for key, x in self.inputs.items()}
        return Rows(picked, self.emos.index_select(0, index), self.vals.index_select(0, index))

    def to(self, device: torch.device) -> "Rows":
        inputs = {key: x.to(device) for key, x in self.inputs.items()}
        return Rows(inputs, self.emos.to(device), self.vals.to(device))


class Trainer(Protocol):
    """K models in training."""

    def epoch(self, rows: Rows, batches: Sequence[Tensor]) -> np.ndarray:
        """Train on the batches (row numbers) in turn; the mean loss of each model ``[K]``, as
        measured before its steps.
        """
        ...

    def predict(
        self, rows: Rows, models: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits ``[k, N, C]``, values ``[k, N, R]`` and own losses ``[k]`` of some of the models."""
        ...

    def weights(self, model: int) -> dict[str, np.ndarray]:
        """Copies of one model's parameters."""
        ...


def losses(logits: Tensor, values: Tensor, own: Tensor, emos: Tensor, vals: Tensor) -> Tensor:
    """The loss ``[K]`` of a batch from logits ``[K, B, C]``, values ``[K, B, R]`` and ``own [K]``.
    Labels that are not known count nothing; divided is always by B.
    """
    total, size = own, len(emos)
    if logits.shape[-1]:
        known = emos >= 0
        picked = functional.log_softmax(logits, -1).gather(
            -1, emos.clamp(min=0)[None, :, None].expand(len(logits), -1, 1)
        )
        total = total + (-picked.squeeze(-1) * known).sum(1) / size
    if values.shape[-1]:
        known = ~vals.isnan()
        wrong = (values.squeeze(-1) - vals.nan_to_num()) * known
        total = total + wrong.pow(2).sum(1) / size
    return total


class Single:
    """One model, in plain PyTorch."""

    def __init__(
        self, shape: Shape, hyper: Hyper, seed: int, noise: int, device: torch.device
    ) -> None:
        self._device = device
        with _seeded(device):
            torch.manual_seed(seed)
            self.model = shape.build(hyper).to(device)
            torch.manual_seed(noise)
            self._state = _states(device)
        self._clip = float(hyper.get("grad_clip", -1))
        self._optimiser = torch.optim.Adam(
            self.model.parameters(), lr=float(hyper["lr"]), weight_decay=shape.l2
        )

    def epoch(self, rows: Rows, batches: Sequence[Tensor]) -> np.ndarray:
        self.model.train()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with _seeded(self._device, self._state):
            for index in batches:
                batch = rows.take(index)
                _, logits, values, own = self.model(batch.inputs)
                loss = losses(logits[None], values[None], own[None], batch.emos, batch.vals)[0]
                self._optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if self._clip > 0:
                    torch.nn.utils.clip_grad_value_(self.model.parameters(), self._clip)
                self._optimiser.step()
                total += loss.detach()
            self._state = _states(self._device)
        return np.array([float(total) / len(batches)])

    @torch.no_grad()
    def predict(
        self, rows: Rows, models: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.model.eval()
        outputs = []
        for batch in _parts(rows):
            _, logits, values, own = self.model(batch.inputs)
            outputs.append((logits[None], values[None], own[None] * len(batch)))
        return _joined(outputs, len(rows))

    def weights(self, model: int) -> dict[str, np.ndarray]:
        return {name: x.cpu().numpy().copy() for name, x in self.model.state_dict().items()}


class Stacked:
    """K models of one shape whose parameters lie in common tensors ``[K, ...]``: one operation on
    all takes the place of K small ones. What differs between them may be learning rate, clipping,
    dropout and what only scales a loss; `stack_key` tells what must not.
    """

    def __init__(
        self,
        shape: Shape,
        hypers: Sequence[Hyper],
        seeds: Sequence[int],
        noise: int,
        device: torch.device,
    ) -> None:
        self._device = device
        order = sorted(range(len(hypers)), key=lambda k: float(hypers[k]["lr"]))
        self._place = {k: order.index(k) for k in range(len(order))}
        hypers = [hypers[k] for k in order]
        models = []
        with _seeded(device):
            for k in order:
                torch.manual_seed(seeds[k])
                models.append(shape.build(hypers[self._place[k]]).to(device))
        self._model, self._parameters = _stack(models)
        self._masks = _Masks(self._model, [float(h["dropout"]) for h in hypers], noise, device)
        self._scales = {
            name: torch.tensor([float(hyper[name]) for hyper in hypers], device=device)
            for name in MODELS[shape.model].scalars
        }
        clips = [float(hyper.get("grad_clip", -1)) for hyper in hypers]
        self._bounds = None
        if max(clips) > 0:
            bounds = [clip if clip > 0 else torch.inf for clip in clips]
            self._bounds = torch.tensor(bounds, device=device)
        self._rates = _runs([float(hyper["lr"]) for hyper in hypers])
        self._l2 = shape.l2
        self._steps: list[Tensor] = []

    def epoch(self, rows: Rows, batches: Sequence[Tensor]) -> np.ndarray:
        self._model.train()
        total = torch.zeros(len(self._place), dtype=torch.float64, device=self._device)
        leaves = [parameter.values for parameter in self._parameters]
        self._scale(self._scales)
        for index in batches:
            batch = rows.take(index)
            with self._masks.drawn(batch.inputs, len(batch)):
                _, logits, values, own = self._model(batch.inputs)
            loss = losses(logits, values, own, batch.emos, batch.vals)
            self._step(torch.autograd.grad(loss.sum(), leaves, allow_unused=True))
            total += loss.detach()
        means: np.ndarray = total.cpu().numpy() / len(batches)
        return means[list(self._place.values())]

    @torch.no_grad()
    def predict(
        self, rows: Rows, models: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._model.eval()
        places = [self._place[k] for k in models]
        every = places == list(range(len(self._place)))
        index = torch.tensor(places, device=self._device)
        outputs = []
        try:
            if not every:
                for parameter in self._parameters:
                    parameter.put(parameter.values.index_select(0, index))
            self._scale({name: x.index_select(0, index) for name, x in self._scales.items()})
            for batch in _parts(rows):
                _, logits, values, own = self._model(batch.inputs)
                outputs.append((logits, values, own * len(batch)))
        finally:
            for parameter in self._parameters:
                parameter.put(parameter.values)
        return _joined(outputs, len(rows))

    def weights(self, model: int) -> dict[str, np.ndarray]:
        place = self._place[model]
        return {
            parameter.name: parameter.of(place).detach().cpu().numpy().copy()
            for parameter in self._parameters
        }

    # -- inside

    def _scale(self, scales: dict[str, Tensor]) -> None:
        for name, scale in scales.items():
            setattr(self._model, name, scale)

    def _step(self, gradients: Sequence[Tensor | None]) -> None:
        """One step of Adam on every model, each with its learning rate."""
        used = [
            (parameter, gradient)
            for parameter, gradient in zip(self._parameters, gradients, strict=True)
            if gradient is not None and gradient.numel()
        ]
        if self._bounds is not None:
            for _, gradient in used:
                wide = self._bounds.view(-1, *[1] * (gradient.dim() - 1))
                gradient.clamp_(-wide, wide)
        if not self._steps:
            self._steps = [torch.zeros((), device=self._device) for _ in used]
        for number, (rate, first, last) in enumerate(self._rates):
            # the first group's call counts the step for all
            steps = self._steps if not number else [step - 1 for step in self._steps]
            adam(
                [parameter.values.detach()[first:last] for parameter, _ in used],
                [gradient[first:last] for _, gradient in used],
                [parameter.mean[first:last] for parameter, _ in used],
                [parameter.square[first:last] for parameter, _ in used],
                [],
                steps,
                foreach=False,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
                lr=rate,
                weight_decay=self._l2,
                maximize=False,
            )


class _Linear(nn.Module):
    """K linear layers: ``[B, in]`` or ``[K, B, in] -> [K, B, out]``. weight: ``[K, in, out]``, the
    way round in which the products of a step read and make it; bias: ``[K, 1, out]``.
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            x = x.expand(len(self.weight), -1, -1)
        return torch.baddbmm(self.bias, x, self.weight)


class _Parameter:
    """One parameter of all models: ``values [K, ...]``, a leaf, with Adam's running means."""

    def __init__(self, name: str, module: nn.Module, attribute: str, values: Tensor) -> None:
        self.name = name
        self._module, self._attribute = module, attribute
        self.values = values.requires_grad_()
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)
        self.put(self.values)

    def put(self, values: Tensor) -> None:
        """Have the model use these."""
        setattr(self._module, self._attribute, values)

    def of(self, place: int) -> Tensor:
        """One model's, in its shape."""
        values = self.values[place]
        if not isinstance(self._module, _Linear):
            return values
        return values.T if self._attribute == "weight" else values[0]


def _stack(models: Sequence[Baseline]) -> tuple[Baseline, list[_Parameter]]:
    """One model that computes what all compute, and its parameters in their order. Takes the first
    apart.
    """
    whole = models[0]
    parameters = []
    for name in [name for name, _ in whole.named_parameters()]:
        path, _, attribute = name.rpartition(".")
        each = [model.get_parameter(name).detach() for model in models[1:]]
        module = whole.get_submodule(path)
        if isinstance(module, nn.Linear) and attribute == "weight":
            first, bias = module.weight.detach(), module.bias.detach()
            above, _, child = path.rpartition(".")
            module = _Linear()
            module.bias = bias
            setattr(whole.get_submodule(above), child, module)
            values = torch.stack([first, *each]).transpose(1, 2).contiguous()
        elif isinstance(module, _Linear):
            values = torch.stack([module.bias, *each]).unsqueeze(1)
        else:
            values = torch.stack([whole.get_parameter(name).detach(), *each])
            delattr(module, attribute)
        parameters.append(_Parameter(name, module, attribute, values))
    return whole, parameters


class _Masks:
    """The dropout masks of models side by side: drawn once for each rate."""

    def __init__(
        self, model: Baseline, rates: Sequence[float], noise: int, device: torch.device
    ) -> None:
        self._model = model
        self._dropouts = [module for module in model.modules() if isinstance(module, Dropout)]
        self._rates = list(dict.fromkeys(rates))
        self._which = torch.tensor([self._rates.index(rate) for rate in rates], device=device)
        self._together = device.type != "cpu"
        self._generators = [
            torch.Generator(device).manual_seed(noise)
            for _ in (self._rates[:1] if self._together else self._rates)
        ]
        self._device = device
        self._calls: list[tuple[int, tuple[int, ...]]] | None = None

    @contextmanager
    def drawn(self, inputs: dict[str, Tensor], size: int) -> Iterator[None]:
        """The model's dropouts multiply by masks of a fresh draw inside."""
        if self._calls is None:
            self._calls = self._trace(inputs)
        for place, tail in self._calls:
            self._dropouts[place].mask = self._draw((size, *tail)).index_select(0, self._which)
        try:
            yield
        finally:
            for module in self._dropouts:
                module.mask = None

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        """One mask for each rate, ``[rates, *shape]``."""
        drawn = torch.ones(len(self._rates), *shape, device=self._device)
        if self._together:
            keep = 1 - torch.tensor(self._rates, device=self._device)
            keep = keep.view(-1, *[1] * len(shape))
            return (drawn.uniform_(generator=self._generators[0]) < keep) / keep
        for row, rate, generator in zip(drawn, self._rates, self._generators, strict=True):
            if rate:
                row.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
        return drawn

    def _trace(self, inputs: dict[str, Tensor]) -> list[tuple[int, tuple[int, ...]]]:
        """Which dropout comes when in a forward pass, and how wide its input ``[B, D]`` is."""
        calls: list[tuple[int, tuple[int, ...]]] = []

        def note(place: int) -> Any:
            return lambda module, args: calls.append((place, (args[0].shape[-1],)))

        hooks = [
            module.register_forward_pre_hook(note(place))
            for place, module in enumerate(self._dropouts)
        ]
        with torch.no_grad(), _seeded(self._device):
            self._model(inputs)
        for hook in hooks:
            hook.remove()
        return calls


def stackable(shape: Shape) -> bool:
    """Whether models of this kind can be trained as one: no LSTM, nor a transformer layer, whose
    dropouts are inside one operation of PyTorch.
    """
    return shape.feat_type == "utt" and shape.model != "misa"


def stack_key(shape: Shape, hyper: Hyper) -> tuple[tuple[str, float | int], ...]:
    """What must be the same for two models to be trained in one stack."""
    free = {"lr", "grad_clip", "dropout", *MODELS[shape.model].scalars}
    return tuple(sorted((name, value) for name, value in hyper.items() if name not in free))


def _runs(rates: Sequence[float]) -> list[tuple[float, int, int]]:
    """(learning rate, first, last + 1) of neighbours with the same rate."""
    found: list[tuple[float, int, int]] = []
    for place, rate in enumerate(rates):
        if found and found[-1][0] == rate:
            found[-1] = (rate, found[-1][1], place + 1)
        else:
            found.append((rate, place, place + 1))
    return found


def _parts(rows: Rows) -> Iterator[Rows]:
    for first in range(0, len(rows), EVAL_BATCH):
        cut = slice(first, first + EVAL_BATCH)
        yield Rows({k: x[cut] for k, x in rows.inputs.items()}, rows.emos[cut], rows.vals[cut])


def _joined(
    outputs: Sequence[tuple[Tensor, Tensor, Tensor]], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits = torch.cat([part[0] for part in outputs], 1)
    values = torch.cat([part[1] for part in outputs], 1)
    own = torch.stack([part[2] for part in outputs]).sum(0) / count
    return logits.cpu().numpy(), values.cpu().numpy(), own.cpu().numpy()


States = tuple[Tensor, Tensor | None]


def _states(device: torch.device) -> States:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


@contextmanager
def _seeded(device: torch.device, states: States | None = None) -> Iterator[None]:
    """Torch's random states are as `states` say inside, and outside as they were."""
    devices: list[Any] = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        if states is not None:
            torch.set_rng_state(states[0])
            if states[1] is not None:
                torch.cuda.set_rng_state(states[1], device)
        yield

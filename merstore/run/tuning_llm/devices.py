"""Where training runs: in this process, or as one of several that `accelerate launch` started."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from merstore.errors import MerstoreError


class Alone:
    """One process. Precision follows the language model: half on a GPU is mixed precision, with
    scaled gradients for float16; anything else is computed as it is.
    """

    rank, world = 0, 1

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        half = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
        self._autocast = dtype if half else None
        self.scaler = GradScaler(device.type) if dtype == torch.float16 and half else None

    def prepare(self, objective: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        return objective, optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._autocast)

    def part(self, objective: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Around one batch of a step; gradients of the processes meet in the last one."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Any) -> None:
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def mean(self, loss: Tensor) -> float:
        return float(loss)

    def gather(self, one: Any) -> list[Any]:
        return [one]

    def wait(self) -> None:
        pass


class Several(Alone):
    """One of several processes, each with its share of every step; gradients are averaged."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        try:
            import accelerate
        except ModuleNotFoundError:
            raise MerstoreError(
                "training on several devices takes accelerate: pip install accelerate"
            ) from None
        half = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype)
        unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = accelerate.Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=half if half and device.type == "cuda" else "no",
            kwargs_handlers=[unused],  # a mode leaves some projections out
        )
        self.device = self._accelerator.device
        self.rank = self._accelerator.process_index
        self.world = self._accelerator.num_processes
        self.scaler = self._accelerator.scaler

    def prepare(self, objective: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        made: tuple[nn.Module, Any] = self._accelerator.prepare(objective, optimizer)
        return made

    def autocast(self) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = self._accelerator.autocast()
        return found

    @contextmanager
    def part(self, objective: nn.Module, last: bool) -> Iterator[None]:
        with nullcontext() if last else self._accelerator.no_sync(objective):
            yield

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def step(self, optimizer: Any) -> None:
        optimizer.step()

    def mean(self, loss: Tensor) -> float:
        return float(self._accelerator.reduce(loss.float(), "mean"))

    def gather(self, one: Any) -> list[Any]:
        from accelerate.utils import gather_object

        found: list[Any] = gather_object([one])
        return found

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def several() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def first() -> bool:
    """Whether this process is the one that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def local_device(device: str) -> str:
    """``"auto"`` as this process's own GPU, where there are several processes."""
    if device == "auto" and several() and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def devices_of(device: torch.device, dtype: torch.dtype) -> Alone:
    """By how this process was started. Raises MerstoreError where accelerate is needed and missing."""
    return (Several if several() else Alone)(device, dtype)

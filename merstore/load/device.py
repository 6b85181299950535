"""Batches on their way to a device, while the model works on the ones before."""

import torch

from merstore.errors import MerstoreError
from merstore.load.batch import FeatureBatch


class Copies:
    """Copies batches from page-locked memory to a CUDA device on a stream of their own.

    ``with copies:`` around what is to be done on that stream, then ``sent``, in any thread; ``received``
    in the thread that uses the batch: what it does with it from then on comes after the copy.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def sent(self, batch: FeatureBatch) -> tuple[FeatureBatch, torch.cuda.Event]:
        """The batch on the device, once the event has come."""
        with torch.cuda.stream(self.stream):
            moved = batch.pin_memory().to(self.device, non_blocking=True)
            return moved, self.stream.record_event()

    def received(self, batch: FeatureBatch, event: torch.cuda.Event) -> FeatureBatch:
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for tensor in batch.each():
            tensor.record_stream(current)  # its memory is that stream's to wait for
        return batch


def as_device(device: "str | int | torch.device | None") -> torch.device | None:
    """Raises MerstoreError for a device that is not here."""
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device  # with its index
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MerstoreError(f"device {device!r} is not one that torch has here: {error}") from None

"""A gathered batch as a TensorDict, for code that indexes, stacks and moves batches as one thing."""

from typing import TYPE_CHECKING

from merstore.load.batch import FeatureBatch

if TYPE_CHECKING:
    from tensordict import TensorDict

__all__ = ["to_tensordict"]


def to_tensordict(batch: FeatureBatch) -> "TensorDict":
    """The batch as a TensorDict of batch size ``[B]``, on the same memory.

    Its keys are the batch's, so that ``<key>_length`` and ``<key>_mask`` are there where a model gets
    them; ``name`` holds the samples' names. Ragged views whose layout is not ``"padded"`` are jagged
    nested tensors.
    """
    import torch
    from tensordict import NonTensorStack, TensorDict

    device = next((tensor.device for tensor in batch.each()), None)
    taken = TensorDict({}, batch_size=[len(batch)], device=device)
    taken["name"] = NonTensorStack(*batch.names)
    for key, tensor in batch.items():
        if key in batch.offsets and not tensor.is_nested:
            tensor = torch.nested.nested_tensor_from_jagged(tensor, batch.offsets[key])
        taken[key] = tensor
    return taken

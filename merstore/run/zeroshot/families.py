"""How each family of models in transformers is given a question: one class for each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from merstore.extract.models import ModelFolder
from merstore.run.zeroshot.asked import Asked


class Family(ABC):
    """The models of some of transformers' types (``model_type`` of their config.json).

    ``takes``: what of a sample is shown to them, ``"frames"`` or ``"sound"``, or both. ``tokenizer``:
    has the chat template or stands in for it, and decodes. ``kind``: the name of the class in
    transformers that the weights are loaded with. ``version``: of what `inputs` makes; to be raised
    with every change to it, so that answers to other inputs are not taken for answers to these.
    """

    types: ClassVar[tuple[str, ...]]
    kind: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ("frames",)
    version: ClassVar[int] = 1
    tokenizer: Any

    @abstractmethod
    def __init__(self, folder: ModelFolder) -> None:
        """Raises EncoderError where a file of tokenizer or processor is missing or damaged."""

    @abstractmethod
    def inputs(self, asked: Asked) -> Mapping[str, Any]:
        """What ``generate`` takes for one question: tensors of a batch of one, on the CPU, with
        ``input_ids`` and ``attention_mask`` among them.
        """

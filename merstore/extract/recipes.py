"""What a recipe is: all that makes a view, from a sample's material to its entry."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from merstore.extract.reading import Reading
    from merstore.extract.video import FrameRequest

Prepared = Any
"""What `Recipe.prepare` gives and `Recipe.encode` takes: arrays and plain values, picklable."""


class Recipe(Protocol):
    """How each entry of a view is computed. Picklable, without its model; safe to use from threads.

    ``modality``, ``encoder_name`` and ``sampling`` name the view; ``dtype``, ``shape`` (None first
    where it varies) and ``spec`` declare it. ``spec`` holds as JSON all that decides about the
    values, and no path. ``reads`` is the part of the material that it is made of.
    """

    modality: str
    dtype: str
    reads: str

    @property
    def encoder_name(self) -> str: ...
    @property
    def sampling(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def spec(self) -> dict[str, Any]: ...

    def request(self, reading: "Reading") -> "FrameRequest | None":
        """The frames of the clip that `prepare` will ask for; None where it takes none."""

    def prepare(self, reading: "Reading") -> Prepared:
        """What `encode` needs of a sample, decoded and sampled, as small as it can be. Runs in a reading
        process. Raises DecodeError.
        """

    def size(self, prepared: Prepared) -> int:
        """How much there is to encode: frames, samples of sound or tokens."""

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """The entries of any number of samples, each as it is of that sample alone: on a CPU to the bit,
        on a GPU but for rounding. Raises EncoderError.
        """


class MadeOf:
    """A recipe whose material is not the dataset's own, such as noisy copies of its sound: ``spec``
    says so, and everything else is the recipe's.
    """

    def __init__(self, recipe: Recipe, material: Mapping[str, Any]) -> None:
        self._recipe = recipe
        self._material = dict(material)

    @property
    def spec(self) -> dict[str, Any]:
        return self._recipe.spec | {"material": self._material}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled there is no recipe to ask
            raise AttributeError(name)
        return getattr(self._recipe, name)

"""From a clip to a feature: finding clips, decoding, sampling rules, encoders. Knows no store."""

from merstore.extract.clips import Clips
from merstore.extract.material import Material, Materials
from merstore.extract.recipes import Recipe
from merstore.extract.registry import encoders, find, recipe

__all__ = ["Clips", "Material", "Materials", "Recipe", "encoders", "find", "recipe"]

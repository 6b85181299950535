"""Noisy copies of clips and of sound, as MER-NOISE and MERBench make them, reproducible."""

from merstore.noise.copies import Settings
from merstore.noise.journal import read_journal
from merstore.noise.making import Made, case, make_noisy, view_path
from merstore.noise.noises import Noises

__all__ = ["Made", "Noises", "Settings", "case", "make_noisy", "read_journal", "view_path"]

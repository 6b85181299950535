"""Filling: computing what a view lacks, lazily while something reads, or offline before."""

from merstore.fill.filler import Filler, FillReport, declare

__all__ = ["FillReport", "Filler", "declare"]

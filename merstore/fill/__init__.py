"""Filling: computing what a view lacks, lazily while something reads, or offline before."""

from merstore.fill.background import Background
from merstore.fill.engine import Failed, FillReport, Progress
from merstore.fill.filler import Filler, declare
from merstore.fill.plan import Plan, Planned, make_plan
from merstore.fill.prewarm import prewarm

__all__ = [
    "Background",
    "Failed",
    "FillReport",
    "Filler",
    "Plan",
    "Planned",
    "Progress",
    "declare",
    "make_plan",
    "prewarm",
]

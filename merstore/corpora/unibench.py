"""MER-UniBench: its nine test sets, in the order in which they are reported (AffectGPT's runner)."""

TEST_SPLITS: dict[str, str | None] = {
    "mer2023": "test1",
    "mer2024": "test1",
    "meld": "test",
    "iemocap": "session5",
    "cmumosi": "test",
    "cmumosei": "test",
    "sims": "test",
    "simsv2": "test",
    "ovmerdplus": None,
}
"""Corpus -> the split of its first set of labels that is tested on; None: all samples."""

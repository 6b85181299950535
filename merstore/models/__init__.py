"""Models that run on what the store holds."""

"""Metrics. NumPy only: whoever has predictions and labels can score them."""

"""Zero-shot baselines: models that are asked about clips as they are, without features or training."""

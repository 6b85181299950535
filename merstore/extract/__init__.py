"""From a clip to a feature: finding clips, decoding, sampling rules, encoders. Knows no store."""

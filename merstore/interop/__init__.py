"""Features of other code bases: what they have on disk comes in, and goes out again."""

"""`python -m merstore.demo` (or `make demo`): the main job from clips to batches, on any machine."""

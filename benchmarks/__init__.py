"""How fast and how large merstore is, measured against what else one could do with the same bytes.

`python -m benchmarks` (or ``make bench``) runs every comparison and writes ``results/``. Each figure
is a ratio of two ways to do one thing in one process on one machine, in turns, so that it means
something on a busy machine and on another one. The ``test_*.py`` next to it are pytest-benchmark
suites of single functions, for work on these functions::

    pytest benchmarks -o addopts="" --benchmark-autosave --benchmark-compare
"""

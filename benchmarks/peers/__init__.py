"""merstore against the other stores and loaders that one could keep features in.

``make bench-peers`` (``python -m benchmarks.peers``) writes the same entries with each of them, reads the
same random batches and whole shuffled epochs in turns, and checks every result against what was written. A
rival is one module with one `Peer` in it, listed in `registry`; it is used the best way that its documentation
shows, and what that is stands in its `how`. Each runs in a process of its own with a time limit, so that one that is
not installed, fails, hangs or returns other values becomes a row that says so.
"""

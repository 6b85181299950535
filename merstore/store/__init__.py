"""The store: keys, blocks, views, snapshots, maintenance. NumPy, lmdb and xxhash; no torch."""

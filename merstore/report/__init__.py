"""Pages for people: what a store holds and what was run on it, and what predictions are worth.

Each is one file that needs no network: its style, its pictures and the few lines of script that sort
its tables are in it.
"""

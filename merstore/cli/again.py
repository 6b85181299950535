"""The same command once more, as a process beside this one."""

import sys

import click


def again(*options: str) -> list[str]:
    """The command line of this command, with options that go over its own."""
    words = list(click.get_current_context().find_root().obj)
    end = words.index("--") if "--" in words else len(words)
    return [sys.executable, "-m", "merstore.cli", *words[:end], *options, *words[end:]]

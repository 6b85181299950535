"""`import merstore` in a fresh interpreter."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .figures import Figure, milliseconds

PART = "Start"
ROUNDS = 15
CODE = """
import sys, time
started = time.perf_counter()
import merstore
print(time.perf_counter() - started, "torch" in sys.modules)
"""


def run(folder: Path) -> Iterator[Figure]:
    seconds = []
    for _ in range(ROUNDS):
        out = subprocess.run(
            [sys.executable, "-c", CODE], check=True, capture_output=True, text=True
        ).stdout.split()
        assert out[1] == "False", "import merstore loads torch"
        seconds.append(float(out[0]))
    yield milliseconds(
        PART, "`import merstore` (NumPy and py-lmdb included, no torch)", seconds, bar=150
    )

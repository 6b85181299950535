"""The driver: runs the comparisons, shows them as they come, and writes ``results/``."""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from . import (
    cold,
    decoding,
    dropin,
    extraction,
    filling,
    gathering,
    importing,
    inference,
    loading,
    machine,
    opening,
    readme,
    scoring,
    sizes,
    training,
    writing,
)
from .figures import Figure, held, line, markdown

CASES: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "gather": gathering.run,
    "loading": loading.run,
    "device": loading.device,
    "cold": cold.run,
    "opening": opening.run,
    "writing": writing.run,
    "sizes": sizes.run,
    "decoding": decoding.run,
    "filling": filling.run,
    "training": training.run,
    "extraction": extraction.run,
    "import": importing.run,
    "scoring": scoring.run,
    "dropin": dropin.run,
    "inference": inference.run,
}
RESULTS = Path(__file__).parent / "results"
DISK_GB = 12


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        help=f"some of {', '.join(CASES)}; all by default, and only then are results kept",
    )
    arguments = parser.parse_args()
    unknown = [case for case in arguments.cases if case not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)} (there are {', '.join(CASES)})")

    base = os.environ.get("MERSTORE_BENCH_DIR")
    folder = Path(tempfile.mkdtemp(prefix="merstore-bench-", dir=base))
    started = time.perf_counter()
    figures: list[Figure] = []
    try:
        free = shutil.disk_usage(folder).free
        if free < DISK_GB * 1e9:
            parser.error(
                f"{folder} has {free / 1e9:.0f} GB free and {DISK_GB} are needed: set MERSTORE_BENCH_DIR"
            )
        described = machine.describe(folder)
        part = None
        for case in arguments.cases or CASES:
            for figure in CASES[case](folder):
                if figure.part != part:
                    part = figure.part
                    print(part, flush=True)
                print(line(figure), flush=True)
                figures.append(figure)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - started
    short = [figure for figure in figures if figure.passed is False]
    print(
        f"{len(figures)} figures in {seconds:.0f} s; {len(short)} of {sum(f.bar is not None for f in figures)} bars not reached"
    )
    if arguments.cases:
        return
    RESULTS.mkdir(exist_ok=True)
    name = machine.name(described)
    data = {
        "machine": described,
        "seconds": round(seconds),
        "figures": [_json(figure) for figure in figures],
    }
    (RESULTS / f"{name}.json").write_text(
        json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    heading = _heading(described)
    whole = RESULTS / f"{name}.md"
    whole.write_text(f"{heading}\n{markdown(figures)}", encoding="utf-8")
    link = f"[All figures](benchmarks/results/{whole.name}), also those without a bar, with rates."
    bars = sum(figure.bar is not None for figure in figures)
    told = f"{bars} figures are held to a bar; {len(short)} fall short of it"
    folded = f"<details><summary>{told}</summary>\n\n{held(figures)}\n</details>"
    readme.put("numbers", f"{heading}\n{folded}\n\n{link}")
    print(f"written to benchmarks/results/{name}.json and .md, and to README.md")


def _json(figure: Figure) -> dict[str, object]:
    fields = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in asdict(figure).items()
    }
    return {**fields, "passed": figure.passed}


def _heading(m: dict[str, object]) -> str:
    versions = m["packages"]
    assert isinstance(versions, dict)
    packages = ", ".join(f"{package} {number}" for package, number in versions.items() if number)
    return (
        f"Measured with `make bench` on {m['date']}: {m['cpu']}, {m['cores']} cores{' of a virtual machine' if m['virtual'] else ''}, "
        f"{m['memory_gib']} GiB of memory, {m['filesystem']}, {m['kernel']}, Python {m['python']}, {packages}. Each figure is a "
        "median over rounds in which both sides take turns on the same bytes, with its quartiles; × is how many times as fast.\n"
    )


if __name__ == "__main__":
    main()

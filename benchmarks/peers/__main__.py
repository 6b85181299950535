"""The driver: runs the comparison, or makes table and plot anew from the data of the last one."""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks import machine, readme

from . import report
from .registry import PEERS
from .run import CASES, FULL, QUICK, Comparison

RESULTS = Path(__file__).parent.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little data, few rounds")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        help=f"some of {', '.join(PEERS)}, separated by commas",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="where peers.json, .md and .svg go; by default benchmarks/results for a whole run, nowhere for another",
    )
    parser.add_argument(
        "--render", action="store_true", help="only make .md and .svg from the .json"
    )
    arguments = parser.parse_args()
    unknown = [key for key in arguments.only if key not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)} (there are {', '.join(PEERS)})")
    whole = not (arguments.quick or arguments.only)
    results = arguments.results or (RESULTS if whole or arguments.render else None)
    if arguments.render:
        assert results is not None
        _render(results)
        return

    size = QUICK if arguments.quick else FULL
    folder = Path(
        tempfile.mkdtemp(prefix="merstore-peers-", dir=os.environ.get("MERSTORE_BENCH_DIR"))
    )
    started = time.perf_counter()
    try:
        needed = 24 * size.nbytes  # each rival writes a shape once, some in larger pieces
        if shutil.disk_usage(folder).free < needed:
            parser.error(f"{folder} has no {needed / 1e9:.0f} GB free: set MERSTORE_BENCH_DIR")
        described = machine.describe(folder)
        comparison = Comparison(folder, size, arguments.only, lambda text: print(text, flush=True))
        comparison.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    data = {
        "machine": described,
        "quick": arguments.quick,
        "seconds": round(time.perf_counter() - started),
        "nbytes": size.nbytes,
        "cases": [{"key": case.key, "label": case.label, "how": case.how} for case in CASES],
        "peers": list(comparison.records.values()),
    }
    print(report.markdown(data))
    print(f"{data['seconds']} s")
    if results is not None:
        results.mkdir(exist_ok=True)
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        (results / "peers.json").write_text(text, encoding="utf-8")
        _render(results)


def _render(results: Path) -> None:
    data = json.loads((results / "peers.json").read_text(encoding="utf-8"))
    (results / "peers.md").write_text(report.markdown(data), encoding="utf-8")
    report.plot(data, results / "peers.svg")
    if results == RESULTS:
        readme.put("peers", report.summary(data))
    print(f"{results}/peers.md and .svg are those of peers.json")


if __name__ == "__main__":
    main()

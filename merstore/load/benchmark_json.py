"""A Tuning in the format of pytest-benchmark, so that `pytest-benchmark compare` can set two of them side by side."""

from datetime import datetime
from typing import Any

import numpy as np

from merstore import __version__
from merstore.load.results import Tuning


def benchmark_json(tuning: Tuning) -> dict[str, Any]:
    """JSON values. Each trial is a benchmark, its rounds are seconds per batch of ``batch_size`` samples."""
    benchmarks = []
    for trial in tuning.trials:
        if not trial.runs:
            continue
        size = trial.candidate.batch_size
        name = f"{trial.group}: {trial.candidate.label}, batch of {size}"
        benchmarks.append(
            {
                "group": trial.group,
                "name": name,
                "fullname": f"merstore tune::{name}",
                "params": vars(trial.candidate),
                "param": None,
                "extra_info": {
                    "views": list(tuning.views),
                    "samples_per_second": trial.rate,
                    "stopped": trial.stopped,
                },
                "options": {"timer": "perf_counter", "warmup": False},
                "stats": _stats(np.array([size / rate for rate in trial.rates])),
            }
        )
    told = tuning.machine
    return {
        "machine_info": {
            "python_version": told["python"],
            "system": told["kernel"].split()[0],
            "release": told["kernel"].split()[-1],
            "cpu": {"brand_raw": told["cpu"], "count": told["cores"]},
            "merstore": told,
        },
        "commit_info": {"id": f"merstore-{__version__}", "dirty": False, "project": "merstore"},
        "benchmarks": benchmarks,
        "datetime": datetime.fromisoformat(tuning.date).isoformat(),
        "version": "5.1.0",  # of pytest-benchmark, whose format this is
    }


def _stats(seconds: np.ndarray) -> dict[str, Any]:
    low, middle, high = np.percentile(seconds, (25, 50, 75)).tolist()
    iqr, mean = high - low, float(seconds.mean())
    deviation = float(seconds.std(ddof=1)) if len(seconds) > 1 else 0.0
    inside = seconds[(seconds >= low - 1.5 * iqr) & (seconds <= high + 1.5 * iqr)]
    far = int((abs(seconds - mean) > deviation).sum())
    return {
        "min": float(seconds.min()),
        "max": float(seconds.max()),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(seconds),
        "median": middle,
        "iqr": iqr,
        "q1": low,
        "q3": high,
        "iqr_outliers": len(seconds) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(seconds) - len(inside)}",
        "ld15iqr": float(inside.min()),
        "hd15iqr": float(inside.max()),
        "ops": 1 / mean,
        "total": float(seconds.sum()),
        "data": seconds.tolist(),
        "iterations": 1,
    }

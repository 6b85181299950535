"""What every test may use: a fresh store, the shared clips and weights, and the settings of hypothesis."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import merstore
from merstore.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MERSTORE_SHARED", ROOT.parent / "shared"))

# `ci` tries the same examples every time; `search` looks for new ones: HYPOTHESIS_PROFILE=search.
_patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, **_patient)
settings.register_profile("search", max_examples=1000, **_patient)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell's background job ignores Ctrl-C, and its children with it: tests of Ctrl-C need Python's own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test touches the network: a model is a local folder or it is made at random.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_report_header() -> str:
    return f"merstore {merstore.__version__} from {Path(merstore.__file__).parent}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a marked test where its machine part is absent; fails it where that part was promised."""
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        _absent("MERSTORE_REQUIRE_SHARED", f"no shared clips and weights at {SHARED}")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            _absent("MERSTORE_REQUIRE_GPU", "no CUDA device")


def _absent(promise: str, reason: str) -> None:
    if os.environ.get(promise) == "1":
        pytest.fail(f"{reason}, and {promise}=1")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips (media/) and weights (models/); for tests marked ``shared``."""
    if not SHARED.is_dir():
        _absent("MERSTORE_REQUIRE_SHARED", f"no shared clips and weights at {SHARED}")
    return SHARED


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A fresh, empty, writable store."""
    with merstore.open(tmp_path / "store.mer", "a") as opened:
        yield opened

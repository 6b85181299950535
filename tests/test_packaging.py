"""What is shipped: the sdist builds elsewhere, the wheel holds what runs and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import merstore

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "merstore").is_dir(), reason="tests run against a wheel"),
]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and the wheel built from that sdist (not from the checkout)."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def sdist(dist: Path) -> set[str]:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def sources(*patterns: str) -> set[str]:
    found = {str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.glob(pattern)}
    return {name for name in found if "__pycache__" not in name}


def test_the_sdist_has_all_sources_tests_benchmarks_and_documents(sdist: set[str]) -> None:
    assert sources("csrc/**/*.[ch]", "merstore/**/*.py*") - sdist <= {"merstore/_core.c"}
    assert sources("tests/**/*.py", "benchmarks/**/*.py", "docs/**/*.md") <= sdist
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt"} <= sdist


def test_the_sdist_has_nothing_that_was_built(sdist: set[str]) -> None:
    assert not [name for name in sdist if name.endswith((".so", ".pyc", ".o"))]
    assert not [name for name in sdist if name.startswith(("build/", ".venv/", "demo/"))]


def test_the_wheel_holds_the_package_its_types_and_the_extension(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert sources("merstore/**/*.py", "merstore/**/*.pyi", "merstore/py.typed") <= names
    assert sources(*(f"merstore/**/*.{ending}" for ending in ("html", "css", "js"))) <= names
    assert [name for name in names if name.startswith("merstore/_core.") and name.endswith(".so")]
    assert not [name for name in names if name.endswith((".pyx", ".c", ".h"))]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"merstore"}


def test_the_metadata_says_what_a_user_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == merstore.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    required = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert {need.split(">")[0].split("<")[0] for need in required} == {
        "numpy",
        "lmdb",
        "xxhash",
        "click",
        "rich",
    }
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "merstore = merstore.cli.main:main" in wheel.read(entry).decode()

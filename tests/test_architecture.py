"""The house rules that a reader can rely on: who imports whom, what is never loaded, what is never committed."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import merstore

PACKAGE = Path(merstore.__file__).parent
ROOT = Path(__file__).resolve().parent.parent

# Each layer and the layers it may import from, besides itself. Imports point downward only.
BASE = {"errors", "_version", "_core", "quality", "atomic"}
STORE = BASE | {"store"}
KNOWN = STORE | {"machine", "profile"}  # what is known of a machine
ALL = KNOWN | {"pages", "load", "extract", "fill", "corpora", "noise", "interop"}
ALL |= {"models", "run", "score", "report"}
MAY_IMPORT = {
    "errors": set(),
    "_version": set(),
    "_core": set(),
    "quality": set(),
    "atomic": set(),
    "store": BASE,
    "machine": STORE,
    "profile": STORE | {"machine"},
    "pages": {"errors", "_version", "atomic"},
    "load": KNOWN | {"pages"},
    "extract": {"errors", "_version", "quality"},
    "fill": KNOWN | {"pages", "load", "extract"},
    "corpora": STORE | {"extract"},
    "interop": KNOWN | {"load", "extract", "corpora"},
    "noise": STORE | {"extract"},
    "models": {"errors", "atomic", "extract"},  # extract: how a folder of weights is found and read
    "score": {"errors", "atomic", "corpora"},  # corpora: to read label files
    "run": KNOWN | {"pages", "load", "fill", "extract", "corpora", "interop", "models", "score"},
    "report": KNOWN | {"pages", "fill", "run", "score"},
    "cli": ALL,
    "demo": ALL | {"cli"},
    "": STORE,  # merstore/__init__.py: the public names
}

HEAVY = {"torch", "torchaudio", "transformers", "decord", "av", "soundfile", "PIL", "yaml"}
TORCH_LAYERS = {"load", "models", "run"}  # where torch is what the layer is about


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ("" if parts == ("__init__",) else parts[0]), path


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Absolute dotted names of everything that the nodes of `tree` import, at any depth."""
    package = ["merstore", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> str | None:
    """`merstore.store.view.View` -> `store`; a name of merstore/__init__.py -> ``""``; others None."""
    parts = name.split(".")
    if parts[0] != "merstore":
        return None
    first = parts[1] if len(parts) > 1 else ""
    known = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file() or first == "_core"
    return first if known else ""


@pytest.mark.parametrize(
    ("layer", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()]
)
def test_imports_point_downward(layer: str, path: Path) -> None:
    allowed = MAY_IMPORT[layer] | {layer}
    for name in imported(ast.parse(path.read_text(encoding="utf-8")), path):
        target = layer_of(name)
        if target == "":  # `from merstore import open` brings in the store
            target = "store" if layer else ""
        assert target is None or target in allowed, f"{layer or 'merstore'} imports {name}"


@pytest.mark.parametrize(
    ("layer", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()]
)
def test_heavy_libraries_are_imported_where_they_are_used(layer: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if layer in {"store", ""}:
        loaded = {name.split(".")[0] for name in imported(tree, path)}
    elif layer in TORCH_LAYERS:
        return
    else:
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        loaded = {name.split(".")[0] for node in top for name in imported(node, path)}
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", ["merstore", "merstore.cli.main"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(out.stdout.split()) & (HEAVY | {"pandas", "rich"})


# Written so that this file does not match itself.
FORBIDDEN = {
    "a path of one machine": (r"(?<![\w.])/(work|root|home|Users)/", "*"),
    "the host of a package registry": (
        r"pypi\.org|pythonhosted\.|download\.pytorch|index[-_]url",
        "*",
    ),
    "a pickle loaded from an array file": (r"allow_pickle\s*=\s*True", "*.py"),
    "audio through torchcodec": (r"torchaudio\.load\b", "*.py"),
    "torchvision": (r"^\s*(import|from) torchvision|^torchvision", "*.py *.txt *.toml"),
}


@pytest.fixture(scope="module")
def project_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_never_in_the_repository(what: str, project_files: list[Path]) -> None:
    pattern, kinds = FORBIDDEN[what]
    for path in project_files:
        if any(path.match(kind) for kind in kinds.split()):
            found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.M)
            assert not found, f"{path.relative_to(ROOT)}: {found and found[0]!r} is {what}"


def test_no_media_weights_or_stores_in_the_repository(project_files: list[Path]) -> None:
    kinds = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".wav", ".flac", ".mdb", ".npz"} | {
        ".safetensors", ".pth", ".pt", ".ckpt", ".onnx", ".npy", ".so",
    }  # fmt: skip
    assert not [path for path in project_files if path.suffix in kinds]
    assert not [path for path in project_files if path.stat().st_size > 1 << 20]

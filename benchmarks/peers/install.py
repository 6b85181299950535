"""Makes the environment of the comparison: `python -m benchmarks.peers.install FOLDER`.

It stands on the one that runs this, whose packages it sees, and gets the rivals of the extra ``peers`` and of
``no-deps.txt`` with the versions of ``constraints.txt``. Where they do not all install, each is tried alone, and what pip
said of those that fail is kept, for the table.
"""

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NO_DEPS = Path(__file__).parent / "no-deps.txt"
FAILURES = "not-installed.json"


def main() -> None:
    folder = Path(sys.argv[1])
    venv.create(folder, with_pip=True, symlinks=True)
    (folder / ".gitignore").write_text("*\n")
    site = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    below = sysconfig.get_path("purelib")
    (Path(site) / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["optional-dependencies"]["peers"]
    lines = NO_DEPS.read_text(encoding="utf-8").splitlines()
    without = [line for line in lines if line and not line.startswith("#")]
    failed = {}
    for options, wanted in ([], requirements), (["--no-deps"], without):
        if _pip(folder, *options, *wanted):
            for requirement in wanted:
                reason = _pip(folder, *options, requirement)
                if reason:
                    failed[_name(requirement)] = f"does not install: {reason}"
                    print(f"{requirement}: {reason}")
    (folder / FAILURES).write_text(json.dumps(failed, indent=1) + "\n", encoding="utf-8")


def failures(prefix: Path) -> dict[str, str]:
    """Why packages did not install into the environment at `prefix`."""
    path = prefix / FAILURES
    if not path.exists():
        return {}
    failed: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return failed


def _pip(folder: Path, *arguments: str) -> str:
    """What went wrong, empty where nothing did."""
    command = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        "constraints.txt",
    ]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    errors: list[str] = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    first = (errors or done.stderr.splitlines() or ["pip failed"])[0]
    return first.removeprefix("ERROR: ").partition(" (from versions")[0][:200]


def _name(requirement: str) -> str:
    return requirement.partition(">")[0].partition("=")[0].strip()


if __name__ == "__main__":
    main()

"""The recipes of a folder of noisy copies: JSON lines in a file beside the folder.

``audio_snr5.recipe.jsonl`` is that of ``audio_snr5``, in which there is nothing but copies. The first
line holds the settings, ``{"noise": {...}}``; each other line is a sample's: ``sample``, and either
its recipe or its ``failure`` (kind and message). While copies are made lines are appended; in the end
they are in the order of the samples' names, one for each.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from merstore.errors import MerstoreError, SpecMismatch, StoreBusy
from merstore.store import spec

Recipe = dict[str, Any]


class Recipes(NamedTuple):
    """What a journal says: ``settings``, and by sample its recipe, or kind and message of a failure."""

    settings: dict[str, Any]
    recipes: dict[str, Recipe]
    failures: dict[str, tuple[str, str]]


def journal_path(folder: Path) -> Path:
    """Where the recipes of the copies in `folder` are."""
    return folder.with_name(f"{folder.name}.recipe.jsonl")


def read_journal(folder: "str | os.PathLike[str]") -> Recipes:
    """How the copies in `folder` were made. Raises MerstoreError where that is not known."""
    path = journal_path(Path(folder))
    try:
        found = _parse(path.read_bytes())
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}; no recipes of noise are there") from None
    if found is None:
        raise MerstoreError(f"{path}: its first line says nothing of noise; no recipes are there")
    return found


class Journal:
    """The recipes, open for as long as copies are made; nobody else can open them meanwhile.

    A killed run leaves whole lines, and perhaps half a line, which counts for nothing.

    Raises SpecMismatch where copies were made with other settings, StoreBusy where another process
    makes them now, MerstoreError where `folder` holds files and nothing says that they are copies.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = journal_path(folder)
        self.recipes: dict[str, Recipe] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        self._settings = json.loads(spec.canonical(settings))
        foreign = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
        if foreign and not self.path.exists():
            raise MerstoreError(
                f"{folder}: has files in it, and no {self.path.name} beside it says that they are noisy "
                "copies; choose another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._take_up()
        except BlockingIOError:
            os.close(self._file)
            raise StoreBusy(
                f"{folder}: another process is making these copies; wait for it"
            ) from None
        except BaseException:
            os.close(self._file)
            raise

    def add(self, name: str, recipe: Recipe) -> None:
        """A copy was made."""
        self.recipes[name] = recipe
        self.failures.pop(name, None)
        self._append(_line(name, recipe))

    def fail(self, name: str, kind: str, message: str) -> None:
        """A copy could not be made. The recipe of one that was made before stays."""
        if name not in self.recipes:
            self.failures[name] = kind, message
            self._append(_failed(name, kind, message))

    def close(self) -> None:
        """Put the lines in order."""
        if self._file < 0:
            return
        lines = [(name, _line(name, recipe)) for name, recipe in self.recipes.items()]
        lines += [(name, _failed(name, *why)) for name, why in self.failures.items()]
        text = b"".join(line for _, line in sorted(lines, key=lambda pair: pair[0].encode()))
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            part.write_bytes(_json({"noise": self._settings}) + text)
            part.replace(self.path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)  # what was appended is enough
        file, self._file = self._file, -1
        os.close(file)

    def _take_up(self) -> None:
        size = os.fstat(self._file).st_size
        data = os.pread(self._file, size, 0)
        found = _parse(data)
        if found is None:
            if data.count(b"\n"):
                raise MerstoreError(f"{self.path}: is no journal of noise; choose another folder")
            os.ftruncate(self._file, 0)
            self._append(_json({"noise": self._settings}))
            return
        if found.settings != self._settings:
            differ = "; ".join(spec.differences(found.settings, self._settings))
            raise SpecMismatch(
                f"{self.path}: these copies were made otherwise ({differ}): ask for the same, or choose "
                "another folder"
            )
        self.recipes, self.failures = found.recipes, found.failures
        if not data.endswith(b"\n"):
            self._append(b"\n")

    def _append(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _parse(data: bytes) -> Recipes | None:
    """None where the first line is not a journal's."""
    head, *lines = data.split(b"\n")
    settings = (_object(head) or {}).get("noise")
    if not isinstance(settings, dict):
        return None
    found = Recipes(settings, {}, {})
    for line in lines:
        told = _object(line)
        name = told.pop("sample", None) if told else None
        if not told or not isinstance(name, str):
            continue
        failure = told.get("failure")
        if isinstance(failure, dict):
            found.failures[name] = str(failure.get("kind")), str(failure.get("message"))
        else:
            found.recipes[name] = told
            found.failures.pop(name, None)
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _line(name: str, recipe: Recipe) -> bytes:
    return _json({"sample": name, **recipe})


def _failed(name: str, kind: str, message: str) -> bytes:
    return _json({"sample": name, "failure": {"kind": kind, "message": message}})


def _json(told: Mapping[str, Any]) -> bytes:
    # a lone surrogate, of an undecodable file name, becomes JSON's own escape for it
    return json.dumps(told, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"

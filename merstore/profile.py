"""Profiles: the loader settings that `merstore tune` found best for some views on some machine.

A profile lies in its store as a note. That of a store that cannot be written lies in
``$XDG_CACHE_HOME/merstore/profiles/<uuid of the store>.json``.
"""

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from xxhash import xxh3_64_hexdigest

from merstore import machine
from merstore.atomic import replacing
from merstore.errors import MerstoreError, UnknownView
from merstore.store.store import Store, open_store

NOTES = "profile"
# What a profile sets of FeatureLoader: nothing that changes what a caller may do with a batch.
SETTINGS = ("threads", "prefetch", "advice", "cache")


class _Dataset(Protocol):
    """What is asked of a FeatureDataset."""

    @property
    def stores(self) -> list[Store]: ...
    @property
    def views(self) -> Any: ...


@dataclass(frozen=True)
class Profile:
    """views: ``{path: {"dtype": ..., "shape": [...]}}``. settings: those of FeatureLoader that are named in SETTINGS.
    batch_size, device: what they were measured with. machine: as ``machine.describe`` gives it. date: ISO, UTC.
    """

    views: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    batch_size: int
    device: str | None
    samples_per_second: float
    bytes_per_second: float
    machine: dict[str, Any]
    date: str

    @property
    def name(self) -> str:
        return name_of(self.views)

    def stale(self, store: Store) -> list[str]:
        """Why it holds no longer, for these views of ``store`` and this machine; empty where it does."""
        reasons = machine.differences(self.machine, machine.describe(store.path))
        for path, before in self.views.items():
            try:
                now = declared(store, path)
            except UnknownView:
                reasons.append(f"{path} is no longer there")
                continue
            if now != before:
                reasons.append(f"{path}: {_told(before)}, now {_told(now)}")
        return reasons

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def declared(store: Store, path: str) -> dict[str, Any]:
    """What a profile depends on of a view. Raises UnknownView."""
    record = store[path].record
    return {"dtype": record.dtype, "shape": list(record.shape)}


def name_of(paths: Iterable[str]) -> str:
    return xxh3_64_hexdigest("\n".join(sorted(paths)).encode())


def load_profile(dataset: _Dataset) -> Profile | None:
    """The profile of a dataset's views. None where there is none; where one holds no longer, a warning says why."""
    if len(dataset.stores) != 1:
        return None  # only views of one store are tuned together
    (store,) = dataset.stores
    name = name_of({view.path for view in dataset.views.values()})
    found = [profile for profile in kept(store) if profile.name == name]
    if not found:
        return None
    profile = found[0]
    reasons = profile.stale(store)
    if reasons:
        warnings.warn(
            f"the profile of {profile.date} is not used, since things have changed ({'; '.join(reasons)}): "
            f"run `merstore tune {store.path} {' '.join(profile.views)}`",
            stacklevel=3,
        )
        return None
    return profile


def kept(store: Store) -> list[Profile]:
    """All profiles of a store, the newest first; of the same views only the newest."""
    texts = [*store.notes(NOTES).values(), *map(json.dumps, _read(_file(store)).values())]
    profiles = [profile for text in texts if (profile := _parse(text)) is not None]
    profiles.sort(key=lambda profile: profile.date)
    newest = {profile.name: profile for profile in profiles}
    return sorted(newest.values(), key=lambda profile: profile.date, reverse=True)


def keep(path: Path, profile: Profile) -> str:
    """Keeps the profile, in the place of an earlier one of the same views, and says where.

    Raises MerstoreError where neither the store nor the user's cache can be written.
    """
    try:
        with open_store(path, "a") as store:
            store.note(NOTES, profile.name, profile.text())
    except MerstoreError as refused:
        with open_store(path) as store:
            file = _file(store)
        try:
            _write(file, _read(file) | {profile.name: asdict(profile)})
        except OSError as failed:
            raise MerstoreError(
                f"the profile cannot be kept: {refused}; nor in {file}: {failed.strerror}. Set "
                "XDG_CACHE_HOME to a folder that can be written"
            ) from failed
        return str(file)
    return str(path)


def _parse(text: str) -> Profile | None:
    """None for what is damaged or was written by another version: it is measured again, not trusted."""
    try:
        given = json.loads(text)
        profile = Profile(**{field.name: given[field.name] for field in fields(Profile)})
        datetime.fromisoformat(profile.date)
        good = all(
            isinstance(getattr(profile, name), kind)
            for name, kind in {
                "views": dict,
                "settings": dict,
                "batch_size": int,
                "samples_per_second": int | float,
                "bytes_per_second": int | float,
                "machine": dict,
            }.items()
        )
    except (ValueError, KeyError, TypeError):
        return None
    return profile if good and set(profile.settings) <= set(SETTINGS) else None


def _file(store: Store) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    try:
        identity = str(UUID(store.uuid))
    except ValueError:
        identity = "unknown"
    return Path(base) / "merstore" / "profiles" / f"{identity}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, profiles: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as out:
        out.write(json.dumps(profiles, indent=1, ensure_ascii=False).encode())


def _told(view: dict[str, Any]) -> str:
    shape = "x".join("T" if size is None else str(size) for size in view.get("shape", ()))
    return f"{view.get('dtype')} {shape or 'scalar'}"

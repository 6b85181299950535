"""`merstore info`: what a store, or one of its views, is."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from merstore import profile
from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument, view_argument
from merstore.store import filesystem
from merstore.store.store import Store
from merstore.store.view import View


@click.command("info", short_help="what a store, or a view, is")
@store_argument
@view_argument
@console.as_json
def info_(store: Path, view: str | None, as_json: bool) -> None:
    """Describe STORE (size, snapshot, readers, durability, profiles), or VIEW (spec, fingerprint, counters)."""
    with open_store(store) as opened:
        if view is None:
            _store(opened, as_json)
        else:
            _view(find_view(opened, view), as_json)


def _store(store: Store, as_json: bool) -> None:
    stats = store.stats()
    free = filesystem.free_bytes(store.path)
    profiles = profile.kept(store)
    if as_json:
        told = [asdict(kept) | {"stale": kept.stale(store)} for kept in profiles]
        console.json_out(stats | {"free_bytes": free, "profiles": told})
        return
    payload, on_disk, dead = stats["payload_bytes"], stats["file_bytes"], stats["dead_bytes"]
    size = f"{console.size(on_disk)} on disk"
    if payload:
        size += f", {on_disk / payload:.3f} x the payload of {console.size(payload)}"
    if dead:
        size += f"; {console.size(dead)} dead (merstore compact gives it back)"
    behind = stats["last_transaction"] - stats["snapshot"]
    fast = "  (not every commit is synced to disk; a crash may lose the store)"
    console.fields(
        {
            "store": stats["path"],
            "format": f"{stats['format']}, made by {stats['creator']}",
            "uuid": stats["uuid"],
            "size": size,
            "views": f"{stats['views']:,}",
            "entries": f"{stats['entries']:,} in {console.plural(stats['blocks'], 'block')}",
            "failures": f"{stats['failures']:,}",
            "snapshot": f"transaction {stats['snapshot']}, {console.duration(stats['snapshot_age'])} old"
            + (f", {behind} behind" if behind else ""),
            "readers": f"{stats['readers']} (this one counted)",
            "durability": stats["durability"] + (fast if stats["durability"] == "fast" else ""),
            "filesystem": f"{stats['filesystem']}, {console.size(free)} free",
            "map": f"{console.size(stats['map_bytes'])} of address space",
            "note": "pages were renumbered by another program: merstore compact makes it fast again"
            if stats["renumbered"]
            else None,
        }
    )
    for kept in profiles:
        click.echo()
        console.fields(_profile(kept, store))


def _profile(kept: profile.Profile, store: Store) -> dict[str, str | None]:
    """What `merstore tune` found, as fields."""
    stale = kept.stale(store)
    return {
        "profile": f"{', '.join(kept.views)}",
        "  settings": ", ".join(f"{name}={value!r}" for name, value in kept.settings.items()),
        "  rate": f"{console.number(kept.samples_per_second)} samples/s, "
        f"{console.size(kept.bytes_per_second)}/s in batches of {kept.batch_size}"
        + (f" on {kept.device}" if kept.device else ""),
        "  machine": f"{kept.machine.get('cpu')}, {kept.machine.get('cores')} cores",
        "  measured": datetime.fromisoformat(kept.date).astimezone().isoformat(" ", "seconds"),
        "  stale": f"{'; '.join(stale)}: not used, run merstore tune again" if stale else None,
    }


def _view(view: View, as_json: bool) -> None:
    record = view.record
    kinds = Counter(failure.kind for failure in view.failures())
    facts: dict[str, Any] = {
        "view": view.path,
        "alias": record.alias,
        "dtype": record.dtype,
        "shape": record.shape,
        "entries": record.entries,
        "failures": dict(kinds.most_common()),
        "bytes": record.nbytes,
        "blocks": record.blocks,
        "nonfinite": record.nonfinite,
        "zeros": record.zeros,
        "created": _time(record.created),
        "updated": _time(record.updated),
        "fingerprint": record.fingerprint,
        "spec": record.spec,
    }
    if as_json:
        console.json_out(facts)
        return
    told = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
    console.fields(
        facts
        | {
            "shape": console.shape(record.shape) or "()",
            "entries": f"{record.entries:,}",
            "failures": f"{record.failures:,}" + (f"  ({told})" if told else ""),
            "bytes": f"{record.nbytes:,}  ({console.size(record.nbytes)})",
            "nonfinite": f"{record.nonfinite}  (what is done with NaN and Inf)",
            "zeros": f"{record.zeros}  (what is done with rows of zeros)",
            "spec": "" if record.spec else "(empty)",
        }
    )
    if record.spec:
        console.fields({f"  {name}": json.dumps(value) for name, value in _leaves(record.spec)})


def _leaves(spec: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested objects, with dotted names."""
    for name, value in spec.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6).astimezone().isoformat(" ", "seconds")

"""merge: the shards of a store, by name or by where they lie."""

from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.fill.shards import Shard

from .conftest import FRAMES, Merstore


def fill(path: Path, values: dict[str, float]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with merstore.open(path, "a") as store:
        view = store.create_view(FRAMES, shape=(8,), spec={"n": 8}, exist_ok=True)
        view.update({name: np.full(8, value, np.float32) for name, value in values.items()})
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "features.mer"


def test_a_stores_own_shards(cli: Merstore, target: Path) -> None:
    for index in range(3):
        fill(Shard(index, 3).path(target), {f"s{index}": index, f"s{index + 3}": index})
    result = cli("merge", target)
    assert result.code == 0, result.err
    assert f"{FRAMES}      6         0        0  192 B" in result.out
    assert f"{target}: 6 entries of 3 stores added in " in result.out
    with merstore.open(target) as store:
        assert list(store[FRAMES]) == [f"s{i}" for i in range(6)]
    again = cli("merge", target, "--json")
    assert again.code == 0
    view = {"view": FRAMES, "added": 0, "failures": 0, "present": 6, "bytes": 0}
    assert again.json["views"] == [view]


def test_a_missing_shard_is_named(cli: Merstore, target: Path) -> None:
    for index in (0, 3):
        fill(Shard(index, 5).path(target), {"s": 1})
    result = cli("merge", target)
    assert result.code == 1
    assert "shards 1/5, 2/5, 4/5 are not there" in result.err
    assert not target.exists()
    assert cli("merge", target, *Shard.all(target).paths).code == 0


def test_nothing_to_merge(cli: Merstore, target: Path, tmp_path: Path) -> None:
    result = cli("merge", target)
    assert (result.code, result.out) == (2, "")
    assert f"error: {target} has no shards" in result.err
    good = fill(tmp_path / "a.mer", {"x": 1})
    result = cli("merge", target, good, tmp_path / "nowhere.mer")
    assert result.code == 2
    assert "nowhere.mer" in result.err
    assert not target.exists()
    fill(target, {"x": 1})
    result = cli("merge", target, target)
    assert result.code == 1
    assert "the target itself" in result.err


def test_different_entries_and_whom_to_keep(cli: Merstore, target: Path, tmp_path: Path) -> None:
    parts = [fill(tmp_path / "a.mer", {"x": 1, "y": 2}), fill(tmp_path / "b.mer", {"x": 1, "y": 3})]
    result = cli("merge", target, *parts)
    assert result.code == 1
    assert "different entries (1):" in result.out
    assert f"{FRAMES}/y: float32 8 " in result.out
    assert "--keep" in result.err
    told = cli("merge", target, *parts, "--json")
    assert told.code == 1
    (conflict,) = told.json["conflicts"]
    assert [conflict["name"], conflict["found"][0][0]] == ["y", str(parts[0])]
    kept = cli("merge", target, *parts, "--keep")
    assert kept.code == 0
    assert "different entries, the first kept (1):" in kept.out
    with merstore.open(target) as store:
        assert store[FRAMES].gather(["x", "y"])[:, 0].tolist() == [1, 2]


def test_damage_is_listed(cli: Merstore, target: Path, tmp_path: Path) -> None:
    part = fill(tmp_path / "a.mer", {"x": 1234.5, "y": 2})
    data = bytearray((part / "data.mdb").read_bytes())
    payload = np.full(8, 1234.5, np.float32).tobytes()
    place = data.index(payload)
    assert data.count(payload) == 1
    data[place] ^= 1
    (part / "data.mdb").write_bytes(data)
    result = cli("merge", target, part)
    assert result.code == 1
    assert f"{FRAMES}/x in {part}: its bytes are not those that were written" in result.out
    assert [each["name"] for each in cli("merge", target, part, "--json").json["damaged"]] == ["x"]
    assert cli("verify", target).code == 0


def test_another_spec_is_said_in_one_line(cli: Merstore, target: Path, tmp_path: Path) -> None:
    part = fill(tmp_path / "a.mer", {"x": 1})
    with merstore.open(target, "a") as store:
        store.create_view(FRAMES, shape=(8,), spec={"n": 16})
    result = cli("merge", target, part)
    assert result.code == 1
    assert result.err.startswith(f"error: {FRAMES} is declared in one way")
    assert "n: 16 against 8" in result.err

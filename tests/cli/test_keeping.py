"""verify, compact, doctor: what is done about a store's health."""

from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.cli import doctor

from .conftest import FRAMES, Merstore


def damage(store: Path, payload: bytes) -> None:
    """Flips one bit of an entry, behind LMDB's back."""
    data = bytearray((store / "data.mdb").read_bytes())
    at = data.rfind(payload)
    assert at >= 0
    data[at + 5] ^= 1
    (store / "data.mdb").write_bytes(data)


def test_verify_of_a_sound_store(cli: Merstore, filled: Path) -> None:
    result = cli("verify", filled)
    assert result.code == 0
    assert "7 entries (632 B) checked, no problems" in result.out
    assert cli("verify", filled, "--json").json == {"entries": 7, "bytes": 632, "problems": []}


def test_verify_names_the_damaged_entry_and_exits_with_1(cli: Merstore, filled: Path) -> None:
    with merstore.open(filled) as store:
        payload = store[FRAMES]["sample_00000002"].tobytes()
    damage(filled, payload)
    result = cli("verify", filled)
    assert result.code == 1
    assert result.lines[1].split()[:3] == [FRAMES, "sample_00000002", "checksum"]
    (problem,) = cli("verify", filled, "--json").json["problems"]
    assert (problem["view"], problem["name"]) == (FRAMES, "sample_00000002")


def test_compact_gives_back_the_space_of_what_was_deleted(cli: Merstore, filled: Path) -> None:
    kept = np.arange(32, dtype=np.float32).reshape(8, 4)
    with merstore.open(filled, "a") as store:
        view = store[FRAMES]
        view.update({f"big{n}": np.full((8, 4), n, np.float32) for n in range(1, 5000)})
        view["kept"] = kept
        with store.writer() as writer:
            for n in range(1, 5000):
                writer.delete(view, f"big{n}")
    before = (filled / "data.mdb").stat().st_size
    result = cli("compact", filled)
    assert result.code == 0, result.err
    assert "given back" in result.out
    assert (filled / "data.mdb").stat().st_size < before
    with merstore.open(filled) as store:
        assert (store[FRAMES]["kept"] == kept).all()


def test_doctor_reports_software_machine_and_store(cli: Merstore, filled: Path) -> None:
    result = cli("doctor", filled, "--json")
    checks = {(check["group"], check["name"]): check for check in result.json["checks"]}
    assert checks["software", "merstore"]["value"] == merstore.__version__
    assert ("software", "torch") in checks
    assert ("machine", "open files") in checks
    assert checks[f"store {filled}", "opens"]["value"] == "yes, format 1, 7 entries"
    assert result.code == (1 if result.json["problems"] else 0)


def test_doctor_says_what_is_wrong_and_what_to_do(
    cli: Merstore, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "FREE_WANTED", 1 << 62)
    result = cli("doctor", filled)
    assert result.code == 1
    assert "problem: free space: the disk is nearly full" in result.out


def test_doctor_of_something_that_is_no_store_is_a_problem_not_a_failure(
    cli: Merstore, tmp_path: Path
) -> None:
    result = cli("doctor", tmp_path)
    assert result.code == 1
    assert "problem: opens: " in result.out

"""tune: measures, tells, keeps. Tiny budgets; nothing depends on what was fast."""

import json
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.load import ceilings
from merstore.store import filesystem

from .conftest import FRAMES, SOUND, Merstore

QUICK = ["--seconds", "0.1", "--step-ms", "1"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ceilings, "POOL_BYTES", 1 << 20)  # which takes long to touch
    return tmp_path / "cache"


def test_tune_prints_what_it_found_keeps_it_and_info_shows_it(cli: Merstore, filled: Path) -> None:
    result = cli("tune", filled, FRAMES, *QUICK)
    assert result.code == 0, result.err
    assert "THREADS AND PREFETCH" in result.out
    assert "memcpy, two threads" in result.out
    assert "best      " in result.out
    assert f"kept in {filled}" in result.err
    assert "a batch is all 4 samples" in result.err

    (profile,) = cli("info", filled, "--json").json["profiles"]
    assert list(profile["views"]) == [FRAMES]
    assert profile["stale"] == []
    told = cli("info", filled).out
    assert f"profile     {FRAMES}\n" in told
    assert f"threads={profile['settings']['threads']}" in told
    assert "stale" not in told


def test_views_may_be_named_by_legacy_folders_and_are_tuned_together(
    cli: Merstore, tmp_path: Path
) -> None:
    path = tmp_path / "joined.mer"
    with merstore.open(path, "a") as store:
        for view, alias in (("d/a@E/UTT", "one"), ("d/b@E/UTT", "two")):
            made = store.create_view(view, shape=(4,), alias=alias)
            made.update({f"s{i}": np.ones(4, np.float32) for i in range(8)})
    found = cli("tune", path, "one", "d/b@E/UTT", *QUICK, "--no-cold", "--json").json
    assert list(found["views"]) == ["d/a@E/UTT", "d/b@E/UTT"]
    assert found["samples"] == 8


def test_json_says_everything(cli: Merstore, filled: Path) -> None:
    found = cli("tune", filled, SOUND, *QUICK, "--batch-size", 2, "--json").json
    assert found["batch_size"] == 2
    assert [room["step_ms"] for room in found["headroom"]] == [1]
    assert {trial["group"] for trial in found["trials"]} >= {"threads and prefetch", "batch size"}
    assert set(found["settings"]) == {"threads", "prefetch", "advice", "cache"}


def test_pages_and_files_are_written(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "bench.json"
    args = [*QUICK, "--no-cold", "--no-save", "--html", page, "--benchmark-json", file]
    result = cli("tune", filled, FRAMES, *args)
    assert result.code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(file.read_text())["benchmarks"]
    assert "kept in" not in result.err
    assert cli("info", filled, "--json").json["profiles"] == []


def test_a_store_that_cannot_be_written_has_its_profile_in_the_users_cache(
    cli: Merstore, filled: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "can_write", lambda directory: False)
    result = cli("tune", filled, FRAMES, *QUICK, "--no-cold")
    assert result.code == 0
    assert f"kept in {cache}" in result.err
    assert len(cli("info", filled, "--json").json["profiles"]) == 1


def test_where_it_can_be_kept_nowhere_the_result_is_still_told(
    cli: Merstore, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "can_write", lambda directory: False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = cli("tune", filled, FRAMES, *QUICK, "--no-cold")
    assert result.code == 1
    assert "best      " in result.out
    assert "cannot be kept" in result.err


def test_info_says_why_a_profile_is_stale(cli: Merstore, filled: Path) -> None:
    assert cli("tune", filled, FRAMES, *QUICK, "--no-cold").code == 0
    with merstore.open(filled, "a") as store:
        store.drop_view(FRAMES)
    assert f"{FRAMES} is no longer there: not used" in cli("info", filled).out


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["nothing@E/UTT"], 2, "no view"),
        ([], 2, "VIEW"),
        ([FRAMES, SOUND], 1, "no sample is in all of the views"),
        ([FRAMES, "--device", "cuda:99"], 2, "--device cuda:99"),
        ([FRAMES, "--device", "nonsense"], 2, "--device nonsense"),
        ([FRAMES, "--seconds", "0"], 2, "--seconds"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    args: list[str], code: int, told: str, cli: Merstore, filled: Path
) -> None:
    result = cli("tune", filled, *args)
    assert result.code == code
    assert result.err.splitlines()[-1].startswith("error: ")
    assert told in result.err


def test_an_empty_view_cannot_be_tuned(cli: Merstore, tmp_path: Path) -> None:
    with merstore.open(tmp_path / "e.mer", "a") as store:
        store.create_view("d/a@E/UTT", shape=(4,))
    result = cli("tune", tmp_path / "e.mer", "d/a@E/UTT")
    assert result.code == 1
    assert "d/a@E/UTT has 0" in result.err

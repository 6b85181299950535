"""Profiles: kept with the store or beside it, found by the views, and never used when they hold no longer."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore import machine, profile
from merstore.load import FeatureDataset, FeatureLoader
from merstore.profile import Profile, declared, keep, kept, load_profile
from merstore.store import filesystem
from merstore.store.store import Store

FRAMES, SOUND = "d/frame@E/uniform_8frms", "d/audio@E/FRA"
SETTINGS = {"threads": 1, "prefetch": 4, "advice": True, "cache": None}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "merstore" / "profiles"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.mer"
    with merstore.open(path, "a") as store:
        for view, shape in ((FRAMES, (2, 3)), (SOUND, (None, 3))):
            store.create_view(view, shape=shape).update(
                {f"s{i}": np.ones((2, 3), np.float32) for i in range(4)}
            )
    return path


def found_for(path: Path, *views: str, date: str = "2026-11-21T10:00:00+00:00") -> Profile:
    with merstore.open(path) as store:
        return Profile(
            {view: declared(store, view) for view in views},
            SETTINGS,
            256,
            None,
            1000.5,
            24576000,
            machine.describe(path),
            date,
        )


def dataset(store: Store, *views: str) -> FeatureDataset:
    return FeatureDataset([store[view] for view in views])


def test_a_profile_is_kept_in_the_store_and_found_by_its_views(path: Path, cache: Path) -> None:
    saved = found_for(path, FRAMES, SOUND)
    assert keep(path, saved) == str(path)
    assert not cache.exists()
    with merstore.open(path) as store:
        assert load_profile(dataset(store, FRAMES, SOUND)) == saved
        assert load_profile(dataset(store, SOUND, FRAMES)) == saved  # in whatever order
        assert load_profile(dataset(store, FRAMES)) is None
        assert store.verify() == []


def test_a_new_profile_of_the_same_views_takes_the_place_of_the_old(path: Path) -> None:
    for minute in (10, 20):
        keep(path, found_for(path, FRAMES, date=f"2026-11-21T10:{minute}:00+00:00"))
    keep(path, found_for(path, SOUND, date="2026-11-21T10:00:00+00:00"))
    with merstore.open(path) as store:
        assert [each.date[14:16] for each in kept(store)] == ["20", "00"]


def test_that_of_a_store_that_cannot_be_written_lies_in_the_users_cache(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = found_for(path, FRAMES)
    monkeypatch.setattr(filesystem, "can_write", lambda directory: False)
    where = Path(keep(path, saved))
    assert where.parent == cache
    keep(path, found_for(path, SOUND))
    with merstore.open(path) as store:
        assert where.name == f"{store.uuid}.json"
        assert store.notes("profile") == {}
        assert load_profile(dataset(store, FRAMES)) == saved
        assert len(kept(store)) == 2


def test_where_nothing_can_be_written_both_places_are_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "can_write", lambda directory: False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(merstore.MerstoreError, match=r"cannot be written.*nor in .*XDG_CACHE_HOME"):
        keep(path, found_for(path, FRAMES))


def test_on_another_machine_it_is_reported_and_not_used(path: Path) -> None:
    saved = found_for(path, FRAMES)
    keep(path, dataclasses.replace(saved, machine=saved.machine | {"cores": 999}))
    with merstore.open(path) as store:
        with pytest.warns(UserWarning, match=rf"cores: 999, now.*merstore tune .* {FRAMES}"):
            assert load_profile(dataset(store, FRAMES)) is None
        assert len(kept(store)) == 1


def test_a_view_declared_anew_makes_it_stale(path: Path) -> None:
    saved = found_for(path, FRAMES, SOUND)
    keep(path, saved)
    with merstore.open(path, "a") as store:
        store.drop_view(FRAMES)
        assert saved.stale(store) == [f"{FRAMES} is no longer there"]
        store.create_view(FRAMES, shape=(2, 4), dtype="float16")
        assert saved.stale(store) == [f"{FRAMES}: float32 2x3, now float16 2x4"]


def test_new_entries_do_not(path: Path) -> None:
    keep(path, found_for(path, FRAMES))
    with merstore.open(path, "a") as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        store[FRAMES]["more"] = np.ones((2, 3), np.float32)
        assert load_profile(dataset(store, FRAMES)) is not None


def test_views_of_several_stores_have_none(path: Path, tmp_path: Path) -> None:
    keep(path, found_for(path, FRAMES))
    with merstore.open(path) as one, merstore.open(tmp_path / "t.mer", "a") as other:
        other.create_view(SOUND, shape=(None, 3))["s1"] = np.ones((2, 3), np.float32)
        both = FeatureDataset({"a": one[FRAMES], "b": other[SOUND]}, ["s1"])
        assert load_profile(both) is None


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "{}",
        json.dumps({"views": {}}),
        pytest.param({"settings": {"threads": 1, "on_miss": "mask"}}, id="an unknown setting"),
        pytest.param({"settings": 3}, id="settings of another kind"),
        pytest.param({"date": "yesterday"}, id="no date"),
        pytest.param({"samples_per_second": "many"}, id="no number"),
    ],
)
def test_a_damaged_note_or_one_of_another_version_is_no_profile(
    text: "str | dict[str, object]", path: Path
) -> None:
    saved = found_for(path, FRAMES)
    if isinstance(text, dict):
        text = json.dumps(dataclasses.asdict(saved) | text)
    with merstore.open(path, "a") as store:
        store.note(profile.NOTES, saved.name, text)
        assert kept(store) == []
        assert load_profile(dataset(store, FRAMES)) is None


def test_a_damaged_file_is_no_profile_and_is_replaced(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    with merstore.open(path) as store:
        (cache / f"{store.uuid}.json").write_text('{"half')
        assert kept(store) == []
    monkeypatch.setattr(filesystem, "can_write", lambda directory: False)
    keep(path, found_for(path, FRAMES))
    with merstore.open(path) as store:
        assert len(kept(store)) == 1


def test_the_loader_takes_its_settings_from_it(path: Path) -> None:
    settings = {"threads": 0, "prefetch": 5, "advice": False, "cache": "ram"}
    keep(path, dataclasses.replace(found_for(path, FRAMES), settings=settings))
    with merstore.open(path) as store:
        frames = dataset(store, FRAMES)
        tuned = FeatureLoader(frames, 2, profile="auto")
        assert (tuned.threads, tuned.prefetch, tuned.advice) == (0, 5, False)
        assert len(list(tuned)) == 2
        assert list(tuned.held) == ["frame"]
        stated = FeatureLoader(frames, 2, profile="auto", threads=3, prefetch=1, advice=True)
        assert (stated.threads, stated.prefetch, stated.advice) == (3, 1, True)
        without = FeatureLoader(frames, 2)
        assert FeatureLoader(dataset(store, SOUND), 2, profile="auto").prefetch == without.prefetch


def test_the_loader_says_where_it_holds_no_longer(path: Path) -> None:
    saved = found_for(path, FRAMES)
    keep(path, dataclasses.replace(saved, machine=saved.machine | {"cores": 1000}))
    with merstore.open(path) as store, pytest.warns(UserWarning, match="merstore tune") as told:
        loader = FeatureLoader(dataset(store, FRAMES), 2, profile="auto")
    assert told[0].filename == __file__
    assert loader.prefetch == 2

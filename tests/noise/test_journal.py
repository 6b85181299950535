"""The recipes beside a folder of noisy copies."""

import json
from pathlib import Path

import pytest

from merstore.errors import MerstoreError, SpecMismatch, StoreBusy
from merstore.noise import read_journal
from merstore.noise.journal import Journal, journal_path

SETTINGS = {"kind": "noise", "seed": 0, "snr": [5, 10]}


def test_recipes_come_back_in_the_order_of_their_names(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add("b", {"snr": 5})
        journal.fail("样本", "no_audio", "has no sound track")
        journal.add("a", {"snr": 10.5, "scale": 1 / 3})
    found = read_journal(tmp_path / "out")
    assert found.settings == SETTINGS
    assert found.recipes == {"a": {"snr": 10.5, "scale": 1 / 3}, "b": {"snr": 5}}
    assert found.failures == {"样本": ("no_audio", "has no sound track")}
    path = tmp_path / "out.recipe.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line.get("sample") for line in lines] == [None, "a", "b", "样本"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [path.name]


def test_what_a_killed_run_left_counts_as_far_as_it_is_whole(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add("a", {"snr": 5})
    path = journal_path(tmp_path / "out")
    for cut in ('{"sample": "b", "sn', "\n", '["no", "recipe"]\n'):
        path.write_bytes(path.read_bytes() + cut.encode())
        with Journal(tmp_path / "out", SETTINGS) as journal:
            assert journal.recipes == {"a": {"snr": 5}}
            journal.add("c", {"snr": 10})
            assert set(read_journal(tmp_path / "out").recipes) == {"a", "c"}
            del journal.recipes["c"]


def test_of_a_sample_the_last_line_counts(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.fail("a", "silent", "its sound is silent")
        journal.add("a", {"snr": 5})
        assert read_journal(tmp_path / "out").failures == {}
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.fail("a", "missing_file", "no such file")  # its copy is still there
    assert read_journal(tmp_path / "out") == (SETTINGS, {"a": {"snr": 5}}, {})


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS) as journal:
        journal.add("a", {"snr": 5})
    before = journal_path(tmp_path / "out").read_bytes()
    with pytest.raises(SpecMismatch, match=r"made otherwise \(seed: 0 against 1\)"):
        Journal(tmp_path / "out", SETTINGS | {"seed": 1})
    assert journal_path(tmp_path / "out").read_bytes() == before


def test_one_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", SETTINGS), pytest.raises(StoreBusy, match="another process"):
        Journal(tmp_path / "out", SETTINGS)
    Journal(tmp_path / "out", SETTINGS).close()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sample_1.wav").write_bytes(b"precious")
    with pytest.raises(MerstoreError, match="choose another folder"):
        Journal(tmp_path / "out", SETTINGS)
    journal_path(tmp_path / "out").write_text("precious\ntoo\n")
    with pytest.raises(MerstoreError, match="is no journal of noise"):
        Journal(tmp_path / "out", SETTINGS)
    with pytest.raises(MerstoreError, match="first line says nothing of noise"):
        read_journal(tmp_path / "out")
    assert journal_path(tmp_path / "out").read_text() == "precious\ntoo\n"


def test_a_folder_without_recipes_says_so(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="no recipes of noise are there"):
        read_journal(tmp_path / "out")

"""corpora, and doctor --corpus: what is known of a dataset, and what its folder lacks."""

from pathlib import Path

import numpy as np
import pytest

from .conftest import Merstore

OWN = """
mine:
  aliases: [My-Corpus]
  media: {video: {folders: clips, files: "{name}.webm"}}
  labels:
    main:
      fields: {mood: {classes: [calm, glad]}}
      splits: {all: {from: moods.csv, samples: 2}}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a complete corpus of one's own."""
    (tmp_path / "own.yaml").write_text(OWN)
    monkeypatch.setenv("MERSTORE_CORPORA", str(tmp_path / "own.yaml"))
    root = tmp_path / "corpus"
    (root / "clips").mkdir(parents=True)
    (root / "moods.csv").write_text("name,mood\n-a,calm\nb,glad\n")
    for name in ("-a", "b"):
        (root / "clips" / f"{name}.webm").write_bytes(b"clip")
    return root


def test_corpora_lists_what_is_known(cli: Merstore) -> None:
    result = cli("corpora")
    assert result.code == 0
    lines = {line.split()[0]: line.split() for line in result.lines}
    assert lines["KEY"] == ["KEY", "SAMPLES", "MODALITIES", "SPLITS", "NAMES"]
    assert lines["mer2023"][1:6] == ["5,030", "video", "audio", "face", "text"]
    assert lines["mer2023"][6:10] == ["train", "test1", "test2", "test3"]
    assert "IEMOCAPFour," in lines["iemocap"]
    assert list(lines)[1:] == sorted(list(lines)[1:])


def test_corpora_as_json(cli: Merstore) -> None:
    found = {table["key"]: table for table in cli("corpora", "--json").json}
    assert found["mer2023"]["labels"]["6way"]["splits"] == {
        "train": [3373],
        "test1": [411],
        "test2": [412],
        "test3": [834],
    }
    assert found["mer2024"]["samples"] is None
    assert found["cmumosi"] == cli("corpora", "CMU-MOSI", "--json").json


def test_one_corpus_by_any_name(cli: Merstore) -> None:
    told = cli("corpora", "IEMOCAPFour").out
    assert "key                   iemocap\n" in told
    assert "1,241 in label_4way.npz#whole_corpus" in told
    assert "subvideo-tgt: {name}.avi" in told
    assert "happy, sad, neutral, anger" in told


def test_an_unknown_corpus_is_wrong_usage(cli: Merstore) -> None:
    result = cli("corpora", "mer20233")
    assert (result.code, result.out) == (2, "")
    assert "no corpus 'mer20233' is known; near: mer2023" in result.err


def test_corpora_of_ones_own_file(
    cli: Merstore, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "glad" in cli("corpora", "mine").out
    monkeypatch.delenv("MERSTORE_CORPORA")
    assert cli("corpora", "mine").code == 2
    assert cli("corpora", "my-corpus", "--tables", own.parent / "own.yaml").code == 0
    (own.parent / "own.yaml").write_text("mine: {colour: red}")
    result = cli("corpora", "--tables", own.parent / "own.yaml")
    assert (result.code, result.out) == (1, "")
    assert "own.yaml: mine: colour: not known here" in result.err


def corpus_checks(cli: Merstore, root: Path, code: int) -> list[tuple[str, str, list[str]]]:
    """Of the corpus: name, value and samples of each check."""
    result = cli("doctor", "--corpus", f"mine={root}", "--json")
    checks = [check for check in result.json["checks"] if check["group"] == "corpus mine"]
    assert bool([check for check in checks if check["problem"]]) == bool(code)
    return [(check["name"], check["value"], check["samples"]) for check in checks]


def test_doctor_finds_a_corpus_complete(cli: Merstore, own: Path) -> None:
    assert corpus_checks(cli, own, 0) == [
        ("folder", str(own), []),
        ("labels main", "2 samples (all 2)", []),
        ("video", "2 of 2 files", []),
    ]


def test_doctor_says_what_a_corpus_lacks_and_exits_with_1(cli: Merstore, own: Path) -> None:
    (own / "clips" / "-a.webm").unlink()
    assert corpus_checks(cli, own, 1)[-2:] == [
        ("video", "1 of 2 files", []),
        ("video", "1 missing_file", ["-a"]),
    ]
    result = cli("doctor", "--corpus", f"My-Corpus={own}")
    assert result.code == 1
    assert "corpus mine\n" in result.out
    assert "problem: video: 1 missing_file: -a (no clips/-a.webm)\n" in result.out


def test_doctor_takes_several_corpora(cli: Merstore, own: Path, tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "label.npz", train_corpus=np.array({"a": {"emo": 0, "val": 1}}, object)
    )
    result = cli("doctor", "--corpus", f"mine={own}", "--corpus", f"sims={tmp_path}", "--json")
    groups = {check["group"] for check in result.json["checks"]}
    assert {"corpus mine", "corpus sims"} < groups
    assert result.code == 1


@pytest.mark.parametrize("given", ["mer2023", "mer2023=", "=folder"])
def test_a_corpus_without_its_folder_is_wrong_usage(cli: Merstore, given: str) -> None:
    result = cli("doctor", "--corpus", given)
    assert (result.code, result.out) == (2, "")
    assert "write KEY=ROOT" in result.err


def test_a_folder_or_corpus_that_is_not_there(cli: Merstore, tmp_path: Path) -> None:
    result = cli("doctor", "--corpus", f"mer2023={tmp_path / 'absent'}")
    assert (result.code, result.out) == (1, "")
    assert "absent: no such folder" in result.err
    assert cli("doctor", "--corpus", f"mer1999={tmp_path}").code == 2

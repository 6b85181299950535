"""encoders: which names there are, and what runs here."""

import importlib.util
from collections.abc import Callable

import pytest

from merstore.extract.registry import encoders

from .conftest import Merstore


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Hides a library that is installed."""
    find_spec = importlib.util.find_spec

    def hide(library: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == library else find_spec(name)
        )

    return hide


def test_encoders_lists_what_is_known(cli: Merstore) -> None:
    result = cli("encoders")
    assert result.code == 0
    lines = {line.split()[0]: line.split() for line in result.lines}
    assert lines["NAME"] == ["NAME", "MODALITY", "WIDTH", "HUB", "RUNS", "HERE"]
    assert list(lines)[1:] == [encoder.name for encoder in encoders()]
    assert lines["chinese-hubert-large"][1:4] == [
        "audio",
        "1024",
        "TencentGameMate/chinese-hubert-large",
    ]
    assert lines["eGeMAPS"][1:4] == ["audio", "FRA:23", "UTT:88"]
    assert " ".join(lines["manet"]).startswith("manet frame face 1024 needs MA-Net")


def test_encoders_of_one_modality(cli: Merstore) -> None:
    result = cli("encoders", "--modality", "au")
    assert [line.split()[0] for line in result.lines] == ["NAME", "CLIP_VITB32"]
    assert len(cli("encoders", "--modality", "text", "--json").json) == 58


def test_a_modality_that_is_not_there_is_wrong_usage(cli: Merstore) -> None:
    result = cli("encoders", "--modality", "smell")
    assert (result.code, result.out) == (2, "")
    assert "frame" in result.err


def test_encoders_as_json(cli: Merstore) -> None:
    found = {encoder["name"]: encoder for encoder in cli("encoders", "--json").json}
    assert found["CLIP_VITB32"] | {"missing": None} == {
        "name": "CLIP_VITB32",
        "modality": "au",
        "modalities": ["au"],
        "origin": "AffectGPT",
        "family": "clip",
        "dim": 512,
        "hub": "openai/clip-vit-base-patch32",
        "needs": None,
        "unsure": None,
        "aliases": ["CLIP_VITB32_512d"],
        "missing": None,
    }
    assert found["manet"]["missing"] == found["manet"]["needs"]


def test_what_is_not_installed_is_said(cli: Merstore, without: Callable[[str], None]) -> None:
    without("transformers")
    found = {encoder["name"]: encoder for encoder in cli("encoders", "--json").json}
    needs = "needs transformers: pip install 'merstore[extract]'"
    assert found["HUBERT_LARGE"]["missing"] == needs
    assert "MA-Net" in found["manet"]["missing"]
    assert found["mel_spec"]["missing"] is None

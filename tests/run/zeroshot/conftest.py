"""Tiny models that hear, each made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def qwen2_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asking import make_qwen2_audio

    return make_qwen2_audio(tmp_path_factory.mktemp("models") / "Qwen2-Audio-tiny")


@pytest.fixture(scope="session")
def audio_flamingo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asking import make_audio_flamingo

    return make_audio_flamingo(tmp_path_factory.mktemp("models") / "audio-flamingo-tiny")


@pytest.fixture(scope="session")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asking import make_omni

    return make_omni(tmp_path_factory.mktemp("models") / "Qwen2.5-Omni-tiny")

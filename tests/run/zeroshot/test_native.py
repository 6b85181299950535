"""Models of transformers: what they answer, and what becomes of what they cannot."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from asking import make_qwen2_audio

from merstore.errors import DecodeError, EncoderError, MerstoreError
from merstore.extract.material import Material
from merstore.extract.models import ModelFolder
from merstore.extract.reading import Refusal
from merstore.run.decoding import Decoding
from merstore.run.zeroshot import native
from merstore.run.zeroshot.asked import Asked, Said
from merstore.run.zeroshot.baselines import find, names
from merstore.run.zeroshot.hearing import Qwen2Audio
from merstore.run.zeroshot.native import Native, baseline_of, families, open_native

SHORT = Decoding(max_tokens=8)
DRAWN = Decoding(temperature=1.0, top_p=0.95, max_tokens=8)


def question(seed: int = 0, prompt: str = "How does she feel?") -> Asked:
    sound = np.random.default_rng(seed).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    return Asked("x", prompt, Material("x"), sound=sound)


def generated(folder: Path, asked: Asked, **settings: Any) -> str:
    """By transformers alone."""
    from transformers import Qwen2AudioForConditionalGeneration

    family = Qwen2Audio(ModelFolder(folder))
    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype="float32")
    given = family.inputs(asked)
    made = model.generate(**given, max_new_tokens=8, do_sample=False, **settings)
    new = made[0, given["input_ids"].shape[1] :]
    return str(family.tokenizer.decode(new, skip_special_tokens=True))


def test_the_likeliest_words_are_those_of_transformers(qwen2_audio: Path) -> None:
    (said,) = Native(qwen2_audio, SHORT).answer([question()], [0])
    assert isinstance(said, Said)
    assert said.text == generated(qwen2_audio, question())
    assert 0 < said.tokens <= 8


def test_a_penalty_for_repetitions_is_that_of_transformers(qwen2_audio: Path) -> None:
    decoding = Decoding(max_tokens=8, repetition_penalty=1.5)
    (said,) = Native(qwen2_audio, decoding).answer([question()], [0])
    assert isinstance(said, Said)
    assert said.text == generated(qwen2_audio, question(), repetition_penalty=1.5)


def test_draws_depend_on_the_seed_of_the_sample_alone(qwen2_audio: Path) -> None:
    model = Native(qwen2_audio, DRAWN)
    many = model.answer([question(1), question(2), question(1), question(1)], [5, 5, 5, 6])
    assert many[0] == many[2] != many[3]
    assert model.answer([question(2)], [5]) == [many[1]]


def test_whether_an_answer_ended_is_told(tmp_path: Path) -> None:
    def says_nothing(model: Any) -> None:
        model.get_output_embeddings().weight.zero_()  # all tokens alike: the first, an end, is taken

    silent = Native(make_qwen2_audio(tmp_path / "silent", change=says_nothing), SHORT)
    assert silent.answer([question()], [0]) == [Said("", 1, True)]


def test_a_question_that_is_too_long_is_refused(tmp_path: Path) -> None:
    model = Native(make_qwen2_audio(tmp_path / "small", max_position_embeddings=160), SHORT)
    fits, long = model.answer([question(), question(prompt="and so on " * 30)], [0, 0])
    assert isinstance(fits, Said)
    assert isinstance(long, Refusal)
    assert long.kind == "too_long"
    assert "room for 160" in long.message


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (MemoryError("no more"), "out_of_memory"),
        (RuntimeError("shapes do not fit"), "model_error"),
        (KeyError("image_sizes"), "model_error"),
        (DecodeError("x", "no_audio", "is mute"), "no_audio"),
    ],
)
def test_what_a_model_raises_costs_one_sample(
    qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: str
) -> None:
    inputs = Qwen2Audio.inputs

    def odd(self: Qwen2Audio, asked: Asked) -> Mapping[str, Any]:
        if asked.prompt == "?":
            raise raised
        return inputs(self, asked)

    monkeypatch.setattr(Qwen2Audio, "inputs", odd)
    refused, said = Native(qwen2_audio, SHORT).answer([question(prompt="?"), question()], [0, 0])
    assert isinstance(refused, Refusal)
    assert refused.kind == kind
    assert str(raised.args[-1]) in refused.message
    assert isinstance(said, Said)


def test_a_gpu_that_one_sample_broke_is_not_held_against_the_others(
    qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Qwen2Audio, asked: Asked) -> Mapping[str, Any]:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")

    monkeypatch.setattr(Qwen2Audio, "inputs", broken)
    model = Native(qwen2_audio, SHORT)
    (refused,) = model.answer([question()], [0])
    assert isinstance(refused, Refusal)
    assert refused.kind == "model_error"
    with pytest.raises(EncoderError, match=r"device-side assert.*goes on"):
        model.answer([question()], [0])


def test_a_model_of_another_type_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    from ..labels.tiny import save_model, save_tokenizer

    save_model(tmp_path, save_tokenizer(tmp_path))
    with pytest.raises(EncoderError, match=r"model_type qwen2; known are .*qwen2_audio"):
        Native(tmp_path)


def test_weights_that_are_cut_short_are_an_error_at_once(tmp_path: Path) -> None:
    folder = make_qwen2_audio(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(EncoderError, match="weights cannot be loaded"):
        Native(folder).answer([question()], [0])


def test_a_spec_tells_weights_processor_and_what_draws(qwen2_audio: Path, tmp_path: Path) -> None:
    greedy, drawn = Native(qwen2_audio, SHORT), Native(qwen2_audio, DRAWN)
    other = Native(make_qwen2_audio(tmp_path / "Qwen2-Audio-tiny", seed=1), SHORT)
    assert not greedy.draws
    assert drawn.draws
    same = Native(qwen2_audio, Decoding(max_tokens=8, top_p=0.5, seed=9))  # but for what draws
    assert greedy.spec() == same.spec()
    differing = {key for key, value in greedy.spec().items() if drawn.spec()[key] != value}
    assert differing == {"decoding"}
    differing = {key for key, value in greedy.spec().items() if other.spec()[key] != value}
    assert differing == {"weights"}
    (other.folder.path / "chat_template.jinja").write_text("{{ messages }}")
    assert other.spec()["processor"] != greedy.spec()["processor"]


@pytest.mark.parametrize("name", [name for name in names() if find(name).family])
def test_every_baseline_of_transformers_has_a_family_and_a_class_there(name: str) -> None:
    import transformers

    family = families()[str(find(name).family)]
    assert hasattr(transformers, family.kind)


def test_a_model_that_nobody_named_is_asked_as_the_first_of_its_family(
    qwen2_audio: Path, audio_flamingo: Path, omni: Path
) -> None:
    found = [baseline_of(ModelFolder(each)).name for each in (qwen2_audio, audio_flamingo, omni)]
    assert found == ["qwen2-audio", "audio-flamingo-3", "qwen2.5-omni"]


def test_every_family_is_asked_as_some_baseline(tmp_path: Path) -> None:
    folder = make_qwen2_audio(tmp_path / "model")
    for kind, family in families().items():
        (folder / "config.json").write_text(f'{{"model_type": "{kind}"}}')
        found = baseline_of(ModelFolder(folder))
        assert (found.frames is not None) == ("frames" in family.takes)
        assert (found.sound is not None) == ("sound" in family.takes)


def test_a_baseline_is_not_asked_of_a_model_of_another_kind(qwen2_audio: Path, omni: Path) -> None:
    assert open_native(find("qwen2-audio"), qwen2_audio).decoding == find("qwen2-audio").decoding
    with pytest.raises(MerstoreError, match="name the baseline qwen2-audio"):
        open_native(find("qwen2.5-omni"), qwen2_audio)
    with pytest.raises(MerstoreError, match=r"name the baseline qwen2\.5-omni"):
        open_native(find("smolvlm"), omni)
    with pytest.raises(MerstoreError, match="adapter"):
        open_native(find("otter"), qwen2_audio)


def test_on_a_cpu_weights_are_float32_whatever_the_files_have(
    qwen2_audio: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(qwen2_audio, tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    halved = {name: value.to(torch.bfloat16) for name, value in weights.items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["audio_config"]):
        part["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    model = Native(folder, SHORT, device="cpu")
    assert model.load()[1].dtype == torch.float32
    assert isinstance(model.answer([question()], [0])[0], Said)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen2_audio", "audio_flamingo", "omni"])
def test_on_a_gpu_weights_keep_the_dtype_of_their_files(
    kind: str, request: pytest.FixtureRequest
) -> None:
    import torch

    frames = np.zeros((4, 60, 60, 3), np.uint8)
    asked = Asked("x", "How?", Material("x"), frames, np.arange(4.0), question().sound)
    model = Native(request.getfixturevalue(kind), SHORT, device="cuda")
    (said,) = model.answer([asked], [0])
    assert isinstance(said, Said)
    assert model.load()[1].dtype == torch.float32
    assert model.spec()["dtype"] == "of the files"
    (on_cpu,) = Native(request.getfixturevalue(kind), SHORT, device="cpu").answer([asked], [0])
    assert said == on_cpu


def test_after_close_a_model_is_loaded_anew(qwen2_audio: Path) -> None:
    model = Native(qwen2_audio, SHORT)
    before = model.answer([question()], [0])
    model.close()
    assert model._loaded is None
    assert model.answer([question()], [0]) == before
    assert native._device("auto") in ("cpu", "cuda")

"""Text features: MERTools' numbers to the last rule, and the profile that is not bound to them."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract.material import Material
from merstore.extract.reading import Reading, read
from merstore.extract.text_encoders import PROBE, TextEncoder
from merstore.extract.text_features import TextFeatures

from . import reference_text
from .text_models import FAMILIES, SENTENCES, close, english_only, make

Models = Callable[..., Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Random models by family, each made once."""
    made: dict[str, Path] = {}

    def model(family: str) -> Path:
        if family not in made:
            made[family] = make(tmp_path_factory.mktemp("text") / f"tiny-{family}", family)
        return made[family]

    return model


def features(
    folder: Path, sampling: str = "UTT", profile: str = "mertools", **options: Any
) -> TextFeatures:
    options = {"device": "cpu", **options}
    return TextFeatures.create("tiny", sampling, profile=profile, weights=folder, **options)


def prepared(recipe: TextFeatures, text: str | None, why: str = "missing_text") -> str:
    return recipe.prepare(Reading(Material("s", text=text, lacks={"text": (why, "told")})))


LARGE = {"llama", "opt", "bloom", "falcon", "qwen2"}


@pytest.mark.parametrize("family", FAMILIES)
def test_mertools_numbers(models: Models, family: str) -> None:
    folder = models(family)
    for level in ("FRA", "UTT"):
        recipe = features(folder, level)
        entries = recipe.encode([prepared(recipe, text) for text in SENTENCES])
        for text, entry in zip(SENTENCES, entries, strict=True):
            wanted = reference_text.mertools(folder, text, PROBE, level)
            assert entry.dtype == recipe.dtype == ("float16" if family in LARGE else "float32")
            assert np.array_equal(entry, wanted.astype(entry.dtype)), text
            assert len(entry.shape) == len(recipe.shape)
            assert entry.shape[-1] == recipe.shape[-1] == 32


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_hidden_states_are_those_of_plain_numpy(models: Models, family: str) -> None:
    encoder = TextEncoder(models(family), "cpu")
    for text in SENTENCES:
        ids, kept = encoder._tokens(text)
        states = reference_text.hidden_states(encoder.folder.path, ids["input_ids"])
        assert len(states) == 6
        (mean,) = encoder.states([text], "mean of the last four")
        (total,) = encoder.states([text], "sum of the last four")
        (last,) = encoder.states([text], "last")
        assert close(mean, np.mean(states[-4:], axis=0)[kept])
        assert close(total, np.sum(states[-4:], axis=0)[kept])
        assert close(last, states[-1][kept])


HEADS = {
    "bert": "BertForMaskedLM", "electra": "ElectraForPreTraining", "albert": "AlbertForMaskedLM",
    "roberta": "RobertaForMaskedLM", "deberta-v2": "DebertaV2ForMaskedLM", "gpt2": "GPT2LMHeadModel",
    "opt": "OPTForCausalLM", "bloom": "BloomForCausalLM", "falcon": "FalconForCausalLM",
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "xlnet": "XLNetLMHeadModel",
    "t5": "T5ForConditionalGeneration",
}  # fmt: skip


@pytest.mark.parametrize("family", HEADS)
def test_published_weights_are_those_of_a_whole_model_with_its_head(
    models: Models, tmp_path: Path, family: str
) -> None:
    import transformers

    folder = shutil.copytree(models(family), tmp_path / family)
    kind = getattr(transformers, HEADS[family])
    whole = kind(transformers.AutoConfig.from_pretrained(folder))
    bare = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel
    base = whole if family == "t5" else whole.base_model
    base.load_state_dict(bare.from_pretrained(folder).state_dict(), strict=False)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder)
    (wanted,) = features(models(family), "FRA").encode([PROBE])
    assert np.array_equal(features(folder, "FRA").encode([PROBE])[0], wanted)


# How many tokens the probe rule finds to be special, at each end.
ENDS = {
    "bert": (1, 1), "electra": (1, 1), "albert": (1, 1), "gpt2-chinese": (1, 1), "roberta": (1, 1),
    "deberta-v2": (1, 1), "gpt2": (0, 0), "opt": (1, 0), "bloom": (0, 0), "falcon": (0, 0),
    "qwen2": (0, 0), "llama": (1, 0), "xlnet": (0, 2), "t5": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_rule_and_the_mask_cut_the_same(models: Models, family: str) -> None:
    by_probe = TextEncoder(models(family), "cpu", cut="by probe sentence")
    by_mask = TextEncoder(models(family), "cpu", cut="by special tokens mask")
    start, end = ENDS[family]
    for text in SENTENCES:
        ids, kept = by_probe._tokens(text)
        count = len(ids["input_ids"])
        assert kept == list(range(start, count - end))
        assert by_mask._tokens(text) == (ids, kept)


def test_a_tokenizer_without_chinese_has_no_mertools_features(
    models: Models, tmp_path: Path
) -> None:
    folder = shutil.copytree(models("bert"), tmp_path / "english")
    english_only(folder)
    with pytest.raises(
        EncoderError, match=r"does not give Chinese text back.*cut='by special tokens"
    ):
        features(folder).encode(["happy"])
    with pytest.raises(EncoderError, match="does not give Chinese"):
        features(folder).encoder.load()
    (entry,) = features(folder, "FRA", cut="by special tokens mask").encode(["so happy"])
    assert entry.shape == (3, 32)  # s, ##o, happy


def test_clean_is_the_mean_of_the_last_four_without_special_tokens(models: Models) -> None:
    recipe = features(models("bert"), "FRA", "clean")
    (entry,) = recipe.encode(["好的"])
    states = reference_text.hidden_states(
        models("bert"), recipe.encoder._tokens("好的")[0]["input_ids"]
    )
    assert close(entry, np.mean(states[-4:], axis=0)[1:-1])
    (mean,) = features(models("bert"), "UTT", "clean").encode(["好的"])
    assert close(mean, entry.mean(axis=0))
    assert recipe.dtype == features(models("llama"), "FRA", "clean").dtype == "float32"


def test_on_a_cpu_an_entry_is_the_same_to_the_bit_alone_or_among_others(models: Models) -> None:
    texts = [*SENTENCES, "好", "在", "了", "他们说什么。"]
    for family in ("bert", "llama", "xlnet"):
        recipe = features(models(family), "FRA")
        together = recipe.encode(texts)
        for text, entry in zip(texts, together, strict=True):
            assert np.array_equal(entry, recipe.encode([text])[0])
        assert recipe.encode([]) == []


def test_texts_of_one_length_go_together_on_a_gpu_and_come_back_in_order(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = features(models("bert"), "FRA")
    texts = ["好", "他们说什么？", "在", "我", "们说什么他？"]
    alone = [recipe.encode([text])[0] for text in texts]
    monkeypatch.setattr(TextEncoder, "on_cpu", False)
    passes: list[int] = []
    forward = TextEncoder._forward

    def counted(self: TextEncoder, rows: Any, layers: Any) -> Any:
        passes.append(len(rows))
        return forward(self, rows, layers)

    monkeypatch.setattr(TextEncoder, "_forward", counted)
    for entry, wanted in zip(recipe.encode(texts), alone, strict=True):
        assert np.allclose(entry, wanted, atol=1e-5)
    assert passes == [3, 2]


def test_in_float16_the_positions_of_a_language_model_stay_float32(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wanted,) = features(models("llama"), "FRA").encode([SENTENCES[0]])
    monkeypatch.setattr(TextEncoder, "on_cpu", False)  # as on a GPU, though this is none
    recipe = features(models("llama"), "FRA")
    (entry,) = recipe.encode([SENTENCES[0]])
    model = recipe.encoder.model
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.float16"}
    assert str(model.rotary_emb.inv_freq.dtype) == "torch.float32"
    assert entry.dtype == np.float16
    assert np.abs(entry - wanted).max() < 0.02 * np.abs(wanted).max()


def test_clean_truncates_and_mertools_refuses_what_is_longer_than_the_model(models: Models) -> None:
    long = "好" * 100
    assert features(models("bert")).encoder.positions == 64
    with pytest.raises(EncoderError, match="takes 64 tokens, and the text has 102"):
        features(models("bert")).encode([long])
    clean = features(models("bert"), "FRA", "clean")
    (entry,) = clean.encode([long])
    assert entry.shape == (62, 32)
    assert np.array_equal(entry, clean.encode([long[:62]])[0])
    assert clean.spec["encoder"]["max_tokens"] == 64
    assert features(models("bert")).spec["encoder"]["max_tokens"] is None


def test_how_many_tokens_a_model_takes(models: Models, tmp_path: Path) -> None:
    takes = {
        family: TextEncoder(models(family)).max_tokens for family in ("roberta", "xlnet", "opt")
    }
    assert takes == {"roberta": 128, "xlnet": None, "opt": 128}
    folder = shutil.copytree(models("bert"), tmp_path / "sentences")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert TextEncoder(folder).max_tokens == 16
    assert TextEncoder(folder).positions == 64


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_is_a_failure_unless_zeros_are_asked_for(models: Models, text: str) -> None:
    for profile in ("mertools", "clean"):
        with pytest.raises(DecodeError) as refused:
            prepared(features(models("bert"), profile=profile), text)
        assert (refused.value.path, refused.value.kind) == ("s", "empty_text")
    for level, shape in (("UTT", (32,)), ("FRA", (1, 32))):
        recipe = features(models("llama"), level, missing="zeros")
        none, some = recipe.encode([prepared(recipe, text), "好"])
        assert (none.shape, none.dtype, none.any()) == (shape, np.float16, np.False_)
        assert some.any()


def test_what_is_no_text_for_other_reasons_stays_a_failure(models: Models) -> None:
    zeros = features(models("bert"), missing="zeros")
    assert prepared(zeros, None, "nan_text") == ""
    assert prepared(zeros, None, "empty_text") == ""
    for kind in ("missing_text", "shifted_row"):
        with pytest.raises(DecodeError) as refused:
            prepared(zeros, None, kind)
        assert refused.value.kind == kind
    with pytest.raises(DecodeError) as refused:
        prepared(zeros, "half of a pair: \ud83d")
    assert refused.value.kind == "undecodable"


def test_a_failed_transcript_is_a_failure_in_clean_and_encoded_in_mertools(models: Models) -> None:
    with pytest.raises(DecodeError) as refused:
        prepared(features(models("bert"), profile="clean"), "<|zh-CN|>")
    assert refused.value.kind == "failed_text"
    assert prepared(features(models("bert"), profile="clean", failed="encode"), "……") == "……"
    assert prepared(features(models("bert")), "<|zh-CN|>") == "<|zh-CN|>"
    with pytest.raises(DecodeError):
        prepared(features(models("bert"), failed="record"), "<|zh-CN|>")


def test_a_text_without_a_token_is_an_error_that_quotes_it_or_zeros(models: Models) -> None:
    for profile in ("clean", "mertools"):
        with pytest.raises(EncoderError, match=r"no token for the text '\\x07'"):
            features(models("bert"), profile=profile).encode(["好", "\x07"])
    some, none = features(models("bert"), "FRA", missing="zeros").encode(["好", "\x07"])
    assert some.any()
    assert (none.shape, none.any()) == ((1, 32), np.False_)


def test_a_sample_is_read_with_its_quality(models: Models) -> None:
    recipe = features(models("bert"))
    done = read(Material("s", text="Yes.", language="zh"), [recipe])
    assert done.results == ["Yes."]
    assert done.quality["text"].flags == ("wrong_language",)
    assert recipe.size("Yes.") == 4
    assert recipe.request(Reading(Material("s"))) is None


def test_a_spec_names_every_choice_and_no_path(models: Models) -> None:
    folder = models("llama")
    spec = features(folder, "FRA").spec
    json.dumps(spec)
    assert str(folder) not in json.dumps(spec)
    assert spec["options"] == {
        "layers": "sum of the last four",
        "pool": None,
        "missing": "record",
        "failed": "encode",
    }
    encoder = spec["encoder"]
    assert encoder["special_tokens"] == "cut by probe sentence"
    assert encoder["compute"] == {"dtype": "float16 on a GPU, float32 on a CPU"}
    assert encoder["architecture"] == "llama"
    assert encoder["config"]["rms_norm_eps"] == 1e-6
    assert set(encoder["tokenizer"]["files"]) == {"tokenizer.json", "tokenizer_config.json"}
    assert not {"transformers_version", "architectures", "dtype"} & set(encoder["config"])
    specs = [
        features(folder, "FRA", **options).spec
        for options in (
            {}, {"layers": "last"}, {"cut": "by special tokens mask"}, {"truncate": True},
            {"half": False}, {"missing": "zeros"}, {"failed": "record"}, {"profile": "clean"},
        )
    ]  # fmt: skip
    assert len({json.dumps(spec, sort_keys=True) for spec in specs}) == len(specs)


def test_another_tokenizer_or_config_is_another_spec(models: Models, tmp_path: Path) -> None:
    folder = shutil.copytree(models("bert"), tmp_path / "bert")
    before = features(folder).spec
    english_only(folder)
    assert features(folder).spec["encoder"]["tokenizer"] != before["encoder"]["tokenizer"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert features(folder).spec["encoder"]["config"]["hidden_act"] == "relu"


def test_neither_a_recipe_nor_its_spec_loads_a_library(models: Models) -> None:
    code = (
        "import sys; from merstore.extract.text_features import TextFeatures; "
        f"TextFeatures.create('x', 'UTT', profile='mertools', weights={str(models('bert'))!r}).spec; "
        "print(*{'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_recipe_is_picklable_without_its_model(models: Models) -> None:
    recipe = features(models("bert"))
    (before,) = recipe.encode(["好"])
    blob = pickle.dumps(recipe)
    assert len(blob) < 20_000
    again = pickle.loads(blob)
    assert again.spec == recipe.spec
    assert np.array_equal(again.encode(["好"])[0], before)


def test_what_cannot_be_had_is_said(models: Models, tmp_path: Path) -> None:
    bert = models("bert")
    with pytest.raises(InvalidKey, match="no sampling 'SEQ' of text; there is UTT, FRA"):
        features(bert, "SEQ")
    with pytest.raises(EncoderError, match="no profile 'affectgpt' of text"):
        features(bert, profile="affectgpt")
    for option in ({"layers": "first"}, {"missing": "drop"}, {"failed": "drop"}, {"cut": "none"}):
        with pytest.raises(EncoderError, match=next(iter(option))):
            features(bert, **option)
    folder = shutil.copytree(bert, tmp_path / "bare")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match="no tokenizer in it"):
        features(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderError, match="its tokenizer cannot be loaded"):
        features(folder).encode(["好"])
    (folder / "config.json").write_text('{"model_type": "bart", "is_encoder_decoder": true}')
    with pytest.raises(EncoderError, match="bart model, of an encoder and a decoder"):
        features(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="does not say how wide"):
        features(folder)


# The pairs of all-MiniLM-L6-v2's model card, and the cosines of its own release.
PAIRS = [
    ("He is smiling and sounds happy.", "The man looks joyful and cheerful.", 0.679293),
    ("He is smiling and sounds happy.", "She is crying because she is very sad.", 0.218147),
    ("The woman raises her voice in anger.", "She shouts angrily at him.", 0.464954),
    ("The woman raises her voice in anger.", "The train to Berlin leaves at noon.", -0.030927),
]


@pytest.mark.shared
def test_real_weights_give_the_published_numbers(shared: Path) -> None:
    folder = shared / "models" / "all-MiniLM-L6-v2"
    encoder = TextEncoder(folder, "cpu")
    assert encoder._tokens(PAIRS[0][0])[0]["input_ids"] == [
        101, 2002, 2003, 5629, 1998, 4165, 3407, 1012, 102,
    ]  # fmt: skip
    assert (encoder.dim, encoder.positions, encoder.max_tokens) == (384, 512, 256)

    def embedding(text: str) -> np.ndarray:
        # Its own pooling is over special tokens too, so that all tokens are kept for this once.
        ids, _ = encoder._tokens(text)
        mean = encoder._forward([ids], "last")[0].mean(axis=0)
        return mean / np.linalg.norm(mean)

    assert np.allclose(
        embedding(PAIRS[0][0])[:4], [0.02775, 0.04498, -0.02266, -0.02120], atol=1e-5
    )
    for one, other, cosine in PAIRS:
        assert embedding(one) @ embedding(other) == pytest.approx(cosine, abs=2e-6)


@pytest.mark.shared
def test_real_weights_in_the_clean_profile_tell_what_is_alike(shared: Path) -> None:
    recipe = features(shared / "models" / "all-MiniLM-L6-v2", "UTT", "clean")
    texts = list(dict.fromkeys(text for one, other, _ in PAIRS for text in (one, other)))
    vectors = dict(zip(texts, recipe.encode(texts), strict=True))

    def cosine(one: str, other: str) -> float:
        a, b = vectors[one], vectors[other]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    joy, sorrow, anger, train = (cosine(one, other) for one, other, _ in PAIRS)
    assert joy > sorrow
    assert anger > train


@pytest.mark.shared
def test_the_real_tokenizer_of_qwen_passes_the_probe_with_nothing_to_cut(
    shared: Path, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "qwen"
    make(folder, "qwen2", vocab_size=151_665)
    for file in (shared / "models" / "qwen2.5-tokenizer").glob("tokenizer*.json"):
        shutil.copyfile(file, folder / file.name)
    recipe = features(folder, "FRA")
    assert recipe.encoder._ends == slice(0, None)
    (entry,) = recipe.encode(["###Human: "])
    assert entry.shape == (4, 32)  # ids 14374 33975 25 220
    wanted = reference_text.mertools(folder, SENTENCES[-1], PROBE, "FRA")
    assert np.array_equal(recipe.encode([SENTENCES[-1]])[0], wanted.astype(np.float16))

"""The whole model: which tensors it has, and what goes into the language model."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from merstore.errors import MerstoreError
from merstore.models.affectgpt import AffectGPT, Config, Tokens, load_llm

from . import reference
from .made import HIDDEN, rows, tiny_llm

LINEAR = {
    "image_llama_proj": (3584, 768),
    "video_attention_mlp": (1, 768),
    "affectgpt_proj": (3584, 768),
    "audio_attention_mlp": (1, 1024),
    "audio_llama_proj": (3584, 1024),
    "multi_audio_embs": (1024, 1024),
    "multi_video_embs": (1024, 768),
    "attention_mlp": (1024, 2048),
    "fc_att": (2, 1024),
    "multi_llama_proj": (3584, 1024),
}
SIZES = {  # of the language model's layers: in, out
    "self_attn.q_proj": (3584, 3584),
    "self_attn.k_proj": (3584, 512),
    "self_attn.v_proj": (3584, 512),
    "self_attn.o_proj": (3584, 3584),
    "mlp.gate_proj": (3584, 18944),
    "mlp.up_proj": (3584, 18944),
    "mlp.down_proj": (18944, 3584),
}


def released(**fields: object) -> AffectGPT:
    """The model of the released checkpoints, with shapes and no numbers."""
    sizes = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        llm = Qwen2ForCausalLM(sizes).half()
        return AffectGPT(llm, Config(**fields))  # type: ignore[arg-type]


def shapes(model: AffectGPT) -> dict[str, tuple[int, ...]]:
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    buffers = {
        name: value for name, value in model.named_buffers() if not name.startswith("llama_model.")
    }
    return {name: tuple(value.shape) for name, value in {**trained, **buffers}.items()}


def adapters() -> dict[str, tuple[int, ...]]:
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(28):
        for part, (width, out) in SIZES.items():
            stem = f"llama_model.base_model.model.model.layers.{layer}.{part}"
            expected[f"{stem}.lora_A.default.weight"] = (16, width)
            expected[f"{stem}.lora_B.default.weight"] = (out, 16)
    return expected


def linear(sizes: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    weights: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in sizes.items()}
    return weights | {f"{name}.bias": size[:1] for name, size in sizes.items()}


def qformer(prefix: str, width: int, queries: int = 1) -> dict[str, tuple[int, ...]]:
    bert = f"{prefix}_Qformer.bert"
    expected: dict[str, tuple[int, ...]] = {
        f"{prefix}_query_tokens": (1, queries, 768),
        f"{bert}.embeddings.position_ids": (1, 512),
    }
    norms, layers = [f"{bert}.embeddings.LayerNorm"], {}
    for number in range(2):
        layer = f"{bert}.encoder.layer.{number}"
        for attention, seen in (("attention", 768), ("crossattention", width)):
            layers[f"{layer}.{attention}.self.query"] = (768, 768)
            layers[f"{layer}.{attention}.self.key"] = (768, seen)
            layers[f"{layer}.{attention}.self.value"] = (768, seen)
            layers[f"{layer}.{attention}.output.dense"] = (768, 768)
            norms.append(f"{layer}.{attention}.output.LayerNorm")
        layers[f"{layer}.intermediate_query.dense"] = (3072, 768)
        layers[f"{layer}.output_query.dense"] = (768, 3072)
        norms.append(f"{layer}.output_query.LayerNorm")
    expected |= linear(layers)
    for norm in norms:
        expected |= {f"{norm}.weight": (768,), f"{norm}.bias": (768,)}
    return expected


class TestReleased:
    """Names, shapes and sizes of the released checkpoints, with a 7B language model of no bytes."""

    def test_412_tensors_57_168_644_parameters(self) -> None:
        model = released()
        assert shapes(model) == linear(LINEAR) | adapters()
        assert len(shapes(model)) == 412
        trained = [value for value in model.parameters() if value.requires_grad]
        assert sum(value.numel() for value in trained) == 57_168_644
        assert {value.dtype for value in trained} == {torch.float32}
        assert sum(value.numel() for name, value in model.named_parameters() if "lora" in name) == (
            40_370_176
        )

    def test_with_action_units(self) -> None:
        model = released(au_fusion="mean")
        assert shapes(model) == linear({**LINEAR, "au_llama_proj": (3584, 512)}) | adapters()
        assert sum(v.numel() for v in model.parameters() if v.requires_grad) == 59_007_236
        both = {"au_llama_proj": (3584, 512), "au_attention_mlp": (1, 512)}
        assert shapes(released(au_fusion="attention")) == linear({**LINEAR, **both}) | adapters()

    def test_with_qformers(self) -> None:
        kinds = {f"{name}_fusion": "qformer" for name in ("video", "audio", "multi", "au")}
        counts = {"video_queries": 2, "multi_queries": 16}
        unused = ("video_attention_mlp", "audio_attention_mlp", "attention_mlp", "fc_att")
        sizes = {name: size for name, size in LINEAR.items() if name not in unused}
        for name in ("affectgpt_proj", "audio_llama_proj", "multi_llama_proj", "au_llama_proj"):
            sizes[name] = (3584, 768)
        expected = linear(sizes) | adapters()
        expected |= qformer("video", 768, 2) | qformer("audio", 1024)
        expected |= qformer("multi", 1024, 16) | qformer("au", 512)
        expected["video_frame_position_embedding.weight"] = (32, 768)
        expected["audio_position_embedding.weight"] = (8, 1024)
        expected["multi_position_embedding.weight"] = (264, 1024)
        expected["au_position_embedding.weight"] = (32, 512)
        assert shapes(released(**kinds, **counts)) == expected

    def test_with_means(self) -> None:
        sizes = {name: size for name, size in LINEAR.items() if "o_attention_mlp" not in name}
        assert shapes(released(video_fusion="mean", audio_fusion="mean")) == (
            linear(sizes) | adapters()
        )


FROZEN = {
    "frozen_video_proj": {"affectgpt_proj"},
    "frozen_video_Qformer": {"video_attention_mlp"},
    "frozen_audio_Qformer": {"audio_attention_mlp"},
    "frozen_audio_proj": {"audio_llama_proj"},
    "frozen_multi_Qformer": {"multi_audio_embs", "multi_video_embs", "attention_mlp", "fc_att"},
    "frozen_multi_llama_proj": {"multi_llama_proj"},
    "frozen_au_proj": {"au_llama_proj", "au_attention_mlp"},
    "frozen_llm": {"llama_model"},
}


@pytest.mark.parametrize("flag", FROZEN)
def test_a_flag_leaves_its_part_untrained(tiny: Callable[..., AffectGPT], flag: str) -> None:
    whole = shapes(tiny(au_fusion="attention"))
    part = shapes(tiny(au_fusion="attention", frozen=frozenset({flag})))
    assert {name.split(".")[0] for name in whole.keys() - part.keys()} == FROZEN[flag]
    assert part.items() <= whole.items()


def test_the_language_models_own_weights_are_never_trained(tiny: Callable[..., AffectGPT]) -> None:
    model = tiny()
    own = [name for name in shapes(model) if name.startswith("llama_model.")]
    assert own
    assert all(".lora_" in name for name in own)


def test_a_language_model_of_another_architecture() -> None:
    sizes = GPT2Config(vocab_size=50, n_embd=HIDDEN, n_layer=2, n_head=4, n_positions=64)
    model = AffectGPT(GPT2LMHeadModel(sizes))
    adapted = {name for name in shapes(model) if name.startswith("llama_model.")}
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in adapted}
    assert layers == {"c_attn", "c_proj", "c_fc"}
    ids = torch.tensor([[3, 49, 4]])
    embedded = model.embed(ids, {"face": 49}, {"face": torch.ones(1, 1, HIDDEN)})
    assert torch.equal(embedded[0, 1], torch.ones(HIDDEN))


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MerstoreError, match=r"pip install 'merstore\[affectgpt\]'"):
        AffectGPT(tiny_llm(vocabulary=100))


PLACES = {"image": 100, "audio": 101, "frame": 102, "face": 103, "multi": 104}


def vectors(seed: int, batch: int, queries: int) -> torch.Tensor:
    return torch.from_numpy(rows(seed, batch, queries, HIDDEN))


class TestEmbed:
    def test_vectors_take_the_place_of_placeholders(self, tiny: Callable[..., AffectGPT]) -> None:
        model = tiny()
        table = model.llama_model.get_input_embeddings().weight
        lines = [
            [7, 104, 8, 101, 101, 9, 103],
            [103, 1, 2, 101, 101, 104, 3],
            [1, 1, 1, 1, 1, 1, 103],  # without sound
        ]
        given = {"face": vectors(1, 3, 1), "audio": vectors(2, 3, 2), "multi": vectors(3, 3, 1)}
        embedded = model.embed(torch.tensor(lines), PLACES, given)
        for at, line in enumerate(lines):
            mine = {PLACES[name]: values[at] for name, values in given.items()}
            assert torch.equal(embedded[at], reference.embedded(table, line, mine))

    def test_in_the_language_models_dtype(self) -> None:
        model = AffectGPT(tiny_llm(vocabulary=100).half())
        assert model.dtype == torch.float16
        assert model.image_llama_proj.weight.dtype == torch.float32
        given = {"face": vectors(1, 1, 1)}
        embedded = model.embed(torch.tensor([[5, 103]]), PLACES, given)
        assert torch.equal(embedded[0, 1], given["face"][0, 0].half())

    def test_gradients_reach_the_vectors(self, tiny: Callable[..., AffectGPT]) -> None:
        model = tiny()
        given = vectors(1, 2, 2).requires_grad_()
        ids = torch.tensor([[5, 103, 103], [103, 103, 6]])
        embedded = model.embed(ids, PLACES, {"face": given})
        embedded.sum().backward()
        assert torch.equal(given.grad, torch.ones_like(given))

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ([103, 1, 103], "face: 2 placeholders in 2 places for 2 vectors"),  # not in one run
            ([103, 103, 103], "face: 3 placeholders in 1 places for 2 vectors"),
            ([1, 1, 103], "face: 1 placeholders in 1 places for 2 vectors"),
            ([1, 102, 102], "frame: the prompt has its placeholder, and it has no vectors"),
        ],
    )
    def test_what_does_not_match_is_refused(
        self, tiny: Callable[..., AffectGPT], line: list[int], message: str
    ) -> None:
        ids = torch.tensor([[103, 103, 1], line])
        with pytest.raises(MerstoreError, match=message):
            tiny().embed(ids, PLACES, {"face": vectors(1, 2, 2)})


@pytest.mark.shared
def test_the_placeholders_fit_a_released_language_model(tokens: Tokens) -> None:
    """Their ids may be beyond its table; they are never looked up."""
    model = AffectGPT(tiny_llm(vocabulary=151_665))
    ids = torch.tensor([tokens.encode("so: <FaceHere>!").ids])
    embedded = model.embed(ids, tokens.places, {"face": torch.ones(1, 1, HIDDEN)})
    assert torch.equal(embedded[0, ids[0] == tokens.places["face"]], torch.ones(1, HIDDEN))


@pytest.mark.parametrize(("device", "told"), [("cuda:99", "is not there"), ("gpu", "is no device")])
def test_a_device_that_is_not_there(tmp_path: Path, device: str, told: str) -> None:
    with pytest.raises(MerstoreError, match=f"{device}.* {told}"):
        load_llm(tmp_path, device)

"""Checkpoints: what they say of themselves, whether they fit, and that they come back."""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merstore.errors import MerstoreError
from merstore.models.affectgpt import (
    AffectGPT,
    Config,
    file_name,
    load,
    open_model,
    read,
    save,
)

from .made import tiny_llm

MODEL = Config().to_yaml()
YAML = {
    "model": MODEL,
    "datasets": {
        "mercaptionplus": {"data_type": "video", "face_or_frame": "multiface_audio_face_text"},
        "ovmerd": {"face_or_frame": "multiface_audio_face_text", "ratio": 1.0},
    },
    "run": {"epochs": 60, "list": [1, "two", None, True]},
    "inference": {},
}


def write(path: Path, state: Mapping[str, Any], **content: Any) -> Path:
    """A file as AffectGPT writes it, by torch alone."""
    whole = {"model": dict(state), "optimizer": {}, "config": YAML, "scaler": None, "epoch": 30}
    torch.save({**whole, **content}, path)
    return path


def made_up(model: AffectGPT, seed: int = 5) -> dict[str, Tensor]:
    """Other numbers for all that a checkpoint holds."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value.clone()
        for name, value in model.trained_state().items()
    }


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in found
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "released": {},
    "action units": {"au_fusion": "mean"},
    "qformer": {"video_fusion": "qformer", "multi_fusion": "qformer", "video_queries": 4},
}


class TestReading:
    def test_what_is_in_it(self, tiny: Callable[..., AffectGPT], tmp_path: Path) -> None:
        state = made_up(tiny())
        checkpoint = read(write(tmp_path / "a.pth", state))
        assert same(checkpoint.state, state)
        assert (checkpoint.epoch, checkpoint.has_au) == (30, False)
        assert checkpoint.modes == {
            "mercaptionplus": "multiface_audio_face_text",
            "ovmerd": "multiface_audio_face_text",
        }

    def test_the_old_format_of_torch(self, tiny: Callable[..., AffectGPT], tmp_path: Path) -> None:
        state = made_up(tiny())
        path = tmp_path / "old.pth"
        content = {"model": state, "config": YAML, "epoch": 1}
        torch.save(content, path, _use_new_zipfile_serialization=False)
        assert same(read(path).state, state)

    def test_a_pickle_that_would_run_code_is_refused(self, tmp_path: Path) -> None:
        victim = tmp_path / "ran"
        for number, dump in enumerate((torch.save, lambda x, p: p.write_bytes(pickle.dumps(x)))):
            path = tmp_path / f"{number}.pth"
            dump({"model": {"weight": torch.zeros(1)}, "config": Runs(str(victim))}, path)
            with pytest.raises(MerstoreError, match=f"{re.escape(str(path))}: refused") as raised:
                read(path)
            assert "weights_only" not in str(raised.value)  # it is no advice to run it
        assert not victim.exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"state_dict": {}}, "no checkpoint of AffectGPT.*keys state_dict"),
            ({"model": {}}, "no checkpoint of AffectGPT"),
            ({"model": {"weight": 3}}, "weight is no tensor"),
            ([1, 2], "no checkpoint of AffectGPT"),
        ],
    )
    def test_what_is_no_checkpoint_is_refused(
        self, tmp_path: Path, content: Any, message: str
    ) -> None:
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(MerstoreError, match=message):
            read(tmp_path / "odd.pth")

    @pytest.mark.parametrize("kept", [0, 10, 5000, 0.5])
    def test_one_that_is_cut_short_is_refused(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path, kept: float
    ) -> None:
        path = write(tmp_path / "cut.pth", made_up(tiny()))
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        with pytest.raises(MerstoreError, match=re.escape(str(path))):
            read(path)

    def test_a_folder_is_no_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match="is a folder: name a checkpoint in it"):
            read(tmp_path)

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match=r"none\.pth: no such checkpoint"):
            read(tmp_path / "none.pth")


class Runs:
    """A pickle of this makes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


class TestLoading:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_every_tensor_gets_there(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path, variant: str
    ) -> None:
        model = tiny(**VARIANTS[variant])
        state = made_up(model)
        report = load(model, write(tmp_path / "a.pth", state))
        assert report.complete
        assert set(report.loaded) == set(state)
        assert report.parameters == sum(
            value.numel() for value in model.parameters() if value.requires_grad
        )
        assert same(model.trained_state(), state)

    def test_later_files_go_over_earlier_ones(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        """Three of them, as ckpt, ckpt_2 and ckpt_3: each trained a part."""
        model = tiny()
        first, second, third = (made_up(model, seed) for seed in (1, 2, 3))
        fused = [name for name in first if not name.startswith("llama_model.")]
        paths = [
            write(tmp_path / "1.pth", {name: first[name] for name in fused}),
            write(tmp_path / "2.pth", {n: v for n, v in second.items() if n not in fused}),
            write(tmp_path / "3.pth", {n: v for n, v in third.items() if n.startswith("multi_")}),
        ]
        with pytest.raises(MerstoreError, match="14 missing in it:\n    image_llama_proj"):
            load(model, paths[1:])
        report = load(model, paths)
        assert report.complete
        expected = first | second | {n: v for n, v in third.items() if n.startswith("multi_")}
        expected |= {name: first[name] for name in fused if not name.startswith("multi_")}
        assert same(model.trained_state(), expected)

    def test_a_missing_tensor_is_an_error_and_nothing_is_changed(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny()
        before, state = model.trained_state(), made_up(model)
        before = {name: value.clone() for name, value in before.items()}
        del state["fc_att.bias"]
        path = write(tmp_path / "a.pth", state)
        with pytest.raises(MerstoreError, match=r"1 missing in it: fc_att\.bias"):
            load(model, path)
        assert same(model.trained_state(), before)
        report = load(model, path, strict=False)
        assert report.missing == ("fc_att.bias",)
        assert not report.complete
        assert same(model.trained_state(), {**state, "fc_att.bias": before["fc_att.bias"]})

    def test_so_is_a_missing_adapter(self, tiny: Callable[..., AffectGPT], tmp_path: Path) -> None:
        model = tiny()
        state = {n: v for n, v in made_up(model).items() if not n.startswith("llama_model.")}
        path = write(tmp_path / "a.pth", state)
        with pytest.raises(MerstoreError, match="28 missing in it") as raised:
            load(model, path)
        lora = "llama_model.base_model.model.model.layers.{0-1}.mlp.up_proj.lora_B.default.weight"
        assert f"    {lora}\n" in str(raised.value)
        assert str(raised.value).count("lora_") == 14  # every key, those of both layers together
        frozen = tiny(frozen=frozenset({"frozen_llm"}))  # then there were none to be trained
        assert load(frozen, path).complete

    def test_so_is_another_width(self, tiny: Callable[..., AffectGPT], tmp_path: Path) -> None:
        other = AffectGPT(tiny_llm(vocabulary=100, hidden_size=32))
        path = write(tmp_path / "a.pth", made_up(other))
        model = tiny()
        with pytest.raises(
            MerstoreError, match=r"affectgpt_proj\.weight is \[32, 768\], and \[64, 768\]"
        ) as raised:
            load(model, path)
        told = str(raised.value)
        assert "  30 of another shape:\n" in told
        assert "language model that is 32 wide, and this one is 64 wide. It was" in told
        fused = {key for key in made_up(model) if "lora_" not in key and "llama_proj" in key}
        assert all(f"    {key} is [32" in told for key in fused)
        found = {key: (a, b) for key, a, b in load(model, path, strict=False).mismatched}
        assert found["affectgpt_proj.weight"] == ((32, 768), (64, 768))

    def test_so_is_a_key_that_has_no_place(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        """A mean in place of an attention misses nothing, and is another model all the same."""
        path = write(tmp_path / "a.pth", made_up(tiny()))
        with pytest.raises(MerstoreError, match="2 not in the model") as raised:
            load(tiny(video_fusion="mean"), path)
        keys = "    video_attention_mlp.weight\n    video_attention_mlp.bias\n"
        assert keys in str(raised.value)

    def test_layers_that_lack_it_are_numbered(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny()
        state = made_up(model)
        stem = "llama_model.base_model.model.model.layers.{}.self_attn.k_proj.lora_A.default.weight"
        del state[stem.format(1)]
        report = load(model, write(tmp_path / "a.pth", state), strict=False)
        assert f"  1 missing in it: {stem.format(1)}" in str(report)
        many = replace(report, missing=tuple(stem.format(n) for n in (5, 0, 1, 2, 7)))
        assert f"  5 missing in it: {stem.format('{0-2,5,7}')}" in str(many)

    def test_action_units_that_the_model_lacks_are_only_told(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        path = write(tmp_path / "a.pth", made_up(tiny(au_fusion="attention")))
        report = load(tiny(), path)
        assert report.complete
        assert set(report.unused) == {
            "au_attention_mlp.weight", "au_attention_mlp.bias",
            "au_llama_proj.weight", "au_llama_proj.bias",
        }  # fmt: skip
        assert "  4 not used:\n    au_" in str(report)

    def test_position_numbers_may_be_left_out(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny(audio_fusion="qformer")
        state = made_up(model)
        del state["audio_Qformer.bert.embeddings.position_ids"]
        assert load(model, write(tmp_path / "a.pth", state)).complete

    def test_half_precision_is_widened(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny()
        state = {name: value.half() for name, value in made_up(model).items()}
        load(model, write(tmp_path / "a.pth", state))
        assert same(model.trained_state(), {name: value.float() for name, value in state.items()})


class TestSaving:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_round_trip(self, tiny: Callable[..., AffectGPT], tmp_path: Path, variant: str) -> None:
        """What a file held is what a file of ours holds, key by key, bit by bit."""
        fields = VARIANTS[variant]
        first = write(tmp_path / "first.pth", made_up(tiny(**fields)))
        model = tiny(**fields)
        load(model, first)
        second = save(tmp_path / "sub" / "second.pth", model, epoch=30, config=YAML)
        one = torch.load(first, weights_only=True)
        two = torch.load(second, weights_only=True)
        assert same(one["model"], two["model"])
        assert list(one) == list(two)
        assert (two["config"], two["epoch"], two["scaler"]) == (YAML, 30, None)
        assert {value.dtype for value in two["model"].values()} <= {torch.float32, torch.int64}
        assert [path.name for path in second.parent.iterdir()] == ["second.pth"]

    def test_optimizer_and_scaler_go_with_it(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.affectgpt_proj.weight.sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        path = save(tmp_path / "a.pth", model, epoch=1, optimizer=state, scaler={"scale": 2.0})
        content = torch.load(path, weights_only=True)
        assert content["scaler"] == {"scale": 2.0}
        torch.testing.assert_close(content["optimizer"]["state"], state["state"], rtol=0, atol=0)

    def test_a_configuration_that_could_not_be_read_back_is_refused(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        model = tiny()
        path = save(tmp_path / "a.pth", model, epoch=1)
        before = path.read_bytes()
        with pytest.raises(MerstoreError, match=r"config\.run\.root is .*Path"):
            save(path, model, epoch=2, config={"run": {"root": tmp_path}})
        assert path.read_bytes() == before

    def test_where_nothing_can_be_written(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(MerstoreError, match="cannot be written"):
            save(tmp_path / "file" / "a.pth", tiny(), epoch=1)

    def test_the_name_of_a_file(self) -> None:
        assert file_name(30, 0.602) == "checkpoint_000030_loss_0.602.pth"
        assert file_name(0, 0) == "checkpoint_000000_loss_0.000.pth"


class TestOpening:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_checkpoint_says_what_model_it_is(self, tmp_path: Path, variant: str) -> None:
        config = Config(**{"au_queries": 8, **VARIANTS[variant]})
        trained = AffectGPT(tiny_llm(vocabulary=100), config)
        state = made_up(trained)
        path = write(tmp_path / "a.pth", state, config={**YAML, "model": config.to_yaml()})
        model, report = open_model(path, tiny_llm(vocabulary=100))
        assert model.config == config
        assert report.complete
        assert same(model.trained_state(), state)
        assert not model.training

    def test_with_a_language_model_from_a_folder(self, tmp_path: Path) -> None:
        llm = tiny_llm(vocabulary=100)
        llm.save_pretrained(tmp_path / "llm")
        weights = {name: value.clone() for name, value in llm.state_dict().items()}
        state = made_up(AffectGPT(llm))
        path = write(tmp_path / "a.pth", state)
        model, _ = open_model(path, tmp_path / "llm", device="cpu")
        assert same(model.trained_state(), state)
        assert model.dtype == torch.float32
        loaded = model.llama_model.get_base_model().get_input_embeddings().weight
        assert torch.equal(loaded, weights["model.embed_tokens.weight"])

    def test_of_another_language_model(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pth", made_up(AffectGPT(tiny_llm(vocabulary=100))))
        with pytest.raises(MerstoreError, match=r"14 missing in it:\n.*layers\.2"):
            open_model(path, tiny_llm(vocabulary=100, num_hidden_layers=3))

    def test_without_a_configuration(self, tiny: Callable[..., AffectGPT], tmp_path: Path) -> None:
        path = write(tmp_path / "a.pth", made_up(tiny()), config=None)
        with pytest.raises(MerstoreError, match=r"a\.pth: it has no config\.model"):
            open_model(path, tiny_llm(vocabulary=100))

    def test_with_a_configuration_that_there_is_not(
        self, tiny: Callable[..., AffectGPT], tmp_path: Path
    ) -> None:
        odd = {**YAML, "model": {**MODEL, "visual_encoder": "RESNET"}}
        path = write(tmp_path / "a.pth", made_up(tiny()), config=odd)
        with pytest.raises(MerstoreError, match=r"a\.pth: model\.visual_encoder is 'RESNET'"):
            open_model(path, tiny_llm(vocabulary=100))

    def test_without_any(self) -> None:
        with pytest.raises(MerstoreError, match="no checkpoint given"):
            open_model([], tiny_llm(vocabulary=100))

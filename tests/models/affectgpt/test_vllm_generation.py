"""Answers through vLLM are those of transformers. Where there is no vLLM, a stand-in has its place."""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_stand_in import LLM, stand_in

from merstore.demo.models import make_checkpoint, make_llm
from merstore.errors import EncoderError, MerstoreError
from merstore.models.affectgpt import (
    AffectGPT,
    Answer,
    Config,
    Generator,
    Request,
    Settings,
    Tokens,
    load,
    open_model,
    read,
)
from merstore.models.affectgpt.vllm_generation import Engine, VllmGenerator, embeddings_of
from merstore.run.prompts import prompt, question

from .made import rows

MODE = "multiface_audio_face_text"
SUBTITLES = ("Oh no!", "", "Well, well, well, who would have thought of that?", "你怎么了?", "No.")
SETTINGS = Settings(max_new_tokens=8, max_length=500)
DRAWN = Settings(max_new_tokens=6, max_length=500, sample=True)
REQUESTS = [
    Request(
        prompt(MODE, question("ovlabel"), subtitle),
        {"face": rows(at, 8, 768), "audio": rows(100 + at, 8, 1024)},
        "face",
        seed=(1 << 64) - 1 - at,  # of 64 bits, as ours are
        name=f"sample_{at}",
    )
    for at, subtitle in enumerate(SUBTITLES)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model's."""
    return make_llm(tmp_path_factory.mktemp("made") / "llm", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def checkpoints(folder: Path) -> list[Path]:
    """Two that are made alike, and one with larger adapters."""
    ranks = {1: 16, 2: 16, 3: 20}
    return [
        make_checkpoint(folder.parent / f"checkpoint_{seed:06d}.pth", folder, seed, lora_rank=rank)
        for seed, rank in ranks.items()
    ]


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    return stand_in(monkeypatch)


def plain(checkpoint: Path, folder: Path) -> Generator:
    """With transformers."""
    model, _ = open_model(checkpoint, folder, device="cpu")
    return Generator(model, Tokens.from_folder(folder, model.config.queries), SETTINGS)


@cache
def expected(checkpoint: Path, folder: Path) -> list[Answer]:
    """What it answers; of a folder that nobody changes."""
    return plain(checkpoint, folder).answers(REQUESTS)


def engine(folder: Path, settings: Settings = SETTINGS, rank: int = 16) -> Engine:
    return Engine(folder, "float32", rank, settings, 16)


def through(
    checkpoint: Path,
    folder: Path,
    settings: Settings = SETTINGS,
    most: int = 16,
    running: Engine | None = None,
) -> VllmGenerator:
    """The same with vLLM."""
    model, _ = open_model(checkpoint, embeddings_of(folder, "float32"))
    tokens = Tokens.from_folder(folder, model.config.queries)
    return VllmGenerator(model, tokens, running or engine(folder, settings), settings, most)


@pytest.mark.parametrize("most", [1, 2, 16])
def test_greedy_answers_are_those_of_transformers(
    checkpoints: list[Path], folder: Path, most: int
) -> None:
    found = through(checkpoints[0], folder, most=most).answers(REQUESTS)
    assert found == expected(checkpoints[0], folder)
    assert len({answer.text for answer in found}) == len(REQUESTS)
    (llm,) = LLM.made
    assert max(len(prompts) for prompts, _, _ in llm.calls) == min(most, len(REQUESTS))


def test_checkpoints_share_an_engine_and_have_their_own_adapters(
    checkpoints: list[Path], folder: Path
) -> None:
    running = engine(folder, rank=20)
    model, _ = open_model(checkpoints[0], embeddings_of(folder, "float32"))
    tokens = Tokens.from_folder(folder, model.config.queries)
    for at in (0, 1, 0):
        load(model, [read(checkpoints[at])])
        found = VllmGenerator(model, tokens, running, SETTINGS).answers(REQUESTS[:2])
        assert found == expected(checkpoints[at], folder)[:2]
    larger = through(checkpoints[2], folder, running=running)
    assert larger.answers(REQUESTS[:2]) == expected(checkpoints[2], folder)[:2]
    assert len(LLM.made) == 1


def test_adapters_that_were_not_trained_change_nothing(folder: Path, tmp_path: Path) -> None:
    frozen = frozenset({"frozen_llm"})
    path = make_checkpoint(tmp_path / "checkpoint_000001.pth", folder, 5, frozen=frozen)
    assert not any("lora" in name for name in read(path).state)
    assert through(path, folder).answers(REQUESTS) == expected(path, folder)


class TestEndings:
    """A language model is made to say an ending after its second token."""

    @pytest.fixture
    def said(
        self, checkpoints: list[Path], folder: Path, tmp_path: Path
    ) -> Callable[[Sequence[int]], Path]:
        def make(stop: Sequence[int]) -> Path:
            from transformers import AutoModelForCausalLM

            changed = tmp_path / "llm"
            shutil.copytree(folder, changed)
            llm = AutoModelForCausalLM.from_pretrained(changed)
            for number, token in enumerate(stop):
                generator = plain(checkpoints[0], changed)
                generator._ends = set()  # what was said so far must not end it
                encoded = generator._encoded(REQUESTS[1])
                ids, mask = generator.tokens.batch([encoded.ids])
                with torch.inference_mode():
                    fused = generator._vectors(REQUESTS[1:2], [encoded])
                    given = generator.model.embed(ids, generator.tokens.places, fused)
                    (output,) = generator._generate(given, mask, REQUESTS[1:2])
                head = llm.get_output_embeddings().weight
                with torch.no_grad():
                    head[[output[2 + number], token]] = head[[token, output[2 + number]]]
                llm.save_pretrained(changed)
            return changed

        return make

    @pytest.mark.parametrize("which", [0, 1, 2, 3])
    def test_each_of_affectgpts_ends_an_answer(
        self, checkpoints: list[Path], folder: Path, said: Callable[[Sequence[int]], Path],
        which: int,
    ) -> None:  # fmt: skip
        stops = Tokens.from_folder(folder, Config().queries).stops
        if which >= len(stops):
            pytest.skip("this tokenizer has no tokens of ## and #")
        changed = said(stops[which])
        found = through(checkpoints[0], changed).answers(REQUESTS)
        assert found == plain(checkpoints[0], changed).answers(REQUESTS)
        assert (found[1].tokens, found[1].ended) == (2 + len(stops[which]), True)
        assert not all(answer.ended for answer in found)
        if len(stops[which]) == 1:
            self.assert_that_no_more_was_said(found)

    def test_the_language_models_own_does_too(
        self, checkpoints: list[Path], said: Callable[[Sequence[int]], Path], folder: Path
    ) -> None:
        token = Tokens.from_folder(folder, Config().queries).tokenizer.convert_tokens_to_ids("!")
        changed = said([token])
        own = {"eos_token_id": [token], "top_k": 3}
        (changed / "generation_config.json").write_text(json.dumps(own))
        found = through(checkpoints[0], changed).answers(REQUESTS)
        assert found == plain(checkpoints[0], changed).answers(REQUESTS)
        assert (found[1].tokens, found[1].ended) == (3, True)
        self.assert_that_no_more_was_said(found)

    @staticmethod
    def assert_that_no_more_was_said(found: Sequence[Answer]) -> None:
        """vLLM itself ended them, and did not go on for nothing."""
        said = sorted(len(each.token_ids) for each in LLM.made[0].said)
        assert said == sorted(answer.tokens for answer in found)


class TestDrawn:
    def test_an_answer_is_decided_by_its_own_seed(
        self, checkpoints: list[Path], folder: Path
    ) -> None:
        whole = through(checkpoints[0], folder, DRAWN).answers(REQUESTS)
        single = through(checkpoints[0], folder, DRAWN, most=1).answers(REQUESTS[::-1])
        assert single[::-1] == whole
        assert [answer.seed for answer in whole] == [one.seed for one in REQUESTS]
        seeds = [how.seed for how in LLM.made[0].calls[0][1]]
        assert len(set(seeds)) == len(REQUESTS)
        assert all(0 <= seed < 1 << 63 for seed in seeds if seed is not None)

    def test_among_as_many_tokens_as_is_said_or_as_the_language_model_has_it(
        self, checkpoints: list[Path], folder: Path, tmp_path: Path
    ) -> None:
        changed = tmp_path / "llm"
        shutil.copytree(folder, changed)
        (changed / "generation_config.json").write_text('{"top_k": 3}')
        chosen = Settings(6, 500, True, 0.5, 0.8, 7)
        for settings, where in ((DRAWN, folder), (DRAWN, changed), (chosen, changed)):
            through(checkpoints[0], where, settings).answers(REQUESTS[:1])
        found = [llm.calls[0][1][0] for llm in LLM.made]
        told = [(how.temperature, how.top_p, how.top_k) for how in found]
        assert told == [(1.0, 0.9, 50), (1.0, 0.9, 3), (0.5, 0.8, 7)]


class TestEmbeddings:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_prompts_are_those_of_the_whole_model(
        self, checkpoints: list[Path], folder: Path, dtype: torch.dtype
    ) -> None:
        name = str(dtype).removeprefix("torch.")
        whole, _ = open_model(checkpoints[0], folder, device="cpu", dtype=name)
        bare, _ = open_model(checkpoints[0], embeddings_of(folder, name))
        tokens = Tokens.from_folder(folder, whole.config.queries)
        given = [embedded(model, tokens, REQUESTS[0]) for model in (whole, bare)]
        assert given[0].dtype == dtype
        torch.testing.assert_close(given[1], given[0], rtol=0, atol=0)

    def test_no_other_weight_takes_memory(self, folder: Path) -> None:
        llm = embeddings_of(folder, "float32")
        sizes = {n: p.untyped_storage().nbytes() for n, p in llm.named_parameters()}
        table = llm.get_input_embeddings().weight
        assert sizes.pop("model.embed_tokens.weight") == table.numel() * 4
        assert set(sizes.values()) == {4}

    @pytest.mark.parametrize("parts", [1, 3])
    def test_they_are_found_in_any_of_a_models_files(
        self, folder: Path, tmp_path: Path, parts: int
    ) -> None:
        from transformers import AutoModelForCausalLM

        llm = AutoModelForCausalLM.from_pretrained(folder)
        size = sum(p.numel() * 4 for p in llm.parameters())
        llm.save_pretrained(tmp_path / "llm", max_shard_size=size // parts + 4096)
        assert (len(list((tmp_path / "llm").glob("*.safetensors"))) > 1) == (parts > 1)
        found = embeddings_of(tmp_path / "llm", "float32").get_input_embeddings().weight
        torch.testing.assert_close(found, llm.get_input_embeddings().weight, rtol=0, atol=0)

    def test_of_the_older_format(self, folder: Path, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM

        llm = AutoModelForCausalLM.from_pretrained(folder)
        llm.config.save_pretrained(tmp_path)
        torch.save(llm.state_dict(), tmp_path / "pytorch_model.bin")
        found = embeddings_of(tmp_path, "float32").get_input_embeddings().weight
        torch.testing.assert_close(found, llm.get_input_embeddings().weight, rtol=0, atol=0)

    def test_a_folder_without_them_or_with_others_is_refused(
        self, folder: Path, tmp_path: Path
    ) -> None:
        from safetensors.torch import load_file, save_file

        shutil.copytree(folder, tmp_path / "llm")
        file = tmp_path / "llm" / "model.safetensors"
        state = load_file(file)
        key = "model.embed_tokens.weight"
        save_file(state | {key: state[key][:5].clone()}, file)
        with pytest.raises(EncoderError, match=r"embed_tokens.weight is \[5, 32\], and"):
            embeddings_of(tmp_path / "llm", "float32")
        save_file({name: value for name, value in state.items() if name != key}, file)
        with pytest.raises(EncoderError, match=f"{key}, the embeddings of tokens, is not in"):
            embeddings_of(tmp_path / "llm", "float32")
        file.write_bytes(b"damaged")
        with pytest.raises(EncoderError, match=r"model\.safetensors cannot be read"):
            embeddings_of(tmp_path / "llm", "float32")
        (tmp_path / "llm" / "config.json").write_text('{"model_type": "nothing"}')
        with pytest.raises(EncoderError, match=str(tmp_path / "llm")):
            embeddings_of(tmp_path / "llm", "float32")


def embedded(model: AffectGPT, tokens: Tokens, of: Request) -> torch.Tensor:
    encoded = tokens.encode(of.prompt)
    features = {name: torch.tensor(value)[None] for name, value in of.features.items()}
    with torch.inference_mode():
        vectors = model(features, encoded.places, of.multi)
        return model.embed(torch.tensor([encoded.ids]), tokens.places, vectors)


class TestTroubles:
    def test_a_checkpoint_that_does_not_fit_is_refused_as_ever(
        self, checkpoints: list[Path], folder: Path, tmp_path: Path
    ) -> None:
        wide = make_llm(tmp_path / "wide", hidden_size=48)
        with pytest.raises(MerstoreError, match="the checkpoint does not fit the model"):
            open_model(checkpoints[0], embeddings_of(wide, "float32"))
        content = torch.load(checkpoints[0], weights_only=True)
        del content["model"][next(name for name in content["model"] if ".lora_A" in name)]
        torch.save(content, tmp_path / "less.pth")
        with pytest.raises(MerstoreError, match=r"1 missing in it: .*lora_A"):
            open_model(tmp_path / "less.pth", embeddings_of(folder, "float32"))

    def test_where_memory_does_not_suffice_the_batch_is_halved_and_nothing_is_lost(
        self, checkpoints: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = through(checkpoints[0], folder)
        whole = AffectGPT.embed

        def embed(self: AffectGPT, ids: torch.Tensor, *more: Any) -> torch.Tensor:
            if len(ids) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return whole(self, ids, *more)

        monkeypatch.setattr(AffectGPT, "embed", embed)
        assert generator.answers(REQUESTS) == expected(checkpoints[0], folder)
        assert generator.most == 2

    def test_what_vllm_refuses_is_said(self, checkpoints: list[Path], folder: Path) -> None:
        small = Engine(folder, "float32", 8, SETTINGS, 16)  # adapters have rank 16
        with pytest.raises(MerstoreError, match="vLLM: LoRA rank 16 is greater than 8"):
            through(checkpoints[0], folder, running=small).answers(REQUESTS)

    def test_an_answer_that_vllm_gives_up_on_is_none(
        self, checkpoints: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import vllm_stand_in

        given = vllm_stand_in.Completion((1, 2), "abort")
        monkeypatch.setattr(vllm_stand_in, "completed", lambda *_: given)
        with pytest.raises(MerstoreError, match=r"sample_\d: vLLM gave up on it \(abort\)"):
            through(checkpoints[0], folder).answers(REQUESTS)

    def test_an_engine_that_does_not_start(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: LLM, model: str, **_: Any) -> None:
            raise ValueError("Free memory on device cuda:0\nis less than desired")

        monkeypatch.setattr(LLM, "__init__", broken)
        with pytest.raises(
            MerstoreError, match=r"cannot be started with .* on device cuda:0 is less"
        ):
            engine(folder)

    def test_its_messages_stay_away_from_answers_and_its_processes_from_our_threads(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = {
            "VLLM_LOGGING_STREAM": "ext://sys.stderr",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        }
        for name in told:
            monkeypatch.delenv(name, raising=False)
        engine(folder)
        assert {name: os.environ[name] for name in told} == told


def test_what_is_written_goes_with_the_engine(checkpoints: list[Path], folder: Path) -> None:
    generator = through(checkpoints[0], folder)
    generator.answers(REQUESTS[:1])
    written = Path(LLM.made[0].calls[0][2].lora_path)
    assert (written / "adapter_model.safetensors").is_file()
    del generator
    assert not written.parent.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what it leaves open is its own
class TestReal:
    """With the real one, where it is installed: on a GPU, or as it is built for a CPU."""

    @pytest.fixture(autouse=True)
    def vllm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if importlib.util.find_spec("vllm") is None:
            pytest.skip("vLLM is not installed")
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")

    def test_greedy_answers_are_those_of_transformers(self, tmp_path: Path) -> None:
        # its kernels want heads of 32 at least
        folder = make_llm(tmp_path / "llm", hidden_size=128, tie_word_embeddings=False)
        paths = [tmp_path / f"checkpoint_{seed:06d}.pth" for seed in (1, 2)]
        for seed, path in enumerate(paths):
            make_checkpoint(path, folder, seed)
        running = Engine(folder, "float32", 16, SETTINGS, 4)
        for path in paths:
            found = through(path, folder, running=running).answers(REQUESTS)
            assert found == expected(path, folder)
        assert expected(paths[0], folder) != expected(paths[1], folder)
        drawn = through(paths[0], folder, DRAWN, running=running)
        assert drawn.answers(REQUESTS) == drawn.answers(REQUESTS[::-1])[::-1]

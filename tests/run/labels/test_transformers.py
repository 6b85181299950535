"""Causal language models through transformers, on a tiny random Qwen2."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from merstore.errors import EncoderError, MerstoreError
from merstore.run.decoding import _Draw, _Penalty
from merstore.run.labels import PUBLISHED, Decoding, Refusal, Transformers, Vllm, extract
from merstore.store.store import Store

from .tiny import CHAT, save_model

SHORT = Decoding(max_tokens=12)
DRAWN = Decoding(temperature=0.9, top_p=0.9, repetition_penalty=1.05, max_tokens=12)
MESSAGES = ["Is she happy?", "Hm.", "He looks sad and jealous; the voice is very low, isn't it?"]


def by_hand(model: Transformers, message: str, penalty: float = 1.0) -> str:
    """The likeliest token again and again, without padding, cache or `generate`."""
    tokenizer, network = model.load()
    text = f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    said: list[int] = []
    while len(said) < model.decoding.max_tokens and said[-1:] not in ([0], [2]):
        with torch.no_grad():
            scores = network(torch.tensor([ids + said])).logits[0, -1]
        seen = torch.tensor(sorted({*ids, *said}))
        scores[seen] = torch.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        said.append(int(scores.argmax()))
    return str(tokenizer.decode(said, skip_special_tokens=True))


class TestGreedy:
    def test_a_batch_gives_what_each_gives_alone(self, tiny_model: Path) -> None:
        model = Transformers(tiny_model, SHORT)
        answers = model.answer("openset", MESSAGES)
        assert answers == [by_hand(model, message) for message in MESSAGES]
        assert len(set(answers)) == 3

    def test_the_penalty_is_not_for_padding(self, tiny_model: Path) -> None:
        model = Transformers(tiny_model, Decoding(repetition_penalty=1.5, max_tokens=12))
        expected = [by_hand(model, message, 1.5) for message in MESSAGES]
        assert model.answer("openset", MESSAGES) == expected

    def test_the_settings_that_come_with_a_model_do_not_count(
        self, tiny_model: Path, make_model: Callable[..., Path]
    ) -> None:
        other = make_model(do_sample=True, temperature=3.0, top_k=2, repetition_penalty=3.0)
        saved = json.loads((other / "generation_config.json").read_text())
        assert saved["repetition_penalty"] == 3.0
        expected = Transformers(tiny_model, SHORT).answer("openset", MESSAGES)
        assert Transformers(other, SHORT).answer("openset", MESSAGES) == expected

    @pytest.mark.shared
    def test_with_the_tokenizer_of_qwen(self, shared: Path, tmp_path: Path) -> None:
        for file in (shared / "models" / "qwen2.5-tokenizer").glob("tokenizer*.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "chat_template.jinja").write_text(CHAT)

        save_model(tmp_path, vocabulary=151_665, eos_token_id=[151645, 151643])
        model = Transformers(tmp_path, Decoding(max_tokens=4))
        texts = {"a": "She smiles.", "b": "他看起来很难过，一直低着头。"}
        answers = extract(texts, model).answers
        expected = [by_hand(model, model.message("openset", text=text)) for text in texts.values()]
        assert list(answers.values()) == [answer.strip().replace("\n", "") for answer in expected]


class TestSampling:
    def test_an_answer_does_not_depend_on_its_neighbours(self, tiny_model: Path) -> None:
        model = Transformers(tiny_model, DRAWN)
        together = model.answer("openset", MESSAGES)
        assert model.answer("openset", MESSAGES[::-1]) == together[::-1]
        assert [model.answer("openset", [message])[0] for message in MESSAGES] == together

    def test_another_seed_gives_other_answers(self, tiny_model: Path) -> None:
        answers = [
            Transformers(tiny_model, Decoding(1.0, max_tokens=12, seed=seed)).answer(
                "openset", MESSAGES
            )
            for seed in (0, 1, 0)
        ]
        assert answers[0] == answers[2]
        assert answers[0] != answers[1]

    def test_draws_are_from_the_nucleus_and_as_often_as_they_are_likely(self) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        rows = 20_000
        scores = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
        warped = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.7)(None, scores))
        expected = warped.softmax(-1)[0]
        drawn = _Draw(0.7, 0.8, range(rows))(None, scores.expand(rows, -1))
        assert (drawn.isfinite().sum(-1) == 1).all()
        counts = drawn.argmax(-1).bincount(minlength=40)
        assert set(counts.nonzero().flatten().tolist()) == set(
            expected.nonzero().flatten().tolist()
        )
        # five standard deviations, for seeds that are always the same
        spread = (expected * (1 - expected) / rows).sqrt()
        assert ((counts / rows - expected).abs() <= 5 * spread).all()

    def test_the_penalty_is_that_of_transformers_on_a_row_without_padding(self) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        ids, scores = torch.tensor([[0, 0, 3, 4, 5]]), torch.randn(1, 8)
        mask = torch.tensor([[0, 0, 1, 1]])
        expected = RepetitionPenaltyLogitsProcessor(1.5)(ids[:, 2:], scores.clone())
        assert torch.equal(_Penalty(1.5, mask)(ids, scores.clone()), expected)


class TestTrouble:
    def test_a_model_that_says_nothing(self, make_model: Callable[..., Path], store: Store) -> None:
        def mute(model: Any) -> None:
            model.model.norm.weight.zero_()  # all scores alike: the first token, which is an end

        found = extract({"a": "text"}, Transformers(make_model(change=mute)), store=store)
        assert found.failed["a"].kind == "no_answer"

    def test_a_text_that_is_too_long_is_refused_and_the_others_answered(
        self, make_model: Callable[..., Path]
    ) -> None:
        model = Transformers(make_model(room=64), SHORT)
        long, short = model.answer("openset", ["sad " * 100, "sad"])
        assert isinstance(long, Refusal)
        assert long.kind == "too_long"
        assert "64" in long.message
        assert short == by_hand(model, "sad")

    def test_where_memory_is_short_fewer_are_answered_at_once(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = Transformers(tiny_model, SHORT).answer("openset", MESSAGES)
        model = Transformers(tiny_model, SHORT)
        _, network = model.load()
        generate = network.generate

        def scarce(**given: Any) -> Any:
            if len(given["input_ids"]) > 1 or given["input_ids"].shape[1] > 30:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return generate(**given)

        monkeypatch.setattr(network, "generate", scarce)
        one, two, three = model.answer("openset", MESSAGES)
        assert [one, two] == expected[:2]
        assert isinstance(three, Refusal)
        assert three.kind == "out_of_memory"

    def test_a_model_without_chat_template_is_refused(
        self, make_model: Callable[..., Path]
    ) -> None:
        with pytest.raises(EncoderError, match="other-model has no chat template"):
            Transformers(make_model(chat=False)).answer("openset", ["text"])

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(EncoderError, match="not a whole model"):
            Transformers(tmp_path)
        with pytest.raises(EncoderError, match="no such folder"):
            Transformers(tmp_path / "nowhere")


class Engine:
    """In vLLM's place, which this machine need not have: takes what it takes, and writes it down."""

    made: ClassVar["Engine"]

    def __init__(self, model: str, generation_config: str) -> None:
        self.asked: list[tuple[Any, Any]] = []
        Engine.made = self

    def chat(self, messages: Any, sampling_params: Any, use_tqdm: bool) -> list[Any]:
        self.asked.append((messages, sampling_params))
        texts = [chat[0]["content"] for chat in messages]
        if any(len(text) > 100 for text in texts):
            raise ValueError("The prompt is longer than the maximum model length")
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text.upper())]) for text in texts]


class TestVllm:
    def test_it_is_asked_with_our_settings_and_a_seed_of_each_message(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in = SimpleNamespace(LLM=Engine, SamplingParams=lambda **given: given)
        monkeypatch.setitem(sys.modules, "vllm", stand_in)
        model = Vllm(tiny_model, PUBLISHED)
        first, long, last = model.answer("openset", ["one", "long " * 50, "one"])
        assert (first, last) == ("ONE", "ONE")
        assert isinstance(long, Refusal)
        assert long.kind == "too_long"
        together, *alone = Engine.made.asked
        assert [len(chats) for chats, _ in alone] == [1, 1, 1]
        seeds = [each.pop("seed") for each in together[1]]
        assert seeds[0] == seeds[2] != seeds[1]
        assert together[1][0] == {
            "temperature": 0.7,
            "top_p": 0.8,
            "repetition_penalty": 1.05,
            "max_tokens": 512,
        }

    def test_it_says_that_it_is_missing(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        with pytest.raises(MerstoreError, match=r"merstore\[vllm\]"):
            Vllm(tiny_model)


def test_weights_and_tokenizer_are_part_of_what_answers_are_kept_under(
    tiny_model: Path, make_model: Callable[..., Path]
) -> None:
    def other(model: Any) -> None:
        model.lm_head.weight.mul_(1.5)

    specs = [
        Transformers(model, PUBLISHED).spec("openset")
        for model in (tiny_model, make_model(change=other))
    ]
    assert specs[0]["weights"] != specs[1]["weights"]
    assert specs[0]["tokenizer"] == specs[1]["tokenizer"]
    assert specs[0]["decoding"] == {
        "temperature": 0.7,
        "top_p": 0.8,
        "repetition_penalty": 1.05,
        "max_tokens": 512,
        "seed": 0,
    }

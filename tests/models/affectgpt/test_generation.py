"""From a prompt and features to an answer, against token-by-token straight lines."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from merstore.errors import MerstoreError
from merstore.models.affectgpt import (
    AffectGPT,
    Config,
    Generator,
    Request,
    Settings,
    Tokens,
)
from merstore.run.prompts import prompt, question

from . import reference
from .made import rows, shaken, tiny_llm

pytestmark = pytest.mark.shared

MODE = "multiface_audio_face_text"
MOST = 10  # new tokens
SUBTITLES = (
    "Oh no!",
    "",
    "I never said that it was easy, but I did say that it would be worth it in the end, didn't I?",
    "你怎么了?",
    "Well, well, well.",
    "No.",
    "That is { odd }.",
)


def request(at: int, **changes: Any) -> Request:
    given = {
        "prompt": prompt(MODE, question("ovlabel"), SUBTITLES[at % len(SUBTITLES)]),
        "features": {"face": rows(at, 8, 768), "audio": rows(100 + at, 8, 1024)},
        "multi": "face",
        "seed": at,
        "name": f"sample_{at}",
    }
    return Request(**{**given, **changes})


REQUESTS = [request(at) for at in range(7)]
SETTINGS = Settings(max_new_tokens=MOST, max_length=1000)


class Plain:
    """The same model in straight lines: its weights, with the adapters added to them."""

    def __init__(self, model: AffectGPT, base: dict[str, torch.Tensor], llm: Any) -> None:
        """`base`: the language model's weights; `llm`: one of its shape."""
        self.state = {name: value.to(model.dtype) for name, value in model.trained_state().items()}
        self.llm = llm.to(model.dtype)
        scaling = model.config.lora_alpha / model.config.lora_rank
        base = {name: value.to(model.dtype) for name, value in base.items()}
        self.llm.load_state_dict(reference.merged(base, self.state, scaling))

    def inputs(self, tokens: Tokens, of: Request) -> torch.Tensor:
        face = torch.tensor(of.features["face"]).unsqueeze(0)
        audio = torch.tensor(of.features["audio"]).unsqueeze(0)
        vectors = {
            tokens.places["face"]: reference.temporal(self.state, "video", "attention", face, 1)[0],
            tokens.places["audio"]: reference.temporal(self.state, "audio", "attention", audio, 1)[
                0
            ],
            tokens.places["multi"]: reference.multi(self.state, "attention", face, audio, 1)[0],
        }
        ids = tokens.tokenizer(of.prompt, add_special_tokens=False).input_ids
        return reference.embedded(self.llm.get_input_embeddings().weight, ids, vectors)

    @torch.no_grad()
    def greedy(self, tokens: Tokens, of: Request, most: int = MOST) -> list[int]:
        stops = [[151645], [14374], [565, 2], [2, 565]]
        return reference.greedy(self.llm, self.inputs(tokens, of), stops, most)


def built(dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[AffectGPT, Plain]:
    """A model and its straight lines, of the same random weights."""
    fields = {"tie_word_embeddings": False, **changes}
    llm = tiny_llm(3, **fields)
    state = {name: value.clone() for name, value in llm.state_dict().items()}
    torch.manual_seed(4)
    model = shaken(AffectGPT(llm, Config())).to(dtype).eval()
    return model, Plain(model, state, tiny_llm(3, **fields))


@pytest.fixture(scope="module")
def pair() -> tuple[AffectGPT, Plain]:
    return built()


@pytest.fixture
def head(pair: tuple[AffectGPT, Plain]) -> Iterator[Any]:
    """Swaps two tokens in what the language model says; it goes on hearing them as they are."""
    model, plain = pair
    weights = [
        model.llama_model.get_output_embeddings().weight,
        plain.llm.get_output_embeddings().weight,
    ]
    kept = [weight.detach().clone() for weight in weights]

    def swap(one: int, other: int) -> None:
        with torch.no_grad():
            for weight in weights:
                weight[[one, other]] = weight[[other, one]]

    yield swap
    with torch.no_grad():
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within 1e-6 of the size of the numbers."""
    size = expected.abs().max()
    torch.testing.assert_close(found / size, expected / size, rtol=0, atol=1e-6)


def embedded(model: AffectGPT, tokens: Tokens, of: Request) -> torch.Tensor:
    """What the language model is given, ``[1, L, W]``."""
    encoded = tokens.encode(of.prompt)
    features = {name: torch.tensor(value)[None] for name, value in of.features.items()}
    vectors = model(features, encoded.places, of.multi)
    return model.embed(torch.tensor([encoded.ids]), tokens.places, vectors)


@torch.no_grad()
def test_what_the_language_model_is_given(pair: tuple[AffectGPT, Plain], tokens: Tokens) -> None:
    model, plain = pair
    for one in REQUESTS:
        same(embedded(model, tokens, one)[0], plain.inputs(tokens, one))


@torch.no_grad()
def test_what_it_answers(tokens: Tokens) -> None:
    """The scores of the first token: fusion, projection, placeholders, adapters. In float64, since
    language models of random weights magnify rounding.
    """
    model, plain = built(torch.float64)
    for at in range(3):
        one = REQUESTS[at]
        wide = request(at, features={n: v.astype(np.float64) for n, v in one.features.items()})
        found = model.llama_model(inputs_embeds=embedded(model, tokens, wide), logits_to_keep=1)
        inputs = plain.inputs(tokens, wide)[None]
        same(found.logits, plain.llm(inputs_embeds=inputs, logits_to_keep=1).logits)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_greedy_answers_are_the_straight_lines_whatever_the_batch(
    pair: tuple[AffectGPT, Plain], tokens: Tokens, most: int
) -> None:
    model, plain = pair
    answers = Generator(model, tokens, SETTINGS, most).answers(REQUESTS)
    outputs = [plain.greedy(tokens, one) for one in REQUESTS]
    assert len({tuple(output) for output in outputs}) == len(REQUESTS)  # all differ
    for answer, output in zip(answers, outputs, strict=True):
        assert answer.text == tokens.answer(output)
        assert (answer.tokens, answer.ended, answer.cut) == (len(output), False, "")
        assert answer.seed is None


def test_the_order_of_requests_does_not_matter(
    pair: tuple[AffectGPT, Plain], tokens: Tokens
) -> None:
    generator = Generator(pair[0], tokens, SETTINGS, 3)
    assert generator.answers(REQUESTS[::-1]) == generator.answers(REQUESTS)[::-1]


@pytest.mark.parametrize("stop", [(151645,), (14374,), (565, 2), (2, 565)])
@pytest.mark.parametrize("most", [1, 7])
def test_each_row_ends_by_itself(
    pair: tuple[AffectGPT, Plain], tokens: Tokens, head: Any, stop: tuple[int, ...], most: int
) -> None:
    """The fourth request is made to say an ending after its second token; the others go on."""
    model, plain = pair
    for number, token in enumerate(stop):
        head(plain.greedy(tokens, REQUESTS[3])[2 + number], token)
    output = plain.greedy(tokens, REQUESTS[3])
    assert tuple(output[2:]) == stop
    answers = Generator(model, tokens, SETTINGS, most).answers(REQUESTS)
    assert (answers[3].tokens, answers[3].ended) == (2 + len(stop), True)
    assert answers[3].text == tokens.tokenizer.decode(output[:2]).strip()
    assert sum(not answer.ended for answer in answers) >= 4
    for answer, one in zip(answers, REQUESTS, strict=True):
        assert answer.text == tokens.answer(plain.greedy(tokens, one))


def test_the_language_models_own_endings_count_too(
    pair: tuple[AffectGPT, Plain], tokens: Tokens, head: Any
) -> None:
    """Qwen2.5's generation_config.json has <|endoftext|> besides <|im_end|>."""
    model, plain = pair
    output = plain.greedy(tokens, REQUESTS[0])
    head(output[4], 151643)
    config = model.llama_model.generation_config
    config.eos_token_id = [151645, 151643]
    try:
        answer = Generator(model, tokens, SETTINGS).answers(REQUESTS[:1])[0]
    finally:
        config.eos_token_id = None
    assert answer.text == tokens.tokenizer.decode(output[:4]).strip()
    assert (answer.tokens, answer.ended) == (5, True)


def test_what_a_folder_says_of_sampling_does_not_touch_greedy_answers(
    pair: tuple[AffectGPT, Plain], tokens: Tokens
) -> None:
    model, _ = pair
    expected = Generator(model, tokens, SETTINGS).answers(REQUESTS[:2])
    config = model.llama_model.generation_config
    before = config.to_dict()
    config.update(do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.5)
    try:
        assert Generator(model, tokens, SETTINGS).answers(REQUESTS[:2]) == expected
    finally:
        config.update(**{key: before.get(key) for key in (
            "do_sample", "temperature", "top_k", "top_p", "repetition_penalty")})  # fmt: skip


class TestSampled:
    SETTINGS = Settings(max_new_tokens=6, max_length=1000, sample=True)

    def test_an_answer_is_decided_by_its_own_seed(
        self, pair: tuple[AffectGPT, Plain], tokens: Tokens
    ) -> None:
        whole = Generator(pair[0], tokens, self.SETTINGS, 7).answers(REQUESTS)
        single = Generator(pair[0], tokens, self.SETTINGS, 1).answers(REQUESTS[::-1])
        assert single[::-1] == whole
        assert [answer.seed for answer in whole] == [one.seed for one in REQUESTS]
        others = Generator(pair[0], tokens, self.SETTINGS, 7).answers(
            [request(at, seed=at + 50) for at in range(7)]
        )
        assert [answer.text for answer in others] != [answer.text for answer in whole]

    @pytest.mark.parametrize(
        ("temperature", "top_k", "top_p"), [(1.0, 6, 0.9), (4.0, 12, 0.7), (1.0, 0, 0.5)]
    )
    def test_tokens_come_as_often_as_they_are_probable(
        self,
        pair: tuple[AffectGPT, Plain],
        tokens: Tokens,
        temperature: float,
        top_k: int,
        top_p: float,
    ) -> None:
        model, plain = pair
        settings = Settings(1, 1000, True, temperature, top_p, top_k)
        draws = 150
        requests = [request(5, seed=seed) for seed in range(draws)]
        answers = Generator(model, tokens, settings, 50).answers(requests)
        with torch.no_grad():
            inputs = plain.inputs(tokens, REQUESTS[5])
            expected = reference.sampled(plain.llm, inputs, temperature, top_k or 151_665, top_p)
        probable: Counter[str] = Counter()
        for token in expected.nonzero()[:, 0].tolist():
            probable[tokens.answer([token])] += expected[token].item()
        found = Counter(answer.text for answer in answers)
        assert found.keys() <= probable.keys()
        assert len(found) > 1
        rare = {text for text, share in probable.items() if share * draws < 8}
        shares = {text: share for text, share in probable.items() if text not in rare}
        for text, share in shares.items():
            deviation = (share * (1 - share) / draws) ** 0.5
            assert abs(found[text] / draws - share) < 4.5 * deviation
        rest = 1 - sum(shares.values())
        assert abs(sum(found[text] for text in rare) / draws - rest) < 4.5 * (1 / draws) ** 0.5 / 2

    def test_the_nearly_certain_is_what_greedy_says(
        self, pair: tuple[AffectGPT, Plain], tokens: Tokens
    ) -> None:
        cold = Settings(MOST, 1000, True, temperature=1e-4)
        warm = Generator(pair[0], tokens, cold).answers(REQUESTS)
        greedy = Generator(pair[0], tokens, SETTINGS).answers(REQUESTS)
        assert [answer.text for answer in warm] == [answer.text for answer in greedy]


def test_features_of_other_lengths_go_together(
    pair: tuple[AffectGPT, Plain], tokens: Tokens
) -> None:
    lengths = [1, 3, 8, 8, 2, 3]
    mixed = [
        request(at, features={"face": rows(at, n, 768), "audio": rows(at, n + 1, 1024)})
        for at, n in enumerate(lengths)
    ]
    whole = Generator(pair[0], tokens, SETTINGS, 6).answers(mixed)
    assert whole == Generator(pair[0], tokens, SETTINGS, 1).answers(mixed)
    assert [answer.text for answer in whole] == [
        tokens.answer(pair[1].greedy(tokens, one)) for one in mixed
    ]


def test_modes_may_be_mixed(pair: tuple[AffectGPT, Plain], tokens: Tokens) -> None:
    asked = question("description")
    mixed = [
        REQUESTS[0],
        Request(prompt("textonly", asked, "Oh no!")),
        Request(prompt("frameonly", asked), {"frame": rows(1, 8, 768)}),
        Request(prompt("image", asked), {"image": rows(2, 1, 768), "face": rows(3, 8, 768)}),
    ]
    whole = Generator(pair[0], tokens, SETTINGS, 4).answers(mixed)
    assert whole == Generator(pair[0], tokens, SETTINGS, 1).answers(mixed)
    assert len({answer.text for answer in whole}) == 4


def test_action_unit_features_and_several_query_tokens(tokenizer_folder: Path) -> None:
    """As many rows as frames are described, for each sample; through a Q-Former for one modality."""
    config = Config(
        au_fusion="attention",
        au_queries=3,
        video_fusion="qformer",
        video_queries=4,
        audio_queries=2,
    )
    torch.manual_seed(0)
    model = shaken(AffectGPT(tiny_llm(3), config)).eval()
    tokens = Tokens.from_folder(tokenizer_folder, config.queries, au=True)
    mode = "multiface_audio_face_frame_au_text"
    asked = prompt(mode, question("ovlabel"), "Oh no!", au_features=True)
    requests = [
        request(at, prompt=asked, features={
            "face": rows(at, 8, 768), "frame": rows(at + 10, 8, 768),
            "audio": rows(at + 20, 8, 1024), "au": rows(at + 30, described, 512),
        })
        for at, described in enumerate((3, 1, 3))
    ]  # fmt: skip
    state, places = model.trained_state(), tokens.places
    table = model.llama_model.get_input_embeddings().weight
    for one in requests:
        face, frame, audio, au = (
            torch.tensor(one.features[name])[None] for name in ("face", "frame", "audio", "au")
        )
        vectors = {
            places["face"]: reference.temporal(state, "video", "qformer", face, 4)[0],
            places["frame"]: reference.temporal(state, "video", "qformer", frame, 4)[0],
            places["audio"]: reference.temporal(state, "audio", "attention", audio, 2)[0],
            places["multi"]: reference.multi(state, "attention", face, audio, 1)[0],
            places["au"]: reference.temporal(state, "au", "attention", au, 3)[0],
        }
        with torch.no_grad():
            given = embedded(model, tokens, one)[0]
            same(given, reference.embedded(table, list(tokens.encode(asked).ids), vectors))
    whole = Generator(model, tokens, SETTINGS, 3).answers(requests)
    assert whole == Generator(model, tokens, SETTINGS, 1).answers(requests)
    assert len({answer.text for answer in whole}) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_language_model_of_half_precision(tokens: Tokens, dtype: torch.dtype) -> None:
    """Adapters and fusion stay in float32, as AffectGPT has them."""
    model = AffectGPT(tiny_llm(3, dtype=dtype))
    assert (model.dtype, model.image_llama_proj.weight.dtype) == (dtype, torch.float32)
    assert {p.dtype for n, p in model.named_parameters() if ".lora_" in n} == {torch.float32}
    generator = Generator(model, tokens, SETTINGS)
    assert generator.answers(REQUESTS[:2]) == generator.answers(REQUESTS[:2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_stored_features_that_cannot_be_written_to(
    pair: tuple[AffectGPT, Plain], tokens: Tokens, dtype: type
) -> None:
    one = REQUESTS[0]
    stored = {name: np.asarray(value).astype(dtype) for name, value in one.features.items()}
    for value in stored.values():
        value.flags.writeable = False
    live = {name: torch.tensor(value) for name, value in stored.items()}
    generator = Generator(pair[0], tokens, SETTINGS)
    two = generator.answers([request(0, features=stored), request(0, features=live)])
    assert two[0] == two[1]


def test_a_long_subtitle_is_cut_and_told(pair: tuple[AffectGPT, Plain], tokens: Tokens) -> None:
    subtitle = " ".join(f"word{number}" for number in range(200))
    long = request(0, prompt=prompt(MODE, question("ovlabel"), subtitle))
    tight = Settings(max_new_tokens=4, max_length=204)
    answer = Generator(pair[0], tokens, tight).answers([long])[0]
    assert subtitle.startswith(answer.cut)
    left = subtitle.removeprefix(answer.cut)
    short = request(0, prompt=prompt(MODE, question("ovlabel"), left))
    assert Generator(pair[0], tokens, tight).answers([short])[0].text == answer.text


class TestMemory:
    def test_where_it_does_not_suffice_the_batch_is_halved_and_nothing_is_lost(
        self, pair: tuple[AffectGPT, Plain], tokens: Tokens
    ) -> None:
        expected = Generator(pair[0], tokens, SETTINGS).answers(REQUESTS)
        seen: list[int] = []
        with limited(pair[0], 2, seen):
            generator = Generator(pair[0], tokens, SETTINGS, 7)
            assert generator.answers(REQUESTS) == expected
        assert generator.most == 1 or max(seen[seen.index(2) :]) == 2
        assert seen[0] == 7

    def test_where_it_does_not_suffice_for_one(
        self, pair: tuple[AffectGPT, Plain], tokens: Tokens
    ) -> None:
        with (
            limited(pair[0], 0, []),
            pytest.raises(MerstoreError, match=r"sample_\d: not enough memory for one request"),
        ):
            Generator(pair[0], tokens, SETTINGS).answers(REQUESTS)


class limited:
    """A language model that has memory for so many rows."""

    def __init__(self, model: AffectGPT, rows: int, seen: list[int]) -> None:
        def forward(module: Any, args: Any, given: Any) -> None:
            batch = next(
                v for v in (given.get("inputs_embeds"), given.get("input_ids")) if v is not None
            )
            seen.append(len(batch))
            if len(batch) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        self.forward = forward
        self.llm = model.llama_model.get_base_model()

    def __enter__(self) -> None:
        self.hook = self.llm.register_forward_pre_hook(self.forward, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"features": {"face": rows(1, 8, 768)}}, "sample_0: the prompt needs features of audio"),
    ({"features": {}}, "sample_0: the prompt needs features of audio, face"),
    ({"multi": None}, "sample_0: the prompt has a place for fused features"),
    ({"multi": "frame"}, "sample_0: the prompt needs features of frame"),
    (
        {"features": {"face": rows(1, 8, 512), "audio": rows(2, 8, 1024)}},
        r"sample_0: face: features of shape \[1, 8, 512\]",
    ),
    ({"prompt": "<FaceHere> and <FaceHere>"}, "sample_0: <FaceHere> stands more than once"),
    ({"prompt": "word " * 2000}, "sample_0: the prompt has .* tokens .* and 990 are left"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_answered_is_refused_by_name(
    pair: tuple[AffectGPT, Plain], tokens: Tokens, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MerstoreError, match=message):
        Generator(pair[0], tokens, SETTINGS).answers([request(0, **changes)])


def test_a_tokenizer_of_another_model_is_refused(tokens: Tokens) -> None:
    small = AffectGPT(tiny_llm(vocabulary=1000))
    with pytest.raises(MerstoreError, match=r"sample_0: token \d+ .* language model's 1000"):
        Generator(small, tokens, SETTINGS).answers(REQUESTS[:1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 2000}, "max_new_tokens is 2000"),
        ({"temperature": 0.0}, r"temperature 0\.0"),
        ({"top_p": 0.0}, r"top_p 0\.0"),
        ({"top_k": -1}, "top_k -1"),
    ],
)
def test_settings_that_there_are_not_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MerstoreError, match=message):
        Settings(**fields)


def test_no_requests_no_answers(pair: tuple[AffectGPT, Plain], tokens: Tokens) -> None:
    assert Generator(pair[0], tokens, SETTINGS).answers([]) == []


def test_from_files_to_an_answer(tmp_path: Path, tokenizer_folder: Path) -> None:
    """A checkpoint, a language model's folder, features: the same as the model that was saved."""
    from merstore.models.affectgpt import open_model, save

    llm = tiny_llm(3)
    llm.save_pretrained(tmp_path / "llm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "llm" / name).write_bytes((tokenizer_folder / name).read_bytes())
    trained = shaken(AffectGPT(llm))
    path = save(tmp_path / "checkpoint.pth", trained, epoch=30)

    model, report = open_model(path, tmp_path / "llm", device="cpu")
    assert report.complete
    tokens = Tokens.from_folder(tmp_path / "llm", model.config.queries)
    found = answers(model, tokens, REQUESTS)
    assert found == answers(trained, tokens, REQUESTS)


def answers(model: AffectGPT, tokens: Tokens, requests: Sequence[Request]) -> list[str]:
    return [answer.text for answer in Generator(model, tokens, SETTINGS).answers(requests)]

"""Placeholders, endings and answers, with the tokenizer of Qwen2.5."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from merstore.errors import EncoderError, MerstoreError
from merstore.models.affectgpt import Config, Tokens

PROMPT = (
    "###Human: The audio content is as follows: <Audio><AudioHere></Audio>. "
    "The subtitle of this video is: <Subtitle>{}</Subtitle>. What now? ###Assistant: "
)

pytestmark = pytest.mark.shared


def test_placeholders_have_the_ids_of_the_released_checkpoints(tokens: Tokens) -> None:
    assert tokens.places == {
        "image": 151665, "audio": 151666, "frame": 151667, "face": 151668, "multi": 151669,
    }  # fmt: skip


def test_action_units_come_last(tokenizer_folder: Path) -> None:
    tokens = Tokens.from_folder(tokenizer_folder, Config().queries, au=True)
    assert tokens.places["au"] == 151670


def test_padding_and_beginning(tokens: Tokens) -> None:
    assert tokens.pad == tokens.eos == 151645
    assert tokens.tokenizer.bos_token_id == 151644


def test_endings(tokens: Tokens) -> None:
    assert tokens.stops == ((151645,), (14374,), (565, 2), (2, 565))


def test_a_prompt_is_tokenised_without_anything_around_it(tokens: Tokens) -> None:
    encoded = tokens.encode("###Human: <ImageHere> ###Assistant: ")
    assert encoded.ids[:4] == (14374, 33975, 25, 220)
    assert encoded.ids[4] == 151665
    assert encoded.ids[-2:] == (25, 220)
    assert (encoded.places, encoded.cut) == ({"image"}, "")


def test_a_placeholder_is_repeated_as_often_as_there_are_vectors(tokenizer_folder: Path) -> None:
    queries = Config(video_queries=3, audio_queries=2).queries
    tokens = Tokens.from_folder(tokenizer_folder, queries)
    ids = tokens.encode("a <FaceHere> b <FrameHere> c <AudioHere> d <MultiHere>").ids
    text = tokens.tokenizer.decode(ids)
    assert text == (
        "a <FaceHere><FaceHere><FaceHere> b <FrameHere><FrameHere><FrameHere> c "
        "<AudioHere><AudioHere> d <MultiHere>"
    )
    assert [ids.count(tokens.places[name]) for name in ("face", "frame", "audio", "multi")] == [
        3, 3, 2, 1,
    ]  # fmt: skip


def test_a_placeholder_in_a_subtitle_is_refused(tokens: Tokens) -> None:
    with pytest.raises(MerstoreError, match="<AudioHere> stands more than once"):
        tokens.encode(PROMPT.format("He said <AudioHere>."))


class TestTooLong:
    """What is cut is the beginning of the nonverbal clues, then of the subtitle, and it is said."""

    LONG = " ".join(f"word{number}" for number in range(400))

    def test_the_subtitle_keeps_its_end_and_all_else_stays(self, tokens: Tokens) -> None:
        whole = tokens.encode(PROMPT.format(self.LONG))
        limit = len(whole.ids) - 300
        encoded = tokens.encode(PROMPT.format(self.LONG), limit)
        assert len(encoded.ids) <= limit
        assert len(encoded.ids) >= limit - 2  # no more than needed
        assert self.LONG.startswith(encoded.cut)
        left = self.LONG.removeprefix(encoded.cut)
        assert tokens.tokenizer.decode(encoded.ids) == PROMPT.format(left)
        assert encoded.places == {"audio"}

    def test_what_fits_is_untouched(self, tokens: Tokens) -> None:
        whole = tokens.encode(PROMPT.format(self.LONG))
        assert tokens.encode(PROMPT.format(self.LONG), len(whole.ids)) == whole

    def test_clues_go_first(self, tokens: Tokens) -> None:
        prompt = f"<FaceHere> <Nonverbal>{self.LONG}</Nonverbal> <Subtitle>said</Subtitle> so?"
        encoded = tokens.encode(prompt, 100)
        assert len(encoded.ids) <= 100
        assert self.LONG.startswith(encoded.cut)
        assert "<Subtitle>said</Subtitle> so?" in tokens.tokenizer.decode(encoded.ids)

    def test_then_the_subtitle(self, tokens: Tokens) -> None:
        prompt = f"<FaceHere> <Nonverbal>frown</Nonverbal> <Subtitle>{self.LONG}</Subtitle> so?"
        encoded = tokens.encode(prompt, 60)
        assert len(encoded.ids) <= 60
        assert "<Nonverbal></Nonverbal>" in tokens.tokenizer.decode(encoded.ids)
        assert encoded.cut.startswith("frown word0 ")

    def test_a_question_that_is_too_long_is_refused(self, tokens: Tokens) -> None:
        with pytest.raises(MerstoreError, match=r"and 50 are left for it: shorten the question"):
            tokens.encode(PROMPT.format("said") + self.LONG, 50)

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        text=st.text(
            st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>"), min_size=60
        ),
        limit=st.integers(45, 90),
    )
    def test_whatever_is_said(self, tokens: Tokens, text: str, limit: int) -> None:
        encoded = tokens.encode(PROMPT.format(text), limit)
        assert len(encoded.ids) <= limit
        assert encoded.ids.count(tokens.places["audio"]) == 1
        assert text.startswith(encoded.cut)


def test_a_batch_is_padded_on_the_left(tokens: Tokens) -> None:
    ids, mask = tokens.batch([(5, 6, 7), (8,)])
    assert ids.tolist() == [[5, 6, 7], [151645, 151645, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("output", "end"),
    [
        ([11, 22, 151645, 33], 3),
        ([11, 14374, 33], 2),
        ([14374], 1),
        ([11, 565, 2, 33], 3),
        ([11, 2, 565, 33], 3),
        ([565, 11, 2], None),
        ([2], None),
        ([], None),
        ([565, 2, 14374, 151645], 2),
    ],
)
def test_where_an_answer_ends(tokens: Tokens, output: list[int], end: int | None) -> None:
    assert tokens.ended(output) == end


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("The character's emotional state is sad.###", "The character's emotional state is sad."),
        ("sad, calm.<|im_end|>", "sad, calm."),
        ("sad.<|im_end|>glad.<|im_end|>", "sad."),
        ("before<|im_start|>after<|im_start|>more", "after<|im_start|>more"),
        ("a ### b ### c", "a ### b"),
        ("###Assistant: In the text, yes. ###", "In the text, yes."),
        ("one Assistant: two Assistant: three", "three"),
        ("  no ending at all ", "no ending at all"),
        ("", ""),
        ("###", ""),
        ("很难过。###", "很难过。"),
    ],
)
def test_what_the_answer_is(tokens: Tokens, output: str, answer: str) -> None:
    assert tokens.answer(tokens.tokenizer(output).input_ids) == answer


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"{re.escape(str(tmp_path))}: no tokenizer"):
        Tokens.from_folder(tmp_path, Config().queries)


def test_a_tokenizer_without_an_ending_is_refused() -> None:
    words = Tokenizer(WordLevel({"word": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(MerstoreError, match="no eos_token"):
        Tokens(PreTrainedTokenizerFast(tokenizer_object=words), Config().queries)

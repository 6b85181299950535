"""What is odd about a transcript: empty, a failed recognition, another language."""

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from merstore.extract.transcript import check_text
from merstore.quality import FLAGS


def flags(text: str, language: str | None = None) -> tuple[str, ...]:
    return check_text(text, language).flags


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_empty(text: str) -> None:
    assert flags(text) == flags(text, "zh") == ("empty_text",)


@pytest.mark.parametrize("text", ["<|zh-CN|>", " <|en|> ", "……", "。", "<|zh|><|NEUTRAL|>!", "-"])
def test_failed_recognition(text: str) -> None:
    assert flags(text) == flags(text, "en") == ("failed_text",)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Yeah.", "zh"),
        ("Okay thank you very much 好", "zh"),
        ("<|zh-CN|>I do not know", "zh"),
        ("Iloveyouverymuch", "zh"),  # the recogniser's, without blanks
        ("ありがとう", "zh"),
        ("你说什么", "en"),
        ("Спасибо", "en"),
    ],
)
def test_another_language(text: str, language: str) -> None:
    assert flags(text, language) == ("wrong_language",)
    assert flags(text) == ()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("你好。", "zh"),
        ("OK，好", "zh"),
        ("我要买一个 iPhone 手机", "zh"),
        ("嗯", "zh"),
        ("12 34", "zh"),
        ("Café, naïve!", "en"),
        ("He said 你好 to me", "en"),
        ("<|en|>Yes", "en"),
        ("Здравствуйте", "ru"),  # not one of those that are told apart
    ],
)
def test_its_own_language(text: str, language: str) -> None:
    assert flags(text, language) == ()


@given(st.text(), st.sampled_from([None, "zh", "en", "de"]))
def test_any_text_has_at_most_one_flag_and_its_facts(text: str, language: str | None) -> None:
    quality = check_text(text, language)
    assert set(quality.flags) <= set(FLAGS)
    assert len(quality.flags) <= 1
    assert quality.facts == {
        "characters": len(text),
        "content": xxhash.xxh3_128_hexdigest(text.encode(errors="surrogatepass")),
    }


def test_half_of_a_surrogate_pair_is_a_text_like_any_other() -> None:
    assert check_text("\ud800 a").facts["content"]

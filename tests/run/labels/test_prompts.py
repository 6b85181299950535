"""The prompts, and the clean-up of what comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.run.labels.prompts import PROMPTS, clean, render

MARKERS = ["输入", "输出", "翻译", "让我们来翻译一下：", "output", "Output", "input", "Input"]


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [
        ("[happy, sad]", "[happy, sad]"),
        ("  [happy]\n", "[happy]"),
        ("Output: [happy]", "[happy]"),
        ("output：[happy]", "[happy]"),
        ("输出：\n[happy,\n sad]", "[happy, sad]"),
        ("输入输出翻译: []", "[]"),  # each once, in this order
        ("翻译输出: []", "输出: []"),  # and in no other
        ("OutputOutput: []", "Output: []"),
        ("让我们来翻译一下：[]", "[]"),
        (":：[]", "[]"),
        ("：:[]", ":[]"),
        ("Output : [happy]", "[happy]"),
        ("The output: [happy]", "The output: [happy]"),
        ("OUTPUT: [happy]", "OUTPUT: [happy]"),
        ("Output:\n", ""),
        ("", ""),
    ],
)
def test_markers_and_colons_are_taken_off_an_answer(answer: str, cleaned: str) -> None:
    assert clean(answer) == cleaned


@given(st.lists(st.sampled_from([*MARKERS, ":", "：", " ", "\n", "[a]", "tab\t"])).map("".join))
def test_the_clean_up_is_that_of_the_notes_on_the_metrics(answer: str) -> None:
    plain = answer.strip()
    for marker in MARKERS:
        if plain[: len(marker)] == marker:
            plain = plain[len(marker) :]
    plain = plain.strip()
    if plain[:1] == ":":
        plain = plain[1:]
    if plain[:1] == "：":
        plain = plain[1:]
    plain = "".join(char for char in plain.strip() if char != "\n").strip()
    assert clean(answer) == plain


@given(st.text(), st.text())
def test_texts_stand_in_the_prompt_as_they_are(text: str, subtitle: str) -> None:
    told = render("<{text}|{subtitle}>", text=text, subtitle=subtitle)
    assert told == f"<{text}|{subtitle}>"


@pytest.mark.parametrize("task", PROMPTS)
def test_a_prompt_ends_in_what_is_asked_about_or_in_the_output(task: str) -> None:
    for prompt in PROMPTS[task].values():
        told = render(prompt, text="CLUES {text}", subtitle="WORDS {subtitle}")
        assert ("CLUES {text}" in told) == ("{text}" in prompt)
        assert ("WORDS {subtitle}" in told) == ("{subtitle}" in prompt)
        assert told.endswith(("Output:", "WORDS {subtitle}"))

"""Labels without a model."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import MerstoreError
from merstore.run.labels import Rule, extract
from merstore.score.labels import parse_labels
from merstore.score.wheels import WheelTables


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("She is happy, if a little jealous: happy.", "[happy, jealous]"),
        ("HAPPILY he spoke. Happily!", "[happily]"),
        ("jealousy... and sadness", "[jealousy, sadness]"),
        ("unhappyish; jealous-looking", "[jealous]"),
        ("he is not happy", "[happy]"),  # words, not what they mean
        ("a bold step", "[]"),  # a synonym of a word on the wheels, not one of them
        ("", "[]"),
        ("无", "[]"),
    ],
)
def test_the_words_of_the_wheels_are_found_in_a_text(
    tables: WheelTables, text: str, labels: str
) -> None:
    assert list(Rule(tables).answer("openset", [text])) == [labels]


@pytest.mark.parametrize(
    ("labels", "sentiment"),
    [
        ("[happy]", "positive"),
        ("[]", "neutral"),
        ("[sad, jealousy, happy]", "negative"),
        ("[jealous, happy]", "neutral"),
    ],
)
def test_a_sentiment_is_what_more_of_the_words_are(
    tables: WheelTables, labels: str, sentiment: str
) -> None:
    wheel = {**tables.wheels["M3W1-L1"], "happy": "happy"}  # the small wheel 1 has nothing good
    rule = Rule(
        WheelTables(
            tables.folder,
            tables.digests,
            tables.forms,
            tables.lemmas,
            {**tables.wheels, "M3W1-L1": wheel},
        )
    )
    assert list(rule.answer("sentiment", [labels])) == [sentiment]


def test_merging_is_refused(rule: Rule) -> None:
    with pytest.raises(MerstoreError, match="needs a language model"):
        rule.spec("merge")


@pytest.fixture(scope="module")
def published(shared: Path) -> Rule:
    return Rule(WheelTables.load(shared / "data" / "ov" / "emotion_wheel"))


@pytest.mark.shared
class TestOnThePublishedTables:
    @given(text=st.data())
    def test_the_longest_form_at_each_place_is_taken(
        self, published: Rule, text: st.DataObject
    ) -> None:
        heads = set().union(*published.tables.wheels.values())
        forms = sorted(f for f, lemmas in published.tables.forms.items() if heads & set(lemmas))
        words = text.draw(
            st.lists(st.sampled_from([*forms[::40], "at ease", "let down", "at", "ease", "x"]))
        )
        told = " ".join(words).split()
        split = {tuple(form.replace("-", " ").split()): form for form in forms}
        expected, place = [], 0
        while place < len(told):
            rest = len(told) - place
            lengths = [n for n in range(rest, 0, -1) if tuple(told[place : place + n]) in split]
            if lengths:
                expected.append(split[tuple(told[place : place + lengths[0]])])
                place += lengths[0]
            else:
                place += 1
        assert published.words(" ".join(words)) == list(dict.fromkeys(expected))

    def test_every_label_of_real_descriptions_is_in_the_tables(
        self, published: Rule, shared: Path
    ) -> None:
        from merstore.score.files import read_answers

        folder = shared / "data" / "ov" / "results-ovmerd" / "Chat-UniVi"
        texts = read_answers(folder / "output-reason-7b-subtitle-eng.npz").by_name
        found = extract(texts, published)
        assert list(found.answers) == list(texts)
        labels = [label for answer in found.answers.values() for label in parse_labels(answer)]
        assert len(labels) > 4 * len(texts)
        assert all(map(published.tables.known, labels))

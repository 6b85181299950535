"""Transcripts: exact, or reported as none with the reason; never replaced."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.corpora.table import TranscriptTable
from merstore.corpora.transcripts import Transcripts, read_transcripts, texts_from
from merstore.errors import MerstoreError

from .conftest import write_csv

ENGLISH = TranscriptTable("english", ("texts.csv#english",), "en")
CHINESE = TranscriptTable("chinese", ("texts.csv#chinese", "old.csv#sentence"), "zh")


def texts(folder: Path, *cells: str, table: TranscriptTable = ENGLISH) -> Transcripts:
    """Transcripts of samples s0, s1, ... with these cells."""
    rows = [[f"s{n}", cell] for n, cell in enumerate(cells)]
    write_csv(folder / "texts.csv", [["name", table.name], *rows])
    return read_transcripts(folder, table, [name for name, _ in rows])


def kinds(found: Transcripts) -> dict[str, str]:
    return {problem.sample: problem.kind for problem in found.problems}


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)


@given(st.lists(plain.map(lambda text: f"so {text}"), max_size=5))
def test_texts_come_as_they_stand(
    tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> None:
    found = texts(
        tmp_path_factory.mktemp("texts"), *said, table=TranscriptTable("x", ("texts.csv#x",))
    )
    assert list(found.texts.values()) == said
    assert not found.problems


def test_what_is_no_text_has_a_reason_and_no_text(tmp_path: Path) -> None:
    found = texts(tmp_path, "Good.", "", "  ", "nan", "NaN", "N/A", "None", "None.", "nano")
    assert found.texts == {"s0": "Good.", "s7": "None.", "s8": "nano"}
    assert kinds(found) == {
        "s1": "empty_text",
        "s2": "empty_text",
        **dict.fromkeys(("s3", "s4", "s5", "s6"), "nan_text"),
    }
    assert found.problems[2].message == "texts.csv: 'nan' under english"


def test_a_sample_without_a_row_and_rows_of_other_samples(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "texts.csv", [["name", "english"], ["a", "One."], ["x", "Other."], ["y", ""]]
    )
    found = read_transcripts(tmp_path, ENGLISH, ["b", "a"])
    assert (found.texts, found.others) == ({"a": "One."}, 2)
    assert kinds(found) == {"b": "missing_text"}


def test_shifted_rows_give_no_text_from_the_wrong_column(tmp_path: Path) -> None:
    lines = "name,chinese,english\na,好，,好,Good\nb,Bye\nc,是,Yes\n,,\n"
    (tmp_path / "texts.csv").write_text(lines, encoding="utf-8")
    found = read_transcripts(tmp_path, ENGLISH, ["a", "b", "c"])
    assert found.texts == {"c": "Yes"}
    assert kinds(found) == {"a": "shifted_row", "b": "shifted_row", "": "bad_name"}


def test_rows_that_differ_leave_the_sample_without_a_text(tmp_path: Path) -> None:
    rows = [["name", "english"], ["a", "One."], ["a", "Two."], ["b", "Same."], ["b", "Same."]]
    write_csv(tmp_path / "texts.csv", rows)
    found = read_transcripts(tmp_path, ENGLISH, ["a", "b"])
    assert found.texts == {"b": "Same."}
    assert kinds(found) == {"a": "ambiguous_text"}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    data = "name,chinese\na,你好\nb,再见\nc,".encode() + b"\xe4\xbd\n"
    (tmp_path / "texts.csv").write_bytes(data)
    found = read_transcripts(tmp_path, CHINESE, ["a", "b", "c"])
    assert found.texts == {"a": "你好", "b": "再见"}
    assert kinds(found) == {"c": "undecodable"}


def test_texts_that_look_wrong_stay_and_are_remarked_on(tmp_path: Path) -> None:
    said = ["你好", "Yeah.", "<|zh-CN|>", "OK，好", "123", "……"]
    found = texts(tmp_path, *said, table=CHINESE)
    assert list(found.texts.values()) == said
    assert kinds(found) == {"s1": "wrong_language", "s2": "failed_text", "s5": "failed_text"}
    assert found.problems[0].message == "texts.csv: 'Yeah.' is not zh"
    assert found.problems[1].message == "texts.csv: '<|zh-CN|>' and no words"
    assert kinds(texts(tmp_path, "Hello", "你说什么", "123")) == {"s1": "wrong_language"}


def test_the_first_file_that_is_there_counts(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"no transcript file texts\.csv nor old\.csv"):
        read_transcripts(tmp_path, CHINESE, ["a"])
    write_csv(tmp_path / "old.csv", [["name", "sentence"], ["a", "旧"]])
    assert read_transcripts(tmp_path, CHINESE, ["a"]).texts == {"a": "旧"}
    write_csv(tmp_path / "texts.csv", [["name", "chinese"], ["a", "新"]])
    assert read_transcripts(tmp_path, CHINESE, ["a"]).texts == {"a": "新"}


def test_a_missing_column_is_an_error_not_empty_texts(tmp_path: Path) -> None:
    write_csv(tmp_path / "texts.csv", [["name", "english"], ["a", "One."]])
    with pytest.raises(
        MerstoreError, match=r"texts\.csv: no column 'chinese'; it has: name, english"
    ):
        read_transcripts(tmp_path, CHINESE, ["a"])


def test_the_texts_of_a_file_of_yours(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        "name,chinese,mood\na,你好,x\nb,nan,\nc,a,b,c\n,d,e\n".encode("gbk")
    )
    found = texts_from(tmp_path / "t.csv")
    assert (found.name, found.language) == ("chinese", "zh")
    assert found.texts == {"a": "你好"}
    assert kinds(found) == {"b": "nan_text", "c": "shifted_row", "": "bad_name"}
    assert texts_from(tmp_path / "t.csv", "mood").texts == {"a": "x"}
    assert texts_from(tmp_path / "t.csv", "mood").language is None


def test_a_file_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("names\tsentence\na\tOne, two.\nb\t\n", encoding="utf-16")
    found = texts_from(tmp_path / "t.tsv")
    assert (found.texts, found.language) == ({"a": "One, two."}, None)
    assert kinds(found) == {"b": "empty_text"}


def test_a_file_whose_column_cannot_be_told(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [["name", "chinese", "english"], ["a", "好", "Good."]])
    with pytest.raises(
        MerstoreError, match=r"name the column with the texts; it has chinese, engl"
    ):
        texts_from(tmp_path / "t.csv")
    assert texts_from(tmp_path / "t.csv", "english").texts == {"a": "Good."}
    with pytest.raises(MerstoreError, match="no column 'text'"):
        texts_from(tmp_path / "t.csv", "text")
    write_csv(tmp_path / "u.csv", [["name", "said"], ["a", "x"]])
    with pytest.raises(MerstoreError, match="it has name, said"):
        texts_from(tmp_path / "u.csv")
    with pytest.raises(MerstoreError, match="No such file"):
        texts_from(tmp_path / "v.csv")

"""csv files: encodings, broken rows, what is reported and what is refused."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.corpora.sheet import is_undecoded, read_sheet
from merstore.errors import MerstoreError

TEXT = "name,chinese,english\r\na,你好。,Hello.\r\nb,再见！,Bye!\r\n"
ROWS = [
    ("a", {"name": "a", "chinese": "你好。", "english": "Hello."}),
    ("b", {"name": "b", "chinese": "再见！", "english": "Bye!"}),
]


def sheet(folder: Path, data: bytes) -> Path:
    path = folder / "texts.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"])
@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
def test_every_encoding_and_line_end_of_the_field(
    tmp_path: Path, encoding: str, newline: str
) -> None:
    read = read_sheet(sheet(tmp_path, TEXT.replace("\r\n", newline).encode(encoding)))
    assert read.columns == ("name", "chinese", "english")
    assert (read.rows, read.problems) == (ROWS, [])


def test_a_workbook_is_read_as_the_csv_file_that_it_would_be(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["name", "chinese", "english"],
        ["a", "你好。", "Hello."],
        [],
        ["b", "再见！", "Bye!"],
    ):
        book.active.append(row)
    book.active.append(["c", 1.5, None])
    book.save(tmp_path / "texts.xlsx")
    read = read_sheet(tmp_path / "texts.xlsx")
    assert read.columns == ("name", "chinese", "english")
    assert read.rows == [*ROWS, ("c", {"name": "c", "chinese": "1.5", "english": ""})]
    assert read.problems == []


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "texts.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MerstoreError, match=r"texts\.xlsx: no readable xlsx file"):
        read_sheet(tmp_path / "texts.xlsx")


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(cells, cells), max_size=6))
def test_what_csv_writes_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([("name", "one", "two"), *((f"s{n}", *row) for n, row in enumerate(rows))])
    read = read_sheet(sheet(tmp_path_factory.mktemp("csv"), out.getvalue().encode()))
    assert [(c["one"], c["two"]) for _, c in read.rows] == rows
    assert [name for name, _ in read.rows] == [f"s{n}" for n in range(len(rows))]


def test_a_quoted_cell_may_span_lines_and_blank_lines_are_none(tmp_path: Path) -> None:
    read = read_sheet(sheet(tmp_path, b'name,english\n\na,"one,\ntwo ""said"""\n\n'))
    assert read.rows == [("a", {"name": "a", "english": 'one,\ntwo "said"'})]


def test_broken_rows_are_reported_with_their_sample_and_line_and_left_out(tmp_path: Path) -> None:
    data = b'name,english\na,one, two\nb\nc,"x" y\nname,english\n,nobody\nd/e,slash\nf,good\n'
    read = read_sheet(sheet(tmp_path, data))
    assert read.rows == [("f", {"name": "f", "english": "good"})]
    assert [(p.kind, p.sample) for p in read.problems] == [
        ("shifted_row", "a"),
        ("shifted_row", "b"),
        ("bad_quotes", "c"),
        ("repeated_header", ""),
        ("bad_name", ""),
        ("bad_name", ""),
    ]
    assert read.problems[0].message == "texts.csv, line 2: 3 cells under 2 columns"
    assert "d/e" in read.problems[-1].message


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path) -> None:
    read = read_sheet(sheet(tmp_path, b'name,english\na,one\nb,"two\nc,three\nd,four\n'))
    assert [name for name, _ in read.rows] == ["a", "c", "d"]
    assert [(p.kind, p.sample) for p in read.problems] == [("bad_quotes", "b")]


def test_a_few_broken_bytes_do_not_make_the_others_nonsense(tmp_path: Path) -> None:
    data = TEXT.encode().replace("再见".encode(), b"\xd4\xd9\xbc\xfb") + "c,好,Good\n".encode()
    read = read_sheet(sheet(tmp_path, data))
    assert [is_undecoded(cells["chinese"]) for _, cells in read.rows] == [False, True, False]
    assert read.rows[2][1]["chinese"] == "好"


def test_western_text_in_an_old_encoding_is_not_taken_for_chinese(tmp_path: Path) -> None:
    data = "name,english\na,I don’t know.\nb,Plain.\nc,A café?\nd,Été\n".encode("cp1252")
    read = read_sheet(sheet(tmp_path, data))
    assert [is_undecoded(cells["english"]) for _, cells in read.rows] == [True, False, True, True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no header"),
        (b"clip,english\na,b\n", "a column 'name'"),
        (b"name;english\na;b\n", "commas between"),
        (b"name,english,english\na,b,c\n", "none twice"),
        (b'"name,english\na,b\n', "no header"),
        (b"\xff\xfen", "damaged UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(MerstoreError, match=r"texts\.csv.*" + message):
        read_sheet(sheet(tmp_path, data))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"texts\.csv: No such file"):
        read_sheet(tmp_path / "texts.csv")


def test_a_file_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text('name\tenglish\na\tone, two\nb\n"c"\t"x" y\n', encoding="utf-8")
    read = read_sheet(path)
    assert read.rows == [("a", {"name": "a", "english": "one, two"})]
    assert [problem.kind for problem in read.problems] == ["shifted_row", "bad_quotes"]

"""The key: which view paths and sample names there are, and how the others are refused."""

import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sample_names

from merstore import InvalidKey
from merstore.store.keys import MAX_BYTES, ViewPath, check_alias, parse_view, sample_key

segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("mer2023/frame@CLIP_VIT_LARGE/uniform_8frms",
         ("mer2023", "frame", "CLIP_VIT_LARGE", "uniform_8frms")),
        ("meld/text/UTT", ("meld", "text", None, "UTT")),
        ("a/b@c/d", ("a", "b", "c", "d")),
        ("0/1@multi.CLIP+HUBERT-v2_x/3", ("0", "1", "multi.CLIP+HUBERT-v2_x", "3")),
    ],
)  # fmt: skip
def test_a_view_path_has_four_parts(path: str, parts: tuple[str | None, ...]) -> None:
    assert parse_view(path) == ViewPath(*parts)
    assert str(parse_view(path)) == path


@given(segments, segments, st.none() | segments, segments)
def test_a_path_of_legal_segments_is_legal(
    dataset: str, modality: str, encoder: str | None, sampling: str
) -> None:
    parts = ViewPath(dataset, modality, encoder, sampling)
    assert parse_view(str(parts)) == parts


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//", "a", "a/b", "a/b/c/d", "a//c", "/b/c", "a/b/", "a/@b/c", "a/b@/c", "a/b@c@d/e",
        "a@b/c/d", "a/b/c@d", "_a/b/c", "-a/b/c", ".a/b/c", "a/b@_c/d", "a b/c/d", "a/b/ç", "a/b/c\n",
        "a/b\0/c", "é/b/c", "a/b@c/d ", "a/" + "b" * 400 + "/c", "١/b/c",
    ],
)  # fmt: skip
def test_other_paths_are_refused_with_an_example(path: str) -> None:
    with pytest.raises(InvalidKey, match="dataset/modality"):
        parse_view(path)


@pytest.mark.parametrize("path", [None, 3, b"a/b/c", ("a", "b", "c")])
def test_a_path_is_text(path: object) -> None:
    with pytest.raises(InvalidKey):
        parse_view(path)  # type: ignore[arg-type]


def test_a_view_path_has_at_most_400_bytes() -> None:
    assert parse_view("a/b/" + "c" * 396)
    with pytest.raises(InvalidKey):
        parse_view("a/b/" + "c" * 397)


@given(sample_names())
def test_a_sample_name_is_stored_as_its_utf8(name: str) -> None:
    assert sample_key(name) == name.encode()


@given(st.text(max_size=500))
def test_every_other_text_is_refused(name: str) -> None:
    legal = (
        name
        and "/" not in name
        and not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
        and len(name.encode()) <= MAX_BYTES
    )
    if legal:
        assert sample_key(name) == name.encode()
    else:
        with pytest.raises(InvalidKey):
            sample_key(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("a/b", "'/'"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        ("a\x85b", "control character"),
        ("x" * 401, "401 bytes"),
        ("é" * 201, "402 bytes"),
        ("clip\udcff", "not valid Unicode"),
        (b"sample", "text, not bytes"),
        (7, "text, not int"),
        (None, "text, not NoneType"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: object, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason) as caught:
        sample_key(name)  # type: ignore[arg-type]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_names_that_look_alike_are_different() -> None:
    assert sample_key("é") != sample_key("e\u0301")


@pytest.mark.parametrize("alias", ["", 3, "x" * 401, "folder\udcff"])
def test_an_alias_is_a_folder_name(alias: object) -> None:
    check_alias("chinese-hubert-large-UTT")
    with pytest.raises(InvalidKey, match="alias"):
        check_alias(alias)  # type: ignore[arg-type]

"""What there is of a sample, and what it says where something is not."""

from pathlib import Path

import pytest

from merstore.errors import DecodeError
from merstore.extract.material import PARTS, Material, Materials


def test_what_there_is_is_given(tmp_path: Path) -> None:
    clip = Material.of_clip("a", tmp_path / "a.mp4")
    assert clip.file("video") == clip.file("audio") == tmp_path / "a.mp4"
    assert Material("a", text="Yes.").transcript() == "Yes."
    assert Material("a", text="").transcript() == ""


@pytest.mark.parametrize("part", PARTS)
def test_what_there_is_not_is_refused_with_its_kind(part: str) -> None:
    with pytest.raises(DecodeError) as refused:
        Material("a").refuse(part)
    assert refused.value.path == "a"
    assert refused.value.kind in {"no_video", "no_audio", "no_face", "no_au_info", "missing_text"}
    told = Material("a", lacks={part: ("a_kind", "why")})
    with pytest.raises(DecodeError, match=r"a: why \(a_kind\)"):
        told.transcript() if part == "text" else told.file(part)


def test_samples_are_whatever_is_named_anywhere() -> None:
    materials = Materials(
        {"b": Path("b.mp4")},
        sounds={"a": Path("a.wav"), "b": Path("b.wav")},
        faces={"c": Path("c.npy")},
        analyses={"d": Path("d.json")},
        texts={"é": "Oui."},
        language="en",
        lacks={"face": {"b": ("no_face", "nobody"), "f": ("no_face", "nobody")}},
    )
    assert list(materials) == ["a", "b", "c", "d", "f", "é"]
    assert len(materials) == 6
    assert materials["b"] == Material(
        "b",
        video=Path("b.mp4"),
        audio=Path("b.wav"),
        language="en",
        lacks={"face": ("no_face", "nobody")},
    )
    assert materials["é"].transcript() == "Oui."
    assert (materials["a"].video, materials["a"].audio) == (None, Path("a.wav"))
    with pytest.raises(KeyError):
        materials["e"]

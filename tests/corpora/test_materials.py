"""What there is of each sample: of a corpus, and of folders and a file."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from merstore.corpora import CorpusMaterials, beside, open_corpus, texts_from
from merstore.errors import DecodeError, MerstoreError
from merstore.extract.clips import Clips
from merstore.extract.material import Material
from merstore.extract.mer_factory import MerFactory
from merstore.store.entry import KIND

from .conftest import write_csv, write_media

NAMES = ["sample_00000002", "sample_00000001", "sample_00000003", "sample_00000004"]


def of(root: Path, **options: object) -> CorpusMaterials:
    return CorpusMaterials(open_corpus("mer2023", root), **options)  # type: ignore[arg-type]


def lacks(material: Material, part: str) -> tuple[str, str]:
    with pytest.raises(DecodeError) as refused:
        material.transcript() if part == "text" else material.file(part)
    assert refused.value.path == material.name
    assert KIND.match(refused.value.kind)
    return refused.value.kind, refused.value.message


def test_a_corpus_knows_the_files_and_text_of_each_sample(mer2023: Path) -> None:
    materials = of(mer2023)
    assert list(materials) == [*NAMES, "samplenew_00000005"]
    assert materials["sample_00000001"] == Material(
        "sample_00000001",
        video=mer2023 / "video/sample_00000001.mp4",
        audio=mer2023 / "audio/sample_00000001.wav",
        face=mer2023 / "openface_face/sample_00000001.npy",
        text='line 1, "said"',
        language="en",
    )
    assert materials["samplenew_00000005"].video == mer2023 / "video/samplenew_00000005.avi"
    chinese = of(mer2023, transcript="chinese")["sample_00000001"]
    assert (chinese.text, chinese.language) == ("第1句，好。", "zh")
    with pytest.raises(KeyError):
        materials["sample_00000009"]
    assert dict(pickle.loads(pickle.dumps(materials))) == dict(materials)


def test_some_samples_in_an_order_of_yours(mer2023: Path) -> None:
    assert list(of(mer2023, names=NAMES[2:0:-1])) == NAMES[2:0:-1]
    with pytest.raises(MerstoreError, match="corpus mer2023 has no sample 'x'"):
        of(mer2023, names=["sample_00000001", "x"])


def test_what_a_sample_lacks_has_the_kind_that_the_corpus_gives_it(mer2023: Path) -> None:
    first, second, third, fourth = NAMES
    (mer2023 / f"video/{first}.mp4").unlink()
    (mer2023 / f"audio/{first}.wav").unlink()
    (mer2023 / f"openface_face/{second}.npy").write_bytes(b"")
    rows = [["name", "chinese", "english"], [first, "好", " "], [second, "好", "nan"]]
    write_csv(mer2023 / "transcription-engchi-polish.csv", [*rows, [third, "好", "a", "b"]])
    materials = of(mer2023)
    assert lacks(materials[first], "video")[0] == "missing_file"
    assert lacks(materials[first], "audio")[0] == "missing_file"
    assert materials[first].face is not None
    kind, message = lacks(materials[second], "face")
    assert (kind, message) == ("empty_file", f"openface_face/{second}.npy has no bytes")
    assert {name: lacks(materials[name], "text")[0] for name in NAMES} == {
        first: "empty_text",
        second: "nan_text",
        third: "shifted_row",
        fourth: "missing_text",
    }
    assert lacks(materials[first], "au")[0] == "no_au_info"


def test_sound_is_the_clips_only_where_there_are_no_sound_files_at_all(mer2023: Path) -> None:
    for file in (mer2023 / "audio").iterdir():
        file.unlink()
    assert lacks(of(mer2023)[NAMES[0]], "audio")[0] == "missing_file"
    (mer2023 / "audio").rmdir()
    assert of(mer2023)[NAMES[0]].audio == mer2023 / f"video/{NAMES[0]}.mp4"
    (mer2023 / f"video/{NAMES[1]}.mp4").unlink()
    kind, message = lacks(of(mer2023)[NAMES[1]], "audio")
    assert kind == "missing_file"
    assert f"video/{NAMES[1]}.mp4" in message


def test_without_a_file_of_texts_only_a_text_that_is_named_is_an_error(mer2023: Path) -> None:
    (mer2023 / "transcription-engchi-polish.csv").unlink()
    kind, message = lacks(of(mer2023)[NAMES[0]], "text")
    assert kind == "missing_text"
    assert "no transcript file transcription-engchi-polish.csv" in message
    with pytest.raises(MerstoreError, match="no transcript file"):
        of(mer2023, transcript="english")


def analyse(root: Path, *names: str) -> None:
    for name in names:
        file = root / name / f"{name}_au_analysis.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"summary_description": {"1": "Smiles."}}))


def test_a_corpus_with_analyses_by_mer_factory(tmp_path: Path, mer2023: Path) -> None:
    analyse(tmp_path / "out" / "MER2023", NAMES[0])
    log = tmp_path / "out" / "MER2023" / "error_logs" / f"{NAMES[1]}_error.log"
    log.parent.mkdir()
    log.write_text("=== error ===\nOpenFace found nobody\n")
    materials = of(mer2023, analyses=MerFactory(tmp_path / "out", "mer2023"))
    assert materials[NAMES[0]].file("au").is_file()
    kind, message = lacks(materials[NAMES[1]], "au")
    assert kind == "missing_file"
    assert "OpenFace found nobody" in message
    assert lacks(materials[NAMES[2]], "au")[0] == "missing_file"


def test_a_corpus_without_labels_has_the_samples_that_have_media(
    tmp_path: Path, declare: Callable[[str], Path]
) -> None:
    own = declare(
        """
        own:
          media:
            video: {folders: v, files: "{name}.mp4"}
        """
    )
    with pytest.raises(MerstoreError, match="corpus own has no samples there"):
        CorpusMaterials(open_corpus("own", tmp_path, own))
    write_media(tmp_path, "v/{name}.mp4", ["b", "a"])
    materials = CorpusMaterials(open_corpus("own", tmp_path, own))
    clip = tmp_path / "v/a.mp4"
    assert list(materials) == ["a", "b"]
    assert (materials["a"].video, materials["a"].audio) == (clip, clip)
    assert lacks(materials["a"], "face") == ("no_face", "corpus own has no face")
    assert lacks(materials["a"], "text")[0] == "missing_text"


def test_what_lies_beside_a_folder_of_clips(tmp_path: Path) -> None:
    write_media(tmp_path, "clips/{name}.mp4", ["a", "b", "c"])
    write_media(tmp_path, "audio/{name}.wav", ["a"])
    write_media(tmp_path, "faces/{name}/{name}.npy", ["a", "e"])
    write_media(tmp_path, "faces/{name}.npy", ["b"])
    (tmp_path / "faces" / "c").mkdir()
    analyse(tmp_path / "out", "a", "d")
    write_csv(tmp_path / "t.csv", [["name", "chinese", "x"], ["a", "好", ""], ["b", "", ""]])
    materials = beside(
        Clips.from_directory(tmp_path / "clips"),
        faces=tmp_path / "faces",
        sounds=tmp_path / "audio",
        analyses=MerFactory(tmp_path / "out"),
        texts=texts_from(tmp_path / "t.csv"),
    )
    assert list(materials) == ["a", "b", "c", "d", "e"]
    assert materials["a"] == Material(
        "a",
        video=tmp_path / "clips/a.mp4",
        audio=tmp_path / "audio/a.wav",
        face=tmp_path / "faces/a/a.npy",
        au=tmp_path / "out/a/a_au_analysis.json",
        text="好",
        language="zh",
    )
    assert materials["b"].audio == tmp_path / "clips/b.mp4"
    assert materials["b"].face == tmp_path / "faces/b.npy"
    assert lacks(materials["b"], "text") == ("empty_text", "t.csv: nothing under chinese")
    assert lacks(materials["c"], "face")[0] == "no_face"
    assert lacks(materials["c"], "text")[0] == "missing_text"
    assert lacks(materials["d"], "video")[0] == "no_video"


def test_folders_that_hold_nothing_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MerstoreError, match="empty: no face tracks in it"):
        beside(faces=tmp_path / "empty")
    with pytest.raises(MerstoreError, match="empty: no sound files in it"):
        beside(sounds=tmp_path / "empty")
    with pytest.raises(MerstoreError, match="empty: no analyses"):
        beside(analyses=MerFactory(tmp_path / "empty"))
    with pytest.raises(MerstoreError, match="absent: no such folder"):
        beside(faces=tmp_path / "absent")

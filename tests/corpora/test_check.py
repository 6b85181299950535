"""A folder against its table: every hole is found, counted and named."""

from pathlib import Path

import pytest

from merstore.corpora import Finding, check, open_corpus

from .conftest import write_csv, write_media, write_npz


def findings(root: Path, key: str = "mer2023") -> list[Finding]:
    return check(open_corpus(key, root))


def problems(root: Path, key: str = "mer2023") -> dict[tuple[str, str], Finding]:
    """What is wrong, beside the sizes: a made-up corpus is smaller than the real one."""
    found = [f for f in findings(root, key) if f.problem and f.told != "wrong_count"]
    return {(f.what, f.told): f for f in found}


def test_of_a_complete_corpus_only_the_sizes_differ(mer2023: Path) -> None:
    found = findings(mer2023)
    assert [(f.what, f.told) for f in found if not f.problem] == [
        ("folder", str(mer2023)),
        ("labels 6way", "5 samples (train 2, test1 1, test2 1, test3 1)"),
        ("text english", "5 texts in transcription-engchi-polish.csv"),
        ("text chinese", "5 texts in transcription-engchi-polish.csv"),
        ("video", "5 of 5 files"),
        ("audio", "5 of 5 files"),
        ("face", "5 of 5 files"),
    ]
    wrong = [f for f in found if f.problem]
    assert {f.told for f in wrong} == {"wrong_count"}
    assert wrong[0].problem == "split train: 2 samples where the known releases have 3,373"


def test_missing_and_empty_media_are_counted_and_named(mer2023: Path) -> None:
    for name in ("sample_00000001", "sample_00000003"):
        (mer2023 / "audio" / f"{name}.wav").unlink()
    (mer2023 / "audio" / "sample_00000002.wav").write_bytes(b"")
    found = problems(mer2023)
    missing = found["audio", "2 missing_file"]
    assert missing.samples == ["sample_00000001", "sample_00000003"]
    assert missing.problem is not None
    assert "sample_00000001, sample_00000003 (no audio/sample_00000001.wav)" in missing.problem
    assert found["audio", "1 empty_file"].samples == ["sample_00000002"]
    assert set(found) == {("audio", "2 missing_file"), ("audio", "1 empty_file")}


def test_of_many_the_first_are_shown_and_all_are_listed(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(9)]
    write_csv(tmp_path / "ovlabel.csv", [["name", "openset"], *([name, "[]"] for name in names)])
    (tmp_path / "video").mkdir()
    missing = problems(tmp_path, "ovmerdplus")["video", "9 missing_file"]
    assert missing.samples == names
    assert "s0, s1, s2, s3, s4 and 4 more" in str(missing.problem)


def test_a_folder_of_other_names_shows_one_of_them(mer2023: Path) -> None:
    write_media(mer2023, "openface_face/{name}.npy", ["samplenew4_00000001", "samplenew4_00000002"])
    told = {f.what: f.told for f in findings(mer2023)}
    assert told["face"] == "5 of 5 files, 2 of other samples (such as samplenew4_00000001)"


def test_a_missing_folder_is_one_problem(mer2023: Path) -> None:
    (mer2023 / "openface_face").rename(mer2023 / "faces")
    found = problems(mer2023)
    assert set(found) == {("face", "no folder")}
    assert found["face", "no folder"].problem == "no folder openface_face for 5 samples"


def test_transcripts_that_are_missing_nan_shifted_or_empty(mer2023: Path) -> None:
    lines = [
        "name,chinese,english",
        "sample_00000002,好，,好,Good",
        "sample_00000001,nan,Fine",
        "sample_00000003,好,",
        "samplenew_00000005,好,Well",
    ]
    (mer2023 / "transcription-engchi-polish.csv").write_text("\n".join(lines), encoding="utf-8")
    found = problems(mer2023)
    assert set(found) == {
        ("text english", "1 shifted_row"),
        ("text english", "1 missing_text"),
        ("text chinese", "1 shifted_row"),
        ("text chinese", "1 nan_text"),
        ("text chinese", "1 missing_text"),
    }
    assert found["text english", "1 missing_text"].samples == ["sample_00000004"]
    told = [(f.what, f.told, f.samples) for f in findings(mer2023) if not f.problem]
    assert ("text english", "1 empty_text", ["sample_00000003"]) in told


def test_files_that_are_not_there_or_cannot_be_read(mer2023: Path) -> None:
    (mer2023 / "transcription-engchi-polish.csv").unlink()
    assert set(problems(mer2023)) == {("text english", "no file"), ("text chinese", "no file")}
    (mer2023 / "transcription-engchi-polish.csv").write_bytes(b"clip,english\n")
    assert set(problems(mer2023)) == {
        ("text english", "unreadable"),
        ("text chinese", "unreadable"),
    }
    (mer2023 / "label-6way.npz").write_bytes(b"no npz")
    assert set(problems(mer2023)) == {("labels 6way", "unreadable")}
    (mer2023 / "label-6way.npz").unlink()
    assert set(problems(mer2023)) == {("labels 6way", "no file")}


def test_a_missing_split_and_bad_labels(mer2023: Path) -> None:
    train = {
        "a": {"emo": "happy", "val": 1.0},
        "b": {"emo": "bored", "val": 1.0},
        "c": {"emo": "sad", "val": "?"},
    }
    write_npz(
        mer2023 / "label-6way.npz",
        train_corpus=train,
        test1_corpus={"d": {"emo": "sad"}},
        test3_corpus={},
    )
    found = problems(mer2023)
    assert found["labels 6way", "1 unknown_label"].samples == ["b"]
    assert found["labels 6way", "1 bad_number"].samples == ["c"]
    assert "split test2: no label-6way.npz#test2_corpus" in str(
        found["labels 6way", "1 missing_split"].problem
    )


def test_samples_known_to_be_unusable_are_no_problem(tmp_path: Path) -> None:
    names = ["test_dia279_utt15", "test_dia0_utt0"]
    write_npz(tmp_path / "label.npz", test_corpus={name: {"emo": 0} for name in names})
    write_media(tmp_path, "subvideo/{name}.mp4", names[1:])
    assert not [key for key in problems(tmp_path, "meld") if key[0] == "video"]


def test_an_optional_set_of_labels_may_be_absent(tmp_path: Path) -> None:
    write_csv(tmp_path / "track_all_candidates.csv", [["name"], ["a"]])
    told = {f.what: (f.told, f.problem) for f in findings(tmp_path, "mer2025ov")}
    assert told["labels openset"] == ("no file (optional)", None)


def test_a_corpus_without_labels_is_counted_by_its_media(tmp_path: Path) -> None:
    write_media(tmp_path, "openface_face/{name}/{name}.npy", ["a", "b"])
    assert [(f.what, f.told) for f in findings(tmp_path, "affwild2")][1:] == [
        ("face", "2 of 2 files")
    ]


@pytest.mark.parametrize("key", ["mer2023", "iemocap", "ovmerdplus", "mer2026", "affwild2"])
def test_an_empty_folder_is_all_problems_and_no_traceback(tmp_path: Path, key: str) -> None:
    assert any(found.problem for found in findings(tmp_path, key))

"""A corpus in a folder: samples and media in every layout of the field."""

from pathlib import Path

import numpy as np
import pytest

from merstore.corpora import Corpus, Missing, open_corpus
from merstore.errors import InvalidKey, MerstoreError

from .conftest import MakeTable, write_csv, write_media, write_npz


def test_a_corpus_is_opened_at_its_folder_or_at_the_one_above(mer2023: Path) -> None:
    assert open_corpus("MER2023", mer2023).root == mer2023
    assert open_corpus("mer2023", mer2023.parent).root == mer2023
    assert open_corpus("mer2023", mer2023).key == "mer2023"


def test_everything_of_one_sample(mer2023: Path) -> None:
    corpus = open_corpus("mer2023", mer2023)
    assert corpus.samples()[0] == "sample_00000002"  # the file's order, not sorted
    assert corpus.splits()["train"] == ["sample_00000002", "sample_00000001"]
    assert corpus.labels().samples["sample_00000001"].values == {"emo": "angry", "val": -3.5}
    assert corpus.labels("6way").samples["samplenew_00000005"].values == {
        "emo": "surprise",
        "val": None,
    }
    assert corpus.transcripts().texts["sample_00000002"] == 'line 0, "said"'
    assert corpus.transcripts("chinese").texts["sample_00000002"] == "第0句，好。"
    assert corpus.media("sample_00000002", "video") == mer2023 / "video" / "sample_00000002.mp4"
    assert (
        corpus.media("samplenew_00000005", "video") == mer2023 / "video" / "samplenew_00000005.avi"
    )


@pytest.mark.parametrize(
    ("key", "video", "audio", "face"),
    [
        # affectgpt 1.2-1.3
        ("mer2023", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}.npy"),
        ("mer2024", "video/{name}.avi", "audio/{name}.wav", "openface_face/{name}.npy"),
        ("meld", "subvideo/{name}.mp4", "subaudio/{name}.wav", "openface_face/{name}.npy"),
        ("iemocap", "subvideo-tgt/{name}.avi", "subaudio/{name}.wav", "openface_face/{name}.npy"),
        ("cmumosi", "subvideo/{name}.mp4", "subaudio/{name}.wav", "openface_face/{name}.npy"),
        ("cmumosei", "subvideo_new/{name}.mp4", "subaudio/{name}.wav", "openface_face/{name}.npy"),
        ("sims", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}.npy"),
        ("simsv2", "video_new/{name}.mp4", "audio/{name}.wav", "openface_face/{name}.npy"),
        ("ovmerdplus", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}.npy"),
        ("mercaptionplus", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("ovmerd", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("mer2025ov", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        # mertools 1.1, where it differs
        ("mer2023", "video/{name}.avi", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("cmumosei", "subvideo/{name}.mp4", "subaudio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("simsv2", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("iemocap", "subvideo-tgt/{name}.avi", "subaudio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("mer2025", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("mer2026", "video/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        # as released: mertools 1.2, 1.3
        ("mer2023", "test2/{name}.avi", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
        ("mer2024", "video-labeled/{name}.mp4", "audio/{name}.wav", "openface_face/{name}/{name}.npy"),
    ],
)  # fmt: skip
def test_media_in_every_layout(tmp_path: Path, key: str, video: str, audio: str, face: str) -> None:
    names = ["-MeTTeMJBNc_0", "sample_00000001"]
    corpus = open_corpus(key, tmp_path)
    for modality, pattern in (("video", video), ("audio", audio), ("face", face)):
        write_media(tmp_path, pattern, names)
        for name in names:
            assert corpus.media(name, modality) == tmp_path / pattern.replace("{name}", name)
        assert corpus.listed(corpus.table.media[modality]) == set(names)


def test_a_file_that_is_not_there_is_told_with_what_was_tried(mer2023: Path) -> None:
    corpus = open_corpus("mer2023", mer2023)
    found = corpus.media("sample_9", "face")
    assert found == Missing(
        "missing_file", "no openface_face/sample_9.npy nor openface_face/sample_9/sample_9.npy"
    )


def test_an_empty_file_and_an_empty_folder_are_no_media(mer2023: Path) -> None:
    corpus = open_corpus("mer2023", mer2023)
    (mer2023 / "audio" / "sample_00000001.wav").write_bytes(b"")
    assert corpus.media("sample_00000001", "audio") == Missing(
        "empty_file", "audio/sample_00000001.wav has no bytes"
    )
    (mer2023 / "openface_face" / "sample_00000001.npy").unlink()
    (mer2023 / "openface_face" / "sample_00000001").mkdir()  # left by a run that was stopped
    found = corpus.media("sample_00000001", "face")
    assert isinstance(found, Missing)
    assert found.kind == "missing_file"


def test_of_two_files_the_first_that_has_bytes_counts(tmp_path: Path) -> None:
    corpus = open_corpus("cmumosei", tmp_path)
    write_media(tmp_path, "subvideo/{name}.mp4", ["x"])
    (tmp_path / "subvideo_new").mkdir()
    (tmp_path / "subvideo_new" / "x.mp4").touch()
    assert corpus.media("x", "video") == tmp_path / "subvideo" / "x.mp4"
    write_media(tmp_path, "subvideo_new/{name}.mp4", ["x"])
    assert corpus.media("x", "video") == tmp_path / "subvideo_new" / "x.mp4"


def test_a_modality_that_the_corpus_does_not_have(tmp_path: Path) -> None:
    corpus = open_corpus("mer2023_unlabel", tmp_path)
    assert corpus.media("x", "audio") == Missing("no_audio", "corpus mer2023_unlabel has no audio")


def test_without_labels_the_samples_are_those_with_media(tmp_path: Path) -> None:
    write_media(tmp_path, "openface_face/{name}/{name}.npy", ["b", "a"])
    (tmp_path / "openface_face" / "stopped").mkdir()
    assert open_corpus("mer2023_unlabel", tmp_path).samples() == ["a", "b"]


def test_iemocap_has_two_label_files_over_the_same_clips(tmp_path: Path) -> None:
    names = [f"Ses0{n}F_impro01_F00{m}" for n in range(1, 6) for m in range(2)]
    four = {name: {"emo": n % 4, "val": -10} for n, name in enumerate(names[:-1])}
    six = {name: {"emo": n % 6, "val": -10} for n, name in enumerate(names)}
    write_npz(tmp_path / "label_4way.npz", whole_corpus=four)
    write_npz(tmp_path / "label_6way.npz", whole_corpus=six)
    corpus = open_corpus("IEMOCAPFour", tmp_path)
    assert corpus.splits()["session5"] == names[8:9]
    assert corpus.splits("6way")["session5"] == names[8:]
    assert corpus.labels().samples[names[3]].values == {"emo": "anger"}
    assert corpus.labels("6way").samples[names[5]].values == {"emo": "frustrated"}
    assert corpus.samples() == names


def test_meld_has_seven_classes(tmp_path: Path) -> None:
    splits = {"train": ("a", 0), "val": ("b", 4), "test": ("c", 6)}
    arrays = {
        f"{split}_corpus": {name: {"emo": n, "val": -10}} for split, (name, n) in splits.items()
    }
    write_npz(tmp_path / "meld-process" / "label.npz", **arrays)
    labels = open_corpus("meld", tmp_path).labels()
    assert {name: label.values["emo"] for name, label in labels.samples.items()} == {
        "a": "anger",
        "b": "disgust",
        "c": "surprise",
    }


@pytest.mark.parametrize("key", ["cmumosi", "cmumosei", "sims", "simsv2"])
def test_the_valence_sets_have_a_number_and_no_class(tmp_path: Path, key: str) -> None:
    values = {"train": 0.4, "val": np.float32(-0.1), "test": np.float64(-3)}
    arrays = {
        f"{split}_corpus": {split: {"emo": 0, "val": value}} for split, value in values.items()
    }
    write_npz(tmp_path / f"{key}-process" / "label.npz", **arrays)
    labels = open_corpus(key, tmp_path).labels()
    assert labels.column("val") == {split: float(value) for split, value in values.items()}
    assert list(labels.fields) == ["val"]


def test_open_vocabulary_sets_from_their_csv_files(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "track2_train_ovmerd.csv", [["name", "openset"], ["s1", "['happy', 'calm']"]]
    )
    write_csv(
        tmp_path / "track3_train_ovmerd.csv", [["name", "reason"], ["s1", "He smiles, so ..."]]
    )
    write_csv(
        tmp_path / "subtitle_chieng.csv",
        [["name", "chinese", "english"], ["s1", "好", "Good"], ["s2", "", ""]],
    )
    corpus = open_corpus("ovmerd", tmp_path)
    assert corpus.labels().samples["s1"].values == {"openset": ("happy", "calm")}
    assert corpus.labels("reason").samples["s1"].values == {"reason": "He smiles, so ..."}
    assert corpus.transcripts().texts == {"s1": "Good"}


def test_a_set_of_labels_that_is_not_there_is_passed_over_unless_none_is(tmp_path: Path) -> None:
    corpus = open_corpus("mer2025ov", tmp_path)
    with pytest.raises(MerstoreError, match=r"no label file track_all_candidates\.csv"):
        corpus.samples()
    write_csv(tmp_path / "track_all_candidates.csv", [["name"], ["a"], ["b"]])
    assert corpus.samples() == ["a", "b"]
    (tmp_path / "track2_test.csv").write_bytes(b"")
    with pytest.raises(MerstoreError, match=r"track2_test\.csv: no header line"):
        open_corpus("mer2025ov", tmp_path).samples()


def test_mer2024_as_released_and_in_both_processed_forms(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "label-disdim.csv",
        [["name", "discrete", "valence"], ["sample_1", "worried", "1"]],
    )
    assert open_corpus("mer2024", tmp_path).labels().samples["sample_1"].values == {
        "emo": "worried"
    }
    train = {"sample_1": {"emo": "worried"}}
    unlabelled = {f"samplenew_{n}": {"emo": "neutral"} for n in range(3)}
    write_npz(tmp_path / "label-6way.npz", train_corpus=train, test1_corpus=unlabelled)
    mertools = open_corpus("mer2024", tmp_path).labels()
    assert [label.values["emo"] for label in mertools.samples.values()] == [
        "worried",
        None,
        None,
        None,
    ]
    labelled = {f"samplenew_{n}": {"emo": emo} for n, emo in enumerate(("sad", "neutral"))}
    write_npz(
        tmp_path / "label-6way.npz",
        train_corpus=train,
        test1_corpus=labelled,
        test2_corpus={"x": {"emo": "sad"}},
    )
    affectgpt = open_corpus("mer2024", tmp_path)
    assert affectgpt.splits() == {
        "train": ["sample_1"],
        "test1": ["samplenew_0", "samplenew_1"],
        "test2": ["x"],
    }
    for file in ("transcription-merge.csv", "transcription_merge.csv"):
        write_csv(tmp_path / file, [["name", "chinese"], ["sample_1", file]])
        assert affectgpt.transcripts().texts == {"sample_1": file}


def test_a_corpus_of_ones_own(tmp_path: Path, declare: MakeTable) -> None:
    path = declare(
        """
mine:
  media: {video: {folders: clips, files: ["{name}.webm", "{name}.mkv"]}}
  labels:
    main:
      fields: {mood: {classes: [calm, glad]}}
      splits: {all: {from: moods.csv}}
"""
    )
    root = tmp_path / "mine"
    write_csv(root / "moods.csv", [["name", "mood"], ["样本 1", "glad"]])
    write_media(root, "clips/{name}.mkv", ["样本 1"])
    corpus = open_corpus("mine", root, path)
    assert isinstance(corpus, Corpus)
    assert corpus.labels().column("mood") == {"样本 1": 1}
    assert corpus.media("样本 1", "video") == root / "clips" / "样本 1.mkv"


def test_what_is_asked_for_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="absent: no such folder"):
        open_corpus("mer2023", tmp_path / "absent")
    with pytest.raises(InvalidKey, match="no corpus 'mer1999'"):
        open_corpus("mer1999", tmp_path)
    with pytest.raises(InvalidKey, match="has no labels 7way"):
        open_corpus("mer2023", tmp_path).labels("7way")

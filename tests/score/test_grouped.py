"""MER2024's score by groups of words gives its published numbers."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import MerstoreError, MissingEntry
from merstore.score.files import read_answers
from merstore.score.grouped import grouped_score, read_groups
from merstore.score.labels import parse_labels_2024

GROUPS = {"a": [["happy", "glad"], ["sad"]], "b": []}


def test_words_of_a_group_are_one() -> None:
    truth = {"a": ["Happy", "sad"], "b": ["calm"], "c": ["left out"]}
    score = grouped_score(truth, {"a": ["glad", "GLAD", "odd"], "b": ["calm"]}, GROUPS)
    assert len(score) == 2
    assert (score.accuracy, score.recall) == (np.mean([1 / 2, 1]), np.mean([1 / 2, 1]))
    assert score.average == (score.accuracy + score.recall) / 2


def test_a_word_in_two_groups_is_of_the_last() -> None:
    groups = {"a": [["happy", "glad"], ["merry", "glad"]]}
    assert grouped_score({"a": ["merry"]}, {"a": ["glad"]}, groups).accuracy == 1


def test_words_are_not_stripped() -> None:
    assert grouped_score({"a": ["happy"]}, {"a": ["happy "]}, {"a": [["happy"]]}).accuracy == 0


def test_an_empty_answer_has_0_and_is_told() -> None:
    score = grouped_score({"a": ["sad"], "b": ["calm"]}, {"a": []}, GROUPS, missing="empty")
    assert (score.accuracy, score.missing, score.empty) == (0, ("b",), ("a", "b"))


def test_answers_may_be_as_they_were_given() -> None:
    found = grouped_score({"a": "['sad, so']"}, {"a": "['Sad, so' 'mad']"}, {"a": []})
    assert (found.accuracy, found.recall) == (0.5, 1)


@pytest.mark.parametrize(
    ("truth", "predictions", "told"),
    [
        ({"a": ["x"]}, {"a": ["x"], "b": ["x"]}, "1 samples have groups but no truth: b"),
        ({"a": ["x"], "b": ["x"]}, {"a": ["x"]}, "1 of 2 samples have no prediction: b"),
    ],
)
def test_samples_that_are_missing_are_listed(
    truth: dict[str, list[str]], predictions: dict[str, list[str]], told: str
) -> None:
    with pytest.raises(MissingEntry, match=told):
        grouped_score(truth, predictions, GROUPS)


def test_a_sample_without_truth_is_refused() -> None:
    with pytest.raises(MerstoreError, match="sample b has no true label"):
        grouped_score({"a": ["x"], "b": []}, {"a": ["x"], "b": ["x"]}, GROUPS)


class TestFiles:
    def test_a_folder_and_a_zip_are_read_alike(self, tmp_path: Path) -> None:
        folder = tmp_path / "groups"
        folder.mkdir()
        for name in ("b", "a"):
            np.save(folder / f"{name}.npy", np.array(f"[['{name}', 'x'], ['y']]"))
        np.save(folder / "c.npy", np.array(""))
        with zipfile.ZipFile(tmp_path / "groups.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"groups/{path.name}")
        expected = {"a": [["a", "x"], ["y"]], "b": [["b", "x"], ["y"]], "c": []}
        assert read_groups(folder) == read_groups(tmp_path / "groups.zip") == expected

    @pytest.mark.parametrize(
        "array", [np.array([1, 2]), np.array(1.5), np.array({"a": 1}, object)], ids=str
    )
    def test_what_is_no_text_is_refused_and_not_unpickled(
        self, tmp_path: Path, array: np.ndarray
    ) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(MerstoreError, match=r"a\.npy: "):
            read_groups(tmp_path)

    def test_what_is_no_zip_not_there_or_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(b"no zip")
        with pytest.raises(MerstoreError, match=r"a\.zip: no readable zip"):
            read_groups(tmp_path / "a.zip")
        with pytest.raises(MerstoreError, match=r"b\.zip: No such file"):
            read_groups(tmp_path / "b.zip")
        (tmp_path / "empty").mkdir()
        with pytest.raises(MerstoreError, match=r"no NAME\.npy"):
            read_groups(tmp_path / "empty")


@pytest.mark.shared
class TestPublished:
    @pytest.fixture
    def answers(self, ov_data: Path) -> list[dict[str, list[str]]]:
        return [
            read_answers(ov_data / "ov_store" / f"{name}-openset.csv").labels(parse_labels_2024)
            for name in ("check", "predict")
        ]

    def test_the_three_numbers(self, ov_data: Path, answers: list[dict[str, list[str]]]) -> None:
        score = grouped_score(*answers, read_groups(ov_data / "ov_store" / "openset-synonym.zip"))
        assert len(score) == 332
        assert score.accuracy == 0.581777108433735
        assert score.recall == 0.4977911646586345
        assert score.average == 0.5397841365461847
        assert [name[-4:] for name in score.empty] == ["0258", "0906", "1203", "1629", "2348"]

    def test_without_groups(self, answers: list[dict[str, list[str]]]) -> None:
        score = grouped_score(*answers, {name: [] for name in answers[0]})
        assert score.accuracy == 0.2541666666666667
        assert score.recall == 0.1756573914706445
        assert score.average == 0.21491202906865559

"""Texts from what the field's scripts write, and answers to what they read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import MerstoreError, UnknownView
from merstore.run import answers
from merstore.run.labels.files import check_output, read_source, write_answers
from merstore.score.files import read_answers
from merstore.store.store import Store

TEXTS = {"sample_1": 'He said "no", twice.', "样本_2": "她很难过", "-s3": ""}


def described(path: Path) -> Path:
    np.savez_compressed(path, name2reason=np.array(TEXTS, object))
    return path


def listed(path: Path) -> Path:
    np.savez(path, filenames=list(TEXTS), fileitems=list(TEXTS.values()))
    return path


def table(path: Path) -> Path:
    lines = ['sample_1,x,"He said ""no"", twice."', "样本_2,,她很难过", "-s3,,"]
    path.write_text("\n".join(["name,other,reason", *lines]), "utf-8")
    return path


def lines(path: Path) -> Path:
    rows = ['{"name": "sample_1", "reason": "He said \\"no\\", twice."}']
    rows += ['{"name": "样本_2", "reason": "她很难过"}', '{"name": "-s3", "reason": null}']
    path.write_text("\n".join(rows), "utf-8")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    for name, text in TEXTS.items():
        np.save(path / f"{name}.npy", text)
    return path


def texts_of(source: object, store: Store | None = None) -> dict[str, Any]:
    return dict(read_source(str(source), "reason", store).texts)


@pytest.mark.parametrize(
    ("make", "name"),
    [(described, "a.npz"), (listed, "b.npz"), (table, "c.csv"), (lines, "d.jsonl"), (folder, "e")],
)
def test_texts_are_read_from_every_format(tmp_path: Path, make: Any, name: str) -> None:
    texts = texts_of(make(tmp_path / name))
    assert {name: text or "" for name, text in texts.items()} == TEXTS


class TestViews:
    def test_texts_in_the_store_are_read_by_the_views_path(self, store: Store) -> None:
        view = store.create_view("mer2023/text/english", dtype="uint8", shape=(None,))
        view["a"] = np.frombuffer("哦, I see".encode(), np.uint8)
        view.fail("b", "empty_text", "nothing is said")
        view.fail("c", "missing_text", "no row")
        found = read_source("mer2023/text/english", "english", store)
        assert found == ({"a": "哦, I see", "b": ""}, ["c"])

    def test_answers_of_a_run_are_read_without_what_is_beside_them(self, store: Store) -> None:
        view = answers.answers_view(store, "mer2023", "checkpoint_30", {"mode": "faceframe"})
        with store.writer() as writer:
            kept = answers.Stored("He smiles.", "00", 3, True, "", None, 1.0, 1)
            answers.put(writer, view, "a", kept)
        assert texts_of(view.path, store) == {"a": "He smiles."}

    def test_a_view_of_features_is_refused(self, store: Store) -> None:
        store.create_view("mer2023/frame/uniform_8frms", shape=(8, 4))
        with pytest.raises(MerstoreError, match=r"\(8, 4\) float32, not of texts"):
            texts_of("mer2023/frame/uniform_8frms", store)

    def test_what_is_neither_file_nor_view_is_said(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(UnknownView, match=r"nowhere.csv: no such file.* nor is it a view"):
            texts_of("nowhere.csv", store)
        with pytest.raises(UnknownView, match="no such file or folder: give npz"):
            texts_of("mer2023/text/english")


class TestBadFiles:
    def test_names_that_are_there_twice_are_listed(self, tmp_path: Path) -> None:
        path = tmp_path / "twice.csv"
        path.write_text("name,reason\nb,x\na,y\nb,z\na,y\n")
        with pytest.raises(MerstoreError, match=r"twice\.csv: 2 names are there twice: a, b"):
            texts_of(path)
        np.savez(tmp_path / "twice.npz", filenames=["a", "a"], fileitems=["x", "y"])
        with pytest.raises(MerstoreError, match=r"twice\.npz: a name is there twice: a"):
            texts_of(tmp_path / "twice.npz")

    def test_an_object_array_is_read_without_pickle(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array("text", object))
        assert texts_of(tmp_path) == {"a": "text"}

    def test_a_pickle_that_does_something_is_refused(self, tmp_path: Path) -> None:
        class Bad:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "ran",)

        np.save(tmp_path / "a.npy", np.array(Bad(), object))
        with pytest.raises(MerstoreError, match=r"a\.npy: no readable text"):
            texts_of(tmp_path)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"a text"])
    def test_a_damaged_file_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(MerstoreError, match=r"a\.npy: no readable text"):
            texts_of(tmp_path)

    def test_an_array_of_several_is_not_one_text(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ["one", "two"])
        with pytest.raises(MerstoreError, match=r"a\.npy: \(2,\) .* is not one text"):
            texts_of(tmp_path)

    def test_a_folder_without_texts_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match=r"no \.npy file"):
            texts_of(tmp_path)


class TestOutputs:
    ANSWERS = {"b": '[happy, "calm"]', "a": "[]", "样本": "[难过]"}  # noqa: RUF012

    @pytest.mark.parametrize("ending", ["-openset.npz", ".csv", ".jsonl"])
    @pytest.mark.parametrize("task", ["openset", "sentiment", "merge"])
    def test_what_is_written_is_read_by_the_scores(
        self, tmp_path: Path, ending: str, task: str
    ) -> None:
        path = tmp_path / f"x{ending}"
        write_answers(path, self.ANSWERS, task)
        write_answers(path, self.ANSWERS, task)  # in the place of the first
        column = "reason" if task == "merge" else task
        assert list(read_answers(path, column).by_name.items()) == list(self.ANSWERS.items())
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    def test_an_npz_holds_text_arrays_and_nothing_else(self, tmp_path: Path) -> None:
        write_answers(tmp_path / "x.npz", self.ANSWERS, "openset")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
            assert file["filenames"].tolist() == list(self.ANSWERS)
            assert file["fileitems"].dtype.kind == "U"

    def test_no_answers_are_an_empty_file(self, tmp_path: Path) -> None:
        write_answers(tmp_path / "x.npz", {}, "openset")
        assert read_answers(tmp_path / "x.npz").by_name == {}

    def test_a_file_is_as_readable_as_any_other(self, tmp_path: Path) -> None:
        write_answers(tmp_path / "x.csv", self.ANSWERS, "openset")
        (tmp_path / "other").touch()
        assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_what_cannot_be_written_is_said_beforehand(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match=r"x\.txt: answers are written as"):
            check_output(tmp_path / "x.txt")
        with pytest.raises(MerstoreError, match="no folder"):
            check_output(tmp_path / "nowhere" / "x.csv")

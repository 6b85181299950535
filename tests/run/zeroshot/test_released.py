"""Released outputs as answers in the store: of every format, and nothing of a bad file."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_tables import write_tables

import merstore
from merstore.cli.main import run
from merstore.errors import InvalidKey, MerstoreError
from merstore.run import answers
from merstore.run.labels.files import read_source
from merstore.run.zeroshot.released import Imported, import_released
from merstore.score.files import read_answers
from merstore.store.store import Store

TEXTS = {"sample_1": 'She says "no",\n\tand is sad.', "-x": "高兴, it seems", "b": "happy."}


def texts_of(store: Store, found: Imported) -> dict[str, str]:
    return {name: kept.text for name, kept in answers.read(store[found.view]).items()}


def all_of(store: Store) -> dict[str, Any]:
    """Whatever views hold, with when and how often it failed."""
    return {
        path: (dict(view.spec), answers.read(view), view.failures())
        for path in store.views()
        for view in [store[path]]
    }


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def described(path: Path, texts: dict[Any, Any]) -> Path:
    """As the published runners save it: a dictionary in an array of no dimension."""
    return save_npz(path, name2reason=np.array(texts, object))


def exported(path: Path, texts: dict[str, str]) -> Path:
    answers.export(path, texts)
    return path


def merged(path: Path, texts: dict[str, str]) -> Path:
    """As the published merging of clues saves it."""
    return save_npz(path, filenames=list(texts), fileitems=list(texts.values()))


def folder(path: Path, texts: dict[str, str]) -> Path:
    path.mkdir()
    for name, text in texts.items():
        np.save(path / f"{name}.npy", np.array(text))
    return path


FORMATS: list[tuple[str, Callable[[Path, Any], Path]]] = [
    ("results-nosubtitle.npz", described),
    ("exported.npz", exported),
    ("exported.csv", exported),
    ("exported.jsonl", exported),
    ("results-nosubtitle-addsub.npz", merged),
    ("texts", folder),
]


@pytest.mark.parametrize(("name", "save"), FORMATS, ids=[name for name, _ in FORMATS])
def test_answers_come_back_as_they_were_released(
    store: Store, tmp_path: Path, name: str, save: Callable[[Path, Any], Path]
) -> None:
    found = import_released(store, "OVMERD", "SALMONN", save(tmp_path / name, TEXTS))
    assert texts_of(store, found) == TEXTS
    assert (found.samples, found.stored, found.silent) == (3, 3, [])
    again = tmp_path / "again.npz"
    answers.export(again, texts_of(store, found))
    assert read_answers(again).by_name == TEXTS


def test_the_view_says_whose_answers_they_are_and_of_which_file(
    store: Store, tmp_path: Path
) -> None:
    file = described(tmp_path / "output-reason 7b (eng).npz", TEXTS)
    found = import_released(store, "OVMERD", "VideoChatGPT", file)
    view = store[found.view]
    assert found.view.startswith("ovmerd/answer@video-chatgpt/output-reason_7b__eng_-")
    assert view.spec["kind"] == "answers"
    assert view.spec["baseline"] == "video-chatgpt"
    assert view.spec["released"].startswith("sha256:")
    other = import_released(store, "OVMERD", "Otter", file)
    assert other.view != found.view
    described(file, TEXTS | {"b": "sad."})
    assert import_released(store, "OVMERD", "VideoChatGPT", file).view != found.view
    assert texts_of(store, found) == TEXTS


@pytest.mark.parametrize(("name", "save"), FORMATS, ids=[name for name, _ in FORMATS])
def test_the_same_again_changes_nothing(
    store: Store, tmp_path: Path, name: str, save: Callable[[Path, Any], Path]
) -> None:
    file = save(tmp_path / name, TEXTS | {"silent": ""})
    first = import_released(store, "OVMERD", "Otter", file)
    before = all_of(store)
    again = import_released(store, "OVMERD", "Otter", file)
    assert all_of(store) == before
    assert (again.view, again.samples, again.stored) == (first.view, 4, 0)


def test_what_an_import_left_out_is_made_up_for(store: Store, tmp_path: Path) -> None:
    file = described(tmp_path / "x.npz", TEXTS | {"silent": ""})
    found = import_released(store, "OVMERD", "Otter", file)
    with store.writer() as writer:  # as if it had been killed before
        writer.delete(store[found.view], "b")
        writer.delete(store[found.view], "silent")
    again = import_released(store, "OVMERD", "Otter", file)
    assert again == Imported(found.view, 4, 2, ["silent"])
    assert texts_of(store, again) == TEXTS


def test_what_is_no_answer_is_a_failure_that_counts_as_empty(store: Store, tmp_path: Path) -> None:
    silent = {"empty": "", "blank": " \n", "none": None, "nan": float("nan")}
    file = described(tmp_path / "x.npz", TEXTS | silent)
    found = import_released(store, "OVMERD", "Otter", file)
    kinds = {failure.name: failure.kind for failure in store[found.view].failures()}
    assert kinds == dict.fromkeys(("empty", "blank", "none"), "empty_text") | {"nan": "nan_text"}
    assert found.silent == list(silent)
    assert texts_of(store, found) == TEXTS
    source = read_source(found.view, "reason", store)
    assert source.texts == TEXTS | dict.fromkeys(silent, "")
    assert source.absent == []


def test_an_empty_cell_and_an_empty_line_are_no_answers_either(
    store: Store, tmp_path: Path
) -> None:
    table, lines = tmp_path / "x.csv", tmp_path / "x.jsonl"
    table.write_text("name,reason\na,happy\nb,\n", encoding="utf-8")
    lines.write_text('{"name": "a", "reason": "happy"}\n\n{"name": "b", "reason": null}\n')
    for file in (table, lines):
        found = import_released(store, "OVMERD", "Otter", file)
        assert texts_of(store, found) == {"a": "happy"}
        assert found.silent == ["b"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a number": ("x.npz", lambda file: described(file, {"a": "x", "b": 3}), "sample b: int is no"),
    "a list": ("x.npz", lambda file: described(file, {"a": ["x"]}), "sample a: list is no text"),
    "a name that is no text": (
        "x.npz",
        lambda file: described(file, {1: "x"}),
        "array name2reason",
    ),
    "a name that is no text in json": (
        "x.jsonl",
        lambda file: file.write_text('{"name": 1, "reason": "x"}\n'),
        "1 is no sample's name",
    ),
    "a name with a slash": ("x.npz", lambda file: described(file, {"a/b": "x"}), "'a/b'"),
    "an empty name": ("x.jsonl", lambda file: file.write_text('{"name": "", "reason": "x"}'), "''"),
    "a name twice": (
        "x.npz",
        lambda file: save_npz(file, filenames=["a", "b", "a"], fileitems=["x", "y", "z"]),
        "twice: a",
    ),
    "a name twice in a table": (
        "x.csv",
        lambda file: file.write_text("name,reason\na,x\na,y\n"),
        "twice|more than once",
    ),
    "too few items": (
        "x.npz",
        lambda file: save_npz(file, filenames=["a", "b"], fileitems=["x"]),
        "2 filenames but 1 fileitems",
    ),
    "no Unicode": (
        "x.jsonl",
        lambda file: file.write_text(json.dumps({"name": "a", "reason": "\ud800"})),
        "sample a: no Unicode",
    ),
    "no answers": ("x.npz", lambda file: described(file, {}), "no answers in it"),
    "other arrays": ("x.npz", lambda file: save_npz(file, logits=np.zeros(3)), "it has logits"),
    "another column": ("x.csv", lambda file: file.write_text("name,x,y\na,1,2\n"), "no column"),
    "another ending": ("x.txt", lambda file: file.write_text("a: happy"), "give npz"),
    "not an archive": (
        "x.npz",
        lambda file: file.write_bytes(b"PK\3\4" + bytes(50)),
        "no npz file",
    ),
    "an empty folder": ("x", lambda file: file.mkdir(), "no .npy file"),
    "nothing": ("x.npz", lambda file: None, "no such file"),
    "a program": (
        "x.npz",
        lambda file: save_npz(file, name2reason=np.array({"a": Evil()}, object)),
        "array name2reason",
    ),
    "a program in a folder": (
        "x",
        lambda file: (file.mkdir(), np.save(file / "a.npy", np.array([Evil()], object))),
        "a.npy",
    ),
}


@pytest.mark.parametrize("trouble", BAD)
def test_of_a_bad_file_nothing_is_stored(
    store: Store, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, save, message = BAD[trouble]
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / name
    save(file)
    kept = import_released(store, "OVMERD", "Otter", described(tmp_path / "good.npz", TEXTS))
    before = all_of(store)
    with pytest.raises(MerstoreError, match=message) as caught:
        import_released(store, "OVMERD", "Otter", file)
    assert str(file) in str(caught.value)
    pickle.loads(pickle.dumps(caught.value))
    assert all_of(store) == before
    assert texts_of(store, kept) == TEXTS
    assert not (tmp_path / "touched").exists()


def test_an_unknown_baseline_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="there is qwen-audio, salmonn"):
        import_released(store, "OVMERD", "GPT-9", described(tmp_path / "x.npz", TEXTS))
    assert list(store.views()) == []


def test_they_are_labelled_and_scored_as_answers_of_a_run_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tables = write_tables(tmp_path / "emotion_wheel")
    file = described(
        tmp_path / "results-subtitle.npz",
        {"a": "She is happy.", "b": "sad, and jealous", "c": float("nan")},
    )
    path = tmp_path / "s.mer"
    with merstore.open(path, "a") as store:
        view = import_released(store, "OVMERD", "Otter", file).view
    labels, truth = tmp_path / "x-openset.npz", tmp_path / "truth.csv"
    truth.write_text("name,openset\na,\"['happy']\"\nb,\"['sad']\"\nc,\"['sad']\"\n")

    def merstore_(*line: object) -> Any:
        code = run([str(each) for each in (*line, "--json")])
        out, err = capfd.readouterr()
        assert code == 0, err
        return json.loads(out)

    merstore_("extract-labels", view, "--store", path, "--tables", tables, "--out", labels)
    assert read_answers(labels).by_name == {"a": "[happy]", "b": "[sad, jealous]", "c": "[]"}
    scores = merstore_("score", "ov", labels, "--truth", truth, "--tables", tables)[str(labels)]
    assert (scores["M1"]["n"], scores["M1"]["recall"]) == (3, pytest.approx(2 / 3))
    assert scores["answers"]["empty"] == ["c"]
    direct = merstore_("score", "ov", view, "--store", path, "--truth", truth, "--tables", tables)[
        view
    ]
    assert direct["answers"]["n"] == 3
    assert direct["answers"]["n_missing"] == 0


@pytest.mark.shared
def test_what_the_authors_released(store: Store, shared: Path) -> None:
    files = sorted((shared / "data" / "ov" / "results-ovmerd").glob("*/*-eng.npz"))
    assert len(files) == 9
    for file in files:
        found = import_released(store, "OVMERD", file.parent.name, file)
        assert (found.samples, found.stored) == (332, 332)
        released = read_answers(file).by_name
        silent = dict.fromkeys(found.silent, "")
        assert {**texts_of(store, found), **silent} == released

"""From clips to scores by the commands of docs/affectgpt.md and docs/scoring.md: features, answers,
labels, numbers, a file to hand in. The models are tiny and random; what they say has to give the
numbers that a straight-line reference makes of it.
"""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

import ov_reference as reference
from answering import make_checkpoint, make_encoders, make_llm
from score_tables import HEADER, write_xlsx
from sklearn.metrics import f1_score

import merstore
from merstore.demo.clips import make_clips

from ..run.labels.tiny import save_model, save_tokenizer
from .conftest import Merstore

CLASSES = {"a": "happy", "b": "sad", "c": "surprise"}  # of mer2023, by name
LISTS = {"d": "['sad', 'proud']", "e": "[neutral, worried, angry]"}  # of ovmerdplus
VALUES = {"f": 1.5, "g": -0.5, "h": 0.0}  # of cmumosi
CORPORA: dict[str, dict[str, Any]] = {"mer2023": CLASSES, "ovmerdplus": LISTS, "cmumosi": VALUES}
VIEWS = [
    "face@CLIP_VIT_LARGE/8frms",
    "frame@CLIP_VIT_LARGE/uniform_8frms",
    "audio@HUBERT_LARGE/8clips",
]
RUN, FILE = "tiny_20250110100", "tiny_20250110100/checkpoint_000030_loss_0.602"
WORDS = ["happy", "proud", "surprise", "sad", "angry", "worried"]
REAL = [
    *(f"talk_vr_face{number}.mp4" for number in (1, 2, 3)), "talk_WDA_KatieHill.mp4",
    "talk_WDA_AOC.mp4", "face_single_pyfeat.mp4", "odd_vfr_face.mp4", "bbb_6ch_audio.mp4",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders, language models, and a checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    make_encoders(folder)
    llm = make_llm(folder / "Qwen2.5-7B-Instruct")
    checkpoint = folder / "trained" / f"{FILE}.pth"
    make_checkpoint(checkpoint, llm, mode="multiface_audio_face_frame_text")
    size = save_tokenizer(folder / "tiny-qwen2")
    save_model(folder / "tiny-qwen2", size, eos_token_id=list(range(0, size, 5)))
    return folder


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.shared)])
def clips(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Eight, with sound."""
    if request.param == "made":
        return make_clips(tmp_path / "made")[:8]
    media: Path = request.getfixturevalue("shared") / "media"
    return [media / name for name in REAL]


@pytest.fixture
def world(tmp_path: Path, clips: list[Path], models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the corpora in ``dataset``, and ``models``; where the commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(models)
    left = iter(clips)
    draw = np.random.default_rng(0)
    for key, names in CORPORA.items():
        folder = "mer2023-dataset-process" if key == "mer2023" else f"{key}-process"
        corpus = tmp_path / "dataset" / folder
        videos = corpus / ("subvideo" if key == "cmumosi" else "video")
        videos.mkdir(parents=True)
        (corpus / "openface_face").mkdir()
        for name in names:
            shutil.copy(next(left), videos / f"{name}.mp4")
            track = draw.integers(0, 256, (9, 112, 112, 3), np.uint8)
            np.save(corpus / "openface_face" / f"{name}.npy", track)
        said = {name: f"I said {name}." for name in names}
        if key == "ovmerdplus":
            write_table(corpus / "subtitle_eng.csv", ["name", "sentence"], said.items())
            write_table(corpus / "ovlabel.csv", ["name", "openset"], LISTS.items())
        else:
            rows = [[name, "你好", text] for name, text in said.items()]
            transcripts = corpus / "transcription-engchi-polish.csv"
            write_table(transcripts, ["name", "chinese", "english"], rows)
    other = {"o": {"emo": "sad", "val": 1.0}}
    classes = {name: {"emo": label, "val": 0.0} for name, label in CLASSES.items()}
    values = {name: {"emo": 0, "val": value} for name, value in VALUES.items()}
    files: dict[str, dict[str, Any]] = {
        "mer2023-dataset-process/label-6way": {"train": other, "test1": classes, "test2": {}, "test3": {}},
        "cmumosi-process/label": {"train": other, "val": {}, "test": values},
    }  # fmt: skip
    for file, splits in files.items():
        corpora = {f"{split}_corpus": labels for split, labels in splits.items()}
        np.savez(tmp_path / "dataset" / f"{file}.npz", **corpora)
    return tmp_path


def write_table(path: Path, header: list[str], rows: Any) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())


def write_tables(folder: Path, said: list[str]) -> None:
    """Word tables in which what random models say are forms of `WORDS`, in turn; each wheel has two
    groups of three.
    """
    folder.mkdir()
    for wheel in range(1, 6):
        one = WORDS[wheel - 1 :] + WORDS[: wheel - 1]
        write_xlsx(folder / f"wheel{wheel}.xlsx", [list(HEADER), one[:3], one[3:]])
    header = [f"{what}_run{run}" for run in range(1, 9) for what in ("word", "synonym")]
    write_xlsx(folder / "synonym.xlsx", [header, *([word] * 16 for word in WORDS)])
    forms = [[word, ", ".join(said[number :: len(WORDS)])] for number, word in enumerate(WORDS)]
    write_table(folder / "format.csv", ["name", "format"], forms)


def sign_of(tables: reference.Tables, labels: list[str]) -> str:
    """By the first wheel, whose groups are happy and sad."""
    groups = [reference.stands_for(tables, label, "M3W1-L1") for label in labels]
    balance = groups.count("happy") - groups.count("sad")
    return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"


def test_clips_become_features_answers_labels_and_scores(cli: Merstore, world: Path) -> None:
    def run(*words: object) -> Any:
        done = cli(*words, "--json")
        assert done.code == 0, done.err
        return done.json

    # docs/affectgpt.md: features of one corpus beforehand, of the others as they are asked about
    here: list[object] = ["--models", "models", "--device", "cpu", "--jobs", 0]
    filling: list[object] = [
        "prewarm",
        "features.mer",
        "dataset",
        "--dataset",
        "mer2023",
        "--corpus",
    ]
    filling += ["--split", "test1", "--profile", "affectgpt"]
    run(*filling, *(word for view in VIEWS for word in ("--view", view)), *here)
    asking: list[object] = [
        "infer",
        "--model",
        f"models/trained/{RUN}",
        "--llm",
        "models/Qwen2.5-7B-Instruct",
    ]
    asking += ["--store", "features.mer", "--dataset", ",".join(CORPORA), "--corpora", "dataset"]
    asking += ["--max-new-tokens", 24, "--max-length", 460, "--output", "output"]
    reports = run(*asking, "--format", "npz", "--format", "jsonl", *here)["answers"]
    assert [report["answered"] for report in reports] == [3, 2, 3]
    assert [report["computed"] for report in reports] == [
        {},
        {"face": 2, "frame": 2, "audio": 2},
        {"face": 3, "frame": 3, "audio": 3},
    ]
    with merstore.open("features.mer") as store:
        for key, names in CORPORA.items():
            assert [sorted(store[f"{key}/{view}"]) for view in VIEWS] == [sorted(names)] * 3
    answers: dict[str, str] = {}
    for key in CORPORA:
        lines = Path(f"output/results-{key}/{FILE}.jsonl").read_text("utf-8").splitlines()
        answers |= {row["name"]: row["reason"] for row in map(json.loads, lines)}
    assert sorted(answers) == list("abcdefgh")
    assert len(set(answers.values())) == len(answers)  # clips differ, and so does what is said

    # docs/scoring.md: labels, by rule
    spoken = {word for text in answers.values() for word in words_of(text) if word.isalnum()}
    tables = world / "emotion_wheel"
    write_tables(tables, sorted(spoken))
    expected = reference.tables_of(tables)
    labels = {
        name: list(dict.fromkeys(word for word in words_of(text) if word in spoken))
        for name, text in answers.items()
    }
    for key, names in CORPORA.items():
        result = f"output/results-{key}/{FILE}"
        run("extract-labels", f"{result}.npz", "--tables", tables, "--out", f"{result}-openset.npz")
        found = read(f"{result}-openset.npz")
        assert {name: reference.labels_of(item) for name, item in found.items()} == {
            name: labels[name] for name in names
        }
    signs = f"{result}-openset-sentiment.npz"
    extracting: list[object] = ["extract-labels", f"{result}-openset.npz", "--task", "sentiment"]
    run(*extracting, "--tables", tables, "--out", signs)
    assert read(signs) == {name: sign_of(expected, labels[name]) for name in VALUES}

    # its scores
    truth = "dataset/ovmerdplus-process/ovlabel.csv"
    scoring: list[object] = ["score", "ov", "--truth", truth, "--tables", tables]
    predicted = f"output/results-ovmerdplus/{FILE}-openset.npz"
    scores = run(*scoring, predicted)[predicted]
    true = {name: reference.labels_of(text) for name, text in LISTS.items()}
    told = reference.scores_of(expected, true, labels)
    assert {metric: scores[metric] for metric in told} == told
    assert scores["answers"]["n_empty"] == sum(not labels[name] for name in LISTS)
    (model,) = run(
        "score", "merunibench", "--labels", "dataset", "--tables", tables, "output"
    ).values()
    level1 = [told[f"M3W{wheel}-L1"]["f"] for wheel in range(1, 6)]
    sure = [name for name, value in VALUES.items() if value]
    assert {key: found["score"] for key, found in model["sets"].items()} == {
        "mer2023": reference.hit_rate_of(expected, CLASSES, labels),
        "cmumosi": f1_score(
            [VALUES[name] > 0 for name in sure],
            [read(signs)[name] == "positive" for name in sure],
            average="weighted",
        ),
        "ovmerdplus": float(np.mean(level1)),
    }

    # a file to hand in
    cli("score", "submission", "openset", predicted, "ours-openset.npz", "--names", truth)
    handed_in = {name: reference.labels_of(text) for name, text in read("ours-openset.npz").items()}
    assert handed_in == {name: labels[name] for name in LISTS}

    # the same with a language model, from the answers in the store
    extracting = ["extract-labels", reports[1]["view"], "--store", "features.mer"]
    extracting += ["--backend", "transformers", "--model", "models/tiny-qwen2", "--device", "cpu"]
    assert run(*extracting, "--out", "by-model-openset.npz")["asked"] == 2
    by_model = {
        name: reference.labels_of(text) for name, text in read("by-model-openset.npz").items()
    }
    scores = run(*scoring, "by-model-openset.npz")["by-model-openset.npz"]
    told = reference.scores_of(expected, true, by_model)
    assert {metric: scores[metric] for metric in told} == told
    unknown = Counter(word for said in by_model.values() for word in {*map(str.lower, said)})
    assert scores["answers"]["unknown"] == {
        word: count for word, count in unknown.items() if word not in expected.lemmas
    }


def read(path: str) -> dict[str, str]:
    with np.load(path, allow_pickle=False) as found:
        pairs = zip(found["filenames"].tolist(), found["fileitems"].tolist(), strict=True)
        return dict(pairs)

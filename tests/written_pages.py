"""A page of every command that writes one, of tiny data, as the command writes it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from answering import SUBTITLES, make_checkpoint, make_encoders, make_llm, make_media
from cli.test_train import FEATURES, boxed, informative
from run.test_affectgpt_training import COUNTS, make_corpus
from score_tables import write_tables
from unibench_sets import truths, write_labels, write_results, write_wheels

import merstore
from merstore.cli.main import run

COUNT = 5  # clips; the demo's are whole but for the last two
QUICK = ["--epochs", 4, "--folds", 2, "--hidden_dim", 8, "--lr", "1e-3", "--gpu", "-1"]


def prewarm(folder: Path, page: Path) -> None:
    """Of good clips, and of one that ends early."""
    clips = make_media(folder / "media", COUNT) / "clips"
    first = sorted(clips.iterdir())[0]
    (clips / "sample_00000009.mp4").write_bytes(first.read_bytes()[: first.stat().st_size // 3])
    make_encoders(folder / "encoders")
    where = ["--dataset", "toy", "--models", folder / "encoders", "--device", "cpu", "--jobs", 0]
    views = ["--view", "frame@CLIP_VIT_LARGE/uniform_8frms", "--view", "audio@HUBERT_LARGE/UTT"]
    for _ in range(2):  # so that the log has two runs
        log = ["--log", folder / "log.jsonl", "--retry-failed", "decode_error", "--report", page]
        call("prewarm", folder / "toy.mer", clips, *where, *views, *log, code=1)


def tune(folder: Path, page: Path) -> None:
    how = ["--seconds", "0.05", "--step-ms", 1, "--no-cold", "--no-save", "--batch-size", 4]
    call("tune", a_store(folder), "toy/frame@E/UTT", *how, "--html", page)


def infer(folder: Path, page: Path) -> None:
    """Three of five samples with two checkpoints, then all of them with features for four."""
    llm = make_llm(folder / "llm")
    for epoch in (20, 30):
        make_checkpoint(folder / f"output/tiny/checkpoint_{epoch:06d}_loss_0.602.pth", llm, epoch)
    media = make_media(folder / "media", COUNT)
    make_encoders(folder / "encoders")
    (media / "faces" / "sample_00000004.npy").unlink()
    models = [
        folder / "output" / "tiny" / file for file in sorted((folder / "output/tiny").iterdir())
    ]
    words = [word for model in models for word in ("--model", model)]
    words += ["--llm", llm, "--store", folder / "toy.mer", "--dataset", "toy", "--device", "cpu"]
    words += ["--jobs", 0, "--max-new-tokens", 12, "--max-length", 412, "--batch-size", 2]
    words += [
        "--media",
        media / "clips",
        "--faces",
        media / "faces",
        "--texts",
        media / "texts.csv",
    ]
    words += ["--models", folder / "encoders", "--report", page]
    merstore.open(folder / "toy.mer", "a").close()
    call("infer", *words, code=1)
    assert len(SUBTITLES) > COUNT


def train(folder: Path, page: Path) -> None:
    """Two runs of several trials, compared."""
    draw = np.random.default_rng(0)
    classes = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    arrays = {
        f"{split}_corpus": boxed(
            {
                f"{split}_{i:04d}": {"emo": classes[draw.integers(6)], "val": float(draw.normal())}
                for i in range(count)
            }
        )
        for split, count in {"train": 60, "test1": 20, "test2": 20, "test3": 20}.items()
    }
    (folder / "mer2023-dataset-process").mkdir(parents=True)
    np.savez(folder / "mer2023-dataset-process" / "label-6way.npz", **arrays)
    store = informative(folder / "s.mer", folder, 12)
    how = ["--store", store, "--dataset", "MER2023", *FEATURES, *QUICK]
    call("train", "attention", *how, "--run", "first", "--trials", 3)
    call("train", "lf-dnn", *how, "--run", "second", "--trials", 2, "--html", page, "--compare")


def train_affectgpt(folder: Path, page: Path) -> None:
    with merstore.open(folder / "features.mer", "a") as store:
        for dataset in COUNTS:
            make_corpus(store, folder, dataset)
    call(
        "train", "affectgpt", "--store", folder / "features.mer", "--llm", make_llm(folder / "llm"),
        "--dataset", ",".join(COUNTS), "--output", folder / "run", "--device", "cpu",
        "--epochs", 2, "--steps", 3, "--lr", "1e-3", "--html", page,
    )  # fmt: skip


def report_store(folder: Path, page: Path) -> None:
    call("report", a_store(folder), "--out", page)


def report_wheels(kind: str) -> Callable[[Path, Path], None]:
    """Labels by wheels: ov, mer2025."""

    def write(folder: Path, page: Path) -> None:
        tables = write_tables(folder / "emotion_wheel")
        call("report", kind, "--tables", tables, *_predictions(folder), "--out", page)

    return write


def report_groups(folder: Path, page: Path) -> None:
    (folder / "groups").mkdir()
    for name in ("s1", "s2", "s3"):
        np.save(folder / "groups" / f"{name}.npy", "[['sad', 'proud'], ['fear'], ['happy']]")
    groups = ["--groups", folder / "groups"]
    call("report", "mer2024-ov", *groups, *_predictions(folder), "--out", page)


def report_classes(folder: Path, page: Path) -> None:
    files = [folder / name for name in ("truth.csv", "one.csv", "two.csv")]
    for path, classes in zip(files, (("sad", "joy"), ("sad", ""), ("<b>", "joy")), strict=True):
        rows = [f"s{n},{name},{n}.5" for n, name in enumerate(classes, 1)]
        path.write_text("\n".join(["name,discrete,valence", *rows]))
    call("report", "classification", "--truth", *files, "--bootstrap", "--out", page)


def report_sets(folder: Path, page: Path) -> None:
    """Nine sets, and a model."""
    sets = truths(5, ("sad", "joy", "anger"))
    write_results(folder / "output", sets, "ours", 0.5)
    where = ["--labels", write_labels(folder / "dataset", sets)]
    where += ["--tables", write_wheels(folder / "wheels"), "--bootstrap"]
    call("report", "merunibench", *where, folder / "output", "--out", page)


def _predictions(folder: Path) -> list[object]:
    """Two, with intervals; the second lacks samples."""
    (folder / "truth.csv").write_text('name,openset\ns1,"[sad, proud]"\ns2,[fear]\ns3,[happy]\n')
    (folder / "one.csv").write_text("name,openset\ns1,[sad]\ns2,[irate]\ns3,[brave]\n")
    (folder / "two.jsonl").write_text('{"name": "s1", "openset": "[proud]"}\n')
    how = ["--truth", folder / "truth.csv", "--missing", "empty", "--bootstrap"]
    return [*how, folder / "one.csv", folder / "two.jsonl"]


COMMANDS: dict[str, Callable[[Path, Path], None]] = {
    "prewarm": prewarm,
    "tune": tune,
    "infer": infer,
    "train": train,
    "train affectgpt": train_affectgpt,
    "report store": report_store,
    "report ov": report_wheels("ov"),
    "report mer2025": report_wheels("mer2025"),
    "report mer2024-ov": report_groups,
    "report classification": report_classes,
    "report merunibench": report_sets,
}


def a_store(folder: Path) -> Path:
    """With two views, failures, and a name that would be markup."""
    with merstore.open(folder / "s.mer", "a") as store:
        view = store.create_view("toy/frame@E/UTT", shape=(8,), spec={"profile": "<b>&"})
        view.update({f"s{n:02}": np.full(8, n, np.float32) for n in range(12)})
        view.fail("<i>nobody", "no_face", "no <face>")
        sound = store.create_view("toy/audio@E/FRA", shape=(None, 4), dtype="float16")
        sound.update({f"s{n:02}": np.ones((1 + n, 4), np.float16) for n in range(7)})
    return folder / "s.mer"


def call(*args: object, code: int = 0) -> None:
    assert run([str(arg) for arg in args]) == code, args


def write_pages(folder: Path) -> dict[str, Path]:
    """The pages, by what writes them."""
    pages = {}
    for name, write in COMMANDS.items():
        made = folder / name.replace(" ", "-")
        made.mkdir(parents=True)
        pages[name] = made / "page.html"
        write(made, pages[name])
    return pages

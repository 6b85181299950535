"""merstore train: one command from features and labels to results."""

from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.corpora import open_corpus, store_labels
from merstore.run.training import results

from .conftest import Merstore

PATHS = (
    "audio@chinese-hubert-large/UTT",
    "text@Baichuan-13B-Base/UTT",
    "face@clip-vit-large-patch14/UTT",
)
FEATURES = [
    "--audio_feature", "chinese-hubert-large-UTT", "--text-feature", "Baichuan-13B-Base-UTT",
    "--video_feature", "clip-vit-large-patch14-UTT",
]  # fmt: skip
QUICK = ["--epochs", "1", "--hidden_dim", "8", "--gpu", "-1"]


def boxed(value: object) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small MER2023: labels in a store, and features that tell the class."""
    rng = np.random.default_rng(0)
    classes = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    folder = tmp_path / "mer2023-dataset-process"
    folder.mkdir()
    splits = {"train": 150, "test1": 40, "test2": 30, "test3": 30}
    arrays = {
        split: {
            f"{split}_{i:04d}": {
                "emo": classes[rng.integers(6)],
                "val": -10 if split == "test3" else float(rng.normal()),
            }
            for i in range(count)
        }
        for split, count in splits.items()
    }
    np.savez(
        folder / "label-6way.npz", **{f"{split}_corpus": boxed(x) for split, x in arrays.items()}
    )
    return informative(tmp_path / "s.mer", tmp_path, 12)


def informative(path: Path, folder: Path, width: int) -> Path:
    """A store with the labels of MER2023 and three features whose vectors are noisy class centres."""
    rng = np.random.default_rng(1)
    corpus = open_corpus("mer2023", folder)
    emos = corpus.labels().column("emo")
    with merstore.open(path, "a") as store:
        store_labels(store, corpus)
        for tail in PATHS:
            centres = rng.normal(size=(6, width))
            view = store.create_view(f"mer2023/{tail}", shape=(width,))
            view.update(
                {
                    name: (centres[emo] + rng.normal(size=width)).astype(np.float32)
                    for name, emo in emos.items()
                }
            )
    return path


def test_one_command_ends_above_the_floor_with_a_page(
    cli: Merstore, made: Path, tmp_path: Path
) -> None:
    page, saved, boards = tmp_path / "page.html", tmp_path / "saved", tmp_path / "boards"
    how = ["--trials", "3", "--epochs", "12", "--hidden_dim", "32", "--lr", "1e-3", "--gpu", "-1"]
    outputs = [
        "--html", page, "--export_npz", "--save_root", saved, "--leaderboard", boards,
        "--savemodel", "--run", "first",
    ]  # fmt: skip
    result = cli(
        "train", "attention", "--store", made, "--dataset", "MER2023", *FEATURES, *how, *outputs
    )
    assert result.code == 0, result.err
    assert "kept in" in result.err
    with merstore.open(made) as store:
        kept = results.read(store, "first")
        for part in ("test1", "test2", "test3"):
            found, floor = kept.best.tests[part], kept.about["floors"][part]
            assert found is not None
            assert found["f1"] > floor["f1"] + 0.1
            assert f"{part}: the most frequent class alone" in result.out
    assert "<svg" in page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "saved-trimodal" / "result").iterdir())) == 3 * 4
    assert len(list((tmp_path / "saved-trimodal" / "model").iterdir())) == 5
    assert sorted(path.name for path in boards.iterdir()) == [
        f"MER2023-test{number}.csv" for number in (1, 2, 3)
    ]


@pytest.mark.shared
def test_the_real_labels_of_mer2023(cli: Merstore, shared: Path, tmp_path: Path) -> None:
    path = informative(tmp_path / "s.mer", shared / "data" / "merbench", 16)
    page = tmp_path / "page.html"
    result = cli(
        "train", "attention", "--store", path, "--dataset", "mer2023", *FEATURES, "--epochs", "2",
        "--folds", "2", "--hidden_dim", "32", "--lr", "1e-3", "--gpu", "-1", "--html", page, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    (row,) = result.json["rows"]
    assert [row["tests"][part]["n"] for part in ("test1", "test2", "test3")] == [411, 412, 834]
    assert row["tests"]["test1"]["f1"] > 0.1040 + 0.1
    assert row["tests"]["test3"]["mse"] is None
    assert "MER2023" in page.read_text(encoding="utf-8")


def test_labels_may_be_read_from_a_file(cli: Merstore, made: Path, tmp_path: Path) -> None:
    with merstore.open(made, "a") as store:
        store.drop_view("mer2023/label/6way")
    source = tmp_path / "mer2023-dataset-process" / "label-6way.npz"
    args = ["train", "lf_dnn", "--store", made, "--dataset", "MER2023", *FEATURES, *QUICK]
    assert "store_labels" in cli(*args).err
    assert cli(*args, "--labels-from", source).code == 0


def test_lists_are_joined_by_feature_names(cli: Merstore, made: Path) -> None:
    args = ["train", "attention_topn", "--store", made, "--dataset", "MER2023", *QUICK]
    result = cli(*args, "--fusion_topn", "1", "--fusion_modality", "AV", "--run", "joined")
    assert result.code == 0, result.err
    with merstore.open(made) as store:
        assert results.read(store, "joined").about["features"] == [
            "chinese-hubert-large-UTT", *["clip-vit-large-patch14-UTT"] * 2,
        ]  # fmt: skip
    result = cli(*args, "--fusion_topn", "2")
    assert result.code == 2
    assert "lacks 3 features" in result.err


def test_earlier_runs_stand_beside_it_on_the_page(
    cli: Merstore, made: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    args = ["--store", made, "--dataset", "MER2023", *FEATURES, *QUICK]
    assert cli("train", "attention", *args, "--run", "one").code == 0
    assert cli("train", "lf-dnn", *args, "--run", "two", "--html", page, "--compare").code == 0
    text = page.read_text(encoding="utf-8")
    assert "result@attention/one" in text
    assert "result@lf_dnn/two" in text


def test_unlabelled_tests_are_predicted_and_said_to_have_no_score(
    cli: Merstore, made: Path, tmp_path: Path
) -> None:
    corpus = open_corpus("mer2023", tmp_path)
    for name, label in corpus.labels().samples.items():
        if name.startswith("test1"):
            label.values["emo"] = label.values["val"] = None
    with merstore.open(made, "a") as store:
        store.drop_view("mer2023/label/6way")
        store_labels(store, corpus)
    result = cli(
        "train",
        "attention",
        "--store",
        made,
        "--dataset",
        "MER2023",
        *FEATURES,
        *QUICK,
        "--run",
        "r",
    )
    assert result.code == 0, result.err
    assert "test1 has no labels: predicted, and not scored" in result.out
    with merstore.open(made) as store:
        kept = results.read(store, "r")
        assert kept.best.tests["test1"] is None
        assert len(results.predictions(store, kept, "test1").names) == 40


def test_nothing_is_kept_where_nothing_is_to_be(cli: Merstore, made: Path) -> None:
    args = ["train", "attention", "--store", made, "--dataset", "MER2023", *FEATURES, *QUICK]
    assert cli(*args, "--no-keep", "--debug", "--test_snr", "None").code == 0
    with merstore.open(made) as store:
        assert results.runs(store) == []


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["nonsense", "--dataset", "MER2023", *FEATURES], 2, "MODEL 'nonsense': one of attention"),
        (["attention", *FEATURES], 2, "--dataset, or both"),
        (["attention", "--train_dataset", "MER2023", *FEATURES], 2, "--dataset, or both"),
        (["attention", "--dataset", "MER2023"], 2, "--audio_feature"),
        (["attention", "--dataset", "MER2023", "--fusion_topn", "1"], 2, "go together"),
        (["attention", "--dataset", "MER2023", *FEATURES, "--n_classes", "4"], 2, "have 6"),
        (["attention", "--dataset", "MER2023", *FEATURES, "--e2e_name", "x"], 2, "not on media"),
        (["attention", "--dataset", "MER2023", *FEATURES, "--lr_adjust", "x"], 2, "case1"),
        (["attention", "--dataset", "MER2099", *FEATURES], 2, "MER2099/label/"),
        (
            ["attention", "--dataset", "MER2023", "--audio_feature", "chinese-hubert-UTT"],
            2,
            "near:",
        ),
        (["attention", "--dataset", "MER2023", *FEATURES, "--folds", "151"], 1, "make no 151"),
        (
            ["attention_topn", "--dataset", "MER2023", "--fusion_topn", "1", "--ranks", "x"],
            2,
            "--ranks x",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    args: list[str], code: int, told: str, cli: Merstore, made: Path
) -> None:
    result = cli("train", *args, "--store", made)
    assert result.code == code, result.err
    assert result.err.splitlines()[-1].startswith("error: ")
    assert told in result.err

"""What came of training: kept, read back, ranked, exported and shown."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from html_page import Page

from merstore.errors import InvalidKey, MerstoreError, SpecMismatch, UnknownView
from merstore.models.baselines.blocks import ROLES
from merstore.run.training import (
    Options,
    Problem,
    Run,
    comparison,
    load,
    ranks,
    released,
    results,
    train,
)
from merstore.run.training.task import across, find_labels, task_of
from merstore.store.store import Store

from .made import CLASSES, FOLDERS, PATHS, corpus

HYPERS = [{"hidden_dim": 8, "dropout": 0.2, "grad_clip": -1.0, "lr": rate} for rate in (1e-4, 1e-3)]
ARGUMENTS = {
    "dataset": "MER2023", "model": "attention", "feat_type": "utt",
    **{f"{role}_feature": folder for role, folder in FOLDERS.items()},
}  # fmt: skip


@pytest.fixture
def run(problem: Problem) -> Run:
    return train(problem, Options("attention", epochs=3, folds=3, keep_weights=True), HYPERS)


# -- in the store


def test_a_run_comes_back_as_it_was(store: Store, run: Run) -> None:
    path = results.save(store, run, ARGUMENTS, "first")
    assert path == "mer2023/result@attention/first"
    assert results.runs(store) == results.runs(store, "mer2023") == [path]
    for back in (results.read(store, path), results.read(store, "first")):
        expected = results.of(run, ARGUMENTS, path)
        assert (back.about, back.rows) == (expected.about, expected.rows)
    about = back.about
    assert about["arguments"] == ARGUMENTS
    assert about["options"]["seed"] == 0
    assert about["classes"] == list(CLASSES)
    assert about["views"][f"mer2023/{PATHS[0]}"] == store[f"mer2023/{PATHS[0]}"].fingerprint
    assert [row.hyper for row in back.rows] == HYPERS
    assert back.best.cv["metric"] == run.best.metric
    assert [len(fold["train_loss"]) for fold in back.rows[0].history] == [3, 3, 3]
    assert store.verify() == []


def test_predictions_are_kept_by_name(store: Store, run: Run) -> None:
    back = results.read(store, results.save(store, run, ARGUMENTS, "first"))
    for number, trial in enumerate(run.trials):
        found = results.predictions(store, back, "test1", number)
        order = [found.names.index(name) for name in run.problem.samples["test1"].names]
        np.testing.assert_array_equal(found.logits[order], trial.predictions["test1"][0])
        np.testing.assert_array_equal(found.values[order], trial.predictions["test1"][1])
    held = results.predictions(store, back)
    assert sorted(held.names) == sorted(run.problem.samples["train"].names)
    expected = run.held(run.best)
    np.testing.assert_array_equal(held.logits[0], expected[held.names[0]][0])
    with pytest.raises(InvalidKey, match="no predictions of 'test2'"):
        results.predictions(store, back, "test2")


def test_predictions_on_another_corpus_are_in_its_dataset(store: Store) -> None:
    corpus(store)
    corpus(store, "mer2024", {"train": 30, "test1": 25}, values=False)
    tasks = [task_of(find_labels(store, name), name) for name in ("MER2023", "MER2024")]
    problem = load(store, across(*tasks), [*FOLDERS.values()], ROLES)
    run = train(problem, Options("lf_dnn", epochs=1, folds=2), HYPERS)
    back = results.read(store, results.save(store, run, {}, "across"))
    assert "mer2024/prediction@lf_dnn/across.test1" in store
    found = results.predictions(store, back, "test1")
    assert found.logits.shape == (len(problem.samples["test1"]), 4)


def test_names_are_new_unless_given_and_are_used_once(store: Store, run: Run) -> None:
    assert results.new_name() != results.new_name()
    results.save(store, run, ARGUMENTS, "first")
    with pytest.raises(SpecMismatch, match="exists already"):
        results.save(store, run, ARGUMENTS, "first")
    with pytest.raises(InvalidKey):
        results.save(store, run, ARGUMENTS, "a/b/c")
    with pytest.raises(UnknownView, match="there are: mer2023/result@attention/first"):
        results.read(store, "second")


# -- rank lists


def test_the_built_in_lists_have_the_known_lengths_and_ends() -> None:
    lengths = {
        name: [len(each[role]) for role in ranks.ROLES] for name, each in ranks.LISTS.items()
    }
    assert lengths == {
        "MER2024": [9, 15, 12], "MERBench": [13, 19, 12], "MER2025": [6, 5, 6], "MER2026": [5, 4, 6],
    }  # fmt: skip
    assert ranks.top(ranks.LISTS["MER2024"], 1, "AVT") == [
        "chinese-hubert-large", "Baichuan-13B-Base", "clip-vit-large-patch14",
    ]  # fmt: skip
    assert ranks.LISTS["MER2026"]["audio"][-1] == "chinese-hubert-base"


def test_every_modality_joins_three_lists() -> None:
    lists = {"audio": "ab", "text": "cd", "image": "ef"}
    assert {name: "".join(ranks.top(lists, 2, name)) for name in ranks.MODALITIES} == {
        "AVT": "abcdef", "AT": "abcdcd", "AV": "abefef", "VT": "cdcdef",
    }  # fmt: skip
    with pytest.raises(MerstoreError, match="2 of audio, 2 of text, 2 of image"):
        ranks.top(lists, 3, "AVT")
    with pytest.raises(InvalidKey, match="fusion_modality"):
        ranks.top(lists, 1, "TAV")


def test_features_are_found_however_their_level_is_spelled(store: Store) -> None:
    corpus(store)
    found = ranks.folders(store, "mer2023", ["chinese-hubert-large", "manet"])
    assert found == [f"mer2023/{PATHS[0]}", f"mer2023/{PATHS[2]}"]
    with pytest.raises(UnknownView, match=r"lacks 2 features of mer2023.*emonet, vggish"):
        ranks.folders(store, "mer2023", ["emonet", "manet", "vggish"])


def test_lists_come_from_results_with_one_feature(store: Store) -> None:
    corpus(store, noise=1.5)
    task = task_of(find_labels(store, "mer2023"), "mer2023")
    with pytest.raises(MerstoreError, match="train some"):
        ranks.computed(store, "mer2023")
    for folder in FOLDERS.values():
        run = train(load(store, task, [folder] * 3, ROLES), Options("attention", epochs=2), HYPERS)
        results.save(store, run, {}, folder)
    assert ranks.computed(store, "mer2023") == {
        "audio": ("chinese-hubert-large",), "text": ("Baichuan-13B-Base",), "image": ("manet",),
    }  # fmt: skip


def test_the_better_feature_of_a_role_comes_last(store: Store) -> None:
    made = corpus(store)
    rng = np.random.default_rng(0)
    noise = store.create_view("mer2023/audio@vggish/UTT", shape=(5,))
    noise.update({name: rng.normal(size=5).astype(np.float32) for name in made})
    task = task_of(find_labels(store, "mer2023"), "mer2023")
    for folder in ("chinese-hubert-large-UTT", "vggish_UTT"):
        options = Options("attention", epochs=12, folds=2)
        fast = [HYPERS[0] | {"hidden_dim": 32, "lr": 0.01}]
        run = train(load(store, task, [folder] * 3, ROLES), options, fast)
        results.save(store, run, {}, folder)
    assert ranks.computed(store, "mer2023")["audio"] == ("vggish", "chinese-hubert-large")


# -- MERTools' files


def test_files_have_the_released_names_and_keys(run: Run, tmp_path: Path) -> None:
    written = released.write(run, ARGUMENTS, tmp_path / "saved")
    assert len(written) == 2 * 3
    folder = tmp_path / "saved-trimodal" / "result"
    assert sorted(folder.iterdir()) == sorted(written)
    prefix = (
        "features:Baichuan-13B-Base-UTT+chinese-hubert-large-UTT+manet_UTT"
        "_dataset:MER2023_model:attention+utt+None"
    )
    cv, test1, test3 = written[:3]
    assert cv.name.startswith(f"cv_{prefix}_f1:")
    assert test1.name.startswith(f"test1_{prefix}_f1:")
    assert test3.name.startswith(f"test2_{prefix}_f1:")
    assert ("_val:" in test1.name, "_val:" in test3.name) == (True, False)
    read = released.read_metrics(cv.name)
    assert read["f1"] == pytest.approx(run.trials[0].cv["f1"], abs=1e-4)
    assert read["val"] == pytest.approx(run.trials[0].cv["mse"], abs=1e-4)
    with np.load(test1, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["emo_probs"], run.trials[0].predictions["test1"][0])
        assert file["names"].tolist() == run.problem.samples["test1"].names
        args = json.loads(str(file["args"]))
    assert (args["hidden_dim"], args["lr"], args["model"]) == (8, 1e-4, "attention")
    assert args["duration"] == run.trials[0].seconds


@pytest.mark.parametrize(
    ("more", "folder", "prefix"),
    [
        (
            {"video_feature": "chinese-hubert-large-UTT", "text_feature": None},
            "s-unimodal",
            "features:chinese-hubert-large-UTT_dataset:MER2023_model:attention+utt+None",
        ),
        (
            {"train_dataset": "MER2023", "test_dataset": "MELD", "text_feature": None},
            "s-cross-bimodal",
            "features:chinese-hubert-large-UTT+manet_UTT_dataset:MER2023_model:attention+utt+None"
            "_train:MER2023_test:MELD",
        ),
        (
            {"test_snr": "noisesnr5"},
            "s-noise-trimodal",
            "features:Baichuan-13B-Base-UTT+chinese-hubert-large-UTT+manet_UTT"
            "_dataset:MER2023_model:attention+utt+None_trainsnr:None_testsnr:noisesnr5",
        ),
        (
            {"fusion_topn": 6, "fusion_modality": "AVT", "model": "attention_topn"},
            "s-multitop-others",
            "features:_dataset:MER2023_model:attention_topn+utt+None_fusiontopn:6_modality:AVT",
        ),
    ],
)
def test_roots_and_prefixes_say_what_was_trained(more: dict, folder: str, prefix: str) -> None:
    arguments = {**ARGUMENTS, **more}
    assert str(released.root_of(Path("s"), arguments)) == folder
    assert released.prefix_of(arguments) == prefix


def test_leader_boards_have_names_classes_and_values(run: Run, tmp_path: Path) -> None:
    first, _ = released.write_leaderboard(run, tmp_path)
    with first.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "discrete", "valence"]
    assert [row["name"] for row in rows] == run.problem.samples["test1"].names
    logits, values = run.best.predictions["test1"]
    assert [row["discrete"] for row in rows] == [CLASSES[i] for i in logits.argmax(1)]
    np.testing.assert_allclose([float(r["valence"]) for r in rows], values[:, 0], atol=1e-4)


def test_weights_are_written_by_fold(run: Run, tmp_path: Path) -> None:
    written = released.write_weights(run, ARGUMENTS, tmp_path / "s")
    assert len(written) == 3
    with np.load(written[0], allow_pickle=False) as file:
        assert file["fc_att.weight"].shape == (3, 8)
    run.best.folds[0].weights = None
    with pytest.raises(MerstoreError, match="--savemodel"):
        released.write_weights(run, ARGUMENTS, tmp_path / "s")


def test_a_name_that_is_too_long_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="too long"):
        released.write(run, {**ARGUMENTS, "audio_feature": "x" * 200}, tmp_path / "s")


# -- the page


def test_the_page_needs_nothing_else_and_says_how_scores_came_about(run: Run) -> None:
    one, other = results.of(run, ARGUMENTS, "a"), results.of(run, ARGUMENTS, "b")
    for runs in ([one], [one, other]):
        text = comparison.html(runs)
        page = Page(text)
        page.check()
        assert page.tags.count("svg") == len(runs) * 4 + (len(runs) > 1)
        assert "random folds" in text
        assert "most frequent class" in text
        assert f"{run.best.metric:.4f}" in text


def test_the_ten_best_have_a_mean_and_a_population_deviation() -> None:
    rows = [results.Row(i, {}, {"metric": float(i)}, {}, 0, [], [], 1) for i in range(20)]
    mean, deviation = comparison.spread(rows)
    assert (mean, deviation) == (14.5, pytest.approx(np.std(np.arange(10, 20))))


def test_the_floor_of_values_is_that_of_their_signs(store: Store) -> None:
    corpus(store, "sims", {"train": 40, "val": 12, "test": 30}, classes=(), name="valence")
    task = task_of(find_labels(store, "SIMS"), "SIMS")
    problem = load(store, task, [*FOLDERS.values()], ROLES)
    above = float((problem.samples["test"].vals > 0).mean())
    assert results.floors(problem)["test"]["acc"] == max(above, 1 - above)
    run = train(problem, Options("lmf", epochs=2), [HYPERS[0] | {"rank": 3}])
    assert run.best.scores["test"] is not None
    assert run.best.scores["test"].binary

"""AffectGPT's folder of results becomes one line a checkpoint, one column a set."""

import math
from pathlib import Path

import numpy as np
import pytest
from unibench_sets import truths, write_labels, write_results, write_wheels

from merstore.errors import InvalidKey, MerstoreError
from merstore.score.files import OPENSET, SENTIMENT, prediction_files
from merstore.score.unibench import HitRate, SignScore
from merstore.score.unibench_results import (
    SETS,
    SetResult,
    boards,
    read_truth,
    score_results,
    total,
)
from merstore.score.wheels import WheelTables


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Label files as MERBench keeps them."""
    root = tmp_path / "dataset"
    for folder, name in (("mer2023-dataset-process", "label-6way"), ("cmumosi-process", "label")):
        (root / folder).mkdir(parents=True)
        field, values = ("emo", ["sad", "happy"]) if "6way" in name else ("val", [1.5, -2.0, 0.0])
        test = {f"t{n}": {"emo": 0, "val": 0.0} | {field: value} for n, value in enumerate(values)}
        other = {"o": {"emo": "sad" if field == "emo" else 0, "val": 0.5}}
        splits = (
            ["test1", "train", "test2", "test3"] if "6way" in name else ["test", "train", "val"]
        )
        corpora = {f"{split}_corpus": test if split[:4] == "test" else other for split in splits}
        np.savez(
            root / folder / f"{name}.npz", **{k: np.array(v, object) for k, v in corpora.items()}
        )
    folder = root / "ovmerdplus-process"
    folder.mkdir()
    (folder / "ovlabel.csv").write_text('name,openset\nv1,"[sad, fear]"\nv2,[]\n')
    return root


def result(path: Path, answers: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, filenames=list(answers), fileitems=list(answers.values()))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    root = tmp_path / "output"
    for epoch in (1, 2):
        for corpus, answers in {
            "mer2023": {"t0": "[sad]", "t1": "[proud, sad]"},
            "cmumosi": {"t0": "[happy]", "t1": "[sad]", "t2": "[sad]"},
            "ovmerdplus": {"v1": "[down]", "v2": "[sad]"},
        }.items():
            result(root / f"results-{corpus}/ours_lr1/checkpoint_{epoch}{OPENSET}", answers)
        signs = {"t0": "positive", "t1": "mixed", "t2": "positive"}
        result(root / f"results-cmumosi/ours_lr1/checkpoint_{epoch}{SENTIMENT}", signs)
    return root


def test_a_checkpoint_is_a_model_and_a_folder_a_set(
    output: Path, labels: Path, tables: WheelTables
) -> None:
    files = prediction_files(str(output), (OPENSET, SENTIMENT))
    found = score_results(files, labels, tables)
    assert list(found) == [f"{output}/ours_lr1/checkpoint_{epoch}" for epoch in (1, 2)]
    for sets in found.values():
        assert list(sets) == ["mer2023", "cmumosi", "ovmerdplus"]
        signs, hits = sets["cmumosi"].result, sets["mer2023"].result
        assert isinstance(signs, SignScore)
        assert (sets["cmumosi"].score, signs.n, signs.other) == (1, 2, {"mixed": 1})
        assert sets["cmumosi"].file.endswith(SENTIMENT)
        assert isinstance(hits, HitRate)
        assert hits.n == (1, 2, 0, 1, 1)
        assert math.isnan(total(sets))


def test_the_total_is_the_mean_of_all_nine(output: Path, labels: Path, tables: WheelTables) -> None:
    sets = next(iter(score_results(prediction_files(str(output)), labels, tables).values()))
    any_set = sets["ovmerdplus"]
    all_nine = {key: any_set._replace(score=number / 8) for number, key in enumerate(SETS)}
    assert total(all_nine) == 0.5
    assert len(SETS) == 9


def test_models_are_compared_set_by_set(output: Path, labels: Path, tables: WheelTables) -> None:
    worse = output / f"results-mer2023/ours_lr1/checkpoint_2{OPENSET}"
    result(worse, {"t0": "[]", "t1": "[]"})
    models = score_results(prediction_files(str(output)), labels, tables)
    one, two = models
    found = boards(models, seed=0)
    assert list(found.sets) == ["mer2023", "ovmerdplus"]
    assert list(found.sets["mer2023"]) == [one, two]
    assert "MER2025-L1" in found.sets["ovmerdplus"][two].behind
    assert boards(models).sets["mer2023"][one].intervals == {}


def test_a_model_that_lacks_a_set_has_no_mean_and_comes_last(
    output: Path, labels: Path, tables: WheelTables
) -> None:
    (output / f"results-mer2023/ours_lr1/checkpoint_1{OPENSET}").unlink()
    models = score_results(prediction_files(str(output)), labels, tables)
    found = boards(models, seed=0).models
    assert [entry.name[-1] for entry in found] == ["2", "1"]
    assert all(math.isnan(entry.values["mean"]) for entry in found)
    assert [(entry.intervals, entry.behind) for entry in found] == [({}, {})] * 2


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, SetResult]]:
    """Two models on all nine sets."""
    root = tmp_path_factory.mktemp("nine")
    sets = truths(30, ("sad", "joy", "anger", "happy"))
    for model, right in (("good", 0.8), ("fair", 0.7)):
        write_results(root / "output", sets, model, right)
    files = prediction_files(str(root / "output"), (OPENSET, SENTIMENT))
    labels = write_labels(root / "dataset", sets)
    return score_results(files, labels, WheelTables.load(write_wheels(root / "wheels")))


def test_the_mean_is_drawn_by_drawing_each_set(nine: dict[str, dict[str, SetResult]]) -> None:
    found = boards(nine, seed=3)
    first, other = found.models
    assert first.name.endswith("good/checkpoint_1")
    drawn = {}
    for model, sets in nine.items():
        columns = []
        for number, key in enumerate(SETS):
            each = sets[key].result
            place = list(each.values()).index(sets[key].value)
            rng = np.random.default_rng((3, number))
            rows = (rng.integers(0, len(each), len(each)) for _ in range(1000))
            columns.append([each.resample(some)[place] for some in rows])
        drawn[model] = np.mean(columns, axis=0)
    low, high = np.percentile(drawn[first.name], (2.5, 97.5))
    assert first.intervals["mean"] == pytest.approx((low, high))
    behind = np.percentile(drawn[first.name] - drawn[other.name], (2.5, 97.5))
    assert (other.behind["mean"].low, other.behind["mean"].high) == pytest.approx(tuple(behind))
    assert other.behind["mean"].difference == first.values["mean"] - other.values["mean"]
    # as of nine that have nothing to do with one another
    widths = [
        interval.high - interval.low
        for key in SETS
        for interval in [found.sets[key][first.name].intervals[nine[first.name][key].value]]
    ]
    assert high - low == pytest.approx(np.sqrt(np.sum(np.square(widths))) / 9, rel=0.15)


def test_the_seed_decides_the_draws(nine: dict[str, dict[str, SetResult]]) -> None:
    model = next(iter(nine))
    one, same, other = (
        boards({model: nine[model]}, seed).models[0].intervals["mean"] for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_a_path_that_tells_no_set(tmp_path: Path, labels: Path, tables: WheelTables) -> None:
    path = tmp_path / "a-openset.npz"
    with pytest.raises(MerstoreError, match="no folder results-SET"):
        score_results({str(path): path}, labels, tables)


def test_a_set_that_is_none_of_the_nine(labels: Path) -> None:
    with pytest.raises(MerstoreError, match="none of MER-UniBench's sets: mer2023"):
        read_truth("mer2025", labels)
    with pytest.raises(InvalidKey, match="no corpus"):
        read_truth("imagenet", labels)


def test_two_results_of_one_set_and_model(output: Path, labels: Path, tables: WheelTables) -> None:
    again = output / "results-MER2023" / "ours_lr1" / f"checkpoint_1{OPENSET}"
    result(again, {"t0": "[]", "t1": "[]"})
    with pytest.raises(MerstoreError, match=r"of mer2023 and .*checkpoint_1 too: give one"):
        score_results(prediction_files(str(output)), labels, tables)


def test_a_missing_name_tells_the_file(output: Path, labels: Path, tables: WheelTables) -> None:
    result(output / f"results-mer2023/ours_lr1/checkpoint_1{OPENSET}", {"t0": "[sad]"})
    with pytest.raises(MerstoreError, match=r"checkpoint_1-openset\.npz: 1 of 2 .*: t1"):
        score_results(prediction_files(str(output)), labels, tables)


def test_a_set_of_sentiment_without_its_file(
    output: Path, labels: Path, tables: WheelTables
) -> None:
    path = output / f"results-cmumosi/ours_lr1/checkpoint_1{OPENSET}"
    with pytest.raises(MerstoreError, match=r"nor \*-openset-sentiment\.npz"):
        score_results({str(path): path}, labels, tables)

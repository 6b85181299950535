"""`merstore score` prints the published numbers, and what became of every answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_tables import write_tables
from unibench_sets import truths, write_labels, write_results, write_wheels

import merstore

from .conftest import Merstore

METRIC = {"n", "precision", "recall", "f"}


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    """Small tables, a truth, and a folder of three predictions with their descriptions."""
    tables = write_tables(tmp_path / "emotion_wheel")
    truth = tmp_path / "truth.csv"
    truth.write_text('name,openset\ns1,"[sad, proud]"\ns2,[fear]\ns3,[neutral]\n')
    folder = tmp_path / "results"
    (folder / "good").mkdir(parents=True)
    for path, answers in {
        "good/a-openset.npz": ["['sad', 'grumpy']", "[fear]", "[]"],
        "bad/a-openset.npz": ["[irate]", "[]", "[sad]"],
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        np.savez(folder / path, filenames=["s1", "s2", "s3"], fileitems=answers)
    np.savez(folder / "good" / "a.npz", name2reason={f"s{n}": "She is sad." for n in (1, 2, 3)})
    (folder / "middle.csv").write_text("name,openset\ns1,[sad]\ns2,[irate]\ns3,[]\nextra,[sad]\n")
    return {"tables": tables, "truth": truth, "folder": folder}


def ov(case: dict[str, Any]) -> list[object]:
    return ["score", "ov", "--truth", case["truth"], "--tables", case["tables"]]


class TestOv:
    def test_json_is_by_the_path_as_given(self, cli: Merstore, case: dict[str, Any]) -> None:
        given = f"{case['folder']}/../results/middle.csv"
        found = cli(*ov(case), given, "--json").json
        assert list(found) == [given]
        assert set(found[given]["M1"]) == METRIC
        assert found[given]["M1"]["n"] == 2
        assert found[given]["M3W4-L1"]["n"] == 1
        assert found[given]["answers"]["ignored"] == 1

    def test_no_score_is_null(self, cli: Merstore, case: dict[str, Any]) -> None:
        case["truth"].write_text("name,openset\ns3,[neutral]\n")
        result = cli(*ov(case), case["folder"] / "middle.csv", "--json")
        assert "NaN" not in result.out
        (found,) = result.json.values()
        assert (found["M1"], found["M-avg"]) == (
            {"n": 0, "precision": None, "recall": None, "f": None},
            None,
        )

    def test_a_folder_becomes_a_ranked_table(self, cli: Merstore, case: dict[str, Any]) -> None:
        result = cli(*ov(case), case["folder"])
        assert result.code == 0
        rows = [line.split() for line in result.lines[1:4]]
        order = ("good/a-openset.npz", "middle.csv", "bad/a-openset.npz")
        names = [f"{case['folder']}/{name}" for name in order]
        assert [row[:2] for row in rows] == [[str(n), name] for n, name in enumerate(names, 1)]
        told = next(line for line in result.lines if line.startswith(f"{names[0]}: "))
        assert told.endswith("3 samples, 1 empty, 1 unknown label (33.3%): grumpy 1")
        assert result.lines[-2] == "samples scored: M1 2, M2 2, W1 1, W2 2, W3 1, W4 1, W5 1"
        assert result.lines[-1].startswith(f"tables: {case['tables']}, not OV-MER's: wheel1.xlsx")
        shown = cli(*ov(case), case["folder"], "--json").json
        assert [entry["rank"] for entry in shown.values()] == [1, 2, 3]

    def test_bootstrap_gives_intervals_and_paired_differences(
        self, cli: Merstore, case: dict[str, Any]
    ) -> None:
        args = [*ov(case), case["folder"], "--bootstrap", "--json"]
        found = cli(*args).json
        best, second, _ = found.values()
        assert best["intervals"]["M1"]["low"] <= best["M1"]["f"] <= best["intervals"]["M1"]["high"]
        assert "behind" not in best
        assert second["behind"]["first"] == next(iter(found))
        assert second["behind"]["M1"]["difference"] == best["M1"]["f"] - second["M1"]["f"]
        assert cli(*args).json == found
        assert cli(*args, "--seed", 7).json != found
        assert "95%" in cli(*ov(case), case["folder"], "--bootstrap").lines[0]

    def test_missing_names_are_an_error_that_lists_them(
        self, cli: Merstore, case: dict[str, Any]
    ) -> None:
        path = case["folder"] / "middle.csv"
        path.write_text("name,openset\ns1,[sad]\n")
        result = cli(*ov(case), path)
        assert (result.code, result.out) == (1, "")
        assert f"{path}: 2 of 3 samples have no prediction: s2, s3;" in result.err
        result = cli(*ov(case), path, "--missing", "empty", "--json")
        assert result.json[str(path)]["answers"]["missing"] == ["s2", "s3"]
        assert "2 missing" in cli(*ov(case), path, "--missing", "empty").out

    def test_descriptions_are_read_as_lists_and_that_is_said(
        self, cli: Merstore, case: dict[str, Any]
    ) -> None:
        result = cli(*ov(case), case["folder"] / "good" / "a.npz")
        assert "a.npz: descriptions" in result.err
        assert "3 of unknown labels alone" in result.out

    def test_a_run_in_a_store(self, cli: Merstore, case: dict[str, Any], tmp_path: Path) -> None:
        view = "mer2025/text@ours/run1"
        with merstore.open(tmp_path / "s.mer", "a") as store:
            texts = store.create_view(view, dtype="uint8", shape=(None,))
            answers = {"s1": b"[sad, proud]", "s2": b"[fear]", "s3": "喜".encode()}
            texts.update({name: np.frombuffer(text, np.uint8) for name, text in answers.items()})
        args = [*ov(case), "--store", tmp_path / "s.mer", "--json"]
        found = cli(*args, view, case["folder"] / "middle.csv").json
        assert list(found) == [view, f"{case['folder']}/middle.csv"]
        assert found[view]["M1"] == {"n": 2, "precision": 1, "recall": 1, "f": 1}
        assert found[view]["answers"]["unknown"] == {"proud": 1, "喜": 1}
        result = cli(*args, "mer2025/text@ours/run2")
        assert result.code == 2
        assert "run2: no such file" in result.err

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("name,openset\n", "truth.csv: the truth has no sample"),
            ("name,openset\ns1,[sad]\ns1,[fear]\n", "truth.csv: a name is there twice: s1"),
        ],
    )
    def test_a_truth_that_is_none(
        self, cli: Merstore, case: dict[str, Any], text: str, told: str
    ) -> None:
        case["truth"].write_text(text)
        result = cli(*ov(case), case["folder"])
        assert result.code == 1
        assert told in result.err


class TestMer2025:
    def test_levels_and_their_mean(self, cli: Merstore, case: dict[str, Any]) -> None:
        args = ["score", "mer2025", *ov(case)[2:], case["folder"] / "middle.csv"]
        case["truth"].write_text('name,openset\ns1,"[sad, proud]"\ns2,"[fear, sad]"\n')
        (found,) = cli(*args, "--json").json.values()
        f = [found[f"MER2025-{level}"]["f"] for level in ("L1", "L2")]
        assert found["MER2025-rank"] == np.mean(f)
        first = cli(*args).lines[1].split()
        assert first[2:5] == [f"{100 * value:.2f}" for value in (np.mean(f), *f)]


class TestClassification:
    @pytest.fixture
    def truth(self, tmp_path: Path) -> Path:
        corpus = {"a": {"emo": "sad", "val": -1.0}, "b": {"emo": "happy", "val": 2.0}}
        np.savez(tmp_path / "label-6way.npz", test1_corpus=corpus)
        return tmp_path / "label-6way.npz"

    def test_csv_against_a_label_file(self, cli: Merstore, tmp_path: Path, truth: Path) -> None:
        path = tmp_path / "ours.csv"
        path.write_text("name,discrete,valence\na,sad,-1\nb,joy,1\n")
        args = ["score", "classification", "--truth", f"{truth}#test1_corpus", path]
        found = cli(*args, "--json").json[str(path)]
        assert (found["n"], found["acc"], found["mse"], found["other"]) == (2, 0.5, 0.5, {"joy": 1})
        assert found["emoval"] == found["waf"] - 0.25 * found["mse"]
        result = cli(*args, "--bootstrap")
        assert result.lines[-1].endswith("classes that no sample truly has: joy 1")
        assert "WAF" in result.lines[0]

    def test_no_class_is_empty_and_no_other_class(
        self, cli: Merstore, tmp_path: Path, truth: Path
    ) -> None:
        path = tmp_path / "ours.csv"
        path.write_text("name,discrete,valence\na,,-1\nb,happy,1\n")
        args = ["score", "classification", "--truth", f"{truth}#test1_corpus", path]
        found = cli(*args, "--json").json[str(path)]
        assert (found["n_empty"], found["empty"], found["other"]) == (1, ["a"], {})
        assert cli(*args).lines[1].split()[-3:] == ["2", "1", "0"]

    def test_a_name_without_a_class_may_count_as_an_empty_one(
        self, cli: Merstore, tmp_path: Path, truth: Path
    ) -> None:
        path = tmp_path / "ours.csv"
        path.write_text("name,discrete\na,sad\n")
        args = ["score", "classification", "--truth", f"{truth}#test1_corpus", path]
        assert "1 of 2 samples have no prediction: b" in cli(*args).err
        found = cli(*args, "--missing", "empty", "--json").json[str(path)]
        assert (found["n"], found["acc"], found["empty"]) == (2, 0.5, ["b"])

    def test_a_label_file_needs_its_array(self, cli: Merstore, truth: Path) -> None:
        result = cli("score", "classification", "--truth", truth, "ours.csv")
        assert result.code == 1
        assert f"{truth}#ARRAY, one of test1_corpus" in result.err


class TestMerunibench:
    def test_a_line_for_a_checkpoint(self, cli: Merstore, tmp_path: Path) -> None:
        tables = write_tables(tmp_path / "emotion_wheel")
        labels = tmp_path / "dataset" / "ovmerdplus-process"
        labels.mkdir(parents=True)
        (labels / "ovlabel.csv").write_text("name,openset\nv1,[sad]\nv2,[fear]\n")
        folder = tmp_path / "output" / "results-ovmerdplus" / "ours"
        folder.mkdir(parents=True)
        np.savez(
            folder / "ck_1-openset.npz", filenames=["v1", "v2"], fileitems=["[sadly]", "[fear]"]
        )
        args = ["score", "merunibench", "--labels", tmp_path / "dataset", "--tables", tables]
        model = f"{tmp_path}/output/ours/ck_1"
        found = cli(*args, tmp_path / "output", "--json").json[model]
        assert found["mean"] is None
        assert found["sets"]["ovmerdplus"]["n"] == [1, 2, 1, 1, 1]
        lines = cli(*args, tmp_path / "output").lines
        assert lines[0].split()[:3] == ["MODEL", "MEAN", "MER2023"]
        assert lines[1].split()[0] == model
        sure = cli(*args, tmp_path / "output", "--bootstrap", "--json").json[model]["sets"]
        assert sure["ovmerdplus"]["intervals"]["M1"] == {"low": 1, "high": 1}
        table = cli(*args, tmp_path / "output", "--bootstrap").lines
        assert "100.00 (100.00-100.00)" in table[1]

    def test_the_mean_of_all_nine_has_an_interval(self, cli: Merstore, tmp_path: Path) -> None:
        sets = truths(10, ("sad", "joy", "anger"))
        tables = write_wheels(tmp_path / "emotion_wheel")
        labels = write_labels(tmp_path / "dataset", sets)
        for model, right in (("bad", 0.3), ("good", 0.9)):
            write_results(tmp_path / "output", sets, model, right)
        args = ["score", "merunibench", "--labels", labels, "--tables", tables, tmp_path / "output"]
        found = cli(*args, "--bootstrap", "--json").json
        best, other = found
        assert best.endswith("good/checkpoint_1")
        assert found[best]["mean"] == np.mean([x["score"] for x in found[best]["sets"].values()])
        mean = found[best]["intervals"]["mean"]
        assert mean["low"] < found[best]["mean"] < mean["high"]
        behind = found[other]["behind"]
        assert behind["first"] == best
        difference = found[best]["mean"] - found[other]["mean"]
        assert behind["mean"]["difference"] == difference
        lines = cli(*args, "--bootstrap").lines
        assert lines[0].split()[:4] == ["MODEL", "MEAN", "95%", "BEHIND"]
        told = f"{100 * mean['low']:.2f}-{100 * mean['high']:.2f}"
        assert lines[1].split()[:3] == [best, f"{100 * found[best]['mean']:.2f}", told]
        assert lines[2].split()[3] == f"{100 * difference:.2f}"
        assert "95%" not in cli(*args).lines[0]
        assert cli(*args, "--bootstrap", "--seed", -1).code == 2


class TestSubmission:
    def test_openset_from_any_kind_of_file(self, cli: Merstore, tmp_path: Path) -> None:
        (tmp_path / "ours.jsonl").write_text('{"name": "a", "labels": ["happy", "calm"]}\n')
        (tmp_path / "candidates.csv").write_text("name\na\n")
        out = tmp_path / "ours-openset.npz"
        args = ["score", "submission", "openset", tmp_path / "ours.jsonl", out]
        assert cli(*args, "--names", tmp_path / "candidates.csv").code == 0
        with np.load(out, allow_pickle=False) as found:
            assert found["fileitems"].tolist() == ["[happy, calm]"]
        result = cli(*args, "--names", tmp_path / "candidates.csv")
        assert (result.code, "is there already" in result.err) == (1, True)

    def test_descriptions_are_no_labels_and_that_is_said(
        self, cli: Merstore, tmp_path: Path
    ) -> None:
        (tmp_path / "ours.csv").write_text("name,reason\na,She is happy.\n")
        args = ["score", "submission", "openset", tmp_path / "ours.csv", tmp_path / "a-openset.npz"]
        assert "ours.csv: descriptions" in cli(*args, "--names", tmp_path / "ours.csv").err

    def test_classes_with_valence(self, cli: Merstore, tmp_path: Path) -> None:
        (tmp_path / "ours.csv").write_text("name,discrete,valence\na,sad,-1\nb,happy,0.5\n")
        (tmp_path / "names.csv").write_text("name\nb\na\n")
        args = ["score", "submission", "classes", tmp_path / "ours.csv", tmp_path / "out.csv"]
        assert cli(*args, "--names", tmp_path / "names.csv", "--valence").code == 0
        assert (
            tmp_path / "out.csv"
        ).read_text() == "name,discrete,valence\nb,happy,0.5\na,sad,-1.0\n"


@pytest.mark.shared
class TestPublished:
    def test_the_reference_is_what_is_printed(self, cli: Merstore, shared: Path) -> None:
        data = shared / "data" / "ov"
        expected = json.loads((data / "reference.json").read_text())["results"]
        root = f"{data}/results-ovmerd"
        args = [
            "--truth",
            data / "ov_store" / "check-openset.csv",
            "--tables",
            data / "emotion_wheel",
        ]
        found = cli("score", "ov", *args, root, "--json").json
        assert set(found) == {f"{root}/{name}-openset.npz" for name in expected}
        for name, numbers in expected.items():
            scores = found[f"{root}/{name}-openset.npz"]
            for metric, number in numbers.items():
                if metric != "hitrate":
                    assert scores[metric] == number
        table = cli("score", "ov", *args, root).lines
        best = max(expected.values(), key=lambda numbers: numbers["M-avg"])
        assert table[1].split()[2] == f"{100 * best['M-avg']:.2f}"
        assert "OV-MER's (sha256" in table[-1]

    def test_mer2024s_three_numbers(self, cli: Merstore, shared: Path) -> None:
        data = shared / "data" / "ov" / "ov_store"
        expected = json.loads((data.parent / "reference.json").read_text())["mer2024"]
        args = ["--truth", data / "check-openset.csv", "--groups", data / "openset-synonym.zip"]
        path = data / "predict-openset.csv"
        found = cli("score", "mer2024-ov", *args, path, "--json").json[str(path)]
        assert (found["n"], found["n_empty"]) == (332, 5)
        assert found["accuracy"] == expected["set_level_accuracy"]
        assert (found["recall"], found["average"]) == (expected["recall"], expected["avg"])
        row = cli("score", "mer2024-ov", *args, path).lines[1].split()
        assert row[2:5] == ["0.5397841365461847", "0.581777108433735", "0.4977911646586345"]

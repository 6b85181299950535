"""zero-shot: models asked about clips, adapters, released answers; and files that the next step reads."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("av")

from asking import make_qwen2_audio
from score_tables import write_tables

import merstore
from merstore.demo.clips import TRUNCATED, make_clips
from merstore.run.zeroshot.baselines import names
from merstore.score.files import read_answers

from ..run.zeroshot.seeing_models import make
from .conftest import Merstore, Result

COUNT = 3
NAMES = [f"sample_{number:08d}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, subtitles and models."""
    root = tmp_path_factory.mktemp("zeroshot")
    made = make_clips(root / "made")
    (root / "clips").mkdir()
    for path in made[:COUNT]:
        path.rename(root / "clips" / path.name)
    rows = [f"{name},sentence {number}" for number, name in enumerate(NAMES)]
    (root / "texts.csv").write_text("\n".join(["name,english", *rows]) + "\n")
    make_qwen2_audio(root / "Qwen2-Audio-tiny")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "toy.mer"


@pytest.fixture
def words(root: Path, store: Path) -> list[Any]:
    """Of a command line, but for the baseline."""
    given = ["--store", store, "--dataset", "toy", "--media", root / "clips", "--jobs", "0"]
    return [*given, "--device", "cpu", "--max-new-tokens", "8"]


@pytest.fixture
def hears(root: Path, words: list[Any]) -> list[Any]:
    return ["zero-shot", "run", "qwen2-audio", "--weights", root / "Qwen2-Audio-tiny", *words]


def report_of(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    (report,) = result.json["answers"]
    assert isinstance(report, dict)
    return report


def test_the_list_has_every_baseline_and_what_it_runs_by(cli: Merstore) -> None:
    told = cli("zero-shot", "list")
    assert told.code == 0
    assert [line.split()[0] for line in told.lines[1:]] == names()
    rows = {row["name"]: row for row in cli("zero-shot", "list", "--json").json}
    assert rows["otter"]["family"] is None
    assert rows["otter"]["options"]["num_beams"] == 3
    assert rows["qwen2-audio"]["sound"] == {"rate": 16000, "seconds": 30, "channel": "mean"}


def test_from_clips_to_answers_in_every_format(
    cli: Merstore, hears: list[Any], tmp_path: Path
) -> None:
    formats = [
        "--output",
        tmp_path / "output",
        "--format",
        "npz",
        "--format",
        "csv",
        "--format",
        "jsonl",
    ]
    first = cli(*hears, *formats)
    assert first.code == 0, first.err
    assert "3 answered" in first.out
    assert "pickled" in first.err
    folder = tmp_path / "output" / "results-toy" / "Qwen2-Audio-tiny"
    files = [folder / f"results-nosubtitle.{kind}" for kind in ("csv", "jsonl", "npz")]
    assert sorted(folder.iterdir()) == files
    found = [read_answers(file, "reason").by_name for file in files]
    assert found[0] == found[1] == found[2]
    assert list(found[0]) == NAMES
    assert all(found[0].values())

    again = report_of(cli(*hears, "--json"))
    assert [again["present"], again["answered"]] == [3, 0]


def test_answers_go_on_to_labels_and_scores(
    cli: Merstore, hears: list[Any], tmp_path: Path
) -> None:
    tables = write_tables(tmp_path / "emotion_wheel")
    said = cli(*hears, "--output", tmp_path / "output")
    assert said.code == 0, said.err
    source = tmp_path / "output/results-toy/Qwen2-Audio-tiny/results-nosubtitle.npz"
    labels = tmp_path / "toy-openset.npz"
    made = cli("extract-labels", source, "--tables", tables, "--out", labels)
    assert made.code == 0, made.err
    truth = tmp_path / "truth.csv"
    truth.write_text("name,openset\n" + "".join(f'{name},"[happy]"\n' for name in NAMES))
    scored = cli("score", "ov", "--truth", truth, "--tables", tables, labels, "--json")
    assert scored.code == 0, scored.err
    assert str(labels) in scored.out


def test_a_model_is_named_by_its_folder_alone(
    cli: Merstore, root: Path, words: list[Any], hears: list[Any]
) -> None:
    by_name = report_of(cli(*hears, "--json"))
    by_folder = report_of(cli("zero-shot", "run", root / "Qwen2-Audio-tiny", *words, "--json"))
    assert by_folder["view"] == by_name["view"]
    assert by_folder["present"] == COUNT
    both = cli("zero-shot", "run", root / "Qwen2-Audio-tiny", "--weights", root, *words)
    assert both.code == 2
    assert "leave out --weights" in both.err


def test_subtitles_and_questions_are_other_runs(
    cli: Merstore, hears: list[Any], root: Path, tmp_path: Path
) -> None:
    views = [
        report_of(cli(*hears, *more, "--json"))["view"]
        for more in (
            [],
            ["--subtitle", "--texts", root / "texts.csv"],
            ["--prompt", "Is she angry?"],
            ["--subtitle", "--texts", root / "texts.csv", "--prompt", "Is she angry?"],
        )
    ]
    assert len(set(views)) == 4
    assert [view.split("/")[-1].partition("-")[0] for view in views] == [
        "nosubtitle", "subtitle", "nosubtitle", "subtitle",
    ]  # fmt: skip
    said = cli(*hears, "--subtitle")
    assert said.code == 1
    assert "no subtitles" in said.err


def test_drawn_answers_go_by_the_seed_and_greedy_ones_do_not(
    cli: Merstore, words: list[Any], tmp_path: Path
) -> None:
    sees = ["zero-shot", "run", "video-llava-hf", *words, "--list", tmp_path / "list.txt", "--json"]
    sees += ["--weights", make(tmp_path / "video-llava", "video_llava")]
    (tmp_path / "list.txt").write_text(f"{NAMES[0]}\n")
    told = [
        cli(*sees, *more, "--seed", seed).json["answers"][0]["view"]
        for more in ([], ["--greedy"])
        for seed in (1, 2)
    ]
    assert told[0] != told[1]
    assert told[2] == told[3]
    assert len(set(told)) == 3


def test_media_are_kept_where_asked_and_then_enough(
    cli: Merstore, hears: list[Any], store: Path
) -> None:
    first = report_of(cli(*hears, "--keep-media", "--json"))
    assert [first["decoded"], first["read"]] == [COUNT, 0]
    with merstore.open(store) as opened:
        assert list(opened["toy/audio@wave16k/mean_30s"]) == NAMES
    media = hears.index("--media")
    without = [*hears[:media], *hears[media + 2 :], "--prompt", "Is she angry?"]
    again = report_of(cli(*without, "--json"))
    assert [again["answered"], again["decoded"], again["read"]] == [COUNT, 0, COUNT]


def test_shards_and_lists_choose_samples(cli: Merstore, hears: list[Any], tmp_path: Path) -> None:
    counts = [
        report_of(cli(*hears, "--shard", f"{index}/2", "--json"))["answered"] for index in range(2)
    ]
    assert counts == [2, 1]
    (tmp_path / "list.txt").write_text(f"{NAMES[1]}\n")
    report = report_of(cli(*hears, "--list", tmp_path / "list.txt", "--json"))
    assert [report["samples"], report["present"]] == [1, 1]


def test_samples_without_an_answer_are_named_and_tried_again(
    cli: Merstore, hears: list[Any], root: Path, store: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "good.mp4").hardlink_to(root / "clips" / f"{NAMES[0]}.mp4")
    (clips / "cut.mp4").hardlink_to(root / "made" / TRUNCATED)
    hears[hears.index("--media") + 1] = clips
    first = cli(*hears)
    assert first.code == 1
    assert "1 answered, 1 failed" in first.out
    assert "decode_error (1):\n  cut" in first.out
    assert f"merstore failures {store}" in first.out
    second = cli(*hears)
    assert second.code == 1
    assert "1 there already, 1 failed before" in second.out
    (clips / "cut.mp4").unlink()
    (clips / "cut.mp4").hardlink_to(root / "clips" / f"{NAMES[1]}.mp4")
    third = cli(*hears, "--retry-failed", "decode_error")
    assert third.code == 0
    assert "1 answered, 1 there already" in third.out


ADAPTER = """
def load(options):
    return options

def answer(model, sample):
    if "2" in sample.name:
        raise ValueError("cannot see it")
    return f"{model['num_beams']} {model['weights']} {sample.video[-4:]}\\n</s>"
"""


def test_a_baseline_with_code_of_its_own_runs_by_an_adapter(
    cli: Merstore, words: list[Any], tmp_path: Path
) -> None:
    adapter = tmp_path / "otter.py"
    adapter.write_text(ADAPTER)
    command = ["zero-shot", "run", "Otter", *words, "--weights", "/weights/otter"]
    told = cli(
        *command, "--adapter", adapter, "--python", sys.executable, "--output", tmp_path, "--format", "csv"
    )  # fmt: skip
    assert told.code == 1
    assert f"model_error (1):\n  {NAMES[2]}" in told.out
    found = read_answers(tmp_path / "results-toy/Otter/results-nosubtitle.csv", "reason").by_name
    assert found == dict.fromkeys(NAMES[:2], "3 /weights/otter .mp4 </s>")
    alone = cli(*command)
    assert alone.code == 1
    assert "adapter" in alone.err


def test_an_adapter_is_given_options_over_the_baselines_own(
    cli: Merstore, words: list[Any], tmp_path: Path
) -> None:
    adapter = tmp_path / "otter.py"
    adapter.write_text(
        "def load(options):\n    return options\n\n"
        "def answer(model, sample):\n    return repr([model['num_beams'], model['how']])\n"
    )
    command = ["zero-shot", "run", "otter", *words, "--adapter", adapter, "--seconds", "60"]
    given = ["--option", "num_beams=5", "--option", "how=plainly", "--json"]
    view = cli(*command, *given).json["answers"][0]["view"]
    with merstore.open(words[words.index("--store") + 1]) as store:
        assert json.loads(store[view][NAMES[0]].tobytes())["text"] == "[5, 'plainly']"


@pytest.mark.parametrize("option", [["--python", "x"], ["--option", "a=1"], ["--seconds", "1"]])
def test_what_is_for_an_adapter_needs_one(
    cli: Merstore, words: list[Any], option: list[str]
) -> None:
    odd = cli("zero-shot", "run", "qwen2-audio", *words, *option)
    assert odd.code == 2
    assert f"{option[0]} is for an --adapter" in odd.err


def test_released_answers_are_taken_over(cli: Merstore, store: Path, tmp_path: Path) -> None:
    released = tmp_path / "output-reason-7b-nosubtitle-eng.npz"
    said = {"a": "She is happy.", "b": "He is sad.", "c": ""}
    np.savez(released, name2reason=np.array(said, object))
    command = ["zero-shot", "import", "SALMONN", released, "--store", store, "--dataset", "ovmerd"]
    first = cli(*command)
    assert first.code == 0, first.err
    assert "3 stored" in first.out
    assert "without an answer (1):\nc" in first.out.replace("  ", "")
    view = cli(*command, "--json").json["view"]
    assert view.startswith("ovmerd/answer@salmonn/")
    with merstore.open(store) as opened:
        assert json.loads(opened[view]["a"].tobytes())["text"] == "She is happy."


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["nobody"], 2, "no baseline 'nobody'"),
        (["/no/such/model"], 1, "no such folder"),
        (["qwen2-audio", "--weights", "/no/such/model"], 1, "no such folder"),
        (["video-llava-hf", "--weights", "{audio}"], 1, "name the baseline qwen2-audio"),
        (["video-llava"], 1, "adapter"),
        (["qwen2-audio", "--weights", "{audio}", "--format", "xlsx"], 2, "'npz', 'csv', 'jsonl'"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_written(
    cli: Merstore, root: Path, words: list[Any], store: Path, given: list[str], code: int, told: str
) -> None:
    filled = [word.format(audio=root / "Qwen2-Audio-tiny") for word in given]
    said = cli("zero-shot", "run", *filled, *words)
    assert [said.code, told in said.err] == [code, True], said.err
    assert not store.exists()


def test_interrupted_it_goes_on_with_the_same_command(
    cli: Merstore, hears: list[Any], store: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter.py"
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    adapter.write_text(
        "def load(options): pass\n"
        "def answer(model, sample):\n"
        f"    if sample.name == {NAMES[1]!r}:\n"
        f"        open({str(reached)!r}, 'w').write('here')\n"
        "        input_never_comes = __import__('threading').Event().wait()\n"
        "    return 'fine'\n"
    )
    words = [*hears[:2], "otter", *hears[5:], "--adapter", adapter]
    command = [sys.executable, "-m", "merstore.cli", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert reached.read_text() == "here"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in told
    with merstore.open(store) as opened:
        (view,) = [path for path in opened.views() if "/answer@" in path]
        assert list(opened[view]) == NAMES[:1]
    assert report_of(cli(*hears, "--json"))["answered"] == COUNT  # another model, the same store


PAGE = Path(__file__).resolve().parents[2] / "docs" / "zero-shot.md"


def test_the_page_can_be_followed_word_for_word(
    cli: Merstore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiny models under the names that it has, short answers, and one clip."""
    monkeypatch.chdir(tmp_path)
    Path("video").mkdir()
    Path("video/x.mp4").hardlink_to(root / "clips" / f"{NAMES[0]}.mp4")
    Path("Qwen2-Audio-7B-Instruct").symlink_to(root / "Qwen2-Audio-tiny")
    make(Path("Qwen2.5-VL-7B-Instruct"), "qwen2_5_vl")
    make(Path("SmolVLM2-2.2B-Instruct"), "smolvlm")
    Path("otter.py").write_text(ADAPTER.replace("{model['weights']}", ""))
    Path("subtitle_chieng.csv").write_text("name,chinese,english\nx,,Oh.\n")
    np.savez(
        "output-reason-7b-nosubtitle-eng.npz", name2reason=np.array({"x": "She smiles."}, object)
    )
    write_tables(Path("emotion_wheel"))
    Path("check-openset.csv").write_text('name,openset\nx,"[happy]"\n')
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("$ merstore ")]
    assert len(lines) == 8
    for line in lines:
        words = line.replace("~/envs/otter/bin/python", sys.executable).split()[2:]
        run = words[:2] == ["zero-shot", "run"]
        more = ["--max-new-tokens", "8", "--jobs", "0", "--device", "cpu", "--json"] if run else []
        said = cli(*words, *more)
        if run:  # a tiny model may have nothing to say
            (report,) = said.json["answers"]
            found = [report["answered"], *map(len, report["failed"].values())]
            assert sum(found) == 1, said.err
            assert set(report["failed"]) <= {"no_answer"}
        else:
            assert said.code == 0, said.err
    (example,) = [block for block in text.split("```python\n") if "open_native" in block]
    names: dict[str, Any] = {}
    exec(compile(example.partition("```")[0], str(PAGE), "exec"), names)
    assert names["report"].answered == 1

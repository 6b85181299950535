"""MER-UniBench's nine test sets in one command: whose samples, whose subtitles, which files."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

import unibench_sets
from answering import VIEWS, drawn, make_checkpoint, make_llm

import merstore
from merstore.run.answers import digest, read
from merstore.run.prompts import prompt, question
from merstore.score.files import read_answers

from .conftest import Merstore

MODE = "multiface_audio_face_text"
FOLDERS = {  # where AffectGPT's scripts look for a set's answers, as far as it is no key
    "iemocap": "iemocapfour"
}


def test_all_nine(cli: Merstore, tmp_path: Path) -> None:
    sets = unibench_sets.truths(1, ("happy", "sad"))
    corpora = unibench_sets.write_labels(tmp_path / "dataset", sets)
    with merstore.open(tmp_path / "features.mer", "a") as store:
        for key, samples in sets.items():
            (root,) = corpora.glob(f"{key}-*")
            for number, name in enumerate(samples):
                file, head = "transcription-engchi-polish.csv", "name,chinese,english"
                row = f"{name},中文,It is {key}."
                if key == "mer2024":
                    file = "transcription_merge.csv"
                if key == "ovmerdplus":
                    file, head, row = "subtitle_eng.csv", "name,sentence", f"{name},It is {key}."
                (root / file).write_text(f"{head}\n{row}\n", encoding="utf-8")
                for modality in ("face", "audio"):
                    feature = drawn(modality, number)
                    store.create_view(
                        f"{key}/{VIEWS[modality]}", shape=feature.shape, spec={"drawn": 1}
                    ).update({name: feature})
    llm = make_llm(tmp_path / "llm")
    checkpoint = make_checkpoint(tmp_path / "ours" / "checkpoint_000030_loss_0.602.pth", llm)
    ran = cli(
        *("infer", "--model", checkpoint, "--llm", llm, "--store", tmp_path / "features.mer"),
        *("--dataset", "merunibench", "--corpora", corpora, "--output", tmp_path / "output"),
        *("--format", "jsonl", "--max-new-tokens", "8", "--device", "cpu", "--json"),
    )
    assert ran.code == 0, ran.err
    assert [report["dataset"] for report in ran.json["answers"]] == list(sets)
    asked = question("ovlabel")
    with merstore.open(tmp_path / "features.mer") as store:
        for report, file in zip(ran.json["answers"], ran.json["files"], strict=True):
            key = report["dataset"]
            folder = tmp_path / "output" / f"results-{FOLDERS.get(key, key)}" / "ours"
            assert Path(file) == folder / "checkpoint_000030_loss_0.602.jsonl"
            answers = read(store[report["view"]])
            texts = {name: answer.text for name, answer in answers.items()}
            assert read_answers(Path(file), "reason").by_name == texts
            assert texts.keys() == sets[key].keys()
            # MER2024 alone is asked about in Chinese
            said = "中文" if key == "mer2024" else f"It is {key}."
            (answer,) = answers.values()
            assert answer.prompt == digest(prompt(MODE, asked, said))

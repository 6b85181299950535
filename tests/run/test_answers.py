"""Answers as files: what AffectGPT's scripts read, and tables."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import CorruptEntry, MerstoreError
from merstore.run.answers import Stored, export, file_name, put, read, seed_of
from merstore.score.files import read_answers
from merstore.store.store import Store

ANSWERS = {"sample_1": 'He says "no",\nand means it.', "-x": "高兴", "b": "a, b"}


@pytest.mark.parametrize("kind", ["npz", "csv", "jsonl"])
def test_what_is_written_is_what_scores_are_computed_from(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "deep" / f"answers.{kind}"
    export(path, {"old": "old"})
    export(path, ANSWERS)
    assert read_answers(path, "reason").by_name == ANSWERS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="npz, csv, jsonl"):
        export(tmp_path / "answers.txt", ANSWERS)


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("MER2023", "mer2023"),
        ("iemocap", "iemocapfour"),  # AffectGPT's scorers know it by no other name
        ("SIMSv2", "simsv2"),
        ("OV-MERD+", "ovmerdplus"),
        ("My-Own", "my-own"),
    ],
)
def test_names_are_those_of_the_runner_of_affectgpt(dataset: str, folder: str) -> None:
    name = file_name(dataset, "emercoarse_lz_20250110100", "checkpoint_000030_loss_0.602")
    assert str(name) == (
        f"output/results-{folder}/emercoarse_lz_20250110100/checkpoint_000030_loss_0.602"
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(texts, texts, st.integers(0), st.booleans(), st.none() | st.integers(0, 2**64 - 1))
def test_an_answer_comes_back_as_it_was(
    text: str, cut: str, tokens: int, ended: bool, seed: int | None
) -> None:
    answer = Stored(text, "00", tokens, ended, cut, seed, 0.25, 4)
    assert Stored(**json.loads(json.dumps(vars(answer), ensure_ascii=False))) == answer


def test_an_entry_that_is_no_answer_is_named(store: Store) -> None:
    view = store.create_view("toy/answer@c/m-0", dtype="uint8", shape=(None,), spec={})
    with store.writer() as writer:
        put(writer, view, "a", Stored("yes", "00", 2, True, "", None, 0.1, 1))
    assert read(view, ["b", "a"]) == {"a": Stored("yes", "00", 2, True, "", None, 0.1, 1)}
    with store.writer() as writer:
        writer.put(view, "b", np.frombuffer(b'{"text": 1}', np.uint8))
    with pytest.raises(CorruptEntry, match="toy/answer@c/m-0/b"):
        read(view)


def test_seeds_differ_by_dataset_and_name() -> None:
    seeds = {seed_of(s, d, n) for s in (0, 1) for d in ("sims", "simsv2") for n in ("a", "b")}
    assert len(seeds) == 8

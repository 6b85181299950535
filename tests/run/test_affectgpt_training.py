"""Training of AffectGPT from a store: what is learned, in which order, and that a stopped run goes on
as if it had not been stopped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft", reason="the extra `affectgpt` is not installed")

from answering import make_llm
from models.affectgpt import reference
from torch.nn import functional

import merstore
from merstore.corpora import open_corpus, store_labels
from merstore.errors import MerstoreError, MissingEntry, UnknownView
from merstore.interop.affectgpt_config import settings
from merstore.load.samplers import RowOrder
from merstore.models.affectgpt import AffectGPT, Config, Tokens, load_llm, open_model, read
from merstore.run.tuning_llm import Corpus, Material, Options, Run, corpus_of, train
from merstore.run.tuning_llm.training import STATE, groups
from merstore.store.store import Store

MODE = "multiface_audio_face_text"
VIEWS = {"face": "face@CLIP_VIT_LARGE/8frms", "audio": "audio@HUBERT_LARGE/8clips"}
SHAPES = {"face": (8, 768), "audio": (8, 1024)}
COUNTS = {"mercaptionplus": 5, "ovmerd": 3}
SUBTITLES = [
    "I told you.",
    "",
    "你好",
    "{braces} and, commas",
    "Oh.",
    "Why?",
    "Go!",
    "and so on " * 5,
]
WORDS = [
    ["happy"],
    ["sad", "calm"],
    ["angry"],
    [],
    ["worried", "afraid"],
    ["happy"],
    ["sad"],
    ["surprised"],
]


def name_of(dataset: str, number: int) -> str:
    return f"{'samplenew3' if dataset == 'mercaptionplus' else 'sample'}_{number:08d}"


def feature(dataset: str, modality: str, number: int) -> np.ndarray:
    draw = np.random.default_rng([len(dataset), SHAPES[modality][1], number])
    return draw.standard_normal(SHAPES[modality], np.float32)


def make_corpus(store: Store, folder: Path, dataset: str) -> None:
    """Labels, subtitles and features, as they come from the corpus's files."""
    folder = folder / dataset / "mer2025-dataset"
    folder.mkdir(parents=True)
    names = [name_of(dataset, number) for number in range(COUNTS[dataset])]
    # the two files do not name the same samples: the last one has no reason
    openset = [f'{name},"{WORDS[n]}"' for n, name in enumerate(names)]
    reason = [f"{name},The text says {n}: so it is." for n, name in enumerate(names[:-1])]
    said = [f'{name},x,"{SUBTITLES[n]}"' for n, name in enumerate(names)]
    for file, rows in (
        (f"track2_train_{dataset}.csv", ["name,openset", *openset]),
        (f"track3_train_{dataset}.csv", ["name,reason", *reason]),
        ("subtitle_chieng.csv", ["name,chinese,english", *said]),
    ):
        (folder / file).write_text("\n".join(rows) + "\n", encoding="utf-8")
    store_labels(store, open_corpus(dataset, folder))
    for modality, tail in VIEWS.items():
        view = store.create_view(f"{dataset}/{tail}", shape=SHAPES[modality], spec={"drawn": 1})
        view.update({name: feature(dataset, modality, n) for n, name in enumerate(names)})


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("corpora")
    with merstore.open(folder / "features.mer", "a") as store:
        for dataset in COUNTS:
            make_corpus(store, folder, dataset)
        yield store


def make_model(llm: Path, **fields: Any) -> AffectGPT:
    loaded = load_llm(llm, "cpu")
    torch.manual_seed(7)
    return AffectGPT(loaded, Config(**fields))


def make_material(store: Store, llm: Path, *datasets: str, **options: Any) -> Material:
    corpora = [corpus_of(store, dataset) for dataset in datasets or COUNTS]
    tokens = Tokens.from_folder(llm, Config().queries)
    return Material(store, corpora, tokens, MODE, VIEWS, **options)


# Samples with labels by row; sample 3 of the first corpus has no words, so that it is its last.
ORDER = [0, 1, 2, 4, 3, 0, 1, 2]

QUICK = Options(epochs=2, steps=5, batch_size=3, lr=1e-3, min_lr=1e-3, state_every=1)


# --- against plain code ----------------------------------------------------------------------------

HEAD = (
    "###Human: The audio and video merged info is: <Multi><MultiHere></Multi>. The audio content is as "
    "follows: <Audio><AudioHere></Audio>. Meanwhile, we uniformly sample raw frames from the video and "
    "extract faces from these frames: <Video><FaceHere></Video>. The subtitle of this video is: "
    "<Subtitle>{}</Subtitle>. Now, please answer my question based on all the provided information. "
)
ASKED = {
    "description": "Please infer the person's emotional state and provide your reasoning process.",
    "ovlabel": "Please recognize all possible emotional states of the character.",
}


def sequence(tokens: Tokens, dataset: str, name: str, kind: str) -> tuple[list[int], list[int]]:
    """Ids of a sample, and what is learned, -100 where nothing is."""
    number = int(name[-8:])
    words = ", ".join(WORDS[number])
    told = {
        "description": f"The text says {number}: so it is.",
        "ovlabel": f"The character's emotional state is {words}.",
    }[kind]
    prompt = HEAD.format(SUBTITLES[number]) + ASKED[kind] + " ###Assistant: "
    before = tokens.tokenizer(prompt, add_special_tokens=False).input_ids
    after = tokens.tokenizer(told + "###", add_special_tokens=False).input_ids
    bos, eos = tokens.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    return [bos, *before, *after, eos], [-100, *[-100] * len(before), *after, eos]


def plain_losses(
    llm_folder: Path,
    start: dict[str, torch.Tensor],
    material: Material,
    options: Options,
    steps: int,
) -> list[float]:
    """The same training without merstore's model, peft, padding or optimizer."""
    llm = load_llm(llm_folder, "cpu", "float64")
    weights = {name: value.detach() for name, value in llm.named_parameters()}
    table = llm.get_input_embeddings().weight.detach()
    params = {name: value.clone().requires_grad_() for name, value in start.items()}
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in params.items()}
    tokens = material.tokens
    order = RowOrder(len(material), options.batch_size, shuffle=True, seed=options.seed)
    batches = (
        [(0, rows) for rows in order]
        + [(1, rows) for rows in order]
        + [(2, rows) for rows in order]
    )
    losses = []
    for step in range(1, steps + 1):
        loss = torch.zeros(())
        for _ in range(options.accumulate):
            epoch, rows = batches.pop(0)
            total, count = torch.zeros(()), 0
            asked = material.batch(rows, epoch)
            for name, kind in zip(asked.names, asked.types, strict=True):
                dataset = "mercaptionplus" if name.startswith("samplenew3") else "ovmerd"
                face, audio = (
                    torch.from_numpy(feature(dataset, m, int(name[-8:]))).double()[None]
                    for m in SHAPES
                )
                vectors = {
                    "face": reference.temporal(params, "video", "attention", face, 1),
                    "audio": reference.temporal(params, "audio", "attention", audio, 1),
                    "multi": reference.multi(params, "attention", face, audio, 1),
                }
                ids, learned = sequence(tokens, dataset, name, kind)
                inputs = reference.embedded(
                    table, ids, {tokens.places[m]: v[0] for m, v in vectors.items()}
                )
                logits = torch.func.functional_call(
                    llm,
                    reference.merged(weights, params, 2.0),
                    kwargs={"inputs_embeds": inputs[None]},
                ).logits[0]
                for place in range(1, len(ids)):
                    if learned[place] != -100:
                        total = total - functional.log_softmax(logits[place - 1], 0)[learned[place]]
                        count += 1
            loss = loss + total / count / options.accumulate
        losses.append(loss.item())
        found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        for (name, p), grad in zip(params.items(), found, strict=True):
            if grad is None:
                continue
            m, v = moments[name]
            m.mul_(0.9).add_(0.1 * grad)
            v.mul_(0.999).add_(0.001 * grad * grad)
            with torch.no_grad():
                if p.ndim > 1:
                    p.mul_(1 - options.lr * 0.05)
                p -= options.lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    return losses


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_learns_what_a_plain_loop_learns(
    filled: Store, llm: Path, tmp_path: Path, accumulate: int
) -> None:
    """In float64, where rounding does not hide anything (the loss itself is float32)."""
    model = make_model(llm, lora_dropout=0.0).double()
    material = make_material(filled, llm)
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    options = Options(epochs=1, steps=4, batch_size=3, accumulate=accumulate, lr=1e-3, min_lr=1e-3)
    run = train(model, material, tmp_path, options)
    expected = plain_losses(llm, start, material, options, 4)
    assert run.losses == pytest.approx(expected, rel=1e-6)
    assert run.losses[-1] < run.losses[0]


def test_what_is_learned_is_the_answer_and_its_end(filled: Store, llm: Path) -> None:
    """The last token is learned, but not seen, as the padding has its id."""
    material = make_material(filled, llm)
    batch = material.batch(np.arange(8), 0)
    wanted = [
        sequence(material.tokens, "mercaptionplus" if row < 5 else "ovmerd", name, kind)
        for row, (name, kind) in enumerate(zip(batch.names, batch.types, strict=True))
    ]
    longest = max(len(ids) for ids, _ in wanted)
    eos = material.tokens.eos
    for row, (ids, learned) in enumerate(wanted):
        padding = longest - len(ids)
        assert batch.ids[row].tolist() == ids + [eos] * padding
        assert batch.labels[row].tolist() == learned + [-100] * padding
        assert batch.mask[row].tolist() == [True] * (len(ids) - 1) + [False] * (padding + 1)


# --- stopped and continued -------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_at(step: int) -> Any:
    def tell(done: int, total: int, told: str = "") -> None:
        if done == step:
            raise Stopped

    return tell


@pytest.fixture(scope="module")
def undisturbed(filled: Store, llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(make_model(llm), make_material(filled, llm), folder, QUICK)


@pytest.mark.parametrize(("stops", "every"), [([3], 1), ([5], 1), ([1, 4, 8], 1), ([2, 7], 3)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    filled: Store, llm: Path, tmp_path: Path, undisturbed: Run, stops: list[int], every: int
) -> None:
    options = Options(**{**vars(QUICK), "state_every": every})
    material = make_material(filled, llm)
    for step in stops:
        torch.manual_seed(step)  # whatever happened before
        with pytest.raises(Stopped):
            train(make_model(llm), material, tmp_path, options, tell=stop_at(step))
    run = train(make_model(llm), material, tmp_path, options)
    assert 0 < run.begun < 10 or (every == 3 and stops == [2])
    assert run.losses == undisturbed.losses
    last, expected = read(run.checkpoints[-1]), read(undisturbed.checkpoints[-1])
    assert run.checkpoints[-1].name == undisturbed.checkpoints[-1].name
    assert last.state.keys() == expected.state.keys()
    assert all(torch.equal(last.state[key], expected.state[key]) for key in expected.state)


def test_so_does_one_that_mixes_corpora_and_learns_from_several_batches(
    filled: Store, llm: Path, tmp_path: Path
) -> None:
    mixed = {"accumulate": 2, "batch_size": 2, "ratios": {"mercaptionplus": 1.0, "ovmerd": 2.0}}
    options = Options(**{**vars(QUICK), **mixed})
    material = make_material(filled, llm)
    whole = train(make_model(llm), material, tmp_path / "whole", options)
    for step in (2, 5, 6):  # in the middle of a pass, and where one ends
        with pytest.raises(Stopped):
            train(make_model(llm), material, tmp_path / "run", options, tell=stop_at(step))
    assert train(make_model(llm), material, tmp_path / "run", options).losses == whole.losses


def test_a_finished_run_has_nothing_left_to_do(filled: Store, llm: Path, undisturbed: Run) -> None:
    again = train(make_model(llm), make_material(filled, llm), undisturbed.folder, QUICK)
    assert again.losses == undisturbed.losses
    assert again.begun == 10
    assert not again.checkpoints


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 1e-2},
        {"seed": 1},
        {"batch_size": 2},
        {"ratios": {"mercaptionplus": 1.0, "ovmerd": 1.0}},
    ],
)
def test_another_training_is_not_continued(
    filled: Store, llm: Path, undisturbed: Run, changed: dict[str, Any]
) -> None:
    state = undisturbed.folder / STATE
    before = state.read_bytes()
    options = Options(**{**vars(QUICK), **changed})
    with pytest.raises(MerstoreError, match=f"another training: {next(iter(changed))} is"):
        train(make_model(llm), make_material(filled, llm), undisturbed.folder, options)
    assert state.read_bytes() == before


def test_other_samples_are_another_training(filled: Store, llm: Path, undisturbed: Run) -> None:
    with pytest.raises(MerstoreError, match="datasets is"):
        train(make_model(llm), make_material(filled, llm, "ovmerd"), undisturbed.folder, QUICK)


@pytest.mark.parametrize("damage", [b"", b"no state", b"PK\x03\x04"])
def test_a_damaged_state_is_named(filled: Store, llm: Path, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE).write_bytes(damage)
    with pytest.raises(MerstoreError, match=r"state\.pth is no state"):
        train(make_model(llm), make_material(filled, llm), tmp_path, QUICK)
    assert (tmp_path / STATE).read_bytes() == damage


def test_a_loss_that_is_no_number_ends_it(filled: Store, llm: Path, tmp_path: Path) -> None:
    options = Options(epochs=1, steps=9, lr=1e30, min_lr=1e30)
    with pytest.raises(MerstoreError, match=r"the loss of step .* lower the learning rate"):
        train(make_model(llm), make_material(filled, llm), tmp_path, options)


# --- checkpoints -----------------------------------------------------------------------------------


def test_checkpoints_have_the_released_format(undisturbed: Run, llm: Path) -> None:
    assert [path.name for path in undisturbed.checkpoints] == [
        f"checkpoint_{epoch:06d}_loss_{loss:.3f}.pth"
        for epoch, loss in enumerate(undisturbed.epoch_losses, 1)
    ]
    path = undisturbed.checkpoints[-1]
    content = torch.load(path, weights_only=True)
    assert set(content) == {"model", "optimizer", "config", "scaler", "epoch"}
    assert content["epoch"] == 2
    assert set(content["config"]) == {"model", "datasets", "run", "inference"}
    assert read(path).modes == dict.fromkeys(COUNTS, MODE)
    model, report = open_model(path, llm, device="cpu")
    assert report.complete
    assert model.config.queries == Config().queries
    assert len(content["optimizer"]["param_groups"]) == 2
    sources = settings(content["config"], "ovmerd")  # what the fork would read with it
    assert sources.mode == MODE
    assert sources.features == {
        "face": "face_CLIP_VIT_LARGE_8frms",
        "audio": "audio_HUBERT_LARGE_8clips",
    }


def test_the_language_model_itself_stays_as_it_is(filled: Store, llm: Path, tmp_path: Path) -> None:
    model = make_model(llm)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(
        model,
        make_material(filled, llm),
        tmp_path,
        Options(epochs=1, steps=2, lr=1e-3, min_lr=1e-3),
    )
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert changed == {n for n in trained if not n.startswith("image_")}  # the mode has no image


def test_weights_decay_and_biases_do_not(llm: Path) -> None:
    model = make_model(llm, video_fusion="qformer")
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, others = groups(model, 0.05)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    kept = {names[id(p)] for p in others["params"]}
    assert "affectgpt_proj.bias" in kept
    assert "video_Qformer.bert.embeddings.LayerNorm.weight" in kept
    assert {names[id(p)] for p in decayed["params"]} | kept == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    assert all(p.ndim > 1 for p in decayed["params"])


def test_the_learning_rate_is_constant_as_released_and_may_fall() -> None:
    assert {Options().rate(epoch) for epoch in range(1, 61)} == {1e-5}
    falling = Options(epochs=4, lr=1.0, min_lr=0.2)
    assert [falling.rate(e) for e in (1, 2, 3, 4)] == pytest.approx(
        [0.8828427, 0.6, 0.3171573, 0.2]
    )


# --- what is trained on ----------------------------------------------------------------------------


def test_one_of_a_samples_questions_is_asked_in_each_pass(filled: Store, llm: Path) -> None:
    material = make_material(filled, llm)
    rows = np.arange(8)
    asked = np.array([material.batch(rows, epoch).types for epoch in range(20)])
    alone = np.array(
        [[material.batch(rows[r : r + 1], epoch).types[0] for r in rows] for epoch in range(20)]
    )
    assert (asked == alone).all()  # whatever stands beside it
    both = {"description", "ovlabel"}
    assert [set(column) for column in asked.T] == [
        both, both, both, {"ovlabel"}, {"description"}, both, both, {"ovlabel"}
    ]  # fmt: skip
    other = make_material(filled, llm, seed=1)
    assert [other.batch(rows, epoch).types for epoch in range(20)] != asked.tolist()


def test_questions_may_be_chosen(filled: Store, llm: Path) -> None:
    material = make_material(filled, llm, label_types=["description"])
    assert material.counts == {"mercaptionplus": 4, "ovmerd": 2}
    assert set(material.batch(np.arange(6), 0).types) == {"description"}
    with pytest.raises(MerstoreError, match="unknown label type 'mood'; there are description"):
        make_material(filled, llm, label_types=["mood"])


def test_a_mode_without_features_trains_the_adapters_alone(
    filled: Store, llm: Path, tmp_path: Path
) -> None:
    tokens = Tokens.from_folder(llm, Config().queries)
    material = Material(filled, [corpus_of(filled, "ovmerd")], tokens, "textonly", {})
    assert material.batch(np.arange(3), 0).features == {}
    model = make_model(llm)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, material, tmp_path, Options(epochs=1, steps=2, lr=1e-3, min_lr=1e-3))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if ".lora_" in n}


def test_a_corpus_is_given_once(filled: Store, llm: Path) -> None:
    with pytest.raises(MerstoreError, match="ovmerd is given twice"):
        make_material(filled, llm, "ovmerd", "OVMERD")


def test_one_batch_holds_no_features_of_different_lengths(
    store: Store, llm: Path, tmp_path: Path
) -> None:
    make_corpus(store, tmp_path, "ovmerd")
    view = store.create_view("ovmerd/audio@HUBERT_LARGE/FRA", shape=(None, 1024), spec={})
    view.update({name_of("ovmerd", n): np.ones((n + 1, 1024), np.float32) for n in range(3)})
    tokens = Tokens.from_folder(llm, Config().queries)
    views = VIEWS | {"audio": "audio@HUBERT_LARGE/FRA"}
    with pytest.raises(MerstoreError, match=r"audio: samples have different shapes: \[1, 1024\]"):
        Material(store, [corpus_of(store, "ovmerd")], tokens, MODE, views)


def test_features_are_the_samples_own(filled: Store, llm: Path) -> None:
    material = make_material(filled, llm)
    rows = np.array([6, 0, 7, 3, 0])
    batch = material.batch(rows, 0)
    for row, name in enumerate(batch.names):
        dataset = "mercaptionplus" if rows[row] < 5 else "ovmerd"
        assert name == name_of(dataset, ORDER[rows[row]])
        for modality, rows_ in batch.features.items():
            assert np.array_equal(rows_[row], feature(dataset, modality, int(name[-8:])))


def test_corpora_are_mixed_in_ratios(filled: Store, llm: Path) -> None:
    material = make_material(filled, llm)
    weights = material.weights({"ovmerd": 3.0, "mercaptionplus": 1.0})
    assert weights[:5].sum() == pytest.approx(1.0)
    assert weights[5:].sum() == pytest.approx(3.0)
    order = RowOrder(8, 8, weights=weights, draws=8000)
    drawn = np.concatenate(list(order))
    assert (drawn >= 5).mean() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(MerstoreError, match="give one above 0 for each of mercaptionplus, ovmerd"):
        material.weights({"ovmerd": 3.0})


@pytest.fixture
def holed(tmp_path: Path, filled: Store) -> Iterator[Store]:
    """Without the face of one sample, the subtitle of another, and with a text that has a placeholder."""
    with merstore.open(tmp_path / "holed.mer", "a") as store:
        make_corpus(store, tmp_path, "mercaptionplus")
        with store.writer() as writer:
            view = store[f"mercaptionplus/{VIEWS['face']}"]
            writer.delete(view, name_of("mercaptionplus", 0))
            writer.delete(store["mercaptionplus/text/english"], name_of("mercaptionplus", 2))
        yield store


def test_what_is_missing_is_an_error_that_names_it(holed: Store, llm: Path) -> None:
    with pytest.raises(MissingEntry) as caught:
        make_material(holed, llm, "mercaptionplus")
    told = str(caught.value)
    assert (
        "no face in mercaptionplus/face@CLIP_VIT_LARGE/8frms: 1 samples (samplenew3_00000000)"
        in told
    )
    assert "needs the subtitle as text" in told
    assert "samplenew3_00000002" in told


def test_or_left_out_and_nothing_stands_for_it(holed: Store, llm: Path, tmp_path: Path) -> None:
    material = make_material(holed, llm, "mercaptionplus", on_miss="skip")
    kept = [name_of("mercaptionplus", n) for n in (1, 4, 3)]
    assert material.batch(np.arange(3), 0).names == kept
    assert sorted(name for names in material.left_out.values() for name in names) == [
        name_of("mercaptionplus", n) for n in (0, 2)
    ]
    run = train(make_model(llm), material, tmp_path / "run", Options(epochs=1, steps=2))
    assert len(run.losses) == 2


def test_texts_that_do_not_fit_are_known_before_training(filled: Store, llm: Path) -> None:
    with pytest.raises(MissingEntry, match="more than max_length 100"):
        make_material(filled, llm, max_length=100)
    with pytest.raises(MissingEntry, match=r"no sample to train on: .*more than max_length 100"):
        make_material(filled, llm, max_length=100, on_miss="skip")


def test_a_placeholder_in_an_answer_is_no_answer(filled: Store, llm: Path) -> None:
    name = name_of("ovmerd", 0)
    corpus = Corpus("ovmerd", {"description": {name: "see <FaceHere>"}}, {name: ""})
    tokens = Tokens.from_folder(llm, Config().queries)
    with pytest.raises(MissingEntry, match="a placeholder stands in the description"):
        Material(filled, [corpus], tokens, MODE, VIEWS)


def test_a_view_that_is_not_there_is_not_computed(filled: Store, llm: Path) -> None:
    tokens = Tokens.from_folder(llm, Config().queries)
    views = VIEWS | {"face": "face@CLIP_VIT_LARGE/9frms"}
    with pytest.raises(UnknownView, match="9frms"):
        Material(filled, [corpus_of(filled, "ovmerd")], tokens, MODE, views)


def boxed(value: object) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


def test_classes_are_asked_for_with_and_without_candidates(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "iemocap-process"
    folder.mkdir()
    names = [f"Ses0{session}F_impro01_F000" for session in (1, 2, 5)]
    labels = {name: {"emo": n, "val": -10} for n, name in enumerate(names)}
    np.savez(folder / "label_4way.npz", whole_corpus=boxed(labels))
    store_labels(store, open_corpus("iemocap", folder))
    corpus = corpus_of(store, "IEMOCAPFour")
    assert corpus.dataset == "iemocap"
    assert corpus.candidates == ("happy", "sad", "neutral", "anger")
    expected = {names[0]: "happy", names[1]: "sad"}  # the fifth session is for tests
    assert corpus.labels == dict.fromkeys(("onehot_w_candidates", "onehot_wo_candidates"), expected)


def test_values_are_asked_for_as_such_and_as_sentiments(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "sims-process"
    folder.mkdir()
    values = {"a": -0.8, "b": 0.0, "c": 0.6}
    split = {name: {"emo": 0, "val": value} for name, value in values.items()}
    other = {"t": {"emo": 0, "val": 1.0}}
    arrays = {"train_corpus": split, "val_corpus": {"v": other["t"]}, "test_corpus": other}
    np.savez(folder / "label.npz", **{key: boxed(each) for key, each in arrays.items()})
    store_labels(store, open_corpus("sims", folder))
    corpus = corpus_of(store, "SIMS")
    assert corpus.span == (-0.8, 0.6)
    assert corpus.labels == {
        "valence": values,
        "sentiment": {"a": "negative", "b": "neutral", "c": "positive"},
    }


def test_a_corpus_without_labels_is_told_of(filled: Store) -> None:
    with pytest.raises(MerstoreError, match=r"mer2023: .* has no labels to train on"):
        corpus_of(filled, "MER2023")


# --- several processes -----------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from pathlib import Path
from run import test_affectgpt_training as t
store, llm, folder, fields, dropout, killed_at = sys.argv[1:]
def tell(done, total, told=""):
    if done == int(killed_at):
        os.kill(os.getpid(), signal.SIGKILL)
with t.merstore.open(store) as opened:
    model = t.make_model(Path(llm), lora_dropout=float(dropout))
    options = t.Options(**t.json.loads(fields))
    run = t.train(model, t.make_material(opened, Path(llm)), folder, options, tell=tell)
    print("losses", *map(float.hex, run.losses))
"""


def in_two_processes(
    store: Path, llm: Path, folder: Path, options: Options, dropout: float = 0.0, killed_at: int = 0
) -> list[tuple[int, list[float]]]:
    """Return code and losses of each process that trains in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).resolve().parents[1]
    common = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
    }
    arguments = [store, llm, folder, json.dumps(vars(options)), dropout, killed_at]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, arguments)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [child.communicate(timeout=120)[0].partition("losses ")[2] for child in children]
    return [
        (child.returncode, [float.fromhex(loss) for loss in losses.split()])
        for child, losses in zip(children, told, strict=True)
    ]


@pytest.mark.slow
def test_two_processes_share_every_step(filled: Store, llm: Path, tmp_path: Path) -> None:
    """As one process that takes both batches."""
    pytest.importorskip("accelerate")
    options = Options(epochs=1, steps=3, batch_size=1, lr=1e-3, min_lr=1e-3)
    two = in_two_processes(filled.path, llm, tmp_path / "two", options)
    assert [code for code, _ in two] == [0, 0]
    alone = train(
        make_model(llm, lora_dropout=0.0),
        make_material(filled, llm),
        tmp_path / "one",
        Options(**{**vars(options), "accumulate": 2}),
    )
    assert two[0][1] == two[1][1] == pytest.approx(alone.losses, rel=1e-5)
    states = [
        read(next((tmp_path / folder).glob("checkpoint_*"))).state for folder in ("one", "two")
    ]
    assert states[0].keys() == states[1].keys()
    state = torch.load(tmp_path / "two" / STATE, weights_only=True)
    assert len(state["random"]) == 2


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_as_if_they_had_not_been(
    filled: Store, llm: Path, tmp_path: Path
) -> None:
    """To the bit, with dropout that each process draws for itself."""
    pytest.importorskip("accelerate")
    options = Options(epochs=2, steps=3, batch_size=1, lr=1e-2, min_lr=1e-3, state_every=2)
    whole = in_two_processes(filled.path, llm, tmp_path / "whole", options, 0.5)
    assert [code for code, _ in whole] == [0, 0]
    run = tmp_path / "run"
    killed = in_two_processes(filled.path, llm, run, options, 0.5, killed_at=5)
    assert [code for code, _ in killed] == [-signal.SIGKILL] * 2
    again = in_two_processes(filled.path, llm, run, options, 0.5)
    assert again == whole
    files = [next(folder.glob("checkpoint_000002_*")) for folder in (tmp_path / "whole", run)]
    expected, found = (torch.load(file, weights_only=True) for file in files)
    assert all(torch.equal(found["model"][key], each) for key, each in expected["model"].items())
    moments = expected["optimizer"]["state"]
    assert moments
    for number, each in moments.items():
        for key, value in each.items():
            assert torch.equal(found["optimizer"]["state"][number][key], value)
    model = make_model(llm, lora_dropout=0.5)
    with pytest.raises(MerstoreError, match="2 processes there and 1 here"):
        train(model, make_material(filled, llm), run, options)


@pytest.mark.gpu
def test_on_a_gpu_half_precision_is_mixed_and_continues_exactly(
    filled: Store, llm: Path, tmp_path: Path
) -> None:
    def model() -> AffectGPT:
        loaded = load_llm(llm, "cuda")
        torch.manual_seed(7)
        return AffectGPT(loaded, Config())

    assert model().dtype == torch.float16
    material = make_material(filled, llm)
    whole = train(model(), material, tmp_path / "whole", QUICK)
    with pytest.raises(Stopped):
        train(model(), material, tmp_path / "stopped", QUICK, tell=stop_at(4))
    again = train(model(), material, tmp_path / "stopped", QUICK)
    assert again.begun == 3
    assert again.losses == pytest.approx(whole.losses, rel=1e-3)
    content = torch.load(whole.checkpoints[-1], weights_only=True)
    assert content["scaler"]["scale"] > 0
    assert all(value.dtype == torch.float32 for value in content["model"].values())

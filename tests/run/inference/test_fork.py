"""The fork's configurations: which checkpoints, which features, and the fate of every key."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import InvalidKey, MerstoreError
from merstore.run.inference.fork import (
    checkpoint_root,
    chosen,
    datasets_of,
    find_checkpoints,
    overridden,
    read_fork,
)

HYBRID: dict[str, Any] = {
    "model": {
        "arch": "affectgpt",
        "skip_encoders": True,
        "ckpt": "",
        "ckpt_2": "warm.pth",
        "llama_model": "models/Qwen2.5-7B-Instruct",
        "num_image_query_token": 1,
        "vis_processor": {"train": {"name": "alpro_video_train", "n_frms": 8}},
    },
    "datasets": {
        "mercaptionplus": {
            "face_or_frame": "multiface_audio_face_frame_text",
            "label_type": "hybird",
        }
    },
    "run": {"max_epoch": 60},
    "evaluation_datasets_cfg": {},
    "inference": {
        "base_root": "output/results-description",
        "ckpt_root": "xxx",
        "test_epochs": "xxx-xxx",
        "face_or_frame": "faceframe",
        "frame_sampling": "emotion_peak",
        "use_preextracted_features": True,
        "use_preextracted_audio": True,
        "gpu": 0,
    },
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """``output/tiny`` with two runs: the second has more checkpoints."""
    for run, epochs in (("tiny_20250101000", (10, 20)), ("tiny_20250202000", (5, 20, 30))):
        folder = tmp_path / "output" / "tiny" / run
        folder.mkdir(parents=True)
        for epoch in epochs:
            (folder / f"checkpoint_{epoch:06d}_loss_0.{epoch}.pth").touch()
        (folder / "log.txt").touch()
    return tmp_path / "output"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(HYBRID))
    return path


def epochs(files: list[Path]) -> list[int]:
    return [int(file.name.split("_")[1]) for file in files]


def test_the_folder_with_the_most_checkpoints_is_taken(output: Path, tmp_path: Path) -> None:
    base = output / "tiny"
    assert checkpoint_root({}, "tiny", output) == base / "tiny_20250202000"
    (base / "tiny_20250101000" / "checkpoint_000030_loss_1.pth").touch()
    assert checkpoint_root({}, "tiny", output) == base / "tiny_20250101000"  # as many: the first
    named = {"ckpt_root": "xxx", "ckpt_name": "tiny_20250202000"}
    assert checkpoint_root(named, "tiny", output) == base / "tiny_20250202000"
    assert checkpoint_root({"ckpt_root": "a/b"}, "tiny", output) == Path("a/b")
    with pytest.raises(InvalidKey, match="ckpt_name"):
        checkpoint_root({"ckpt_name": "other"}, "tiny", output)
    with pytest.raises(MerstoreError, match="no folder other"):
        checkpoint_root({}, "other", output)


def test_which_epochs_are_tested(output: Path) -> None:
    root = output / "tiny" / "tiny_20250202000"
    assert epochs(chosen({}, root)) == [30]
    assert epochs(chosen({"test_epoch": "xxx", "test_epochs": "xxx-xxx"}, root)) == [30]
    assert epochs(chosen({"test_epoch": 20, "test_epochs": "5-30"}, root)) == [20]
    assert epochs(chosen({"test_epochs": "20-30", "skip_epoch": 10}, root)) == [20, 30]
    with pytest.raises(MerstoreError, match="one checkpoint of epoch 21 is wanted; there is none"):
        chosen({"test_epochs": "20-30", "skip_epoch": 1}, root)
    with pytest.raises(InvalidKey, match="test_epoch"):
        chosen({"test_epoch": "last"}, root)
    for file in root.glob("*0[23]0_*"):
        file.unlink()
    with pytest.raises(MerstoreError, match="epoch 5"):
        chosen({}, root)
    assert [epochs(list(stack)) for stack in find_checkpoints(root)] == [[5]]  # named, it is meant


def test_other_files_in_the_folder_are_no_checkpoints(output: Path) -> None:
    root = output / "tiny" / "tiny_20250202000"
    for name in ("state.pth", "checkpoint_best.pth"):  # as training leaves them
        (root / name).touch()
    assert epochs(chosen({}, root)) == [30]
    assert [epochs(list(stack)) for stack in find_checkpoints(root)] == [[30]]
    for file in root.glob("checkpoint_0*"):
        file.unlink()
    with pytest.raises(MerstoreError, match="no checkpoint"):
        find_checkpoints(root)


def test_what_model_names(
    config: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoints("a.pth") == [(Path("a.pth"),)]
    assert find_checkpoints("a.pth,b.pth") == [(Path("a.pth"), Path("b.pth"))]
    Path("a,b.pth").touch()
    assert find_checkpoints("a,b.pth") == [(Path("a,b.pth"),)]
    root = Path("output/tiny/tiny_20250202000")
    stack = (Path("warm.pth"), root / "checkpoint_000030_loss_0.30.pth")
    assert find_checkpoints(config) == [stack]
    assert read_fork(config, dataset="mer2023").checkpoints == (stack,)


def test_options_are_put_in(tmp_path: Path) -> None:
    config = {"inference": {"test_epochs": "xxx-xxx", "gpu": 0}}
    words = ["inference.test_epochs=30-60", "inference.skip_epoch=5", "inference.base_root=out/r"]
    made = overridden(config, words)
    assert made["inference"] == {
        "test_epochs": "30-60",
        "gpu": 0,
        "skip_epoch": 5,
        "base_root": "out/r",
    }
    pairs = itertools.chain.from_iterable(word.split("=") for word in words)
    assert overridden(config, list(pairs)) == made
    assert config["inference"] == {"test_epochs": "xxx-xxx", "gpu": 0}
    with pytest.raises(InvalidKey, match="gpu"):
        overridden(config, ["inference.gpu"])
    with pytest.raises(InvalidKey, match="gpu is no section"):
        overridden(config, ["inference.gpu.all=1"])


def test_datasets() -> None:
    assert datasets_of("inferenceData") == datasets_of("merunibench") == tuple(TEST_SPLITS)
    assert datasets_of("MER2023, IEMOCAPFour") == ("mer2023", "iemocap")
    for none in ("", "merbench"):
        with pytest.raises(InvalidKey, match="inferenceData"):
            datasets_of(none)


def test_a_hybrid_configuration(config: Path, output: Path) -> None:
    run = read_fork(config, dataset="MER2023", output=output)
    assert run.datasets == ("mer2023",)
    assert run.template.mode == "multiface_audio_face_frame_text"  # of the training data
    sources = {name: (each.view, each.source) for name, each in run.template.features.items()}
    assert sources == {
        "frame": ("frame@CLIP_VIT_LARGE/emotion_peak_8frms", "store"),
        "face": ("face@CLIP_VIT_LARGE/8frms", "media"),
        "audio": ("audio@HUBERT_LARGE/8clips", "store"),  # which the fork cannot
        "image": ("frame@CLIP_VIT_LARGE/random_1frms", "media"),
    }
    assert [file.name for file in run.checkpoints[0]] == [
        "warm.pth",
        "checkpoint_000030_loss_0.30.pth",
    ]
    assert run.llm == "models/Qwen2.5-7B-Instruct"
    assert run.base == "output/results-description"
    assert run.root == "./preextracted_features"
    assert "reasoning" in run.question


def test_every_key_has_a_fate(config: Path, output: Path) -> None:
    run = read_fork(config, ["inference.ckpt_nmae=x"], dataset="mer2023", output=output)
    fates = {key.key: (key.used, key.why) for key in run.keys}
    for section in ("model", "inference"):
        for key in HYBRID[section]:
            assert f"{section}.{key}" in fates
    assert fates["inference.face_or_frame"][0] is False
    assert fates["inference.use_preextracted_features"][0] is False
    assert fates["inference.use_preextracted_audio"][1].startswith("corrected")
    assert fates["model.skip_encoders"][1].startswith("corrected")
    assert fates["model.ckpt_2"][0] is True
    assert fates["inference.ckpt_nmae"] == (False, "nothing reads it; did you mean ckpt_name?")
    assert fates["datasets.mercaptionplus.face_or_frame"] == (True, "the mode")
    assert fates["datasets.mercaptionplus.label_type"] == (False, "it is of training")
    assert fates["run.max_epoch"] == (False, "it is of training")
    assert fates["evaluation_datasets_cfg"][0] is False
    mode = "multiface_audio_face_text"
    run = read_fork(config, dataset="mer2023", face_or_frame=mode, output=output)
    used = {key.key: key.used for key in run.keys}
    assert used["datasets.mercaptionplus.face_or_frame"] is False


def test_peaks_are_where_any_section_says(config: Path, output: Path, tmp_path: Path) -> None:
    asked = {"dataset": "mer2023", "output": output}
    assert read_fork(config, **asked).mer_factory is None
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    training = [f"datasets.mercaptionplus.mer_factory_output={tmp_path / 'train'}"]
    assert read_fork(config, training, **asked).mer_factory == tmp_path / "train"
    both = [*training, f"inference.mer_factory_output={tmp_path / 'test'}"]
    run = read_fork(config, both, **asked)
    assert run.mer_factory == tmp_path / "test"
    fates = {key.key: (key.used, key.why) for key in run.keys}
    assert fates["inference.mer_factory_output"][1].startswith("corrected")
    assert fates["datasets.mercaptionplus.mer_factory_output"] == (
        False,
        "another section names it",
    )
    for options, told in (
        (["inference.mer_factory_output=nowhere/theirs"], "no such folder here"),
        ([*both, "inference.frame_sampling=uniform"], "no frames around the peak"),
    ):
        run = read_fork(config, options, **asked)
        assert run.mer_factory is None
        assert told in {key.key: key.why for key in run.keys}["inference.mer_factory_output"]


def test_the_forks_names_of_language_models(config: Path, output: Path, tmp_path: Path) -> None:
    asked = {"dataset": "mer2023", "output": output}
    options = ["model.llama_model=Qwen25"]
    assert read_fork(config, options, **asked).llm == "Qwen/Qwen2.5-7B-Instruct"
    folder = tmp_path / "models" / "Qwen2.5-7B-Instruct"
    assert read_fork(config, options, folder=folder.parent, **asked).llm == (
        "Qwen/Qwen2.5-7B-Instruct"
    )
    folder.mkdir(parents=True)
    assert read_fork(config, options, folder=folder.parent, **asked).llm == str(folder)


def test_what_is_computed_is_computed_as_the_model_section_says(config: Path, output: Path) -> None:
    """And what is stored is found by the names of the inference section."""
    options = ["model.visual_encoder=DINO2_LARGE", "model.acoustic_encoder=WAVLM_LARGE"]
    options += ["model.vis_processor.train.n_frms=16"]
    run = read_fork(config, options, dataset="mer2023", output=output)
    views = {name: each.view for name, each in run.template.features.items()}
    assert views == {
        "frame": "frame@CLIP_VIT_LARGE/emotion_peak_16frms",
        "face": "face@DINO2_LARGE/16frms",
        "audio": "audio@HUBERT_LARGE/8clips",
        "image": "frame@DINO2_LARGE/random_1frms",
    }
    fates = {key.key: key.used for key in run.keys}
    assert fates["model.visual_encoder"]
    assert fates["model.vis_processor"]
    assert not fates["model.acoustic_encoder"]  # all sound is stored


def test_the_command_line_goes_before_the_configuration(config: Path, output: Path) -> None:
    asked = {"dataset": "mer2023", "output": output}
    assert "all possible" in read_fork(config, zeroshot=True, **asked).question
    assert read_fork(config, zeroshot=True, message="Why?", **asked).question == "Why?"
    run = read_fork(config, face_or_frame="audio_text", models=["my.pth"], **asked)
    assert run.template.mode == "audio_text"
    assert [files[-1] for files in run.checkpoints] == [Path("my.pth")]
    with pytest.raises(InvalidKey, match="face_frame_audio"):
        read_fork(config, face_or_frame="face_frame_audio", **asked)


def test_a_real_time_configuration_computes_everything(config: Path, output: Path) -> None:
    options = ["inference.frame_sampling=uniform", "inference.use_preextracted_audio=False"]
    run = read_fork(config, options, dataset="mer2023", output=output)
    assert {each.source for each in run.template.features.values()} == {"media"}
    assert run.root is None
    assert run.template.features["frame"].view == "frame@CLIP_VIT_LARGE/uniform_8frms"


def test_the_nonverbal_clause_is_of_modes_with_au(config: Path, output: Path) -> None:
    options = ["inference.use_nonverbal_text=True"]
    asked = {"dataset": "mer2023", "output": output}
    assert read_fork(config, options, **asked).nonverbal is None
    with pytest.raises(InvalidKey, match="nonverbal_json"):
        read_fork(config, options, face_or_frame="multiface_audio_face_au_text", **asked)
    options += ["inference.nonverbal_json=clues.json"]
    run = read_fork(config, options, face_or_frame="multiface_audio_face_au_text", **asked)
    assert run.nonverbal == Path("clues.json")


def test_what_is_no_configuration(tmp_path: Path, output: Path) -> None:
    for text, told in (
        ("a: [", "no readable YAML"),
        ("- a", "mapping"),
        ("run: {}", "'inference'"),
    ):
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        with pytest.raises(MerstoreError, match=told):
            read_fork(path, dataset="mer2023", output=output)
    with pytest.raises(MerstoreError, match=r"nowhere\.yaml"):
        read_fork(tmp_path / "nowhere.yaml", dataset="mer2023")

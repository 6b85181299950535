"""The examples run as they are, each in a process of its own, and end with what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def run(name: str, tmp_path: Path) -> str:
    """What the example prints."""
    settings = {
        "CUDA_VISIBLE_DEVICES": "",  # one answer on every machine
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.rglob("*.mer*")), "it leaves its store behind"
    return done.stdout


def losses(out: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"epoch \d.*loss (\S+?)(?:,|$)", out, re.MULTILINE)]


def has_learnt(epochs: list[float]) -> bool:
    return epochs[-1] < epochs[0] / 2


def test_plain_pytorch_sees_each_sample_once_an_epoch_with_and_without_workers(
    tmp_path: Path,
) -> None:
    out = run("plain_pytorch.py", tmp_path)
    for workers in (0, 2):
        lines = [line for line in out.splitlines() if line.startswith(f"{workers} workers")]
        assert [line.count("90 samples, 90 different") for line in lines] == [1] * 4
        assert has_learnt(losses("\n".join(lines)))


def test_each_process_of_a_distributed_run_sees_its_half(tmp_path: Path) -> None:
    out = run("distributed.py", tmp_path)
    for loader in ("DistributedSampler", "FeatureLoader"):
        lines = [line for line in out.splitlines() if line.startswith(f"{loader}, epoch ")]
        assert [line.count("45 + 45 samples, 90 different") for line in lines] == [1] * 3
        assert has_learnt(losses("\n".join(lines)))


def test_training_goes_on_in_mid_epoch(tmp_path: Path) -> None:
    out = run("resume.py", tmp_path)
    assert "40 samples before the checkpoint, 104 after it" in out
    assert "the same 144 as without a stop: True" in out
    ends = re.findall(r"loss at the end: (\S+)", out)
    assert len(ends) == 2
    assert ends[0] == ends[1]


def test_torchdata_goes_on_in_mid_epoch(tmp_path: Path) -> None:
    pytest.importorskip("torchdata.stateful_dataloader")
    out = run("with_torchdata.py", tmp_path)
    assert "32 samples before the checkpoint, 40 after it" in out
    assert "72 different of 72" in out


def test_accelerate_prepares_a_loader_over_it(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    out = run("with_accelerate.py", tmp_path)
    assert out.count("72 samples") == 4
    assert has_learnt(losses(out))


def test_lightning_trains_on_it(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    out = run("with_lightning.py", tmp_path)
    assert re.findall(r"step (\d+)", out) == ["6", "12", "18", "24"]
    assert has_learnt(losses(out))


def test_trainer_trains_and_evaluates_on_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # which Trainer needs
    out = run("with_trainer.py", tmp_path)
    assert re.findall(r"step (\d+)", out) == ["6", "12", "18", "24"]
    assert has_learnt(losses(out))
    (accuracy,) = re.findall(r"accuracy (\S+)", out)
    assert float(accuracy) > 0.5


def test_fsspec_opens_merstore_paths(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    if "merstore" not in fsspec.available_protocols():
        pytest.skip("merstore was installed before it had merstore:// paths: install it again")
    out = run("with_fsspec.py", tmp_path)
    assert "clip_007: float32 (8, 16), as stored: True" in out
    assert "datasets: toy" in out
    assert "90 files of sound, the first of 368 bytes" in out  # a header of 128, then 5 x 12 floats
    assert "clip_095: no file" in out


def test_views_become_a_dataset_of_hugging_face(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    out = run("with_datasets.py", tmp_path)
    assert "frame: Array2D(shape=(8, 16), dtype='float32'" in out
    assert "90 samples, 30 of 20 steps or more" in out
    assert out.count("frame [24, 8, 16], first step") == 3


def test_a_batch_becomes_a_tensordict(tmp_path: Path) -> None:
    pytest.importorskip("tensordict")
    out = run("with_tensordict.py", tmp_path)
    assert re.findall(r"(\d+) with sound", out) == ["48", "42"]
    assert "first four: clip_048 clip_049 clip_050 clip_051 labels [0, 1, 2, 0]" in out


def test_a_dataset_class_of_affectgpt_reads_from_the_store(tmp_path: Path) -> None:
    out = run("affectgpt_dataset.py", tmp_path)
    assert "frame: frame_CLIP_VIT_LARGE_emotion_peak_8frms" in out
    assert "use_preextracted_features = True: ignored" in out
    batch = "mask: frames [4, 8, 768], audios [4, 8, 1024], ids [4, 8]"
    assert out.count(batch) == 3
    assert "with sound: [True, True, True, False]" in out
    assert "raise: view mer2023/audio@HUBERT_LARGE/8clips lacks 1" in out
    assert "one gather, the same frames: True" in out


def test_views_become_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    out = run("with_safetensors.py", tmp_path)
    assert "toy/frame@CLIP/uniform_8frms: 96 samples, 49,152 bytes" in out
    assert "features-00003-of-00003.safetensors" in out
    assert "186 samples as in the store" in out


def test_a_folder_of_mertools_goes_in_and_comes_out(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    out = run("mertools_folder.py", tmp_path)
    assert "mer2023/face/openface: 12 entries (None, 112, 112, 3) uint8" in out
    assert "sample_00000008: happy, Sentence 8." in out
    assert "of 62 files are the same bytes" in out
    assert re.search("^differs:( label-6way.npz)?$", out, re.MULTILINE)


def test_an_adapter_of_ones_own_is_asked_as_a_baseline(tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = run("zero_shot_adapter.py", tmp_path)
    assert len(re.findall(r"sample_\d{8}: 16 frames, .* (?:surely|perhaps) ", out)) == 6
    assert "broken_audio_only: no_video" in out
    assert "broken_truncated: decode_error" in out
    assert "answered 6, again 0" in out


def test_every_example_is_tested() -> None:
    told = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "toy.py")
    assert scripts
    assert [name for name in scripts if f'"{name}"' not in told] == []

"""AffectGPT's own command lines, computed into a store."""

import json
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.demo.clips import make_clips
from merstore.extract.demo_encoder import make_random_encoder

from .conftest import Merstore

NAMES = [f"sample_{n:08d}" for n in range(3)]
PEAK = {"peak_index": 10, "frames_before_peak": 10, "frames_after_peak": 9}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_random_encoder(folder / "CLIP_VIT_LARGE")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of SIMS, laid out as it is, and an analysis of two of them."""
    root = tmp_path_factory.mktemp("corpora")
    video = root / "sims-process" / "video"
    video.mkdir(parents=True)
    for path in make_clips(root / "made")[:3]:
        path.rename(video / path.name)
    labels = {name: {"emo": 0, "val": 0.5} for name in NAMES}
    tests = np.array({name: labels[name] for name in NAMES[:2]}, dtype=object)
    trains = np.array({NAMES[2]: labels[NAMES[2]]}, dtype=object)
    empty = np.array({}, dtype=object)
    np.savez(
        root / "sims-process" / "label.npz",
        train_corpus=trains,
        val_corpus=empty,
        test_corpus=tests,
    )
    for name in NAMES[1:]:
        folder = root / "mer-factory" / "SIMS" / name
        folder.mkdir(parents=True)
        info = {"total_frames": 20, "peak_frames": [PEAK]}
        (folder / f"{name}_au_analysis.json").write_text(json.dumps({"au_info": info}))
    return root


def test_frames_and_faces_of_the_general_extractor(
    cli: Merstore, corpus: Path, models: Path, tmp_path: Path
) -> None:
    table = tmp_path / "names.csv"
    table.write_text("name,english\n" + "".join(f"{name},hello\n" for name in NAMES))
    faces = tmp_path / "faces" / NAMES[0]
    faces.mkdir(parents=True)
    np.save(faces / f"{NAMES[0]}.npy", np.full((9, 112, 112, 3), 7, np.uint8))
    args = ["affectgpt", "precompute", "--dataset", "sims", "--device", "cpu", "--json"]
    args += ["--csv_path", table, "--save_root", tmp_path / "features", "--models", models]
    args += ["--video_root", corpus / "sims-process" / "video", "--face_root", faces.parent]
    frames = cli(*args, "--modality", "frame", "--frame_sampling", "headtail", "--n_frms", "6")
    assert frames.code == 0, frames.err
    assert cli(*args, "--modality", "face").code == 1  # two have no track
    with merstore.open(tmp_path / "features.mer") as store:
        assert sorted(store["sims/frame@CLIP_VIT_LARGE/headtail_6frms"]) == NAMES
        view = store["sims/face@CLIP_VIT_LARGE/8frms"]
        assert list(view) == NAMES[:1]
        assert {failure.kind for failure in view.failures()} == {"no_face"}
        assert "affectgpt" in json.dumps(view.spec)


def test_the_test_sets_around_the_peak(
    cli: Merstore, corpus: Path, models: Path, tmp_path: Path
) -> None:
    args = ["affectgpt", "emotion-peak", "--root", corpus, "--device", "cpu", "--models", models]
    args += ["--mer-factory-output", corpus / "mer-factory", "--store", tmp_path / "s.mer"]
    assert cli(*args, "--datasets", "sims").code == 1  # one has no analysis
    with merstore.open(tmp_path / "s.mer") as store:
        view = store["sims/frame@CLIP_VIT_LARGE/emotion_peak_8frms"]
        assert list(view) == [NAMES[1]]
        (failure,) = view.failures()
        assert failure.name == NAMES[0]
        assert [path for path in store.views() if "/label/" in path]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "give one of --sample_list and --csv_path"),
        (["--modality", "multi"], "a trained model"),
        (["--modality", "audio"], "--audio_root"),
        (["--modality", "frame", "--frame_sampling", "emotion_peak"], "--mer-factory-output"),
    ],
)
def test_what_their_script_would_do_silently_is_refused(
    cli: Merstore, args: list[str], told: str, tmp_path: Path
) -> None:
    given = [] if args and args[-1] != "x" else ["--modality", "frame"]
    words = ["affectgpt", "precompute", "--dataset", "sims", "--video_root", tmp_path]
    result = cli(*words, *args, *given)
    assert result.code == 2
    assert told in result.err

"""import and export: the options arrive, the report is told, the exit code is right."""

from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore.corpora.pickled import read_arrays

from .conftest import FRAMES, SOUND, Merstore


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An AffectGPT tree of one dataset with two feature folders."""
    rng = np.random.default_rng(0)
    for folder, shape in (
        ("frame_CLIP_VIT_LARGE_uniform_8frms", (8, 4)),
        ("audio_HUBERT_LARGE_8clips", (8, 6)),
    ):
        directory = tmp_path / "features" / "mer2023" / folder
        directory.mkdir(parents=True)
        for number in range(3):
            np.save(directory / f"sample_{number:08d}.npy", rng.random(shape, np.float32))
    return tmp_path / "features"


def test_an_import_makes_the_store_and_counts_what_it_did(
    cli: Merstore, tree: Path, tmp_path: Path
) -> None:
    result = cli("import", tmp_path / "new.mer", tree)
    assert result.code == 0, result.err
    assert [line.split()[:4] for line in result.lines[1:3]] == [
        ["mer2023/audio@HUBERT_LARGE/8clips", "3", "0", "0"],
        [FRAMES, "3", "0", "0"],
    ]
    assert result.lines[-1].startswith("imported 6 files, ")
    again = cli("import", tmp_path / "new.mer", tree, "--json").json
    assert [(view["imported"], view["skipped"]) for view in again["views"]] == [(0, 3), (0, 3)]


def test_what_is_refused_is_named_and_the_exit_code_is_1(
    cli: Merstore, tree: Path, tmp_path: Path
) -> None:
    bad = tree / "mer2023" / "audio_HUBERT_LARGE_8clips" / "sample_00000009.npy"
    bad.write_bytes(b"not an array")
    result = cli("import", tmp_path / "new.mer", tree)
    assert result.code == 1
    assert "refused (1):" in result.out
    assert str(bad) in result.out
    with merstore.open(tmp_path / "new.mer") as store:
        assert sum(len(view) for view in store.values()) == 6


def test_a_folder_without_features_makes_no_store(cli: Merstore, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    result = cli("import", tmp_path / "new.mer", tmp_path / "nothing", "--layout", "npy")
    assert result.code == 1
    assert "left out (1):" in result.out
    assert not (tmp_path / "new.mer").exists()


def test_any_tree_by_a_pattern(cli: Merstore, tmp_path: Path) -> None:
    (tmp_path / "mine" / "hubert").mkdir(parents=True)
    np.save(tmp_path / "mine" / "hubert" / "-a.npy", np.ones(3, np.float32))
    args = ["--pattern", "{encoder}/{sample}.npy", "--view", "meld/audio@hubert/UTT"]
    assert cli("import", tmp_path / "new.mer", tmp_path / "mine", *args).code == 0
    assert cli("ls", tmp_path / "new.mer", "meld/audio@hubert/UTT").lines == ["-a"]


def test_an_export_of_all_views_and_of_one(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    result = cli("export", filled, tmp_path / "all", "--json")
    assert result.code == 0, result.out
    assert [(view["view"], view["written"]) for view in result.json["views"]] == [
        (SOUND, 3),
        (FRAMES, 4),
    ]
    one = cli("export", filled, tmp_path / "one", "chinese-hubert-large-FRA", "--layout", "npy")
    assert one.lines[1].split()[:4] == [SOUND, "3", "0", "0"]
    with merstore.open(filled) as store:
        written = np.load(tmp_path / "one" / SOUND / "s5.npy")
        assert (written == store[SOUND]["s5"]).all()


def test_an_export_does_not_replace_another_file_unasked(
    cli: Merstore, filled: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out" / SOUND / "s1.npy"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    result = cli("export", filled, tmp_path / "out", SOUND, "--layout", "npy")
    assert result.code == 1
    assert str(there) in result.out
    assert there.read_bytes() == b"mine"
    assert (
        cli("export", filled, tmp_path / "out", SOUND, "--layout", "npy", "--overwrite").code == 0
    )
    assert np.load(there).shape == (1, 4)


# --- safetensors ---------------------------------------------------------------------------------


def test_an_export_as_safetensors(cli: Merstore, filled: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    args = ["--format", "safetensors", "--shard-size", "300B"]
    result = cli("export", filled, tmp_path / "out", FRAMES, *args)
    assert result.code == 0, result.err
    assert result.lines[1].split()[:5] == [FRAMES, "4", "0", "0", "2"]
    assert result.lines[-1].startswith("wrote 4 samples, 512 B")
    files = sorted((tmp_path / "out" / FRAMES).iterdir())
    assert [file.name for file in files] == [
        f"features-0000{n}-of-00002.safetensors" for n in (1, 2)
    ]
    with safetensors.safe_open(files[0], "np") as file, merstore.open(filled) as store:
        assert (file.get_tensor("features")[0] == store[FRAMES]["-dash"]).all()


@pytest.mark.parametrize("size", ["0", "many", "1T"])
def test_a_shard_size_is_a_number_of_bytes(
    cli: Merstore, filled: Path, tmp_path: Path, size: str
) -> None:
    args = ["--format", "safetensors", "--shard-size", size]
    result = cli("export", filled, tmp_path / "out", *args)
    assert result.code == 2
    assert "such as 500MiB" in result.err


# --- a dataset's folder --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A MERTools folder of MER2023 with two samples, one of which has no sound."""
    root = tmp_path / "mer2023-dataset-process"
    for below in ("features/eGeMAPS_UTT", "audio"):
        (root / below).mkdir(parents=True)
    for name in ("a", "b"):
        np.save(root / "features" / "eGeMAPS_UTT" / f"{name}.npy", np.ones(3, np.float32))
    (root / "audio" / "a.wav").write_bytes(b"sound")
    labels = np.array({name: {"emo": "sad", "val": 1.0} for name in ("a", "b")}, object)
    np.savez_compressed(root / "label-6way.npz", train_corpus=labels)
    return root


def test_a_datasets_folder_goes_in_and_comes_out(
    cli: Merstore, folder: Path, tmp_path: Path
) -> None:
    result = cli("import", tmp_path / "new.mer", folder, "--corpus", "MER2023")
    assert result.code == 0, result.out
    assert "mer2023/label/6way: 2 samples" in result.lines
    assert "note: mer2023/audio/file: 1 file: not there, recorded as missing_file" in result.err
    told = cli("import", tmp_path / "new.mer", folder, "--corpus", "MER2023", "--json").json
    assert [(view["imported"], view["skipped"]) for view in told["views"]] == [(0, 2), (0, 1)]
    assert told["labels"] == {"mer2023/label/6way": 2}

    out = tmp_path / "out"
    result = cli("export", tmp_path / "new.mer", out, "--corpus", "mer2023")
    assert result.code == 0, result.out
    assert result.lines[-1] == "labels, transcripts and links to media: 2 written, 0 present"
    assert read_arrays(out / "label-6way.npz")["train_corpus"]["b"] == {"emo": "sad", "val": 1.0}
    assert (out / "audio" / "a.wav").read_bytes() == b"sound"
    again = cli("export", tmp_path / "new.mer", out, "--corpus", "mer2023", "--json").json
    assert (again["files"], again["unchanged"]) == ([], 2)

    (folder / "audio" / "a.wav").unlink()
    lacking = cli("export", tmp_path / "new.mer", out, "--corpus", "mer2023")
    assert lacking.code == 1
    assert "no such file in" in lacking.out


def test_options_that_do_not_go_with_a_corpus(
    cli: Merstore, folder: Path, filled: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.mer"
    for args in (
        ["import", new, folder, "--corpus", "mer2023", "--dataset", "mer2023"],
        ["import", new, folder, "--corpus", "mer1066"],
        ["export", filled, tmp_path / "out", FRAMES, "--corpus", "mer2023"],
        ["export", filled, tmp_path / "out", "--corpus", "meld"],
        ["export", filled, tmp_path / "out", "--media", folder],
    ):
        assert cli(*args).code == 2, args
    assert not new.exists()
    assert not (tmp_path / "out").exists()


def test_a_folder_with_nothing_of_the_corpus(cli: Merstore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("import", tmp_path / "new.mer", tmp_path / "empty", "--corpus", "mer2023")
    assert result.code == 1
    assert "nothing of mer2023 in" in result.err

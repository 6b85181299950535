"""import and export: the options arrive, the report is told, the exit code is right."""

from pathlib import Path

import numpy as np
import pytest

import merstore

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

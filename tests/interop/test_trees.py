"""Feature trees of both code bases are recognised at every level; what is not known is reported."""

from pathlib import Path

import pytest

from merstore.errors import InvalidKey, MerstoreError
from merstore.interop.trees import Found, discover

PEAK = "frame_CLIP_VIT_LARGE_emotion_peak_8frms"


def make(root: Path, *files: str) -> Path:
    """Empty files below `root`: discovery looks at names only."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def content(found: Found) -> dict[str, list[str]]:
    return {tree.view: list(tree.files) for tree in found}


@pytest.fixture
def affectgpt(tmp_path: Path) -> Path:
    return make(
        tmp_path / "preextracted_features",
        f"mer2023/{PEAK}/sample_00000002.npy",
        f"mer2023/{PEAK}/sample_00000001.npy",
        "mer2023/audio_HUBERT_LARGE_8clips/sample_00000001.npy",
        "iemocapfour/face_CLIP_VIT_LARGE_8frms/Ses05F_impro01_F000.npy",
        "my-corpus/au_CLIP_VITB32_8frms/clip.npy",
    )


@pytest.fixture
def mertools(tmp_path: Path) -> Path:
    """Both separators, a variant, per-frame directories."""
    return make(
        tmp_path / "mer2023-dataset-process",
        "features/chinese-hubert-large-UTT/a.npy",
        "features/chinese-hubert-large-noisesnr5-UTT/a.npy",
        "features/eGeMAPS_UTT/a.npy",
        "features/manet_FRA/a/00000001.npy",
        "features/manet_FRA/a/00000002.npy",
        "features/manet_FRA/b/00000001.npy",
        "video/a.mp4",
        "label-6way.npz",
    )


# --- AffectGPT -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["auto", "affectgpt"])
def test_an_affectgpt_root(affectgpt: Path, layout: str) -> None:
    found = discover(affectgpt, layout)
    assert content(found) == {
        "iemocap/face@CLIP_VIT_LARGE/8frms": ["Ses05F_impro01_F000"],
        "mer2023/audio@HUBERT_LARGE/8clips": ["sample_00000001"],
        "mer2023/frame@CLIP_VIT_LARGE/emotion_peak_8frms": ["sample_00000001", "sample_00000002"],
        "my-corpus/au@CLIP_VITB32/8frms": ["clip"],
    }
    assert found.unknown == []
    tree = found[2]
    assert (tree.folder, tree.layout, tree.dataset) == (PEAK, "affectgpt", "mer2023")
    assert tree.path("sample_00000001") == str(affectgpt / "mer2023" / PEAK / "sample_00000001.npy")


@pytest.mark.parametrize("layout", ["auto", "affectgpt"])
def test_one_dataset_of_an_affectgpt_root(affectgpt: Path, layout: str) -> None:
    for name in ("iemocap", "IEMOCAPFour"):
        found = discover(affectgpt, layout, dataset=name)
        assert list(content(found)) == ["iemocap/face@CLIP_VIT_LARGE/8frms"]
    if layout == "auto":
        found = discover(affectgpt, layout, dataset="meld")
        assert content(found) == {}
        assert "no folder of dataset 'meld'" in found.unknown[0].reason


def test_an_affectgpt_dataset_folder_or_feature_folder(affectgpt: Path) -> None:
    by_name = content(discover(affectgpt / "mer2023"))
    assert by_name == content(discover(affectgpt, dataset="mer2023"))
    renamed = (affectgpt / "mer2023").rename(affectgpt / "old")
    with pytest.raises(InvalidKey, match="give the dataset"):
        discover(renamed)
    for layout in ("auto", "affectgpt"):
        assert content(discover(renamed, layout, dataset="mer2023")) == by_name
    found = discover(renamed / PEAK, dataset="mer2024")
    assert list(content(found)) == ["mer2024/frame@CLIP_VIT_LARGE/emotion_peak_8frms"]


# --- MERTools ------------------------------------------------------------------------------------

MERTOOLS_VIEWS = {
    "mer2023/audio@chinese-hubert-large-noisesnr5/UTT": ["a"],
    "mer2023/audio@chinese-hubert-large/UTT": ["a"],
    "mer2023/audio@eGeMAPS/UTT": ["a"],
    "mer2023/face@manet/FRA": ["a", "b"],
}


@pytest.mark.parametrize("layout", ["auto", "mertools"])
@pytest.mark.parametrize("below", ["..", ".", "features"])
def test_a_mertools_tree_at_every_level(mertools: Path, layout: str, below: str) -> None:
    found = discover(mertools / below, layout)
    assert content(found) == MERTOOLS_VIEWS
    assert [tree.folder for tree in found] == [
        "chinese-hubert-large-noisesnr5-UTT",
        "chinese-hubert-large-UTT",
        "eGeMAPS_UTT",
        "manet_FRA",
    ]
    assert {tree.layout for tree in found} == {"mertools"}
    assert found.unknown == []


def test_a_stray_file_does_not_make_a_root_a_feature_folder(
    affectgpt: Path, mertools: Path
) -> None:
    for root in (affectgpt, affectgpt / "mer2023", mertools, mertools / "features"):
        before = content(discover(root))
        make(root, "stray.npy")
        assert content(discover(root)) == before


def test_a_mertools_feature_folder_alone(mertools: Path) -> None:
    found = discover(mertools / "features" / "manet_FRA", dataset="MER2024")
    assert content(found) == {"mer2024/face@manet/FRA": ["a", "b"]}
    assert Path(found[0].path("b")).is_dir()


def test_a_mertools_dataset_of_another_name_needs_the_dataset(mertools: Path) -> None:
    moved = mertools.rename(mertools.parent / "data")
    for root in (moved, moved / "features", moved / "features" / "eGeMAPS_UTT"):
        with pytest.raises(InvalidKey, match="give the dataset"):
            discover(root)
    assert content(discover(moved, dataset="mer2023")) == MERTOOLS_VIEWS


def test_a_file_goes_before_a_directory_of_its_name(tmp_path: Path) -> None:
    root = make(tmp_path / "manet_UTT", "a.npy", "a/0.npy", "b/0.npy")
    found = discover(root, dataset="meld")
    assert dict(found[0].files) == {"a": "a.npy", "b": "b"}
    assert "a/ (there is a file a.npy)" in found.unknown[0].reason


# --- names ---------------------------------------------------------------------------------------


def test_samples_are_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    names = ["b", "a", "-3g5yACwYnA_3", "_0a", "é", "z", "愤怒", "Z", "a.b", "a-b", "\U0001f600"]
    root = make(tmp_path / "manet_UTT", *(f"{name}.npy" for name in names))
    assert list(discover(root, dataset="meld")[0].files) == sorted(names, key=str.encode)


def test_other_files_are_reported_once_per_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "manet_UTT", "a.npy", "README.md", "._a.npy", ".npy", "b.npy.tmp")
    found = discover(root, dataset="meld")
    assert list(found[0].files) == ["a"]
    assert [unknown.reason for unknown in found.unknown] == ["4 other entries, e.g. ._a.npy"]


def test_unknown_folders_are_reported_and_taken_when_the_modality_is_given(tmp_path: Path) -> None:
    root = make(tmp_path / "meld", "manet_UTT/a.npy", "my-audio-UTT/a.npy", "empty_UTT/x.txt")
    found = discover(root)
    assert list(content(found)) == ["meld/face@manet/UTT"]
    reasons = {Path(unknown.path).name: unknown.reason for unknown in found.unknown}
    assert "give the modality" in reasons["my-audio-UTT"]
    alone = discover(root / "my-audio-UTT", modality="audio")
    assert content(alone) == {"meld/audio@my-audio/UTT": ["a"]}


def test_two_folders_for_one_view_are_not_mixed(tmp_path: Path) -> None:
    root = make(tmp_path / "meld", "manet_UTT/a.npy", "manet-UTT/b.npy")
    found = discover(root)
    assert content(found) == {"meld/face@manet/UTT": ["b"]}
    assert "same view" in found.unknown[0].reason


def test_a_view_can_be_given_for_a_single_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "x", "weird name/a.npy")
    found = discover(root / "weird name", view="meld/audio@mine/UTT")
    assert content(found) == {"meld/audio@mine/UTT": ["a"]}
    make(root, "manet_UTT/b.npy")
    with pytest.raises(InvalidKey, match="give one feature folder"):
        discover(root, view="meld/audio@mine/UTT")


@pytest.mark.parametrize(
    "view", ["meld/audio", "meld/audio@x/UTT/a", "/audio@x/UTT", "meld/a b/UTT"]
)
def test_a_view_that_is_no_view_path_is_refused(tmp_path: Path, view: str) -> None:
    with pytest.raises(InvalidKey):
        discover(make(tmp_path / "x", "a.npy"), view=view)


def test_roots_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="no such directory"):
        discover(tmp_path / "nowhere")
    with pytest.raises(MerstoreError, match="layout 'x' is unknown"):
        discover(tmp_path, "x")
    for layout in ("auto", "affectgpt", "mertools", "npy"):
        found = discover(tmp_path, layout, dataset="meld")
        assert list(found) == []
        assert found.unknown


# --- patterns ------------------------------------------------------------------------------------


def test_the_layout_of_an_npy_export_needs_no_pattern(tmp_path: Path) -> None:
    root = make(
        tmp_path, "meld/audio@x/UTT/a.npy", "meld/audio/UTT/a.npy", "Meld/audio@x/UTT/b.npy"
    )
    assert content(discover(root, "npy")) == {
        "Meld/audio@x/UTT": ["b"],
        "meld/audio/UTT": ["a"],
        "meld/audio@x/UTT": ["a"],
    }
    assert {tree.folder for tree in discover(root, "npy")} == {None}


@pytest.mark.parametrize(
    ("file", "pattern", "given", "view", "sample"),
    [
        (
            "m/x@e/s/a.b.npy",
            "{dataset}/{modality}@{encoder}/{sampling}/{sample}.npy",
            {},
            "m/x@e/s",
            "a.b",
        ),
        (
            "manet_UTT/a.npy",
            "{feature}/{sample}.npy",
            {"dataset": "meld"},
            "meld/face@manet/UTT",
            "a",
        ),
        (
            "mine-FRA/a.npy",
            "{feature}/{sample}.npy",
            {"dataset": "m", "modality": "au"},
            "m/au@mine/FRA",
            "a",
        ),
        (
            "m/a/x_e_s.npy",
            "{dataset}/{sample}/{modality}_{encoder}_{sampling}.npy",
            {},
            "m/x@e/s",
            "a",
        ),
        (
            "faces/a/a.npy",
            "faces/{sample}/{sample}.npy",
            {"view": "m/face/112px"},
            "m/face/112px",
            "a",
        ),
        (
            "e/s/a.npy",
            "{encoder}/{sampling}/{sample}.npy",
            {"dataset": "m", "modality": "x"},
            "m/x@e/s",
            "a",
        ),
    ],
)
def test_patterns(
    tmp_path: Path, file: str, pattern: str, given: dict[str, str], view: str, sample: str
) -> None:
    root = make(tmp_path, file)
    found = discover(root, pattern=pattern, **given)  # type: ignore[arg-type]
    assert content(found) == {view: [sample]}
    assert found[0].path(sample) == str(root / file)
    assert found.unknown == []


@pytest.mark.parametrize(
    ("pattern", "given", "message"),
    [
        ("{dataset}/{feature}.npy", {}, "where {sample} is"),
        ("{feature}/{sample}.npy", {}, "give the dataset"),
        ("{dataset}/{sample}.npy", {}, "it needs {feature}, or"),
        ("{dataset}/{modality}/{sample}.npy", {}, "it needs {feature}, or"),
        ("{corpus}/{sample}.npy", {}, "unknown field 'corpus'"),
        ("{dataset}/{sample}{sample}.npy", {}, "a field twice"),
        ("/{dataset}/{feature}/{sample}.npy", {}, "empty"),
        ("../{dataset}/{feature}/{sample}.npy", {}, "'..' parts"),
    ],
)
def test_patterns_that_say_too_little_are_refused(
    tmp_path: Path, pattern: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidKey, match=message):
        discover(tmp_path, pattern=pattern, **given)  # type: ignore[arg-type]


def test_what_does_not_fit_the_pattern_is_reported(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        "a/a.npy",
        "a/b.npy",
        "c.txt",
        "mine-UTT/mine-UTT.npy",
    )
    found = discover(root, pattern="{sample}/{sample}.npy", view="m/face/112px")
    assert content(found) == {"m/face/112px": ["a", "mine-UTT"]}
    assert [u.reason for u in found.unknown] == ["2 entries do not fit the pattern, e.g. a/b.npy"]
    found = discover(root, pattern="{feature}/{sample}.npy", dataset="m")
    assert content(found) == {}
    assert sum("give the modality" in unknown.reason for unknown in found.unknown) == 2


def test_one_sample_twice_is_reported(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a.npy", "val/a.npy")
    found = discover(root, pattern="{encoder}/{sample}.npy", view="m/x@y/UTT")
    assert len(found[0].files) == 1
    assert "same sample as" in found.unknown[0].reason


def test_a_layout_and_a_pattern_of_another_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="leave one of them out"):
        discover(tmp_path, "mertools", pattern="{sample}.npy")

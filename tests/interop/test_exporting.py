"""Views go out as the folders that other code reads, and what was imported comes out as it was."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merstore
from merstore.errors import MerstoreError, UnknownView
from merstore.interop.exporting import export_views
from merstore.interop.importing import import_tree
from merstore.interop.trees import discover
from merstore.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]

FRAME = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"
FRAME_FOLDER = "frame_CLIP_VIT_LARGE_uniform_8frms"
UTT = "meld/audio@chinese-hubert-large/UTT"
UTT_FOLDER = "chinese-hubert-large-UTT"
OWN = "meld/pose@mine/raw"


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`, by its path."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def save(root: Path, files: dict[str, Array]) -> Path:
    for file, array in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / file, array)
    return root


@pytest.fixture
def filled(store: Store) -> Store:
    """A view by each code base's rules, one of them with a failure, and one that neither knows."""
    frame = store.create_view(FRAME, dtype="float32", shape=(8, 3))
    frame.update({name: np.full((8, 3), i, "f4") for i, name in enumerate("abc")})
    frame.fail("d", "decode_error", "cut short")
    utt = store.create_view(UTT, dtype="float16", shape=(4,))
    utt["-x_1"] = np.arange(4, dtype="f2")
    own = store.create_view(OWN, dtype="int64", shape=(None, 2))
    own["a"] = np.arange(6).reshape(3, 2)
    return store


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "folders"),
    [
        ("affectgpt", {f"mer2023/{FRAME_FOLDER}", f"meld/{UTT_FOLDER}"}),
        ("mertools", {f"mer2023/features/{FRAME_FOLDER}", f"meld/features/{UTT_FOLDER}"}),
        ("npy", {FRAME, UTT, OWN}),
    ],
)
def test_layouts(filled: Store, tmp_path: Path, layout: str, folders: set[str]) -> None:
    report = export_views(filled, tmp_path / "out", layout=layout)
    assert {str(Path(file).parent) for file in content(tmp_path / "out")} == folders
    assert report.refused == []
    assert report.written == len(content(tmp_path / "out"))


@pytest.mark.parametrize("layout", ["affectgpt", "mertools"])
def test_a_view_without_a_legacy_name_needs_the_npy_layout(
    filled: Store, tmp_path: Path, layout: str
) -> None:
    ((view, problem),) = export_views(filled, tmp_path / "out", layout=layout).problems
    assert view == OWN
    assert "export it with layout npy" in problem


def test_a_file_is_what_numpy_saves(filled: Store, tmp_path: Path) -> None:
    report = export_views(filled, tmp_path / "out", [UTT])
    np.save(tmp_path / "plain.npy", np.arange(4, dtype="f2"))
    written = content(tmp_path / "out")
    assert written == {f"meld/{UTT_FOLDER}/-x_1.npy": (tmp_path / "plain.npy").read_bytes()}
    assert report.bytes == 8


def test_samples_without_a_tensor_are_counted(filled: Store, tmp_path: Path) -> None:
    report = export_views(filled, tmp_path / "out", [FRAME])
    assert (report.written, report.views[0].failures) == (3, 1)


def test_bfloat16_becomes_float32_and_is_said(store: Store, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.tensor([1.5, -2.0, 3.140625], dtype=torch.bfloat16)
    store.create_view("meld/audio@x/UTT", dtype="bfloat16", shape=(3,))["a"] = values
    report = export_views(store, tmp_path / "out")
    assert report.views[0].notes == {"bfloat16 as float32": 1}
    array = np.load(tmp_path / "out" / "meld" / "x-UTT" / "a.npy")
    assert array.dtype == np.float32
    assert array.tolist() == [1.5, -2.0, 3.140625]


def test_an_unknown_layout_or_view_is_refused(filled: Store, tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match="layout 'zip' is unknown"):
        export_views(filled, tmp_path, layout="zip")
    with pytest.raises(UnknownView):
        export_views(filled, tmp_path, ["meld/nothing/here"])
    assert content(tmp_path / "out") == {}


# --- the round trip ------------------------------------------------------------------------------


def random(*shape: int, dtype: str = "f4") -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


AFFECTGPT = {
    "mer2023/frame_CLIP_VIT_LARGE_emotion_peak_8frms/sample_00000001.npy": random(8, 768),
    "mer2023/frame_CLIP_VIT_LARGE_emotion_peak_8frms/sample_00000002.npy": random(8, 768),
    "mer2023/face_CLIP_VIT_LARGE_8frms/sample_00000001.npy": random(8, 768),
    "mer2023/audio_HUBERT_LARGE_8clips/sample_00000001.npy": random(8, 1024),
    "mer2023/audio_HUBERT_LARGE_8clips/sample_00000002.npy": np.zeros((8, 1024), "f4"),
    "meld/au_CLIP_VITB32_8frms/test_dia0_utt0.npy": random(3, 512, dtype="f2"),
    "meld/au_CLIP_VITB32_8frms/test_dia0_utt1.npy": random(9, 512, dtype="f2"),
    "meld/au_CLIP_VITB32_8frms/test_dia0_utt2.npy": random(9, 512),
    "meld/multi_CLIP_VIT_LARGE_HUBERT_LARGE_complete/test_dia0_utt0.npy": random(1024),
}
MERTOOLS = {
    "mer2023/features/chinese-hubert-large-UTT/a.npy": random(1024),
    "mer2023/features/chinese-hubert-large-FRA/a.npy": random(7, 1024),
    "mer2023/features/chinese-hubert-large-FRA/b.npy": random(1024),
    "mer2023/features/chinese-macbert-large-FRA/a.npy": random(1, 1024),
    "mer2023/features/Baichuan-13B-Base-4-UTT/a.npy": random(5120, dtype="f2"),
    "mer2023/features/eGeMAPS_UTT/a.npy": random(88, dtype="f8"),
    "mer2023/features/eGeMAPS_noisesnr5_UTT/a.npy": random(88, dtype="f8"),
    "mer2023/features/manet-UTT/a.npy": random(1024),  # not the usual separator
    "mer2023/features/resnet50face_FRA/a.npy": random(3, 512, dtype="f8"),
    "mer2023/features/resnet50face_FRA/b.npy": random(5, 512, dtype="f4"),
}


@pytest.mark.parametrize(
    ("layout", "files"),
    [("affectgpt", AFFECTGPT), ("mertools", MERTOOLS)],
    ids=lambda v: str(v)[:9],
)
def test_a_tree_comes_out_byte_for_byte(
    store: Store, tmp_path: Path, layout: str, files: dict[str, Array]
) -> None:
    root = save(tmp_path / "in", files)
    found = discover(root)
    assert found.unknown == []
    assert import_tree(store, found).imported == len(files)
    report = export_views(store, tmp_path / "out", layout=layout)
    assert report.written == len(files)
    assert content(tmp_path / "out") == content(root)


def test_the_npy_layout_comes_back_with_the_same_views(filled: Store, tmp_path: Path) -> None:
    export_views(filled, tmp_path / "out", layout="npy")
    with merstore.open(tmp_path / "second.mer", "a") as second:
        import_tree(second, discover(tmp_path / "out", "npy"))
        assert second.views() == filled.views()
        for path in filled.views():
            assert list(second[path]) == list(filled[path])
            for name in filled[path]:
                assert second[path][name].dtype == filled[path][name].dtype
                assert np.array_equal(second[path][name], filled[path][name])
    again = export_views(filled, tmp_path / "out", layout="npy")
    assert again.written == 0


# --- files that are there ------------------------------------------------------------------------


def test_the_same_array_is_left_alone(filled: Store, tmp_path: Path) -> None:
    export_views(filled, tmp_path / "out", [FRAME])
    folder = tmp_path / "out" / "mer2023" / FRAME_FOLDER
    np.save(folder / "b.npy", np.asfortranarray(filled[FRAME]["b"].astype(">f4")))
    before = content(tmp_path / "out")
    report = export_views(filled, tmp_path / "out", [FRAME])
    assert (report.written, report.views[0].unchanged, report.refused) == (0, 3, [])
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("other", [b"", b"mine", None], ids=["empty", "text", "array"])
def test_another_file_is_kept_unless_told(
    filled: Store, tmp_path: Path, other: bytes | None
) -> None:
    export_views(filled, tmp_path / "out", [FRAME])
    whole = content(tmp_path / "out")
    path = tmp_path / "out" / "mer2023" / FRAME_FOLDER / "b.npy"
    if other is None:
        np.save(path, np.zeros(3))
    else:
        path.write_bytes(other)
    before = content(tmp_path / "out")
    report = export_views(filled, tmp_path / "out", [FRAME])
    assert [refused.name for refused in report.refused] == ["b"]
    assert str(path) in report.refused[0].reason
    assert content(tmp_path / "out") == before
    report = export_views(filled, tmp_path / "out", [FRAME], overwrite=True)
    assert (report.written, report.views[0].unchanged) == (1, 2)
    assert content(tmp_path / "out") == whole


def test_a_file_appears_only_when_it_is_whole(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the second file: the first is there, and no part of another."""
    write, room = os.write, iter([True, True])

    def full(fd: int, data: Any) -> int:
        if next(room, False):
            return write(fd, data)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("merstore.interop.exporting.os.write", full)
    with pytest.raises(MerstoreError, match="No space left on device"):
        export_views(filled, tmp_path / "out", [FRAME])
    monkeypatch.undo()
    assert [Path(file).name for file in content(tmp_path / "out")] == ["a.npy"]


def test_names_too_long_for_a_file_are_left_out(store: Store, tmp_path: Path) -> None:
    view = store.create_view(UTT, dtype="float32", shape=(1,))
    view.update({"a": np.ones(1, "f4"), "b" * 300: np.ones(1, "f4"), "c": np.ones(1, "f4")})
    report = export_views(store, tmp_path / "out")
    assert report.written == 2
    assert [refused.name for refused in report.refused] == ["b" * 300]


@pytest.mark.parametrize("alias", ["../../evil", "/tmp/evil", "..", "a/b"])
def test_an_alias_cannot_lead_out_of_the_folder(store: Store, tmp_path: Path, alias: str) -> None:
    store.create_view(UTT, dtype="float32", shape=(1,), alias=alias)["a"] = np.ones(1, "f4")
    report = export_views(store, tmp_path / "out" / "below")
    assert "no folder name" in report.problems[0][1]
    assert content(tmp_path / "out") == {}


def test_two_views_of_one_folder_are_not_mixed(store: Store, tmp_path: Path) -> None:
    for sampling in ("UTT", "FRA"):
        view = store.create_view(f"meld/audio@x/{sampling}", dtype="float32", shape=(1,), alias="x")
        view["a"] = np.ones(1, "f4")
    report = export_views(store, tmp_path / "out")
    assert [path for path, _ in report.problems] == ["meld/audio@x/UTT"]
    assert report.written == 1


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(
    filled: Store, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MerstoreError, match=r"out.*cannot be written to"):
        export_views(filled, tmp_path / "out")


def test_progress_ends_at_the_number_of_entries(filled: Store, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    report = export_views(
        filled, tmp_path / "out", layout="npy", progress=lambda *call: calls.append(call)
    )
    assert calls == sorted(calls)
    assert calls[-1] == (5, 5, report.bytes)

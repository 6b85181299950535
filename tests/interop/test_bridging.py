"""A dataset's folder goes into a store in one go, and comes out as it was."""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.corpora import open_corpus, read_labels, read_transcripts
from merstore.corpora.pickled import read_arrays
from merstore.errors import MerstoreError, UnknownView
from merstore.interop import bridging
from merstore.interop.bridging import export_corpus, import_corpus
from merstore.store.store import Store

UTT, FRA = "chinese-hubert-large-UTT", "eGeMAPS_FRA"
CORPUS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "train_corpus": {
        "sample_00000002": {"emo": "happy", "val": 2.25},
        "sample_00000001": {"emo": "angry", "val": -3.5},
    },
    "test1_corpus": {"sample_00000003": {"emo": "sad", "val": -0.1}},
    "test2_corpus": {"sample_00000004": {"emo": "worried", "val": 0.0}},
    "test3_corpus": {"samplenew_00000005": {"emo": "surprise", "val": -10}},
}
NAMES = [name for labels in CORPUS.values() for name in labels]
TEXTS = {name: (f"第{i}句，好。", f'line {i}, "said"') for i, name in enumerate(NAMES)}
MUTE, FACELESS, EMPTY = NAMES[1], NAMES[2], NAMES[3]


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """As the toolkits do: object arrays of one dict."""
    boxes = {name: np.array(dict(content), object) for name, content in arrays.items()}
    np.savez_compressed(path, **boxes)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small MER2023 as MERTools processes it; a sample without sound, two without a face."""
    root = tmp_path / "mer2023-dataset-process"
    rng = np.random.default_rng(0)
    for folder in (UTT, FRA, "openface_face", "video", "audio"):
        inside = folder in (UTT, FRA)
        (root / ("features" if inside else "") / folder).mkdir(parents=True)
    for i, name in enumerate(NAMES):
        np.save(root / "features" / UTT / f"{name}.npy", rng.random(6, np.float32))
        np.save(root / "features" / FRA / f"{name}.npy", rng.random((i + 1, 4), np.float32))
        (root / "video" / f"{name}.mp4").write_bytes(rng.bytes(50 + i))
        if name != MUTE:
            (root / "audio" / f"{name}.wav").write_bytes(rng.bytes(90 + i))
        (root / "openface_face" / name).mkdir()
        if name != FACELESS:
            track = rng.integers(0, 255, (i + 1, 112, 112, 3), np.uint8)
            track = np.array([]) if name == EMPTY else track
            np.save(root / "openface_face" / name / f"{name}.npy", track)
    write_npz(root / "label-6way.npz", CORPUS)
    with (root / "transcription-engchi-polish.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "chinese", "english"])
        writer.writerows([name, *texts] for name, texts in TEXTS.items())
    return root


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`, by its path, links followed."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture
def filled(store: Store, root: Path) -> Store:
    done = import_corpus(store, open_corpus("MER2023", root.parent))
    assert (done.problems, done.unknown, done.report.problems) == ([], [], [])
    assert done.report.refused == []
    return store


# --- in ------------------------------------------------------------------------------------------


def test_everything_has_a_view(filled: Store, root: Path) -> None:
    assert {path: (len(view), view.shape) for path, view in filled.items()} == {
        "mer2023/audio@chinese-hubert-large/UTT": (5, (6,)),
        "mer2023/audio@eGeMAPS/FRA": (5, (None, 4)),
        "mer2023/audio/file": (4, (None,)),
        "mer2023/face/openface": (3, (None, 112, 112, 3)),
        "mer2023/label/6way": (5, (None,)),
        "mer2023/text/chinese": (5, (None,)),
        "mer2023/text/english": (5, (None,)),
        "mer2023/video/file": (5, (None,)),
    }
    faces = filled[filled.resolve("openface_face", "mer2023")]
    file = root / "openface_face" / NAMES[0] / f"{NAMES[0]}.npy"
    assert np.array_equal(faces[NAMES[0]], np.load(file))
    assert read_labels(filled, "mer2023").samples[NAMES[0]].values == {"emo": "happy", "val": 2.25}
    assert read_transcripts(filled, "mer2023", "english").texts[NAMES[3]] == 'line 3, "said"'


def test_samples_without_a_face_or_a_file_are_failures(filled: Store) -> None:
    faces = filled["mer2023/face/openface"].failures()
    assert [(each.name, each.kind) for each in faces] == [
        (FACELESS, "no_face"),
        (EMPTY, "no_face"),
    ]
    assert "holds no track" in faces[0].message
    assert "has no faces" in faces[1].message
    (mute,) = filled["mer2023/audio/file"].failures()
    assert (mute.name, mute.kind) == (MUTE, "missing_file")


def test_media_are_kept_by_reference(filled: Store, root: Path) -> None:
    import xxhash

    for name in NAMES:
        reference = json.loads(filled["mer2023/video/file"][name].tobytes())
        data = (root / "video" / f"{name}.mp4").read_bytes()
        assert reference == {
            "path": f"video/{name}.mp4",
            "bytes": len(data),
            "xxh3_128": xxhash.xxh3_128(data).hexdigest(),
        }


def test_an_import_goes_on_and_finds_what_is_new(filled: Store, root: Path) -> None:
    (root / "audio" / f"{MUTE}.wav").write_bytes(b"sound")
    (root / "video" / f"{NAMES[0]}.mp4").write_bytes(b"another clip")
    track = np.ones((2, 112, 112, 3), np.uint8)
    np.save(root / "openface_face" / FACELESS / f"{FACELESS}.npy", track)
    counts: list[tuple[int, int]] = []
    corpus = open_corpus("mer2023", root)
    again = import_corpus(
        filled, corpus, progress=lambda done, total, _: counts.append((done, total))
    )
    assert {view.view: (view.imported, view.skipped) for view in again.views} == {
        "mer2023/audio@chinese-hubert-large/UTT": (0, 5),
        "mer2023/audio@eGeMAPS/FRA": (0, 5),
        "mer2023/audio/file": (1, 4),
        "mer2023/face/openface": (1, 3),
        "mer2023/video/file": (0, 4),
    }
    (refused,) = again.report.refused
    assert (refused.name, "import with replace" in refused.reason) == (NAMES[0], True)
    assert filled["mer2023/audio/file"].failures() == []
    assert np.array_equal(filled["mer2023/face/openface"][FACELESS], track)
    assert counts[-1][0] == counts[-1][1]
    replaced = import_corpus(filled, corpus, replace=True)
    assert replaced.report.refused == []
    assert json.loads(filled["mer2023/video/file"][NAMES[0]].tobytes())["bytes"] == 12


@pytest.mark.parametrize("stop", [3, 9, 14, 17, 21])
def test_an_import_that_was_interrupted_goes_on(
    filled: Store, root: Path, tmp_path: Path, stop: int
) -> None:
    def interrupt(done: int, total: int, nbytes: int) -> None:
        if done >= stop:
            raise KeyboardInterrupt

    corpus = open_corpus("mer2023", root)
    with Store(tmp_path / "second.mer", "a") as second:
        with pytest.raises(KeyboardInterrupt):
            import_corpus(second, corpus, progress=interrupt)
        import_corpus(second, corpus)
        assert second.verify() == []
        for path, view in filled.items():
            assert {name: second[path][name].tobytes() for name in second[path]} == {
                name: view[name].tobytes() for name in view
            }
            failures = {(each.name, each.kind) for each in view.failures()}
            assert {(each.name, each.kind) for each in second[path].failures()} == failures


def test_labels_that_changed_are_told_and_replaced_when_asked(filled: Store, root: Path) -> None:
    changed = {**CORPUS, "test1_corpus": {FACELESS: {"emo": "happy", "val": 1.0}}}
    write_npz(root / "label-6way.npz", changed)
    corpus = open_corpus("mer2023", root)
    ((what, why),) = import_corpus(filled, corpus).problems
    assert (what, "another spec" in why) == ("labels and transcripts", True)
    assert read_labels(filled, "mer2023").samples[FACELESS].values["emo"] == "sad"
    import_corpus(filled, open_corpus("mer2023", root), replace=True)
    assert read_labels(filled, "mer2023").samples[FACELESS].values["emo"] == "happy"
    (root / "label-6way.npz").write_bytes(b"no npz")
    ((_, why),) = import_corpus(filled, open_corpus("mer2023", root), replace=True).problems
    assert "no npz file" in why
    assert read_labels(filled, "mer2023").samples[FACELESS].values["emo"] == "happy"


def test_bad_files_and_unknown_folders_are_listed(store: Store, root: Path) -> None:
    (root / "features" / UTT / f"{NAMES[0]}.npy").write_bytes(b"no array")
    (root / "features" / "my-own-encoder").mkdir()
    face = root / "openface_face" / NAMES[0] / f"{NAMES[0]}.npy"
    np.save(face, np.zeros((2, 5), np.uint8))
    done = import_corpus(store, open_corpus("mer2023", root))
    assert [refused.path for refused in done.report.refused] == [
        str(root / "features" / UTT / f"{NAMES[0]}.npy"),
        str(face),
    ]
    assert [Path(item.path).name for item in done.unknown] == ["my-own-encoder"]


def test_a_folder_with_features_alone(store: Store, root: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (root / "features").rename(alone / "features")
    done = import_corpus(store, open_corpus("mer2023", alone))
    assert (done.labels, len(done.views)) == ([], 2)


def test_faces_that_lie_flat_come_out_flat(store: Store, root: Path, tmp_path: Path) -> None:
    for name in NAMES:
        inner = root / "openface_face" / name
        for file in inner.iterdir():
            file.rename(root / "openface_face" / file.name)
        inner.rmdir()
    import_corpus(store, open_corpus("mer2023", root))
    kinds = [failure.kind for failure in store["mer2023/face/openface"].failures()]
    assert kinds == ["missing_file", "no_face"]
    export_corpus(store, open_corpus("mer2023", root).table, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out" / "openface_face")) == sorted(
        f"{name}.npy" for name in NAMES if name not in (FACELESS, EMPTY)
    )


# --- out -----------------------------------------------------------------------------------------


def test_the_folder_comes_out_as_it_was(filled: Store, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export_corpus(filled, open_corpus("mer2023", root).table, out)
    assert (done.refused, done.report.refused, done.report.problems) == ([], [], [])
    before, after = content(root), content(out)
    # the one that is no face track is an empty folder now, as of a sample without a face
    before.pop(f"openface_face/{EMPTY}/{EMPTY}.npy")
    assert before.keys() == after.keys()
    assert {file for file in before if before[file] != after[file]} <= {"label-6way.npz"}
    assert (out / "openface_face" / FACELESS).is_dir()
    arrays = read_arrays(out / "label-6way.npz")
    assert {name: arrays[name] for name in arrays.names} == CORPUS
    assert [list(arrays[name]) for name in arrays.names] == [list(each) for each in CORPUS.values()]
    assert (out / "video" / f"{NAMES[0]}.mp4").is_symlink()


def test_the_label_file_is_what_a_checkout_loads(filled: Store, root: Path, tmp_path: Path) -> None:
    export_corpus(filled, open_corpus("mer2023", root).table, tmp_path / "out")
    with np.load(tmp_path / "out" / "label-6way.npz") as file:  # without pickle: the headers
        assert sorted(file.files) == sorted(CORPUS)
        with pytest.raises(ValueError, match="Object arrays"):
            file["train_corpus"]


def test_a_store_made_of_an_export_is_the_same(filled: Store, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_corpus(filled, open_corpus("mer2023", root).table, out)
    with Store(tmp_path / "second.mer", "a") as second:
        import_corpus(second, open_corpus("mer2023", out))
        assert second.views() == filled.views()
        for path in filled.views():
            assert list(second[path]) == list(filled[path])
            for name in filled[path]:
                assert second[path][name].tobytes() == filled[path][name].tobytes()


def test_a_second_export_writes_nothing(filled: Store, root: Path, tmp_path: Path) -> None:
    table = open_corpus("mer2023", root).table
    counts: list[tuple[int, int]] = []
    export_corpus(filled, table, tmp_path / "out")
    again = export_corpus(
        filled,
        table,
        tmp_path / "out",
        progress=lambda done, total, _: counts.append((done, total)),
    )
    assert (again.files, again.unchanged, again.report.written) == ([], 11, 0)
    assert counts[-1] == (22, 22)


def test_files_of_others_are_in_the_way(filled: Store, root: Path, tmp_path: Path) -> None:
    table = open_corpus("mer2023", root).table
    out = tmp_path / "out"
    (out / "audio").mkdir(parents=True)
    (out / "label-6way.npz").write_bytes(b"mine")
    (out / "audio" / f"{NAMES[0]}.wav").write_bytes(b"mine")
    refused = export_corpus(filled, table, out).refused
    assert [Path(file).name for file, _ in refused] == ["label-6way.npz", f"{NAMES[0]}.wav"]
    assert (out / "label-6way.npz").read_bytes() == b"mine"
    assert export_corpus(filled, table, out, overwrite=True).refused == []
    assert (out / "audio" / f"{NAMES[0]}.wav").is_symlink()


def test_an_export_over_the_folder_itself_changes_nothing(filled: Store, root: Path) -> None:
    before = content(root)
    done = export_corpus(filled, open_corpus("mer2023", root).table, root, overwrite=True)
    after = content(root)
    assert {file for file in before if before[file] != after[file]} <= {"label-6way.npz"}
    assert done.refused == []


def test_media_that_moved_or_changed(filled: Store, root: Path, tmp_path: Path) -> None:
    table = open_corpus("mer2023", root).table
    moved = root.rename(tmp_path / "moved")
    refused = export_corpus(filled, table, tmp_path / "out").refused
    assert [view for view, _ in refused] == ["mer2023/video/file", "mer2023/audio/file"]
    assert "say where the media are" in refused[0][1]
    (moved / "video" / f"{NAMES[0]}.mp4").write_bytes(b"another")
    (moved / "video" / f"{NAMES[1]}.mp4").unlink()
    refused = export_corpus(filled, table, tmp_path / "out", media=moved).refused
    told = {Path(link).stem: why for link, why in refused}
    assert told.keys() == {NAMES[0], NAMES[1]}
    assert "has another size" in told[NAMES[0]]
    assert "no such file" in told[NAMES[1]]


def test_a_reference_leads_out_of_no_folder(filled: Store, root: Path, tmp_path: Path) -> None:
    table = open_corpus("mer2023", root).table
    for path in ("../evil.mp4", "/etc/passwd", ""):
        entry = json.dumps({"path": path, "bytes": 1}).encode()
        filled["mer2023/video/file"]["sample_00000009"] = np.frombuffer(entry, np.uint8)
        refused = export_corpus(filled, table, tmp_path / "out").refused
        assert [(view, "names no file" in why) for view, why in refused] == [
            ("mer2023/video/file", True)
        ]


def test_a_face_named_like_the_folder_above_is_refused(store: Store, tmp_path: Path) -> None:
    view = store.create_view(
        "mer2023/face/openface", dtype="uint8", shape=(None, 2, 2, 3), alias="openface_face"
    )
    view[".."] = np.ones((1, 2, 2, 3), np.uint8)
    done = export_corpus(store, open_corpus("mer2023", tmp_path).table, tmp_path / "out")
    assert [refused.name for refused in done.report.refused] == [".."]
    assert content(tmp_path / "out") == {}


def test_nothing_of_the_corpus_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownView, match="has nothing of mer2023"):
        export_corpus(store, open_corpus("mer2023", tmp_path).table, tmp_path / "out")
    (tmp_path / "file").write_bytes(b"")
    store.create_view("mer2023/label/none", dtype="uint8", shape=(None,))
    with pytest.raises(MerstoreError, match="cannot be written to"):
        export_corpus(store, open_corpus("mer2023", tmp_path).table, tmp_path / "file")


# --- labels of other corpora ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "file", "arrays"),
    [
        (
            "meld",
            "label.npz",
            {
                "train_corpus": {"train_dia0_utt0": {"emo": 3, "val": -10}},
                "val_corpus": {"val_dia0_utt0": {"emo": 0, "val": -10}},
                "test_corpus": {"test_dia0_utt0": {"emo": 6, "val": -10}},
            },
        ),
        (
            "iemocap",
            "label_4way.npz",
            {
                "whole_corpus": {
                    f"Ses0{n}F_impro01_F000": {"emo": n % 4, "val": -10} for n in range(1, 6)
                }
            },
        ),
        (
            "mer2024",
            "label-6way.npz",
            {
                "train_corpus": {"sample_00000001": {"emo": "worried"}},
                "test1_corpus": {f"samplenew_{n}": {"emo": "neutral"} for n in range(3)},
            },
        ),
        (
            "cmumosi",
            "label.npz",
            {
                f"{split}_corpus": {f"-{split}_1": {"emo": 0, "val": -1.6}}
                for split in ("train", "val", "test")
            },
        ),
    ],
)
def test_label_files_are_written_as_mertools_does(
    store: Store, tmp_path: Path, dataset: str, file: str, arrays: dict[str, Any]
) -> None:
    (tmp_path / "in").mkdir()
    write_npz(tmp_path / "in" / file, arrays)
    corpus = open_corpus(dataset, tmp_path / "in")
    import_corpus(store, corpus)
    export_corpus(store, corpus.table, tmp_path / "out")
    read = read_arrays(tmp_path / "out" / file)
    assert {name: read[name] for name in read.names} == arrays


def test_labels_of_csv_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ovlabel.csv").write_text(
        "name,openset\na,\"['happy', 'calm']\"\nb,[]\n", encoding="utf-8"
    )
    (tmp_path / "in" / "subtitle_eng.csv").write_text("name,sentence\nb,Hm\na,\n", encoding="utf-8")
    corpus = open_corpus("ovmerdplus", tmp_path / "in")
    import_corpus(store, corpus)
    export_corpus(store, corpus.table, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "ovlabel.csv").read_text())))
    assert rows == [{"name": "a", "openset": "['happy', 'calm']"}, {"name": "b", "openset": "[]"}]
    assert (tmp_path / "out" / "subtitle_eng.csv").read_text() == "name,sentence\na,\nb,Hm\n"


# --- the real label sets -------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("dataset", ["mer2023", "cmumosi", "cmumosei", "sims", "simsv2"])
def test_the_released_labels_and_transcripts_come_out_as_they_were(
    store: Store, tmp_path: Path, shared: Path, dataset: str
) -> None:
    source = open_corpus(dataset, shared / "data" / "merbench")
    root = tmp_path / "in"  # the label files are links, features are added to them
    root.mkdir()
    for file in source.root.iterdir():
        (root / file.name).symlink_to(file)
    folder = root / "features" / UTT
    folder.mkdir(parents=True)
    names = source.samples()[:50]
    for i, name in enumerate(names):
        np.save(folder / f"{name}.npy", np.full(8, i, np.float32))
    corpus = open_corpus(dataset, root)
    done = import_corpus(store, corpus)
    assert (done.problems, done.report.imported) == ([], 50)
    out = tmp_path / "out"
    exported = export_corpus(store, corpus.table, out)
    assert (exported.refused, exported.report.written) == ([], 50)
    assert content(root / "features") == content(out / "features")
    for file in root.glob("*.npz"):
        before, after = read_arrays(file), read_arrays(out / file.name)
        assert sorted(before.names) == sorted(after.names)
        for name in before.names:
            assert list(before[name].items()) == list(after[name].items())
    again = open_corpus(dataset, out)
    for name, table in corpus.table.transcripts.items():
        if corpus.has(table.sources):
            assert again.transcripts(name).texts == corpus.transcripts(name).texts
    assert bridging.FACES not in os.listdir(out)
